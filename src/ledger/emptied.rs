//! Changes that are held because too many files are suddenly empty, until they are filled again or a person accepts it.

use rusqlite::OptionalExtension as _;

use super::files::at_and_below;
use super::{HELD, Ledger, LedgerError, Millis, MirrorId, Push, Urgency};
use crate::mirror::{EMPTIED, EMPTIED_MESSAGE, MirrorPath, are_too_many};

impl Ledger {
    /// Takes the emptied files that a whole scan of a mirror found: if they are too many they are held, else they go up as
    /// any other change does. What was held before and is not among them goes on. Returns how many are held.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn hold_emptied(&self, mirror: MirrorId, found: Vec<Push>, now: Millis) -> Result<u64, LedgerError> {
        let held: Vec<(i64, Vec<u8>)> = self
            .db
            .prepare_cached(
                "SELECT directory_id, name FROM changes WHERE code IS NOT NULL AND code = ?2 AND claimed = 0
                   AND directory_id IN (SELECT id FROM directories WHERE mirror_id = ?1)",
            )?
            .query_map((mirror.0, EMPTIED), |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        if found.is_empty() && held.is_empty() {
            return Ok(0);
        }
        for (directory, name) in &held {
            self.db
                .prepare_cached(
                    "UPDATE changes SET code = NULL, message = NULL, due_at = ?3 WHERE directory_id = ?1 AND name = ?2",
                )?
                .execute((directory, name, now))?;
        }
        let held: std::collections::HashSet<(i64, Vec<u8>)> = held.into_iter().collect();
        // What a person accepted, or an event told of, is decided by that.
        let mut open = Vec::new();
        for push in found {
            if self.is_open(mirror, &push.path, &held)? {
                open.push(push);
            }
        }
        let counts = self.counts(mirror)?;
        let all = counts.stored.files + counts.pending.files + counts.uploading.files;
        self.push(mirror, &open, Urgency::Scan, now)?;
        if !are_too_many(open.len() as u64, all) {
            return Ok(0);
        }
        for push in &open {
            let Some((parent, name)) = push.path.split() else { continue };
            self.db
                .prepare_cached(
                    "UPDATE changes SET code = ?3, message = ?4, due_at = ?5
                     WHERE directory_id = ?1 AND name = ?2 AND claimed = 0",
                )?
                .execute((self.directory(mirror, &parent)?, name, EMPTIED, EMPTIED_MESSAGE, HELD))?;
        }
        Ok(open.len() as u64)
    }

    /// Whether nobody decided yet what becomes of an emptied file.
    fn is_open(
        &self,
        mirror: MirrorId,
        path: &MirrorPath,
        held: &std::collections::HashSet<(i64, Vec<u8>)>,
    ) -> Result<bool, LedgerError> {
        let Some((parent, name)) = path.split() else { return Ok(false) };
        let key = (self.directory(mirror, &parent)?, name.to_vec());
        let change: Option<(bool, bool, Option<String>)> = self
            .db
            .prepare_cached("SELECT claimed, heard, code FROM changes WHERE directory_id = ?1 AND name = ?2")?
            .query_row((key.0, &key.1), |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        Ok(match change {
            None => true,
            Some((is_claimed, is_heard, code)) => !is_claimed && (held.contains(&key) || (!is_heard && code.is_none())),
        })
    }

    /// Lets the emptied files at and below a path be uploaded as they are; returns how many.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn accept_emptied(&self, mirror: MirrorId, path: &MirrorPath) -> Result<u64, LedgerError> {
        // As if an event had told of them just now: no scan holds them again, and a worker that has one already puts it
        // back as what it is by then.
        const ACCEPT: &str = "UPDATE changes SET code = NULL, message = NULL, attempts = 0, heard = 1, due_at = 0,
            generation = generation + 1 WHERE code IS NOT NULL AND code = ?3 AND ";
        let below = format!("{ACCEPT} directory_id IN ({})", at_and_below(path));
        let mut accepted = self.db.prepare(&below)?.execute((mirror.0, path.as_bytes(), EMPTIED))?;
        if let Some((parent, name)) = path.split()
            && let Some(directory) = self.known_directory(mirror, &parent)?
        {
            let one = format!("{ACCEPT} directory_id = ?1 AND name = ?2");
            accepted += self.db.prepare(&one)?.execute((directory, name, EMPTIED))?;
        }
        Ok(accepted as u64)
    }
}
