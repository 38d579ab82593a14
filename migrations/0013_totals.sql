-- The ledger, thirteenth form: one row counts all of a mirror.

-- Each change of a file or of what waits changes this row, in place and by its number. As a row for each state, with triggers
-- for each of them, counting was a third of what a first upload costs the ledger.
-- Each with its bytes: files by their state where no change waits for them; pending and uploading, what waits and what a
-- worker has; of those that are stored, the ones with a proof and the ones that are encrypted.
CREATE TABLE totals (
  mirror_id       INTEGER PRIMARY KEY,
  stored          INTEGER NOT NULL DEFAULT 0,
  stored_bytes    INTEGER NOT NULL DEFAULT 0,
  failed          INTEGER NOT NULL DEFAULT 0,
  failed_bytes    INTEGER NOT NULL DEFAULT 0,
  skipped         INTEGER NOT NULL DEFAULT 0,
  skipped_bytes   INTEGER NOT NULL DEFAULT 0,
  gone            INTEGER NOT NULL DEFAULT 0,
  gone_bytes      INTEGER NOT NULL DEFAULT 0,
  pending         INTEGER NOT NULL DEFAULT 0,
  pending_bytes   INTEGER NOT NULL DEFAULT 0,
  uploading       INTEGER NOT NULL DEFAULT 0,
  uploading_bytes INTEGER NOT NULL DEFAULT 0,
  proved          INTEGER NOT NULL DEFAULT 0,
  proved_bytes    INTEGER NOT NULL DEFAULT 0,
  sealed          INTEGER NOT NULL DEFAULT 0,
  sealed_bytes    INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO totals (mirror_id, stored, stored_bytes, failed, failed_bytes, skipped, skipped_bytes, gone, gone_bytes, pending,
  pending_bytes, uploading, uploading_bytes, proved, proved_bytes, sealed, sealed_bytes)
SELECT mirror_id,
  sum(iif(slot = 0, files, 0)), sum(iif(slot = 0, bytes, 0)), sum(iif(slot = 1, files, 0)), sum(iif(slot = 1, bytes, 0)),
  sum(iif(slot = 2, files, 0)), sum(iif(slot = 2, bytes, 0)), sum(iif(slot = 3, files, 0)), sum(iif(slot = 3, bytes, 0)),
  sum(iif(slot = 4, files, 0)), sum(iif(slot = 4, bytes, 0)), sum(iif(slot = 5, files, 0)), sum(iif(slot = 5, bytes, 0)),
  sum(iif(slot = 6, files, 0)), sum(iif(slot = 6, bytes, 0)), sum(iif(slot = 7, files, 0)), sum(iif(slot = 7, bytes, 0))
FROM counts GROUP BY mirror_id;

DROP TRIGGER mirror_counts;
DROP TRIGGER mirror_sealed;
DROP TRIGGER file_in;
DROP TRIGGER file_out;
DROP TRIGGER file_changed;
DROP TRIGGER sealed_file_in;
DROP TRIGGER sealed_file_out;
DROP TRIGGER sealed_file_was;
DROP TRIGGER sealed_file_is;
DROP TRIGGER change_in;
DROP TRIGGER change_out;
DROP TRIGGER change_moved;
DROP TRIGGER change_over_file;
DROP TRIGGER change_off_file;
DROP TABLE counts;

-- As it was, for those who ask.
CREATE VIEW counts (mirror_id, slot, files, bytes) AS
  SELECT mirror_id, 0, stored, stored_bytes FROM totals UNION ALL
  SELECT mirror_id, 1, failed, failed_bytes FROM totals UNION ALL
  SELECT mirror_id, 2, skipped, skipped_bytes FROM totals UNION ALL
  SELECT mirror_id, 3, gone, gone_bytes FROM totals UNION ALL
  SELECT mirror_id, 4, pending, pending_bytes FROM totals UNION ALL
  SELECT mirror_id, 5, uploading, uploading_bytes FROM totals UNION ALL
  SELECT mirror_id, 6, proved, proved_bytes FROM totals UNION ALL
  SELECT mirror_id, 7, sealed, sealed_bytes FROM totals;

-- Its name is also what a damaged ledger is known by, and so is the beginning of totals.
CREATE TRIGGER mirror_counts AFTER INSERT ON mirrors BEGIN
  INSERT INTO totals (mirror_id) VALUES (new.id);
END;

CREATE TRIGGER file_in AFTER INSERT ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE totals SET
    stored  = stored  + (new.state = 0), stored_bytes  = stored_bytes  + iif(new.state = 0, new.weight, 0),
    failed  = failed  + (new.state = 1), failed_bytes  = failed_bytes  + iif(new.state = 1, new.weight, 0),
    skipped = skipped + (new.state = 2), skipped_bytes = skipped_bytes + iif(new.state = 2, new.weight, 0),
    gone    = gone    + (new.state = 3), gone_bytes    = gone_bytes    + iif(new.state = 3, new.weight, 0),
    proved  = proved  + (new.state = 0 AND new.proof IS NOT NULL),
    proved_bytes = proved_bytes + iif(new.state = 0 AND new.proof IS NOT NULL, new.weight, 0),
    sealed  = sealed  + (new.state = 0 AND new.sealed_size IS NOT NULL),
    sealed_bytes = sealed_bytes + iif(new.state = 0 AND new.sealed_size IS NOT NULL, new.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id);
END;

CREATE TRIGGER file_out AFTER DELETE ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = old.directory_id AND c.name = old.name) BEGIN
  UPDATE totals SET
    stored  = stored  - (old.state = 0), stored_bytes  = stored_bytes  - iif(old.state = 0, old.weight, 0),
    failed  = failed  - (old.state = 1), failed_bytes  = failed_bytes  - iif(old.state = 1, old.weight, 0),
    skipped = skipped - (old.state = 2), skipped_bytes = skipped_bytes - iif(old.state = 2, old.weight, 0),
    gone    = gone    - (old.state = 3), gone_bytes    = gone_bytes    - iif(old.state = 3, old.weight, 0),
    proved  = proved  - (old.state = 0 AND old.proof IS NOT NULL),
    proved_bytes = proved_bytes - iif(old.state = 0 AND old.proof IS NOT NULL, old.weight, 0),
    sealed  = sealed  - (old.state = 0 AND old.sealed_size IS NOT NULL),
    sealed_bytes = sealed_bytes - iif(old.state = 0 AND old.sealed_size IS NOT NULL, old.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id);
END;

CREATE TRIGGER file_changed AFTER UPDATE OF state, size, proof, sealed_size ON files
WHEN NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE totals SET
    stored  = stored  + (new.state = 0) - (old.state = 0),
    stored_bytes = stored_bytes + iif(new.state = 0, new.weight, 0) - iif(old.state = 0, old.weight, 0),
    failed  = failed  + (new.state = 1) - (old.state = 1),
    failed_bytes = failed_bytes + iif(new.state = 1, new.weight, 0) - iif(old.state = 1, old.weight, 0),
    skipped = skipped + (new.state = 2) - (old.state = 2),
    skipped_bytes = skipped_bytes + iif(new.state = 2, new.weight, 0) - iif(old.state = 2, old.weight, 0),
    gone    = gone    + (new.state = 3) - (old.state = 3),
    gone_bytes = gone_bytes + iif(new.state = 3, new.weight, 0) - iif(old.state = 3, old.weight, 0),
    proved  = proved  + (new.state = 0 AND new.proof IS NOT NULL) - (old.state = 0 AND old.proof IS NOT NULL),
    proved_bytes = proved_bytes + iif(new.state = 0 AND new.proof IS NOT NULL, new.weight, 0)
      - iif(old.state = 0 AND old.proof IS NOT NULL, old.weight, 0),
    sealed  = sealed  + (new.state = 0 AND new.sealed_size IS NOT NULL) - (old.state = 0 AND old.sealed_size IS NOT NULL),
    sealed_bytes = sealed_bytes + iif(new.state = 0 AND new.sealed_size IS NOT NULL, new.weight, 0)
      - iif(old.state = 0 AND old.sealed_size IS NOT NULL, old.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id);
END;

-- A file that has a change counts by that, and no longer by its own row.
CREATE TRIGGER change_in AFTER INSERT ON changes BEGIN
  UPDATE totals SET
    pending   = pending   + (new.claimed = 0), pending_bytes   = pending_bytes   + iif(new.claimed = 0, new.weight, 0),
    uploading = uploading + (new.claimed = 1), uploading_bytes = uploading_bytes + iif(new.claimed = 1, new.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id);
  UPDATE totals SET
    (stored, stored_bytes, failed, failed_bytes, skipped, skipped_bytes, gone, gone_bytes, proved, proved_bytes, sealed,
     sealed_bytes) =
    (SELECT
       stored  - (state = 0), stored_bytes  - iif(state = 0, weight, 0),
       failed  - (state = 1), failed_bytes  - iif(state = 1, weight, 0),
       skipped - (state = 2), skipped_bytes - iif(state = 2, weight, 0),
       gone    - (state = 3), gone_bytes    - iif(state = 3, weight, 0),
       proved  - (state = 0 AND proof IS NOT NULL), proved_bytes - iif(state = 0 AND proof IS NOT NULL, weight, 0),
       sealed  - (state = 0 AND sealed_size IS NOT NULL), sealed_bytes - iif(state = 0 AND sealed_size IS NOT NULL, weight, 0)
     FROM files WHERE directory_id = new.directory_id AND name = new.name)
  WHERE mirror_id = (SELECT d.mirror_id FROM files f JOIN directories d ON d.id = f.directory_id
                     WHERE f.directory_id = new.directory_id AND f.name = new.name);
END;

-- Its change is over: it counts by its own row again.
CREATE TRIGGER change_out AFTER DELETE ON changes BEGIN
  UPDATE totals SET
    pending   = pending   - (old.claimed = 0), pending_bytes   = pending_bytes   - iif(old.claimed = 0, old.weight, 0),
    uploading = uploading - (old.claimed = 1), uploading_bytes = uploading_bytes - iif(old.claimed = 1, old.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id);
  UPDATE totals SET
    (stored, stored_bytes, failed, failed_bytes, skipped, skipped_bytes, gone, gone_bytes, proved, proved_bytes, sealed,
     sealed_bytes) =
    (SELECT
       stored  + (state = 0), stored_bytes  + iif(state = 0, weight, 0),
       failed  + (state = 1), failed_bytes  + iif(state = 1, weight, 0),
       skipped + (state = 2), skipped_bytes + iif(state = 2, weight, 0),
       gone    + (state = 3), gone_bytes    + iif(state = 3, weight, 0),
       proved  + (state = 0 AND proof IS NOT NULL), proved_bytes + iif(state = 0 AND proof IS NOT NULL, weight, 0),
       sealed  + (state = 0 AND sealed_size IS NOT NULL), sealed_bytes + iif(state = 0 AND sealed_size IS NOT NULL, weight, 0)
     FROM files WHERE directory_id = old.directory_id AND name = old.name)
  WHERE mirror_id = (SELECT d.mirror_id FROM files f JOIN directories d ON d.id = f.directory_id
                     WHERE f.directory_id = old.directory_id AND f.name = old.name);
END;

CREATE TRIGGER change_moved AFTER UPDATE OF claimed, size ON changes BEGIN
  UPDATE totals SET
    pending   = pending   + (new.claimed = 0) - (old.claimed = 0),
    pending_bytes = pending_bytes + iif(new.claimed = 0, new.weight, 0) - iif(old.claimed = 0, old.weight, 0),
    uploading = uploading + (new.claimed = 1) - (old.claimed = 1),
    uploading_bytes = uploading_bytes + iif(new.claimed = 1, new.weight, 0) - iif(old.claimed = 1, old.weight, 0)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id);
END;
