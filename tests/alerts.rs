//! Being told: commands that are run when something needs a person, and a heartbeat address.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use serde_json::Value;

use crate::schemas::assert_as_described;
use crate::world::World;

/// A command that keeps what it is given, as a file each time; and the directory of these.
fn keeping(world: &World, name: &str) -> (String, PathBuf) {
    let dir = world.base().join(name);
    fs::create_dir(&dir).expect("made");
    // Whole under its name, or not there: the test looks meanwhile.
    let command =
        format!("n=$(ls '{0}' | wc -l); cat > '{0}/.new' && env > '{0}/.env' && mv '{0}/.new' '{0}/'$n", dir.display());
    (command, dir)
}

fn kept(dir: &PathBuf) -> Vec<Value> {
    let mut names: Vec<PathBuf> =
        fs::read_dir(dir).expect("read").map(|entry| entry.expect("an entry").path()).collect();
    names.retain(|name| !name.file_name().expect("a name").to_string_lossy().starts_with('.'));
    names.sort();
    names.iter().map(|name| serde_json::from_slice(&fs::read(name).expect("read")).expect("JSON")).collect()
}

// G1: nor does the command get the key.
#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_told_once_that_a_file_failed_and_once_that_none_does_any_more() {
    let mut world = World::new().await;
    let (on_problem, problems) = keeping(&world, "problems");
    let (on_recovered, recoveries) = keeping(&world, "recoveries");
    world.set_config(format!(
        "{}\n[alerts]\non_problem = {on_problem:?}\non_recovered = {on_recovered:?}\n",
        world.config()
    ));
    world.misbehave("upload 400 name=bad");
    world.write("bad", "1");
    world.write("good", "2");
    let mut command = world.command(&["run"]);
    command.env("DSTOR_API_KEY", world.sandbox().api_key());
    let agent = world.start_command(command);
    world.until("it is told", || !kept(&problems).is_empty()).await;
    // Another configuration makes it no other problem.
    agent.signal(Signal::HUP);
    world.until("it works by the new one", || agent.log().contains("reading the configuration again")).await;
    world.sandbox().behave();
    assert_eq!(world.run(&["retry"]).code, 0);
    world.until("its end is told", || !kept(&recoveries).is_empty()).await;
    assert_eq!(agent.stop(), 0);
    let (problems_told, recoveries_told) = (kept(&problems), kept(&recoveries));
    assert_eq!((problems_told.len(), recoveries_told.len()), (1, 1));
    for told in [&problems_told, &recoveries_told] {
        assert_as_described("alert", told);
        assert_as_described("status", &[told[0]["status"].clone()]);
    }
    assert_eq!((&problems_told[0]["schema"], &problems_told[0]["event"]), (&1.into(), &"problem".into()));
    let failed = &problems_told[0]["status"]["problems"][0];
    assert_eq!((&failed["state"], &failed["path"]), (&"failed".into(), &world.path("bad").to_str().into()));
    assert_eq!(recoveries_told[0]["event"], "recovered");
    assert_eq!(recoveries_told[0]["status"]["mirrors"][0]["files"]["stored"], 2);
    let environment = fs::read_to_string(problems.join(".env")).expect("read");
    assert!(environment.contains("DSTOR_SYNC_EVENT=problem"), "{environment}");
    assert!(!environment.contains(world.sandbox().api_key()), "the key is in the command's environment");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_asked_to_tell_from_now_on_tells_of_what_is_there_already() {
    let mut world = World::new().await;
    let (url, _) = beats();
    let config = world.config().to_owned();
    world.set_config(format!("{config}\n[alerts]\nheartbeat = {url:?}\n"));
    world.misbehave("upload 400 name=bad");
    world.write("bad", "1");
    let agent = world.start();
    world.until("it is given up", || world.count("failed") == 1).await;
    // Nobody was there to be told.
    let (on_problem, problems) = keeping(&world, "problems");
    world.set_config(format!("{config}\n[alerts]\nheartbeat = {url:?}\non_problem = {on_problem:?}\n"));
    agent.signal(Signal::HUP);
    world.until("it is told", || !kept(&problems).is_empty()).await;
    assert_eq!(agent.stop(), 0);
}

/// A server that answers every request with 200 and counts them.
fn beats() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/a-secret-path", listener.local_addr().expect("an address"));
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let Ok(mut connection) = connection else { continue };
            let mut head = [0; 4096];
            let read = connection.read(&mut head).unwrap_or(0);
            if head[..read].starts_with(b"GET /a-secret-path ") {
                counted.fetch_add(1, Ordering::Relaxed);
            }
            let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    (url, count)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_after_each_scan_that_left_everything_stored_and_after_no_other() {
    let mut world = World::new().await;
    let (url, count) = beats();
    world.set_config(format!("{}\n[alerts]\nheartbeat = {url:?}\n", world.config()));
    world.misbehave("upload 400 name=bad");
    world.write("bad", "1");
    let agent = world.start();
    world.until("it is given up", || world.count("failed") == 1).await;
    let scanned = world.status()["mirrors"][0]["last_scan_at"].clone();
    assert_eq!(world.run(&["rescan"]).code, 0);
    // A scan takes a tick of the agent's clock to begin: it had time for a heartbeat as well.
    world.until("a scan later", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    assert_eq!(count.load(Ordering::Relaxed), 0);
    world.sandbox().behave();
    assert_eq!(world.run(&["retry"]).code, 0);
    world.until("a heartbeat", || count.load(Ordering::Relaxed) == 1).await;
    assert_eq!(world.run(&["rescan"]).code, 0);
    world.until("another one", || count.load(Ordering::Relaxed) == 2).await;
    assert!(!agent.log().contains("a-secret-path"), "{}", agent.log());
    assert_eq!(agent.stop(), 0);
}
