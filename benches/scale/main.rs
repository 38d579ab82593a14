//! How time and memory grow with the number of files: `cargo bench --bench scale -- [FILES…]`.
//!
//! For each number of files it makes a tree and a ledger that knows all of it, then compares what an unchanged tree costs
//! the program with `find -printf` and `rsync -a` (in turns, medians, ratios within one run), starts the agent over it and
//! looks at it while nothing happens, and takes the size of the ledger. `burst=FILES` makes as many files at once, so
//! that the system's queue of events overflows, half of them in new directories; `first=FILES` is a first sync,
//! beside `restic backup`. Everything lies in one directory below `TMPDIR`, which is removed at the end.
//!
//! Needs `/usr/bin/time`; peers that are not installed are left out.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod measure;
mod world;

use std::process::ExitCode;
use std::time::Duration;

use measure::{Contender, Cost, in_turns, median, program_in_path};
use world::World;

/// Rounds of each comparison.
const ROUNDS: usize = 5;
/// How long an agent that has nothing to do is looked at.
const IDLE: Duration = Duration::from_secs(60);
/// The numbers of files, if none are asked for.
const USUAL: [usize; 3] = [10_000, 100_000, 1_000_000];

#[tokio::main]
async fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let number = |text: &str| text.replace('_', "").parse::<usize>().ok();
    if asked.is_empty() {
        for files in USUAL {
            unchanged(files).await;
        }
    }
    for wish in &asked {
        match wish.split_once('=').map_or(("unchanged", wish.as_str()), |(what, files)| (what, files)) {
            ("unchanged", files) if number(files).is_some() => unchanged(number(files).unwrap_or_default()).await,
            ("first", files) if number(files).is_some() => first(number(files).unwrap_or_default()).await,
            ("burst", files) if number(files).is_some() => burst(number(files).unwrap_or_default()).await,
            _ => {
                println!("usage: cargo bench --bench scale -- [FILES] [first=FILES] [burst=FILES]");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a tree costs in which nothing changed.
async fn unchanged(files: usize) {
    let world = World::new().await;
    println!("{files} files unchanged (100 a directory, 16 bytes each); load before {}", load());
    world.pass();
    world.make_tree(files, 16);
    world.make_copy();
    world.know_everything();
    // The first pass and the first walks warm the cache for all alike.
    world.pass();
    let mut runs: Vec<Contender<'_>> = vec![("sync", Box::new(|| world.program(&["--quiet", "sync"], true)))];
    runs.extend(world.find().into_iter().chain(world.rsync()));
    let before = world.ledger_bytes();
    let costs = in_turns(ROUNDS, &runs);
    print_table(&costs);
    println!("  requests with files: {}; the ledger grew by {} bytes", world.requests(), world.ledger_bytes() - before);

    let starts: Vec<Duration> = (0..ROUNDS).map(|_| world.start().until_watching()).collect();
    println!(
        "  start to watching, all of it compared: median {:.3} s of {ROUNDS} {starts:.3?}",
        median(&starts).as_secs_f64()
    );
    if let Some(lsyncd) = world.lsyncd(ROUNDS) {
        println!(
            "  lsyncd to the same point: median {:.3} s; ours is {:.2} of it",
            median(&lsyncd).as_secs_f64(),
            median(&starts).as_secs_f64() / median(&lsyncd).as_secs_f64()
        );
    }
    let mut agent = world.start();
    agent.wait_until_watching();
    // What was due at the start: the copy of the ledger above all.
    std::thread::sleep(Duration::from_secs(20));
    println!("  idle: {}", agent.idle(IDLE));
    let status: Vec<Duration> =
        (0..4 * ROUNDS).map(|_| Cost::of(&mut world.program(&["status", "--json"], false)).took).collect();
    let version: Vec<Duration> =
        (0..4 * ROUNDS).map(|_| Cost::of(&mut world.program(&["--version"], false)).took).collect();
    println!(
        "  status: median {:.1} ms (of which the program's start, as for --version, {:.1} ms)",
        median(&status).as_secs_f64() * 1e3,
        median(&version).as_secs_f64() * 1e3
    );
    drop(agent);
    println!("  ledger: {:.1} bytes a row", world.ledger_bytes() as f64 / files as f64);
}

fn print_table(costs: &[(&str, Vec<Cost>)]) {
    let ours = costs.first().map(|(_, costs)| costs.as_slice()).unwrap_or_default();
    for (name, theirs) in costs {
        let mut ratios: Vec<f64> =
            ours.iter().zip(theirs).map(|(our, their)| our.took.as_secs_f64() / their.took.as_secs_f64()).collect();
        ratios.sort_by(f64::total_cmp);
        let took: Vec<Duration> = theirs.iter().map(|cost| cost.took).collect();
        let cpu: Vec<Duration> = theirs.iter().map(|cost| cost.cpu).collect();
        println!(
            "  {name:8} median {:.3} s, CPU {:.2} s, peak {} KiB; ours is {:.2} of it ({:.2} to {:.2})",
            median(&took).as_secs_f64(),
            median(&cpu).as_secs_f64(),
            theirs.iter().map(|cost| cost.peak_kib).max().unwrap_or(0),
            ratios[ratios.len() / 2],
            ratios[0],
            ratios[ratios.len() - 1]
        );
    }
}

/// A first sync, each time into a ledger and a sandbox of its own, beside `restic backup` to a directory.
async fn first(files: usize) {
    println!("{files} files of 1 KiB, first sync (100 a directory); load before {}", load());
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let world = World::new().await;
        world.make_tree(files, 1024);
        ours.push(Cost::of(&mut world.program(&["--quiet", "sync"], true)));
        assert_eq!(world.stored(), files as u64, "stored");
        if let Some(mut restic) = world.restic() {
            theirs.push(Cost::of(&mut restic));
        }
    }
    let mut costs = vec![("sync", ours)];
    if program_in_path("restic") {
        costs.push(("restic", theirs));
    }
    print_table(&costs);
}

/// Half of the files while the agent is stopped, in directories that it watches, which is more than the system's queue of
/// events can hold; the other half while it runs, in new directories.
async fn burst(files: usize) {
    println!("a burst of {files} files, half of them in new directories; load before {}", load());
    for round in 0..ROUNDS {
        let world = World::new().await;
        world.make_directories(files / 2);
        let mut agent = world.start();
        agent.wait_until_watching();
        agent.signal("STOP");
        world.make_tree(files / 2, 16);
        let begun = std::time::Instant::now();
        agent.signal("CONT");
        world.make_more(files - files / 2, 16);
        world.wait_until_stored(files as u64, Duration::from_secs(600));
        println!(
            "  round {}: all {files} stored {:.1} s after the agent went on, peak {} KiB, events were lost: {}",
            round + 1,
            begun.elapsed().as_secs_f64(),
            agent.peak_kib(),
            agent.said("events were lost")
        );
    }
}
