//! Every system call: the program is killed at the nth of each that writes, and each that can fail does, for every n.
//! Afterwards the ledger is whole and true, and the next pass stores everything.
//!
//! strace counts by thread and call. How many points and from which on: `SYSCALL_POINTS` (a number, or `all`),
//! `SYSCALL_SEED`.

mod back;
mod first;
mod scripts;
mod strace;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::scripts::{Script, Stage};
use self::strace::{Blow, OUTPUT, Ran, Strike};
use crate::world::tell;

/// What is written ahead: most of what the ledger does. Counted also by itself, as otherwise whoever opens the ledger
/// comes before the thread that owns it.
const WAL: &str = "state/ledger.db-wal";
/// Calls that change something outside the process.
const WRITES: [&str; 19] = [
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "sendto",
    "sendmsg",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "rename",
    "renameat2",
    "unlink",
    "unlinkat",
    "mkdir",
    "mkdirat",
    "chmod",
    "fchmod",
    "openat",
];
/// Errors and the calls that can come back with them. `write` counts for what is printed only: otherwise it wakes
/// threads, by means that the kernel does not fail.
const FAILURES: [(&str, &[&str]); 4] = [
    ("ENOSPC", &["write", "pwrite64", "openat", "mkdir", "ftruncate", "fallocate", "inotify_add_watch"]),
    (
        "EIO",
        &[
            "read",
            "pread64",
            "write",
            "pwrite64",
            "fsync",
            "fdatasync",
            "ftruncate",
            "openat",
            "openat2",
            "newfstatat",
            "fstat",
            "statx",
            "getdents64",
            "unlink",
            "writev",
        ],
    ),
    ("EMFILE", &["openat", "openat2", "socket", "epoll_create1", "eventfd2", "inotify_init1", "pipe2", "socketpair"]),
    (
        "EINTR",
        &[
            "read",
            "write",
            "pread64",
            "pwrite64",
            "openat",
            "openat2",
            "fsync",
            "fdatasync",
            "ftruncate",
            "connect",
            "writev",
            "recvfrom",
            "epoll_wait",
            "flock",
        ],
    ),
];
/// Those that are made again when a signal interrupts them, and nobody notices. Writes to disk that are cut short SQLite
/// gives up, and a connection is made anew.
const MADE_AGAIN: [&str; 7] = ["read", "write", "pread64", "pwrite64", "openat", "openat2", "flock"];
/// From which point on points are chosen.
const SEED: &str = "SYSCALL_SEED";
/// Points, if nothing else is asked for; some more than have to be met, as no two runs make the same calls.
const POINTS: usize = 240;
const MUST_MEET: usize = 200;
/// Runs at the same time: many wait for a back-off.
const AT_ONCE: usize = 8;
/// How the runtime ends a program to which the system gives no socket for its signals: before the program's own first step,
/// and only by a panic.
const NO_SIGNALS: &str = "failed to create UnixStream";

/// Where a run is struck.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Point {
    script: Script,
    strike: Strike,
}

/// What was seen of all points.
#[derive(Default)]
struct Seen {
    met: usize,
    unharmed: usize,
    rows: u64,
    kinds: BTreeSet<String>,
    wrong: Vec<String>,
}

// F3, P1, P4, D3, D8, D17
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn killed_at_any_call_that_writes_it_recovers() {
    let blows: Vec<(&str, Blow)> = WRITES.into_iter().map(|call| (call, Blow::Kill)).collect();
    strike("kills", blows, |_, ran| ran.output.contains("panicked").then(|| "it panicked".to_owned())).await;
}

// D2, D3, D16, B24, B25, F6, A4, A26
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_call_that_fails_is_told_or_got_over_and_nothing_is_lost() {
    let blows =
        FAILURES.into_iter().flat_map(|(error, calls)| calls.iter().map(move |call| (*call, Blow::Fail(error))));
    strike("failing calls", blows.collect(), |strike, ran| {
        let Some(status) = ran.status else { return Some("it hung".to_owned()) };
        if strike.call == "socketpair" && status.code() == Some(101) && ran.output.contains(NO_SIGNALS) {
            return None;
        }
        if ran.output.contains("panicked") {
            return Some("it panicked".to_owned());
        }
        match status.code() {
            None => Some(format!("it ended by {status}")),
            Some(0) => None,
            // Before the program's own first step.
            Some(127) if ran.output.contains("while loading") => None,
            Some(code) if strike.blow == Blow::Fail("EINTR") && MADE_AGAIN.contains(&strike.call) => {
                Some(format!("it ended with {code} and did not make the call again"))
            }
            // It ends with an error, or goes on and leaves a file to the next pass.
            Some(_) if ran.output.contains("error") || ran.output.contains("waiting") => None,
            Some(code) => Some(format!("it ended with {code} and did not say why")),
        }
    })
    .await;
}

/// Runs the scripts with each of these blows at every nth call, or some of them, evenly chosen.
async fn strike(what: &str, blows: Vec<(&'static str, Blow)>, misbehaved: fn(&Strike, &Ran) -> Option<String>) {
    let seed = std::env::var(SEED).ok().map(|text| text.parse().expect("a number"));
    let seed: usize = seed.unwrap_or_else(|| fastrand::usize(..1_000_000));
    let begun = Instant::now();
    let calls: BTreeSet<&str> = blows.iter().map(|(call, _)| *call).collect();
    let calls: Vec<&str> = calls.into_iter().collect();

    let mut stage = Stage::set().await;
    let mut all = Vec::new();
    for script in Script::ALL {
        let ran = stage.run(script, &calls, None).await;
        for file in [None, Some(WAL), Some(OUTPUT)] {
            let most = ran.most(file);
            let is_told = |call: &str, blow: Blow| blow != Blow::Kill && call == "write";
            for (call, blow) in blows.iter().filter(|(call, blow)| (file == Some(OUTPUT)) == is_told(call, *blow)) {
                let most = most.get(*call).copied().unwrap_or(0);
                let strike = |nth| Strike { call, nth, file, blow: *blow };
                all.extend((1..=most).map(|nth| Point { script, strike: strike(nth) }));
            }
        }
    }
    let asked = std::env::var("SYSCALL_POINTS").unwrap_or_else(|_| POINTS.to_string());
    let wanted = if asked == "all" { all.len() } else { asked.parse().expect("a number, or `all`") };
    let wanted = wanted.min(all.len());
    let chosen: Vec<Point> = (0..wanted).map(|at| all[(seed + at * all.len() / wanted) % all.len()]).collect();

    let (next, seen) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Seen::default())));
    let chosen = Arc::new(chosen);
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (next, seen, chosen) = (Arc::clone(&next), Arc::clone(&seen), Arc::clone(&chosen));
            tokio::spawn(async move {
                let mut stage = Stage::set().await;
                while let Some(point) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    one(&mut stage, *point, misbehaved, &seen).await;
                }
                seen.lock().expect("nobody failed").rows += stage.truth.rows;
            })
        })
        .collect();
    for task in tasks {
        if let Err(failed) = task.await {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
    let seen = seen.lock().expect("nobody failed");
    tell(&format!(
        "{what}: seed {seed}, {} points met of {} tried and {} there are, {} kinds of thread, call and file, {} runs went \
         on as if nothing were, {} rows checked, wrong {}, {} s",
        seen.met,
        chosen.len(),
        all.len(),
        seen.kinds.len(),
        seen.unharmed,
        seen.rows,
        seen.wrong.len(),
        begun.elapsed().as_secs()
    ));
    assert!(seen.wrong.is_empty(), "seed {seed}:\n{}", seen.wrong.join("\n\n"));
    assert!(seen.met >= MUST_MEET.min(wanted), "only {} points were met", seen.met);
}

/// One run, struck at one point, and its recovery.
async fn one(stage: &mut Stage, point: Point, misbehaved: fn(&Strike, &Ran) -> Option<String>, seen: &Mutex<Seen>) {
    let Point { script, strike } = point;
    let ran = stage.run(script, &[strike.call], Some(strike)).await;
    let struck = ran.struck(&strike).cloned();
    let mut wrong: Vec<String> = misbehaved(&strike, &ran).into_iter().collect();
    tokio::task::block_in_place(|| {
        wrong.extend(stage.falsehoods());
        if strike.nth % 2 == 0 {
            stage.undo();
        }
        wrong.extend(stage.recover());
    });
    let mut seen = seen.lock().expect("nobody failed");
    if let Some(struck) = &struck {
        seen.met += 1;
        seen.unharmed += usize::from(ran.status.is_some_and(|status| status.success()));
        seen.kinds.insert(format!("{} {} {}", struck.by, struck.name, struck.to));
    }
    if !wrong.is_empty() {
        let at = struck.map_or("not met".to_owned(), |struck| format!("by {} to {}", struck.by, struck.to));
        seen.wrong.push(format!("{point:?}, {at}, {:?}: {wrong:#?}\n{}", ran.status, ran.output));
    }
}
