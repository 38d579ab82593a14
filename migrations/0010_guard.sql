-- What people allowed to be public though it looks like it holds a secret: a JSON list of patterns, as in the configuration;
-- null where everything is encrypted, and may look as it likes.
CREATE TABLE allowances (
  mirror_id INTEGER PRIMARY KEY REFERENCES mirrors,
  patterns  TEXT    NOT NULL
) STRICT;
-- Files that are held for it are few among those that are left out: so that counting them costs nothing.
CREATE INDEX reasons_secret ON reasons (directory_id, name) WHERE code = 'secret?';
