-- Who may come in: service keys, the secrets that sign user tokens, and what operators and keys did.

-- Rows are only ever added, which the triggers below see to.
CREATE TABLE audit_log (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at         BIGINT  NOT NULL,
  actor      TEXT    NOT NULL,                -- user:<row>, admin:<row of audit_actors>, key:<key id> or cli
  action     TEXT    NOT NULL,
  target     TEXT,                            -- user:<row>, key:<key id>, model:<name>, ...
  request_id TEXT,
  client_ip  TEXT,
  details    TEXT    NOT NULL
);
CREATE INDEX audit_log_at ON audit_log (at, id);
CREATE INDEX audit_log_actor ON audit_log (actor, at, id);
CREATE INDEX audit_log_actor_action ON audit_log (actor, action, at, id);
CREATE INDEX audit_log_action ON audit_log (action, at, id);
CREATE INDEX audit_log_target ON audit_log (target, at, id);

-- Admins that never were users here. Kept apart, so that a person can be forgotten and the log stays as it is.
CREATE TABLE audit_actors (
  id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  subject TEXT    NOT NULL UNIQUE
);

CREATE TABLE service_keys (
  id                  BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key_id              TEXT    NOT NULL UNIQUE,  -- the public part of the key
  name                TEXT    NOT NULL,
  scopes              TEXT    NOT NULL,         -- parted by spaces
  requests_per_minute BIGINT ,
  allowed_ips         TEXT    NOT NULL,         -- networks parted by spaces; none: from anywhere
  created_at          BIGINT  NOT NULL,
  created_by          TEXT    NOT NULL,         -- an actor of the audit log
  expires_at          BIGINT ,
  last_used_at        BIGINT ,
  revoked_at          BIGINT 
);

-- What a key can be proved by: one secret, and while it is rotated also those before.
CREATE TABLE service_key_secrets (
  digest     BYTEA   NOT NULL PRIMARY KEY,     -- SHA-256 of the whole key
  key_id     TEXT    NOT NULL,
  created_at BIGINT  NOT NULL,
  expires_at BIGINT 
);
CREATE INDEX service_key_secrets_key ON service_key_secrets (key_id);

-- What signs the tokens that this service issues; the first process that needs one makes it.
CREATE TABLE token_secrets (
  id         BIGINT  NOT NULL PRIMARY KEY,
  secret     BYTEA   NOT NULL,
  created_at BIGINT  NOT NULL
);

CREATE FUNCTION audit_log_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the audit log is append-only';
END $$;
CREATE TRIGGER audit_log_is_not_changed BEFORE UPDATE OR DELETE ON audit_log
  FOR EACH ROW EXECUTE FUNCTION audit_log_is_append_only();
CREATE TRIGGER audit_log_is_not_emptied BEFORE TRUNCATE ON audit_log
  FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
