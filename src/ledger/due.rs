//! When changes are due: after a start, while a mirror is away, and when the clock jumps.
//!
//! What concerns all changes is one statement, however many there are: those that have nothing to do read an index or the
//! table, 0.1 s for a million changes, and write nothing. Those that do change a million take 2 to 5 s and 95 MiB of the
//! write-ahead log, once, and all or nothing, so that no change is held while its mirror is there.

use rusqlite::OptionalExtension as _;

use super::{Ledger, LedgerError, Millis, MirrorId, UNTIL_RESUMED};
use crate::mirror::Jump;

/// The due time of changes whose mirror is not there.
pub const HELD: Millis = Millis::MAX;

/// What the queue has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// Changes that workers have.
    pub claimed: u64,
    /// When the next one is due; `None` if none waits for a time.
    pub next_due_at: Option<Millis>,
}

impl Ledger {
    /// Puts back all changes that a killed agent had, clamps times that a jumping clock put too far away (D14), and
    /// holds the changes of mirrors that are not active.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn recover_changes(&self, latest: Millis) -> Result<(), LedgerError> {
        self.claims_may_straggle()?;
        self.db.execute("UPDATE changes SET claimed = 0, unsure = 1 WHERE claimed = 1", [])?;
        // What is held stays so: who releases it asks for exactly that time. Nobody has anything any more: by the index.
        self.db.execute(
            "UPDATE changes SET due_at = ?1 WHERE claimed = 0 AND due_at > ?1 AND due_at < ?2",
            [latest, HELD],
        )?;
        self.db.execute(
            "UPDATE changes SET due_at = ?1 WHERE due_at <> ?1 AND directory_id IN
               (SELECT d.id FROM directories d JOIN mirrors m ON m.id = d.mirror_id WHERE m.active = 0)",
            [HELD],
        )?;
        Ok(())
    }

    /// Has everything that waits for a time due earlier by so many milliseconds: the clock was set back by as much (D14).
    ///
    /// # Errors
    /// As SQLite says.
    pub(super) fn bring_forward(&self, by: Millis) -> Result<(), LedgerError> {
        // Far from the smallest number, for what is due at any time anyway.
        self.db.execute(
            // Those that workers have, too: one that was pushed again meanwhile keeps its time when it is put back.
            "UPDATE changes SET due_at = max(due_at, ?1) - ?1 WHERE due_at <> ?2",
            [by, HELD],
        )?;
        // A pause of two hours is one of no more.
        self.db.execute(
            "UPDATE steering SET paused_until = paused_until - ?1 WHERE paused_until <> ?2",
            [by, UNTIL_RESUMED],
        )?;
        Ok(())
    }

    /// The clock jumped: what waits for a time does so no longer than it was meant to, nor beyond `latest`. Where it was set
    /// ahead and back between two looks, what was pushed in between waits for a time that no jump seen since accounts for.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn follow_clock(&self, jump: Jump, latest: Millis) -> Result<(), LedgerError> {
        match jump {
            Jump::Back(by) => self.bring_forward(Millis::try_from(by.as_millis()).unwrap_or(Millis::MAX))?,
            // What waits is due earlier than was meant. That is no harm: the gate before dStor does not go by this clock.
            Jump::Ahead(_) => {}
        }
        self.db.execute("UPDATE changes SET due_at = ?1 WHERE due_at > ?1 AND due_at < ?2", [latest, HELD])?;
        Ok(())
    }

    /// Holds the changes of a mirror whose directory is not there, so that nobody claims them.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn hold(&self, mirror: MirrorId) -> Result<(), LedgerError> {
        self.db.execute(
            "UPDATE changes SET due_at = ?2
             WHERE claimed = 0 AND due_at <> ?2
               AND directory_id IN (SELECT id FROM directories WHERE mirror_id = ?1)",
            (mirror.0, HELD),
        )?;
        Ok(())
    }

    /// Lets the changes of a mirror go on that were held.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn release(&self, mirror: MirrorId, now: Millis) -> Result<(), LedgerError> {
        self.db.execute(
            "UPDATE changes SET due_at = ?2
             WHERE claimed = 0 AND due_at = ?3 AND directory_id IN (SELECT id FROM directories WHERE mirror_id = ?1)",
            (mirror.0, now, HELD),
        )?;
        Ok(())
    }

    /// What the queue has to do.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn outlook(&self) -> Result<Outlook, LedgerError> {
        let next_due_at: Option<Millis> = self
            .db
            .prepare_cached("SELECT due_at FROM changes WHERE claimed = 0 ORDER BY due_at LIMIT 1")?
            .query_row([], |row| row.get(0))
            .optional()?;
        let claimed: i64 = self
            .db
            .prepare_cached("SELECT coalesce(sum(files), 0) FROM counts WHERE slot = 5")?
            .query_row([], |row| row.get(0))?;
        Ok(Outlook { claimed: bits_in_count(claimed), next_due_at: next_due_at.filter(|at| *at != HELD) })
    }

    /// Forgets earlier failures of the changes that wait: all are due now.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn forget_attempts(&self) -> Result<(), LedgerError> {
        self.db.execute("UPDATE changes SET attempts = 0, due_at = 0 WHERE claimed = 0 AND due_at <> ?1", [HELD])?;
        Ok(())
    }

    /// Whether a change is being worked on, or will be tried again after less than `attempts` failures.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn has_unfinished(&self, attempts: u32) -> Result<bool, LedgerError> {
        let found = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM changes WHERE claimed = 1 OR (attempts < ?1 AND due_at <> ?2))",
            )?
            .query_row((attempts, HELD), |row| row.get(0))?;
        Ok(found)
    }
}

fn bits_in_count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
