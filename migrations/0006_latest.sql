-- The ledger, sixth form: when dStor last took a file of each mirror. To find it among a million files would take a
-- second, and whoever looks whether their last save is stored asks for it.
CREATE TABLE latest (
  mirror_id INTEGER PRIMARY KEY REFERENCES mirrors,
  stored_at INTEGER NOT NULL
) STRICT;
INSERT INTO latest (mirror_id, stored_at)
  SELECT d.mirror_id, max(f.stored_at) FROM files f JOIN directories d ON d.id = f.directory_id
  WHERE f.stored_at IS NOT NULL GROUP BY d.mirror_id;
