//! The way back, struck: `restore`, from the ledger and from a list, encrypted as well, and `verify` are killed at their calls
//! that write. What is there then is right, and the next run completes it.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Instant;

use super::strace::{Blow, Ran, Strike, Traced};
use super::{SEED, WRITES};
use crate::restore::{has_parts, tree};
use crate::world::{World, tell};

/// Points of each call, spread over all that there are.
const POINTS: u32 = 8;

/// Files of every kind: some come by way of memory, some to the disk at once, some are together in a directory.
fn fill(world: &World) {
    for at in 0..12 {
        world.write(&format!("d{}/f{at}", at % 3), format!("content {at}"));
    }
    world.write("empty", "");
    world.write("large", vec![7; 400_000]);
}

/// Where a run is killed that would go as this one went.
fn points(whole: &Ran, seed: u32) -> Vec<Strike> {
    let most = whole.most(None);
    let counted = WRITES.into_iter().filter_map(|call| Some((call, *most.get(call)?)));
    let of_call = |(call, count): (&'static str, u32)| {
        let wanted = count.min(POINTS);
        (0..wanted).map(move |at| (seed + at * count / wanted) % count + 1).map(move |nth| Strike {
            call,
            nth,
            file: None,
            blow: Blow::Kill,
        })
    };
    counted.flat_map(of_call).collect()
}

/// Kills what these arguments do, of the nth try, at each of its points; `right` looks at what is there after that, and after
/// the next run, which completes it and has to end with 0.
fn strike(world: &World, what: &str, arguments: impl Fn(usize) -> Vec<OsString>, right: impl Fn(usize, bool)) {
    let seed = std::env::var(SEED).ok().map(|text| text.parse().expect("a number"));
    let seed: u32 = seed.unwrap_or_else(|| fastrand::u32(..1_000_000));
    let begun = Instant::now();
    let run = |nth, strike| Traced::start(&world.command(&arguments(nth)), world.base(), &WRITES, strike).end();
    let whole = run(0, None);
    assert_eq!(whole.status.and_then(|status| status.code()), Some(0), "{}", whole.output);
    right(0, true);
    let points = points(&whole, seed);
    let mut met = 0;
    for (nth, point) in (1..).zip(&points) {
        let ran = run(nth, Some(*point));
        met += usize::from(ran.struck(point).is_some());
        assert!(!ran.output.contains("panicked"), "{point:?}: {}", ran.output);
        right(nth, false);
        let said = world.run(&arguments(nth));
        assert_eq!(said.code, 0, "after {point:?}, seed {seed}: {said:?}");
        right(nth, true);
    }
    let tried = points.len();
    tell(&format!("{what}: seed {seed}, killed at {met} of {tried} points, {} s", begun.elapsed().as_secs()));
    // No two runs make the same calls.
    assert!(tried >= 20 && met * 2 >= tried, "killed at {met} of {tried} only");
}

fn restores(world: &World, what: &str, more: &[&str]) {
    let wanted = tree(&world.mirror());
    let dest = |nth: usize| world.base().join(format!("dest{nth}"));
    let arguments = |nth: usize| {
        let mut all: Vec<OsString> = vec!["restore".into(), "--json".into(), dest(nth).into()];
        all.extend(more.iter().map(OsString::from));
        all
    };
    let right = |nth: usize, is_whole: bool| {
        let there = if dest(nth).exists() { tree(&dest(nth)) } else { Default::default() };
        let is_part = |path: &[u8]| path.windows(17).any(|window| window == b".dstor-sync-part-");
        let wrong = there.iter().find(|(path, file)| !is_part(path) && wanted.get(*path) != Some(*file));
        assert!(wrong.is_none(), "{wrong:?}");
        if is_whole {
            assert!(there.len() == wanted.len() && !has_parts(&dest(nth)), "something is missing or left");
            fs::remove_dir_all(dest(nth)).expect("removed");
        }
    };
    strike(world, what, arguments, right);
}

// P4, F3
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_that_is_killed_at_any_call_is_completed_and_never_wrong() {
    let world = World::new().await;
    fill(&world);
    tokio::task::block_in_place(|| {
        assert_eq!(world.run(&["sync", "-q"]).code, 0);
        restores(&world, "restore, kills", &[]);
    });
}

// P4, F3
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_restore_of_what_is_encrypted_from_a_list_that_is_killed_at_any_call_is_completed_and_never_wrong() {
    let mut world = World::new().await;
    fill(&world);
    let identity = world.base().join("identity");
    let key = world.run(&["key".as_ref(), "generate".as_ref(), identity.as_os_str()]).stdout;
    world.set_config(format!("{}\n[encrypt]\nrecipients = [\"{}\"]\n", world.config(), key.trim()));
    tokio::task::block_in_place(|| {
        assert_eq!(world.run(&["sync", "-q"]).code, 0);
        let published = world.run(&["manifest", "publish"]);
        let hash = published.stdout.trim();
        let identity = identity.to_str().expect("UTF-8");
        restores(&world, "restore --from, kills", &["--from", hash, "--identity", identity]);
    });
}

// P4, F3
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reading_back_that_is_killed_at_any_call_is_completed_and_never_wrong() {
    let world = World::new().await;
    fill(&world);
    tokio::task::block_in_place(|| {
        assert_eq!(world.run(&["sync", "-q"]).code, 0);
        let arguments = |_| ["verify", "--read", "--sample", "100%", "--json"].map(OsString::from).to_vec();
        strike(&world, "verify --read, kills", arguments, |_, is_whole| right_ledger(&world.state_dir(), is_whole));
    });
}

/// The ledger is whole, and says of no file that it is missing or different.
fn right_ledger(state_dir: &Path, is_whole: bool) {
    let db = rusqlite::Connection::open(state_dir.join("ledger.db")).expect("opened");
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok");
    let count = |what: &str| -> u32 { db.query_row(what, [], |row| row.get(0)).expect("counted") };
    assert_eq!(count("SELECT count(*) FROM readings WHERE found <> 0"), 0);
    assert_eq!(count("SELECT count(*) FROM files WHERE state = 0 AND proof IS NOT NULL"), 14);
    if is_whole {
        assert_eq!(count("SELECT count(*) FROM readings"), 14);
    }
}
