//! Two instances of syncthing, which know nobody but each other.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::shared::measure::Cost;
use crate::shared::process::Process;
use crate::shared::receiver;
use crate::tools::{Daemon, content, free_port, wait_until};

/// How long anything may take.
const LONGEST: Duration = Duration::from_secs(3600);
const FOLDER: &str = "folder";

/// A sender over a tree and a receiver with a directory of its own.
pub(crate) struct Syncthing {
    tree: PathBuf,
    _scratch: tempfile::TempDir,
    kept: tempfile::TempDir,
    sender: Instance,
    receiver: Instance,
}

/// Where an instance lives, and where it listens.
struct Instance {
    home: PathBuf,
    id: String,
    port: u16,
    gui: u16,
}

/// Instances at work.
pub(crate) struct Pair {
    begun: Instant,
    sender: Daemon,
    receiver: Option<Daemon>,
}

impl Syncthing {
    pub(crate) fn new(tree: &Path) -> Self {
        let scratch = tempfile::tempdir().expect("a directory");
        let sender = Instance::generate(scratch.path().join("sender"));
        let kept = receiver::directory();
        let receiver = Instance::generate(kept.path().join("receiver"));
        let copy = kept.path().join("copy");
        for (instance, other, path, kind) in
            [(&sender, &receiver, tree, "sendonly"), (&receiver, &sender, &copy, "receiveonly")]
        {
            std::fs::create_dir_all(path.join(".stfolder")).expect("made");
            std::fs::write(instance.home.join("config.xml"), instance.config(other, path, kind)).expect("written");
        }
        Self { tree: tree.to_owned(), _scratch: scratch, kept, sender, receiver }
    }

    /// Files and bytes that arrived.
    fn arrived(&self) -> (u64, u64) {
        content(&self.kept.path().join("copy"))
    }

    /// A first sync, from the start of both until the receiver has `wanted`, files and bytes.
    pub(crate) fn first(&self, wanted: (u64, u64)) -> Cost {
        let pair = self.start(true);
        // It is asked, not looked at: to walk its files again and again would be in its way.
        wait_until("syncthing is in sync", LONGEST, || {
            std::thread::sleep(Duration::from_millis(200));
            self.receiver
                .status()
                .is_some_and(|status| status["state"] == "idle" && status["localFiles"].as_u64() == Some(wanted.0))
        });
        let cost = pair.cost();
        assert_eq!(self.arrived(), wanted, "files and bytes that syncthing brought");
        cost
    }

    /// From the sender's start until it has compared everything with what it knows, and watches.
    pub(crate) fn restart(&self, files: u64) -> (Cost, Pair) {
        let pair = self.start(false);
        wait_until("syncthing watches", LONGEST, || {
            // Not more often: each question is a process, and the processors are syncthing's.
            std::thread::sleep(Duration::from_millis(30));
            // `scanning` comes first, and its count is of what it knew before.
            self.sender.has_scanned()
        });
        let cost = pair.cost();
        let status = self.sender.status().expect("it answers");
        assert_eq!((&status["state"], status["localFiles"].as_u64()), (&"idle".into(), Some(files)), "{status}");
        (cost, pair)
    }

    fn start(&self, with_receiver: bool) -> Pair {
        let begun = Instant::now();
        let receiver = with_receiver.then(|| self.receiver.start());
        Pair { begun, sender: self.sender.start(), receiver }
    }
}

impl Drop for Syncthing {
    fn drop(&mut self) {
        // Its mark in the tree; the rest lies in the directory of its own.
        let _ = std::fs::remove_dir_all(self.tree.join(".stfolder"));
    }
}

impl Pair {
    pub(crate) fn process(&self) -> Process {
        self.sender.process()
    }

    /// What the sender took so far.
    fn cost(&self) -> Cost {
        let took = self.begun.elapsed();
        let _ = &self.receiver;
        let process = self.process();
        Cost { took, cpu: process.cpu(), peak_kib: process.peak_kib() }
    }
}

impl Instance {
    fn generate(home: PathBuf) -> Self {
        let made = Command::new("syncthing").args(["generate", "--no-default-folder", "--home"]).arg(&home).output();
        assert!(made.is_ok_and(|made| made.status.success()), "syncthing generate");
        let told = Command::new("syncthing").args(["serve", "--device-id", "--home"]).arg(&home).output();
        let id = String::from_utf8(told.expect("started").stdout).expect("text").trim().to_owned();
        Self { home, id, port: free_port(), gui: free_port() }
    }

    /// As syncthing is by default, save that it looks for nobody, tells nobody, and does not sync to the disk: nor do the
    /// others' servers.
    fn config(&self, other: &Self, path: &Path, kind: &str) -> String {
        let Self { id, port, gui, .. } = self;
        let (path, key) = (path.display(), FOLDER);
        format!(
            r#"<configuration version="36">
<folder id="{FOLDER}" path="{path}" type="{kind}" rescanIntervalS="3600" fsWatcherEnabled="true" fsWatcherDelayS="1">
<device id="{id}"/><device id="{other}"/><disableFsync>true</disableFsync></folder>
<device id="{id}"><address>dynamic</address></device>
<device id="{other}"><address>tcp://127.0.0.1:{other_port}</address></device>
<gui enabled="true" tls="false"><address>127.0.0.1:{gui}</address><apikey>{key}</apikey></gui>
<options><listenAddress>tcp://127.0.0.1:{port}</listenAddress>
<globalAnnounceEnabled>false</globalAnnounceEnabled><localAnnounceEnabled>false</localAnnounceEnabled>
<relaysEnabled>false</relaysEnabled><natEnabled>false</natEnabled><startBrowser>false</startBrowser>
<crashReportingEnabled>false</crashReportingEnabled><urAccepted>-1</urAccepted>
<autoUpgradeIntervalH>0</autoUpgradeIntervalH><reconnectionIntervalS>1</reconnectionIntervalS>
<setLowPriority>false</setLowPriority><stunServer></stunServer></options>
</configuration>"#,
            other = other.id,
            other_port = other.port,
        )
    }

    fn start(&self) -> Daemon {
        let mut command = Command::new("syncthing");
        // One process, not one that watches over another.
        command.args(["serve", "--no-browser", "--no-restart", "--no-upgrade", "--home"]).arg(&self.home);
        Daemon::start(command.env("STMONITORED", "yes").env("STNODEFAULTFOLDER", "1"))
    }

    /// What it says to a question of its own program for scripts; `None`: it does not answer yet.
    fn asked(&self, path: &str) -> Option<serde_json::Value> {
        let url = format!("http://127.0.0.1:{}/rest/{path}", self.gui);
        let mut curl = Command::new("curl");
        let said = curl.args(["-sf", "--noproxy", "*", "-H", &format!("X-API-Key: {FOLDER}"), &url]).output().ok()?;
        serde_json::from_slice(&said.stdout).ok()
    }

    fn status(&self) -> Option<serde_json::Value> {
        self.asked(&format!("db/status?folder={FOLDER}"))
    }

    /// Whether it went from scanning to idle since it started.
    fn has_scanned(&self) -> bool {
        let events = self.asked("events?events=StateChanged&timeout=0").unwrap_or_default();
        let events = events.as_array().map(Vec::as_slice).unwrap_or_default();
        events.iter().any(|event| event["data"]["from"] == "scanning" && event["data"]["to"] == "idle")
    }
}
