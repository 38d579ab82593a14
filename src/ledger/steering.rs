//! What people tell the agent: to pause, to go on, to scan, to try again. A word is a small write beside it, or before it
//! starts.

use super::files::at_and_below;
use super::{HELD, Ledger, LedgerError, Millis, MirrorId};
use crate::mirror::{BROKEN_OFF, EMPTIED, MirrorPath};

/// The words that were left.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Steering {
    /// No upload begins before then; [`UNTIL_RESUMED`] has no end. `None`: nobody told it to pause.
    pub paused_until: Option<Millis>,
    /// How often a scan of everything was asked for.
    pub scans_asked: i64,
    /// How often dStor was to be asked again at once.
    pub retries_asked: i64,
}

/// A pause that ends when someone says so.
pub const UNTIL_RESUMED: Millis = Millis::MAX;

impl Steering {
    /// The pause that holds at `now`, if one does.
    #[must_use]
    pub fn pause_at(&self, now: Millis) -> Option<Millis> {
        self.paused_until.filter(|until| *until > now)
    }
}

impl Ledger {
    /// The words that were left.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn steering(&self) -> Result<Steering, LedgerError> {
        let words = "SELECT paused_until, scans_asked, retries_asked FROM steering WHERE id = 1";
        Ok(self.db.prepare_cached(words)?.query_row([], |row| {
            Ok(Steering { paused_until: row.get(0)?, scans_asked: row.get(1)?, retries_asked: row.get(2)? })
        })?)
    }

    /// Has no upload begin before `until`; `None`: goes on.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn pause_until(&self, until: Option<Millis>) -> Result<(), LedgerError> {
        self.db.execute("UPDATE steering SET paused_until = ?1 WHERE id = 1", [until])?;
        Ok(())
    }

    /// Asks for a scan of every mirror.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn ask_for_scans(&self) -> Result<(), LedgerError> {
        self.db.execute("UPDATE steering SET scans_asked = scans_asked + 1 WHERE id = 1", [])?;
        Ok(())
    }

    /// Has dStor asked again at once, though it is not yet time after a failure.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn ask_at_once(&self) -> Result<(), LedgerError> {
        self.db.execute("UPDATE steering SET retries_asked = retries_asked + 1 WHERE id = 1", [])?;
        Ok(())
    }

    /// Has what failed at and below a path tried again, and what waits after a failure tried now; returns how many. What
    /// waits for its mirror, or to be accepted, goes on waiting.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn retry(&self, mirror: MirrorId, path: &MirrorPath, now: Millis) -> Result<u64, LedgerError> {
        let below = at_and_below(path);
        let mut tried = self.retry_where(&format!("directory_id IN ({below})"), (mirror.0, path.as_bytes()), now)?;
        if let Some((parent, name)) = path.split()
            && let Some(directory) = self.known_directory(mirror, &parent)?
        {
            tried += self.retry_where("directory_id = ?1 AND name = ?2", (directory, name), now)?;
        }
        Ok(tried)
    }

    /// Has files at and below a path that dStor stored sent again, though nothing changed: all, or those that it holds
    /// unencrypted; returns how many. They go as files go now, as after a change of whom they are encrypted to.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn send_stored_again(
        &self,
        mirror: MirrorId,
        path: &MirrorPath,
        unencrypted_only: bool,
        now: Millis,
    ) -> Result<u64, LedgerError> {
        let below = at_and_below(path);
        let mut sent = self.send_stored_again_where(
            &format!("directory_id IN ({below})"),
            (mirror.0, path.as_bytes()),
            unencrypted_only,
            now,
        )?;
        if let Some((parent, name)) = path.split()
            && let Some(directory) = self.known_directory(mirror, &parent)?
        {
            sent += self.send_stored_again_where(
                "directory_id = ?1 AND name = ?2",
                (directory, name),
                unencrypted_only,
                now,
            )?;
        }
        Ok(sent)
    }

    fn send_stored_again_where(
        &self,
        which: &str,
        (first, second): (i64, &[u8]),
        unencrypted_only: bool,
        now: Millis,
    ) -> Result<u64, LedgerError> {
        // Sent, not compared, as where dStor may hold another version. A change that is held stays so.
        let pushed = self
            .db
            .prepare(&format!(
                "INSERT INTO changes (directory_id, name, size, since, due_at, unsure)
                 SELECT directory_id, name, size, ?3, 0, 1 FROM files
                 WHERE {which} AND state = 0 AND (NOT ?4 OR sealed_size IS NULL)
                 ON CONFLICT DO UPDATE SET generation = generation + 1, unsure = 1,
                   due_at = iif(due_at = {HELD}, due_at, 0)"
            ))?
            .execute((first, second, now, unencrypted_only))?;
        Ok(pushed as u64)
    }

    /// Has those tried again that were given up because dStor broke off their upload, and that before `before`; returns how
    /// many. Their version may pass by now: it was never refused.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn retry_broken_off(&self, before: Millis, now: Millis) -> Result<u64, LedgerError> {
        let which = "(directory_id, name) IN
            (SELECT directory_id, name FROM reasons WHERE since < ?1 AND code = CAST(?2 AS TEXT))";
        self.retry_where(which, (before, BROKEN_OFF.as_bytes()), now)
    }

    fn retry_where(&self, which: &str, (first, second): (i64, &[u8]), now: Millis) -> Result<u64, LedgerError> {
        // One that a worker has is pushed again: it may have looked before what was wrong was mended.
        let waiting = format!(
            "UPDATE changes SET attempts = 0, breaks = 0, due_at = min(due_at, ?3), generation = generation + claimed
             WHERE {which} AND code IS NOT NULL AND code <> ?4 AND due_at <> ?5"
        );
        let waiting = self.db.prepare(&waiting)?.execute((first, second, now, EMPTIED, HELD))?;
        let queue = format!(
            "INSERT INTO changes (directory_id, name, size, since, due_at)
             SELECT directory_id, name, size, ?3, ?3 FROM files WHERE {which} AND state = 1
             ON CONFLICT DO NOTHING"
        );
        let queued = self.db.prepare(&queue)?.execute((first, second, now))?;
        // A failed version is left alone while its stat is the same; this one is that of no file.
        let forget = format!("UPDATE files SET ctime_ns = 1000000000 WHERE {which} AND state = 1");
        self.db.prepare(&forget)?.execute((first, second))?;
        Ok((waiting + queued) as u64)
    }
}
