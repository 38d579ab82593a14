//! An agent that watches.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use notify::{RecursiveMode, Watcher as _};

use super::unchanged::{COPY, known};
use super::{Setting, tree};
use crate::shared::process::Idle;
use crate::shared::tree::Tree;
use crate::shared::world::World;
use crate::syncthing::Syncthing;
use crate::table::{Table, mib};
use crate::tools::{Lsyncd, is_here, wait_until};

const SETTLE: Duration = Duration::from_millis(100);
/// How long anything that is caused here may take to be seen.
const LONGEST: Duration = Duration::from_secs(600);

/// Each save is seen by the agent and by notify, in this process, at the same time.
pub(crate) fn event(setting: Setting, table: &mut Table) {
    let saves = if setting.is_small { 30 } else { 500 };
    let (tree, wanted) = tree(1_000, 16);
    let settings = format!("[watch]\nsettle = \"{}ms\"\n", SETTLE.as_millis());
    let world = World::new(&tree.path(), &settings);
    let agent = world.start();
    agent.wait_until_watching();
    wait_until("what was there is stored", LONGEST, || world.proved() == wanted);
    let events = Events::of(&tree.path());
    let (mut ours, mut theirs) = (Vec::with_capacity(saves), Vec::with_capacity(saves));
    for save in 0..saves {
        let name = tree.path().join(format!("p000/d{:05}/file-{:07}.txt", save % 10, save % 10 * 100 + save % 100));
        let before = world.requests();
        events.forget();
        std::fs::write(&name, format!("{save:016}")).expect("saved");
        let begun = Instant::now();
        while world.requests() == before {
            assert!(begun.elapsed() < LONGEST, "no request for a saved file");
            // Adds a tenth of a millisecond; to do without would take a processor from the agent or the sandbox.
            std::thread::sleep(Duration::from_micros(50));
        }
        ours.push(begun.elapsed().saturating_sub(SETTLE));
        theirs.push(events.first(&name).saturating_duration_since(begun));
        wait_until("it is stored", LONGEST, || {
            world.proved() == wanted && world.sandbox.versions().is_ok_and(|stored| stored.len() > 1_000 + save)
        });
    }
    let (ours, theirs) = (percentiles(ours), percentiles(theirs));
    let told = |(p50, p99): (Duration, Duration)| {
        format!("p50 {:.1} ms, p99 {:.1} ms", p50.as_secs_f64() * 1e3, p99.as_secs_f64() * 1e3)
    };
    table.figure(
        &format!("{saves} saved files, each until its request, without the settle time"),
        told(ours),
        Some(("notify, until its event", told(theirs))),
        Some(("p99 ≤ 20 ms", ours.1 <= Duration::from_millis(20))),
    );
}

fn percentiles(mut of: Vec<Duration>) -> (Duration, Duration) {
    of.sort();
    (of[of.len() / 2], of[(of.len() * 99).div_ceil(100) - 1])
}

/// Looked at at the same time: none has anything to do.
pub(crate) fn idle(setting: Setting, table: &mut Table) {
    let (tree, world, wanted) = known(setting.files(100_000));
    let length = Duration::from_secs(if setting.is_small { 5 } else { 60 });
    let work = format!("{} files watched, nothing happens for {} s", wanted.0, length.as_secs());
    let path = tree.path();
    let mut peers = Vec::new();
    let lsyncd = (is_here("lsyncd") && is_here("rsync")).then(|| Lsyncd::start(&path, &tree.beside(COPY)));
    match &lsyncd {
        Some(lsyncd) => peers.push(("lsyncd", lsyncd.wait_until_watching().1)),
        None => table.absent(&work, "lsyncd"),
    }
    let syncthing = is_here("syncthing").then(|| Syncthing::new(&path));
    let pair = syncthing.as_ref().map(|syncthing| syncthing.restart(wanted.0).1);
    match &pair {
        Some(pair) => peers.push(("syncthing", pair.process())),
        None => table.absent(&work, "syncthing"),
    }
    let agent = world.start();
    agent.wait_until_watching();
    // What was due at the start: the copy of the ledger above all.
    std::thread::sleep(Duration::from_secs(if setting.is_small { 5 } else { 30 }));
    let looked = std::thread::scope(|scope| {
        let ours = agent.process();
        let looks: Vec<_> = [("this program", ours)]
            .iter()
            .chain(&peers)
            .map(|(name, process)| (*name, *process))
            .map(|(name, process)| (name, scope.spawn(move || process.idle(length))))
            .collect();
        looks.into_iter().map(|(name, look)| (name, look.join().expect("looked"))).collect::<Vec<_>>()
    });
    assert_eq!((world.proved(), world.all_requests()), (wanted, 0), "what is stored, and requests");
    let told = |idle: &Idle| {
        format!(
            "{} (peak {}), CPU {:.4} s, woken {} times, wrote {} bytes",
            mib(idle.memory_kib),
            mib(idle.peak_kib),
            idle.cpu.as_secs_f64(),
            idle.woken,
            idle.wrote
        )
    };
    let ours = &looked[0].1;
    let is_met = ours.memory_kib <= 20 * 1024 && ours.cpu <= Duration::from_millis(10) && ours.wrote == 0;
    let others = looked[1..].iter().map(|(name, idle)| Some((*name, told(idle))));
    let others: Vec<_> = if looked.len() > 1 { others.collect() } else { vec![None] };
    for other in others {
        table.figure(&work, told(ours), other, Some(("≤ 20 MiB, CPU ≤ 0.01 s, 0 bytes", is_met)));
    }
}

/// Half of the files while the agent is stopped, in directories that it watches, which is more than the system's queue of
/// events can hold; the other half while it runs, in new directories. For notify as many in new directories, while it
/// runs.
pub(crate) fn burst(setting: Setting, table: &mut Table) {
    let files = setting.files(100_000);
    let (mut peak_kib, mut overflows, mut longest) = (0, 0, Duration::ZERO);
    let mut unseen = Vec::new();
    for _ in 0..setting.pairs {
        let tree = Tree::new();
        let world = World::new(&tree.path(), "");
        tree.make_directories(files / 2);
        let agent = world.start();
        agent.wait_until_watching();
        agent.process().signal("STOP");
        tree.make(files / 2, 16);
        let begun = Instant::now();
        agent.process().signal("CONT");
        tree.make_more(files - files / 2, 16);
        let wanted = (files as u64, files as u64 * 16);
        wait_until("all of a burst is stored", LONGEST, || {
            std::thread::sleep(Duration::from_millis(100));
            world.proved() == wanted
        });
        longest = longest.max(begun.elapsed());
        assert_eq!(world.on_dstor(), wanted, "files and bytes that the sandbox has");
        peak_kib = peak_kib.max(agent.process().peak_kib());
        overflows += usize::from(agent.said("events were lost"));
        drop(agent);
        unseen.push(never_reported(files));
    }
    let runs = setting.pairs;
    let losing = unseen.iter().filter(|unseen| **unseen > 0).count();
    let most = unseen.iter().max().copied().unwrap_or(0);
    table.figure(
        &format!("a burst of {files} files, half of them in new directories"),
        format!(
            "all stored in {runs} of {runs} runs, the system's queue overflowed in {overflows}; {:.1} s at the most, \
             peak {}",
            longest.as_secs_f64(),
            mib(peak_kib)
        ),
        Some(("notify alone", format!("some never reported in {losing} of {runs} runs, {most} at the most"))),
        Some(("all, ≤ 64 MiB", peak_kib <= 64 * 1024)),
    );
}

/// Files of a burst in new directories that notify never tells of.
fn never_reported(files: usize) -> usize {
    let tree = Tree::new();
    let events = Events::of(&tree.path());
    tree.make_more(files, 16);
    let mut seen = HashSet::new();
    // Once it has been silent for so long it has nothing more to say.
    while let Ok((_, path)) = events.0.recv_timeout(Duration::from_secs(3)) {
        if path.extension().is_some_and(|extension| extension.as_bytes() == b"txt") {
            seen.insert(path);
        }
    }
    files - seen.len()
}

/// What notify tells of a directory and all below it, and when it does.
struct Events(
    mpsc::Receiver<(Instant, std::path::PathBuf)>,
    #[expect(dead_code, reason = "it watches as long as it lives")] notify::RecommendedWatcher,
);

impl Events {
    fn of(dir: &Path) -> Self {
        let (into, events) = mpsc::channel();
        let tell = move |event: notify::Result<notify::Event>| {
            let now = Instant::now();
            for path in event.into_iter().flat_map(|event| event.paths) {
                // Nobody may listen any more.
                let _ = into.send((now, path));
            }
        };
        let mut watcher = notify::recommended_watcher(tell).expect("a watcher");
        watcher.watch(dir, RecursiveMode::Recursive).expect("watched");
        Self(events, watcher)
    }

    /// Passes over what was told so far.
    fn forget(&self) {
        while self.0.try_recv().is_ok() {}
    }

    /// When it first told of `path`.
    fn first(&self, path: &Path) -> Instant {
        loop {
            let (at, told) = self.0.recv_timeout(LONGEST).expect("an event");
            if told == path {
                return at;
            }
        }
    }
}
