//! The queue's rows: paths to look at, who has them, and when they are tried again.

use std::ops::ControlFlow;

use rusqlite::{OptionalExtension as _, Row};

use super::files::{FileRow, forget_state};
use super::{Ledger, LedgerError, Millis, MirrorId, UNTIL_RESUMED, bits_in};
use crate::mirror::{Cid, Digest, MirrorPath, Recorded, Skip, Stat, State};

/// The due time of changes whose mirror is not there.
pub const HELD: Millis = Millis::MAX;

/// A path to look at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// The path; the mirror's top is no change but a scan, and is left out.
    pub path: MirrorPath,
    /// Its size as last seen, in bytes; 0 if nobody looked.
    pub size: u64,
    /// Not before then.
    pub due_at: Millis,
}

/// What makes a path worth looking at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// Something happened to it just now: earlier failures no longer count.
    Event,
    /// A scan found that disk and ledger disagree: one that waits for its next attempt goes on waiting.
    Scan,
}

/// A change that a worker has taken and has to settle or postpone.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The mirror it belongs to.
    pub mirror: MirrorId,
    /// The path to look at.
    pub path: MirrorPath,
    /// Failures so far.
    pub attempts: u32,
    /// When it was first pushed.
    pub since: Millis,
    /// The code of its last failure.
    pub code: Option<String>,
    /// Whether an event told of it: its bytes may differ though its stat does not (A15).
    pub is_heard: bool,
    /// Whether an upload of it ended without word: dStor may hold another version than is recorded.
    pub is_unsure: bool,
    /// What the ledger recorded of the path. Nobody writes it while the change is claimed, save a sweep from above it.
    pub recorded: Option<Recorded>,
    pub(super) directory: i64,
    pub(super) name: Box<[u8]>,
    generation: i64,
}

/// A file that dStor holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The version whose bytes were sent.
    pub stat: Stat,
    /// Its permission bits.
    pub mode: u32,
    /// The digest of the bytes that were sent.
    pub digest: Digest,
    /// What dStor answered.
    pub hash: Cid,
    /// Whether that is the identifier of these bytes.
    pub is_proved: bool,
    /// When dStor answered.
    pub at: Millis,
}

/// How a change ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// The ledger said it already.
    Nothing,
    /// The ledger said it already of the path itself, which is no directory (any more): what it has below is gone.
    NothingBelow,
    /// dStor said that it stored exactly these bytes.
    Stored(Stored),
    /// The bytes are those that dStor holds; only the stat is new.
    Refreshed(Stat, u32),
    /// Not there any more, nor anything below it.
    Gone,
    /// Left out on purpose.
    Skipped(Stat, u32, Skip),
    /// Excluded by a rule, with all below it; what dStor holds of it stays on record.
    Ignored,
    /// Given up until it changes.
    Failed {
        /// The version that failed.
        stat: Stat,
        /// Its permission bits.
        mode: u32,
        /// A fixed word.
        code: &'static str,
        /// For a person.
        message: String,
    },
    /// A directory, whose entries were looked at.
    Descended,
}

/// What the queue has to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Outlook {
    /// Changes that workers have.
    pub claimed: u64,
    /// When the next one is due; `None` if none waits for a time.
    pub next_due_at: Option<Millis>,
}

impl Ledger {
    /// Puts paths into the queue, one row a path.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn push(&self, mirror: MirrorId, pushes: &[Push], urgency: Urgency, now: Millis) -> Result<(), LedgerError> {
        let mut add = self.db.prepare_cached(match urgency {
            // What is held for being empty is worth a look, too: it may have been filled again.
            Urgency::Event => {
                "INSERT INTO changes (directory_id, name, size, since, due_at, heard) VALUES (?1, ?2, ?3, ?4, ?5, 1)
                 ON CONFLICT DO UPDATE SET generation = generation + 1, attempts = 0,
                   code = iif(code = 'emptied', code, NULL), message = iif(code = 'emptied', message, NULL), heard = 1,
                   size = excluded.size,
                   due_at = iif(due_at = 9223372036854775807 AND code IS NOT 'emptied', due_at, excluded.due_at)"
            }
            // Claimed just now, it may have changed after the worker looked: it is to be looked at once more.
            Urgency::Scan => {
                "INSERT INTO changes (directory_id, name, size, since, due_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET generation = generation + 1 WHERE claimed = 1"
            }
        })?;
        for push in pushes {
            let Some((parent, name)) = push.path.split() else { continue };
            let directory = self.directory(mirror, &parent)?;
            add.execute((directory, name, bits_in(push.size), now, push.due_at))?;
        }
        Ok(())
    }

    /// Takes at most `limit` changes that are due.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn claim(&self, now: Millis, limit: u32) -> Result<Vec<Claim>, LedgerError> {
        let mut due = self.db.prepare_cached(
            "SELECT c.directory_id, c.name, c.generation, c.attempts, c.since, d.mirror_id, d.path,
               c.code, c.heard, c.unsure
             FROM changes c JOIN directories d ON d.id = c.directory_id
             WHERE c.claimed = 0 AND c.due_at <= ?1 ORDER BY c.due_at LIMIT ?2",
        )?;
        let mut claims = Vec::new();
        let mut rows = due.query((now.min(HELD - 1), limit))?;
        while let Some(row) = rows.next()? {
            let parent: Vec<u8> = row.get(6)?;
            claims.push(claim_of(row, MirrorId(row.get(5)?), MirrorPath::from_bytes(&parent))?);
        }
        drop(rows);
        self.take(&mut claims)?;
        Ok(claims)
    }

    /// Takes further changes that are due, of the same directory as `claim`, that did not fail so far; none if there are
    /// fewer than `fewest` of them. `fits` is asked for each, with its size as last seen in bytes (0 if nobody looked), and
    /// says whether it is wanted, and whether any more are.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn claim_beside(
        &self,
        claim: &Claim,
        now: Millis,
        fewest: usize,
        mut fits: impl FnMut(u64) -> (bool, ControlFlow<()>),
    ) -> Result<Vec<Claim>, LedgerError> {
        let Some((parent, _)) = claim.path.split() else { return Ok(Vec::new()) };
        let mut due = self.db.prepare_cached(
            "SELECT directory_id, name, generation, attempts, since, size, NULL, code, heard, unsure
             FROM changes WHERE directory_id = ?1 AND claimed = 0 AND due_at <= ?2 AND attempts = 0",
        )?;
        let mut claims = Vec::new();
        let mut rows = due.query((claim.directory, now.min(HELD - 1)))?;
        while let Some(row) = rows.next()? {
            let (is_wanted, more) = fits(super::bits_out(row.get(5)?));
            if is_wanted {
                claims.push(claim_of(row, claim.mirror, Some(parent.clone()))?);
            }
            if more.is_break() {
                break;
            }
        }
        drop(rows);
        if claims.len() < fewest {
            return Ok(Vec::new());
        }
        self.take(&mut claims)?;
        Ok(claims)
    }

    /// Marks changes as taken, and adds what is recorded of their paths.
    fn take(&self, claims: &mut [Claim]) -> Result<(), LedgerError> {
        let mut take =
            self.db.prepare_cached("UPDATE changes SET claimed = 1 WHERE directory_id = ?1 AND name = ?2")?;
        for claim in claims {
            take.execute((claim.directory, &claim.name))?;
            claim.recorded = self.file_row((claim.directory, &claim.name))?.map(|row| row.recorded);
        }
        Ok(())
    }

    /// Ends a change: the row of its path and the end of the change are written together. If the path was pushed again
    /// meanwhile, the change stays and will be claimed again. With `again_at` it stays in any case, until then.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn settle(
        &self,
        claim: &Claim,
        settlement: &Settlement,
        again_at: Option<Millis>,
        now: Millis,
    ) -> Result<(), LedgerError> {
        self.record(claim, settlement, now)?;
        if claim.is_unsure && !matches!(settlement, Settlement::Stored(_)) {
            // The change ends, what is not known stays: if the path comes back, it is sent and not compared.
            self.db
                .prepare_cached("UPDATE files SET unsure = 1 WHERE directory_id = ?1 AND name = ?2")?
                .execute((claim.directory, &claim.name))?;
        }
        let done = match again_at {
            None => self
                .db
                .prepare_cached("DELETE FROM changes WHERE directory_id = ?1 AND name = ?2 AND generation = ?3")?
                .execute((claim.directory, &claim.name, claim.generation))?,
            Some(at) => self
                .db
                .prepare_cached(
                    "UPDATE changes SET claimed = 0, unsure = 0, attempts = 0, code = NULL, message = NULL, due_at = ?4
                     WHERE directory_id = ?1 AND name = ?2 AND generation = ?3",
                )?
                .execute((claim.directory, &claim.name, claim.generation, at))?,
        };
        if done == 0 {
            self.db
                .prepare_cached("UPDATE changes SET claimed = 0, unsure = 0 WHERE directory_id = ?1 AND name = ?2")?
                .execute((claim.directory, &claim.name))?;
        }
        Ok(())
    }

    /// Puts a change back until `due_at`, after a failure with this code and message. `is_unsure`: dStor may hold what
    /// was sent, or not.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn postpone(
        &self,
        claim: &Claim,
        code: &str,
        message: &str,
        is_unsure: bool,
        due_at: Millis,
    ) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "UPDATE changes SET claimed = 0, attempts = attempts + 1, code = ?4, message = ?5,
                   unsure = max(unsure, ?7), due_at = iif(generation = ?3, ?6, due_at) WHERE directory_id = ?1 AND name = ?2",
            )?
            .execute((claim.directory, &claim.name, claim.generation, code, message, due_at, is_unsure))?;
        Ok(())
    }

    /// Puts a change back until `due_at` without a failure: its file is not quiet yet.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn defer(&self, claim: &Claim, due_at: Millis) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "UPDATE changes SET claimed = 0, due_at = iif(generation = ?3, ?4, due_at)
                 WHERE directory_id = ?1 AND name = ?2",
            )?
            .execute((claim.directory, &claim.name, claim.generation, due_at))?;
        Ok(())
    }

    /// Puts back all changes that a killed agent had, clamps times that a jumping clock put too far away (D14), and
    /// holds the changes of mirrors that are not active.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn recover_changes(&self, latest: Millis) -> Result<(), LedgerError> {
        self.claims_may_straggle()?;
        self.db.execute("UPDATE changes SET claimed = 0, unsure = 1 WHERE claimed = 1", [])?;
        // What is held stays so: who releases it asks for exactly that time.
        self.db.execute("UPDATE changes SET due_at = ?1 WHERE due_at > ?1 AND due_at <> ?2", [latest, HELD])?;
        self.db.execute(
            "UPDATE changes SET due_at = ?1 WHERE directory_id IN
               (SELECT d.id FROM directories d JOIN mirrors m ON m.id = d.mirror_id WHERE m.active = 0)",
            [HELD],
        )?;
        Ok(())
    }

    /// Has everything that waits for a time due earlier by so many milliseconds: the clock was set back by as much (D14).
    ///
    /// # Errors
    /// As SQLite says.
    pub fn bring_forward(&self, by: Millis) -> Result<(), LedgerError> {
        // Far from the smallest number, for what is due at any time anyway.
        self.db.execute(
            // Those that workers have, too: one that was pushed again meanwhile keeps its time when it is put back.
            "UPDATE changes SET due_at = max(due_at, ?1) - ?1 WHERE due_at <> ?2",
            [by, HELD],
        )?;
        // A pause of two hours is no longer for it.
        self.db.execute(
            "UPDATE steering SET paused_until = paused_until - ?1 WHERE paused_until <> ?2",
            [by, UNTIL_RESUMED],
        )?;
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

    fn record(&self, claim: &Claim, settlement: &Settlement, now: Millis) -> Result<(), LedgerError> {
        let key = (claim.directory, &*claim.name);
        match settlement {
            Settlement::Nothing => return Ok(()),
            Settlement::NothingBelow => self.forget_below(claim.mirror, &claim.path)?,
            Settlement::Stored(stored) => {
                self.put_stored(key, stored)?;
                self.forget_reason(key)?;
                self.forget_below(claim.mirror, &claim.path)?;
            }
            Settlement::Refreshed(stat, mode) => {
                self.put_refreshed(key, stat, *mode)?;
                self.forget_reason(key)?;
                self.forget_below(claim.mirror, &claim.path)?;
            }
            Settlement::Gone => {
                self.forget_file(key)?;
                self.forget_reason(key)?;
                self.forget_below(claim.mirror, &claim.path)?;
            }
            Settlement::Descended => {
                self.forget_file(key)?;
                self.forget_reason(key)?;
            }
            Settlement::Skipped(stat, mode, skip) => {
                self.put_stat(key, State::Skipped, stat, *mode)?;
                self.put_reason(key, skip.code(), skip.message(), claim.attempts, now)?;
                // A mount hides what was stored from below it; that is not gone.
                if !matches!(skip, Skip::Kind(crate::mirror::Kind::Mount)) {
                    self.forget_below(claim.mirror, &claim.path)?;
                }
            }
            Settlement::Ignored => self.ignore_at_and_below(claim.mirror, &claim.path, key, now)?,
            Settlement::Failed { stat, mode, code, message } => {
                self.put_stat(key, State::Failed, stat, *mode)?;
                self.put_reason(key, code, message, claim.attempts + 1, now)?;
                self.forget_below(claim.mirror, &claim.path)?;
            }
        }
        Ok(())
    }

    /// A path's row; `None` if it was never looked at to the end.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn file(&self, mirror: MirrorId, path: &MirrorPath) -> Result<Option<FileRow>, LedgerError> {
        let Some((parent, name)) = path.split() else { return Ok(None) };
        match self.known_directory(mirror, &parent)? {
            Some(directory) => self.file_row((directory, name)),
            None => Ok(None),
        }
    }

    fn put_reason(
        &self,
        key: (i64, &[u8]),
        code: &str,
        message: &str,
        attempts: u32,
        now: Millis,
    ) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "INSERT INTO reasons (directory_id, name, code, message, attempts, since)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT DO UPDATE SET message = excluded.message, attempts = excluded.attempts,
                   since = iif(code = excluded.code, since, excluded.since), code = excluded.code",
            )?
            .execute((key.0, key.1, code, message, attempts, now))?;
        Ok(())
    }

    fn forget_reason(&self, key: (i64, &[u8])) -> Result<(), LedgerError> {
        self.db.prepare_cached("DELETE FROM reasons WHERE directory_id = ?1 AND name = ?2")?.execute(key)?;
        Ok(())
    }

    /// The path is no directory (any more): what the ledger has below it is gone.
    fn forget_below(&self, mirror: MirrorId, path: &MirrorPath) -> Result<(), LedgerError> {
        if self.known_directory(mirror, path)?.is_some() {
            forget_state(&self.db, mirror, path)?;
        }
        Ok(())
    }
}

/// The claim in a row of a query for some, in the directory `parent`.
fn claim_of(row: &Row<'_>, mirror: MirrorId, parent: Option<MirrorPath>) -> Result<Claim, LedgerError> {
    let name: Vec<u8> = row.get(1)?;
    let path = parent
        .and_then(|dir| dir.join(&name))
        .ok_or_else(|| LedgerError::Nonsense("a change whose path is none".into()))?;
    Ok(Claim {
        mirror,
        path,
        attempts: row.get(3)?,
        since: row.get(4)?,
        code: row.get(7)?,
        is_heard: row.get(8)?,
        is_unsure: row.get(9)?,
        recorded: None,
        directory: row.get(0)?,
        name: name.into(),
        generation: row.get(2)?,
    })
}

fn bits_in_count(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}
