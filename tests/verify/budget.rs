//! How much is read, in which order, and that a run that was killed is not lost.

use std::collections::BTreeSet;
use std::time::Duration;

use dstor_sync::sandbox::Phase;
use rustix::process::Signal;

use super::{FILES, stored, sync, verify};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn samples_go_through_all_files_in_turn() {
    let world = stored(FILES).await;
    let mut seen = BTreeSet::new();
    for _ in 0..4 {
        let (files, _, said) = verify(&world, &["--read", "--sample", "25%"]);
        assert_eq!((files.len(), said.code), (2, 0));
        seen.extend(files.into_keys());
    }
    assert_eq!(seen.len(), FILES.len(), "each once before any twice");
    let (files, ..) = verify(&world, &["--read", "--sample", "0.01%"]);
    assert_eq!(files.len(), 1, "a sample of nothing shows nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_budget_is_never_exceeded_and_goes_on_where_it_ended() {
    let world = World::new().await;
    for at in 0..10 {
        world.write(&format!("f{at}"), vec![at; 9 * 1024]);
    }
    world.write("large", vec![0; 100 * 1024]);
    sync(&world);
    let mut seen = BTreeSet::new();
    for run in 0..4 {
        let (files, summary, said) = verify(&world, &["--read", "--budget", "30KiB"]);
        assert_eq!((files.len(), said.code), (3, 0), "run {run}");
        assert_eq!(summary["bytes_read"], 27 * 1024);
        seen.extend(files.into_keys());
    }
    assert_eq!(seen.len(), 10, "{seen:?}");
    assert!(!seen.contains("large"), "it is more than the whole budget");
    // In which order they were read for the first time is chance; that the large one comes is said.
    let told: Vec<u64> = (0..4)
        .map(|_| verify(&world, &["--read", "--budget", "30KiB"]).1["too_large"].as_u64().expect("a number"))
        .collect();
    assert!(told.contains(&1), "{told:?}");
    let (files, ..) = verify(&world, &["--read", "--budget", "110 KiB", "--sample", "10%"]);
    assert_eq!(files.keys().collect::<Vec<_>>()[0], "large", "never read, so it comes first");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_a_fault_of_usage() {
    let world = stored(&[("a", "1")]).await;
    for arguments in [
        &["verify", "--sample", "5%"][..],
        &["verify", "--budget", "1GiB"],
        &["verify", "--read", "--sample", "5"],
        &["verify", "--read", "--sample", "0%"],
        &["verify", "--read", "--budget", "0"],
        &["verify", "--read", "--budget", "much"],
    ] {
        assert_eq!(world.run(arguments).code, 2, "{arguments:?}");
    }
    let none = World::new().await;
    assert_eq!(none.run(&["verify"]).code, 3, "there is no ledger");
}

// P4, F3
#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_is_completed_by_the_next() {
    let world = World::new().await;
    for at in 0..300 {
        world.write(&format!("d{}/f{at}", at % 7), format!("content {at}"));
    }
    sync(&world);
    std::fs::remove_file(super::object(&world, "d3/f3")).expect("removed");
    // Some 15 s for all of them: time enough to look, and to kill it long before its end.
    world.sandbox().set_delay(Duration::from_millis(200));
    let run = world.start_with(&["verify", "--read", "--json"]);
    let recorded = || world.run(&["verify", "--json"]).stdout.matches("\"read_at\":\"").count();
    world.until("it has recorded some", || recorded() > 0).await;
    run.kill();
    assert!(recorded() < 300, "it was at its end");
    world.sandbox().set_delay(Duration::ZERO);
    assert_eq!(world.status()["mirrors"][0]["files"]["stored"], 300);

    let before = world.sandbox().requests(Phase::Read);
    let (files, _, said) = verify(&world, &["--read", "--sample", "100%"]);
    assert_eq!((files.len(), said.code), (300, 1), "{}", said.stderr);
    assert_eq!(files.iter().filter(|(_, (result, _))| result == "missing").count(), 1);
    assert_eq!(files["d3/f3"].0, "missing");
    assert_eq!(world.sandbox().requests(Phase::Read) - before, 300);
    assert_eq!(world.status()["mirrors"][0]["files"]["proved"], 299);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_asked_to_stop_records_what_it_knows() {
    let world = World::new().await;
    for at in 0..200 {
        world.write(&format!("f{at}"), format!("content {at}"));
    }
    sync(&world);
    world.sandbox().set_delay(Duration::from_millis(60));
    let mut run = world.start_with(&["verify", "--read", "--json"]);
    world.until("it is in the midst of it", || world.sandbox().requests(Phase::Read) >= 100).await;
    run.signal(Signal::INT);
    assert_eq!(run.end().code(), Some(130));
    world.sandbox().set_delay(Duration::ZERO);
    let told = run.log().lines().filter(|line| line.contains("\"proved\",")).count();
    let (files, ..) = verify(&world, &[]);
    assert_eq!(files.len(), 200);
    // Each that was told of is on record as read.
    let said = world.run(&["verify", "--json"]);
    let recorded = said.stdout.lines().filter(|line| line.contains("\"read_at\":\"")).count();
    assert!(told >= 90 && recorded == told, "{told} told of, {recorded} on record");
}
