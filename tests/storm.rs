//! A storm: files change in every way there is while dStor misbehaves and the agent is killed at random moments and
//! started again. Whatever the ledger calls stored is so at each of these moments, and nothing is missing in the end.
//!
//! How many kills and by which seed: `STORM_CYCLES`, `STORM_SEED`.

mod deeds;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::Signal;

use self::deeds::Deeds;
use crate::truth::Truth;
use crate::world::{Agent, World, tell};

/// Kills, if nothing else is asked for.
const CYCLES: u64 = 208;
/// Kills in one world; then the next begins, with a seed of its own.
const CYCLES_A_WORLD: u64 = 52;
/// Worlds at the same time.
const AT_ONCE: u64 = 4;
/// How long it may take until everything is stored when the storm is over.
const DEADLINE: Duration = Duration::from_secs(120);

/// What goes wrong with dStor.
const FAULTS: [&str; 34] = [
    "upload 413 x1",
    "upload 500 x2",
    "upload 503 x1",
    "upload 503 retry-after=1 x1",
    "upload 429 x1",
    "upload 401 x1",
    "upload 402 x1",
    "upload html x1",
    "upload no-hash x1",
    "upload bad-hash x1",
    "upload truncated-json x1",
    "upload reset x2",
    "upload reset-in-body x2",
    "upload reset-after-store x1",
    "upload reset-after-store x3",
    "upload stall x1",
    "upload slow=200000 x3",
    "upload endless x1",
    "upload redirect=http://127.0.0.1:9/ x1",
    "get-token 404 x1",
    "get-token 500 x1",
    "chunk 413 x2",
    "chunk 401 x1",
    "chunk reset-in-body x1",
    "chunk reset-after-store x2",
    "chunk stall x1",
    "status no-hash x1",
    "status 500 x1",
    "status reset x1",
    "status late=800 x2",
    "token 503 x1",
    "token html x1",
    "token reset x1",
    "token stall x1",
];

/// What was seen, over all worlds.
#[derive(Default)]
struct Seen {
    deeds: AtomicU64,
    kills: AtomicU64,
    stops: AtomicU64,
    rows: AtomicU64,
    files: AtomicU64,
    overtaken: AtomicU64,
}

/// Someone who works in a mirror until told to stop.
struct Storm {
    over: Arc<AtomicBool>,
    calm: Arc<Mutex<()>>,
    thread: std::thread::JoinHandle<u64>,
}

impl Storm {
    fn begin(mut deeds: Deeds) -> Self {
        let (over, calm) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
        let (until, between) = (Arc::clone(&over), Arc::clone(&calm));
        let thread = std::thread::spawn(move || {
            let mut done = 0;
            while !until.load(Ordering::Relaxed) {
                let held = between.lock().unwrap_or_else(PoisonError::into_inner);
                deeds.next();
                drop(held);
                done += 1;
                std::thread::sleep(deeds.pause());
            }
            deeds.end();
            done
        });
        Self { over, calm, thread }
    }

    /// Nothing changes while this is held.
    fn calm(&self) -> MutexGuard<'_, ()> {
        self.calm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it worked to the end")
    }
}

// F3, P1, P2, P4, D17, E18
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_that_is_killed_in_a_storm_never_lies_and_misses_nothing() {
    let cycles = from_environment("STORM_CYCLES").unwrap_or(CYCLES);
    let seed = from_environment("STORM_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000_000));
    let seen = Arc::new(Seen::default());
    let worlds = cycles.div_ceil(CYCLES_A_WORLD);
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let tasks: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let (next, seen) = (Arc::clone(&next), Arc::clone(&seen));
            tokio::spawn(async move {
                loop {
                    let world = next.fetch_add(1, Ordering::Relaxed);
                    if world >= worlds {
                        return;
                    }
                    let kills = CYCLES_A_WORLD.min(cycles - world * CYCLES_A_WORLD);
                    weather(seed + world, kills, &seen).await;
                }
            })
        })
        .collect();
    for task in tasks {
        if let Err(failed) = task.await {
            std::panic::resume_unwind(failed.into_panic());
        }
    }
    let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
    tell(&format!(
        "storm: seed {seed}, {worlds} worlds, {} operations, {} kills, {} stops, {} rows checked, false rows 0, \
         {} files at rest, missing 0, {} overtaken by what a killed agent had sent, {} s",
        of(&seen.deeds),
        of(&seen.kills),
        of(&seen.stops),
        of(&seen.rows),
        of(&seen.files),
        of(&seen.overtaken),
        begun.elapsed().as_secs()
    ));
    assert_eq!(of(&seen.kills), cycles);
    assert!(of(&seen.rows) > cycles, "hardly anything was stored: there was nothing to lie about");
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// One world from its first file to its rest.
async fn weather(seed: u64, kills: u64, seen: &Seen) {
    let mut rng = Rng::with_seed(seed ^ 0x5707);
    let mut world = World::with("comment = \"0\"", "stall_timeout = \"1s\"\nshutdown_grace = \"1s\"").await;
    world.set_config(
        world
            .config()
            .replace("settle = \"100ms\"", "settle = \"30ms\"")
            .replace("max_delay = \"2s\"", "max_delay = \"500ms\""),
    );
    let storm = Storm::begin(Deeds::new(seed, world.mirror(), world.base().join("outside")));
    let mut truth = Truth::default();
    let mut killed = 0;
    let mut run = 0;
    while killed < kills {
        run += 1;
        let agent = next_agent(&mut world, run);
        brew(&world, &mut rng);
        let life = match rng.u32(..10) {
            0..3 => rng.u64(..40),
            3..8 => rng.u64(40..300),
            8 => rng.u64(300..800),
            _ => rng.u64(800..1600),
        };
        tokio::time::sleep(Duration::from_millis(life)).await;
        let is_stop = rng.u32(..12) == 0;
        let log = end(agent, is_stop);
        if is_stop {
            seen.stops.fetch_add(1, Ordering::Relaxed);
        } else {
            killed += 1;
            seen.kills.fetch_add(1, Ordering::Relaxed);
        }
        let wrong = tokio::task::block_in_place(|| {
            let _calm = storm.calm();
            truth.falsehoods(&world)
        });
        let log = log.unwrap_or_else(|log| panic!("seed {seed}, run {run}: the agent ended by itself\n{log}"));
        assert!(wrong.is_empty(), "seed {seed}, run {run}, {life} ms: {wrong:#?}\n{log}");
    }

    // One agent to the end, without a scan that finds what it missed: files are saved while they are on their way.
    world.sandbox().behave();
    world.sandbox().set_delay(Duration::from_millis(rng.u64(..80)));
    let agent = next_agent(&mut world, run + 1);
    tokio::time::sleep(Duration::from_millis(rng.u64(500..2500))).await;
    seen.deeds.fetch_add(storm.end(), Ordering::Relaxed);
    // What a killed agent had handed to the system can come in after what the next one sent. The agent sends such files
    // once more, but not before nothing can be on its way; the next save is quicker.
    let overtaken = Truth::overtaken(&world);
    seen.overtaken.fetch_add(overtaken.len() as u64, Ordering::Relaxed);
    let save = |path: &String| {
        if world.path(path).is_file() {
            world.write(path, "saved once more");
        }
    };
    overtaken.iter().for_each(save);
    // And what was given up is tried again when it changes; a file may turn out to be while the queue is worked off, but
    // not once more.
    let mut given_up = BTreeSet::new();
    let begun = Instant::now();
    loop {
        let missing = tokio::task::block_in_place(|| truth.missing(&world));
        if missing.is_empty() {
            break;
        }
        let again = Truth::given_up(&world).into_iter().filter(|path| given_up.insert(path.clone()));
        again.collect::<Vec<_>>().iter().for_each(save);
        assert!(
            begun.elapsed() < DEADLINE,
            "seed {seed}: never at rest: {missing:#?}\nsaved again: {given_up:?}\n{}",
            agent.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if let Err(log) = end(agent, true) {
        panic!("seed {seed}: it did not stop well\n{log}");
    }
    let wrong = tokio::task::block_in_place(|| truth.falsehoods(&world));
    assert!(wrong.is_empty(), "seed {seed}, at rest: {wrong:#?}");
    seen.rows.fetch_add(truth.rows, Ordering::Relaxed);
    seen.files.fetch_add(world.local().len() as u64, Ordering::Relaxed);
}

/// The next agent; what it sends carries its number.
fn next_agent(world: &mut World, run: u64) -> Agent {
    let before = world.config().lines().find(|line| line.starts_with("comment = ")).expect("a comment").to_owned();
    world.set_config(world.config().replace(&before, &format!("comment = \"{run}\"")));
    world.start_with(&["run", "-v"])
}

/// Decides what goes wrong with dStor from now on.
fn brew(world: &World, rng: &mut Rng) {
    if rng.u32(..3) == 0 {
        world.sandbox().behave();
    }
    if rng.u32(..8) == 0 {
        world.sandbox().revoke_tokens();
    }
    for _ in 0..rng.u32(..3) {
        world.misbehave(FAULTS[rng.usize(..FAULTS.len())]);
    }
}

/// Stops or kills the agent and returns its log; as an error if it did not end by that.
fn end(mut agent: Agent, is_stop: bool) -> Result<String, String> {
    agent.signal(if is_stop { Signal::TERM } else { Signal::KILL });
    let status = agent.end();
    let log = agent.log();
    let as_told = match is_stop {
        // Told so early that it does not listen yet, it ends as any program does.
        true => status.code() == Some(0) || status.signal() == Some(Signal::TERM.as_raw()),
        false => status.signal() == Some(Signal::KILL.as_raw()),
    };
    if as_told && !log.contains("panicked") { Ok(log) } else { Err(format!("{status}\n{log}")) }
}
