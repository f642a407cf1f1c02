-- Users. Instants are microseconds since 1970 (UTC), here and in every table.

CREATE TABLE users (
  id                  INTEGER PRIMARY KEY,          -- never reused: ids come from counters
  auth0_id            TEXT    NOT NULL UNIQUE,      -- the identity provider's id
  email               TEXT,
  email_folded        TEXT,                         -- how addresses are compared
  name                TEXT,
  plan                TEXT    NOT NULL DEFAULT 'free',
  subscription_status TEXT    NOT NULL DEFAULT 'free',
  is_active           INTEGER NOT NULL DEFAULT 1,
  created_at          INTEGER NOT NULL,
  updated_at          INTEGER NOT NULL,
  deleted_at          INTEGER                       -- the row stays, so that its ledger keeps its owner
) STRICT;

CREATE UNIQUE INDEX users_email ON users (email_folded) WHERE deleted_at IS NULL AND email_folded IS NOT NULL;

-- Ids are handed out in blocks, so that an answer knows its id before the row is written.
CREATE TABLE counters (
  name TEXT    PRIMARY KEY,
  next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counters (name, next) VALUES ('users', 1), ('credit_entries', 1), ('usage_records', 1);

-- The first answer to each idempotency key, written in the transaction of its effect.
CREATE TABLE idempotency_keys (
  caller      TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  fingerprint BLOB    NOT NULL,                     -- SHA-256 of method, path, query and body
  status      INTEGER NOT NULL,
  body        BLOB    NOT NULL,
  created_at  INTEGER NOT NULL,
  PRIMARY KEY (caller, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
