-- What was spent under each spending limit and value, by bucket of time. A rolling window is 60 buckets.
-- Moved in the transaction of the spend.
CREATE TABLE spending_counters (
  user_id   INTEGER NOT NULL,
  limit_key TEXT    NOT NULL,                       -- the limit's definition without its amount
  value     TEXT    NOT NULL,                       -- the session, model, tag or key; '' for the user
  bucket    INTEGER NOT NULL,                       -- the bucket's first instant
  used      INTEGER NOT NULL CHECK (used > 0),      -- in the smallest part of the limit's unit
  PRIMARY KEY (user_id, limit_key, value, bucket)
) STRICT, WITHOUT ROWID;
