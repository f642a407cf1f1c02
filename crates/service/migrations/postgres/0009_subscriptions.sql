-- Plans and subscriptions.

-- What a plan was when somebody could subscribe to it; never changed.
CREATE TABLE plan_versions (
  id         TEXT   NOT NULL PRIMARY KEY,           -- the plan's key and a hash of the definition
  plan       TEXT   NOT NULL,
  body       TEXT   NOT NULL,                       -- the definition as JSON
  created_at BIGINT NOT NULL
);

-- Which version of its plan a user has; none where it has subscribed to nothing.
ALTER TABLE users ADD COLUMN plan_version TEXT;

CREATE TABLE subscriptions (
  id                   BIGINT PRIMARY KEY,
  user_id              BIGINT NOT NULL,
  plan                 TEXT   NOT NULL,
  plan_version         TEXT   NOT NULL,
  provider             TEXT   NOT NULL,             -- who says when it ends: free or manual
  status               TEXT   NOT NULL,             -- active or canceled
  anchor               BIGINT NOT NULL,                -- when period 0 begins or began
  period               BIGINT NOT NULL,                -- the number of the current period
  period_start         BIGINT NOT NULL,
  period_end           BIGINT NOT NULL,
  granted              BIGINT NOT NULL,               -- up to which period credits were given; -1 for none
  ends_at              BIGINT,                         -- not renewed past it
  cancel_at_period_end BIGINT NOT NULL DEFAULT 0,
  canceled_at          BIGINT,
  canceled_by          TEXT,                        -- the caller
  cause                TEXT UNIQUE,                 -- the caller and its idempotency key
  next_plan_version    TEXT,                        -- what it becomes when its period ends
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL
);

-- A user has one subscription at a time, whatever many processes do at once.
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (user_id) WHERE status = 'active';
CREATE INDEX subscriptions_user ON subscriptions (user_id, id);
CREATE INDEX subscriptions_due ON subscriptions (period_end) WHERE status = 'active';
CREATE INDEX subscriptions_ungranted ON subscriptions (id) WHERE status = 'active' AND granted < period;

INSERT INTO counters (name, next) VALUES ('subscriptions', 1);
