//! The agent's decisions, driven by seeds: debouncing, deciding, the queue, packs, sessions, retries, the token and the gate, over a folder, a
//! dStor and a clock that exist only in memory. No thread, socket or real time has a part in a run, so a seed always gives
//! the same run, and a million of them fit into minutes.
//!
//! `SIMULATOR_SEEDS=1000000 cargo test --release --test simulator -- --nocapture` runs more than by default;
//! `SIMULATOR_SEED=…` tells the story of one, and `SIMULATOR_FROM=…` is where to begin.

mod deeds;
mod disk;
mod minder;
mod packs;
mod promises;
mod reach;
mod remote;
mod run;
mod sending;
mod sessions;
mod shipping;
mod tape;
mod worker;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use reach::{Rare, Reach};
use run::play;
use tape::{Script, shrink};

/// Seeds that are tried unless more are asked for.
const SEEDS: u64 = 100_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is no number: {text}")))
}

/// What a seed's failure looks like when everything that has no part in it is taken out.
fn smallest_story(seed: u64) -> String {
    let script = Script::from_seed(seed);
    let fails = |script: &Script| {
        let outcome = play(script, false);
        outcome.broken.map(|_| outcome.faults)
    };
    let small = shrink(&script, fails);
    let outcome = play(&small, true);
    format!(
        "seed {seed}, shrunk to {} deeds; SIMULATOR_SEED={seed} tells the whole of it\n{}\n{}",
        small.deeds.len(),
        outcome.story.join("\n"),
        outcome.broken.unwrap_or_default()
    )
}

// P1, P2, P4, P5 and the mirror invariant.
#[test]
#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn no_seed_breaks_a_promise_and_every_rare_situation_is_met() {
    if let Some(seed) = number("SIMULATOR_SEED") {
        let outcome = play(&Script::from_seed(seed), true);
        println!("{}", outcome.story.join("\n"));
        assert_eq!(outcome.broken, None, "{}", smallest_story(seed));
        return;
    }
    let seeds = number("SIMULATOR_SEEDS").unwrap_or(SEEDS);
    let from = number("SIMULATOR_FROM").unwrap_or(0);
    let (begun, next) = (Instant::now(), AtomicU64::new(from));
    let broken = Mutex::new(None);
    let (met, rows) = (Mutex::new(Reach::default()), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                let mut mine = Reach::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || broken.lock().expect("no panic").is_some() {
                        break;
                    }
                    let outcome = play(&Script::from_seed(seed), false);
                    mine.add(&outcome.reach);
                    rows.fetch_add(outcome.rows_checked, Ordering::Relaxed);
                    if outcome.broken.is_some() {
                        broken.lock().expect("no panic").get_or_insert(seed);
                    }
                }
                met.lock().expect("no panic").add(&mine);
            });
        }
    });
    if let Some(seed) = broken.into_inner().expect("no panic") {
        panic!("{}", smallest_story(seed));
    }
    let met = met.into_inner().expect("no panic");
    println!(
        "simulator: {seeds} seeds from {from}, 0 broken promises; {} rows that said `stored` held against what dStor \
         acknowledged; {:.0} s",
        rows.into_inner(),
        begun.elapsed().as_secs_f64()
    );
    for (rare, words) in Rare::ALL {
        println!("{:>10} × {words}", met.times(*rare));
    }
    let never = met.never();
    println!("rare situations never met: {} of {}", never.len(), Rare::ALL.len());
    assert!(never.is_empty() || seeds < SEEDS, "never met: {never:#?}");
}

#[test]
#[expect(clippy::print_stdout, reason = "the figures are for people")]
fn the_same_seed_gives_the_same_run() {
    let mut differ = 0;
    for seed in 0..1_000 {
        let (one, two) = (play(&Script::from_seed(seed), false), play(&Script::from_seed(seed), false));
        differ += u32::from((one.trace, one.faults, one.broken) != (two.trace, two.faults, two.broken));
    }
    println!("simulator: 1000 seeds played twice, {differ} traces differ");
    assert_eq!(differ, 0);
}
