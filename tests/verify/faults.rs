//! When dStor cannot be asked, or answers with anything but the file: nothing is known then, and nothing is claimed.

use std::collections::BTreeMap;

use dstor_sync::sandbox::Phase;

use super::{FILES, results, stored, sync, verify};

// E2, E17, E26, E27
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_the_file_leaves_it_unknown_or_names_it() {
    let world = stored(FILES).await;
    let hash_of = |path: &str| world.ls()[path]["hash"].as_str().expect("a hash").to_owned();
    let swap = format!("swap={}", hash_of("dir/c"));
    for (fault, result) in [
        ("404", "missing"),
        ("410", "missing"),
        ("flip-bit", "different"),
        ("cut", "different"),
        (swap.as_str(), "different"),
        // Read no further than the file is long.
        ("endless", "different"),
        // Somebody else's answer, or none at all.
        ("500", "unknown"),
        ("403", "unknown"),
        ("401", "unknown"),
        ("206", "unknown"),
        ("html", "unknown"),
        ("redirect=http://127.0.0.1:1/", "unknown"),
        ("gzip-bomb", "unknown"),
        ("reset", "unknown"),
        ("reset-after-store", "unknown"),
    ] {
        world.misbehave(&format!("read {fault} name=dir/deep/f"));
        let path = world.path("dir/deep/f");
        let (files, summary, said) = verify(&world, &["--read", path.to_str().expect("UTF-8")]);
        assert_eq!(results(&files), BTreeMap::from([("dir/deep/f", result)]), "{fault}");
        assert_eq!(said.code, if result == "unknown" { 5 } else { 1 }, "{fault}: {said:?}");
        assert!(summary["bytes_read"].as_u64().is_some_and(|bytes| bytes <= 9), "{fault}: {summary}");
        world.sandbox().behave();
        // What is remembered is what was seen last, and never that nothing was seen.
        let bad = world.status()["mirrors"][0]["files"][result].as_u64();
        assert!(result == "unknown" || bad == Some(1), "{fault}: {bad:?}");
        let (_, _, said) = verify(&world, &["--read"]);
        assert_eq!(said.code, 0, "it is well again: {fault}");
        assert_eq!(world.status()["mirrors"][0]["files"]["proved"], 8, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_that_passes_is_waited_for_and_trouble_of_one_file_stops_no_other() {
    let world = stored(FILES).await;
    world.misbehave("read 503 retry-after=1 x1");
    world.misbehave("read reset x1");
    world.misbehave("read 500 name=dir/c");
    let (files, summary, said) = verify(&world, &["--read"]);
    let others = files.iter().filter(|(path, _)| *path != "dir/c").all(|(_, (result, _))| result == "proved");
    assert!(others && files["dir/c"].0 == "unknown", "{files:?}");
    assert_eq!((files.len(), said.code, &summary["unknown"]), (8, 5, &1.into()));
}

// E1, P1
#[tokio::test(flavor = "multi_thread")]
async fn without_a_network_nothing_is_called_missing_and_it_ends_soon() {
    let mut world = stored(FILES).await;
    let (files, ..) = verify(&world, &["--read", "--sample", "50%"]);
    assert_eq!(files.len(), 4);
    let port = world.stop_sandbox().await;
    let (files, summary, said) = verify(&world, &["--read", "--repair"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert_eq!((files.len(), &summary["unknown"], &summary["repaired"]), (8, &8.into(), &0.into()));
    assert!(said.stderr.contains("cannot be reached"), "{}", said.stderr);
    let status = world.status();
    assert_eq!(status["mirrors"][0]["files"]["proved"], 8);
    assert_eq!((&status["mirrors"][0]["files"]["missing"], &status["problems"]), (&0.into(), &serde_json::json!([])));
    // Known without a network all the same.
    assert_eq!(verify(&world, &[]).2.code, 0);
    world.start_sandbox(port).await;
    assert_eq!(verify(&world, &["--read"]).2.code, 0);
}

// P6: reading sends no credentials.
#[tokio::test(flavor = "multi_thread")]
async fn reading_needs_no_credentials_and_fetches_no_token() {
    let world = stored(&[("a", "1")]).await;
    std::fs::remove_file(world.base().join("key")).expect("removed");
    let tokens = world.sandbox().requests(Phase::Token);
    let (_, _, said) = verify(&world, &["--read"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(world.sandbox().requests(Phase::Token), tokens);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_line_in_mid_file_ends_after_the_stall_timeout() {
    let world = crate::world::World::with("", "stall_timeout = \"3s\"").await;
    world.write("a", "the first");
    sync(&world);
    world.misbehave("read stall-in-answer x1");
    world.misbehave("read stall x1");
    let (files, _, said) = verify(&world, &["--read"]);
    assert_eq!((results(&files), said.code), (BTreeMap::from([("a", "proved")]), 0), "{said:?}");
    assert_eq!(world.sandbox().requests(Phase::Read), 3);
}
