//! The list of a mirror's files on dStor: from its hash alone everything comes back where nothing else is left.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use dstor_sync::sandbox::Phase;

use crate::world::{Said, World, said};

/// A world in which so many files are stored, three odd ones, and three with which parts of a list end.
async fn stored(files: usize) -> World {
    let world = World::new().await;
    for at in 0..files {
        world.write(&format!("d{}/f{at}", at % 9), format!("content {at}"));
    }
    for (path, content) in [("a", ""), ("\u{1b}[31m\n", "odd"), ("é/日本", "odder")] {
        world.write(path, content);
    }
    for dir in ["d1", "d4", "d7"] {
        world.write(&last_of_a_part(dir), "the last of a part");
    }
    assert_eq!(world.run(&["sync", "-q"]).code, 0);
    world
}

/// A path in a directory after which a part ends, by the form.
fn last_of_a_part(dir: &str) -> String {
    let ends = |path: &String| {
        let digest = blake3::hash(path.as_bytes());
        u16::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]).is_multiple_of(1024)
    };
    (0..).map(|at| format!("{dir}/last{at}")).find(ends).expect("there is one in a thousand")
}

/// Stores a list and returns its hash, and what was said.
fn publish(world: &World) -> (String, Said) {
    let said = world.run(&["manifest", "publish"]);
    assert_eq!(said.code, 0, "{said:?}");
    (said.stdout.trim().to_owned(), said)
}

fn dest(world: &World) -> PathBuf {
    world.base().join("dest")
}

/// On a machine that has the hash, and nothing else.
fn restore_bare(world: &World, hash: &str, more: &[&str]) -> Said {
    let bare = world.base().join("bare");
    fs::create_dir_all(&bare).expect("made");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
    command.args(["restore", "--from", hash]).arg(dest(world)).args(more);
    command.env_clear().env("HOME", &bare).env("DSTOR_URL", world.sandbox().url()).current_dir(&bare);
    tokio::task::block_in_place(|| said(command))
}

/// Where the sandbox keeps the bytes under a hash.
fn object(world: &World, hash: &str) -> PathBuf {
    let mut dirs = vec![world.base().join("dstor/objects")];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read").flatten() {
            if entry.path().is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(hash) {
                return entry.path();
            }
        }
    }
    panic!("nothing under {hash}");
}

fn is_whole(world: &World) -> bool {
    let mut diff = std::process::Command::new("diff");
    diff.arg("-r").args([world.mirror(), dest(world)]);
    said(diff).code == 0
}

/// The hashes of a list's parts.
fn parts(world: &World, hash: &str) -> Vec<String> {
    let shown = world.run(&["manifest", "show", hash]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let part = |line: &str| Some(line.strip_prefix("part     ")?.split_whitespace().next()?.to_owned());
    shown.stdout.lines().filter_map(part).collect()
}

// P1
#[tokio::test(flavor = "multi_thread")]
async fn from_its_hash_alone_a_mirror_comes_back_on_a_bare_machine() {
    let world = stored(40).await;
    let (hash, said) = publish(&world);
    assert!(said.stderr.contains("46 files") && said.stderr.contains(&format!("--from {hash} DEST")), "{said:?}");
    fs::remove_dir_all(world.state_dir()).expect("removed");
    let tokens = world.sandbox().requests(Phase::Token);
    let said = restore_bare(&world, &hash, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.starts_with("46 files restored"), "{said:?}");
    assert!(is_whole(&world));
    assert_eq!(world.sandbox().requests(Phase::Token), tokens, "no credentials");
    let again = restore_bare(&world, &hash, &[]);
    assert_eq!((again.code, again.stdout.as_str()), (0, "0 files restored (0 B), 46 already there.\n"));
    let shown = world.run(&["manifest", "show", &hash]);
    assert!(
        shown.stdout.contains("files    46 files") && shown.stdout.contains(world.mirror().to_str().expect("UTF-8"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_list_only_what_is_named_comes_back_and_what_it_does_not_have_is_told() {
    let world = World::new().await;
    for name in ["a/b/one", "a/two", "ab", "c", "d/e"] {
        world.write(name, name);
    }
    assert_eq!(world.run(&["sync"]).code, 0);
    let (hash, _) = publish(&world);
    let came = || {
        let found = std::process::Command::new("find").current_dir(dest(&world)).args([".", "-type", "f"]).output();
        let text = String::from_utf8(found.expect("run").stdout).expect("UTF-8");
        text.lines()
            .map(|line| line.trim_start_matches("./").to_owned())
            .collect::<std::collections::BTreeSet<String>>()
    };

    let said = restore_bare(&world, &hash, &["./a/", "c"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(came().iter().eq(["a/b/one", "a/two", "c"]), "{:?}", came());
    let absolute = world.mirror().join("d");
    let said = restore_bare(&world, &hash, &[absolute.to_str().expect("UTF-8"), "a/b", "A"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains("error: the list has nothing of `A`\nhint: with `--dry-run`"), "{said:?}");
    assert!(came().iter().eq(["a/b/one", "a/two", "c", "d/e"]), "{:?}", came());
    for outside in ["../a", "/etc", "a/../../b"] {
        let said = restore_bare(&world, &hash, &[outside]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains(&format!("`{outside}` is no path in this list")), "{said:?}");
    }
    assert!(!came().contains("ab"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_parts_that_changed_are_sent_again() {
    let world = stored(40).await;
    let (first, _) = publish(&world);
    let before = parts(&world, &first);
    assert!(before.len() >= 4, "{before:?}");
    let sent = world.sent();
    let listed = world.status()["mirrors"][0]["manifest"].clone();
    assert_eq!((listed["hash"].as_str(), &listed["files"]), (Some(first.as_str()), &46.into()));
    assert!(world.run(&["status"]).stdout.contains(&format!("manifest {first} of ")));
    let (same, said) = publish(&world);
    assert_eq!((same, world.sent()), (first.clone(), sent), "nothing changed: {said:?}");
    world.write("d3/f3", "changed");
    assert_eq!(world.run(&["sync", "-q"]).code, 0);
    let sent = world.sent();
    let (second, _) = publish(&world);
    assert_ne!(second, first);
    assert_eq!(world.sent() - sent, 2, "one part, and the root");
    let after = parts(&world, &second);
    assert_eq!(after.iter().filter(|part| !before.contains(part)).count(), 1);
    // One that was lost meanwhile does no harm: everything is sent anew.
    fs::remove_file(object(&world, &second)).expect("removed");
    world.write("d4/f4", "changed");
    assert_eq!(world.run(&["sync", "-q"]).code, 0);
    let (third, _) = publish(&world);
    assert_eq!(restore_bare(&world, &third, &[]).code, 0);
    assert!(is_whole(&world));
    // Each of them lies apart from the mirror's own files.
    let files = world.sandbox().files().expect("files");
    let lists = files.iter().filter(|file| file.name.starts_with("dstor-sync-manifest-"));
    assert!(lists.into_iter().all(|file| file.directory == "Docs/.dstor-sync"));
}

// G8, E30: of a list that is damaged, what is sound comes back, and the rest is told.
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_damaged_is_refused_or_brings_what_is_sound() {
    let world = stored(40).await;
    let (hash, _) = publish(&world);
    let parts = parts(&world, &hash);
    let lost = object(&world, &parts[1]);
    let good = fs::read(&lost).expect("read");
    fs::write(&lost, b"another").expect("written");
    let said = restore_bare(&world, &hash, &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stderr.contains(&format!("the part `{}` of the manifest", parts[1])), "{said:?}");
    assert!(!is_whole(&world) && dest(&world).join("a").exists());
    fs::write(&lost, good).expect("written");
    let said = restore_bare(&world, &hash, &[]);
    assert!(said.code == 0 && is_whole(&world), "{said:?}");

    let root = object(&world, &hash);
    let good = fs::read(&root).expect("read");
    fs::remove_dir_all(dest(&world)).expect("removed");
    for (bytes, says) in [
        (b"letters".to_vec(), "no manifest"),
        (good[..good.len() / 2].to_vec(), "not proved"),
        (fs::read(object(&world, &parts[0])).expect("read"), "a part of a manifest"),
    ] {
        fs::write(&root, bytes).expect("written");
        let said = restore_bare(&world, &hash, &[]);
        assert!(said.code == 1 && said.stderr.contains(says) && said.stderr.contains("hint: "), "{says}: {said:?}");
        assert!(!dest(&world).exists());
    }
    fs::remove_file(&root).expect("removed");
    let said = restore_bare(&world, &hash, &[]);
    assert!(said.code == 1 && said.stderr.contains("has nothing under"), "{said:?}");
    assert_eq!(restore_bare(&world, "../etc/passwd", &[]).code, 2);
    world.misbehave("read 500");
    assert_eq!(restore_bare(&world, &hash, &[]).code, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_in_a_session_where_there_is_nothing_else_and_says_why_it_cannot_go() {
    let world = stored(3).await;
    world.misbehave("upload 400");
    let refused = world.run(&["manifest", "publish"]);
    assert!(refused.code != 0 && refused.stderr.starts_with("error: "), "{refused:?}");
    world.sandbox().behave();
    fs::write(world.base().join("key"), "z".repeat(64)).expect("written");
    let refused = world.run(&["manifest", "publish"]);
    assert_eq!(refused.code, 4, "{refused:?}");
    fs::write(world.base().join("key"), world.sandbox().api_key()).expect("written");
    let sessions = world.sandbox().requests(Phase::GetToken);
    world.misbehave("upload wants-session");
    let (hash, _) = publish(&world);
    assert!(world.sandbox().requests(Phase::GetToken) > sessions);
    world.sandbox().behave();
    assert_eq!(restore_bare(&world, &hash, &[]).code, 0);
    assert!(is_whole(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_in_the_program_keeps_a_list_as_well() {
    let world = World::new().await;
    world.write("a", "the first");
    let mirror = world.mirror();
    assert_eq!(world.run(&["sync", "-q", "--sandbox", mirror.to_str().expect("UTF-8")]).code, 0);
    let said = world.run(&["manifest", "publish", "--sandbox"]);
    assert_eq!(said.code, 0, "{said:?}");
    let hash = said.stdout.trim();
    fs::remove_file(world.state_dir().join("sandbox/ledger.db")).expect("removed");
    let said = world.run(&["restore", "--sandbox", "--from", hash, dest(&world).to_str().expect("UTF-8")]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(is_whole(&world));
}

// G8, G10: what a list says of paths, numbers and lengths is not believed, proved or not.
#[tokio::test(flavor = "multi_thread")]
async fn no_path_in_a_list_leads_out_and_no_number_costs_anything() {
    use std::io::Write as _;
    let world = stored(3).await;
    let (hash, _) = publish(&world);
    let part = parts(&world, &hash).remove(0);
    let file = world.ls()["d1/f1"].clone();
    let (blake3_hex, of_file) = (file["blake3"].as_str().expect("a digest"), file["hash"].as_str().expect("a hash"));
    let pack = |text: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packer.write_all(text.as_bytes()).and_then(|()| packer.finish()).expect("packed")
    };
    let target = world.base().join("target");
    let before = fs::read_dir(world.base()).expect("read").count();
    let entry = |path: &str| {
        format!(
            "{{\"path\":\"{path}\",\"size\":9,\"mode\":\"4777\",\"mtime\":[1,2],\"blake3\":\"{blake3_hex}\",\"hash\":\"{of_file}\"}}\n"
        )
    };
    let bad = ["../target", target.to_str().expect("UTF-8"), "d/../../target", "d//e", "d/./e", ""];
    for path in bad.into_iter().chain(["good"]) {
        let text = format!("{{\"dstor_sync_manifest\":1,\"kind\":\"part\"}}\n{}", entry(path));
        let packed = pack(&text);
        let line = format!(
            "{{\"part\":\"{part}\",\"packed\":{},\"bytes\":{},\"blake3\":\"{}\",\"files\":18446744073709551615}}\n",
            packed.len(),
            text.len(),
            blake3::hash(text.as_bytes())
        );
        let head = "{\"dstor_sync_manifest\":1,\"kind\":\"root\",\"files\":1000000000,\"mirror\":\"\\u001b[31m\"}\n";
        fs::write(object(&world, &part), &packed).expect("written");
        fs::write(object(&world, &hash), pack(&format!("{head}{line}{{\"end\":1}}\n"))).expect("written");
        assert_eq!(restore_bare(&world, &hash, &[]).code, 1, "not proved");
        let said = restore_bare(&world, &hash, &["--unproved"]);
        if path == "good" {
            assert_eq!(said.code, 0, "{said:?}");
            use std::os::unix::fs::PermissionsExt as _;
            let mode = dest(&world).join("good").metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o7777, 0o777, "never set-user-id");
        } else {
            assert!(said.code == 1 && said.stderr.contains("no file of a mirror"), "{path}: {said:?}");
            assert_eq!(fs::read_dir(dest(&world)).expect("read").count(), 0, "{path}");
        }
    }
    let shown = world.run(&["manifest", "show", &hash, "--unproved"]);
    assert!(
        shown.code == 0 && !shown.stdout.contains('\u{1b}') && shown.stdout.contains("1000000000 files"),
        "{shown:?}"
    );
    // `dest` and `bare` are new, and nothing else.
    assert_eq!(fs::read_dir(world.base()).expect("read").count(), before + 2);
}

/// A command that may have so many KiB of memory of its own.
fn within(kib: u32, command: &std::process::Command) -> std::process::Command {
    let mut shell = std::process::Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("ulimit -d {kib}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    shell.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell.current_dir(command.get_current_dir().expect("a directory"));
    shell
}

// G10
#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_swells_without_end_is_refused_and_takes_no_memory() {
    use std::io::Write as _;
    const MEMORY_KIB: u32 = 150_000;
    const SWOLLEN: usize = 400 << 20;
    let world = stored(3).await;
    let (hash, _) = publish(&world);
    let part = parts(&world, &hash).remove(0);
    let (root, part_at) = (object(&world, &hash), object(&world, &part));
    let swollen = |head: &str, line: &str| {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(head.as_bytes()).expect("packed");
        let some = line.repeat(1000);
        for _ in 0..SWOLLEN / some.len() {
            packer.write_all(some.as_bytes()).expect("packed");
        }
        packer.finish().expect("packed")
    };
    let bare = world.base().join("bare");
    fs::create_dir_all(&bare).expect("made");
    let run = |arguments: &[&OsStr]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
        command.args(arguments).arg(&hash);
        command.env_clear().env("HOME", &bare).env("DSTOR_URL", world.sandbox().url()).current_dir(&bare);
        tokio::task::block_in_place(|| said(within(MEMORY_KIB, &command)))
    };
    let show = || run(&["manifest", "show", "--unproved"].map(OsStr::new));
    let restore = || run(&["restore".as_ref(), dest(&world).as_os_str(), "--unproved".as_ref(), "--from".as_ref()]);
    assert_eq!((show().code, restore().code), (0, 0), "as it is, so much memory is enough");
    fs::remove_dir_all(dest(&world)).expect("removed");

    let digest = "0".repeat(64);
    let line =
        format!("{{\"part\":\"{part}\",\"packed\":9,\"bytes\":9,\"blake3\":\"{digest}\",\"files\":1000000000}}\n");
    let head = "{\"dstor_sync_manifest\":1,\"kind\":\"root\",\"files\":1000000000}\n";
    let good = fs::read(&root).expect("read");
    fs::write(&root, swollen(head, &line)).expect("written");
    let said = show();
    assert!(said.code == 1 && said.stderr.contains("more parts than any list"), "{said:?}");

    // A part of it: no more of it is unpacked than the root says.
    fs::write(&root, good).expect("written");
    fs::write(&part_at, swollen("{\"dstor_sync_manifest\":1,\"kind\":\"part\"}\n", &line)).expect("written");
    let said = restore();
    assert!(said.code == 1 && !said.stderr.contains("memory"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lists_what_changed_once_it_is_quiet_and_nothing_when_nothing_did() {
    let mut world = World::new().await;
    world.set_config(format!("{}\n[manifest]\nevery = \"1s\"\n", world.config()));
    for at in 0..20 {
        world.write(&format!("d/f{at}"), at.to_string());
    }
    let agent = world.start();
    let listed = |world: &World| world.status()["mirrors"][0]["manifest"].clone();
    world.until("all are listed", || listed(&world)["files"] == 20).await;
    let first = listed(&world)["hash"].clone();
    world.write("d/f3", "another");
    world.until("another list", || listed(&world)["hash"] != first).await;
    fs::remove_file(world.path("d/f4")).expect("removed");
    world.until("one less is listed", || listed(&world)["files"] == 19).await;
    let hash = listed(&world)["hash"].as_str().expect("a hash").to_owned();
    // A scan takes a tick of the agent's clock to begin: many times what a list would wait for.
    let (sent, scanned) = (world.sent(), world.status()["mirrors"][0]["last_scan_at"].clone());
    assert_eq!(world.run(&["rescan"]).code, 0);
    world.until("a scan later", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    assert_eq!((world.sent(), listed(&world)["hash"].as_str()), (sent, Some(hash.as_str())));
    assert_eq!(agent.stop(), 0);
    assert_eq!(restore_bare(&world, &hash, &[]).code, 0);
    assert!(is_whole(&world));
}
