//! What the program is made to do while its calls are struck: the same again and again, with other bytes each time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::strace::{Blow, Ran, Strike, Traced};
use crate::truth::{Past, Truth};
use crate::world::World;

/// What the mirror holds at the beginning of each run.
const FILES: [(&str, usize); 8] =
    [("f0", 30), ("f1", 3_000), ("f2", 0), ("f3", 400_000), ("d/g0", 70), ("d/g1", 10), ("d/e/h0", 20), ("d/e/h1", 0)];
/// Those that differ from what the ledger knows.
const CHANGED: [&str; 3] = ["f0", "f3", "d/g1"];
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
}

impl Stage {
    pub(super) async fn set() -> Self {
        let mut world = World::with("", "shutdown_grace = \"2s\"").await;
        world.set_config(world.config().replace("settle = \"100ms\"", "settle = \"30ms\""));
        let mut stage = Self { world, truth: Truth::default(), round: 0 };
        stage.lay_out();
        tokio::task::block_in_place(|| {
            stage.save_as("stopped", None);
            stage.lay_out();
            // In the midst of what the ledger's thread writes.
            let strike = Strike { call: "pwrite64", nth: 12, file: Some("state/ledger.db-wal"), blow: Blow::Kill };
            stage.save_as("killed", Some(strike));
        });
        stage
    }

    /// Runs a pass and keeps the state that it leaves behind.
    fn save_as(&self, name: &str, strike: Option<Strike>) {
        let ran = Traced::start(&self.world.command(&["sync"]), self.world.base(), &["pwrite64"], strike).end();
        let code = ran.status.expect("it ends").code();
        assert_eq!(code, strike.is_none().then_some(0), "{}", ran.output);
        copy(&self.world.state_dir(), &self.saved(name));
    }

    fn saved(&self, name: &str) -> PathBuf {
        self.world.base().join(name)
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
        let text = format!("{} {name} {}\n", self.round, self.world.base().display());
        text.into_bytes().into_iter().cycle().take(size).collect()
    }

    /// Blocking: runs a script from its beginning, a call struck.
    pub(super) fn run(&mut self, script: Script, calls: &[&str], strike: Option<Strike>) -> Ran {
        let state = self.world.state_dir();
        // There is none before the first.
        let _ = fs::remove_dir_all(&state);
        match script {
            Script::Fresh => {}
            Script::Resumed => copy(&self.saved("killed"), &state),
            Script::Agent => copy(&self.saved("stopped"), &state),
        }
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

    /// What the ledger says that is not so.
    pub(super) fn falsehoods(&mut self) -> Vec<String> {
        self.truth.falsehoods(&self.world, Past::Restored)
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
