//! Which version of each file there was at which time: written where a version's time ends, read for any time that is asked for.

use rusqlite::Row;

use super::files::{at_and_below, sealed};
use super::{Held, Ledger, LedgerError, Millis, MirrorId, bits_out};
use crate::mirror::{Cid, Digest, MirrorPath};

/// The versions of all names ?2 and after it in directory ?1 that were there at ?4, at most ?3: the first row after that time
/// says it, or the row in files if there is none. A version that was stored after that time, by a clock that was set back
/// since, says nothing of it. Both halves come in the order of names, so nothing is sorted.
pub(super) const THEN: &str =
    "SELECT h.name, iif(h.size IS NULL, 3, 0), NULL, h.blake3, h.hash, coalesce(h.size, 0), h.mtime_s, h.mtime_ns, h.mode,
       h.stored_at, h.proof, h.sealed_blake3, h.sealed_size, h.pseudonym IS NOT NULL
     FROM history h WHERE h.directory_id = ?1 AND h.name >= ?2 AND h.at > ?4 AND h.hash IS NOT NULL AND h.stored_at <= ?4
       AND NOT EXISTS (SELECT 1 FROM history e WHERE e.directory_id = h.directory_id AND e.name = h.name
         AND e.at > ?4 AND e.at < h.at AND (e.hash IS NULL OR e.stored_at <= ?4))
     UNION ALL
     SELECT f.name, iif(f.state = 0, 0, 3), NULL, f.blake3, f.hash, f.size, f.mtime_s, f.mtime_ns, f.mode, f.stored_at,
       f.proof, f.sealed_blake3, f.sealed_size, f.pseudonym IS NOT NULL
     FROM files f WHERE f.directory_id = ?1 AND f.name >= ?2 AND f.state <> 3 AND f.hash IS NOT NULL AND f.stored_at <= ?4
       AND NOT EXISTS (SELECT 1 FROM history e WHERE e.directory_id = f.directory_id AND e.name = f.name
         AND e.at > ?4 AND (e.hash IS NULL OR e.stored_at <= ?4))
     ORDER BY 1 LIMIT ?3";

/// Something in the life of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moment {
    /// When.
    pub at: Millis,
    /// What.
    pub event: Turn,
}

/// What can happen to a file, as far as what dStor holds of it is concerned.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Turn {
    /// dStor stored a version, of so many bytes if that is known.
    Stored(Held, Option<u64>),
    /// It was no longer there.
    Gone,
    /// It was there again, with the bytes of the last version.
    Back,
}

/// What comes before the values of a version whose time ends at ?1; the condition for `f` follows.
const END: &str =
    "INSERT INTO history (directory_id, name, at, blake3, sealed_blake3, sealed_size, hash, proof, size, mtime_s, mtime_ns,
       mode, stored_at, pseudonym)
     SELECT f.directory_id, f.name, max(?1, f.stored_at + 1, coalesce((SELECT max(h.at) + 1 FROM history h
         WHERE h.directory_id = f.directory_id AND h.name = f.name), 0)),
       f.blake3, f.sealed_blake3, f.sealed_size, f.hash, f.proof, iif(f.state = 0, f.size, NULL), f.mtime_s, f.mtime_ns, f.mode, f.stored_at,
       f.pseudonym
     FROM files f WHERE f.hash IS NOT NULL AND f.state <> 3 AND ";

impl Ledger {
    /// The version of a path that dStor holds is about to be the last one no more, or its file is about to be gone.
    pub(super) fn end_version(&self, key: (i64, &[u8]), now: Millis) -> Result<(), LedgerError> {
        self.db.prepare_cached(&format!("{END} f.directory_id = ?2 AND f.name = ?3"))?.execute((now, key.0, key.1))?;
        Ok(())
    }

    /// Everything below a directory is about to be gone.
    pub(super) fn end_versions_below(
        &self,
        mirror: MirrorId,
        dir: &MirrorPath,
        now: Millis,
    ) -> Result<(), LedgerError> {
        let below = at_and_below(dir).replace("?2", "?3").replace("?1", "?2");
        self.db.prepare_cached(&format!("{END} f.directory_id IN ({below})"))?.execute((
            now,
            mirror.0,
            dir.as_bytes(),
        ))?;
        Ok(())
    }

    /// A file that was gone is there again: nothing, if it was not gone.
    pub(super) fn begin_again(&self, key: (i64, &[u8]), now: Millis) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "INSERT INTO history (directory_id, name, at)
                 SELECT f.directory_id, f.name, max(?1, coalesce((SELECT max(h.at) + 1 FROM history h
                   WHERE h.directory_id = f.directory_id AND h.name = f.name), 0))
                 FROM files f WHERE f.directory_id = ?2 AND f.name = ?3 AND f.state = 3",
            )?
            .execute((now, key.0, key.1))?;
        Ok(())
    }

    /// What was sent between these times may be missing from the record.
    pub(super) fn note_unrecorded(&self, since: Millis, until: Millis) -> Result<(), LedgerError> {
        self.db.execute("INSERT INTO unrecorded (since, until) VALUES (?1, ?2)", (since, until))?;
        Ok(())
    }

    /// Until when it is not sure what there was at `at`, because not everything of that time is on record; `None`: it is.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn is_unrecorded(&self, at: Millis) -> Result<Option<Millis>, LedgerError> {
        Ok(self
            .db
            .query_row("SELECT max(until) FROM unrecorded WHERE since <= ?1 AND until > ?1", [at], |row| row.get(0))?)
    }

    /// The life of a file, from its first stored version on record.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn life(&self, mirror: MirrorId, path: &MirrorPath) -> Result<Vec<Moment>, LedgerError> {
        let Some((parent, name)) = path.split() else { return Ok(Vec::new()) };
        let Some(directory) = self.known_directory(mirror, &parent)? else { return Ok(Vec::new()) };
        let mut life = Life::default();
        let mut statement = self.db.prepare_cached(
            "SELECT blake3, hash, proof, stored_at, size, sealed_blake3, sealed_size, pseudonym IS NOT NULL, at FROM history
             WHERE directory_id = ?1 AND name = ?2 ORDER BY at",
        )?;
        let mut rows = statement.query((directory, name))?;
        while let Some(row) = rows.next()? {
            let at = row.get(8)?;
            match version_of(row)? {
                Some((held, size)) => life.version(held, size, Some(at)),
                None => life.came_back(at),
            }
        }
        let mut statement = self.db.prepare_cached(
            "SELECT blake3, hash, proof, stored_at, iif(state = 0, size, NULL), sealed_blake3, sealed_size, pseudonym IS NOT NULL,
               state = 3
             FROM files WHERE directory_id = ?1 AND name = ?2",
        )?;
        let mut rows = statement.query((directory, name))?;
        if let Some(row) = rows.next()?
            && let Some((held, size)) = version_of(row)?
        {
            life.version(held, size, None);
            if row.get(8)? {
                life.is_gone();
            }
        }
        Ok(life.moments)
    }

    /// How many files at and below `scope` there were at a time.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn count_then(&self, mirror: MirrorId, scope: &MirrorPath, at: Millis) -> Result<u64, LedgerError> {
        let mut count = 0;
        let mut holdings = self.holdings_at(mirror, scope, at)?;
        loop {
            match holdings.next_page()?.len() as u64 {
                0 => return Ok(count),
                page => count += page,
            }
        }
    }
}

/// A file's life as it is put together, from the first row to the last.
#[derive(Default)]
struct Life {
    moments: Vec<Moment>,
    /// Which version came last.
    last: Option<(Millis, Cid)>,
    /// When its time ended: by the next one, as may turn out, or because the file was gone.
    ended: Option<Millis>,
}

impl Life {
    fn version(&mut self, held: Held, size: Option<u64>, ends: Option<Millis>) {
        let who = Some((held.at, held.hash.clone()));
        if self.last != who {
            if self.ended.is_some_and(|ended| ended < held.at) {
                self.is_gone();
            }
            self.ended = None;
            self.last = who;
            self.moments.push(Moment { at: held.at, event: Turn::Stored(held, size) });
        }
        self.ended = ends.or(self.ended);
    }

    fn is_gone(&mut self) {
        self.moments.extend(self.ended.take().map(|at| Moment { at, event: Turn::Gone }));
    }

    fn came_back(&mut self, at: Millis) {
        self.is_gone();
        self.moments.push(Moment { at, event: Turn::Back });
    }
}

/// What begins with digest, hash, proof, time, size, what was sent in its place, and whether its name
/// is hidden; `None` if it is no version.
fn version_of(row: &Row<'_>) -> Result<Option<(Held, Option<u64>)>, LedgerError> {
    let (digest, hash): (Option<[u8; 32]>, Option<String>) = (row.get(0)?, row.get(1)?);
    let Some((digest, hash)) = digest.zip(hash) else { return Ok(None) };
    let held = Held {
        digest: Digest::from_bytes(digest),
        sealed: sealed(row.get(5)?, row.get(6)?),
        hash: Cid::parse(&hash).map_err(|_| LedgerError::Nonsense("a hash that is none".into()))?,
        proof: row.get(2)?,
        at: row.get(3)?,
        is_name_hidden: row.get(7)?,
    };
    Ok(Some((held, row.get::<_, Option<i64>>(4)?.map(bits_out))))
}
