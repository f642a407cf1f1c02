-- Sessions, their messages and memory. US dollars are nano-dollars, scores are millionths.

INSERT INTO counters (name, next) VALUES ('sessions', 1), ('messages', 1), ('session_memories', 1);

CREATE TABLE sessions (
  id                BIGINT PRIMARY KEY,
  session_id        TEXT    NOT NULL UNIQUE,        -- the public id, a UUID
  user_id           BIGINT NOT NULL,
  status            TEXT    NOT NULL,
  message_count     BIGINT NOT NULL,               -- also the seq of the last message
  total_tokens      BIGINT NOT NULL,
  total_cost_hi     BIGINT NOT NULL,               -- hi * 2^32 + lo nano-dollars, which cannot overflow
  total_cost_lo     BIGINT NOT NULL,
  created_at        BIGINT NOT NULL,
  updated_at        BIGINT NOT NULL,
  last_activity     BIGINT NOT NULL,
  expires_at        BIGINT,
  expiry_day        BIGINT,                        -- the first midnight after expires_at: what the sweeper looks for
  deleted_at        BIGINT,                        -- its messages are removed bit by bit, then the row
  title             TEXT,
  session_summary   TEXT,
  conversation_data TEXT    NOT NULL,
  metadata          TEXT    NOT NULL
) WITH (fillfactor = 80);                          -- room to move the totals in place

CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX sessions_active ON sessions (user_id, created_at, id) WHERE deleted_at IS NULL AND status = 'active';
CREATE INDEX sessions_expiry ON sessions (expiry_day) WHERE expiry_day IS NOT NULL AND status = 'active';
CREATE INDEX sessions_deleted ON sessions (deleted_at) WHERE deleted_at IS NOT NULL;

-- Messages are numbered 1, 2, 3, … within their session, without gaps, in the order of their commits.
CREATE TABLE messages (
  id                   BIGINT PRIMARY KEY,
  user_id              BIGINT NOT NULL,
  session_row          BIGINT NOT NULL,
  seq                  BIGINT NOT NULL,
  message_id           TEXT    NOT NULL,            -- the public id, a UUID
  message_type         TEXT    NOT NULL,
  role                 TEXT    NOT NULL,
  content              TEXT    NOT NULL,
  tool_calls           TEXT,
  tool_call_id         TEXT,
  metadata             TEXT    NOT NULL,
  tokens_used          BIGINT NOT NULL,
  cost_usd             BIGINT NOT NULL,
  is_summary_candidate BIGINT NOT NULL,
  importance_score     BIGINT NOT NULL,
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL,
  words                TSVECTOR NOT NULL
);

CREATE UNIQUE INDEX messages_order ON messages (session_row, seq);
CREATE UNIQUE INDEX messages_public ON messages (message_id);

-- The words of the messages, and one that names the user, so that a search skips from one own message to the next.
CREATE INDEX messages_words ON messages USING gin (words);

CREATE TABLE session_memories (
  id          BIGINT PRIMARY KEY,
  user_id     BIGINT NOT NULL,
  session_row BIGINT NOT NULL,
  memory_type TEXT    NOT NULL,
  content     TEXT    NOT NULL,
  metadata    TEXT    NOT NULL,
  created_at  BIGINT NOT NULL
);

CREATE INDEX session_memories_of ON session_memories (session_row, created_at, id);
