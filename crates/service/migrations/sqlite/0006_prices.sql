-- Prices of models. Rows are only ever added: a change is a new version.

CREATE TABLE model_prices (
  model        TEXT   NOT NULL,                     -- the canonical name
  version      INTEGER NOT NULL CHECK (version >= 1),
  effective_at INTEGER NOT NULL,                     -- from when it is in force
  created_at   INTEGER NOT NULL,
  tariff       TEXT   NOT NULL,                     -- JSON: rates by pool, tiers, provider, mode, limits
  source       TEXT   NOT NULL,                     -- starter, import, or what an admin said
  actor        TEXT   NOT NULL,                     -- who wrote it
  PRIMARY KEY (model, version),
  UNIQUE (model, effective_at)
) STRICT;

-- Other names of models, in lower case, each from an instant on.
CREATE TABLE model_aliases (
  alias        TEXT   NOT NULL,
  effective_at INTEGER NOT NULL,
  model        TEXT   NOT NULL,
  created_at   INTEGER NOT NULL,
  PRIMARY KEY (alias, effective_at)
) STRICT;

-- Moves on with every change, so that processes know when to read the prices again.
CREATE TABLE price_book (
  id       INTEGER PRIMARY KEY CHECK (id = 1),
  revision INTEGER NOT NULL
) STRICT;

INSERT INTO price_book (id, revision) VALUES (1, 1);
