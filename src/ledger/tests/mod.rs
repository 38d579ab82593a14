//! The ledger over real SQLite files: the world that its tests share.

mod emptied;
mod history;
mod listing;
mod model;
mod opening;
mod paths;
mod plans;
mod queue;
mod readings;
mod rescue;
mod sharing;
mod steering;
mod stragglers;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::mirror::{Cid, Digest, Placement, Policy, RemoteDir, Stat, Timestamp};

const HELLO: &str = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";

/// A ledger with one mirror, `/home/ann/photos` to `Photos`.
struct World {
    dir: TempDir,
    ledger: Ledger,
    mirror: MirrorId,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let ledger = Ledger::open(&dir.path().join("ledger.db")).expect("a new ledger");
        let mirror = ledger.activate_mirrors(&[photos()]).expect("a mirror")[0];
        Self { dir, ledger, mirror }
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("ledger.db")
    }

    /// Pushes a path that is due at 0.
    fn push(&self, path: &MirrorPath, urgency: Urgency) {
        self.push_due(path, urgency, 0);
    }

    fn push_due(&self, path: &MirrorPath, urgency: Urgency, due_at: Millis) {
        let push = Push { path: path.clone(), size: 5, due_at };
        self.ledger.push(self.mirror, &[push], urgency, 100).expect("pushed");
    }

    fn claim(&self, now: Millis) -> Vec<Claim> {
        self.ledger.claim(now, 100).expect("claimed")
    }

    /// Claims what is due at 0, which has to be one change.
    fn claim_one(&self) -> Claim {
        let mut claims = self.claim(0);
        assert_eq!(claims.len(), 1, "one change is due");
        claims.remove(0)
    }

    fn settle(&self, claim: &Claim, settlement: &Settlement) {
        self.ledger.settle(claim, settlement, None, 200).expect("settled");
    }

    /// Pushes a path, claims it, and settles it so.
    fn put(&self, path: &str, settlement: &Settlement) {
        self.push(&at(path), Urgency::Event);
        self.settle(&self.claim_one(), settlement);
    }

    fn entry(&self, path: &str) -> Option<Entry> {
        self.entries(path).into_iter().find(|entry| entry.path == at(path))
    }

    fn entries(&self, prefix: &str) -> Vec<Entry> {
        let mut entries = Vec::new();
        let each = |entry| {
            entries.push(entry);
            true
        };
        self.ledger.entries(self.mirror, &at(prefix), each).expect("entries");
        entries
    }

    fn counts(&self) -> Counts {
        self.ledger.counts(self.mirror).expect("counts")
    }

    fn number(&self, sql: &str) -> i64 {
        self.ledger.db.query_row(sql, [], |row| row.get(0)).expect("a number")
    }
}

fn photos() -> MirrorSettings {
    mirror_to("Photos")
}

fn mirror_to(remote: &str) -> MirrorSettings {
    let remote = RemoteDir::parse(remote).expect("a remote directory");
    MirrorSettings {
        service: "https://dstor.test/".into(),
        path: PathBuf::from("/home/ann/photos"),
        policy: Policy::new(Placement::Path(remote)),
        exclude: vec!["*.tmp".into()],
        hidden: true,
    }
}

fn at(path: &str) -> MirrorPath {
    bytes_at(path.as_bytes())
}

fn bytes_at(path: &[u8]) -> MirrorPath {
    MirrorPath::from_bytes(path).expect("a path")
}

fn stat(size: u64) -> Stat {
    let time = Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 };
    Stat { size, mtime: time, ctime: time, inode: 42 }
}

fn stored(size: u64) -> Settlement {
    stored_as(stat(size))
}

fn stored_as(stat: Stat) -> Settlement {
    Settlement::Stored(Stored {
        stat,
        mode: 0o644,
        digest: Digest::of(b"hello"),
        sealed: None,
        hash: Cid::parse(HELLO).expect("a CID"),
        is_proved: true,
        is_name_hidden: false,
        at: 300,
    })
}

fn failed(size: u64) -> Settlement {
    Settlement::Failed { stat: stat(size), mode: 0o644, code: "rejected", message: "dStor does not take it".into() }
}

/// The names in a directory with their bytes.
fn everything_in(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir)
        .expect("a directory")
        .map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name().into_string().expect("UTF-8"), std::fs::read(entry.path()).expect("readable"))
        })
        .collect();
    all.sort();
    all
}
