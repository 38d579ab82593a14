//! What came when stored files were read back: which were read when, and which are not on dStor as they should be.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, Row};

use super::{HELD, Ledger, LedgerError, Millis, MirrorId, bits_out};
use crate::mirror::{Cid, Digest, MirrorPath};

/// The code of a file that dStor does not have, in `status` and wherever reasons are told.
pub const MISSING: &str = "missing";
/// The code of a file for whose hash dStor gives other bytes.
pub const DIFFERENT: &str = "different";

/// What dStor gave for a hash.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Exactly the bytes that were sent.
    Same,
    /// It says that it has nothing under this hash.
    Missing,
    /// Other bytes, or fewer, or more.
    Different,
}

impl Found {
    /// The fixed word for what is wrong; `None` if nothing is.
    #[must_use]
    pub fn code(self) -> Option<&'static str> {
        match self {
            Self::Same => None,
            Self::Missing => Some(MISSING),
            Self::Different => Some(DIFFERENT),
        }
    }

    /// What a person is told, if something is wrong.
    #[must_use]
    pub fn message(self) -> Option<&'static str> {
        match self {
            Self::Same => None,
            Self::Missing => {
                Some("dStor stored it and does not have it any more; `dstor-sync verify --repair` uploads it again")
            }
            Self::Different => {
                Some("dStor gives other bytes than were stored; `dstor-sync verify --repair` uploads it again")
            }
        }
    }

    fn number(self) -> i64 {
        match self {
            Self::Same => 0,
            Self::Missing => 1,
            Self::Different => 2,
        }
    }

    pub(super) fn of(number: i64) -> Result<Self, LedgerError> {
        let all = [Self::Same, Self::Missing, Self::Different];
        all.into_iter()
            .find(|found| found.number() == number)
            .ok_or_else(|| LedgerError::Nonsense(format!("a reading that found {number}")))
    }
}

/// What proves that dStor's hash stands for the bytes that were sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Proof {
    /// It is their identifier.
    Cid,
    /// They were read back under it, and compared.
    Read,
}

impl Proof {
    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Cid => "cid",
            Self::Read => "read",
        }
    }
}

/// When a stored file was last read back, and what came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reading {
    /// What came.
    pub found: Found,
    /// When.
    pub at: Millis,
}

/// A stored file that can be read back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Readable {
    /// Its mirror.
    pub mirror: MirrorId,
    /// Its path there.
    pub path: MirrorPath,
    /// Bytes that were sent for it: its own, or what they became encrypted.
    pub size: u64,
    /// The digest of what was sent.
    pub digest: Digest,
    /// What dStor answered when it stored that.
    pub hash: Cid,
    /// When it was last read back.
    pub read_at: Option<Millis>,
    /// When it was stored: a later answer is about another upload.
    stored_at: Millis,
    directory: i64,
    name: Box<[u8]>,
}

/// Files and directories of mirrors, each with all below it; none: everything in the active mirrors.
pub type Scopes = [(MirrorId, MirrorPath)];

/// Where a listing of what can be read goes on.
#[derive(Clone, Debug)]
pub struct Mark {
    read_at: Millis,
    digest: Digest,
    directory: i64,
    name: Box<[u8]>,
}

impl Readable {
    /// The place behind this file.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark {
            read_at: self.read_at.unwrap_or(NEVER),
            digest: self.digest,
            directory: self.directory,
            name: self.name.clone(),
        }
    }
}

/// The digest of what was sent, and is to come back. `f` is the file.
const SENT: &str = "coalesce(f.sealed_blake3, f.blake3)";

/// Before any time that a reading has.
const NEVER: Millis = -1;

/// Stored, and nothing waits to be done about it: what is to be uploaded anyway is not worth reading. `f` is the file.
const SETTLED: &str = "f.state = 0 AND NOT EXISTS
    (SELECT 1 FROM changes c WHERE c.directory_id = f.directory_id AND c.name = f.name)";

/// The condition for lying in the scopes, on `d` (the directory) and `f`, and what is bound to it in the parameters that
/// follow the first `before`.
fn within(scopes: &Scopes, before: usize) -> (String, Vec<Value>) {
    let mut values = Vec::new();
    let mut parameter = |value: Value| {
        values.push(value);
        format!("?{}", before + values.len())
    };
    let mut conditions = Vec::new();
    for (mirror, path) in scopes {
        let id = parameter(Value::Integer(mirror.0));
        let Some((parent, name)) = path.split() else {
            conditions.push(format!("d.mirror_id = {id}"));
            continue;
        };
        let here = parameter(Value::Blob(path.as_bytes().to_vec()));
        let above = parameter(Value::Blob(parent.as_bytes().to_vec()));
        let name = parameter(Value::Blob(name.to_vec()));
        conditions.push(format!(
            "(d.mirror_id = {id} AND (d.path = {here}
               OR (d.path > CAST({here} || '/' AS BLOB) AND d.path < CAST({here} || '0' AS BLOB))
               OR (d.path = {above} AND f.name = {name})))"
        ));
    }
    if conditions.is_empty() {
        conditions.push("d.mirror_id IN (SELECT id FROM mirrors WHERE active = 1)".into());
    }
    (format!("({})", conditions.join(" OR ")), values)
}

impl Ledger {
    /// At most `limit` stored files within `scopes` that were not read back at `before` or later, the one that was read
    /// longest ago first, from behind `mark` on. Among those that were never read, neighbours have nothing to do with each
    /// other: the first few of them are a fair sample.
    ///
    /// Goes through all files: an index would cost each upload a write, for what is asked now and then.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn readable(
        &self,
        scopes: &Scopes,
        before: Millis,
        mark: Option<&Mark>,
        limit: usize,
    ) -> Result<Vec<Readable>, LedgerError> {
        let (within, mut values) = within(scopes, 6);
        let first =
            Mark { read_at: Millis::MIN, digest: Digest::from_bytes([0; 32]), directory: 0, name: Box::default() };
        let Mark { read_at, digest, directory, name } = mark.cloned().unwrap_or(first);
        let mut all = vec![
            Value::Integer(before),
            Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)),
            Value::Integer(read_at),
            Value::Blob(digest.as_bytes().to_vec()),
            Value::Integer(directory),
            Value::Blob(name.into()),
        ];
        all.append(&mut values);
        // By the digest before the path: it is as good as chance, and the same every time.
        let mut statement = self.db.prepare(&format!(
            "SELECT d.mirror_id, d.path, f.name, coalesce(f.sealed_size, f.size), {SENT}, f.hash, r.read_at, f.stored_at,
               f.directory_id
             FROM files f JOIN directories d ON d.id = f.directory_id
             LEFT JOIN readings r ON r.directory_id = f.directory_id AND r.name = f.name
             WHERE {SETTLED} AND {within} AND coalesce(r.read_at, {NEVER}) < ?1
               AND (coalesce(r.read_at, {NEVER}), {SENT}, f.directory_id, f.name) > (?3, ?4, ?5, ?6)
             ORDER BY coalesce(r.read_at, {NEVER}), {SENT}, f.directory_id, f.name LIMIT ?2"
        ))?;
        let mut rows = statement.query(rusqlite::params_from_iter(all))?;
        let mut readable = Vec::new();
        while let Some(row) = rows.next()? {
            readable.push(readable_of(row)?);
        }
        Ok(readable)
    }

    /// How many stored files there are within `scopes` that [`readable`](Self::readable) would list.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn count_readable(&self, scopes: &Scopes, before: Millis) -> Result<u64, LedgerError> {
        let (within, mut values) = within(scopes, 1);
        values.insert(0, Value::Integer(before));
        let count: i64 = self
            .db
            .prepare(&format!(
                "SELECT count(*) FROM files f JOIN directories d ON d.id = f.directory_id
                 LEFT JOIN readings r ON r.directory_id = f.directory_id AND r.name = f.name
                 WHERE {SETTLED} AND {within} AND coalesce(r.read_at, {NEVER}) < ?1"
            ))?
            .query_row(rusqlite::params_from_iter(values), |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// Takes back readings that are from `now` on, by a clock that was set back since: they would count as fresh until that
    /// time comes again.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn bring_readings_back(&self, now: Millis) -> Result<(), LedgerError> {
        self.db.execute("UPDATE readings SET read_at = ?1 - 1 WHERE read_at >= ?1", [now])?;
        Ok(())
    }

    /// Records what came for files that were read back, and what that proves where they came as they should. What was stored
    /// anew meanwhile is passed over: that reading was about another upload. A file whose bytes did not come has no proof
    /// any more.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn record_readings<'a>(
        &self,
        read: impl IntoIterator<Item = (&'a Readable, Reading, Proof)>,
    ) -> Result<(), LedgerError> {
        let mut put = self.db.prepare_cached(
            "INSERT OR REPLACE INTO readings (directory_id, name, read_at, found)
             SELECT directory_id, name, ?5, ?6 FROM files
             WHERE directory_id = ?1 AND name = ?2 AND hash = ?3 AND stored_at = ?4",
        )?;
        let mut prove = self
            .db
            .prepare_cached("UPDATE files SET proof = ?3 WHERE directory_id = ?1 AND name = ?2 AND proof IS NOT ?3")?;
        for (file, Reading { found, at }, proof) in read {
            let number = found.number();
            let (directory, name) = (file.directory, &file.name);
            if put.execute((directory, name, file.hash.as_str(), file.stored_at, at, number))? > 0 {
                prove.execute((directory, name, (found == Found::Same).then_some(proof.word())))?;
            }
        }
        Ok(())
    }

    /// Has all files within `scopes` that dStor does not have as it should uploaded again; returns how many. They are
    /// sent, not compared: what was stored is no longer what dStor holds.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn repair(&self, scopes: &Scopes, now: Millis) -> Result<u64, LedgerError> {
        let (within, values) = within(scopes, 1);
        let mut all = vec![Value::Integer(now)];
        all.extend(values);
        // A change that is there already, and is held, stays so until its mirror is back, or a person has said so.
        let pushed = self
            .db
            .prepare(&format!(
                "INSERT INTO changes (directory_id, name, size, since, due_at, unsure)
                 SELECT f.directory_id, f.name, f.size, ?1, 0, 1
                 FROM readings r JOIN files f ON f.directory_id = r.directory_id AND f.name = r.name
                 JOIN directories d ON d.id = f.directory_id
                 WHERE r.found <> 0 AND f.state = 0 AND {within}
                 ON CONFLICT DO UPDATE SET generation = generation + 1, unsure = 1, attempts = 0,
                   due_at = iif(due_at = {HELD}, due_at, 0)"
            ))?
            .execute(rusqlite::params_from_iter(all))?;
        Ok(pushed as u64)
    }

    /// How many stored files of a mirror were missing, and how many different, when they were last read back; without
    /// those that are about to be uploaded again.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn count_bad(&self, mirror: MirrorId) -> Result<(u64, u64), LedgerError> {
        let counts: (i64, i64) = self
            .db
            .prepare_cached(&format!(
                // CROSS: in this order, by the index of the few. SQLite would begin with all files of the mirror.
                "SELECT coalesce(sum(r.found = 1), 0), coalesce(sum(r.found = 2), 0)
                 FROM readings r CROSS JOIN files f ON f.directory_id = r.directory_id AND f.name = r.name
                 CROSS JOIN directories d ON d.id = f.directory_id
                 WHERE r.found <> 0 AND d.mirror_id = ?1 AND {SETTLED}"
            ))?
            .query_row([mirror.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok((counts.0.cast_unsigned(), counts.1.cast_unsigned()))
    }

    /// How dStor named the files of a mirror, by a few of those that it stored: how many were looked at, and for how many
    /// of them its hash is the one that was computed here.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn naming(&self, mirror: MirrorId, look_at: u32) -> Result<(u64, u64), LedgerError> {
        let counts: Option<(i64, i64)> = self
            .db
            .prepare_cached(
                "SELECT count(*), coalesce(sum(proof IS 'cid'), 0) FROM
                   (SELECT f.proof FROM directories d JOIN files f ON f.directory_id = d.id
                    LEFT JOIN readings r ON r.directory_id = f.directory_id AND r.name = f.name
                    WHERE d.mirror_id = ?1 AND f.state = 0 AND coalesce(r.found, 0) = 0 LIMIT ?2)",
            )?
            .query_row((mirror.0, look_at), |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        Ok(counts.map_or((0, 0), |(all, alike)| (all.cast_unsigned(), alike.cast_unsigned())))
    }

    /// Runs `work` in a transaction of its own, for who leaves a word beside a running agent. What an error left half done
    /// is taken back.
    ///
    /// # Errors
    /// That of `work`, or of the commit.
    pub fn at_once<T>(&self, work: impl FnOnce(&Self) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        let transaction = rusqlite::Transaction::new_unchecked(&self.db, rusqlite::TransactionBehavior::Immediate)?;
        let done = work(self)?;
        transaction.commit()?;
        Ok(done)
    }
}

fn readable_of(row: &Row<'_>) -> Result<Readable, LedgerError> {
    let (dir, name): (Vec<u8>, Vec<u8>) = (row.get(1)?, row.get(2)?);
    let nonsense = |what: &str| LedgerError::Nonsense(format!("a stored file with {what}"));
    let hash: String = row.get(5)?;
    Ok(Readable {
        mirror: MirrorId(row.get(0)?),
        path: MirrorPath::from_bytes(&dir)
            .and_then(|dir| dir.join(&name))
            .ok_or_else(|| nonsense("a path that is none"))?,
        size: bits_out(row.get(3)?),
        digest: Digest::from_bytes(row.get(4)?),
        hash: Cid::parse(&hash).map_err(|_| nonsense("a hash that is none"))?,
        read_at: row.get(6)?,
        stored_at: row.get(7)?,
        directory: row.get(8)?,
        name: name.into(),
    })
}
