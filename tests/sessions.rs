//! Many small files in one request: upload sessions between the real program and a real dStor.

use std::collections::BTreeSet;
use std::time::Duration;

use dstor_sync::sandbox::Phase;

use crate::world::World;

/// Longer than a world's files have to be quiet.
const SETTLED: Duration = Duration::from_millis(200);

/// Requests of each kind so far: sessions opened, requests with many files, and uploads of a single one.
fn requests(world: &World) -> (u64, u64, u64) {
    let made = |phase| world.sandbox().requests(phase);
    (made(Phase::GetToken), made(Phase::Chunk), made(Phase::Upload))
}

fn write_many(world: &World, dir: &str, files: usize) {
    for at in 0..files {
        world.write(&format!("{dir}/f{at}"), format!("{dir} {at}"));
    }
}

/// What the ledger calls stored is what dStor holds, byte for byte, and proved.
async fn until_true(world: &World) {
    world.until_mirrored().await;
    let files = world.local().len();
    world
        .until("the ledger says that all are stored and proved", || {
            let status = world.status();
            let now = &status["mirrors"][0]["files"];
            now["stored"] == files && now["proved"] == files && now["pending"] == 0 && now["uploading"] == 0
        })
        .await;
    assert_eq!(world.remote(), world.local());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_of_a_directory_take_a_handful_of_requests() {
    let world = World::new().await;
    write_many(&world, "dir", 1_000);
    let agent = world.start();
    until_true(&world).await;
    let (opened, chunks, alone) = requests(&world);
    // Two packs, if nobody were quicker than the scan that pushes them.
    assert!((2..=40).contains(&chunks), "{chunks} requests");
    assert_eq!(opened, chunks);
    assert!(alone <= 10, "{alone} files went alone");
    assert_eq!(world.sandbox().versions().expect("versions").len(), 1_000, "some were sent twice");
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_together_in_a_directory_goes_together_however_many_workers_ask_at_once() {
    let world = World::with("", "workers = 16").await;
    for at in 0..40 {
        write_many(&world, &format!("{}/{at}", at % 3), 30);
    }
    write_many(&world, "many", 1_100);
    let last = world.write("last", "one");
    // Until all of them are quiet: those that are due later go later.
    let is_quiet = || last.metadata().expect("there").modified().expect("a time").elapsed().expect("past") > SETTLED;
    world.until("all are quiet", is_quiet).await;
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(world.remote(), world.local());
    let (opened, chunks, alone) = requests(&world);
    assert_eq!((opened, chunks), (43, 43));
    // One, if no worker is held up for so long that the others go on without it.
    assert!(alone < 10, "{alone} files went alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_saved_file_waits_for_no_company() {
    let world = World::new().await;
    let agent = world.start();
    world.write("a", "1");
    until_true(&world).await;
    world.write("a", "2");
    until_true(&world).await;
    assert_eq!(requests(&world), (0, 0, 2));
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_go_alone_and_small_ones_in_packs_of_limited_size() {
    let world = World::new().await;
    for at in 0..40 {
        world.write(&format!("half{at}"), vec![at; 512 * 1024]);
    }
    world.write("large", vec![7; 2 * 1024 * 1024]);
    world.write("empty", "");
    write_many(&world, ".", 20);
    let agent = world.start();
    until_true(&world).await;
    let (_, chunks, alone) = requests(&world);
    assert!(chunks >= 5, "20 MiB in {chunks} requests");
    assert!((1..=10).contains(&alone), "{alone} files went alone");
    assert_eq!(agent.stop(), 0);
}

// B16
#[tokio::test(flavor = "multi_thread")]
async fn names_that_need_escaping_are_found_again_in_what_a_session_says() {
    let world = World::new().await;
    for name in ["a\"b", "c\r\nd", "ü", "日本", " blank ", "semi;colon", "back\\slash", "%", "\u{1b}[31m"] {
        world.write(name, name);
        world.write(&format!("Bücher/{name}"), name);
    }
    let agent = world.start();
    until_true(&world).await;
    let (_, chunks, alone) = requests(&world);
    assert!(chunks >= 1 && alone <= 10, "{chunks} requests with many files, {alone} with one");
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_directory_has_its_own_session_and_place() {
    let world = World::new().await;
    for dir in ["a", "a/b", "a/b/c", "d"] {
        write_many(&world, dir, 30);
    }
    let agent = world.start();
    until_true(&world).await;
    assert!(requests(&world).1 >= 4);
    assert_eq!(agent.stop(), 0);
}

/// No plain header carries its path; what becomes of an encoded one is the service's affair.
#[tokio::test(flavor = "multi_thread")]
async fn a_lone_small_file_of_a_directory_that_no_header_can_name_goes_by_session() {
    let world = World::new().await;
    let agent = world.start();
    world.write("Bücher/klein", "klein");
    until_true(&world).await;
    assert_eq!(requests(&world), (1, 1, 0));
    world.write("Bücher/groß", vec![1; 2_000_000]);
    until_true(&world).await;
    assert_eq!(requests(&world), (1, 1, 1));
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_session_is_opened_where_none_is_wanted() {
    let world = World::with("", "sessions = \"never\"").await;
    write_many(&world, "Bücher", 50);
    let agent = world.start();
    until_true(&world).await;
    assert_eq!(requests(&world), (0, 0, 50));
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_file_goes_by_session_where_that_is_asked_for() {
    let world = World::with("", "sessions = \"always\"").await;
    world.write("large", vec![7; 3_000_000]);
    write_many(&world, "dir", 2);
    let agent = world.start();
    until_true(&world).await;
    let (opened, chunks, alone) = requests(&world);
    assert!((2..=3).contains(&chunks) && opened == chunks && alone == 0, "{:?}", requests(&world));
    assert_eq!(agent.stop(), 0);
}

// E20
#[tokio::test(flavor = "multi_thread")]
async fn a_file_saved_during_its_session_goes_up_again() {
    let world = World::with("", "workers = 1").await;
    write_many(&world, "dir", 50);
    world.misbehave("status late=3000 x1");
    let agent = world.start();
    world.until("the session is asked about", || world.sandbox().requests(Phase::Status) >= 1).await;
    // Not any file: the scan may not have pushed all of them before the first session was packed.
    let states = world.states();
    let (path, _) = states.iter().find(|(_, state)| *state == "uploading").expect("the session's files are uploading");
    let (_, name) = path.rsplit_once('/').expect("a path below the mirror");
    world.write(&format!("dir/{name}"), "saved meanwhile");
    until_true(&world).await;
    let versions = world.sandbox().versions().expect("versions");
    assert_eq!(versions.iter().filter(|file| file.name == name).count(), 2);
    assert_eq!(agent.stop(), 0);
}

/// Whatever goes wrong, and wherever in a session: what is stored in the end is true, and nothing is given up.
// E17, E21, E22, E23, E24
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_wrong_loses_no_file_and_claims_none() {
    let faults = [
        "400",
        "402",
        "403",
        "404",
        "405",
        "409",
        "413",
        "422",
        "429",
        "503 retry-after=1",
        "500",
        "200",
        "html",
        "truncated-json",
        "reset",
        "reset-in-body",
        "reset-after-store",
        "stall",
        "stall-in-answer",
        "late=300",
        "slow=50000",
        "redirect=http://127.0.0.1:9/",
        "endless",
        "gzip-bomb",
        "no-hash",
        "empty-hash",
        "bad-hash",
    ];
    let rules: Vec<String> = ["get-token", "chunk", "status"]
        .iter()
        .flat_map(|phase| faults.iter().map(move |fault| format!("{phase} {fault}")))
        .filter(|rule| rule.parse::<dstor_sync::sandbox::Misbehaviour>().is_ok())
        .collect();
    assert!(rules.len() > 70, "{}", rules.len());
    for some in rules.chunks(12) {
        let mut tasks = tokio::task::JoinSet::new();
        for rule in some {
            let rule = rule.clone();
            tasks.spawn(async move {
                let world = World::with("", "workers = 2\nstall_timeout = \"1s\"").await;
                world.misbehave(&format!("{rule} x2"));
                write_many(&world, "dir", 20);
                let agent = world.start();
                until_true(&world).await;
                assert_eq!(agent.stop(), 0, "{rule}");
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.expect("a world in order");
        }
    }
}

// E14
#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_is_refused_is_split_until_the_bad_file_stands_alone() {
    let world = World::with("", "workers = 1").await;
    world.misbehave("chunk 413 name=bad");
    world.misbehave("upload 413 name=bad");
    write_many(&world, "dir", 99);
    world.write("dir/bad", "bad");
    let agent = world.start();
    world
        .until("one failed, the others are stored", || (world.count("failed"), world.count("stored")) == (1, 99))
        .await;
    assert_eq!(world.states()["dir/bad"], "failed");
    let (_, chunks, alone) = requests(&world);
    assert!(chunks <= 20 && alone <= 5, "{chunks} requests with many files, {alone} with one");
    assert_eq!(world.status()["problems"][0]["attempts"], 1);
    assert_eq!(agent.stop(), 0);
}

// E23
#[tokio::test(flavor = "multi_thread")]
async fn files_of_sessions_that_never_end_well_go_alone() {
    let world = World::with("", "workers = 2\nstall_timeout = \"3s\"").await;
    world.misbehave("status truncated-json");
    write_many(&world, "dir", 30);
    let agent = world.start();
    until_true(&world).await;
    let (_, chunks, alone) = requests(&world);
    assert!(chunks <= 10 && alone == 30, "{chunks} requests with many files, {alone} with one");
    assert_eq!(agent.stop(), 0);
}

// E25
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_in_its_sessions_sends_their_files_again() {
    // What a killed agent sent may be stored after what the next one sends, which then sends it again: ten times as much
    // later.
    let world = World::with("", "stall_timeout = \"1s\"").await;
    world.misbehave("status late=700");
    write_many(&world, "dir", 700);
    for kill in 0..4 {
        let agent = world.start();
        let asked = world.sandbox().requests(Phase::Status);
        world.until("a session is asked about", || world.sandbox().requests(Phase::Status) > asked).await;
        world.write(&format!("dir/f{kill}"), "saved between two runs");
        agent.kill();
    }
    world.sandbox().behave();
    let agent = world.start();
    until_true(&world).await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_service_is_asked_for_a_session_once() {
    for status in ["404", "405"] {
        let world = World::with("", "workers = 1").await;
        world.misbehave(&format!("get-token {status}"));
        write_many(&world, "Bücher", 60);
        let agent = world.start();
        until_true(&world).await;
        write_many(&world, "more", 20);
        until_true(&world).await;
        assert_eq!(requests(&world), (1, 0, 80));
        let status = world.status();
        assert_eq!((&status["dstor"]["reachable"], &status["problems"]), (&true.into(), &serde_json::json!([])));
        assert_eq!(agent.stop(), 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_direct_uploads_gets_every_file_by_session() {
    let world = World::with("", "workers = 1").await;
    world.misbehave("upload wants-session");
    let agent = world.start();
    world.write("first", "1");
    until_true(&world).await;
    assert_eq!(requests(&world), (1, 1, 1));
    world.write("large", vec![3; 2_500_000]);
    world.write("second", "2");
    until_true(&world).await;
    let (opened, chunks, alone) = requests(&world);
    assert_eq!((opened, alone), (chunks, 1), "it was tried directly again");
    assert_eq!(agent.stop(), 0);
}

/// Neither way is open: everything waits, and nothing is given up.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_takes_files_in_no_way_is_waited_for() {
    for sessions in ["auto", "always", "never"] {
        let world = World::with("", &format!("sessions = \"{sessions}\"")).await;
        world.misbehave("upload wants-session");
        world.misbehave("get-token 404");
        write_many(&world, "dir", 10);
        let agent = world.start();
        world.until("a few tries", || world.sandbox().requests(Phase::Token) == 1 && asked(&world) >= 3).await;
        world.until("it says so", || !world.status()["dstor"]["last_error"].is_null()).await;
        assert_eq!((world.count("stored"), world.count("failed")), (0, 0), "{sessions}");
        world.sandbox().behave();
        until_true(&world).await;
        assert_eq!(agent.stop(), 0, "{sessions}");
    }
}

// E16: what it said while it was not well is not gone by for an hour.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_had_no_way_left_is_taken_at_its_word_again_when_one_opens() {
    for stays in ["upload wants-session", "get-token 404"] {
        let world = World::with("", "workers = 1").await;
        world.misbehave("upload wants-session");
        world.misbehave("get-token 404");
        world.write("a", "a");
        let agent = world.start();
        world.until("both ways were tried", || requests(&world).0 >= 1 && requests(&world).2 >= 1).await;
        world.sandbox().behave();
        world.misbehave(stays);
        until_true(&world).await;
        assert_eq!(agent.stop(), 0, "{stays}");
    }
}

fn asked(world: &World) -> u64 {
    let (opened, _, alone) = requests(world);
    opened + alone
}

// E9, E10
#[tokio::test(flavor = "multi_thread")]
async fn a_token_revoked_in_the_middle_of_a_session_is_replaced_once() {
    for phase in ["get-token", "chunk", "status"] {
        let world = World::with("", "workers = 1").await;
        world.misbehave(&format!("{phase} 401 x1"));
        write_many(&world, "dir", 100);
        let agent = world.start();
        until_true(&world).await;
        assert_eq!(world.sandbox().requests(Phase::Token), 2, "{phase}");
        assert_eq!(world.sandbox().versions().expect("versions").len(), 100, "{phase}: some were sent twice");
        assert_eq!(agent.stop(), 0);
    }
}

/// The link is slow, and so is the service: neither is dead.
// E6
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_goes_on_slowly_is_not_given_up() {
    let world = World::with("", "workers = 1\nstall_timeout = \"3s\"").await;
    world.sandbox().set_delay(Duration::from_millis(1_400));
    write_many(&world, "dir", 100);
    let agent = world.start();
    until_true(&world).await;
    assert_eq!(world.sandbox().versions().expect("versions").len(), 100, "some were sent twice");
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pass_sends_packs_too_and_the_next_has_nothing_to_do() {
    let world = World::new().await;
    write_many(&world, "dir", 300);
    let pass = world.run(&["sync"]);
    assert_eq!(pass.code, 0, "{pass:?}");
    let before = requests(&world);
    assert!(before.1 >= 1 && before.1 <= 20, "{before:?}");
    assert_eq!(world.remote(), world.local());
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(requests(&world), before);
    let hashes: BTreeSet<String> =
        world.ls().values().map(|line| line["hash"].as_str().expect("a hash").to_owned()).collect();
    assert_eq!(hashes.len(), 300);
}
