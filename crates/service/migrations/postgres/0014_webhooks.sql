-- Outgoing webhooks: who is told what, what happened, and what became of telling it.

CREATE TABLE webhook_endpoints (
  id              BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint_id     TEXT    NOT NULL UNIQUE,    -- the public id, ep_…
  url             TEXT    NOT NULL,
  description     TEXT,
  event_types     TEXT    NOT NULL,           -- a JSON list as it was asked for: names, families (credit.*) or *
  user_ids        TEXT    NOT NULL,           -- a JSON list of external ids; empty: every user
  headers         TEXT    NOT NULL,           -- a JSON object of headers to send along
  status          TEXT    NOT NULL,           -- enabled, disabled
  disabled_reason TEXT,                       -- by_request, gone, failing
  disabled_at     BIGINT,
  failing_since   BIGINT,                     -- the first failure since the last success
  created_at      BIGINT  NOT NULL,
  created_by      TEXT    NOT NULL,           -- an actor of the audit log
  updated_at      BIGINT  NOT NULL,
  revision        BIGINT  NOT NULL,           -- turned by every change that a sender must hear of
  position        BIGINT  NOT NULL,           -- every event up to here is delivered, or has a row in webhook_deliveries
  leased_by       TEXT,                       -- the process that sends
  leased_until    BIGINT  NOT NULL
);

-- Which events are kept at all: those that some endpoint asks for. The list of an endpoint, with families spelled out.
CREATE TABLE webhook_subscriptions (
  event_type TEXT    NOT NULL,
  endpoint   BIGINT  NOT NULL,
  PRIMARY KEY (event_type, endpoint)
);
CREATE INDEX webhook_subscriptions_endpoint ON webhook_subscriptions (endpoint);

-- What deliveries are signed with: one secret, and while it is rotated also those before.
CREATE TABLE webhook_secrets (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  endpoint   BIGINT  NOT NULL,
  kind       TEXT    NOT NULL,                -- v1 (HMAC), v1a (ed25519)
  secret     BYTEA   NOT NULL,
  created_at BIGINT  NOT NULL,
  expires_at BIGINT                           -- the end of its overlap
);
CREATE INDEX webhook_secrets_endpoint ON webhook_secrets (endpoint);

-- What happened, written in the transaction in which it happened. Ids are given before the commit, so one
-- may be seen before a smaller one; an event gets its position, by which endpoints follow, once it is committed.
CREATE TABLE webhook_events (
  id         BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  position   BIGINT,                          -- its place among all events; absent until it is numbered
  user_id    BIGINT,                          -- the row of the user; absent where it is about no user
  auth0_id   TEXT,                            -- the user's external id at that time
  event_type TEXT    NOT NULL,
  body       TEXT    NOT NULL,                -- a JSON object: the flat keys and `data`
  created_at BIGINT  NOT NULL,
  endpoint   BIGINT                           -- only for this one: a test
);
CREATE UNIQUE INDEX webhook_events_position ON webhook_events (position);
CREATE INDEX webhook_events_new ON webhook_events (id) WHERE position IS NULL;
CREATE INDEX webhook_events_at ON webhook_events (created_at, id);

-- What became of telling an endpoint of an event.
CREATE TABLE webhook_deliveries (
  endpoint        BIGINT  NOT NULL,
  event_id        BIGINT  NOT NULL,
  user_id         BIGINT,
  status          TEXT    NOT NULL,           -- pending, delivered, failed
  attempts        BIGINT  NOT NULL,           -- how many were made
  next_attempt_at BIGINT,                     -- of a pending one: not before
  log             TEXT    NOT NULL,           -- a JSON list of the attempts
  updated_at      BIGINT  NOT NULL,
  PRIMARY KEY (endpoint, event_id)
);
CREATE INDEX webhook_deliveries_pending ON webhook_deliveries (endpoint, event_id) WHERE status = 'pending';

-- The last position that was given; whoever numbers events locks the row.
CREATE TABLE webhook_numbering (
  id       BIGINT PRIMARY KEY,
  position BIGINT NOT NULL
);
INSERT INTO webhook_numbering (id, position) VALUES (1, 0);
