-- One row: what the whole store has in common.
CREATE TABLE state (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  incarnation TEXT NOT NULL,
  revision INTEGER NOT NULL,           -- of the newest transaction
  compacted INTEGER NOT NULL           -- the change log begins just after this revision
) STRICT;
INSERT INTO state (id, incarnation, revision, compacted) VALUES (1, lower(hex(randomblob(16))), 0, 0);

-- Every record of every kind. data is a JSON object.
CREATE TABLE records (
  kind TEXT NOT NULL,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  revision INTEGER NOT NULL,
  data TEXT NOT NULL,
  PRIMARY KEY (kind, project, name)
) STRICT;

-- The labels of data, so that a selector costs what it finds. The key's order is the order of a listing.
CREATE TABLE labels (
  kind TEXT NOT NULL,
  label TEXT NOT NULL,
  value TEXT NOT NULL,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (kind, label, value, project, name)
) STRICT, WITHOUT ROWID;

-- The change log. id is revision * 128 + the change's place in its transaction, so that order and range are the row id's.
CREATE TABLE changes (
  id INTEGER PRIMARY KEY,
  committed_at REAL NOT NULL,          -- seconds since the epoch
  event TEXT NOT NULL CHECK (event IN ('created', 'updated', 'deleted')),
  kind TEXT NOT NULL,
  project TEXT NOT NULL,
  name TEXT NOT NULL,
  data TEXT NOT NULL                   -- the new object, or the last one of what was deleted
) STRICT;

CREATE TABLE leases (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  expires_at REAL NOT NULL             -- seconds since the epoch
) STRICT, WITHOUT ROWID;
