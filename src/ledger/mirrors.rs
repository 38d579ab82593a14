//! The mirrors: which directory goes where, who that directory was, and how it is watched.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rusqlite::Row;

use super::{Ledger, LedgerError, Millis, bits_in, bits_out};
use crate::local::Identity;
use crate::mirror::{Guard, NameKey, Names, Placement, Policy, RemoteDir};

/// A mirror's number in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MirrorId(pub(crate) i64);

/// How changes below a mirror come to be known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Watching {
    /// By events of the file system, and a scan now and then.
    Events,
    /// By scans only.
    Polling,
    /// Not at all: its directory is not there, or is another one. Nothing counts as gone.
    Missing,
}

impl Watching {
    /// The fixed word for it in the ledger and in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Polling => "polling",
            Self::Missing => "missing",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::Events, Self::Polling, Self::Missing].into_iter().find(|watching| watching.word() == word)
    }
}

/// A mirror as the configuration has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorSettings {
    /// Which dStor it goes to: what one holds says nothing of another.
    pub service: String,
    /// Its directory, absolute.
    pub path: PathBuf,
    /// Where it goes, and how large files may be.
    pub policy: Policy,
    /// Patterns that leave paths out.
    pub exclude: Vec<String>,
    /// Whether dot files belong to it.
    pub hidden: bool,
}

/// A mirror as the ledger knows it.
#[derive(Clone, Debug)]
pub struct MirrorRow {
    /// Its number.
    pub id: MirrorId,
    /// What the agent that ran last was told of it.
    pub settings: MirrorSettings,
    /// Who the directory was when it was last believed.
    pub root: Option<Identity>,
    /// How it is watched.
    pub watching: Watching,
    /// What a person should know about that.
    pub watch_note: Option<String>,
    /// When a full scan last ended well.
    pub last_scan_at: Option<Millis>,
}

const COLUMNS: &str = "id, service, path, remote, exclude, hidden, max_file_size, root_device, root_inode, watch, watch_note, last_scan_at,
    (SELECT patterns FROM allowances WHERE mirror_id = mirrors.id) AS allowed,
    (SELECT key FROM name_keys WHERE active = 1) AS name_key";

impl Ledger {
    /// Makes exactly these mirrors the active ones, with rows for those that have none, and returns their numbers in
    /// the same order.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn activate_mirrors(&self, mirrors: &[MirrorSettings]) -> Result<Vec<MirrorId>, LedgerError> {
        self.db.execute("UPDATE mirrors SET active = 0", [])?;
        let mut add = self.db.prepare_cached(
            "INSERT INTO mirrors (service, path, remote, exclude, hidden, max_file_size) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (service, path, remote) DO UPDATE SET active = 1, exclude = excluded.exclude, hidden = excluded.hidden,
               max_file_size = excluded.max_file_size
             RETURNING id",
        )?;
        let mut ids = Vec::with_capacity(mirrors.len());
        for MirrorSettings { service, path, policy, exclude, hidden } in mirrors {
            let values = (
                service,
                path.as_os_str().as_bytes(),
                placement_text(&policy.placement),
                serde_json::Value::from(exclude.as_slice()).to_string(),
                hidden,
                bits_in(policy.max_file_size),
            );
            let id = add.query_row(values, |row| row.get(0))?;
            self.allow(MirrorId(id), &policy.guard)?;
            ids.push(MirrorId(id));
        }
        Ok(ids)
    }

    /// Records what a person allowed to be public though it looks like a secret: null for a guard that is off.
    fn allow(&self, id: MirrorId, guard: &Guard) -> Result<(), LedgerError> {
        let patterns = (!guard.is_off()).then_some(guard.allowed());
        if patterns.is_some_and(<[String]>::is_empty) {
            self.db.execute("DELETE FROM allowances WHERE mirror_id = ?1", [id.0])?;
            return Ok(());
        }
        self.db.execute(
            "INSERT INTO allowances (mirror_id, patterns) VALUES (?1, ?2)
             ON CONFLICT DO UPDATE SET patterns = excluded.patterns WHERE patterns <> excluded.patterns",
            (id.0, patterns.map_or(serde_json::Value::Null, serde_json::Value::from).to_string()),
        )?;
        Ok(())
    }

    /// How many files of a mirror are held because they look like they hold secrets.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn count_guarded(&self, id: MirrorId) -> Result<u64, LedgerError> {
        let count: i64 = self
            .db
            .prepare_cached(
                // CROSS: in this order, by the index of the few.
                "SELECT count(*) FROM reasons r CROSS JOIN directories d ON d.id = r.directory_id
                 WHERE r.code = 'secret?' AND d.mirror_id = ?1",
            )?
            .query_row([id.0], |row| row.get(0))?;
        Ok(count.cast_unsigned())
    }

    /// The active mirrors, in the order in which they came.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn active_mirrors(&self) -> Result<Vec<MirrorRow>, LedgerError> {
        let mut rows =
            self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM mirrors WHERE active = 1 ORDER BY id"))?;
        let mut mirrors = Vec::new();
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            mirrors.push(mirror_row(row)?);
        }
        Ok(mirrors)
    }

    /// One mirror.
    ///
    /// # Errors
    /// As SQLite says, also if there is none.
    pub fn mirror(&self, id: MirrorId) -> Result<MirrorRow, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!("SELECT {COLUMNS} FROM mirrors WHERE id = ?1"))?;
        let mut rows = statement.query([id.0])?;
        match rows.next()? {
            Some(row) => mirror_row(row),
            None => Err(LedgerError::Nonsense(format!("there is no mirror {}", id.0))),
        }
    }

    /// Believes that a mirror's directory is this one from now on; `None`: that the next one found there is right.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn believe_root(&self, id: MirrorId, root: Option<Identity>) -> Result<(), LedgerError> {
        self.db.prepare_cached("UPDATE mirrors SET root_device = ?2, root_inode = ?3 WHERE id = ?1")?.execute((
            id.0,
            root.map(|root| bits_in(root.device)),
            root.map(|root| bits_in(root.inode)),
        ))?;
        Ok(())
    }

    /// Records how a mirror is watched. Writes nothing where nothing changed.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn set_watching(&self, id: MirrorId, watching: Watching, note: Option<&str>) -> Result<(), LedgerError> {
        self.db
            .prepare_cached(
                "UPDATE mirrors SET watch = ?2, watch_note = ?3
                 WHERE id = ?1 AND (watch IS NOT ?2 OR watch_note IS NOT ?3)",
            )?
            .execute((id.0, watching.word(), note))?;
        Ok(())
    }

    /// Records that a full scan ended well at `now`.
    ///
    /// # Errors
    /// As SQLite says.
    pub fn scanned(&self, id: MirrorId, now: Millis) -> Result<(), LedgerError> {
        self.db.prepare_cached("UPDATE mirrors SET last_scan_at = ?2 WHERE id = ?1")?.execute((id.0, now))?;
        Ok(())
    }
}

fn mirror_row(row: &Row<'_>) -> Result<MirrorRow, LedgerError> {
    let device: Option<i64> = row.get("root_device")?;
    let inode: Option<i64> = row.get("root_inode")?;
    let watch: String = row.get("watch")?;
    let (remote, exclude): (String, String) = (row.get("remote")?, row.get("exclude")?);
    let allowed: Option<String> = row.get("allowed")?;
    let patterns = |json: &str| -> Result<Vec<String>, LedgerError> {
        serde_json::from_str(json).map_err(|_| LedgerError::Nonsense(format!("patterns `{json}`")))
    };
    let path = PathBuf::from(OsStr::from_bytes(&row.get::<_, Vec<u8>>("path")?));
    let name_key: Option<[u8; 32]> = row.get("name_key")?;
    Ok(MirrorRow {
        id: MirrorId(row.get("id")?),
        settings: MirrorSettings {
            service: row.get("service")?,
            policy: Policy {
                placement: placement_of(&remote)?,
                names: name_key.map_or(Names::Plain, |key| NameKey::new(key).of_mirror(&path)),
                max_file_size: bits_out(row.get("max_file_size")?),
                guard: match allowed.as_deref() {
                    None => Guard::default(),
                    Some("null") => Guard::default().off(),
                    Some(allowed) => Guard::new(patterns(allowed)?),
                },
            },
            path,
            exclude: patterns(&exclude)?,
            hidden: row.get("hidden")?,
        },
        root: device.zip(inode).map(|(device, inode)| Identity { device: bits_out(device), inode: bits_out(inode) }),
        watching: Watching::from_word(&watch).ok_or_else(|| LedgerError::Nonsense(format!("watch `{watch}`")))?,
        watch_note: row.get("watch_note")?,
        last_scan_at: row.get("last_scan_at")?,
    })
}

fn placement_text(placement: &Placement) -> String {
    match placement {
        Placement::Path(dir) => format!("path:{}", dir.as_str()),
        Placement::Id(id) => format!("id:{id}"),
    }
}

fn placement_of(text: &str) -> Result<Placement, LedgerError> {
    let placement = match text.split_once(':') {
        Some(("path", dir)) => RemoteDir::parse(dir).ok().map(Placement::Path),
        Some(("id", id)) => id.parse().ok().map(Placement::Id),
        _ => None,
    };
    placement.ok_or_else(|| LedgerError::Nonsense(format!("remote `{text}`")))
}
