//! The column `read`: a stored file is asked back by its hash, and meets each fault. `verify` says what is right, asks no
//! more often than is right, and claims nothing that nobody told; once the fault is over, the file is proved.

use std::fs;
use std::time::{Duration, Instant, SystemTime};

use dstor_sync::sandbox::Phase as Kind;
use serde_json::Value;
use tokio::task::JoinSet;

use super::elsewhere::Elsewhere;
use super::words;
use crate::world::World;

/// What `verify` says of the file while the fault lasts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// It came.
    Proved,
    /// dStor says that it does not have it.
    Missing,
    /// Other bytes came.
    Different,
    /// No answer came, or none that says anything.
    Unknown,
}

use Seen::{Different, Missing, Proved, Unknown};

/// The faults, in the order of `table`, and what is right.
const FAULTS: &[(&str, Seen)] = &[
    // E1, E5: no server, or one that breaks off.
    ("", Unknown),
    ("reset", Unknown),
    ("reset-after-store", Unknown),
    // E6, E26: it stands still.
    ("stall", Unknown),
    ("stall-in-answer", Unknown),
    ("late=1500", Proved),
    // E14, E16, E32: statuses. Only two of them say that it is not there.
    ("206", Unknown),
    ("400", Unknown),
    ("401", Unknown),
    ("402", Unknown),
    ("403", Unknown),
    ("404", Missing),
    ("405", Unknown),
    ("410", Missing),
    ("413", Unknown),
    ("422", Unknown),
    ("451", Unknown),
    // E15
    ("429", Unknown),
    ("429 retry-after=4", Unknown),
    ("429 retry-after=DATE", Unknown),
    ("429 retry-after=soon", Unknown),
    ("429 retry-after=3600", Unknown),
    ("500", Unknown),
    ("502", Unknown),
    ("503", Unknown),
    ("507", Unknown),
    // E2, E17: answers that are none, or another one.
    ("html", Unknown),
    ("200", Different),
    ("flip-bit", Different),
    ("cut", Different),
    ("swap=OTHER", Different),
    // E27
    ("redirect=ELSEWHERE", Unknown),
    // E26
    ("endless", Different),
    ("gzip-bomb", Unknown),
];

// P1, P5, P6, G1, E30, and the entries that the table names.
#[expect(clippy::print_stdout, reason = "the figure is what the test is for")]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_fault_in_reading_ends_as_the_table_says() {
    let begun = Instant::now();
    let mut running = JoinSet::new();
    let mut names = std::collections::HashMap::new();
    for (fault, seen) in FAULTS {
        names.insert(running.spawn(run(fault, *seen)).id(), *fault);
    }
    let mut wrong = Vec::new();
    while let Some(ended) = running.join_next_with_id().await {
        if let Err(error) = ended {
            let name = names[&error.id()];
            let why = error.try_into_panic().map_or_else(|error| error.to_string(), words);
            wrong.push(format!("{name}\n    {}", why.replace('\n', "\n    ")));
        }
    }
    let right = FAULTS.len() - wrong.len();
    println!(
        "HTTP fault matrix, reading: {right} cells of {} are right, in {} s",
        FAULTS.len(),
        begun.elapsed().as_secs()
    );
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

async fn run(fault: &'static str, seen: Seen) {
    let elsewhere = Elsewhere::listen().await;
    let stall = if fault.starts_with("stall") { "stall_timeout = \"2s\"" } else { "" };
    let mut world = World::with("", stall).await;
    let key = world.sandbox().api_key().to_owned();
    world.write("file", "exactly these bytes");
    world.write("other", "other bytes");
    assert_eq!(world.run(&["sync", "-q"]).code, 0);
    let path = world.path("file").to_str().expect("UTF-8").to_owned();
    let mut port = None;
    if fault.is_empty() {
        port = Some(world.stop_sandbox().await);
    } else {
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(6));
        let other = world.ls()["other"]["hash"].as_str().expect("a hash").to_owned();
        let rule = fault.replace("DATE", &date).replace("OTHER", &other).replace("ELSEWHERE", &elsewhere.url());
        world.misbehave(&format!("read {rule}"));
    }
    let said = world.run(&["verify", "--read", "--json", "-vv", &path]);
    let first = said.stdout.lines().next().unwrap_or_default();
    let line: Value = serde_json::from_str(first).unwrap_or_else(|error| panic!("{error}: {said:?}"));
    let (result, code) = match seen {
        Proved => ("proved", 0),
        Missing => ("missing", 1),
        Different => ("different", 1),
        Unknown => ("unknown", 5),
    };
    assert_eq!((line["result"].as_str(), said.code), (Some(result), code), "{said:?}");
    if port.is_none() {
        let made = world.sandbox().requests(Kind::Read);
        let right = if seen == Unknown { 1..=3 } else { 1..=1 };
        assert!(right.contains(&made), "{made} requests");
    }
    // What is said of it afterwards is what dStor said, and nothing else.
    let status = world.status();
    let files = &status["mirrors"][0]["files"];
    let bad = |result: Seen| u64::from(seen == result);
    assert_eq!((&files["missing"], &files["different"]), (&bad(Missing).into(), &bad(Different).into()), "{status:#}");
    assert_eq!(files["proved"], 2 - bad(Missing) - bad(Different));
    let mut seen_by_all = vec![said.stdout.into_bytes(), said.stderr.into_bytes()];
    for entry in fs::read_dir(world.state_dir()).expect("read").flatten() {
        seen_by_all.push(fs::read(entry.path()).unwrap_or_default());
    }
    let is_told = |bytes: &Vec<u8>| bytes.windows(key.len()).any(|window| window == key.as_bytes());
    assert!(!seen_by_all.iter().any(is_told), "the key is told");
    match port {
        Some(port) => world.start_sandbox(port).await,
        None => world.sandbox().behave(),
    }
    let said = world.run(&["verify", "--read"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(world.status()["mirrors"][0]["files"]["proved"], 2);
    assert_eq!(elsewhere.heard(), "", "at the other host");
}
