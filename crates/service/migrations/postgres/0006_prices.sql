-- Prices of models. Rows are only ever added: a change is a new version.

CREATE TABLE model_prices (
  model        TEXT   NOT NULL,                     -- the canonical name
  version      BIGINT NOT NULL CHECK (version >= 1),
  effective_at BIGINT NOT NULL,                     -- from when it is in force
  created_at   BIGINT NOT NULL,
  tariff       TEXT   NOT NULL,                     -- JSON: rates by pool, tiers, provider, mode, limits
  source       TEXT   NOT NULL,                     -- starter, import, or what an admin said
  actor        TEXT   NOT NULL,                     -- who wrote it
  PRIMARY KEY (model, version),
  UNIQUE (model, effective_at)
);

-- Other names of models, in lower case, each from an instant on.
CREATE TABLE model_aliases (
  alias        TEXT   NOT NULL,
  effective_at BIGINT NOT NULL,
  model        TEXT   NOT NULL,
  created_at   BIGINT NOT NULL,
  PRIMARY KEY (alias, effective_at)
);

-- Moves on with every change, so that processes know when to read the prices again.
CREATE TABLE price_book (
  id       BIGINT PRIMARY KEY CHECK (id = 1),
  revision BIGINT NOT NULL
);

INSERT INTO price_book (id, revision) VALUES (1, 1);
