-- The ledger, eighth form: what was encrypted before it was sent.

-- The encrypted bytes, as they were sent; null: the file was sent as it is. `blake3` and `size` are in any case of the
-- file's own bytes.
ALTER TABLE files ADD COLUMN sealed_blake3 BLOB CHECK (length(sealed_blake3) = 32);
ALTER TABLE files ADD COLUMN sealed_size INTEGER;  -- bytes

-- To whom the agent that ran last encrypts; no row: it does not.
CREATE TABLE sealing (
  id         INTEGER PRIMARY KEY CHECK (id = 1),
  recipients TEXT NOT NULL                   -- public keys, a JSON list
) STRICT;

-- The root of an encrypted list of files (see manifests): who has no private key cannot read back what was stored, and so
-- would not know which parts are there already.
CREATE TABLE sealed_manifests (
  mirror_id  INTEGER PRIMARY KEY REFERENCES mirrors,
  hash       TEXT NOT NULL,                  -- of the root that this is
  recipients TEXT NOT NULL,                  -- to whom it and its parts are encrypted: as in sealing
  root       BLOB NOT NULL                   -- not encrypted
) STRICT;

-- The counts get a slot more, 7: those of slot 0 that are encrypted on dStor. By triggers of its own, so that nobody else
-- has anything to do with it.
INSERT INTO counts (mirror_id, slot) SELECT id, 7 FROM mirrors;

CREATE TRIGGER mirror_sealed AFTER INSERT ON mirrors BEGIN
  INSERT INTO counts (mirror_id, slot) VALUES (new.id, 7);
END;

CREATE TRIGGER sealed_file_in AFTER INSERT ON files
WHEN new.sealed_size IS NOT NULL AND new.state = 0
  AND NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 7;
END;

CREATE TRIGGER sealed_file_out AFTER DELETE ON files
WHEN old.sealed_size IS NOT NULL AND old.state = 0
  AND NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = old.directory_id AND c.name = old.name) BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 7;
END;

CREATE TRIGGER sealed_file_was AFTER UPDATE OF state, size, sealed_size ON files
WHEN old.sealed_size IS NOT NULL AND old.state = 0
  AND NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = old.directory_id AND c.name = old.name) BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - old.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 7;
END;

CREATE TRIGGER sealed_file_is AFTER UPDATE OF state, size, sealed_size ON files
WHEN new.sealed_size IS NOT NULL AND new.state = 0
  AND NOT EXISTS (SELECT 1 FROM changes c WHERE c.directory_id = new.directory_id AND c.name = new.name) BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + new.weight
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 7;
END;

CREATE TRIGGER sealed_change_in AFTER INSERT ON changes BEGIN
  UPDATE counts SET files = files - 1, bytes = bytes - f.weight
  FROM (SELECT weight FROM files WHERE directory_id = new.directory_id AND name = new.name
          AND state = 0 AND sealed_size IS NOT NULL) AS f
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = new.directory_id) AND slot = 7;
END;

CREATE TRIGGER sealed_change_out AFTER DELETE ON changes BEGIN
  UPDATE counts SET files = files + 1, bytes = bytes + f.weight
  FROM (SELECT weight FROM files WHERE directory_id = old.directory_id AND name = old.name
          AND state = 0 AND sealed_size IS NOT NULL) AS f
  WHERE mirror_id = (SELECT mirror_id FROM directories WHERE id = old.directory_id) AND slot = 7;
END;
