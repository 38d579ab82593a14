//! What dStor holds of a mirror, for bringing it back: page by page, in the order of directories and names.

use std::collections::VecDeque;

use rusqlite::Row;

use super::files::{at_and_below, sealed};
use super::history::THEN;
use super::{EntryState, Ledger, LedgerError, Millis, MirrorId, bits_out};
use crate::mirror::{Cid, Digest, MirrorPath, Sealed, State, Timestamp};

/// Files, and directories, that are read at a time.
const PAGE: usize = 1_000;

/// A version of a file that dStor holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holding {
    /// Its path below the mirror.
    pub path: MirrorPath,
    /// The state of the path.
    pub state: EntryState,
    /// The digest of its bytes.
    pub digest: Digest,
    /// What was sent in their place, if they were encrypted.
    pub sealed: Option<Sealed>,
    /// What dStor answered when it stored that.
    pub hash: Cid,
    /// Bytes in the version of the file that was last looked at, which is this one where nothing went wrong since.
    pub size: u64,
    /// When that version was last changed.
    pub mtime: Timestamp,
    /// Its permission bits.
    pub mode: u32,
    /// When dStor stored it.
    pub stored_at: Millis,
    /// `cid`, `read` or nothing.
    pub proof: Option<String>,
    /// Whether it goes by a pseudonym there.
    pub is_name_hidden: bool,
}

/// What the ledger has of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shelved {
    /// dStor holds it.
    Held(Holding),
    /// dStor holds nothing of it, in this state.
    NotHeld(MirrorPath, EntryState),
    /// No version of this program writes such a row; its path, or what there is of one.
    Nonsense(Vec<u8>),
}

/// Everything in a directory from the name ?2 on, at most ?3 of it: files, and changes without a file.
const SHELVED: &str =
    "SELECT f.name, f.state, c.claimed, f.blake3, f.hash, f.size, f.mtime_s, f.mtime_ns, f.mode, f.stored_at,
       f.proof, f.sealed_blake3, f.sealed_size, f.pseudonym IS NOT NULL
     FROM files f LEFT JOIN changes c ON c.directory_id = f.directory_id AND c.name = f.name
     WHERE f.directory_id = ?1 AND f.name >= ?2
     UNION ALL
     SELECT c.name, NULL, c.claimed, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL FROM changes c
     WHERE c.directory_id = ?1 AND c.name >= ?2 AND NOT EXISTS
       (SELECT 1 FROM files f WHERE f.directory_id = c.directory_id AND f.name = c.name)
     ORDER BY 1 LIMIT ?3";

/// A listing of what dStor holds at and below a path. No statement is open between two pages, so it may take as long as it
/// likes (D6).
pub struct Holdings<'a> {
    ledger: &'a Ledger,
    mirror: MirrorId,
    scope: MirrorPath,
    /// As of when; `None`: now.
    at: Option<Millis>,
    directories: VecDeque<(i64, Vec<u8>)>,
    /// Where the next page of directories begins; `None`: there is none.
    next_directory: Option<Vec<u8>>,
    /// The directory that is being listed, and where its next page begins.
    here: Option<(i64, Vec<u8>, Vec<u8>)>,
}

impl Ledger {
    /// What dStor holds at and below `scope`.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn holdings(&self, mirror: MirrorId, scope: &MirrorPath) -> Result<Holdings<'_>, LedgerError> {
        self.holdings_as_of(mirror, scope, None)
    }

    /// What there was at and below `scope` at a time, in the versions that dStor held by then. Where a version's size is not
    /// known its state is `gone`, and its size that of another version, or 0.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn holdings_at(&self, mirror: MirrorId, scope: &MirrorPath, at: Millis) -> Result<Holdings<'_>, LedgerError> {
        self.holdings_as_of(mirror, scope, Some(at))
    }

    fn holdings_as_of(
        &self,
        mirror: MirrorId,
        scope: &MirrorPath,
        at: Option<Millis>,
    ) -> Result<Holdings<'_>, LedgerError> {
        let mut directories = VecDeque::new();
        let mut first = Vec::new();
        if !scope.is_top() {
            first = [scope.as_bytes(), b"/"].concat();
            directories.extend(self.known_directory(mirror, scope)?.map(|id| (id, scope.as_bytes().to_vec())));
        }
        let scope = scope.clone();
        Ok(Holdings { ledger: self, mirror, scope, at, directories, next_directory: Some(first), here: None })
    }

    /// How many files at and below `scope` dStor holds that are here.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn count_holdings(&self, mirror: MirrorId, scope: &MirrorPath) -> Result<u64, LedgerError> {
        let count: i64 = self
            .db
            .prepare_cached(&format!(
                "SELECT count(*) FROM files WHERE directory_id IN ({}) AND hash IS NOT NULL AND state <> 3",
                at_and_below(scope)
            ))?
            .query_row((mirror.0, scope.as_bytes()), |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// What dStor holds of the path `file` itself, or held of it at a time.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn holding(
        &self,
        mirror: MirrorId,
        file: &MirrorPath,
        at: Option<Millis>,
    ) -> Result<Option<Shelved>, LedgerError> {
        let Some((parent, name)) = file.split() else { return Ok(None) };
        let Some(id) = self.known_directory(mirror, &parent)? else { return Ok(None) };
        let mut found = self.shelved_from((id, parent.as_bytes()), name, at, 1)?.0;
        Ok(found.pop().filter(|found| found.is_of(file)))
    }

    fn shelved_from(
        &self,
        (directory, dir): (i64, &[u8]),
        from: &[u8],
        at: Option<Millis>,
        most: usize,
    ) -> Result<(Vec<Shelved>, Option<Vec<u8>>), LedgerError> {
        let mut statement = self.db.prepare_cached(if at.is_some() { THEN } else { SHELVED })?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = match at {
            Some(at) => statement.query((directory, from, limit, at))?,
            None => statement.query((directory, from, limit))?,
        };
        let (mut shelved, mut last) = (Vec::new(), None);
        while let Some(row) = rows.next()? {
            let name: Vec<u8> = row.get(0)?;
            shelved.push(shelved_of(row, dir, &name)?);
            last = Some(name);
        }
        let is_full = shelved.len() == most;
        // Nothing comes between a name and itself with a zero at its end.
        Ok((shelved, last.filter(|_| is_full).map(|last| [&*last, &[0]].concat())))
    }
}

impl Holdings<'_> {
    /// The next page; empty at the end.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn next_page(&mut self) -> Result<Vec<Shelved>, LedgerError> {
        loop {
            if self.here.is_none() {
                let Some((id, dir)) = self.next_directory()? else { return Ok(Vec::new()) };
                self.here = Some((id, dir, Vec::new()));
            }
            let Some((id, dir, from)) = self.here.take() else { return Ok(Vec::new()) };
            let (page, next) = self.ledger.shelved_from((id, &dir), &from, self.at, PAGE)?;
            self.here = next.map(|next| (id, dir, next));
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }

    fn next_directory(&mut self) -> Result<Option<(i64, Vec<u8>)>, LedgerError> {
        if self.directories.is_empty()
            && let Some(from) = self.next_directory.take()
        {
            // `0` follows `/` in ASCII.
            let until = (!self.scope.is_top()).then(|| [self.scope.as_bytes(), b"0"].concat());
            let mut statement = self.ledger.db.prepare_cached(
                "SELECT id, path FROM directories WHERE mirror_id = ?1 AND path >= ?2 AND (?3 IS NULL OR path < ?3)
                 ORDER BY path LIMIT ?4",
            )?;
            let mut rows = statement.query((self.mirror.0, from, until, PAGE as i64))?;
            let mut read = 0;
            while let Some(row) = rows.next()? {
                self.directories.push_back((row.get(0)?, row.get(1)?));
                read += 1;
            }
            if read == PAGE {
                self.next_directory = self.directories.back().map(|(_, last)| [&**last, &[0]].concat());
            }
        }
        Ok(self.directories.pop_front())
    }
}

impl Shelved {
    fn is_of(&self, path: &MirrorPath) -> bool {
        match self {
            Self::Held(holding) => holding.path == *path,
            Self::NotHeld(other, _) => other == path,
            Self::Nonsense(_) => false,
        }
    }
}

fn shelved_of(row: &Row<'_>, dir: &[u8], name: &[u8]) -> Result<Shelved, LedgerError> {
    let between: &[u8] = if dir.is_empty() { b"" } else { b"/" };
    let nonsense = || Shelved::Nonsense([dir, between, name].concat());
    let Some(path) = MirrorPath::from_bytes(dir).and_then(|dir| dir.join(name)) else { return Ok(nonsense()) };
    let state = match (row.get::<_, Option<i64>>(2)?, row.get::<_, Option<i64>>(1)?) {
        (Some(0), _) => EntryState::Pending,
        (Some(_), _) => EntryState::Uploading,
        (None, Some(0)) => EntryState::Settled(State::Stored),
        (None, Some(1)) => EntryState::Settled(State::Failed),
        (None, Some(2)) => EntryState::Settled(State::Skipped),
        (None, Some(3)) => EntryState::Settled(State::Gone),
        (None, _) => return Ok(nonsense()),
    };
    let digest: Option<[u8; 32]> = row.get(3)?;
    let Some((digest, hash)) = digest.zip(row.get::<_, Option<String>>(4)?) else {
        return Ok(Shelved::NotHeld(path, state));
    };
    let Ok(hash) = Cid::parse(&hash) else { return Ok(nonsense()) };
    Ok(Shelved::Held(Holding {
        path,
        state,
        digest: Digest::from_bytes(digest),
        sealed: sealed(row.get(11)?, row.get(12)?),
        hash,
        size: bits_out(row.get(5)?),
        mtime: Timestamp { seconds: row.get(6)?, nanos: row.get(7)? },
        mode: row.get(8)?,
        stored_at: row.get::<_, Option<Millis>>(9)?.unwrap_or(0),
        proof: row.get(10)?,
        is_name_hidden: row.get(13)?,
    }))
}
