-- Holds, scopes, roll-over, credit limits, spending limits, and what a charge says of its usage record.

-- Accounts anew: with a credit limit the balance may fall below zero, and each row gets a seal.
CREATE TABLE credit_accounts_sealed (
  user_id         INTEGER PRIMARY KEY REFERENCES users (id),
  version         INTEGER NOT NULL,                   -- moves with every change of the account
  seq             INTEGER NOT NULL,                   -- how many entries it has
  balance         INTEGER NOT NULL,
  held            INTEGER NOT NULL CHECK (held >= 0), -- set aside by open holds
  credits_total   INTEGER NOT NULL,                   -- all that was ever given
  head_hash       BLOB    NOT NULL,                   -- the hash of the last entry
  closed          INTEGER NOT NULL,                   -- 1 while the user is deleted
  updated_at      INTEGER NOT NULL,
  credit_limit    INTEGER NOT NULL CHECK (credit_limit >= 0),  -- how far below zero the balance may go
  hold_seq        INTEGER NOT NULL,                   -- how many holds were ever made
  spending_limits TEXT    NOT NULL,                   -- a JSON list
  seal            BLOB    NOT NULL                    -- SHA-256 over the row; of older rows made after this migration
) STRICT;

INSERT INTO credit_accounts_sealed
SELECT user_id, version, seq, balance, held, credits_total, head_hash, closed, updated_at, 0, 0, '[]', x''
FROM credit_accounts;

DROP TABLE credit_accounts;
ALTER TABLE credit_accounts_sealed RENAME TO credit_accounts;

ALTER TABLE credit_grants ADD COLUMN scope TEXT;              -- {"models":[...],"features":[...]}
ALTER TABLE credit_grants ADD COLUMN rollover TEXT;           -- {"max":micro-credits,"days":days}
ALTER TABLE credit_grants ADD COLUMN voided INTEGER NOT NULL DEFAULT 0;

-- What a debit rests on: {"context":{...},"pricing":{...}}.
ALTER TABLE credit_entries ADD COLUMN basis TEXT;

-- Holds are numbered 1, 2, 3, … within their account.
CREATE TABLE credit_holds (
  user_id         INTEGER NOT NULL,
  n               INTEGER NOT NULL,
  status          TEXT    NOT NULL,
  amount          INTEGER NOT NULL CHECK (amount > 0),
  ticked          INTEGER NOT NULL CHECK (ticked BETWEEN 0 AND amount),
  on_expiry       TEXT    NOT NULL,
  created_at      INTEGER NOT NULL,
  expires_at      INTEGER NOT NULL,
  parts           TEXT    NOT NULL,                   -- [[grant seq, micro-credits], ...]; 0 is the credit limit
  context         TEXT    NOT NULL,
  description     TEXT,
  metadata        TEXT    NOT NULL,
  actor           TEXT    NOT NULL,
  request_id      TEXT,
  idempotency_key TEXT,
  settled_at      INTEGER,
  asked           INTEGER,
  captured        INTEGER,
  short_by        INTEGER,
  entry_seq       INTEGER,                            -- the entry that charged it
  seal            BLOB    NOT NULL,                   -- SHA-256 over the row
  PRIMARY KEY (user_id, n)
) STRICT, WITHOUT ROWID;

CREATE INDEX credit_holds_open ON credit_holds (user_id, n) WHERE status = 'open';
CREATE INDEX credit_holds_ending ON credit_holds (expires_at) WHERE status = 'open';

-- What a charge says of its usage record: charged, free, unpaid, unpriced, fallback or rerated.
ALTER TABLE usage_records ADD COLUMN charge_status TEXT;
ALTER TABLE usage_records ADD COLUMN charge_seq INTEGER;      -- the entry that paid for it
ALTER TABLE usage_records ADD COLUMN credits_due INTEGER;     -- what was not paid
ALTER TABLE usage_records ADD COLUMN pools TEXT;              -- what was used, pool by pool, to be priced again

CREATE INDEX usage_records_unsettled ON usage_records (id) WHERE charge_status IN ('unpriced', 'fallback');
