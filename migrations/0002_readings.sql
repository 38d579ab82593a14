-- The ledger, second form: what came when stored files were read back from dStor.

-- The last time that a stored file was asked back by its hash, and was answered. A file that was never read back has no
-- row, and so has one that was stored anew since: this is about the bytes and the hash in its row in files, see the
-- triggers. No answer (no network, an error of the service) is no reading.
CREATE TABLE readings (
  directory_id INTEGER NOT NULL,
  name         BLOB    NOT NULL,
  read_at      INTEGER NOT NULL,
  found        INTEGER NOT NULL CHECK (found BETWEEN 0 AND 2),  -- 0 its bytes, 1 nothing: dStor has it no more, 2 others
  PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;
-- Few, or there is trouble: so that counting and listing them costs nothing while all is well.
CREATE INDEX readings_bad ON readings (directory_id, name) WHERE found <> 0;

-- What dStor answers to a new upload is not what was read back before.
CREATE TRIGGER file_stored_anew AFTER UPDATE OF stored_at ON files BEGIN
  DELETE FROM readings WHERE directory_id = new.directory_id AND name = new.name;
END;

CREATE TRIGGER file_not_to_be_read AFTER DELETE ON files BEGIN
  DELETE FROM readings WHERE directory_id = old.directory_id AND name = old.name;
END;
