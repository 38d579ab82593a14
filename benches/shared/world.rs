//! The program with a ledger of its own, and a sandbox for it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dstor_sync::ledger::{Ledger, LedgerError, MirrorId, Push, Settlement, SharedLedger, Stored, Urgency};
use dstor_sync::local::{Name, OpenRoot, Tree as _};
use dstor_sync::mirror::{CidBuilder, Digest, MirrorPath, Observed};
use dstor_sync::sandbox::{Options, Phase, Sandbox};

use super::agent::Agent;
use super::receiver;

/// A ledger, a configuration and a sandbox for a tree. The sandbox works in the bench's own process, so that nothing of it
/// counts as the program's.
pub(crate) struct World {
    pub(crate) sandbox: Sandbox,
    _runtime: tokio::runtime::Runtime,
    scratch: tempfile::TempDir,
    _dstor: tempfile::TempDir,
    tree: PathBuf,
}

impl World {
    /// With this as the configuration beside the mirror.
    pub(crate) fn new(tree: &Path, settings: &str) -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let dstor = receiver::directory();
        let options = Options::new(dstor.path().join("dstor"));
        let sandbox = runtime.block_on(Sandbox::start(options)).expect("a sandbox");
        let dir = scratch.path().join("config/dstor-sync");
        std::fs::create_dir_all(&dir).expect("made");
        let config = format!("[[mirror]]\npath = {tree:?}\nremote = \"tree\"\n{settings}");
        std::fs::write(dir.join("config.toml"), config).expect("written");
        Self { sandbox, _runtime: runtime, scratch, _dstor: dstor, tree: tree.to_owned() }
    }

    pub(crate) fn ledger(&self) -> PathBuf {
        self.scratch.path().join("state/ledger.db")
    }

    /// Brings the ledger to where it is after a first sync of the tree: every file stored as it is.
    pub(crate) fn know_everything(&self) {
        let mirror = Ledger::open_read_only(&self.ledger()).expect("a ledger").active_mirrors().expect("read")[0].id;
        let ledger = SharedLedger::open(&self.ledger()).expect("a ledger");
        let root = OpenRoot::open(&self.tree, None).expect("open");
        let mut dirs = vec![MirrorPath::top()];
        while let Some(dir) = dirs.pop() {
            let mut names = root.list(&dir).expect("listed");
            names.sort_by(|one, other| one.bytes.cmp(&other.bytes));
            let is_directory = |name: &Name| name.look.observed.is_directory();
            dirs.extend(names.iter().filter(|name| is_directory(name)).filter_map(|name| dir.join(&name.bytes)));
            ledger.with_blocking(move |ledger| know(ledger, mirror, &dir, &names)).expect("recorded");
        }
    }

    /// One pass, which has to go well.
    pub(crate) fn pass(&self) {
        let status = self.program(&["--quiet", "sync"]).stdout(Stdio::null()).status().expect("started");
        assert!(status.success(), "{status}");
    }

    /// The program with its arguments.
    pub(crate) fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
        command
            .args(arguments)
            .env_remove("DSTOR_SYNC_CONFIG")
            .env("XDG_CONFIG_HOME", self.scratch.path().join("config"))
            .env("DSTOR_SYNC_STATE_DIR", self.scratch.path().join("state"))
            .env("DSTOR_URL", self.sandbox.url())
            .env("DSTOR_API_KEY", self.sandbox.api_key());
        command
    }

    /// Starts the agent.
    pub(crate) fn start(&self) -> Agent {
        Agent::start(&mut self.program(&["run"]))
    }

    /// Requests with files so far.
    pub(crate) fn requests(&self) -> u64 {
        self.sandbox.requests(Phase::Upload) + self.sandbox.requests(Phase::Chunk)
    }

    pub(crate) fn ledger_bytes(&self) -> u64 {
        self.ledger().metadata().expect("there").len()
    }
}

fn know(ledger: &Ledger, mirror: MirrorId, dir: &MirrorPath, names: &[Name]) -> Result<(), LedgerError> {
    let files = |name: &Name| match name.look.observed {
        Observed::File(stat) => dir.join(&name.bytes).map(|path| (path, stat, name.look.mode)),
        _ => None,
    };
    for (path, stat, mode) in names.iter().filter_map(files) {
        ledger.push(mirror, &[Push { path: path.clone(), size: stat.size, due_at: 0 }], Urgency::Scan, 0)?;
        for claim in ledger.claim(1, 1)? {
            let mut cid = CidBuilder::new();
            cid.update(path.as_bytes());
            let stored = Stored {
                stat,
                mode,
                digest: Digest::of(path.as_bytes()),
                sealed: None,
                hash: cid.finish(),
                is_proved: true,
                is_name_hidden: false,
                at: 1,
            };
            ledger.settle(&claim, &Settlement::Stored(stored), None, 1)?;
        }
    }
    Ok(())
}
