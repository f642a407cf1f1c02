-- Money through Stripe: customers, payments, what Stripe says of subscriptions, and its events.

CREATE TABLE stripe_customers (
  user_id        INTEGER NOT NULL PRIMARY KEY,
  customer       TEXT   NOT NULL UNIQUE,
  payment_method TEXT,                        -- what may be charged while the user is away
  created_at     INTEGER NOT NULL
) STRICT;

-- One row per amount of money that is to come or has come.
CREATE TABLE payments (
  id             INTEGER PRIMARY KEY,
  user_id        INTEGER NOT NULL,
  kind           TEXT   NOT NULL,             -- credits, pack, top_up or subscription
  cause          TEXT   NOT NULL UNIQUE,      -- what made it: a caller's request, or something of Stripe's
  item           TEXT,                        -- the pack's key, or the version of the plan
  amount         INTEGER NOT NULL,             -- in hundredths of the currency
  currency       TEXT   NOT NULL,
  credits        INTEGER NOT NULL,             -- what it gives once all of it has come, in micro-credits
  status         TEXT   NOT NULL,             -- pending, succeeded, failed or canceled
  payment_intent TEXT,
  invoice        TEXT,
  checkout       TEXT,
  subscription   TEXT,
  period_start   INTEGER,                      -- what a subscription's payment pays for
  period_end     INTEGER,
  received       INTEGER NOT NULL DEFAULT 0,
  refunded       INTEGER NOT NULL DEFAULT 0,
  disputed       INTEGER NOT NULL DEFAULT 0,
  grant_seq      INTEGER,                      -- the grant that it gave
  back_seq       INTEGER,                    -- the last grant that gave back what had been taken
  granted        INTEGER NOT NULL DEFAULT 0,   -- micro-credits
  reclaimed      INTEGER NOT NULL DEFAULT 0,   -- micro-credits taken back
  reclaiming     INTEGER NOT NULL DEFAULT 0,   -- what it is to become; differs from it while that is being done
  step           INTEGER NOT NULL DEFAULT 0,   -- how many times something was taken or given back
  owed           INTEGER NOT NULL DEFAULT 0,   -- micro-credits that were spent before they could be taken back
  asked          INTEGER NOT NULL DEFAULT 0,   -- how often Stripe broke over it
  failure        TEXT,
  created_at     INTEGER NOT NULL,
  updated_at     INTEGER NOT NULL
) STRICT;
CREATE INDEX payments_user ON payments (user_id, id);
CREATE INDEX payments_intent ON payments (payment_intent) WHERE payment_intent IS NOT NULL;
CREATE INDEX payments_invoice ON payments (invoice) WHERE invoice IS NOT NULL;
CREATE INDEX payments_checkout ON payments (checkout) WHERE checkout IS NOT NULL;
CREATE INDEX payments_subscription ON payments (subscription) WHERE subscription IS NOT NULL;
-- What the ledger does not say yet: the condition of `settle::sweep`.
CREATE INDEX payments_unsettled ON payments (id) WHERE status = 'succeeded' AND (reclaiming <> reclaimed
  OR (grant_seq IS NULL AND credits > 0 AND received > 0) OR ((refunded > 0 OR disputed > 0) AND reclaimed = 0 AND granted > 0));
CREATE INDEX payments_pending ON payments (user_id, created_at) WHERE status = 'pending';
CREATE INDEX payments_top_up ON payments (user_id) WHERE kind = 'top_up' AND status IN ('pending', 'failed');

-- The newest that Stripe said of each subscription.
CREATE TABLE stripe_subscriptions (
  id                   TEXT   NOT NULL PRIMARY KEY,
  user_id              INTEGER NOT NULL,
  customer             TEXT,
  facts                INTEGER NOT NULL,       -- how many were learned, of it and of its payments
  seen_at              INTEGER NOT NULL,       -- when the newest event was made, in seconds
  seen_rank            INTEGER NOT NULL,       -- created before updated before deleted, in one second
  seen_event           TEXT   NOT NULL,
  status               TEXT   NOT NULL,       -- Stripe's word; empty until it was heard
  item                 TEXT,
  plan_version         TEXT,
  period_start         INTEGER,
  period_end           INTEGER,
  cancel_at_period_end INTEGER NOT NULL DEFAULT 0,
  ended_at             INTEGER
) STRICT;
CREATE INDEX stripe_subscriptions_user ON stripe_subscriptions (user_id);

-- Events as they came, each once for ever.
CREATE TABLE stripe_events (
  id              TEXT   NOT NULL PRIMARY KEY,
  seq             INTEGER NOT NULL UNIQUE,
  type            TEXT   NOT NULL,
  object_id       TEXT,
  customer        TEXT,
  created         INTEGER NOT NULL,
  payload         TEXT   NOT NULL,
  status          TEXT   NOT NULL,            -- received, waiting, processed, unhandled or failed
  attempts        INTEGER NOT NULL DEFAULT 0,
  next_attempt_at INTEGER NOT NULL,
  error           TEXT,
  received_at     INTEGER NOT NULL,
  processed_at    INTEGER
) STRICT;
CREATE INDEX stripe_events_due ON stripe_events (next_attempt_at) WHERE status IN ('received', 'waiting');

-- Who wants credits bought when few are left.
CREATE TABLE auto_top_ups (
  user_id       INTEGER NOT NULL PRIMARY KEY,
  enabled       INTEGER NOT NULL,
  threshold     INTEGER NOT NULL,              -- micro-credits
  pack          TEXT   NOT NULL,
  monthly_max   INTEGER NOT NULL,              -- in hundredths of the currency
  attempt       INTEGER NOT NULL DEFAULT 0,
  next_at       INTEGER NOT NULL DEFAULT 0,    -- not before
  month         TEXT   NOT NULL DEFAULT '',
  month_spent   INTEGER NOT NULL DEFAULT 0,
  failures      INTEGER NOT NULL DEFAULT 0,
  failure       TEXT,
  updated_at    INTEGER NOT NULL
) STRICT;

-- A subscription through Stripe may also be on trial, or wait for its money.
DROP INDEX subscriptions_live;
DROP INDEX subscriptions_due;
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (user_id) WHERE status <> 'canceled';
CREATE INDEX subscriptions_due ON subscriptions (due_at, id) WHERE status <> 'canceled';
ALTER TABLE subscriptions ADD COLUMN facts INTEGER NOT NULL DEFAULT 0;

INSERT INTO counters (name, next) VALUES ('payments', 1), ('stripe_events', 1);
