-- Who may come in: service keys, the secrets that sign user tokens, and what operators and keys did.

-- Rows are only ever added, which the triggers below see to.
CREATE TABLE audit_log (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  at         INTEGER NOT NULL,
  actor      TEXT    NOT NULL,                -- user:<row>, admin:<row of audit_actors>, key:<key id> or cli
  action     TEXT    NOT NULL,
  target     TEXT,                            -- user:<row>, key:<key id>, model:<name>, ...
  request_id TEXT,
  client_ip  TEXT,
  details    TEXT    NOT NULL
) STRICT;
CREATE INDEX audit_log_at ON audit_log (at, id);
CREATE INDEX audit_log_actor ON audit_log (actor, at, id);
CREATE INDEX audit_log_actor_action ON audit_log (actor, action, at, id);
CREATE INDEX audit_log_action ON audit_log (action, at, id);
CREATE INDEX audit_log_target ON audit_log (target, at, id);

-- Admins that never were users here. Kept apart, so that a person can be forgotten and the log stays as it is.
CREATE TABLE audit_actors (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  subject TEXT    NOT NULL UNIQUE
) STRICT;

CREATE TABLE service_keys (
  id                  INTEGER PRIMARY KEY AUTOINCREMENT,
  key_id              TEXT    NOT NULL UNIQUE,  -- the public part of the key
  name                TEXT    NOT NULL,
  scopes              TEXT    NOT NULL,         -- parted by spaces
  requests_per_minute INTEGER,
  allowed_ips         TEXT    NOT NULL,         -- networks parted by spaces; none: from anywhere
  created_at          INTEGER NOT NULL,
  created_by          TEXT    NOT NULL,         -- an actor of the audit log
  expires_at          INTEGER,
  last_used_at        INTEGER,
  revoked_at          INTEGER
) STRICT;

-- What a key can be proved by: one secret, and while it is rotated also those before.
CREATE TABLE service_key_secrets (
  digest     BLOB    NOT NULL PRIMARY KEY,     -- SHA-256 of the whole key
  key_id     TEXT    NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER
) STRICT;
CREATE INDEX service_key_secrets_key ON service_key_secrets (key_id);

-- What signs the tokens that this service issues; the first process that needs one makes it.
CREATE TABLE token_secrets (
  id         INTEGER NOT NULL PRIMARY KEY,
  secret     BLOB    NOT NULL,
  created_at INTEGER NOT NULL
) STRICT;

CREATE TRIGGER audit_log_is_not_changed BEFORE UPDATE ON audit_log BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;
CREATE TRIGGER audit_log_is_not_shortened BEFORE DELETE ON audit_log BEGIN
  SELECT RAISE(ABORT, 'the audit log is append-only');
END;
