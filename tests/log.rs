//! `log`: what happened, newest last.

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;

use crate::world::World;

/// The lines of `log --json`, as pairs of event and file name.
fn told(world: &World, more: &[&str]) -> Vec<(String, String)> {
    let said = world.run(&[&["log", "--json", "-n", "all"], more].concat());
    assert_eq!(said.code, 0, "{}", said.stderr);
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .map(|line| {
            let name = line["path"].as_str().map_or("", |path| path.rsplit('/').next().expect("a name"));
            (line["event"].as_str().expect("an event").to_owned(), name.to_owned())
        })
        .collect()
}

fn is_told(world: &World, event: &str, name: &str) -> bool {
    told(world, &[]).contains(&(event.to_owned(), name.to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_each_file_is_told_in_its_order_and_of_those_asked_for_alone() {
    let world = World::with("", "sessions = \"never\"").await;
    assert_eq!(world.run(&["log"]).code, 3, "nothing has happened yet");
    let agent = world.start();
    world.write("sub/a", "1");
    world.until_mirrored().await;
    world.misbehave("upload 400 x1");
    world.write("refused", "2");
    world.until("it is given up", || is_told(&world, "failed", "refused")).await;
    world.misbehave("upload 503 x1");
    world.write("late", "3");
    world.until("it is stored after all", || is_told(&world, "stored", "late")).await;
    fs::remove_file(world.path("sub/a")).expect("removed");
    std::os::unix::fs::symlink("a", world.path("link")).expect("made");
    world.until("both are told", || is_told(&world, "gone", "a") && is_told(&world, "skipped", "link")).await;
    assert_eq!(agent.stop(), 0);

    let all = told(&world, &[]);
    assert_eq!((all.first(), all.last()), (Some(&("started".into(), "".into())), Some(&("stopped".into(), "".into()))));
    let of = |name: &str| -> Vec<String> {
        all.iter().filter(|(_, path)| path == name).map(|(event, _)| event.clone()).collect()
    };
    assert_eq!(of("a"), ["stored", "gone"]);
    assert_eq!(of("late"), ["retried", "stored"]);
    assert!(all.contains(&("away".into(), "".into())) && all.contains(&("back".into(), "".into())), "{all:?}");
    assert_eq!(told(&world, &["mirror/sub"]), [("stored".into(), "a".into()), ("gone".into(), "a".into())]);
    let last = world.run(&["log", "-n", "1"]);
    assert_eq!(last.stdout.lines().count(), 1, "{}", last.stdout);
    assert!(last.stdout.ends_with("stopped   the agent\n"), "{}", last.stdout);
    let stored = world.run(&["log", "--json", "-n", "all", "mirror/late"]).stdout;
    let stored: Value = serde_json::from_str(stored.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&stored["size"], &stored["hash"]), (&1.into(), &world.ls()["late"]["hash"]));
}

// F3: a killed run may leave half a line.
#[tokio::test(flavor = "multi_thread")]
async fn half_a_line_is_passed_over_and_the_next_run_begins_a_new_one() {
    let world = World::new().await;
    world.write("a", "1");
    assert_eq!(world.run(&["sync"]).code, 0);
    let path = world.state_dir().join("log.jsonl");
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    file.write_all(b"{\"at\":\"2026-01-01T00:00:00Z\",\"event\":\"stor").expect("written");
    world.write("b", "2");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert_eq!(told(&world, &[]), [("stored".into(), "a".into()), ("stored".into(), "b".into())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_followed_tells_what_happens_from_then_on() {
    let world = World::new().await;
    world.write("before", "1");
    assert_eq!(world.run(&["sync"]).code, 0);
    let mut following = world.command(&["log", "-f", "-n", "1"]).stdout(Stdio::piped()).spawn().expect("started");
    let output = BufReader::new(following.stdout.take().expect("its output"));
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let next = || lines.recv_timeout(Duration::from_secs(60)).expect("a line");
    assert!(next().contains("/before  1 B  Qm"));
    world.write("after", "2");
    assert_eq!(world.run(&["sync"]).code, 0);
    assert!(next().contains("/after  1 B  Qm"));
    following.kill().expect("killed");
    following.wait().expect("waited");
}
