-- The directory, suspension, merged identities, erasure.

-- How names are compared; of older rows only ASCII letters are folded, until they are written again.
ALTER TABLE users ADD COLUMN name_folded TEXT;
UPDATE users SET name_folded = lower(name) WHERE name IS NOT NULL;
ALTER TABLE users ADD COLUMN suspended_at INTEGER;
ALTER TABLE users ADD COLUMN suspension_reason TEXT;

CREATE INDEX users_newest ON users (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_of_plan ON users (plan, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_suspended ON users (created_at, id) WHERE NOT is_active;
CREATE INDEX users_deleted ON users (deleted_at) WHERE deleted_at IS NOT NULL
  AND substr(auth0_id, 1, 7) NOT IN ('erased:', 'merged:');
CREATE INDEX users_by_email ON users (email_folded) WHERE email_folded IS NOT NULL;
CREATE INDEX users_by_name ON users (name_folded) WHERE name_folded IS NOT NULL;

-- Other ids of the identity provider that name a user, since two identities of one person were merged.
CREATE TABLE user_identities (
  auth0_id    TEXT    NOT NULL PRIMARY KEY,
  user_id     INTEGER NOT NULL,                     -- the user that it names
  merged_from INTEGER NOT NULL,                     -- the row that it named before
  created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX user_identities_of ON user_identities (user_id);

-- Two identities of one person that become one, or became it.
CREATE TABLE user_merges (
  from_user    INTEGER NOT NULL PRIMARY KEY,
  into_user    INTEGER NOT NULL,
  requested_by TEXT    NOT NULL,
  reason       TEXT,
  status       TEXT    NOT NULL CHECK (status IN ('pending', 'moved', 'done')),
  created_at   INTEGER NOT NULL,
  finished_at  INTEGER
) STRICT;

CREATE INDEX user_merges_into ON user_merges (into_user);
CREATE INDEX user_merges_unfinished ON user_merges (from_user) WHERE status <> 'done';

-- Moves on with every suspension, merge and erasure, so that processes know when to read them again.
CREATE TABLE identity_book (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL
) STRICT;

INSERT INTO identity_book (id, revision) VALUES (1, 1);

-- Users whose personal data goes or has gone. Their ledgers were sealed anew without texts.
CREATE TABLE erasures (
  user_id      INTEGER NOT NULL PRIMARY KEY,
  requested_at INTEGER NOT NULL,
  requested_by TEXT    NOT NULL,                    -- self, retention, or the caller
  status       TEXT    NOT NULL CHECK (status IN ('pending', 'resealed', 'done')),
  holds        INTEGER NOT NULL,                    -- how many holds were sealed anew so far
  entries      INTEGER NOT NULL,                    -- how many entries
  old_head     BLOB,                                -- the hash of the last of those before
  new_head     BLOB,                                -- and after
  finished_at  INTEGER
) STRICT;

CREATE INDEX erasures_unfinished ON erasures (user_id) WHERE status <> 'done';

-- Whose data an answer may hold.
ALTER TABLE idempotency_keys ADD COLUMN user_id INTEGER;
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_id) WHERE user_id IS NOT NULL;

CREATE INDEX stripe_events_customer ON stripe_events (customer) WHERE customer IS NOT NULL;
CREATE INDEX stripe_events_object ON stripe_events (object_id) WHERE object_id IS NOT NULL;
