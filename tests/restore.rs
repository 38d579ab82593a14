//! The way back: what `restore` brings, what it leaves alone, and what it says of both.

mod faults;
mod hostile;
mod killed;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use dstor_sync::sandbox::Phase;
use serde_json::Value;

use crate::world::{Said, World, stored, sync};

fn dest(world: &World) -> PathBuf {
    world.base().join("dest")
}

/// `restore --json DEST` with these arguments: the result of each file by its path below DEST, the summary, and how it ended.
fn restore(world: &World, arguments: &[&str]) -> (BTreeMap<String, String>, Value, Said) {
    let dest = dest(world);
    let mut all = vec!["restore", "--json", dest.to_str().expect("UTF-8")];
    all.extend(arguments);
    let said = world.run(&all);
    let top = format!("{}/", dest.display());
    let (mut files, mut summary) = (BTreeMap::new(), Value::Null);
    for line in said.stdout.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(line["schema"], 1);
        match line["path"].as_str() {
            Some(path) => {
                let path = path.trim_start_matches(&top).to_owned();
                let result = line["result"].as_str().expect("a result").to_owned();
                assert!(files.insert(path, result).is_none(), "told twice: {line}");
            }
            None => summary = line["summary"].clone(),
        }
    }
    (files, summary, said)
}

/// A regular file, as far as restoring knows of it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Found {
    content: Vec<u8>,
    mode: u32,
    mtime: (i64, i64),
}

/// All regular files below a directory, by their path. What gets its name from a restore while this looks may be left out.
pub(crate) fn tree(top: &Path) -> BTreeMap<Vec<u8>, Found> {
    let mut files = BTreeMap::new();
    let mut dirs = vec![top.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read") {
            let path = entry.expect("an entry").path();
            let Some(meta) = unless_gone(path.symlink_metadata()) else { continue };
            if meta.is_dir() {
                dirs.push(path);
            } else if meta.is_file() {
                let below = path.strip_prefix(top).expect("below").as_os_str().as_bytes().to_vec();
                let mtime = (meta.mtime(), meta.mtime_nsec());
                let Some(content) = unless_gone(fs::read(&path)) else { continue };
                files.insert(below, Found { content, mode: meta.mode() & 0o7777, mtime });
            }
        }
    }
    files
}

fn unless_gone<T>(looked: std::io::Result<T>) -> Option<T> {
    match looked {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        looked => Some(looked.expect("looked")),
    }
}

/// Whether a directory holds files on their way, or that were once.
pub(crate) fn has_parts(top: &Path) -> bool {
    tree(top).keys().any(|path| path.windows(17).any(|window| window == b".dstor-sync-part-"))
}

fn is_there(results: &BTreeMap<String, String>, all: &str) -> bool {
    !results.is_empty() && results.values().all(|result| result == all)
}

// P1
#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_comes_back_with_its_content_times_and_permissions_and_without_credentials() {
    let world = World::new().await;
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|at| at.to_le_bytes()).take(3_000_000).collect();
    for (at, (path, content)) in [
        ("a", b"the first".as_slice()),
        ("dir/deep/empty", b""),
        ("dir/deep/\u{e9} \u{65e5}\u{672c} \"q\"", b"odd"),
        ("dir/\u{1b}[31m\n\u{202e}", b"odder"),
        ("dir/large", &large),
        ("x/y/z/far", b"far"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = world.write(path, content);
        let mode = [0o600, 0o755, 0o444, 0o640, 0o664, 0o4755][at];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        // Before 1970, with and without nanoseconds, and in the future.
        let base = [1_000_000_000, 5, 1_700_000_000, 0, 1_234_567_890, 4_000_000_000][at];
        let time = UNIX_EPOCH + Duration::new(base, 123_456_789 * u32::from(at % 2 == 0));
        let time = if at == 1 { UNIX_EPOCH - Duration::from_millis(1500) } else { time };
        fs::File::options().read(true).open(&path).and_then(|file| file.set_modified(time)).expect("set");
    }
    sync(&world);
    fs::remove_file(world.base().join("key")).expect("removed");
    let tokens = world.sandbox().requests(Phase::Token);

    let (results, summary, said) = restore(&world, &[]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(is_there(&results, "restored") && results.len() == 6, "{results:?}");
    assert_eq!((&summary["restored"], &summary["bare"]), (&6.into(), &0.into()));
    let mut wanted = tree(&world.mirror());
    // What would let a program run as its owner is not brought.
    wanted.get_mut(b"x/y/z/far".as_slice()).expect("there").mode = 0o755;
    assert_eq!(tree(&dest(&world)), wanted);
    let mut diff = Command::new("diff");
    diff.arg("-r").args([world.mirror(), dest(&world)]);
    assert_eq!(crate::world::said(diff).code, 0);
    let directory = dest(&world).join("dir/deep").metadata().expect("there").mode() & 0o777;
    assert_eq!(directory, 0o700, "made for its owner alone");
    assert_eq!(world.sandbox().requests(Phase::Token), tokens, "no credentials");

    // Again: all of it is there, and dStor is asked for nothing.
    let before = world.sandbox().requests(Phase::Read);
    let (results, _, said) = restore(&world, &[]);
    assert!(is_there(&results, "there") && said.code == 0, "{said:?}");
    assert_eq!(world.sandbox().requests(Phase::Read), before);
    let told = world.run(&["restore".as_ref(), dest(&world).as_os_str()]);
    assert_eq!(told.stdout, "0 files restored (0 B), 6 already there.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_there_is_replaced_only_by_force_and_a_directory_never() {
    let files = [("same", "1"), ("size", "22"), ("bytes", "333"), ("link", "4"), ("dir", "5"), ("d/through", "6")];
    let world = stored(&files).await;
    let (dest, outside) = (dest(&world), world.base().join("outside"));
    fs::create_dir_all(dest.join("dir")).expect("made");
    fs::create_dir(&outside).expect("made");
    for (name, content) in [("same", "1"), ("size", "2"), ("bytes", "abc")] {
        fs::write(dest.join(name), content).expect("written");
    }
    fs::write(outside.join("target"), "mine").expect("written");
    symlink(outside.join("target"), dest.join("link")).expect("linked");
    symlink(&outside, dest.join("d")).expect("linked");

    let (results, _, said) = restore(&world, &[]);
    let kept = |path: &str| results[path] == "kept";
    assert!(results["same"] == "there" && files[1..].iter().all(|(path, _)| kept(path)), "{results:?}");
    assert_eq!(said.code, 1);
    assert_eq!(fs::read(dest.join("size")).expect("read"), b"2");
    assert_eq!(fs::read(dest.join("bytes")).expect("read"), b"abc");

    let (results, _, said) = restore(&world, &["--force"]);
    for (path, result) in
        [("same", "there"), ("size", "restored"), ("bytes", "restored"), ("link", "restored"), ("dir", "kept")]
    {
        assert_eq!(results[path], result, "{path}");
    }
    assert_eq!((results["d/through"].as_str(), said.code), ("kept", 1), "not through a link, by no force");
    assert_eq!(fs::read(dest.join("bytes")).expect("read"), b"333");
    assert!(dest.join("link").symlink_metadata().expect("there").is_file(), "the link itself gave way");
    assert_eq!(fs::read(outside.join("target")).expect("read"), b"mine");
    assert_eq!(fs::read_dir(&outside).expect("read").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_comes_back_if_it_is_named_or_asked_for() {
    let world = stored(&[("a", "1"), ("gone", "2"), ("old/one", "3"), ("old/two", "4")]).await;
    let named = |path: &str| world.path(path).to_str().expect("UTF-8").to_owned();
    fs::remove_file(world.path("gone")).expect("removed");
    fs::remove_dir_all(world.path("old")).expect("removed");
    sync(&world);
    assert_eq!(world.count("gone"), 3);
    let (results, summary, said) = restore(&world, &[]);
    assert_eq!((results.len(), said.code, &summary["gone"]), (1, 0, &3.into()), "{said:?}");
    let (results, _, said) = restore(&world, &[&named("old")]);
    assert_eq!((results.len(), said.code), (0, 1));
    assert!(said.stderr.contains("`--gone` restores them"), "{}", said.stderr);
    let (results, _, said) = restore(&world, &[&named("gone"), &named("old/one")]);
    assert_eq!((results.len(), said.code), (2, 0), "named, and so brought: {said:?}");
    let (results, _, said) = restore(&world, &["--gone"]);
    assert_eq!((results.len(), said.code), (4, 0), "{said:?}");
    assert_eq!(fs::read(dest(&world).join("old/two")).expect("read"), b"4");
    let (_, _, said) = restore(&world, &[&named("nothing")]);
    assert!(said.code == 1 && said.stderr.contains("nothing of"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_named_is_restored_and_once() {
    let world = stored(&[("a", "1"), ("d/b", "2"), ("d/e/c", "3"), ("da", "4")]).await;
    let named = |path: &str| world.path(path).to_str().expect("UTF-8").to_owned();
    let (results, _, said) = restore(&world, &[&named("d"), &named("d/e"), &named("d"), &named("a")]);
    assert_eq!(results.keys().collect::<Vec<_>>(), ["a", "d/b", "d/e/c"]);
    assert_eq!(said.code, 0);
}

// P1: what dStor does not hold as it was last seen is told.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_comes_back_as_such_and_what_was_never_stored_is_named() {
    let world = stored(&[("a", "the first version"), ("b", "1")]).await;
    world.misbehave("upload 400 name=a");
    world.misbehave("upload 400 name=new");
    world.write("a", "the second");
    world.write("new", "never stored");
    symlink("a", world.path("link")).expect("linked");
    assert_eq!(world.run(&["sync", "-q"]).code, 1);
    let (results, summary, said) = restore(&world, &[]);
    let expected = [("a", "restored"), ("b", "restored"), ("link", "skipped"), ("new", "not_stored")]
        .map(|(a, b)| (a.into(), b.into()));
    assert_eq!(results, BTreeMap::from(expected));
    assert_eq!((said.code, &summary["older"], &summary["not_stored"]), (1, &1.into(), &1.into()));
    assert_eq!(fs::read(dest(&world).join("a")).expect("read"), b"the first version");
    let told = world.run(&["restore".as_ref(), dest(&world).as_os_str()]);
    assert!(told.stdout.contains("older       ") && told.stdout.contains("not stored  "), "{}", told.stdout);
    assert!(told.stdout.ends_with("0 files restored (0 B), 2 already there, 1 never stored.\n"), "{}", told.stdout);
    assert!(told.stderr.contains("1 file never mirrored"), "{}", told.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_into_a_mirror_or_the_state_without_a_word() {
    let world = stored(&[("a", "1"), ("mirror/b", "2"), ("state/c", "3"), ("sub/d", "4")]).await;
    let run = |dest: &Path, more: &[&str]| {
        let mut all = vec!["restore".as_ref(), dest.as_os_str()];
        all.extend(more.iter().map(std::ffi::OsStr::new));
        world.run(&all)
    };
    fs::remove_file(world.path("a")).expect("removed");
    symlink(world.mirror(), world.base().join("elsewhere")).expect("linked");
    for inside in [world.mirror(), world.path("sub"), world.path("new"), world.base().join("elsewhere/new")] {
        let said = run(&inside, &[]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains("the mirror") && said.stderr.contains("--into-mirror"), "{said:?}");
    }
    for inside in [world.state_dir(), world.state_dir().join("new")] {
        let said = run(&inside, &["--into-mirror"]);
        assert_eq!(said.code, 2, "{said:?}");
        assert!(said.stderr.contains("belongs to the state directory"), "{said:?}");
    }
    assert!(!world.path("new").exists() && !world.state_dir().join("new").exists() && !world.path("a").exists());

    // One that holds both: what would go into them is left.
    let said = run(world.base(), &[]);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("2 files restored (2 B), 0 already there, 2 left as they are."), "{said:?}");
    assert!(world.base().join("a").exists() && !world.path("b").exists() && !world.state_dir().join("c").exists());

    // With the word, what is missing in the mirror is brought, and parts are no files of it.
    world.write(".dstor-sync-part-0123456789abcdef", "a part");
    let said = run(&world.mirror(), &["--into-mirror"]);
    assert_eq!((said.code, fs::read(world.path("a")).expect("read")), (0, b"1".to_vec()), "{said:?}");
    world.write("sub/.dstor-sync-part-0123456789abcdef", "a part");
    let sent = world.sent();
    sync(&world);
    assert_eq!(world.sent(), sent, "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_writes_nothing_and_tells_the_same() {
    let world = stored(&[("a", "1"), ("d/b", "2")]).await;
    let before = world.sandbox().requests(Phase::Read);
    let (results, summary, said) = restore(&world, &["--dry-run"]);
    assert!(is_there(&results, "due") && said.code == 0 && summary["due"] == 2, "{said:?}");
    assert!(!dest(&world).exists());
    assert_eq!(world.sandbox().requests(Phase::Read), before);
    restore(&world, &[]);
    fs::write(dest(&world).join("a"), "other").expect("written");
    let told = world.run(&["restore".as_ref(), dest(&world).as_os_str(), "--dry-run".as_ref()]);
    assert!(told.stdout.ends_with("0 files would be restored, 1 already there, 1 left as they are.\n"), "{told:?}");
    assert_eq!(told.code, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_has_its_status() {
    let mut world = stored(&[("a", "1")]).await;
    let second = world.base().join("second");
    fs::create_dir(&second).expect("made");
    fs::write(second.join("b"), "2").expect("written");
    world.set_config(
        world.config().replace(
            "[watch]",
            &format!("[[mirror]]\npath = \"{}\"\nremote = \"second\"\n\n[watch]", second.display()),
        ),
    );
    sync(&world);
    let (_, _, said) = restore(&world, &[]);
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("there are 2 mirrors") && said.stderr.contains("hint: "), "{}", said.stderr);
    assert!(!dest(&world).exists());
    let (results, _, said) = restore(&world, &[second.to_str().expect("UTF-8")]);
    assert_eq!((results.len(), said.code), (1, 0));
    assert!(dest(&world).join("b").exists());
    let (_, _, said) = restore(&world, &[second.to_str().expect("UTF-8"), world.path("a").to_str().expect("UTF-8")]);
    assert_eq!(said.code, 2, "of two mirrors");
    world.stop_sandbox().await;
    let (results, _, said) = restore(&world, &[world.path("a").to_str().expect("UTF-8")]);
    assert!(is_there(&results, "unknown") && said.code == 5, "{said:?}");
    assert!(said.stderr.contains("goes on where this one ended"), "{}", said.stderr);
    let none = World::new().await;
    assert_eq!(restore(&none, &[]).2.code, 3, "there is no ledger");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_sandbox_in_the_program_stored_comes_back_from_there() {
    let world = World::new().await;
    world.write("a", "the first");
    let mirror = world.mirror();
    assert_eq!(world.run(&["sync", "-q", "--sandbox", mirror.to_str().expect("UTF-8")]).code, 0);
    let (results, _, said) = restore(&world, &["--sandbox"]);
    assert!(is_there(&results, "restored") && said.code == 0, "{said:?}");
    assert_eq!(world.sandbox().requests(Phase::Read), 0, "not from the other one");
}
