//! What a person is told of paths: everything the ledger says of each, page by page.

use rusqlite::Row;

use super::files::{FILE, FileRow, held, recorded};
use super::readings::{Found, Reading};
use super::{HELD, Ledger, LedgerError, Millis, MirrorId, bits_out};
use crate::mirror::{MirrorPath, State};

/// Entries, and directories, that are read at a time.
const PAGE: usize = 1_000;

/// A path's state as a person sees it: that of its change if it has one, else that of its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryState {
    /// Known to differ, waiting its turn.
    Pending,
    /// A worker has it.
    Uploading,
    /// The row's own state.
    Settled(State),
}

impl EntryState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Uploading,
        Self::Settled(State::Stored),
        Self::Settled(State::Failed),
        Self::Settled(State::Skipped),
        Self::Settled(State::Gone),
    ];

    /// The fixed word for it in JSON and on the command line.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Uploading => "uploading",
            Self::Settled(State::Stored) => "stored",
            Self::Settled(State::Failed) => "failed",
            Self::Settled(State::Skipped) => "skipped",
            Self::Settled(State::Gone) => "gone",
        }
    }
}

/// Everything the ledger says of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The path below its mirror.
    pub path: MirrorPath,
    /// Its state.
    pub state: EntryState,
    /// Its row, if it was ever looked at to the end.
    pub row: Option<FileRow>,
    /// Bytes, as last seen.
    pub size: u64,
    /// Why it is failed, skipped or waits: a fixed word and a message.
    pub reason: Option<(String, String)>,
    /// Failures so far.
    pub attempts: u32,
    /// Since when it waits or is failed or skipped.
    pub since: Option<Millis>,
    /// When it is tried next; `None` if not by itself, or not before its mirror is back.
    pub next_attempt_at: Option<Millis>,
    /// What came when it was last read back from dStor.
    pub reading: Option<Reading>,
}

/// Everything that is told of the names in directory ?1 from ?2 on, in their order, at most ?3 of them: of files with their
/// changes and reasons, and of changes without a file.
const ENTRIES: &str =
    "SELECT {FILE}, f.name, f.pseudonym IS NOT NULL, c.claimed, c.size, c.attempts, c.since, c.due_at, c.code, c.message,
       r.code, r.message, r.attempts, r.since, f.unsure, coalesce(r.code = 'secret?', 0), f.sealed_size IS NOT NULL,
       b.read_at, b.found
     FROM files f LEFT JOIN changes c ON c.directory_id = f.directory_id AND c.name = f.name
     LEFT JOIN reasons r ON r.directory_id = f.directory_id AND r.name = f.name
     LEFT JOIN readings b ON b.directory_id = f.directory_id AND b.name = f.name
     WHERE f.directory_id = ?1 AND f.name >= ?2
     UNION ALL
     SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, c.name, NULL,
       c.claimed, c.size, c.attempts, c.since, c.due_at, c.code, c.message, NULL, NULL, NULL, NULL, NULL, NULL,
       NULL, NULL, NULL
     FROM changes c
     WHERE c.directory_id = ?1 AND c.name >= ?2 AND NOT EXISTS
       (SELECT 1 FROM files f WHERE f.directory_id = c.directory_id AND f.name = c.name)
     ORDER BY 14 LIMIT ?3";

/// What is read at a time, and where to go on: `None` at the end.
struct Page<T> {
    items: Vec<T>,
    next: Option<Vec<u8>>,
}

impl<T> Page<T> {
    /// The page of so many rows at most, of which the last had this key.
    fn new(items: Vec<T>, rows: usize, most: usize, last: Vec<u8>) -> Self {
        // Nothing comes between a key and itself with a zero at its end.
        let next = (rows == most).then(|| [&*last, &[0]].concat());
        Self { items, next }
    }
}

impl Ledger {
    /// Calls `each` with everything at and below `prefix`, ordered by directory and name, until it answers `false`.
    ///
    /// `each` may take its time, as it does where a person reads page by page: no statement is open meanwhile, and so no
    /// snapshot that would keep what others write from being folded into the file (D6). What changes in between is told as
    /// it is when its turn comes.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn entries(
        &self,
        mirror: MirrorId,
        prefix: &MirrorPath,
        mut each: impl FnMut(Entry) -> bool,
    ) -> Result<(), LedgerError> {
        if let Some((parent, name)) = prefix.split() {
            if let Some(id) = self.known_directory(mirror, &parent)? {
                let found = self.entries_from(id, &parent, name, 1)?.items;
                if found.into_iter().any(|entry| entry.path == *prefix && !each(entry)) {
                    return Ok(());
                }
            }
            if let Some(id) = self.known_directory(mirror, prefix)?
                && !self.entries_in(id, prefix, &mut each)?
            {
                return Ok(());
            }
        }
        let mut from = Some(if prefix.is_top() { Vec::new() } else { [prefix.as_bytes(), b"/"].concat() });
        while let Some(key) = from {
            let page = self.directories_from(mirror, prefix, &key)?;
            for (id, dir) in page.items {
                if !self.entries_in(id, &dir, &mut each)? {
                    return Ok(());
                }
            }
            from = page.next;
        }
        Ok(())
    }

    /// Directories below `prefix` from this path on, or all of the mirror for its top.
    fn directories_from(
        &self,
        mirror: MirrorId,
        prefix: &MirrorPath,
        from: &[u8],
    ) -> Result<Page<(i64, MirrorPath)>, LedgerError> {
        let end = if prefix.is_top() { "?3 IS NULL" } else { "path < ?3" };
        let mut directories = self.db.prepare_cached(&format!(
            "SELECT id, path FROM directories WHERE mirror_id = ?1 AND path >= ?2 AND {end} ORDER BY path LIMIT ?4"
        ))?;
        // `0` follows `/` in ASCII.
        let until = (!prefix.is_top()).then(|| [prefix.as_bytes(), b"0"].concat());
        let mut rows = directories.query((mirror.0, from, until, PAGE as i64))?;
        let (mut items, mut read, mut last) = (Vec::new(), 0, Vec::new());
        while let Some(row) = rows.next()? {
            last = row.get(1)?;
            items.extend(MirrorPath::from_bytes(&last).map(|path| (row.get(0), path)));
            read += 1;
        }
        let items: Result<Vec<_>, rusqlite::Error> = items.into_iter().map(|(id, path)| Ok((id?, path))).collect();
        Ok(Page::new(items?, read, PAGE, last))
    }

    /// `false` if `each` had enough.
    fn entries_in(
        &self,
        directory: i64,
        dir: &MirrorPath,
        each: &mut impl FnMut(Entry) -> bool,
    ) -> Result<bool, LedgerError> {
        let mut from = Some(Vec::new());
        while let Some(key) = from {
            let page = self.entries_from(directory, dir, &key, PAGE)?;
            for entry in page.items {
                if !each(entry) {
                    return Ok(false);
                }
            }
            from = page.next;
        }
        Ok(true)
    }

    fn entries_from(
        &self,
        directory: i64,
        dir: &MirrorPath,
        from: &[u8],
        most: usize,
    ) -> Result<Page<Entry>, LedgerError> {
        let mut statement = self.db.prepare_cached(&ENTRIES.replace("{FILE}", FILE))?;
        let mut rows = statement.query((directory, from, most as i64))?;
        let (mut items, mut read, mut last) = (Vec::new(), 0, Vec::new());
        while let Some(row) = rows.next()? {
            last = row.get(13)?;
            if let Some(path) = dir.join(&last) {
                items.push(entry(row, path)?);
            }
            read += 1;
        }
        Ok(Page::new(items, read, most, last))
    }
}

fn entry(row: &Row<'_>, path: MirrorPath) -> Result<Entry, LedgerError> {
    let is_recorded = row.get::<_, Option<i64>>(0)?.is_some();
    let file = match is_recorded {
        true => Some(FileRow { recorded: recorded(row, 26)?, held: held(row, 14)? }),
        false => None,
    };
    let claimed: Option<i64> = row.get(15)?;
    let state = match (claimed, &file) {
        (Some(0), _) => EntryState::Pending,
        (Some(_), _) => EntryState::Uploading,
        (None, Some(file)) => EntryState::Settled(file.recorded.state),
        (None, None) => return Err(LedgerError::Nonsense("an entry that is neither file nor change".into())),
    };
    let waits = claimed.is_some();
    let seen: Option<i64> = if waits { row.get(16)? } else { None };
    let reason = |code: usize, message: usize| -> Result<Option<(String, String)>, LedgerError> {
        Ok(row.get::<_, Option<String>>(code)?.zip(row.get(message)?))
    };
    let reading = match row.get::<_, Option<i64>>(29)?.zip(row.get::<_, Option<i64>>(30)?) {
        Some((at, found)) => Some(Reading { found: Found::of(found)?, at }),
        None => None,
    };
    // A stored file has no other reason than that dStor does not give it back.
    let bad = reading.and_then(|Reading { found, .. }| Some((found.code()?.to_owned(), found.message()?.to_owned())));
    let settled =
        || Ok::<_, LedgerError>(reason(22, 23)?.or(bad.filter(|_| state == EntryState::Settled(State::Stored))));
    Ok(Entry {
        size: match (seen, &file) {
            (Some(seen), _) if seen != 0 => bits_out(seen),
            (_, Some(file)) => file.recorded.stat.size,
            (_, None) => 0,
        },
        path,
        state,
        row: file,
        reason: if waits { reason(20, 21)? } else { settled()? },
        attempts: row.get::<_, Option<u32>>(if waits { 17 } else { 24 })?.unwrap_or(0),
        since: row.get(if waits { 18 } else { 25 })?,
        next_attempt_at: row.get::<_, Option<Millis>>(19)?.filter(|at| *at != HELD),
        reading,
    })
}
