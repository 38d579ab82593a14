//! What the agent does when dStor, or what answers in its place, does not do its part.

use std::fs;
use std::time::Duration;

use dstor_sync::sandbox::Phase;

use crate::world::{Mount, World, private};

/// Faults of an upload that pass: the file is stored in the end, and never before dStor has it.
#[tokio::test(flavor = "multi_thread")]
async fn faults_that_pass_delay_a_file_and_lose_none() {
    for fault in [
        "500 x1",
        "503 retry-after=1 x1",
        "429 x1",
        "html x1",
        "no-hash x1",
        "empty-hash x1",
        "bad-hash x1",
        "truncated-json x1",
        "reset x1",
        "reset-in-body x1",
        "reset-after-store x1",
        "redirect=http://127.0.0.1:9/ x1",
        "endless x1",
        "401 x1",
        "402 x1",
    ] {
        let world = World::with("", "sessions = \"never\"").await;
        world.misbehave(&format!("upload {fault}"));
        for at in 0..5 {
            world.write(&format!("f{at}"), vec![b'x'; 200_000 + at]);
        }
        let agent = world.start();
        world.until_mirrored().await;
        assert_eq!(world.count("stored"), 5, "{fault}");
        world
            .until(&format!("all is well after {fault}"), || {
                let status = world.status();
                status["dstor"]["reachable"] == true && status["problems"] == serde_json::json!([])
            })
            .await;
        assert_eq!(agent.stop(), 0, "{fault}");
    }
}

// E14
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_refused_fails_alone_and_is_tried_again_when_it_changes() {
    let world = World::new().await;
    world.misbehave("upload 413 name=bad");
    for name in ["bad", "good1", "good2"] {
        world.write(name, name);
    }
    let agent = world.start();
    world.until("one failed, two are stored", || (world.count("failed"), world.count("stored")) == (1, 2)).await;
    let requests = world.sandbox().requests(Phase::Upload);
    let status = world.status();
    let problem = &status["problems"][0];
    assert_eq!((&problem["code"], &problem["attempts"]), (&"too_large_for_dstor".into(), &1.into()));
    assert_eq!(world.run(&["status"]).code, 1);
    assert_eq!(agent.stop(), 0);
    let agent = world.start();
    world.until("it runs again", || world.status()["agent"]["state"] == "running").await;
    assert_eq!(world.sandbox().requests(Phase::Upload), requests, "the same version was sent again");
    world.sandbox().behave();
    world.write("bad", "smaller");
    world.until_mirrored().await;
    assert_eq!(world.count("failed"), 0);
    assert_eq!(agent.stop(), 0);
}

// E9, E10
#[tokio::test(flavor = "multi_thread")]
async fn revoked_tokens_are_replaced_by_one_request_however_many_workers_meet_them() {
    let world = World::with("", "workers = 16\nsessions = \"never\"").await;
    let agent = world.start();
    world.write("first", "1");
    world.until_mirrored().await;
    assert_eq!(world.sandbox().requests(Phase::Token), 1);
    world.sandbox().revoke_tokens();
    for at in 0..200 {
        world.write(&format!("f{at}"), at.to_string());
    }
    world.until_mirrored().await;
    assert_eq!(world.sandbox().requests(Phase::Token), 2);
    world.until("status knows", || world.status()["dstor"]["token_requests"] == 2).await;
    assert_eq!(agent.stop(), 0);
}

// E13
#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_asked_about_once_and_again_when_they_change() {
    let world = World::new().await;
    let good = world.sandbox().api_key().to_owned();
    let key = world.base().join("key");
    fs::write(&key, "z".repeat(64)).expect("written");
    private(&key);
    world.write("a", "a");
    world.write("b", "b");
    let agent = world.start();
    world.until("status says so", || world.status()["dstor"]["auth"] == "refused").await;
    assert_eq!(world.run(&["status"]).code, 1);
    assert_eq!(world.sandbox().requests(Phase::Token), 1);
    fs::write(&key, good).expect("written");
    world.until_mirrored().await;
    assert_eq!(world.sandbox().requests(Phase::Token), 2);
    world.until("status knows", || world.status()["dstor"]["auth"] == "ok").await;
    assert_eq!(agent.stop(), 0);
}

// E1
#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_while_dstor_is_away_goes_up_when_it_is_back() {
    let mut world = World::new().await;
    let agent = world.start();
    world.write("before", "1");
    world.until_mirrored().await;
    let port = world.stop_sandbox().await;
    for at in 0..50 {
        world.write(&format!("f{at}"), at.to_string());
    }
    world.until("status says so", || world.status()["dstor"]["reachable"] == false).await;
    world.until("all wait", || world.count("pending") + world.count("uploading") == 50).await;
    let wait = world.run(&["wait", "--timeout", "300ms"]);
    assert_eq!(wait.code, 124, "{wait:?}");
    world.start_sandbox(port).await;
    world.until_mirrored().await;
    assert_eq!(world.run(&["wait", "--proved"]).code, 0);
    assert_eq!(agent.stop(), 0);
}

// P5
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_only_fails_is_asked_by_one_file_at_a_time() {
    for sessions in ["auto", "never"] {
        let world = World::with("", &format!("sessions = \"{sessions}\"")).await;
        let asked = || world.sandbox().requests(Phase::Upload) + world.sandbox().requests(Phase::Chunk);
        world.misbehave("upload 500");
        world.misbehave("chunk 500");
        for at in 0..100 {
            world.write(&format!("f{at}"), at.to_string());
        }
        let agent = world.start();
        world.until("it was asked a few times", || asked() >= 6).await;
        // Four workers at first, then one probe at a time: 2, 4 s … apart.
        assert!(asked() <= 8, "{}", asked());
        assert_eq!(world.count("stored"), 0);
        assert_eq!(agent.stop(), 0);
    }
}

// P6, G1
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_any_output_or_file_of_the_state_directory() {
    let world = World::new().await;
    let canary = world.sandbox().api_key().to_owned();
    world.write("a", "a");
    world.misbehave("upload 500 x1");
    world.misbehave("upload 401 x1");
    let agent = world.start_with(&["run", "-vv"]);
    world.until_mirrored().await;
    let environment = fs::read(format!("/proc/{}/cmdline", agent.pid())).expect("read");
    assert!(!String::from_utf8_lossy(&environment).contains(&canary));
    let mut outputs = vec![agent.log()];
    for command in
        [&["status"][..], &["status", "--json"], &["ls", "--json"], &["config", "show"], &["config", "check"]]
    {
        let said = world.run(command);
        outputs.extend([said.stdout, said.stderr]);
    }
    assert_eq!(agent.stop(), 0);
    for entry in fs::read_dir(world.state_dir()).expect("read").flatten().filter(|entry| entry.path().is_file()) {
        outputs.push(String::from_utf8_lossy(&fs::read(entry.path()).expect("read")).into_owned());
    }
    for output in outputs {
        assert!(!output.contains(&canary), "the API key is in: {output}");
        assert!(!output.contains("Bearer ey"), "a token is in: {output}");
    }
}

// E14: the refusal belongs to the version that was sent, not to the one that was saved meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_saved_while_another_is_refused_is_sent() {
    let world = World::new().await;
    world.sandbox().set_delay(Duration::from_millis(1500));
    world.misbehave("upload 413 x1");
    let agent = world.start();
    world.write("a", "too large");
    world.until("the first version is on its way", || world.sandbox().requests(Phase::Upload) == 1).await;
    world.write("a", "small");
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("failed")), (1, 0));
    assert_eq!(agent.stop(), 0);
}

// E18: an upload whose answer was lost may have replaced what the ledger records.
#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_is_undone_after_a_lost_answer_is_sent_again() {
    let world = World::new().await;
    let agent = world.start();
    world.write("a", "first");
    world.until_mirrored().await;
    world.misbehave("upload reset-after-store x1");
    world.write("a", "other");
    world.until("dStor has the second version, unsaid", || world.remote()[b"a".as_slice()] == b"other").await;
    world.write("a", "first");
    world.until_mirrored().await;

    // The same when it was removed in between.
    world.misbehave("upload reset-after-store x1");
    world.write("a", "other");
    world.until("dStor has the second version, unsaid", || world.remote()[b"a".as_slice()] == b"other").await;
    fs::remove_file(world.path("a")).expect("removed");
    world.until("it is gone", || world.count("gone") == 1).await;
    world.write("a", "first");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

// E9
#[tokio::test(flavor = "multi_thread")]
async fn a_new_token_that_is_refused_too_counts_as_refused_credentials() {
    let world = World::new().await;
    world.misbehave("upload 401");
    world.write("a", "a");
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 4, "{pass:?}");
    assert_eq!((world.sandbox().requests(Phase::Upload), world.sandbox().requests(Phase::Token)), (2, 2));
    assert_eq!(world.status()["dstor"]["auth"], "refused");
}

// E32
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_that_is_used_up_stops_the_account_and_gives_no_file_up() {
    let world = World::with("", "sessions = \"never\"").await;
    world.misbehave("upload 403 x3");
    for at in 0..20 {
        world.write(&format!("f{at}"), at.to_string());
    }
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!((world.count("stored"), world.count("failed")), (20, 0));
    assert_eq!(agent.stop(), 0);
}

// D2
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_the_ledger_loses_nothing_and_goes_on_when_there_is_room() {
    let world = World::new().await;
    fs::create_dir(world.state_dir()).expect("made");
    let mount = Mount { at: world.state_dir() };
    if !mount.memory("8m") {
        // Only root may mount. The ledger's own tests fill it by another way.
        return;
    }
    let agent = world.start();
    world.write("before", "1");
    world.until_mirrored().await;
    let filler = world.state_dir().join("filler");
    let mut file = fs::File::create(&filler).expect("made");
    while std::io::Write::write_all(&mut file, &[0; 512]).is_ok() {}
    for at in 0..300 {
        world.write(&format!("{}{at}", "long-name-".repeat(20)), at.to_string());
    }
    world.until("it says so", || agent.log().contains("the disk that holds the ledger is full")).await;
    drop(file);
    fs::remove_file(filler).expect("removed");
    world.until_mirrored().await;
    assert_eq!(world.count("stored"), 301);
    assert_eq!(agent.stop(), 0);
}

// E11, E12: nobody has to meet a token's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_before_it_ends() {
    let mut world = World::new().await;
    world.stop_sandbox().await;
    let mut options = dstor_sync::sandbox::Options::new(world.base().join("dstor"));
    // Renewed with a fifth of its life left: four seconds, for the slowest of machines.
    options.longest_token = Duration::from_secs(20);
    world.use_sandbox(dstor_sync::sandbox::Sandbox::start(options).await.expect("a sandbox"));
    let agent = world.start();
    let mut files = 0;
    world
        .until("there is another token", || {
            files += 1;
            world.write("f", format!("version {files}"));
            world.run(&["wait"]);
            world.sandbox().requests(Phase::Token) >= 2
        })
        .await;
    world.until_mirrored().await;
    // One that was met by its end would be refused.
    assert_eq!(world.sandbox().unauthorized(), 0);
    assert_eq!(agent.stop(), 0);
}
