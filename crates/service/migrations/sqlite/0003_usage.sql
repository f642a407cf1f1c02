-- Usage. Credits are micro-credits, US dollars are nano-dollars.

CREATE TABLE usage_records (
  id                 INTEGER PRIMARY KEY,
  user_id            INTEGER NOT NULL,
  created_at         INTEGER NOT NULL,              -- when it happened
  recorded_at        INTEGER NOT NULL,              -- when it was written here
  event_type         TEXT    NOT NULL,
  endpoint           TEXT    NOT NULL,
  session_id         TEXT,
  trace_id           TEXT,
  credits_charged    INTEGER NOT NULL,
  cost_usd           INTEGER NOT NULL,
  calculation_method TEXT    NOT NULL,
  tokens_used        INTEGER NOT NULL,
  prompt_tokens      INTEGER NOT NULL,
  completion_tokens  INTEGER NOT NULL,
  model_name         TEXT,
  provider           TEXT,
  tool_name          TEXT,
  operation_name     TEXT,
  billing_metadata   TEXT    NOT NULL,
  request_data       TEXT    NOT NULL,
  response_data      TEXT    NOT NULL,
  event_id           TEXT
) STRICT;

CREATE INDEX usage_records_time ON usage_records (user_id, created_at, id);
CREATE UNIQUE INDEX usage_records_event ON usage_records (user_id, event_id) WHERE event_id IS NOT NULL;
CREATE INDEX usage_records_session ON usage_records (user_id, session_id, created_at, id)
  WHERE session_id IS NOT NULL;

-- Sums by hour, day and month, moved in the record's own transaction. Absent model and provider are ''.
-- Sums of amounts are kept in halves (hi * 2^32 + lo), which cannot overflow.
CREATE TABLE usage_rollups (
  user_id    INTEGER NOT NULL,
  period     TEXT    NOT NULL CHECK (period IN ('hour', 'day', 'month')),
  bucket     INTEGER NOT NULL,                      -- the first instant of the hour, day or month
  event_type TEXT    NOT NULL,
  model_name TEXT    NOT NULL,
  provider   TEXT    NOT NULL,
  records    INTEGER NOT NULL,
  credits_hi INTEGER NOT NULL,
  credits_lo INTEGER NOT NULL,
  cost_hi    INTEGER NOT NULL,
  cost_lo    INTEGER NOT NULL,
  tokens     INTEGER NOT NULL,
  PRIMARY KEY (user_id, period, bucket, event_type, model_name, provider)
) STRICT, WITHOUT ROWID;
