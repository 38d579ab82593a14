-- The ledger, first form. Paths and names are raw bytes. Instants are milliseconds since 1970 (UTC) by this machine's
-- clock; a file's own times are kept as the file system gives them. Unsigned 64-bit numbers (inodes, devices) are kept
-- as the signed number with the same bits.

PRAGMA application_id = 0x6453796e;  -- "dSyn": what makes a SQLite file a ledger of ours

-- One watched directory and the dStor directory it is mirrored to. Another `remote`, or another service, is another
-- mirror: its files have to be sent there as well.
CREATE TABLE mirrors (
  id           INTEGER PRIMARY KEY,
  service      TEXT    NOT NULL,             -- which dStor: its address, or "sandbox" for the one inside the program
  path         BLOB    NOT NULL,             -- absolute
  remote       TEXT    NOT NULL,             -- "path:Documents", "path:" (the root) or "id:42"
  active       INTEGER NOT NULL DEFAULT 1,   -- 1: in the configuration of the agent that ran last
  root_device  INTEGER,                      -- who the directory was when it was last believed; null: nobody yet
  root_inode   INTEGER,
  exclude      TEXT    NOT NULL DEFAULT '[]',-- what it leaves out, as in the configuration: a JSON list of patterns,
  hidden       INTEGER NOT NULL DEFAULT 1,   -- whether dot files belong to it,
  max_file_size INTEGER NOT NULL,            -- and how large files may be, in bytes
  watch        TEXT    NOT NULL DEFAULT 'events' CHECK (watch IN ('events', 'polling', 'missing')),
  watch_note   TEXT,                         -- what a person should know about it
  last_scan_at INTEGER,                      -- when a full scan last ended well
  UNIQUE (service, path, remote)
) STRICT;

-- A directory below a mirror (or its top, with the empty path) that holds files the ledger knows. Kept apart from the
-- files so that a million of them do not repeat its path, and so that a scan reads a directory's files in one sweep.
CREATE TABLE directories (
  id        INTEGER PRIMARY KEY,
  mirror_id INTEGER NOT NULL REFERENCES mirrors,
  parent_id INTEGER REFERENCES directories,
  path      BLOB    NOT NULL,                -- relative to the mirror
  remote    TEXT,                            -- the dStor directory of its files, like mirrors.remote; null: it has none
  UNIQUE (mirror_id, path)
) STRICT;
CREATE INDEX directories_by_parent ON directories (parent_id);

-- What is known of a path that was looked at. The stat is that of the version last looked at. Digest, hash, proof and
-- stored_at are those of the version that dStor holds: for a stored file the same one.
CREATE TABLE files (
  directory_id INTEGER NOT NULL REFERENCES directories,
  name         BLOB    NOT NULL,
  state        INTEGER NOT NULL CHECK (state BETWEEN 0 AND 3),  -- 0 stored, 1 failed, 2 skipped, 3 gone
  size         INTEGER NOT NULL,             -- bytes
  weight       INTEGER AS (min(size, 0x100000000000)),  -- bytes in the counts: a file of holes can claim to have 2^63 - 1,
                                             -- and a second one would be more than a sum can hold; 16 TiB is the most
  mtime_s      INTEGER NOT NULL,             -- seconds since 1970, negative before
  mtime_ns     INTEGER NOT NULL,             -- nanoseconds into that second
  ctime_s      INTEGER NOT NULL,
  ctime_ns     INTEGER NOT NULL,             -- 1000000000: to be compared again whatever the stat says
  inode        INTEGER NOT NULL,
  mode         INTEGER NOT NULL,             -- permission bits
  blake3       BLOB    CHECK (length(blake3) = 32),
  hash         TEXT,                         -- as dStor gave it
  proof        TEXT    CHECK (proof IN ('cid', 'read')),
  stored_at    INTEGER,
  unsure       INTEGER NOT NULL DEFAULT 0,   -- 1: dStor may hold a later version than this; only sending again makes sure
  PRIMARY KEY (directory_id, name),
  CHECK (state NOT IN (0, 3) OR (blake3 IS NOT NULL AND hash IS NOT NULL AND stored_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- Why a file is failed or skipped. Apart, because few files have one.
CREATE TABLE reasons (
  directory_id INTEGER NOT NULL,
  name         BLOB    NOT NULL,
  code         TEXT    NOT NULL,             -- a fixed word
  message      TEXT    NOT NULL,             -- for a person
  attempts     INTEGER NOT NULL,
  since        INTEGER NOT NULL,
  PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;

-- The queue: paths to look at. There are no kinds of change; what is there when it is looked at decides.
CREATE TABLE changes (
  directory_id INTEGER NOT NULL REFERENCES directories,
  name         BLOB    NOT NULL,
  generation   INTEGER NOT NULL DEFAULT 1,   -- counts how often the path was pushed: settling an older one keeps the row
  claimed      INTEGER NOT NULL DEFAULT 0 CHECK (claimed IN (0, 1)),  -- 1: a worker has it
  heard        INTEGER NOT NULL DEFAULT 0,   -- 1: an event told of it, so its bytes may differ though its stat does not
  unsure       INTEGER NOT NULL DEFAULT 0,   -- 1: an upload of it ended without word whether dStor has it
  size         INTEGER NOT NULL DEFAULT 0,   -- bytes as last seen; 0 if nobody looked yet
  weight       INTEGER AS (min(size, 0x100000000000)),  -- as that of files
  attempts     INTEGER NOT NULL DEFAULT 0,   -- failures since it last changed
  since        INTEGER NOT NULL,             -- when it was first pushed
  due_at       INTEGER NOT NULL,             -- not before then; the largest number: when its mirror is back
  code         TEXT,                         -- the last failure, a fixed word
  message      TEXT,                         -- and for a person
  PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX changes_due ON changes (due_at) WHERE claimed = 0;
CREATE INDEX changes_failing ON changes (since) WHERE code IS NOT NULL;

-- What the agent says of itself; one row. It is alive exactly if it also holds the lock beside the ledger.
CREATE TABLE agent (
  id               INTEGER PRIMARY KEY CHECK (id = 1),
  state            TEXT    NOT NULL CHECK (state IN ('starting', 'running', 'stopping', 'stopped')),
  pid              INTEGER NOT NULL,
  since            INTEGER NOT NULL,
  version          TEXT    NOT NULL,
  url              TEXT    NOT NULL,         -- dStor's base address
  auth             TEXT    NOT NULL CHECK (auth IN ('ok', 'refused', 'missing', 'unknown')),
  reachable        INTEGER,                  -- 1, 0, or null: not tried yet
  token_expires_at INTEGER,
  token_requests   INTEGER NOT NULL DEFAULT 0,
  last_error       TEXT
) STRICT;

-- How many paths are in which state, kept by the triggers below so that asking costs nothing at any size. A path that
-- has a change counts as pending or uploading, whatever its row in files says.
-- slot: 0 to 3 as files.state, 4 pending, 5 uploading, 6 those of slot 0 that have a proof.
CREATE TABLE counts (
  mirror_id INTEGER NOT NULL,
  slot      INTEGER NOT NULL,
  files     INTEGER NOT NULL DEFAULT 0,
  bytes     INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (mirror_id, slot)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER mirror_counts AFTER INSERT ON mirrors BEGIN
  INSERT INTO counts (mirror_id, slot) VALUES
    (new.id, 0), (new.id, 1), (new.id, 2), (new.id, 3), (new.id, 4), (new.id, 5), (new.id, 6);
END;

CREATE TRIGGER file_in AFTER INSERT ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND (slot = new.state OR (slot = 6 AND new.state = 0 AND new.proof IS NOT NULL));
END;

CREATE TRIGGER file_out AFTER DELETE ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = old.directory_id AND c.name = old.name) BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND (slot = old.state OR (slot = 6 AND old.state = 0 AND old.proof IS NOT NULL));
END;

CREATE TRIGGER file_changed AFTER UPDATE OF state, size, proof ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND (slot = old.state OR (slot = 6 AND old.state = 0 AND old.proof IS NOT NULL));
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND (slot = new.state OR (slot = 6 AND new.state = 0 AND new.proof IS NOT NULL));
END;

CREATE TRIGGER change_in AFTER INSERT ON changes BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 4 + new.claimed;
  UPDATE counts SET files = files - 1, bytes = bytes - f.weight
  FROM (SELECT state, weight, proof FROM files WHERE directory_id = new.directory_id AND name = new.name) AS f
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND (slot = f.state OR (slot = 6 AND f.state = 0 AND f.proof IS NOT NULL));
END;

CREATE TRIGGER change_out AFTER DELETE ON changes BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 4 + old.claimed;
  UPDATE counts SET files = files + 1, bytes = bytes + f.weight
  FROM (SELECT state, weight, proof FROM files WHERE directory_id = old.directory_id AND name = old.name) AS f
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND (slot = f.state OR (slot = 6 AND f.state = 0 AND f.proof IS NOT NULL));
END;

CREATE TRIGGER change_moved AFTER UPDATE OF claimed, size ON changes BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 4 + old.claimed;
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 4 + new.claimed;
END;
