-- Files. The bytes are in the object store under users/{user_id}/{path}.

INSERT INTO counters (name, next) VALUES ('files', 1);

CREATE TABLE files (
  id           INTEGER PRIMARY KEY,
  file_id      TEXT   NOT NULL UNIQUE,              -- the public id, a UUID
  user_id      INTEGER NOT NULL,
  path         TEXT   NOT NULL,                     -- files/2025/07/document_20250726070000_1a2b3c4d.pdf
  file_name    TEXT   NOT NULL,                     -- as the client named it
  content_type TEXT   NOT NULL,
  size         INTEGER NOT NULL,
  sha256       TEXT   NOT NULL,                     -- hex digits; empty while the file is expected
  etag         TEXT   NOT NULL,
  status       TEXT   NOT NULL CHECK (status IN ('expected', 'storing', 'stored', 'deleting')),
  upload_id    TEXT,                                -- the store's upload in parts, while it runs
  staged_until INTEGER,                              -- until when a client may write to its staging key
  created_at   INTEGER NOT NULL,
  updated_at   INTEGER NOT NULL,
  UNIQUE (user_id, path)
) STRICT;

CREATE INDEX files_of_user ON files (user_id, created_at, id) WHERE status = 'stored';
CREATE INDEX files_unfinished ON files (status, id) WHERE status <> 'stored';
CREATE INDEX files_staged ON files (staged_until) WHERE staged_until IS NOT NULL;

-- What counts against a user's quota: files that are stored, and those that are being stored.
CREATE TABLE file_totals (
  user_id INTEGER PRIMARY KEY,
  files   INTEGER NOT NULL CHECK (files >= 0),
  bytes   INTEGER NOT NULL CHECK (bytes >= 0)
) STRICT;
