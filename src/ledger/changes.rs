//! The queue's rows: paths to look at, and who has them. When they are due is in `due`, how they end in `settle`.

use std::ops::ControlFlow;

use rusqlite::Row;

use super::{HELD, Ledger, LedgerError, Millis, MirrorId, bits_in};
use crate::mirror::{MirrorPath, Recorded};

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
    /// How often dStor broke off the upload of this version while it answered others; or, if the last failure was an answer
    /// without sense, how many of those came in a row.
    pub breaks: u32,
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
    pub(super) generation: i64,
}

/// What became of the change that is due first.
#[derive(Clone, Debug)]
pub enum FirstDue {
    /// None is due.
    Nothing,
    /// What is due is not wanted now.
    Refused,
    /// It is taken.
    Taken(Claim),
}

/// More directories than workers can be gathering in.
const MOST_ASKED: usize = 256;

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
                 ON CONFLICT DO UPDATE SET generation = generation + 1, attempts = 0, breaks = 0,
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
        let mut claims = self.due(now, limit)?;
        self.take(&mut claims)?;
        Ok(claims)
    }

    /// Takes the change that is due first in a directory of which `may` says so: it is asked of the first one in each, up to
    /// a number that no agent has workers for.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn claim_if(&self, now: Millis, mut may: impl FnMut(&Claim) -> bool) -> Result<FirstDue, LedgerError> {
        let mut after = (Millis::MIN, i64::MIN);
        for asked in 0..MOST_ASKED {
            let Some((due_at, claim)) = self.first_due(now, after)? else {
                return Ok(if asked == 0 { FirstDue::Nothing } else { FirstDue::Refused });
            };
            if may(&claim) {
                let mut taken = vec![claim];
                self.take(&mut taken)?;
                return Ok(taken.pop().map_or(FirstDue::Nothing, FirstDue::Taken));
            }
            after = (due_at, claim.directory);
        }
        Ok(FirstDue::Refused)
    }

    /// The first change that is due, of those in the order of times and directories that come after one, not taken yet; with
    /// its time.
    fn first_due(&self, now: Millis, after: (Millis, i64)) -> Result<Option<(Millis, Claim)>, LedgerError> {
        let mut due = self.db.prepare_cached(
            "SELECT c.directory_id, c.name, c.generation, c.attempts, c.since, d.mirror_id, d.path,
               c.code, c.heard, c.unsure, c.breaks, c.due_at
             FROM changes c CROSS JOIN directories d ON d.id = c.directory_id
             WHERE c.claimed = 0 AND c.due_at <= ?1 AND (c.due_at, c.directory_id) > (?2, ?3)
             ORDER BY c.due_at, c.directory_id LIMIT 1",
        )?;
        let mut rows = due.query((now.min(HELD - 1), after.0, after.1))?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let parent: Vec<u8> = row.get(6)?;
        Ok(Some((row.get(11)?, claim_of(row, MirrorId(row.get(5)?), MirrorPath::from_bytes(&parent))?)))
    }

    /// At most `limit` changes that are due, not taken yet.
    fn due(&self, now: Millis, limit: u32) -> Result<Vec<Claim>, LedgerError> {
        let mut due = self.db.prepare_cached(
            "SELECT c.directory_id, c.name, c.generation, c.attempts, c.since, d.mirror_id, d.path,
               c.code, c.heard, c.unsure, c.breaks
             FROM changes c JOIN directories d ON d.id = c.directory_id
             WHERE c.claimed = 0 AND c.due_at <= ?1 ORDER BY c.due_at LIMIT ?2",
        )?;
        let mut claims = Vec::new();
        let mut rows = due.query((now.min(HELD - 1), limit))?;
        while let Some(row) = rows.next()? {
            let parent: Vec<u8> = row.get(6)?;
            claims.push(claim_of(row, MirrorId(row.get(5)?), MirrorPath::from_bytes(&parent))?);
        }
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
            "SELECT directory_id, name, generation, attempts, since, size, NULL, code, heard, unsure, breaks
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

    /// Whether a worker has a path.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn is_claimed(&self, mirror: MirrorId, path: &MirrorPath) -> Result<bool, LedgerError> {
        let Some((parent, name)) = path.split() else { return Ok(false) };
        let Some(directory) = self.known_directory(mirror, &parent)? else { return Ok(false) };
        let claimed = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM changes WHERE directory_id = ?1 AND name = ?2 AND claimed = 1)",
            )?
            .query_row((directory, name), |row| row.get(0))?;
        Ok(claimed)
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
        breaks: row.get(10)?,
        recorded: None,
        directory: row.get(0)?,
        name: name.into(),
        generation: row.get(2)?,
    })
}
