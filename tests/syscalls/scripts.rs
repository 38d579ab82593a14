//! What the program is made to do while its calls are struck: the same again and again, with other bytes each time.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dstor_sync::dstor::{Authorities, Client, ClientOptions, Credentials, Measured, Upload};
use dstor_sync::mirror::{Placement, RemoteDir};
use rustix::process::{Pid, Signal, kill_process};

use super::WAL;
use super::strace::{Blow, Ran, Strike, Traced};
use crate::truth::{Truth, entries};
use crate::world::World;

/// What the mirror holds at the beginning of each run.
const FILES: [(&str, usize); 8] =
    [("f0", 30), ("f1", 3_000), ("f2", 0), ("f3", 400_000), ("d/g0", 70), ("d/g1", 10), ("d/e/h0", 20), ("d/e/h1", 0)];
/// Those that differ from what the ledger knows.
const CHANGED: [&str; 3] = ["f0", "f3", "d/g1"];
/// The round whose bytes are on record when the agent begins.
const FIRST: u64 = 1;
/// How long an agent with a call struck is given to store everything; what it misses, the next run finds.
const PATIENCE: Duration = Duration::from_secs(4);

/// A scripted run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Script {
    /// One pass without a ledger.
    Fresh,
    /// One pass over the ledger of a run that was killed.
    Resumed,
    /// The agent, while files are saved, renamed and removed, until it is told to stop.
    Agent,
}

impl Script {
    pub(super) const ALL: [Self; 3] = [Self::Fresh, Self::Resumed, Self::Agent];
}

/// A world in which scripts are run, each from the same beginning.
pub(super) struct Stage {
    world: World,
    pub(super) truth: Truth,
    round: u64,
    /// Whoever puts dStor back to what a ledger says.
    client: Client,
    placement: Placement,
}

impl Stage {
    pub(super) async fn set() -> Self {
        let mut world = World::with("", "shutdown_grace = \"2s\"").await;
        world.set_config(world.config().replace("settle = \"100ms\"", "settle = \"30ms\""));
        let key = world.sandbox().api_key().to_owned();
        let client = Client::new(ClientOptions {
            url: world.sandbox().url().parse().expect("an address"),
            token_lifetime: Duration::from_secs(3600),
            credentials: Arc::new(move || Ok(Some(Credentials::ApiKey(key.clone().into())))),
            stall_timeout: Duration::from_secs(60),
            authorities: Authorities::default(),
        });
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a directory"));
        let client = client.expect("a client");
        let mut stage = Self { world, truth: Truth::default(), round: 0, client, placement };
        fs::create_dir(stage.world.state_dir()).expect("made");
        stage.save(Script::Fresh);
        stage.lay_out();
        tokio::task::block_in_place(|| {
            stage.pass(None);
            stage.save(Script::Agent);
            stage.lay_out();
            // In the midst of what the ledger's thread writes.
            stage.pass(Some(Strike { call: "pwrite64", nth: 12, file: Some(WAL), blow: Blow::Kill }));
            stage.save(Script::Resumed);
        });
        stage
    }

    fn pass(&self, strike: Option<Strike>) {
        let ran = Traced::start(&self.world.command(&["sync"]), self.world.base(), &["pwrite64"], strike).end();
        let code = ran.status.expect("it ends").code();
        assert_eq!(code, strike.is_none().then_some(0), "{}", ran.output);
    }

    /// Keeps the ledger as it is now, for a script to begin with.
    fn save(&self, script: Script) {
        copy(&self.world.state_dir(), &self.saved(script));
    }

    /// Puts the ledger back to the script's beginning, and what dStor has with it: the newest under each name is what the
    /// ledger says. Otherwise it were one that was put back from an old copy (D13).
    async fn restore(&mut self, script: Script) {
        fs::remove_dir_all(self.world.state_dir()).expect("removed");
        copy(&self.saved(script), &self.world.state_dir());
        let newest: HashMap<_, _> = self
            .world
            .sandbox()
            .files()
            .expect("files")
            .into_iter()
            .map(|file| ((file.directory, file.name), file.hash))
            .collect();
        for entry in entries(&self.world).expect("the ledger").0 {
            let (Some((parent, name)), Some(held)) = (entry.path.split(), entry.row.and_then(|row| row.held)) else {
                continue;
            };
            let name = std::str::from_utf8(name).expect("text");
            let placement = self.placement.of_directory(&parent).expect("a place");
            let Placement::Path(dir) = &placement else { unreachable!("the mirror has a path on dStor") };
            if newest.get(&(dir.to_string(), name.to_owned())) != Some(&held.hash.to_string()) {
                let bytes = Bytes::from(self.world.sandbox().content(held.hash.as_str()).expect("its bytes"));
                let upload = Upload { name, placement: &placement, comment: "" };
                let body =
                    || Measured { bytes: bytes.len() as u64, pieces: futures_util::stream::iter([Ok(bytes.clone())]) };
                assert_eq!(self.client.upload(&upload, body).await.expect("stored"), held.hash);
            }
        }
    }

    fn saved(&self, script: Script) -> PathBuf {
        self.world.base().join(format!("{script:?}"))
    }

    /// The mirror as it is at the beginning, with bytes that never were before in what is changed.
    fn lay_out(&mut self) {
        self.round += 1;
        for (at, _) in self.world.local() {
            let name = String::from_utf8(at).expect("text");
            if !FILES.iter().any(|(file, _)| *file == name) {
                fs::remove_file(self.world.path(&name)).expect("removed");
            }
        }
        for (name, size) in FILES {
            if CHANGED.contains(&name) || !self.world.path(name).exists() {
                self.world.write(name, self.bytes(name, size));
            }
        }
    }

    fn bytes(&self, name: &str, size: usize) -> Vec<u8> {
        self.bytes_of(self.round, name, size)
    }

    fn bytes_of(&self, round: u64, name: &str, size: usize) -> Vec<u8> {
        let text = format!("{round} {name} {}\n", self.world.base().display());
        text.into_bytes().into_iter().cycle().take(size).collect()
    }

    /// Runs a script from its beginning, a call struck.
    pub(super) async fn run(&mut self, script: Script, calls: &[&str], strike: Option<Strike>) -> Ran {
        self.restore(script).await;
        tokio::task::block_in_place(|| {
            self.lay_out();
            let command: Command = match script {
                Script::Fresh | Script::Resumed => self.world.command(&["sync"]),
                Script::Agent => self.world.command(&["run"]),
            };
            let mut traced = Traced::start(&command, self.world.base(), calls, strike);
            if script == Script::Agent {
                self.work_beside(&mut traced);
            }
            traced.end()
        })
    }

    fn work_beside(&mut self, agent: &mut Traced) {
        wait(|| agent.has_ended() || agent.output().contains("watching"));
        let world = &self.world;
        world.write("f1", self.bytes("f1 again", 3_000));
        world.write("new/deep/er", self.bytes("new", 50));
        fs::rename(world.path("d/g0"), world.path("d/g9")).expect("renamed");
        fs::remove_file(world.path("d/e/h0")).expect("removed");
        fs::write(world.path("f0.new"), self.bytes("f0 again", 60)).expect("written");
        fs::rename(world.path("f0.new"), world.path("f0")).expect("renamed");
        let (truth, world) = (&mut self.truth, &self.world);
        wait(|| agent.has_ended() || truth.missing(world).is_empty());
        if !agent.has_ended() {
            let pid = Pid::from_raw(i32::try_from(agent.pid()).expect("a small number")).expect("a process");
            kill_process(pid, Signal::TERM).expect("told to stop");
        }
    }

    /// Undoes saves: what changed has the bytes again that the ledger knew before the run. Whatever the run sent before it
    /// was struck, dStor has to have these in the end.
    pub(super) fn undo(&self) {
        for (name, size) in FILES.into_iter().filter(|(name, _)| CHANGED.contains(name)) {
            self.world.write(name, self.bytes_of(FIRST, name, size));
        }
    }

    /// What the ledger says that is not so.
    pub(super) fn falsehoods(&mut self) -> Vec<String> {
        self.truth.falsehoods(&self.world)
    }

    /// Blocking: runs a pass with nothing in its way. Returns what is wrong afterwards.
    pub(super) fn recover(&mut self) -> Vec<String> {
        let ran = Traced::start(&self.world.command(&["sync"]), self.world.base(), &["mkdir"], None).end();
        if ran.status.is_none_or(|status| status.code() != Some(0)) {
            return vec![format!("the next pass does not end well: {:?}\n{}", ran.status, ran.output)];
        }
        let mut wrong = self.truth.missing(&self.world);
        wrong.extend(self.falsehoods());
        wrong
    }
}

/// Waits for a while: an agent whose call failed may never come to it.
fn wait(mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("read") {
        let entry = entry.expect("an entry");
        fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
    }
}
