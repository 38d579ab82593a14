//! Beside a running agent, and by it: a little each day.

use std::fs;

use dstor_sync::sandbox::Phase;

use super::{FILES, flip_a_bit, object, verify};
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn beside_a_running_agent_it_reads_and_the_agent_mends() {
    let world = World::new().await;
    let agent = world.start();
    for (path, content) in FILES {
        world.write(path, content);
    }
    world.until_mirrored().await;
    assert_eq!(world.sandbox().requests(Phase::Read), 0, "unless it is told to, the agent reads nothing back");
    flip_a_bit(&object(&world, "a"));
    fs::remove_file(object(&world, "z")).expect("removed");
    let (files, summary, said) = verify(&world, &["--read", "--repair"]);
    assert_eq!((files["a"].0.as_str(), files["z"].0.as_str(), said.code), ("different", "missing", 1), "{said:?}");
    assert_eq!(summary["repaired"], 2);
    world
        .until("both are proved again", || {
            let files = &world.status()["mirrors"][0]["files"];
            (&files["proved"], &files["missing"], &files["different"]) == (&8.into(), &0.into(), &0.into())
        })
        .await;
    assert_eq!(world.remote(), world.local());
    assert_eq!(verify(&world, &["--read"]).2.code, 0);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_on_while_files_are_read_back() {
    let world = World::new().await;
    let agent = world.start();
    for at in 0..100 {
        world.write(&format!("f{at}"), format!("content {at}"));
    }
    world.until_mirrored().await;
    world.sandbox().set_delay(std::time::Duration::from_millis(20));
    let mut run = world.start_with(&["verify", "--read", "--json"]);
    world.until("it reads", || world.sandbox().requests(Phase::Read) >= 10).await;
    for at in 0..20 {
        world.write(&format!("f{at}"), format!("other content {at}"));
    }
    assert_eq!(run.end().code(), Some(0), "{}", run.log());
    world.until_mirrored().await;
    assert_eq!(world.status()["mirrors"][0]["files"]["proved"], 100);
    assert_eq!(agent.stop(), 0);
}

/// As much as there is to read.
const ALL: &str = "\n[verify]\nbudget = \"1 PiB/day\"";

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reads_back_by_itself_each_file_once_and_tells_what_it_finds() {
    let world = World::with("", ALL).await;
    for (path, content) in FILES {
        world.write(path, content);
    }
    super::sync(&world);
    flip_a_bit(&object(&world, "a"));
    fs::remove_file(object(&world, "z")).expect("removed");
    let agent = world.start();
    world
        .until("it has read all of them", || {
            let said = world.run(&["verify", "--json"]);
            said.stdout.matches("\"read_at\":\"").count() == FILES.len()
        })
        .await;
    let (files, _, said) = verify(&world, &[]);
    assert_eq!((files["a"].0.as_str(), files["z"].0.as_str(), said.code), ("different", "missing", 1));
    assert_eq!(files.values().filter(|(result, _)| result == "proved").count(), 6);
    assert_eq!(world.sandbox().requests(Phase::Read), 8);
    let status = world.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(status.stdout.starts_with("needs you: dStor does not give back 2 files as stored"), "{}", status.stdout);
    assert_eq!(agent.log().matches("not on dStor as it was stored").count(), 2, "{}", agent.log());
    // Mended by a word to it; nothing is read twice in a day for that.
    assert_eq!(world.run(&["verify", "--repair"]).code, 1);
    world.until("all are proved again", || world.count("proved") == 8).await;
    assert_eq!(world.run(&["status"]).code, 0);
    assert_eq!(world.remote(), world.local());
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.sandbox().requests(Phase::Read), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_hangs_keeps_no_upload_waiting() {
    let world = World::with("", &format!("workers = 1\nstall_timeout = \"1h\"{ALL}")).await;
    world.write("a", "the first");
    super::sync(&world);
    world.misbehave("read stall");
    let agent = world.start();
    world.until("it reads", || world.sandbox().requests(Phase::Read) == 1).await;
    // One worker, one request at a time: it is the reading that has to give way.
    world.write("b", "the second");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_gives_nothing_back_takes_uploads_all_the_same() {
    let world = World::with("", ALL).await;
    world.write("a", "the first");
    super::sync(&world);
    world.misbehave("read 403");
    let agent = world.start();
    world.until("it was refused", || world.sandbox().requests(Phase::Read) == 1).await;
    world.write("b", "the second");
    world.until_mirrored().await;
    let status = world.status();
    assert_eq!(
        (&status["problems"], &status["dstor"]["last_error"]),
        (&serde_json::json!([]), &serde_json::Value::Null)
    );
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.sandbox().requests(Phase::Read), 1, "nor is it asked again and again");
}
