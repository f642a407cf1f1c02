-- Users. Instants are microseconds since 1970 (UTC), here and in every table.

CREATE TABLE users (
  id                  BIGINT PRIMARY KEY,          -- never reused: ids come from counters
  auth0_id            TEXT    NOT NULL UNIQUE,      -- the identity provider's id
  email               TEXT,
  email_folded        TEXT,                         -- how addresses are compared
  name                TEXT,
  plan                TEXT    NOT NULL DEFAULT 'free',
  subscription_status TEXT    NOT NULL DEFAULT 'free',
  is_active           BOOLEAN NOT NULL DEFAULT TRUE,
  created_at          BIGINT NOT NULL,
  updated_at          BIGINT NOT NULL,
  deleted_at          BIGINT                       -- the row stays, so that its ledger keeps its owner
);

CREATE UNIQUE INDEX users_email ON users (email_folded) WHERE deleted_at IS NULL AND email_folded IS NOT NULL;

-- Ids are handed out in blocks, so that an answer knows its id before the row is written.
CREATE TABLE counters (
  name TEXT    PRIMARY KEY,
  next BIGINT NOT NULL
);

INSERT INTO counters (name, next) VALUES ('users', 1), ('credit_entries', 1), ('usage_records', 1);

-- The first answer to each idempotency key, written in the transaction of its effect.
CREATE TABLE idempotency_keys (
  caller      TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  fingerprint BYTEA    NOT NULL,                     -- SHA-256 of method, path, query and body
  status      BIGINT NOT NULL,
  body        BYTEA    NOT NULL,
  created_at  BIGINT NOT NULL,
  PRIMARY KEY (caller, key)
);

CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at);
