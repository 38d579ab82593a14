-- What people tell the agent, or the next one that starts: one row. Whoever tells writes here beside it; it notices
-- within seconds.
CREATE TABLE steering (
  id            INTEGER PRIMARY KEY CHECK (id = 1),
  paused_until  INTEGER,                     -- no upload begins before then; the largest number: until `resume`; null: go on
  scans_asked   INTEGER NOT NULL DEFAULT 0,  -- how often a scan of everything was asked for
  retries_asked INTEGER NOT NULL DEFAULT 0   -- how often dStor was to be asked again at once
) STRICT;
INSERT INTO steering (id) VALUES (1);
