//! The ledger's thread: what is committed together, what is taken back, and when success may be claimed.

use std::collections::BTreeSet;
use std::fs;
use std::pin::pin;
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use futures_util::future::join_all;

use super::*;

/// A ledger with a thread of its own, and one mirror.
struct Shared {
    dir: TempDir,
    ledger: SharedLedger,
    mirror: MirrorId,
}

impl Shared {
    fn new() -> Self {
        let World { dir, ledger, mirror } = World::new();
        Self { dir, ledger: SharedLedger::new(ledger).expect("a thread"), mirror }
    }

    fn push(&self, path: &str) -> impl FnOnce(&Ledger) -> Result<(), LedgerError> + Send + 'static {
        let (mirror, push) = (self.mirror, Push { path: at(path), size: 1, due_at: 0 });
        move |ledger| ledger.push(mirror, &[push], Urgency::Event, 0)
    }

    fn pending(&self) -> u64 {
        let mirror = self.mirror;
        self.ledger.with_blocking(move |ledger| ledger.counts(mirror)).expect("counts").pending.files
    }

    /// Keeps the ledger's thread busy until the sender is dropped, so that what is sent meanwhile becomes one group.
    fn busy(&self) -> mpsc::Sender<()> {
        let (free, wait) = mpsc::channel::<()>();
        let (at_it, begun) = mpsc::channel();
        let ledger = self.ledger.clone();
        thread::spawn(move || {
            ledger.with_blocking(move |_| {
                at_it.send(()).expect("awaited");
                let _ = wait.recv();
                Ok(())
            })
        });
        begun.recv().expect("begun");
        free
    }
}

type Work = Box<dyn FnOnce(&Ledger) -> Result<(), LedgerError> + Send>;

/// Runs all of it in one group.
fn together(shared: &Shared, works: Vec<Work>) -> Vec<Result<(), LedgerError>> {
    let busy = shared.busy();
    let mut all = pin!(join_all(works.into_iter().map(|work| shared.ledger.with(work))));
    // The first look sends them.
    assert!(all.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(busy);
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(all)
}

#[test]
fn a_job_that_fails_takes_back_its_own_writes_and_no_others() {
    let shared = Shared::new();
    let half = shared.push("half");
    let fails: Work = Box::new(move |ledger| {
        half(ledger)?;
        Err(LedgerError::Nonsense("on purpose".into()))
    });
    let works: Vec<Work> = vec![Box::new(shared.push("a")), fails, Box::new(shared.push("b"))];
    let results = together(&shared, works);
    assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
    assert!(matches!(&results[1], Err(LedgerError::Nonsense(why)) if why == "on purpose"), "{results:?}");
    assert_eq!(shared.pending(), 2);
}

#[test]
fn a_directory_that_was_taken_back_is_made_again_by_the_next_who_needs_it() {
    let shared = Shared::new();
    let half = shared.push("dir/half");
    let fails: Work = Box::new(move |ledger| {
        half(ledger)?;
        Err(LedgerError::Nonsense("on purpose".into()))
    });
    let results = together(&shared, vec![fails, Box::new(shared.push("dir/whole"))]);
    assert!(results[1].is_ok(), "{results:?}");
    assert_eq!(shared.pending(), 1);
}

#[test]
fn the_first_job_of_a_group_that_fails_takes_nothing_of_the_others_with_it() {
    let shared = Shared::new();
    let (free, wait) = mpsc::channel::<()>();
    let (at_it, begun) = mpsc::channel();
    let (half, ledger) = (shared.push("half"), shared.ledger.clone());
    let first = thread::spawn(move || {
        ledger.with_blocking(move |ledger| -> Result<(), LedgerError> {
            half(ledger)?;
            at_it.send(()).expect("awaited");
            let _ = wait.recv();
            Err(LedgerError::Nonsense("on purpose".into()))
        })
    });
    begun.recv().expect("begun");
    let mut others = pin!(join_all(["a", "b"].map(|path| shared.ledger.with(shared.push(path)))));
    assert!(others.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    drop(free);
    let failed = first.join().expect("it ended");
    assert!(matches!(&failed, Err(LedgerError::Nonsense(why)) if why == "on purpose"), "{failed:?}");
    let others = tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(others);
    assert!(others.iter().all(Result::is_ok), "{others:?}");
    assert_eq!(shared.pending(), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn a_large_job_writes_no_temporary_files() {
    let shared = Shared::new();
    let temporary = || {
        let open = fs::read_dir("/proc/self/fd").expect("its open files").flatten();
        open.filter_map(|file| fs::read_link(file.path()).ok()).find(|file| file.to_string_lossy().contains("etilqs"))
    };
    let (mirror, paths) = (shared.mirror, (0..500).map(|n| at(&format!("d/{n}"))));
    let pushes: Vec<Push> = paths.map(|path| Push { path, size: 1, due_at: 0 }).collect();
    let large: Work = Box::new(move |ledger| {
        ledger.push(mirror, &pushes, Urgency::Scan, 0)?;
        temporary().map_or(Ok(()), |file| Err(LedgerError::Nonsense(file.display().to_string())))
    });
    // Behind another one, so that it may have to be taken back alone.
    let results = together(&shared, vec![Box::new(shared.push("a")), large]);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn work_that_was_sent_is_done_even_if_nobody_waits_for_it() {
    let shared = Shared::new();
    let mut work = Box::pin(shared.ledger.with(shared.push("a")));
    let _: Poll<_> = work.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    drop(work);
    assert_eq!(shared.pending(), 1);
}

#[test]
fn many_threads_lose_nothing_and_claim_nothing_twice() {
    const THREADS: usize = 8;
    const EACH: usize = 50;
    let shared = Shared::new();
    let claimed: Vec<MirrorPath> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let shared = &shared;
                scope.spawn(move || {
                    let mut mine = Vec::new();
                    for n in 0..EACH {
                        shared.ledger.with_blocking(shared.push(&format!("{}/{thread}-{n}", n % 5))).expect("pushed");
                        let claims = shared.ledger.with_blocking(|ledger| ledger.claim(0, 1)).expect("claimed");
                        mine.extend(claims.into_iter().map(|claim| claim.path));
                    }
                    mine
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("ended well")).collect()
    });
    assert_eq!(claimed.len(), THREADS * EACH);
    assert_eq!(claimed.iter().collect::<BTreeSet<_>>().len(), THREADS * EACH);
}

#[test]
fn what_was_committed_can_be_read_by_another_connection_at_once() {
    let shared = Shared::new();
    let reader = Ledger::open_read_only(&shared.dir.path().join("ledger.db")).expect("a reader");
    for n in 1..=20 {
        shared.ledger.with_blocking(shared.push(&format!("{n}"))).expect("pushed");
        assert_eq!(reader.counts(shared.mirror).expect("counts").pending.files, n);
    }
}

// D11
#[test]
fn a_ledger_that_was_deleted_takes_nothing_more() {
    let shared = Shared::new();
    let path = shared.dir.path().join("ledger.db");
    shared.ledger.with_blocking(shared.push("before")).expect("pushed");
    fs::remove_file(&path).expect("deleted");
    for name in ["a", "b"] {
        let result = shared.ledger.with_blocking(shared.push(name));
        assert!(matches!(&result, Err(LedgerError::Replaced(named)) if *named == path), "{result:?}");
    }
    assert!(!path.exists());
}

// D11
#[test]
fn a_ledger_that_was_replaced_takes_nothing_more_and_the_other_is_left_alone() {
    let shared = Shared::new();
    let path = shared.dir.path().join("ledger.db");
    fs::rename(&path, shared.dir.path().join("aside.db")).expect("moved");
    fs::write(&path, "another").expect("written");
    let result = shared.ledger.with_blocking(shared.push("a"));
    assert!(matches!(result, Err(LedgerError::Replaced(_))), "{result:?}");
    assert_eq!(fs::read(&path).expect("bytes"), b"another");
    fs::remove_file(&path).expect("deleted");
    fs::rename(shared.dir.path().join("aside.db"), &path).expect("moved");
    assert_eq!(shared.pending(), 0);
}

/// Pushes of new files, or of new directories, that need more room than a full disk has.
fn too_much(shared: &Shared, path: fn(u32) -> String) -> Work {
    let mirror = shared.mirror;
    let pushes: Vec<Push> = (0..2000).map(|n| Push { path: at(&path(n)), size: 1, due_at: 0 }).collect();
    Box::new(move |ledger| ledger.push(mirror, &pushes, Urgency::Event, 0))
}

fn many_files(n: u32) -> String {
    format!("much/{n:0200}")
}

fn many_directories(n: u32) -> String {
    format!("{n:0200}/x")
}

fn set_room(shared: &Shared, pages: u32) {
    shared.ledger.with_blocking(move |ledger| ledger.set_room(pages)).expect("set");
}

// D2
#[test]
fn on_a_full_disk_nothing_claims_success_and_nothing_is_lost() {
    let shared = Shared::new();
    shared.ledger.with_blocking(shared.push("before")).expect("pushed");
    set_room(&shared, 1);
    let result = shared.ledger.with_blocking(too_much(&shared, many_files));
    assert!(matches!(result, Err(LedgerError::Full)), "{result:?}");
    assert_eq!(shared.pending(), 1, "readable, and as before");
    set_room(&shared, u32::MAX - 1);
    shared.ledger.with_blocking(too_much(&shared, many_files)).expect("there is room again");
    assert_eq!(shared.pending(), 2001);
}

// D2
#[test]
fn on_a_full_disk_each_of_a_group_hears_the_truth() {
    for much in [many_files, many_directories] {
        let shared = Shared::new();
        set_room(&shared, 1);
        let works: Vec<Work> = vec![Box::new(shared.push("a")), too_much(&shared, much), Box::new(shared.push("b"))];
        let results = together(&shared, works);
        assert!(matches!(results[1], Err(LedgerError::Full)), "{results:?}");
        let mut kept = 0;
        for result in [&results[0], &results[2]] {
            match result {
                Ok(()) => kept += 1,
                Err(error) => assert!(matches!(error, LedgerError::Full), "{results:?}"),
            }
        }
        assert_eq!(shared.pending(), kept);
    }
}
