//! How time and memory grow with the number of files: `cargo bench --bench scale -- [FILES…]`.
//!
//! For each number of files it makes a tree and a ledger that knows all of it, passes over it with nothing to do, starts
//! the agent over it and looks at it while nothing happens, and takes the size of the ledger. Everything lies below
//! `TMPDIR` and is removed at the end. `peers` tells how that compares with other programs.
//!
//! Needs `/usr/bin/time`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

#[path = "../shared/mod.rs"]
mod shared;

use std::process::ExitCode;
use std::time::Duration;

use shared::measure::{Cost, median};
use shared::tree::Tree;
use shared::world::World;

/// Rounds of each measurement.
const ROUNDS: usize = 5;
/// How long an agent that has nothing to do is looked at.
const IDLE: Duration = Duration::from_secs(60);
/// The numbers of files, if none are asked for.
const USUAL: [usize; 3] = [10_000, 100_000, 1_000_000];

fn main() -> ExitCode {
    let asked = std::env::args().skip(1).filter(|argument| !argument.starts_with('-'));
    let Ok(asked) = asked.map(|text| text.replace('_', "").parse::<usize>()).collect::<Result<Vec<_>, _>>() else {
        println!("usage: cargo bench --bench scale -- [FILES…]");
        return ExitCode::from(2);
    };
    for files in if asked.is_empty() { USUAL.to_vec() } else { asked } {
        unchanged(files);
    }
    ExitCode::SUCCESS
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

/// What a tree costs in which nothing changed.
fn unchanged(files: usize) {
    println!("{files} files unchanged (100 a directory, 16 bytes each); load before {}", load());
    let tree = Tree::new();
    let world = World::new(&tree.path(), "");
    world.pass();
    tree.make(files, 16);
    world.know_everything();
    // The first pass warms the cache.
    world.pass();
    let before = world.ledger_bytes();
    let costs: Vec<Cost> = (0..ROUNDS).map(|_| Cost::of(&mut world.program(&["--quiet", "sync"]))).collect();
    let of = |figure: fn(&Cost) -> Duration| median(&costs.iter().map(figure).collect::<Vec<_>>()).as_secs_f64();
    println!(
        "  sync: median {:.3} s, CPU {:.2} s, peak {} KiB; requests with files: {}; the ledger grew by {} bytes",
        of(|cost| cost.took),
        of(|cost| cost.cpu),
        costs.iter().map(|cost| cost.peak_kib).max().unwrap_or(0),
        world.requests(),
        world.ledger_bytes() - before
    );
    let starts: Vec<Duration> = (0..ROUNDS).map(|_| world.start().wait_until_watching()).collect();
    println!(
        "  start to watching, all of it compared: median {:.3} s of {ROUNDS} {starts:.3?}",
        median(&starts).as_secs_f64()
    );
    let agent = world.start();
    agent.wait_until_watching();
    // What was due at the start: the copy of the ledger above all.
    std::thread::sleep(Duration::from_secs(20));
    let before = world.ledger_bytes();
    println!("  idle: {}, the ledger grew by {}", agent.process().idle(IDLE), world.ledger_bytes() - before);
    let median_of = |arguments: &[&str]| {
        let once = |_| Cost::of(&mut world.program(arguments)).took;
        median(&(0..4 * ROUNDS).map(once).collect::<Vec<_>>()).as_secs_f64() * 1e3
    };
    println!(
        "  status: median {:.1} ms (of which the program's start, as for --version, {:.1} ms)",
        median_of(&["status", "--json"]),
        median_of(&["--version"])
    );
    drop(agent);
    println!("  ledger: {:.1} bytes a row", world.ledger_bytes() as f64 / files as f64);
}
