//! Opening beneath the root while someone swaps what is there for links that lead out of it, as fast as the disk does.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use super::{OpenRoot, Reading, Tree as _};
use crate::mirror::{MirrorPath, Observed};

const INSIDE: &[u8] = b"what lies inside";
const SECRET: &[u8] = b"what lies outside";
/// Each kind of event has to happen this often before a race counts.
const ENOUGH: u64 = 2_000;
const DEADLINE: Duration = Duration::from_secs(120);

/// Swaps two entries until told to stop, and counts.
fn swap(one: &Path, other: &Path, stop: &AtomicBool, swaps: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE).expect("swapped");
        swaps.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Default, Debug)]
struct Tally {
    /// Opened and read: always what lies inside.
    read: u64,
    /// Refused: a link was met.
    refused: u64,
    /// Attempts during which something was swapped.
    raced: u64,
}

impl Tally {
    fn is_enough(&self) -> bool {
        self.read >= ENOUGH && self.refused >= ENOUGH && self.raced >= ENOUGH
    }
}

/// Calls `attempt` until enough was read, refused and raced with. It returns what it could read.
fn race(name: &str, path: &MirrorPath, attempt: impl Fn(&OpenRoot, &MirrorPath) -> Option<Vec<u8>>) {
    let dir = tempfile::tempdir().expect("a directory");
    let [top, outside] = ["top", "outside"].map(|name| dir.path().join(name));
    for made in [top.join("d/e"), outside.join("e")] {
        fs::create_dir_all(made).expect("made");
    }
    for (at, content) in [
        (top.join("d/e/f"), INSIDE),
        (top.join("g"), INSIDE),
        (outside.join("e/f"), SECRET),
        (outside.join("g"), SECRET),
    ] {
        fs::write(at, content).expect("written");
    }
    // A directory above the file, and the file itself, each with a link to what has the same name outside.
    std::os::unix::fs::symlink(&outside, top.join("d-link")).expect("linked");
    std::os::unix::fs::symlink(outside.join("g"), top.join("g-link")).expect("linked");
    let root = OpenRoot::open(&top, None).expect("open");
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let begun = Instant::now();
    let mut tally = Tally::default();
    let mut leaked = false;
    std::thread::scope(|scope| {
        let swapped = if path.as_bytes().contains(&b'/') { ["d", "d-link"] } else { ["g", "g-link"] };
        let [one, other] = swapped.map(|name| top.join(name));
        let (stop, swaps) = (&stop, &swaps);
        scope.spawn(move || swap(&one, &other, stop, swaps));
        while !tally.is_enough() && !leaked && begun.elapsed() < DEADLINE {
            let before = swaps.load(Ordering::Relaxed);
            match attempt(&root, path) {
                Some(bytes) => {
                    leaked = bytes != INSIDE;
                    tally.read += 1;
                }
                None => tally.refused += 1,
            }
            tally.raced += u64::from(swaps.load(Ordering::Relaxed) != before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(!leaked, "{name}: something else than the file was read, {tally:?}");
    assert!(tally.is_enough(), "{name}: too little was tried, {tally:?}");
}

fn path(text: &str) -> MirrorPath {
    MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
}

fn all_of(fd: rustix::fd::OwnedFd) -> Vec<u8> {
    let mut bytes = Vec::new();
    fs::File::from(fd).read_to_end(&mut bytes).expect("read");
    bytes
}

// B12, B13, G11
#[test]
fn no_swap_of_a_directory_for_a_link_leads_out() {
    let deep = path("d/e/f");
    race("one call", &deep, |root, path| root.open_beneath(path, OFlags::RDONLY).ok().map(all_of));
    race("step by step", &deep, |root, path| root.beneath_step_by_step(path, OFlags::RDONLY).ok().map(all_of));
    race("a list of rules", &deep, |root, path| root.steering(path, 1024).ok());
}

// B12, B13, G11
#[test]
fn no_swap_of_the_file_for_a_link_leads_out() {
    let file = path("g");
    race("one call", &file, |root, path| root.open_beneath(path, OFlags::RDONLY).ok().map(all_of));
    race("step by step", &file, |root, path| root.beneath_step_by_step(path, OFlags::RDONLY).ok().map(all_of));
}

// B13: from the look over the open file to its last piece.
#[test]
fn what_is_handed_over_of_a_swapped_path_is_always_the_file() {
    for file in ["d/e/f", "g"] {
        race("a whole read", &path(file), |root, path| {
            let Observed::File(version) = root.look(path).ok()?.observed else { return None };
            let mut taken = Vec::new();
            let reading = Reading::open(root, path, version).ok()?;
            let whole = reading.send(None, |piece| {
                taken.extend_from_slice(&piece);
                Ok(())
            });
            // One that ended early may have handed over pieces: they count as well.
            (whole.is_ok() || !taken.is_empty()).then_some(taken)
        });
    }
}
