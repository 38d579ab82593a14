-- How often dStor broke off the upload of this version while it answered others: after some times it is given up.
ALTER TABLE changes ADD COLUMN breaks INTEGER NOT NULL DEFAULT 0;
