-- Outgoing webhooks: who is told what, what happened, and what became of telling it.

CREATE TABLE webhook_endpoints (
  id              INTEGER PRIMARY KEY AUTOINCREMENT,
  endpoint_id     TEXT    NOT NULL UNIQUE,    -- the public id, ep_…
  url             TEXT    NOT NULL,
  description     TEXT,
  event_types     TEXT    NOT NULL,           -- a JSON list as it was asked for: names, families (credit.*) or *
  user_ids        TEXT    NOT NULL,           -- a JSON list of external ids; empty: every user
  headers         TEXT    NOT NULL,           -- a JSON object of headers to send along
  status          TEXT    NOT NULL,           -- enabled, disabled
  disabled_reason TEXT,                       -- by_request, gone, failing
  disabled_at     INTEGER,
  failing_since   INTEGER,                    -- the first failure since the last success
  created_at      INTEGER NOT NULL,
  created_by      TEXT    NOT NULL,           -- an actor of the audit log
  updated_at      INTEGER NOT NULL,
  revision        INTEGER NOT NULL,           -- turned by every change that a sender must hear of
  position        INTEGER NOT NULL,           -- every event up to here is delivered, or has a row in webhook_deliveries
  leased_by       TEXT,                       -- the process that sends
  leased_until    INTEGER NOT NULL
) STRICT;

-- Which events are kept at all: those that some endpoint asks for. The list of an endpoint, with families spelled out.
CREATE TABLE webhook_subscriptions (
  event_type TEXT    NOT NULL,
  endpoint   INTEGER NOT NULL,
  PRIMARY KEY (event_type, endpoint)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_subscriptions_endpoint ON webhook_subscriptions (endpoint);

-- What deliveries are signed with: one secret, and while it is rotated also those before.
CREATE TABLE webhook_secrets (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  endpoint   INTEGER NOT NULL,
  kind       TEXT    NOT NULL,                -- v1 (HMAC), v1a (ed25519)
  secret     BLOB    NOT NULL,
  created_at INTEGER NOT NULL,
  expires_at INTEGER                          -- the end of its overlap
) STRICT;
CREATE INDEX webhook_secrets_endpoint ON webhook_secrets (endpoint);

-- What happened, written in the transaction in which it happened. There is one writer, so ids follow the commits.
CREATE TABLE webhook_events (
  id         INTEGER PRIMARY KEY AUTOINCREMENT,
  user_id    INTEGER,                         -- the row of the user; absent where it is about no user
  auth0_id   TEXT,                            -- the user's external id at that time
  event_type TEXT    NOT NULL,
  body       TEXT    NOT NULL,                -- a JSON object: the flat keys and `data`
  created_at INTEGER NOT NULL,
  endpoint   INTEGER                          -- only for this one: a test
) STRICT;
CREATE INDEX webhook_events_at ON webhook_events (created_at, id);

-- What became of telling an endpoint of an event.
CREATE TABLE webhook_deliveries (
  endpoint        INTEGER NOT NULL,
  event_id        INTEGER NOT NULL,
  user_id         INTEGER,
  status          TEXT    NOT NULL,           -- pending, delivered, failed
  attempts        INTEGER NOT NULL,           -- how many were made
  next_attempt_at INTEGER,                    -- of a pending one: not before
  log             TEXT    NOT NULL,           -- a JSON list of the attempts
  updated_at      INTEGER NOT NULL,
  PRIMARY KEY (endpoint, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (endpoint, event_id) WHERE status = 'pending';
