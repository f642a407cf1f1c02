-- Holds, scopes, roll-over, credit limits, spending limits, and what a charge says of its usage record.

-- With a credit limit the balance may fall below zero, and each row gets a seal.
ALTER TABLE credit_accounts DROP CONSTRAINT credit_accounts_balance_check;
ALTER TABLE credit_accounts
  ADD COLUMN credit_limit    BIGINT NOT NULL DEFAULT 0 CHECK (credit_limit >= 0),  -- how far below zero the balance may go
  ADD COLUMN hold_seq        BIGINT NOT NULL DEFAULT 0,     -- how many holds were ever made
  ADD COLUMN spending_limits TEXT   NOT NULL DEFAULT '[]',  -- a JSON list
  ADD COLUMN seal            BYTEA  NOT NULL DEFAULT '';    -- SHA-256 over the row; of older rows made after this migration

ALTER TABLE credit_grants ADD COLUMN scope TEXT;              -- {"models":[...],"features":[...]}
ALTER TABLE credit_grants ADD COLUMN rollover TEXT;           -- {"max":micro-credits,"days":days}
ALTER TABLE credit_grants ADD COLUMN voided BOOLEAN NOT NULL DEFAULT FALSE;

-- What a debit rests on: {"context":{...},"pricing":{...}}.
ALTER TABLE credit_entries ADD COLUMN basis TEXT;

-- Holds are numbered 1, 2, 3, … within their account.
CREATE TABLE credit_holds (
  user_id         BIGINT NOT NULL,
  n               BIGINT NOT NULL,
  status          TEXT    NOT NULL,
  amount          BIGINT NOT NULL CHECK (amount > 0),
  ticked          BIGINT NOT NULL CHECK (ticked BETWEEN 0 AND amount),
  on_expiry       TEXT    NOT NULL,
  created_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  parts           TEXT    NOT NULL,                   -- [[grant seq, micro-credits], ...]; 0 is the credit limit
  context         TEXT    NOT NULL,
  description     TEXT,
  metadata        TEXT    NOT NULL,
  actor           TEXT    NOT NULL,
  request_id      TEXT,
  idempotency_key TEXT,
  settled_at      BIGINT,
  asked           BIGINT,
  captured        BIGINT,
  short_by        BIGINT,
  entry_seq       BIGINT,                            -- the entry that charged it
  seal            BYTEA   NOT NULL,                   -- SHA-256 over the row
  PRIMARY KEY (user_id, n)
);

CREATE INDEX credit_holds_open ON credit_holds (user_id, n) WHERE status = 'open';
CREATE INDEX credit_holds_ending ON credit_holds (expires_at) WHERE status = 'open';

-- What a charge says of its usage record: charged, free, unpaid, unpriced, fallback or rerated.
ALTER TABLE usage_records ADD COLUMN charge_status TEXT;
ALTER TABLE usage_records ADD COLUMN charge_seq BIGINT;      -- the entry that paid for it
ALTER TABLE usage_records ADD COLUMN credits_due BIGINT;     -- what was not paid
ALTER TABLE usage_records ADD COLUMN pools TEXT;              -- what was used, pool by pool, to be priced again

CREATE INDEX usage_records_unsettled ON usage_records (id) WHERE charge_status IN ('unpriced', 'fallback');
