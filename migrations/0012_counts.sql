-- The ledger, twelfth form: the counts are kept by triggers that need no table of their own.

-- What UPDATE … FROM reads goes into a table of its own first, made for each change; and what is counted under several
-- slots at once has its rows listed in one. Each of these changes one row of the counts, by its key. Where there is no row in
-- files, as in all of a first upload, nothing is done about it.
DROP TRIGGER change_in;
DROP TRIGGER change_out;
DROP TRIGGER sealed_change_in;
DROP TRIGGER sealed_change_out;

CREATE TRIGGER change_in AFTER INSERT ON changes BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 4 + new.claimed;
END;

CREATE TRIGGER change_out AFTER DELETE ON changes BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 4 + old.claimed;
END;

-- A file counts by its change, and no longer by its own row.
CREATE TRIGGER change_over_file AFTER INSERT ON changes
WHEN EXISTS (SELECT 1 FROM files WHERE directory_id = new.directory_id AND name = new.name) BEGIN
  UPDATE counts SET files = files - 1,
    bytes = bytes - (SELECT weight FROM files WHERE directory_id = new.directory_id AND name = new.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND slot = (SELECT state FROM files WHERE directory_id = new.directory_id AND name = new.name);
  UPDATE counts SET files = files - 1,
    bytes = bytes - (SELECT weight FROM files WHERE directory_id = new.directory_id AND name = new.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND slot = (SELECT 6 FROM files
                WHERE directory_id = new.directory_id AND name = new.name AND state = 0 AND proof IS NOT NULL);
  UPDATE counts SET files = files - 1,
    bytes = bytes - (SELECT weight FROM files WHERE directory_id = new.directory_id AND name = new.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id)
    AND slot = (SELECT 7 FROM files
                WHERE directory_id = new.directory_id AND name = new.name AND state = 0 AND sealed_size IS NOT NULL);
END;

-- Its change is over: it counts by its own row again.
CREATE TRIGGER change_off_file AFTER DELETE ON changes
WHEN EXISTS (SELECT 1 FROM files WHERE directory_id = old.directory_id AND name = old.name) BEGIN
  UPDATE counts SET files = files + 1,
    bytes = bytes + (SELECT weight FROM files WHERE directory_id = old.directory_id AND name = old.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND slot = (SELECT state FROM files WHERE directory_id = old.directory_id AND name = old.name);
  UPDATE counts SET files = files + 1,
    bytes = bytes + (SELECT weight FROM files WHERE directory_id = old.directory_id AND name = old.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND slot = (SELECT 6 FROM files
                WHERE directory_id = old.directory_id AND name = old.name AND state = 0 AND proof IS NOT NULL);
  UPDATE counts SET files = files + 1,
    bytes = bytes + (SELECT weight FROM files WHERE directory_id = old.directory_id AND name = old.name)
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id)
    AND slot = (SELECT 7 FROM files
                WHERE directory_id = old.directory_id AND name = old.name AND state = 0 AND sealed_size IS NOT NULL);
END;
