-- Usage. Credits are micro-credits, US dollars are nano-dollars.

CREATE TABLE usage_records (
  id                 BIGINT PRIMARY KEY,
  user_id            BIGINT NOT NULL,
  created_at         BIGINT NOT NULL,              -- when it happened
  recorded_at        BIGINT NOT NULL,              -- when it was written here
  event_type         TEXT    NOT NULL,
  endpoint           TEXT    NOT NULL,
  session_id         TEXT,
  trace_id           TEXT,
  credits_charged    BIGINT NOT NULL,
  cost_usd           BIGINT NOT NULL,
  calculation_method TEXT    NOT NULL,
  tokens_used        BIGINT NOT NULL,
  prompt_tokens      BIGINT NOT NULL,
  completion_tokens  BIGINT NOT NULL,
  model_name         TEXT,
  provider           TEXT,
  tool_name          TEXT,
  operation_name     TEXT,
  billing_metadata   TEXT    NOT NULL,
  request_data       TEXT    NOT NULL,
  response_data      TEXT    NOT NULL,
  event_id           TEXT
);

CREATE INDEX usage_records_time ON usage_records (user_id, created_at, id);
CREATE UNIQUE INDEX usage_records_event ON usage_records (user_id, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX usage_records_session ON usage_records (user_id, session_id, created_at, id)
  WHERE session_id IS NOT NULL;

-- Sums by hour, day and month, moved in the record's own transaction. Absent model and provider are ''.
-- Sums of amounts are kept in halves (hi * 2^32 + lo), which cannot overflow.
CREATE TABLE usage_rollups (
  user_id    BIGINT NOT NULL,
  period     TEXT    NOT NULL CHECK (period IN ('hour', 'day', 'month')),
  bucket     BIGINT NOT NULL,                      -- the first instant of the hour, day or month
  event_type TEXT    NOT NULL,
  model_name TEXT    NOT NULL,
  provider   TEXT    NOT NULL,
  records    BIGINT NOT NULL,
  credits_hi BIGINT NOT NULL,
  credits_lo BIGINT NOT NULL,
  cost_hi    BIGINT NOT NULL,
  cost_lo    BIGINT NOT NULL,
  tokens     BIGINT NOT NULL,
  PRIMARY KEY (user_id, period, bucket, event_type, model_name, provider)
);
