//! Whether the ledger tells the truth, by reading back what dStor holds and what is on disk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use dstor_sync::ledger::{Counts, Entry, EntryState, Ledger, LedgerError};
use dstor_sync::mirror::{Digest, MirrorPath, Stat, State, Timestamp};

use crate::world::World;

/// A name for files that the built-in rules leave out.
pub(crate) const LEFT_OUT: &str = ".doc.swp";

/// Reads a world's ledger again and again, and remembers what dStor's hashes stand for.
#[derive(Default)]
pub(crate) struct Truth {
    digests: HashMap<String, Digest>,
    /// Rows that called a file stored, over all readings.
    pub(crate) rows: u64,
}

/// What dStor holds under one name.
struct Held {
    newest: String,
    hashes: BTreeSet<String>,
    /// The run, by the comment it sends along, that sent the newest so far.
    run: u64,
    /// Whether the newest came in after a version of a later run: what a killed agent had handed to the system was taken
    /// in when the next agent was at work.
    is_late: bool,
}

/// What a ledger has of its first mirror; nothing if there is no ledger yet.
pub(crate) fn entries(world: &World) -> Result<(Vec<Entry>, Counts), LedgerError> {
    let mut entries = Vec::new();
    let ledger = match Ledger::open_read_only(&world.state_dir().join("ledger.db")) {
        Err(LedgerError::None(_)) => return Ok((entries, Counts::default())),
        opened => opened?,
    };
    let Some(mirror) = ledger.active_mirrors()?.pop() else { return Ok((entries, Counts::default())) };
    ledger.entries(mirror.id, &MirrorPath::top(), |entry| {
        entries.push(entry);
        true
    })?;
    let counts = ledger.counts(mirror.id)?;
    Ok((entries, counts))
}

impl Truth {
    /// What the ledger says that is not so, while nobody works with it and nothing changes in the mirror.
    pub(crate) fn falsehoods(&mut self, world: &World) -> Vec<String> {
        let mut wrong = damage(&world.state_dir());
        let (entries, counts) = match entries(world) {
            Ok(read) => read,
            Err(error) => {
                wrong.push(format!("the ledger cannot be read: {error:?}"));
                return wrong;
            }
        };
        wrong.extend(miscounted(&entries, &counts));
        let held = held(world);
        for entry in entries {
            let Some(row) = &entry.row else { continue };
            let name = entry.path.to_string();
            let Some(claimed) = &row.held else { continue };
            let hash = claimed.hash.to_string();
            let Some(there) = held.get(&name).filter(|there| there.hashes.contains(&hash)) else {
                wrong.push(format!("`{name}`: dStor never stored {hash} under this name ({:?})", entry.state));
                continue;
            };
            if self.digest(world, &hash) != claimed.digest {
                wrong.push(format!("`{name}`: the digest is not that of {hash} ({:?})", entry.state));
            }
            if entry.state != EntryState::Settled(State::Stored) {
                continue;
            }
            self.rows += 1;
            if there.newest != hash && !there.is_late {
                wrong.push(format!("`{name}`: stored as {hash}, and dStor's newest is {}", there.newest));
            }
            let path = entry.path.under(&world.mirror());
            if stat_of(&path) == Some(row.recorded.stat)
                && Digest::of(&fs::read(&path).expect("read")) != claimed.digest
            {
                wrong.push(format!("`{name}`: stored, its stat unchanged, and other bytes on disk"));
            }
        }
        wrong
    }

    /// Paths whose newest version on dStor came in after one that was sent later. No agent can see it.
    pub(crate) fn overtaken(world: &World) -> Vec<String> {
        held(world).into_iter().filter(|(_, held)| held.is_late).map(|(path, _)| path).collect()
    }

    /// Paths that dStor refused for good.
    pub(crate) fn given_up(world: &World) -> Vec<String> {
        let (entries, _) = entries(world).expect("the ledger");
        let failed = entries.into_iter().filter(|entry| entry.state == EntryState::Settled(State::Failed));
        failed.map(|entry| entry.path.to_string()).collect()
    }

    /// What keeps the world from being at rest, with dStor holding the mirror as it is; empty: nothing.
    pub(crate) fn missing(&mut self, world: &World) -> Vec<String> {
        let entries = match entries(world) {
            Ok((entries, _)) => entries,
            Err(error) => return vec![format!("the ledger cannot be read: {error:?}")],
        };
        let mut wrong = Vec::new();
        let mut stored = BTreeSet::new();
        for entry in &entries {
            match entry.state {
                EntryState::Settled(State::Stored) => {
                    stored.insert(entry.path.as_bytes().to_vec());
                }
                EntryState::Settled(State::Skipped | State::Gone) => {}
                EntryState::Settled(State::Failed) | EntryState::Pending | EntryState::Uploading => {
                    wrong.push(format!("`{}` is {:?}: {:?}", entry.path, entry.state, entry.reason));
                }
            }
        }
        if !wrong.is_empty() {
            return wrong;
        }
        let (mut local, remote) = (world.local(), world.remote());
        local.retain(|path, _| !path.ends_with(LEFT_OUT.as_bytes()));
        for (path, bytes) in &local {
            let name = String::from_utf8_lossy(path);
            match remote.get(path) {
                None => wrong.push(format!("`{name}` is not on dStor")),
                Some(held) if held != bytes => wrong.push(format!("`{name}` has other bytes on dStor")),
                Some(_) if !stored.contains(path) => wrong.push(format!("`{name}` is not on record as stored")),
                Some(_) => {}
            }
        }
        for path in stored.iter().filter(|path| !local.contains_key(*path)) {
            wrong.push(format!("`{}` is on record as stored, and not here", String::from_utf8_lossy(path)));
        }
        wrong
    }

    fn digest(&mut self, world: &World, hash: &str) -> Digest {
        if let Some(digest) = self.digests.get(hash) {
            return *digest;
        }
        let digest = Digest::of(&world.sandbox().content(hash).expect("dStor has what it lists"));
        self.digests.insert(hash.to_owned(), digest);
        digest
    }
}

/// What SQLite finds broken in the file itself. It looks at a copy: a writer that was killed may have left something to be
/// taken back first, and that is up to the next one.
fn damage(state_dir: &Path) -> Vec<String> {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["ledger.db", "ledger.db-wal", "ledger.db-journal"] {
        if state_dir.join(name).exists() {
            fs::copy(state_dir.join(name), copy.path().join(name)).expect("copied");
        }
    }
    let check = || -> rusqlite::Result<Vec<String>> {
        let db = rusqlite::Connection::open(copy.path().join("ledger.db"))?;
        let mut check = db.prepare("PRAGMA integrity_check")?;
        check.query_map([], |row| row.get::<_, String>(0))?.collect()
    };
    match check() {
        Ok(found) if found == ["ok"] => Vec::new(),
        Ok(found) => found.into_iter().map(|what| format!("the ledger is damaged: {what}")).collect(),
        Err(error) => vec![format!("the ledger cannot be checked: {error}")],
    }
}

/// Where the counts that `status` shows are not those of the rows.
fn miscounted(entries: &[Entry], counts: &Counts) -> Option<String> {
    let count = |state| entries.iter().filter(|entry| entry.state == state).count() as u64;
    let counted = EntryState::ALL.map(count);
    let kept = [
        counts.pending.files,
        counts.uploading.files,
        counts.stored.files,
        counts.failed.files,
        counts.skipped.files,
        counts.gone.files,
    ];
    (counted != kept).then(|| format!("the counts are {kept:?}, and the rows {counted:?}"))
}

/// What dStor holds below the mirror's directory there, by path below the mirror.
fn held(world: &World) -> BTreeMap<String, Held> {
    let mut all: BTreeMap<String, Held> = BTreeMap::new();
    for version in world.sandbox().versions().expect("versions") {
        let below = version.directory.strip_prefix("Docs").expect("in the mirror's directory").trim_start_matches('/');
        let path = if below.is_empty() { version.name } else { format!("{below}/{}", version.name) };
        let run = version.comment.and_then(|comment| comment.parse().ok()).unwrap_or(0);
        let held =
            all.entry(path).or_insert(Held { newest: String::new(), hashes: BTreeSet::new(), run, is_late: false });
        held.hashes.insert(version.hash.clone());
        held.is_late = run < held.run && version.hash != held.newest;
        held.newest = version.hash;
        held.run = held.run.max(run);
    }
    all
}

fn stat_of(path: &Path) -> Option<Stat> {
    let meta = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    let time = |seconds, nanos: i64| Timestamp { seconds, nanos: u32::try_from(nanos).expect("below a second") };
    Some(Stat {
        size: meta.size(),
        mtime: time(meta.mtime(), meta.mtime_nsec()),
        ctime: time(meta.ctime(), meta.ctime_nsec()),
        inode: meta.ino(),
    })
}
