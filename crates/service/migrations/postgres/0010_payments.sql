-- Money through Stripe: customers, payments, what Stripe says of subscriptions, and its events.

CREATE TABLE stripe_customers (
  user_id        BIGINT NOT NULL PRIMARY KEY,
  customer       TEXT   NOT NULL UNIQUE,
  payment_method TEXT,                        -- what may be charged while the user is away
  created_at     BIGINT NOT NULL
);

-- One row per amount of money that is to come or has come.
CREATE TABLE payments (
  id             BIGINT PRIMARY KEY,
  user_id        BIGINT NOT NULL,
  kind           TEXT   NOT NULL,             -- credits, pack, top_up or subscription
  cause          TEXT   NOT NULL UNIQUE,      -- what made it: a caller's request, or something of Stripe's
  item           TEXT,                        -- the pack's key, or the version of the plan
  amount         BIGINT NOT NULL,             -- in hundredths of the currency
  currency       TEXT   NOT NULL,
  credits        BIGINT NOT NULL,             -- what it gives once all of it has come, in micro-credits
  status         TEXT   NOT NULL,             -- pending, succeeded, failed or canceled
  payment_intent TEXT,
  invoice        TEXT,
  checkout       TEXT,
  subscription   TEXT,
  period_start   BIGINT,                      -- what a subscription's payment pays for
  period_end     BIGINT,
  received       BIGINT NOT NULL DEFAULT 0,
  refunded       BIGINT NOT NULL DEFAULT 0,
  disputed       BIGINT NOT NULL DEFAULT 0,
  grant_seq      BIGINT,                      -- the grant that it gave
  back_seq       BIGINT,                     -- the last grant that gave back what had been taken
  granted        BIGINT NOT NULL DEFAULT 0,   -- micro-credits
  reclaimed      BIGINT NOT NULL DEFAULT 0,   -- micro-credits taken back
  reclaiming     BIGINT NOT NULL DEFAULT 0,   -- what it is to become; differs from it while that is being done
  step           BIGINT NOT NULL DEFAULT 0,   -- how many times something was taken or given back
  owed           BIGINT NOT NULL DEFAULT 0,   -- micro-credits that were spent before they could be taken back
  asked          BIGINT NOT NULL DEFAULT 0,   -- how often Stripe broke over it
  failure        TEXT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
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
  user_id              BIGINT NOT NULL,
  customer             TEXT,
  facts                BIGINT NOT NULL,       -- how many were learned, of it and of its payments
  seen_at              BIGINT NOT NULL,       -- when the newest event was made, in seconds
  seen_rank            BIGINT NOT NULL,       -- created before updated before deleted, in one second
  seen_event           TEXT   NOT NULL,
  status               TEXT   NOT NULL,       -- Stripe's word; empty until it was heard
  item                 TEXT,
  plan_version         TEXT,
  period_start         BIGINT,
  period_end           BIGINT,
  cancel_at_period_end BIGINT NOT NULL DEFAULT 0,
  ended_at             BIGINT
);
CREATE INDEX stripe_subscriptions_user ON stripe_subscriptions (user_id);

-- Events as they came, each once for ever.
CREATE TABLE stripe_events (
  id              TEXT   NOT NULL PRIMARY KEY,
  seq             BIGINT NOT NULL UNIQUE,
  type            TEXT   NOT NULL,
  object_id       TEXT,
  customer        TEXT,
  created         BIGINT NOT NULL,
  payload         TEXT   NOT NULL,
  status          TEXT   NOT NULL,            -- received, waiting, processed, unhandled or failed
  attempts        BIGINT NOT NULL DEFAULT 0,
  next_attempt_at BIGINT NOT NULL,
  error           TEXT,
  received_at     BIGINT NOT NULL,
  processed_at    BIGINT
);
CREATE INDEX stripe_events_due ON stripe_events (next_attempt_at) WHERE status IN ('received', 'waiting');

-- Who wants credits bought when few are left.
CREATE TABLE auto_top_ups (
  user_id       BIGINT NOT NULL PRIMARY KEY,
  enabled       BIGINT NOT NULL,
  threshold     BIGINT NOT NULL,              -- micro-credits
  pack          TEXT   NOT NULL,
  monthly_max   BIGINT NOT NULL,              -- in hundredths of the currency
  attempt       BIGINT NOT NULL DEFAULT 0,
  next_at       BIGINT NOT NULL DEFAULT 0,    -- not before
  month         TEXT   NOT NULL DEFAULT '',
  month_spent   BIGINT NOT NULL DEFAULT 0,
  failures      BIGINT NOT NULL DEFAULT 0,
  failure       TEXT,
  updated_at    BIGINT NOT NULL
);

-- A subscription through Stripe may also be on trial, or wait for its money.
DROP INDEX subscriptions_live;
DROP INDEX subscriptions_due;
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (user_id) WHERE status <> 'canceled';
CREATE INDEX subscriptions_due ON subscriptions (due_at, id) WHERE status <> 'canceled';
ALTER TABLE subscriptions ADD COLUMN facts BIGINT NOT NULL DEFAULT 0;

INSERT INTO counters (name, next) VALUES ('payments', 1), ('stripe_events', 1);
