-- Plans and subscriptions.

-- What a plan was when somebody could subscribe to it; never changed.
CREATE TABLE plan_versions (
  id         TEXT   NOT NULL PRIMARY KEY,     -- the plan's key and a hash of the definition
  plan       TEXT   NOT NULL,
  body       TEXT   NOT NULL,                 -- the definition as JSON
  created_at BIGINT NOT NULL
);

-- Which version of its plan a user has; none where it has subscribed to nothing.
ALTER TABLE users ADD COLUMN plan_version TEXT;

CREATE TABLE subscriptions (
  id                   BIGINT PRIMARY KEY,
  user_id              BIGINT NOT NULL,
  plan                 TEXT   NOT NULL,
  plan_version         TEXT   NOT NULL,
  provider             TEXT   NOT NULL,       -- who says when it ends: free or manual
  status               TEXT   NOT NULL,       -- active or canceled
  anchor               BIGINT NOT NULL,       -- when period 0 begins or began
  period               BIGINT NOT NULL,       -- the number of the current period
  period_start         BIGINT NOT NULL,
  period_end           BIGINT NOT NULL,
  due_at               BIGINT NOT NULL,       -- when the job looks at it next: 0 until the period's credits are given
  ends_at              BIGINT,                -- not renewed past it
  cancel_at_period_end BIGINT NOT NULL DEFAULT 0,
  canceled_at          BIGINT,
  canceled_by          TEXT,                  -- the caller
  cause                TEXT UNIQUE,           -- the caller and its idempotency key
  next_plan_version    TEXT,                  -- what it becomes when its period ends
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL
);

-- A user has one subscription at a time, whatever many processes do at once.
CREATE UNIQUE INDEX subscriptions_live ON subscriptions (user_id) WHERE status = 'active';
CREATE INDEX subscriptions_user ON subscriptions (user_id, id);
CREATE INDEX subscriptions_due ON subscriptions (due_at, id) WHERE status = 'active';

INSERT INTO counters (name, next) VALUES ('subscriptions', 1);
