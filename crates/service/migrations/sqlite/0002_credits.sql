-- The ledger. Credits are micro-credits (1 credit = 1 000 000).

CREATE TABLE credit_accounts (
  user_id       INTEGER PRIMARY KEY REFERENCES users (id),
  version       INTEGER NOT NULL,                   -- moves with every change of the account
  seq           INTEGER NOT NULL,                   -- how many entries it has
  balance       INTEGER NOT NULL CHECK (balance >= 0),
  held          INTEGER NOT NULL CHECK (held >= 0), -- set aside by open holds
  credits_total INTEGER NOT NULL,                   -- all that was ever given
  head_hash     BLOB    NOT NULL,                   -- the hash of the last entry
  closed        INTEGER NOT NULL,                   -- 1 while the user is deleted
  updated_at    INTEGER NOT NULL
) STRICT;

-- A grant is named after the entry that issued it.
CREATE TABLE credit_grants (
  user_id      INTEGER NOT NULL,
  seq          INTEGER NOT NULL,
  source       TEXT    NOT NULL,
  amount       INTEGER NOT NULL CHECK (amount > 0),
  remaining    INTEGER NOT NULL CHECK (remaining BETWEEN 0 AND amount),
  priority     INTEGER NOT NULL,
  effective_at INTEGER NOT NULL,
  expires_at   INTEGER,
  PRIMARY KEY (user_id, seq)
) STRICT, WITHOUT ROWID;

-- What the sweeper has to look at, and when. Kept apart so that spending touches no index.
CREATE TABLE credit_expiries (
  expires_at INTEGER NOT NULL,
  user_id    INTEGER NOT NULL,
  seq        INTEGER NOT NULL,
  PRIMARY KEY (expires_at, user_id, seq)
) STRICT, WITHOUT ROWID;

-- Entries lie by account and sequence: an account's history is one run of pages, and the
-- hot path maintains no second index (which cost a third of the rate).
CREATE TABLE credit_entries (
  user_id          INTEGER NOT NULL,
  seq              INTEGER NOT NULL,
  id               INTEGER NOT NULL,
  transaction_type TEXT    NOT NULL,
  amount           INTEGER NOT NULL,                -- signed: what the balance moved by
  balance_before   INTEGER NOT NULL,
  balance_after    INTEGER NOT NULL,
  counter_account  TEXT    NOT NULL,                -- issued, spent, expired or refunded: moves by -amount
  usage_record_id  INTEGER,
  hold_id          TEXT,
  reverses         INTEGER,                         -- the seq of the entry that this one takes back
  reference_id     TEXT,
  description      TEXT,
  metadata         TEXT    NOT NULL,
  funded_by        TEXT    NOT NULL,                -- [[grant seq, micro-credits], ...]
  grant_terms      TEXT,                            -- the terms of the grant that this entry issued
  actor            TEXT    NOT NULL,
  request_id       TEXT,
  idempotency_key  TEXT,
  created_at       INTEGER NOT NULL,                -- never falls along seq
  prev_hash        BLOB    NOT NULL,
  hash             BLOB    NOT NULL,
  PRIMARY KEY (user_id, seq)
) STRICT, WITHOUT ROWID;

-- The rarer types can be listed without walking past every consume.
CREATE INDEX credit_entries_rare ON credit_entries (user_id, transaction_type, seq)
  WHERE transaction_type <> 'consume';

CREATE TABLE credit_references (
  user_id      INTEGER NOT NULL,
  reference_id TEXT    NOT NULL,
  seq          INTEGER NOT NULL,
  PRIMARY KEY (user_id, reference_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE credit_refunds (
  user_id      INTEGER NOT NULL,
  original_seq INTEGER NOT NULL,
  refund_seq   INTEGER NOT NULL,
  PRIMARY KEY (user_id, original_seq, refund_seq)
) STRICT, WITHOUT ROWID;
