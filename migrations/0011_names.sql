-- The ledger, eleventh form: names that are hidden from dStor.

-- What pseudonyms are made with. It is made once and kept, so that a file goes by the same pseudonym each time; who has it
-- can try names out, so it never leaves this machine.
CREATE TABLE name_keys (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  key    BLOB    NOT NULL CHECK (length(key) = 32),
  active INTEGER NOT NULL CHECK (active IN (0, 1))  -- 1: the agent that ran last hides names
) STRICT;

-- 1: what dStor holds goes by a pseudonym there, and so do the directories above it; null: by its name.
ALTER TABLE files ADD COLUMN pseudonym INTEGER;
ALTER TABLE history ADD COLUMN pseudonym INTEGER;

-- The place of a directory on dStor follows from that of its mirror, and from whether names are hidden.
ALTER TABLE directories DROP COLUMN remote;
