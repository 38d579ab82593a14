//! What the cases ask of this program beside what all benches do.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use dstor_sync::ledger::{Entry, Ledger};
use dstor_sync::mirror::MirrorPath;
use dstor_sync::sandbox::Phase;

use crate::shared::agent::Agent;
use crate::shared::measure::Cost;
use crate::shared::tree::{Tree, make};
use crate::shared::world::World;

impl Tree {
    /// A directory that goes with it and is no part of it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.path().with_file_name(name)
    }

    /// Makes the directories of a tree, without files.
    pub(crate) fn make_directories(&self, files: usize) {
        make(&self.path(), "p", files, None);
    }

    /// Makes files in one directory.
    pub(crate) fn make_flat(&self, files: usize, size: usize) {
        for file in 0..files {
            let bytes = format!("f{file:015}").into_bytes().repeat(size.div_ceil(16));
            std::fs::write(self.path().join(format!("file-{file:07}.txt")), &bytes[..size]).expect("written");
        }
    }

    /// As many files more, elsewhere in the tree.
    pub(crate) fn make_more(&self, files: usize, size: usize) {
        make(&self.path(), "q", files, Some(size));
    }
}

impl World {
    /// When the only file of the tree was last changed, by the ledger.
    pub(crate) fn recorded_time(&self) -> Option<SystemTime> {
        let ledger = Ledger::open_read_only(&self.ledger()).ok()?;
        let mirror = ledger.active_mirrors().expect("read").first()?.id;
        let mut time = None;
        let each = |entry: Entry| {
            let mtime = entry.row.map(|row| row.recorded.stat.mtime);
            time = mtime.map(|mtime| SystemTime::UNIX_EPOCH + Duration::new(mtime.seconds as u64, mtime.nanos));
            true
        };
        ledger.entries(mirror, &MirrorPath::top(), each).expect("read");
        time
    }

    /// A first sync, into a ledger and a sandbox of its own that keeps each answer back for `delay`; then both have to
    /// have `wanted`, files and bytes, each file with a proof.
    pub(crate) fn first(tree: &Path, settings: &str, delay: Duration, wanted: (u64, u64)) -> Cost {
        Self::first_and(tree, settings, delay, wanted).0
    }

    /// The same, and the world afterwards.
    pub(crate) fn first_and(tree: &Path, settings: &str, delay: Duration, wanted: (u64, u64)) -> (Cost, Self) {
        let world = Self::new(tree, settings);
        world.sandbox.set_delay(delay);
        let cost = Cost::of(&mut world.program(&["--quiet", "sync"]));
        assert_eq!(world.proved(), wanted, "files and bytes that are proved by the ledger");
        assert_eq!(world.on_dstor(), wanted, "files and bytes that the sandbox has");
        (cost, world)
    }

    /// Publishes the list of its mirror, and returns the list's hash.
    pub(crate) fn publish(&self) -> String {
        let said = self.program(&["--quiet", "manifest", "publish"]).output().expect("started");
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).expect("a hash").trim().to_owned()
    }

    /// Brings what a list has to `dest`, without the ledger, the configuration or the key.
    pub(crate) fn restore(&self, list: &str, dest: &Path) -> Command {
        let mut command = self.program(&["--quiet", "restore", "--from", list]);
        let nowhere = dest.with_file_name("nowhere");
        command
            .arg(dest)
            .env("XDG_CONFIG_HOME", &nowhere)
            .env("DSTOR_SYNC_STATE_DIR", &nowhere)
            .env_remove("DSTOR_API_KEY");
        command
    }

    /// Stored files that have a proof, and bytes in them, by the ledger.
    pub(crate) fn proved(&self) -> (u64, u64) {
        let Ok(ledger) = Ledger::open_read_only(&self.ledger()) else { return (0, 0) };
        let mirrors = ledger.active_mirrors().expect("read");
        let tallies = mirrors.iter().map(|mirror| ledger.counts(mirror.id).expect("read").proved);
        tallies.fold((0, 0), |sum, tally| (sum.0 + tally.files, sum.1 + tally.bytes))
    }

    /// Files that the sandbox has under different names, and bytes in them.
    pub(crate) fn on_dstor(&self) -> (u64, u64) {
        let files = self.sandbox.files().expect("known");
        (files.len() as u64, files.iter().map(|file| file.size).sum())
    }

    /// Requests of every kind so far.
    pub(crate) fn all_requests(&self) -> u64 {
        Phase::ALL.into_iter().map(|phase| self.sandbox.requests(phase)).sum()
    }

    /// `curl -F` of a file to the sandbox, with a token that it has already.
    pub(crate) fn curl(&self, file: &Path) -> Command {
        let url = self.sandbox.url();
        let asked = Command::new("curl")
            .args(["-sf", "--noproxy", "*", "-H", &format!("api-key: {}", self.sandbox.api_key())])
            .arg(format!("{url}/v1/dev/temp-token"))
            .output();
        let answer: serde_json::Value = serde_json::from_slice(&asked.expect("started").stdout).expect("JSON");
        let token = answer["access_token"].as_str().expect("a token");
        let mut command = Command::new("curl");
        command.args(["-sSf", "--noproxy", "*", "-H", &format!("Authorization: Bearer {token}"), "-F"]);
        command.arg(format!("file=@{}", file.display())).arg(format!("{url}/v1/upload/"));
        command
    }
}

impl Agent {
    /// Whether there was such a line in its log.
    pub(crate) fn said(&self, what: &str) -> bool {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|line| line.contains(what))
    }
}
