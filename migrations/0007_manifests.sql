-- The list of a mirror's files that was stored on dStor last. What dStor holds of it is not sent again.
CREATE TABLE manifests (
  mirror_id    INTEGER PRIMARY KEY REFERENCES mirrors,
  hash         TEXT    NOT NULL,             -- of its root, as dStor gave it
  blake3       BLOB    NOT NULL CHECK (length(blake3) = 32),  -- of the root's bytes
  files        INTEGER NOT NULL,
  bytes        INTEGER NOT NULL,             -- in these files
  published_at INTEGER NOT NULL
) STRICT;
