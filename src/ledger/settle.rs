//! How changes end: with the row of their path, or put back until later.

use super::{Claim, Ledger, LedgerError, Millis, MirrorId};
use crate::mirror::{Cid, Digest, Kind, MirrorPath, Sealed, Skip, Stat, State};

/// A file that dStor holds now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// The version whose bytes were sent.
    pub stat: Stat,
    /// Its permission bits.
    pub mode: u32,
    /// The digest of its bytes.
    pub digest: Digest,
    /// What was sent in their place, if they were encrypted.
    pub sealed: Option<Sealed>,
    /// What dStor answered.
    pub hash: Cid,
    /// Whether that is the identifier of what was sent.
    pub is_proved: bool,
    /// Whether it went under a pseudonym.
    pub is_name_hidden: bool,
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

impl Ledger {
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
        // First, so that a row that comes is counted by itself, at once.
        let done = match again_at {
            None => self
                .db
                .prepare_cached("DELETE FROM changes WHERE directory_id = ?1 AND name = ?2 AND generation = ?3")?
                .execute((claim.directory, &claim.name, claim.generation))?,
            Some(at) => self
                .db
                .prepare_cached(
                    "UPDATE changes SET claimed = 0, unsure = 0, attempts = 0, breaks = 0, code = NULL,
                       message = NULL, due_at = ?4
                     WHERE directory_id = ?1 AND name = ?2 AND generation = ?3",
                )?
                .execute((claim.directory, &claim.name, claim.generation, at))?,
        };
        self.record(claim, settlement, now)?;
        if claim.is_unsure && !matches!(settlement, Settlement::Stored(_)) {
            // The change ends, what is not known stays: if the path comes back, it is sent and not compared.
            self.db
                .prepare_cached("UPDATE files SET unsure = 1 WHERE directory_id = ?1 AND name = ?2")?
                .execute((claim.directory, &claim.name))?;
        }
        if done == 0 {
            // A wish to have it sent again, which came meanwhile, is fulfilled by sending alone.
            let is_sent = matches!(settlement, Settlement::Stored(_));
            self.db
                .prepare_cached(
                    "UPDATE changes SET claimed = 0, unsure = iif(?3, 0, unsure) WHERE directory_id = ?1 AND name = ?2",
                )?
                .execute((claim.directory, &claim.name, is_sent))?;
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

    /// Remembers how often what may be the fault of this version itself met it by now: see [`Claim::breaks`].
    ///
    /// # Errors
    /// As SQLite says.
    pub fn note_breaks(&self, claim: &Claim, breaks: u32) -> Result<(), LedgerError> {
        self.db
            .prepare_cached("UPDATE changes SET breaks = ?4 WHERE directory_id = ?1 AND name = ?2 AND generation = ?3")?
            .execute((claim.directory, &claim.name, claim.generation, breaks))?;
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

    fn record(&self, claim: &Claim, settlement: &Settlement, now: Millis) -> Result<(), LedgerError> {
        let key = (claim.directory, &*claim.name);
        match settlement {
            Settlement::Nothing => return Ok(()),
            Settlement::NothingBelow => self.forget_below(claim.mirror, &claim.path, now)?,
            Settlement::Stored(stored) => {
                // What has no row has no version that could end, and no reason.
                if claim.recorded.is_some() {
                    self.end_version(key, stored.at)?;
                    self.forget_reason(key)?;
                }
                self.put_stored(key, stored)?;
                self.put_latest(claim.mirror, stored.at)?;
                self.forget_below(claim.mirror, &claim.path, now)?;
            }
            Settlement::Refreshed(stat, mode) => {
                self.put_refreshed(key, (stat, *mode), now)?;
                self.forget_reason(key)?;
                self.forget_below(claim.mirror, &claim.path, now)?;
            }
            Settlement::Gone => {
                self.forget_file(key, now)?;
                self.forget_reason(key)?;
                self.forget_below(claim.mirror, &claim.path, now)?;
            }
            Settlement::Descended => {
                self.forget_file(key, now)?;
                self.forget_reason(key)?;
            }
            Settlement::Skipped(stat, mode, skip) => {
                self.put_stat(key, State::Skipped, (stat, *mode), now)?;
                self.put_reason(key, skip.code(), &skip.message(), claim.attempts, now)?;
                // A mount hides what was stored from below it; that is not gone.
                if !matches!(skip, Skip::Kind(Kind::Mount)) {
                    self.forget_below(claim.mirror, &claim.path, now)?;
                }
            }
            Settlement::Ignored => self.ignore_at_and_below(claim.mirror, &claim.path, key, now)?,
            Settlement::Failed { stat, mode, code, message } => {
                self.put_stat(key, State::Failed, (stat, *mode), now)?;
                self.put_reason(key, code, message, claim.attempts + 1, now)?;
                self.forget_below(claim.mirror, &claim.path, now)?;
            }
        }
        Ok(())
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
    fn forget_below(&self, mirror: MirrorId, path: &MirrorPath, now: Millis) -> Result<(), LedgerError> {
        if self.known_directory(mirror, path)?.is_some() {
            self.forget_state(mirror, path, now)?;
        }
        Ok(())
    }
}
