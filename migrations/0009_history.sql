-- What dStor holds of a file beside the version in its row: versions that another one took the place of, and when files came
-- and went. So the state of a mirror at any time can be told, and brought back. A file that is stored once and stays has no row
-- here; each version after the first, and each time that a file is gone, costs one of some 150 bytes. All are kept.

-- How a version's time as the one in the mirror ended, at `at`: by a newer version, or because the file was gone. Rows without
-- a hash are files that were gone and came back, with the bytes of the row in files, at `at`. For any time, the first row of a
-- path after it tells which version there was then, if it was stored by then; if there is no such row, the one in files does.
CREATE TABLE history (
  directory_id INTEGER NOT NULL REFERENCES directories,
  name         BLOB    NOT NULL,
  at           INTEGER NOT NULL,             -- later than each row of the path before it, whatever the clock said
  blake3       BLOB    CHECK (length(blake3) = 32),
  sealed_blake3 BLOB   CHECK (length(sealed_blake3) = 32),  -- of what was sent, where that was encrypted
  sealed_size  INTEGER,
  hash         TEXT,
  proof        TEXT    CHECK (proof IN ('cid', 'read')),
  size         INTEGER,                      -- bytes; null where a later version, which was not stored, was the last one seen
  mtime_s      INTEGER,
  mtime_ns     INTEGER,
  mode         INTEGER,
  stored_at    INTEGER,
  PRIMARY KEY (directory_id, name, at),
  CHECK ((hash IS NULL) = (blake3 IS NULL) AND (hash IS NULL) = (stored_at IS NULL))
) STRICT, WITHOUT ROWID;

-- Times of which not everything is on record: before the ledger was begun or knew of this, and between a daily copy and the
-- time when it took the place of a damaged ledger.
CREATE TABLE unrecorded (
  since INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT;
INSERT INTO unrecorded (since, until) VALUES (0, CAST(unixepoch('subsec') * 1000 AS INTEGER));
