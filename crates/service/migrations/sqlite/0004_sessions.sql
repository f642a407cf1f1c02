-- Sessions, their messages and memory. US dollars are nano-dollars, scores are millionths.

INSERT INTO counters (name, next) VALUES ('sessions', 1), ('messages', 1), ('session_memories', 1);

CREATE TABLE sessions (
  id                INTEGER PRIMARY KEY,
  session_id        TEXT    NOT NULL UNIQUE,        -- the public id, a UUID
  user_id           INTEGER NOT NULL,
  status            TEXT    NOT NULL,
  message_count     INTEGER NOT NULL,               -- also the seq of the last message
  total_tokens      INTEGER NOT NULL,
  total_cost_hi     INTEGER NOT NULL,               -- hi * 2^32 + lo nano-dollars, which cannot overflow
  total_cost_lo     INTEGER NOT NULL,
  created_at        INTEGER NOT NULL,
  updated_at        INTEGER NOT NULL,
  last_activity     INTEGER NOT NULL,
  expires_at        INTEGER,
  expiry_day        INTEGER,                        -- the first midnight after expires_at: what the sweeper looks for
  deleted_at        INTEGER,                        -- its messages are removed bit by bit, then the row
  title             TEXT,
  session_summary   TEXT,
  conversation_data TEXT    NOT NULL,
  metadata          TEXT    NOT NULL
) STRICT;

CREATE INDEX sessions_of_user ON sessions (user_id, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX sessions_active ON sessions (user_id, created_at, id) WHERE deleted_at IS NULL AND status = 'active';
CREATE INDEX sessions_expiry ON sessions (expiry_day) WHERE expiry_day IS NOT NULL AND status = 'active';
CREATE INDEX sessions_deleted ON sessions (deleted_at) WHERE deleted_at IS NOT NULL;

-- Messages are numbered 1, 2, 3, … within their session, without gaps, in the order of their commits.
CREATE TABLE messages (
  id                   INTEGER PRIMARY KEY,
  user_id              INTEGER NOT NULL,
  session_row          INTEGER NOT NULL,
  seq                  INTEGER NOT NULL,
  message_id           TEXT    NOT NULL,            -- the public id, a UUID
  message_type         TEXT    NOT NULL,
  role                 TEXT    NOT NULL,
  content              TEXT    NOT NULL,
  tool_calls           TEXT,
  tool_call_id         TEXT,
  metadata             TEXT    NOT NULL,
  tokens_used          INTEGER NOT NULL,
  cost_usd             INTEGER NOT NULL,
  is_summary_candidate INTEGER NOT NULL,
  importance_score     INTEGER NOT NULL,
  created_at           INTEGER NOT NULL,
  updated_at           INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX messages_order ON messages (session_row, seq);
CREATE UNIQUE INDEX messages_public ON messages (message_id);

-- The words of the messages, and one that names the user, so that a search skips from one own message to the next.
CREATE VIRTUAL TABLE message_words USING fts5 (
  words, content = '', contentless_delete = 1, detail = full, tokenize = "ascii tokenchars '_'"
);

-- Fewer and larger merges: each commit writes a small segment, and merging them early costs a third of the rate.
INSERT INTO message_words (message_words, rank) VALUES ('automerge', 16), ('crisismerge', 64);

CREATE TRIGGER messages_forget_words AFTER DELETE ON messages BEGIN
  DELETE FROM message_words WHERE rowid = old.id;
END;

CREATE TABLE session_memories (
  id          INTEGER PRIMARY KEY,
  user_id     INTEGER NOT NULL,
  session_row INTEGER NOT NULL,
  memory_type TEXT    NOT NULL,
  content     TEXT    NOT NULL,
  metadata    TEXT    NOT NULL,
  created_at  INTEGER NOT NULL
) STRICT;

CREATE INDEX session_memories_of ON session_memories (session_row, created_at, id);
