//! Killed, stopped, started twice: nothing is lost and nothing false is said.

use std::time::{Duration, Instant};

use dstor_sync::sandbox::Phase;
use rustix::process::Signal;

use crate::world::World;

// F3, P4
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_killed_again_and_again_stores_everything_in_the_end() {
    let world = World::new().await;
    for at in 0..400 {
        world.write(&format!("d{}/f{at}", at % 9), vec![b'x'; at * 37]);
    }
    for round in 0..12_u64 {
        let agent = world.start();
        tokio::time::sleep(Duration::from_millis(40 + round * 35)).await;
        agent.kill();
        let status = world.run(&["status", "--json"]);
        assert!(!status.stdout.contains("\"running\""), "{status:?}");
        // Whatever the ledger calls stored, dStor has.
        let remote = world.remote();
        for (path, line) in world.ls() {
            assert!(line["state"] != "stored" || remote.contains_key(path.as_bytes()), "{line}");
        }
        world.write(&format!("round{round}"), "more");
    }
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!(world.count("stored"), 412);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_agent_is_dead_and_a_stopped_one_is_stopped() {
    let world = World::new().await;
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    agent.kill();
    assert_eq!(world.status()["agent"]["state"], "dead");
    assert_eq!(world.run(&["status"]).code, 3);
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.status()["agent"]["state"], "stopped");
}

// F1
#[tokio::test(flavor = "multi_thread")]
async fn the_first_signal_stops_within_the_grace_also_when_dstor_hangs() {
    let world = World::with("", "shutdown_grace = \"1s\"").await;
    world.misbehave("upload stall");
    world.write("a", vec![b'x'; 1_000_000]);
    let mut agent = world.start();
    world.until("the upload hangs", || world.sandbox().requests(Phase::Upload) == 1).await;
    let asked = Instant::now();
    agent.signal(Signal::TERM);
    assert_eq!(agent.end().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(30), "the grace of one second had no effect");
    assert_eq!(world.states()["a"], "pending");
    world.sandbox().behave();
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_signal_ends_at_once() {
    let world = World::with("", "shutdown_grace = \"5m\"").await;
    world.misbehave("upload stall");
    world.write("a", vec![b'x'; 1_000_000]);
    let mut agent = world.start();
    world.until("the upload hangs", || world.sandbox().requests(Phase::Upload) == 1).await;
    agent.signal(Signal::INT);
    world.until("it is stopping", || world.status()["agent"]["state"] == "stopping").await;
    agent.signal(Signal::INT);
    assert_eq!(agent.end().code(), Some(130));
}

// D10
#[tokio::test(flavor = "multi_thread")]
async fn a_second_agent_is_turned_away() {
    let world = World::new().await;
    let agent = world.start();
    world.until("it runs", || world.status()["agent"]["state"] == "running").await;
    for second in [&["run"][..], &["sync"]] {
        let said = world.run(second);
        assert_eq!(said.code, 75, "{said:?}");
        assert!(said.stderr.starts_with("error: another dstor-sync works with the ledger"), "{said:?}");
    }
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sandbox_inside_keeps_its_files_over_a_restart() {
    let world = World::new().await;
    world.write("a.txt", "kept");
    let arguments = ["run", "--sandbox", world.mirror().to_str().expect("UTF-8").to_owned().leak()];
    let agent = world.start_with(&arguments);
    let stored = || {
        let said = world.run(&["status", "--sandbox", "--json"]);
        serde_json::from_str::<serde_json::Value>(&said.stdout)
            .is_ok_and(|status| status["mirrors"][0]["files"]["stored"] == 1)
    };
    world.until("it is stored", stored).await;
    assert_eq!(agent.stop(), 0);
    let agent = world.start_with(&arguments);
    world.until("it runs again", || world.run(&["status", "--sandbox"]).code == 0).await;
    assert!(stored());
    let line = world.run(&["ls", "--sandbox", "--json"]).stdout;
    let line: serde_json::Value = serde_json::from_str(&line).expect("one line");
    let link = line["url"].as_str().expect("a link").to_owned();
    let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
    let content = http.get(link).send().await.expect("an answer").bytes().await.expect("a body");
    assert_eq!(&content[..], b"kept");
    assert_eq!(agent.stop(), 0);
}
