//! Restoring while someone swaps directories for links that lead out, as fast as the disk does.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::dest::Placed;
use super::{Compared, Dest, Over, Wanted};
use crate::mirror::{Cid, Digest, MirrorPath, Timestamp};

const BYTES: &[u8] = b"what is restored";
/// Each kind of event has to happen this often before the race counts.
const ENOUGH: u64 = 200;
const DEADLINE: Duration = Duration::from_secs(120);

fn wanted(path: &str) -> Wanted {
    Wanted {
        path: MirrorPath::from_bytes(path.as_bytes()).expect("a plain path"),
        hash: Cid::parse("QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o").expect("a hash"),
        digest: Digest::of(BYTES),
        sealed: None,
        size: BYTES.len() as u64,
        longest: BYTES.len() as u64,
        mtime: Timestamp { seconds: 1, nanos: 2 },
        mode: 0o600,
        is_older: false,
    }
}

/// Everything that `restore` does to the disk for one file; whether it is there.
fn land(dest: &Dest, wanted: &Wanted) -> bool {
    if !matches!(dest.compare(wanted), Ok(Compared::Fetch)) {
        return false;
    }
    let Ok(mut part) = dest.begin(&wanted.path) else { return false };
    part.write(BYTES).expect("written");
    matches!(part.place(wanted, wanted.size, dest.over()), Ok(Placed::There { .. }))
}

fn entries(dir: &Path) -> usize {
    let below = |entry: fs::DirEntry| if entry.path().is_dir() { entries(&entry.path()) } else { 0 };
    fs::read_dir(dir).expect("read").map(|entry| 1 + below(entry.expect("an entry"))).sum()
}

// G8, G11
#[test]
fn no_swap_of_a_directory_for_a_link_leads_out_of_where_is_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let [top, outside] = ["top", "outside"].map(|name| dir.path().join(name));
    for made in [top.join("d/e"), outside.join("e")] {
        fs::create_dir_all(made).expect("made");
    }
    std::os::unix::fs::symlink(&outside, top.join("link")).expect("linked");
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    let (mut landed, mut refused, mut raced) = (0, 0, 0);
    let begun = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                renameat_with(CWD, top.join("d"), CWD, top.join("link"), RenameFlags::EXCHANGE).expect("swapped");
                swaps.fetch_add(1, Ordering::Relaxed);
            }
        });
        let mut at = 0;
        while (landed < ENOUGH || refused < ENOUGH || raced < ENOUGH)
            && begun.elapsed() < DEADLINE
            && entries(&outside) == 1
        {
            at += 1;
            let before = swaps.load(Ordering::Relaxed);
            // Anew each time, as one that is open is not opened again; now into what is there, now into what is made.
            let dest = Dest::open(&top, Over::Nothing, Vec::new()).expect("open");
            let path = if at % 2 == 0 { format!("d/e/f{at}") } else { format!("d/n{at}/f") };
            match land(&dest, &wanted(&path)) {
                true => landed += 1,
                false => refused += 1,
            }
            raced += u64::from(swaps.load(Ordering::Relaxed) != before);
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(entries(&outside), 1, "something was made outside");
    assert!(
        landed >= ENOUGH && refused >= ENOUGH && raced >= ENOUGH,
        "{landed} landed, {refused} refused, {raced} raced"
    );
}

// G8
#[test]
fn what_got_the_name_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let dest = Dest::open(dir.path(), Over::Nothing, Vec::new()).expect("open");
    let file = wanted("d/f");
    let mut part = dest.begin(&file.path).expect("begun");
    part.write(BYTES).expect("written");
    fs::write(dir.path().join("d/f"), "somebody else's").expect("written");
    assert_eq!(part.place(&file, file.size, Over::Nothing).expect("tried"), Placed::Taken);
    assert_eq!(fs::read(dir.path().join("d/f")).expect("read"), b"somebody else's");
    assert_eq!(entries(dir.path()), 2, "and its part is gone");
}

// P4: the lock of a part ends with its process.
#[test]
fn what_another_restore_is_at_work_on_is_not_swept_away_and_what_one_left_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = wanted("d/f");
    let one = Dest::open(dir.path(), Over::Nothing, Vec::new()).expect("open");
    let mut part = one.begin(&file.path).expect("begun");
    part.write(BYTES).expect("written");
    fs::write(dir.path().join("d/.dstor-sync-part-0123456789abcdef"), "left behind").expect("written");
    fs::write(dir.path().join("d/.dstor-sync-part-of-mine"), "no part").expect("written");
    let other = Dest::open(dir.path(), Over::Nothing, Vec::new()).expect("open");
    assert_eq!(other.compare(&file).expect("looked"), Compared::Fetch);
    assert_eq!(entries(&dir.path().join("d")), 2, "the part that is at work, and what is none");
    assert_eq!(part.place(&file, file.size, Over::Nothing).expect("placed"), Placed::There { is_dressed: true });
}

/// One thread that comes back to a directory sweeps it while others begin files there.
#[test]
fn what_is_begun_while_the_directory_is_swept_stays() {
    let dir = tempfile::tempdir().expect("a directory");
    let top = dir.path().join("top");
    fs::create_dir(&top).expect("made");
    let (stop, mut lost) = (AtomicBool::new(false), 0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // The first to open a directory sweeps it.
                    let dest = Dest::open(&top, Over::Nothing, Vec::new()).expect("open");
                    assert_eq!(dest.compare(&wanted("none")).expect("looked"), Compared::Fetch);
                }
            });
        }
        let dest = Dest::open(&top, Over::Nothing, Vec::new()).expect("open");
        for number in 0..5_000 {
            let wanted = wanted(&format!("f{number}"));
            let mut part = dest.begin(&wanted.path).expect("begun");
            part.write(BYTES).expect("written");
            lost += usize::from(!matches!(part.place(&wanted, wanted.size, dest.over()), Ok(Placed::There { .. })));
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert_eq!(lost, 0, "swept away under whoever was writing");
}
