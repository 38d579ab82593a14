//! What people tell the agent: `pause`, `resume`, `retry`, `rescan`.

use dstor_sync::sandbox::Phase;

use crate::world::{Agent, World};

/// Waits until the agent has heard a word, as its log tells it.
async fn until_heard(world: &World, agent: &Agent, word: &str) {
    world.until(&format!("the agent heard: {word}"), || agent.log().contains(word)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_agent_notices_changes_and_uploads_none_until_it_goes_on() {
    let world = World::new().await;
    let agent = world.start();
    world.write("before", "1");
    world.until_mirrored().await;
    let said = world.run(&["pause"]);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    until_heard(&world, &agent, "paused: no upload begins").await;
    world.write("during", "2");
    world.until("it waits", || world.count("pending") == 1).await;
    // A scan takes a tick of the agent's clock to begin, and its time: many times what the change would wait for.
    let scanned = world.status()["mirrors"][0]["last_scan_at"].clone();
    assert_eq!(world.run(&["rescan"]).code, 0);
    world.until("a scan later", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    assert_eq!((world.count("pending"), world.sent()), (1, 1));
    let status = world.status();
    assert_eq!((&status["agent"]["paused"], &status["agent"]["paused_until"]), (&true.into(), &().into()));
    let said = world.run(&["status"]);
    assert!(said.stdout.starts_with("paused until `dstor-sync resume`: 1 waiting\n"), "{}", said.stdout);
    assert_eq!(world.run(&["resume"]).stdout, "going on\n");
    world.until_mirrored().await;
    assert_eq!(world.status()["agent"]["paused"], false);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_over_restarts_and_ends_by_itself() {
    let world = World::new().await;
    assert_eq!(world.run(&["sync"]).code, 0);
    let said = world.run(&["pause", "--for", "1h"]);
    assert_eq!(said.code, 3, "{}", said.stderr);
    assert!(said.stderr.contains("the agent is not running; this takes effect when one starts"), "{}", said.stderr);
    let mirror = world.mirror();
    let mirror = mirror.to_str().expect("UTF-8");
    assert_eq!(world.run(&["accept", mirror]).code, 1, "nothing is held");
    for word in [["root", "accept", mirror].as_slice(), &["retry"], &["rescan"]] {
        let said = world.run(word);
        assert!(said.code == 3 && said.stderr.contains("this takes effect when one starts"), "{word:?}: {said:?}");
    }
    world.write("f", "1");
    let agent = world.start();
    world.until("the first scan is through", || world.status()["agent"]["state"] == "running").await;
    assert_eq!((world.count("pending"), world.sent()), (1, 0));
    assert!(world.status()["agent"]["paused_until"].is_string());
    // The same pause, so much shorter.
    assert_eq!(world.run(&["pause", "--for", "1s"]).code, 0);
    world.until_mirrored().await;
    assert_eq!(world.status()["agent"]["paused"], false);
    assert_eq!(world.run(&["resume"]).stdout, "it was not paused\n");
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_up_is_tried_again_when_someone_asks() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload 413 name=bad");
    world.misbehave("upload 413 name=worse");
    for name in ["dir/bad", "dir/good", "worse"] {
        world.write(name, name);
    }
    let agent = world.start();
    world.until("two failed", || (world.count("failed"), world.count("stored")) == (2, 1)).await;
    world.sandbox().behave();
    let said = world.run(&["retry", &world.path("dir").display().to_string()]);
    assert_eq!(
        (said.code, said.stdout),
        (0, format!("`{}`: 1 file will be tried again\n", world.path("dir").display()))
    );
    world.until("that one is stored", || (world.count("failed"), world.count("stored")) == (1, 2)).await;
    let good = world.path("dir/good").display().to_string();
    let said = world.run(&["retry", &good]);
    assert_eq!((said.code, said.stderr), (1, format!("`{good}`: nothing there failed\n")));
    assert_eq!(world.run(&["retry"]).code, 0);
    world.until_mirrored().await;
    assert_eq!((world.count("failed"), world.sent()), (0, 3));
    let said = world.run(&["retry"]);
    assert_eq!((said.code, said.stdout), (0, format!("`{}`: nothing failed\n", world.mirror().display())));
    assert_eq!(agent.stop(), 0);
}

/// A service that asks for an hour is left alone for an hour, unless a person knows better.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_asks_a_service_at_once_that_wanted_to_be_left_alone() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload 503 retry-after=3600 x1");
    world.write("f", "1");
    let agent = world.start();
    world.until("it is told to wait", || world.status()["problems"][0]["next_attempt_at"].is_string()).await;
    assert_eq!(world.sandbox().requests(Phase::Upload), 1);
    assert_eq!(world.run(&["retry"]).code, 0);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_in_the_midst_of_much_work_lets_end_what_was_begun_and_begins_no_more() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload late=1000");
    // A quarter of a minute's work for four workers: longer than the agent takes to hear a word.
    for at in 0..60 {
        world.write(&format!("f{at}"), at.to_string());
    }
    let agent = world.start();
    world.until("uploads are under way", || (1..=4).contains(&world.count("uploading"))).await;
    assert_eq!(world.run(&["pause"]).code, 0);
    until_heard(&world, &agent, "paused: no upload begins").await;
    world.until("those are through", || world.count("uploading") == 0).await;
    let (sent, left) = (world.sent(), world.count("pending"));
    assert!(left > 0, "{sent} sent");
    let scanned = world.status()["mirrors"][0]["last_scan_at"].clone();
    assert_eq!(world.run(&["rescan"]).code, 0);
    world.until("a scan later", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    assert_eq!((world.sent(), world.count("pending")), (sent, left));
    world.sandbox().behave();
    assert_eq!(world.run(&["resume"]).code, 0);
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}
