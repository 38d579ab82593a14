-- Paths of which an older upload may still arrive at dStor: one that ended without word may be whole and on its way, in
-- buffers here or before the service, and be stored after a newer version of its file was. When nothing can be on its way
-- any more, a file that was stored meanwhile is sent once more; until then its row in files is as true as any.
CREATE TABLE stragglers (
  directory_id INTEGER NOT NULL REFERENCES directories,
  name         BLOB    NOT NULL,
  blake3       BLOB    CHECK (length(blake3) = 32),  -- of the bytes that may arrive; null: nobody knows, or several versions
  since        INTEGER,                      -- when the agent first looked at this row; null: not yet
  PRIMARY KEY (directory_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX stragglers_since ON stragglers (since);
