-- The ledger. Credits are micro-credits (1 credit = 1 000 000).

CREATE TABLE credit_accounts (
  user_id       BIGINT PRIMARY KEY REFERENCES users (id),
  version       BIGINT NOT NULL,                   -- moves with every change of the account
  seq           BIGINT NOT NULL,                   -- how many entries it has
  balance       BIGINT NOT NULL CHECK (balance >= 0),
  held          BIGINT NOT NULL CHECK (held >= 0), -- set aside by open holds
  credits_total BIGINT NOT NULL,                   -- all that was ever given
  head_hash     BYTEA    NOT NULL,                   -- the hash of the last entry
  closed        BOOLEAN NOT NULL,                   -- 1 while the user is deleted
  updated_at    BIGINT NOT NULL
);

-- A grant is named after the entry that issued it.
CREATE TABLE credit_grants (
  user_id      BIGINT NOT NULL,
  seq          BIGINT NOT NULL,
  source       TEXT    NOT NULL,
  amount       BIGINT NOT NULL CHECK (amount > 0),
  remaining    BIGINT NOT NULL CHECK (remaining BETWEEN 0 AND amount),
  priority     BIGINT NOT NULL,
  effective_at BIGINT NOT NULL,
  expires_at   BIGINT,
  PRIMARY KEY (user_id, seq)
);

-- What the sweeper has to look at, and when. Kept apart so that spending touches no index.
CREATE TABLE credit_expiries (
  expires_at BIGINT NOT NULL,
  user_id    BIGINT NOT NULL,
  seq        BIGINT NOT NULL,
  PRIMARY KEY (expires_at, user_id, seq)
);

-- Entries lie by account and sequence: an account's history is one run of pages, and the
-- hot path maintains no second index (which cost a third of the rate).
CREATE TABLE credit_entries (
  user_id          BIGINT NOT NULL,
  seq              BIGINT NOT NULL,
  id               BIGINT NOT NULL,
  transaction_type TEXT    NOT NULL,
  amount           BIGINT NOT NULL,                -- signed: what the balance moved by
  balance_before   BIGINT NOT NULL,
  balance_after    BIGINT NOT NULL,
  counter_account  TEXT    NOT NULL,                -- issued, spent, expired or refunded: moves by -amount
  usage_record_id  BIGINT,
  hold_id          TEXT,
  reverses         BIGINT,                         -- the seq of the entry that this one takes back
  reference_id     TEXT,
  description      TEXT,
  metadata         TEXT    NOT NULL,
  funded_by        TEXT    NOT NULL,                -- [[grant seq, micro-credits], ...]
  grant_terms      TEXT,                            -- the terms of the grant that this entry issued
  actor            TEXT    NOT NULL,
  request_id       TEXT,
  idempotency_key  TEXT,
  created_at       BIGINT NOT NULL,                -- never falls along seq
  prev_hash        BYTEA    NOT NULL,
  hash             BYTEA    NOT NULL,
  PRIMARY KEY (user_id, seq)
);

-- The rarer types can be listed without walking past every consume.
CREATE INDEX credit_entries_rare ON credit_entries (user_id, transaction_type, seq)
  WHERE transaction_type <> 'consume';

CREATE TABLE credit_references (
  user_id      BIGINT NOT NULL,
  reference_id TEXT    NOT NULL,
  seq          BIGINT NOT NULL,
  PRIMARY KEY (user_id, reference_id)
);

CREATE TABLE credit_refunds (
  user_id      BIGINT NOT NULL,
  original_seq BIGINT NOT NULL,
  refund_seq   BIGINT NOT NULL,
  PRIMARY KEY (user_id, original_seq, refund_seq)
);
