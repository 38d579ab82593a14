//! What the agent does with what happens in a mirror.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_file_is_on_dstor_a_moment_later() {
    let world = World::new().await;
    let agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    let path = world.write("notes/a.txt", "hello world\n");
    world.until_mirrored().await;

    let line = &world.ls()["notes/a.txt"];
    let hash = "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o";
    assert_eq!(line["state"], "stored");
    assert_eq!(line["hash"], hash);
    assert_eq!(line["proof"], "cid");
    assert_eq!(line["remote_dir"], "Docs/notes");
    assert_eq!(line["size"], 12);
    let url = line["url"].as_str().expect("a link");
    assert_eq!(url, format!("{}/ipfs/{hash}", world.sandbox().url()));

    world.until("status knows of the token", || world.status()["dstor"]["auth"] == "ok").await;
    let status = world.status();
    assert_eq!(status["agent"]["pid"], agent.pid());
    assert_eq!(status["dstor"]["token_requests"], 1);
    assert_eq!(status["mirrors"][0]["watch"], "events");
    assert_eq!(status["mirrors"][0]["files"]["proved"], 1);
    assert_eq!(status["mirrors"][0]["bytes"]["stored"], 12);
    let why = world.run(&["why".as_ref(), path.as_os_str()]);
    assert!(why.stdout.contains("stored, and unchanged since") && why.stdout.contains(hash), "{why:?}");
    assert_eq!(world.run(&["status"]).code, 0);
    assert_eq!(agent.stop(), 0);
    assert_eq!(world.run(&["status"]).code, 3);
}

// A2: raw events miss hundreds of these.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_files_in_directories_made_just_before_are_all_stored() {
    let world = World::new().await;
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    for at in 0..1000 {
        world.write(&format!("d{at}/x/y/f"), at.to_string());
    }
    world.until_mirrored().await;
    assert_eq!(world.count("stored"), 1000);
}

// A3, A8, A20
#[tokio::test(flavor = "multi_thread")]
async fn directories_that_are_moved_in_renamed_and_moved_out_are_followed() {
    let world = World::new().await;
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    let outside = world.base().join("outside/deep");
    fs::create_dir_all(&outside).expect("made");
    for at in 0..50 {
        fs::write(outside.join(format!("f{at}")), at.to_string()).expect("written");
    }
    fs::rename(world.base().join("outside"), world.path("in")).expect("moved in");
    world.until("all 50 are stored", || world.count("stored") == 50).await;

    fs::rename(world.path("in"), world.path("renamed")).expect("renamed");
    world
        .until("50 are stored under the new name, 50 gone", || (world.count("stored"), world.count("gone")) == (50, 50))
        .await;
    // What is written after the rename comes under the old path at first.
    world.write("renamed/deep/late", "late");
    world.until_mirrored().await;

    fs::rename(world.path("renamed"), world.base().join("out")).expect("moved out");
    world.until("all are gone", || (world.count("stored"), world.count("gone")) == (0, 101)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn touched_files_and_restarts_upload_nothing() {
    let world = World::new().await;
    for at in 0..100 {
        world.write(&format!("d{}/f{at}", at % 7), at.to_string());
    }
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!(world.sent(), 100);
    assert_eq!(agent.stop(), 0);

    // Whoever hashes a file has to open it.
    let opened = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&opened);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let event = event.expect("an event");
        let is_open = matches!(event.kind, notify::EventKind::Access(notify::event::AccessKind::Open(_)));
        if is_open && event.paths.iter().any(|path| path.is_file()) {
            seen.store(true, Ordering::Relaxed);
        }
    })
    .expect("a watcher");
    notify::Watcher::watch(&mut watcher, &world.mirror(), notify::RecursiveMode::Recursive).expect("watched");
    let agent = world.start();
    world.until("the restart's scan is through", || world.status()["agent"]["state"] == "running").await;
    world.until("nothing waits", || (world.count("stored"), world.count("pending")) == (100, 0)).await;
    assert!(!opened.load(Ordering::Relaxed), "a file was opened though none had changed");
    drop(watcher);

    for at in 0..100 {
        let file = fs::File::options().append(true).open(world.path(&format!("d{}/f{at}", at % 7))).expect("opened");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(at)).expect("touched");
    }
    world
        .until("every touch is in the ledger", || {
            world
                .ls()
                .values()
                .filter(|line| line["modified_at"].as_str().is_some_and(|at| at.starts_with("1970")))
                .count()
                == 100
        })
        .await;
    assert_eq!(world.sent(), 100, "a touch was uploaded");
    assert_eq!(agent.stop(), 0);
}

// B1, B2, A22
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_of_a_file_that_is_rewritten_is_always_one_of_its_versions() {
    let mut world = World::new().await;
    world.set_config(
        world.config().replace("\"100ms\"", "\"300ms\"").replace("max_delay = \"2s\"", "max_delay = \"1m\""),
    );
    // Slow, and the file larger than all buffers on the way: it is read while it is written.
    world.misbehave("upload slow=20000000");
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    let path = world.path("f");
    let rewriting = std::thread::spawn(move || {
        for version in 0..60_u8 {
            // In place and without cutting it first, as databases do: its size never tells. Every byte of a version is
            // the same.
            let content = vec![b'A' + version % 26; 12_000_000];
            let mut file = fs::File::options().write(true).create(true).truncate(false).open(&path).expect("opened");
            std::io::Write::write_all(&mut file, &content).expect("written");
            std::thread::sleep(Duration::from_millis(if version % 10 == 0 { 400 } else { 40 }));
        }
    });
    tokio::task::spawn_blocking(|| rewriting.join().expect("rewritten")).await.expect("joined");
    world.until_mirrored().await;
    let versions = world.sandbox().versions().expect("versions");
    assert!(!versions.is_empty());
    for version in versions {
        let content = world.sandbox().content(&version.hash).expect("its content");
        assert_eq!(content.len(), 12_000_000, "a torn version was stored");
        assert!(content.windows(2).all(|pair| pair[0] == pair[1]), "a mixed version was stored");
    }
}

// A15: pages written through a memory map change no time at once.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_through_a_memory_map_is_stored_when_the_file_is_closed() {
    let world = World::new().await;
    let path = world.write("mapped", "one one one");
    let _agent = world.start();
    world.until_mirrored().await;
    // The touch has it uploaded between the two writes; the second goes to a page that is writable already.
    let script = "import mmap, os, sys, time\nf = open(sys.argv[1], 'r+b')\nm = mmap.mmap(f.fileno(), 0)\nm[0:3] = b'two'\n\
                  os.utime(sys.argv[1])\ntime.sleep(1.5)\nm[4:7] = b'two'\nm.close()\nf.close()\n";
    let mut python = std::process::Command::new("python3");
    python.arg("-c").arg(script).arg(&path);
    if python.status().is_ok_and(|status| status.success()) {
        world.until_mirrored().await;
        assert_eq!(world.remote()[b"mapped".as_slice()], b"two two one");
    }
}

// B23, A21
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_becomes_a_directory_and_back_is_followed() {
    let world = World::new().await;
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    world.write("x", "file");
    world.until_mirrored().await;
    fs::remove_file(world.path("x")).expect("removed");
    world.write("x/inner", "inner");
    world
        .until("the file is gone and the inner one stored", || {
            world.states() == states(&[("x", "gone"), ("x/inner", "stored")])
        })
        .await;
    fs::remove_dir_all(world.path("x")).expect("removed");
    world.write("x", "file again");
    world
        .until("the inner one is gone and the file stored", || {
            world.states() == states(&[("x", "stored"), ("x/inner", "gone")])
        })
        .await;
    world.until_mirrored().await;
}

// B10, B11, B12, A17
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_is_skipped_with_a_reason_and_holds_nobody_up() {
    let world = World::new().await;
    fs::write(world.base().join("secret"), "not in the mirror").expect("written");
    symlink(world.base().join("secret"), world.path("link")).expect("linked");
    symlink(world.mirror(), world.path("loop")).expect("linked");
    let _socket = std::os::unix::net::UnixListener::bind(world.path("socket")).expect("bound");
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, world.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).expect("made");
    world.write("file", "file");
    world.write("empty", "");
    let _agent = world.start();
    world.until_mirrored().await;
    world.until("the others are skipped", || world.count("skipped") == 4).await;
    let expected = [
        ("empty", "stored"),
        ("file", "stored"),
        ("link", "skipped"),
        ("loop", "skipped"),
        ("pipe", "skipped"),
        ("socket", "skipped"),
    ];
    assert_eq!(world.states(), states(&expected));
    let why = world.run(&["why".as_ref(), world.path("pipe").as_os_str()]);
    assert!(why.stdout.contains("a named pipe"), "{why:?}");
}

// B15, B16, B18
#[tokio::test(flavor = "multi_thread")]
async fn every_name_that_is_text_travels_as_it_is() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new().await;
    let long = "é".repeat(127);
    let names = [
        "plain",
        "with \"quotes\"",
        "two\nlines",
        "carriage\rreturn",
        "back\\slash",
        "ends in \\",
        "per%cent %41",
        "Bücher",
        "日本語",
        "emoji 🦀",
        " blanks ",
        "\u{1b}[31mred",
        "semi;colon",
        "-dash",
        "name=\"file\"",
        &long,
    ];
    for name in names {
        world.write(name, format!("content of {name}"));
        world.write(&format!("d/{name}/inner"), format!("inner of {name}"));
    }
    let odd = world.mirror().join(std::ffi::OsStr::from_bytes(b"latin-1 \xe9"));
    fs::write(&odd, "x").expect("written");
    let _agent = world.start();
    world
        .until("all are stored, one is skipped", || {
            (world.count("stored"), world.count("skipped"), world.count("pending")) == (2 * names.len() as u64, 1, 0)
        })
        .await;
    let mut wanted = world.local();
    wanted.remove(b"latin-1 \xe9".as_slice());
    assert_eq!(world.remote(), wanted);
    let line = &world.ls()["latin-1 \\xe9"];
    assert_eq!(line["state"], "skipped");
    assert!(line["path_bytes"].is_string(), "{line}");
}

// B22
#[tokio::test(flavor = "multi_thread")]
async fn rules_that_change_while_it_runs_count_at_once_and_lose_nothing() {
    let world = World::with("exclude = [\"*.log\"]\nrescan = \"1h\"", "").await;
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    world.write("a.log", "x");
    world.put("build/out.o", "x");
    world.write("src/a.c", "x");
    world.write("notes.txt~", "an editor's backup");
    world.until("two are stored", || world.count("stored") == 2).await;
    let why = world.run(&["why".as_ref(), world.path("a.log").as_os_str()]);
    assert!(why.stdout.contains("`*.log` (the mirror's `exclude`, line 1)"), "{why:?}");

    world.write(".dstorignore", "# built\nbuild/\n");
    world
        .until("what was stored of it is on record", || {
            world.states().get("build/out.o").map(String::as_str) == Some("skipped")
        })
        .await;
    let why = world.run(&["why".as_ref(), world.path("build/out.o").as_os_str()]);
    assert!(why.stdout.contains("`build/` (.dstorignore, line 2)"), "{why:?}");
    world.write("build/late.o", "late");

    fs::remove_file(world.path(".dstorignore")).expect("removed");
    world
        .until("it is all in again", || {
            let states = world.states();
            ["build/out.o", "build/late.o", "src/a.c"]
                .iter()
                .all(|path| states.get(*path).map(String::as_str) == Some("stored"))
        })
        .await;
    let uploads = world.sandbox().versions().expect("versions");
    assert_eq!(uploads.iter().filter(|file| file.name == "out.o").count(), 1, "it was sent again though unchanged");
}

// B6
#[tokio::test(flavor = "multi_thread")]
async fn a_save_by_temporary_file_and_rename_uploads_the_file_alone() {
    let mut world = World::new().await;
    // Each has so long from the one to the other.
    world.set_config(world.config().replace("\"100ms\"", "\"1s\"").replace("\"2s\"", "\"10s\""));
    let _agent = world.start();
    world.until("it watches", || world.status()["agent"]["state"] == "running").await;
    for round in 0..20 {
        let temporary = world.write(".doc.tmp1234", format!("version {round}"));
        fs::rename(temporary, world.path("doc")).expect("renamed");
    }
    world.until_mirrored().await;
    let names: Vec<String> = world.sandbox().versions().expect("versions").into_iter().map(|file| file.name).collect();
    assert!(names.iter().all(|name| name == "doc"), "{names:?}");
    assert_eq!(world.states(), states(&[("doc", "stored")]));
}

// B9
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_file_waits_and_stops_no_other() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::new().await;
    let closed = world.write("closed", "c");
    world.write("shut/inner", "i");
    world.write("open", "o");
    world.become_ordinary();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("closed");
    fs::set_permissions(world.path("shut"), fs::Permissions::from_mode(0o000)).expect("shut");
    let agent = world.start();
    world
        .until("the others are stored", || {
            world.count("stored") == 1 && world.status()["problems"].as_array().is_some_and(|all| all.len() == 2)
        })
        .await;
    let problems = world.status()["problems"].clone();
    for problem in problems.as_array().expect("a list") {
        assert_eq!(problem["code"], "unreadable", "{problem}");
        // It is tried again and again.
        let is_tried = problem["state"] == "uploading";
        assert!(is_tried || (problem["state"] == "pending" && problem["next_attempt_at"].is_string()), "{problem}");
    }
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o600)).expect("opened");
    fs::set_permissions(world.path("shut"), fs::Permissions::from_mode(0o700)).expect("opened");
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_without_events_is_polled() {
    let world = World::with("poll = \"1s\"", "").await;
    let _agent = world.start();
    world.until("it scans", || world.status()["mirrors"][0]["watch"] == "polling").await;
    world.write("a/b", "1");
    world.until_mirrored().await;
    fs::remove_file(world.path("a/b")).expect("removed");
    world.until("it is gone", || world.count("gone") == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_placed_by_number_takes_its_own_directory_only() {
    let mut world = World::new().await;
    world.write("seed", "seed");
    let agent = world.start();
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
    let id = world.sandbox().files().expect("files")[0].directory_id;
    let config = world.config().replace("remote = \"Docs\"", &format!("remote_id = {id}"));
    world.set_config(config);
    world.write("second", "2");
    world.write("sub/inner", "3");
    let _agent = world.start();
    world
        .until("one level is stored, the other skipped", || {
            world.states() == states(&[("second", "stored"), ("seed", "stored"), ("sub/inner", "skipped")])
        })
        .await;
    assert_eq!(world.status()["mirrors"][0]["remote_id"], id);
    assert_eq!(world.remote().len(), 2);
}

fn states(expected: &[(&str, &str)]) -> BTreeMap<String, String> {
    expected.iter().map(|(path, state)| ((*path).to_owned(), (*state).to_owned())).collect()
}
