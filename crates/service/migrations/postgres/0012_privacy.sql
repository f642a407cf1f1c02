-- The directory, suspension, merged identities, erasure.

-- How names are compared.
ALTER TABLE users ADD COLUMN name_folded TEXT;
UPDATE users SET name_folded = lower(name) WHERE name IS NOT NULL;
ALTER TABLE users ADD COLUMN suspended_at BIGINT;
ALTER TABLE users ADD COLUMN suspension_reason TEXT;

CREATE INDEX users_newest ON users (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_of_plan ON users (plan, created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX users_suspended ON users (created_at, id) WHERE NOT is_active;
CREATE INDEX users_deleted ON users (deleted_at) WHERE deleted_at IS NOT NULL
  AND substr(auth0_id, 1, 7) NOT IN ('erased:', 'merged:');
-- By bytes, so that a beginning is a range whatever the database's collation.
CREATE INDEX users_by_id ON users (auth0_id COLLATE "C");
CREATE INDEX users_by_email ON users (email_folded COLLATE "C") WHERE email_folded IS NOT NULL;
CREATE INDEX users_by_name ON users (name_folded COLLATE "C") WHERE name_folded IS NOT NULL;

-- Other ids of the identity provider that name a user, since two identities of one person were merged.
CREATE TABLE user_identities (
  auth0_id    TEXT    NOT NULL PRIMARY KEY,
  user_id     BIGINT NOT NULL,                     -- the user that it names
  merged_from BIGINT NOT NULL,                     -- the row that it named before
  created_at  BIGINT NOT NULL
);

CREATE INDEX user_identities_of ON user_identities (user_id);

-- Two identities of one person that become one, or became it.
CREATE TABLE user_merges (
  from_user    BIGINT NOT NULL PRIMARY KEY,
  into_user    BIGINT NOT NULL,
  requested_by TEXT    NOT NULL,
  reason       TEXT,
  status       TEXT    NOT NULL CHECK (status IN ('pending', 'moved', 'done')),
  created_at   BIGINT NOT NULL,
  finished_at  BIGINT
);

CREATE INDEX user_merges_into ON user_merges (into_user);
CREATE INDEX user_merges_unfinished ON user_merges (from_user) WHERE status <> 'done';

-- Moves on with every suspension, merge and erasure, so that processes know when to read them again.
CREATE TABLE identity_book (
  id       BIGINT PRIMARY KEY CHECK (id = 1),
  revision BIGINT NOT NULL
);

INSERT INTO identity_book (id, revision) VALUES (1, 1);

-- Users whose personal data goes or has gone. Their ledgers were sealed anew without texts.
CREATE TABLE erasures (
  user_id      BIGINT NOT NULL PRIMARY KEY,
  requested_at BIGINT NOT NULL,
  requested_by TEXT    NOT NULL,                    -- self, retention, or the caller
  status       TEXT    NOT NULL CHECK (status IN ('pending', 'resealed', 'done')),
  holds        BIGINT NOT NULL,                    -- how many holds were sealed anew so far
  entries      BIGINT NOT NULL,                    -- how many entries
  old_head     BYTEA,                                -- the hash of the last of those before
  new_head     BYTEA,                                -- and after
  finished_at  BIGINT
);

CREATE INDEX erasures_unfinished ON erasures (user_id) WHERE status <> 'done';

-- Whose data an answer may hold.
ALTER TABLE idempotency_keys ADD COLUMN user_id BIGINT;
CREATE INDEX idempotency_keys_user ON idempotency_keys (user_id) WHERE user_id IS NOT NULL;

CREATE INDEX stripe_events_customer ON stripe_events (customer) WHERE customer IS NOT NULL;
CREATE INDEX stripe_events_object ON stripe_events (object_id) WHERE object_id IS NOT NULL;
