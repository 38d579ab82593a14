//! The files' rows: what was seen of each path and what dStor holds of it.

use rusqlite::{Row, ToSql};

use super::{Ledger, LedgerError, Millis, MirrorId, Stored, bits_in, bits_out};
use crate::mirror::{Cid, Digest, MirrorPath, Recorded, Sealed, Skip, Stat, State, Timestamp};

/// What the ledger has of a directory, for a scan: its files in the order of their names, and its subdirectories.
#[derive(Default, Debug)]
pub struct Listing {
    /// Name and row, ordered by name.
    pub files: Vec<(Box<[u8]>, Recorded)>,
    /// Names, ordered.
    pub directories: Vec<Box<[u8]>>,
}

/// Which rows below a directory count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Below {
    /// All that are not gone.
    Present,
    /// Those of files that the mirror takes: stored or failed.
    Taken,
}

/// What dStor holds of a path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Held {
    /// The digest of its bytes.
    pub digest: Digest,
    /// What was sent in their place, if they were encrypted.
    pub sealed: Option<Sealed>,
    /// What dStor answered.
    pub hash: Cid,
    /// `cid`, `read` or nothing.
    pub proof: Option<String>,
    /// When.
    pub at: Millis,
    /// Whether it goes by a pseudonym there.
    pub is_name_hidden: bool,
}

/// A path's row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRow {
    /// What decisions need.
    pub recorded: Recorded,
    /// What dStor holds.
    pub held: Option<Held>,
}

/// Whether the file `f` is left out because it looked like it holds a secret. Asked only of what is left out.
pub(super) const GUARDED: &str = "CASE f.state WHEN 2 THEN EXISTS (SELECT 1 FROM reasons g
    WHERE g.directory_id = f.directory_id AND g.name = f.name AND g.code = 'secret?') ELSE 0 END";
pub(super) const FILE: &str =
    "f.state, f.size, f.mtime_s, f.mtime_ns, f.ctime_s, f.ctime_ns, f.inode, f.blake3, f.hash, f.proof, f.stored_at,
     f.sealed_blake3, f.sealed_size";
/// All directories at and below ?2 of mirror ?1: two ranges of the index.
const BELOW: &str = "SELECT id FROM directories WHERE mirror_id = ?1 AND path = ?2
    UNION ALL SELECT id FROM directories WHERE mirror_id = ?1 AND path > CAST(?2 || '/' AS BLOB)
    AND path < CAST(?2 || '0' AS BLOB)"; // `0` follows `/` in ASCII
/// The same for the top, whose path is empty: all of them.
const ALL: &str = "SELECT id FROM directories WHERE mirror_id = ?1 AND path >= ?2";

pub(super) fn at_and_below(dir: &MirrorPath) -> &'static str {
    if dir.is_top() { ALL } else { BELOW }
}

impl Ledger {
    /// What the ledger has of a mirror's directory.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn listing(&self, mirror: MirrorId, dir: &MirrorPath) -> Result<Listing, LedgerError> {
        let Some(id) = self.known_directory(mirror, dir)? else { return Ok(Listing::default()) };
        let mut listing = Listing::default();
        // By their numbers: looking a column up by its name is done anew for each row.
        let mut files = self.db.prepare_cached(&format!(
            "SELECT state, size, mtime_s, mtime_ns, ctime_s, ctime_ns, inode, blake3, unsure, {GUARDED},
               sealed_size IS NOT NULL, name
             FROM files f WHERE directory_id = ?1 ORDER BY name"
        ))?;
        let mut rows = files.query([id])?;
        while let Some(row) = rows.next()? {
            let name = row.get_ref(11)?.as_blob().map_err(rusqlite::Error::from)?;
            listing.files.push((name.into(), recorded(row, 8)?));
        }
        let mut directories =
            self.db.prepare_cached("SELECT path FROM directories WHERE parent_id = ?1 ORDER BY path")?;
        let mut rows = directories.query([id])?;
        while let Some(row) = rows.next()? {
            let path: Vec<u8> = row.get(0)?;
            let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            listing.directories.push(name.into());
        }
        Ok(listing)
    }

    /// Whether there are such rows at or below a directory.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn has_below(&self, mirror: MirrorId, dir: &MirrorPath, which: Below) -> Result<bool, LedgerError> {
        let states = match which {
            Below::Present => "(0, 1, 2)",
            Below::Taken => "(0, 1)",
        };
        let found: bool = self
            .db
            .prepare_cached(&format!(
                "SELECT EXISTS (SELECT 1 FROM files WHERE directory_id IN ({}) AND state IN {states})",
                at_and_below(dir)
            ))?
            .query_row((mirror.0, dir.as_bytes()), |row| row.get(0))?;
        Ok(found)
    }

    /// What the ledger records of a path.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn recorded(&self, mirror: MirrorId, path: &MirrorPath) -> Result<Option<Recorded>, LedgerError> {
        Ok(self.file(mirror, path)?.map(|row| row.recorded))
    }

    /// Some stored files of a mirror, for recognising its directory again.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn some_stored(&self, mirror: MirrorId, limit: u32) -> Result<Vec<(MirrorPath, Stat)>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {FILE}, f.name, d.path, f.unsure, 0, 0 FROM files f JOIN directories d ON d.id = f.directory_id
             WHERE d.mirror_id = ?1 AND f.state = 0 LIMIT ?2"
        ))?;
        let mut rows = statement.query((mirror.0, limit))?;
        let mut some = Vec::new();
        while let Some(row) = rows.next()? {
            let (name, dir): (Vec<u8>, Vec<u8>) = (row.get(13)?, row.get(14)?);
            if let Some(path) = MirrorPath::from_bytes(&dir).and_then(|dir| dir.join(&name)) {
                some.push((path, recorded(row, 15)?.stat));
            }
        }
        Ok(some)
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

    pub(super) fn file_row(&self, key: (i64, &[u8])) -> Result<Option<FileRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {FILE}, f.unsure, {GUARDED}, f.sealed_size IS NOT NULL, f.pseudonym IS NOT NULL
             FROM files f WHERE directory_id = ?1 AND name = ?2"
        ))?;
        let mut rows = statement.query(key)?;
        match rows.next()? {
            Some(row) => Ok(Some(FileRow { recorded: recorded(row, 13)?, held: held(row, 16)? })),
            None => Ok(None),
        }
    }

    /// Records what dStor holds now; the time of what it held before has to be ended.
    pub(super) fn put_stored(&self, key: (i64, &[u8]), stored: &Stored) -> Result<(), LedgerError> {
        let Stored { stat, mode, digest, sealed, hash, is_proved, is_name_hidden, at } = stored;
        self.db
            .prepare_cached(
                "INSERT INTO files (directory_id, name, state, size, mtime_s, mtime_ns, ctime_s, ctime_ns, inode, mode,
                   blake3, hash, proof, stored_at, sealed_blake3, sealed_size, pseudonym)
                 VALUES (?1, ?2, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
                 ON CONFLICT DO UPDATE SET state = 0, size = excluded.size, mtime_s = excluded.mtime_s,
                   mtime_ns = excluded.mtime_ns, ctime_s = excluded.ctime_s, ctime_ns = excluded.ctime_ns,
                   inode = excluded.inode, mode = excluded.mode, blake3 = excluded.blake3, hash = excluded.hash,
                   proof = excluded.proof, stored_at = excluded.stored_at, unsure = 0,
                   sealed_blake3 = excluded.sealed_blake3, sealed_size = excluded.sealed_size,
                   pseudonym = excluded.pseudonym",
            )?
            .execute(rusqlite::params![
                key.0,
                key.1,
                bits_in(stat.size),
                stat.mtime.seconds,
                stat.mtime.nanos,
                stat.ctime.seconds,
                stat.ctime.nanos,
                bits_in(stat.inode),
                mode,
                digest.as_bytes().as_slice(),
                hash.as_str(),
                is_proved.then_some("cid"),
                at,
                sealed.as_ref().map(|sealed| sealed.digest.as_bytes().as_slice()),
                sealed.map(|sealed| bits_in(sealed.size)),
                is_name_hidden.then_some(1),
            ])?;
        Ok(())
    }

    /// Records the version that was looked at, and that it is not stored; what dStor holds of the path stays as it is.
    pub(super) fn put_stat(
        &self,
        key: (i64, &[u8]),
        state: State,
        (stat, mode): (&Stat, u32),
        now: Millis,
    ) -> Result<(), LedgerError> {
        self.begin_again(key, now)?;
        self.db
            .prepare_cached(
                "INSERT INTO files (directory_id, name, state, size, mtime_s, mtime_ns, ctime_s, ctime_ns, inode, mode)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT DO UPDATE SET state = excluded.state, size = excluded.size, mtime_s = excluded.mtime_s,
                   mtime_ns = excluded.mtime_ns, ctime_s = excluded.ctime_s, ctime_ns = excluded.ctime_ns,
                   inode = excluded.inode, mode = excluded.mode",
            )?
            .execute(rusqlite::params![
                key.0,
                key.1,
                state_number(state),
                bits_in(stat.size),
                stat.mtime.seconds,
                stat.mtime.nanos,
                stat.ctime.seconds,
                stat.ctime.nanos,
                bits_in(stat.inode),
                mode,
            ])?;
        Ok(())
    }

    /// Records that the bytes are those that dStor holds, of which there has to be a record.
    pub(super) fn put_refreshed(
        &self,
        key: (i64, &[u8]),
        (stat, mode): (&Stat, u32),
        now: Millis,
    ) -> Result<(), LedgerError> {
        self.begin_again(key, now)?;
        self.db
            .prepare_cached(
                "UPDATE files SET state = 0, size = ?3, mtime_s = ?4, mtime_ns = ?5, ctime_s = ?6, ctime_ns = ?7,
                   inode = ?8, mode = ?9
                 WHERE directory_id = ?1 AND name = ?2",
            )?
            .execute(rusqlite::params![
                key.0,
                key.1,
                bits_in(stat.size),
                stat.mtime.seconds,
                stat.mtime.nanos,
                stat.ctime.seconds,
                stat.ctime.nanos,
                bits_in(stat.inode),
                mode,
            ])?;
        Ok(())
    }

    /// The path is no file any more: `gone` if dStor holds it, else there is nothing to tell.
    pub(super) fn forget_file(&self, key: (i64, &[u8]), now: Millis) -> Result<(), LedgerError> {
        self.end_version(key, now)?;
        self.db
            .prepare_cached("DELETE FROM files WHERE directory_id = ?1 AND name = ?2 AND hash IS NULL")?
            .execute(key)?;
        self.db
            .prepare_cached("UPDATE files SET state = 3 WHERE directory_id = ?1 AND name = ?2 AND state <> 3")?
            .execute(key)?;
        Ok(())
    }

    /// Marks everything below a directory gone, and forgets what dStor never held.
    pub(super) fn forget_state(&self, mirror: MirrorId, dir: &MirrorPath, now: Millis) -> Result<(), LedgerError> {
        self.end_versions_below(mirror, dir, now)?;
        for sql in [
            "DELETE FROM reasons WHERE directory_id IN ({below})",
            "DELETE FROM files WHERE directory_id IN ({below}) AND hash IS NULL",
            "UPDATE files SET state = 3 WHERE directory_id IN ({below}) AND state <> 3",
        ] {
            self.db.prepare_cached(&sql.replace("{below}", at_and_below(dir)))?.execute((mirror.0, dir.as_bytes()))?;
        }
        Ok(())
    }

    pub(super) fn ignore_at_and_below(
        &self,
        mirror: MirrorId,
        path: &MirrorPath,
        key: (i64, &[u8]),
        now: Millis,
    ) -> Result<(), LedgerError> {
        let below = format!("directory_id IN ({})", at_and_below(path));
        let scopes: [(&str, &dyn ToSql, &dyn ToSql); 2] =
            [("directory_id = ?1 AND name = ?2", &key.0, &key.1), (&below, &mirror.0, &path.as_bytes())];
        for (scope, one, two) in scopes {
            self.db
                .prepare_cached(&format!(
                    "INSERT OR REPLACE INTO reasons SELECT directory_id, name, '{}', '{}', 0, ?3 FROM files
                     WHERE {scope} AND state IN (0, 1) AND hash IS NOT NULL",
                    Skip::Ignored.code(),
                    Skip::Ignored.message()
                ))?
                .execute((one, two, now))?;
            for sql in [
                "UPDATE files SET state = 2 WHERE {scope} AND state IN (0, 1) AND hash IS NOT NULL",
                "DELETE FROM reasons WHERE (directory_id, name) IN
                   (SELECT directory_id, name FROM files WHERE {scope} AND hash IS NULL)",
                "DELETE FROM files WHERE {scope} AND hash IS NULL",
            ] {
                self.db.prepare_cached(&sql.replace("{scope}", scope))?.execute((one, two))?;
            }
        }
        Ok(())
    }
}

/// What begins with the columns of [`FILE`] up to the digest; `unsure` is the number of the column of that name, which
/// [`GUARDED`] follows, and then whether what dStor holds is encrypted.
pub(super) fn recorded(row: &Row<'_>, unsure: usize) -> Result<Recorded, LedgerError> {
    let digest: Option<[u8; 32]> = row.get(7)?;
    let is_unsure: bool = row.get(unsure)?;
    Ok(Recorded {
        state: state_of(row.get(0)?)?,
        stat: Stat {
            size: bits_out(row.get(1)?),
            mtime: Timestamp { seconds: row.get(2)?, nanos: row.get(3)? },
            ctime: Timestamp { seconds: row.get(4)?, nanos: row.get(5)? },
            inode: bits_out(row.get(6)?),
        },
        digest: digest.filter(|_| !is_unsure).map(Digest::from_bytes),
        is_guarded: row.get(unsure + 1)?,
        is_sealed: row.get(unsure + 2)?,
    })
}

/// What begins with the columns of [`FILE`]; `hidden` is the number of the column that tells whether its name is.
pub(super) fn held(row: &Row<'_>, hidden: usize) -> Result<Option<Held>, LedgerError> {
    let digest: Option<[u8; 32]> = row.get(7)?;
    let hash: Option<String> = row.get(8)?;
    let Some((digest, hash)) = digest.zip(hash) else { return Ok(None) };
    Ok(Some(Held {
        digest: Digest::from_bytes(digest),
        sealed: sealed(row.get(11)?, row.get(12)?),
        hash: Cid::parse(&hash).map_err(|_| LedgerError::Nonsense("a hash that is none".into()))?,
        proof: row.get(9)?,
        at: row.get(10)?,
        is_name_hidden: row.get(hidden)?,
    }))
}

/// What was sent in the place of a file's bytes, from the columns that tell.
pub(super) fn sealed(digest: Option<[u8; 32]>, size: Option<i64>) -> Option<Sealed> {
    digest.zip(size).map(|(digest, size)| Sealed { digest: Digest::from_bytes(digest), size: bits_out(size) })
}

fn state_number(state: State) -> i64 {
    match state {
        State::Stored => 0,
        State::Failed => 1,
        State::Skipped => 2,
        State::Gone => 3,
    }
}

fn state_of(number: i64) -> Result<State, LedgerError> {
    [State::Stored, State::Failed, State::Skipped, State::Gone]
        .into_iter()
        .find(|state| state_number(*state) == number)
        .ok_or_else(|| LedgerError::Nonsense(format!("state {number}")))
}
