//! The list of a mirror's files, encrypted as they are.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{encrypt_to, encrypted, files, holds, key, object};
use crate::world::{Said, World, said, sync};

fn publish(world: &World) -> String {
    let said = world.run(&["manifest", "publish"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stderr.contains("DEST --identity FILE"), "{said:?}");
    said.stdout.trim().to_owned()
}

/// On a machine that has the hash and, if so, the key.
fn restore_bare(world: &World, hash: &str, identity: Option<&Path>) -> Said {
    let bare = world.base().join("bare");
    fs::create_dir_all(&bare).expect("made");
    let mut command = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
    command.args(["restore", "--from", hash]).arg(dest(world));
    if let Some(identity) = identity {
        command.arg("--identity").arg(identity);
    }
    command.env_clear().env("HOME", &bare).env("DSTOR_URL", world.sandbox().url()).current_dir(&bare);
    tokio::task::block_in_place(|| said(command))
}

fn dest(world: &World) -> PathBuf {
    world.base().join("dest")
}

/// The hashes of a list's parts.
fn parts(world: &World, hash: &str, identity: &Path) -> Vec<String> {
    let arguments: [&std::ffi::OsStr; 5] =
        ["manifest".as_ref(), "show".as_ref(), hash.as_ref(), "--identity".as_ref(), identity.as_os_str()];
    let shown = world.run(&arguments);
    assert!(shown.code == 0 && shown.stdout.contains("form     encrypted"), "{shown:?}");
    let part = |line: &str| Some(line.strip_prefix("part     ")?.split_whitespace().next()?.to_owned());
    shown.stdout.lines().filter_map(part).collect()
}

// P1
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_list_brings_everything_back_and_only_what_changed_in_it_is_sent_again() {
    let (mut world, identity) = encrypted().await;
    for at in 0..30 {
        world.write(&format!("d{}/f{at}", at % 9), format!("content {at}"));
    }
    // A part ends with this one, by the form.
    let ends = |path: &String| {
        let digest = blake3::hash(path.as_bytes());
        u16::from_le_bytes([digest.as_bytes()[0], digest.as_bytes()[1]]).is_multiple_of(1024)
    };
    let last = (0..).map(|at| format!("d4/last{at}")).find(ends).expect("there is one in a thousand");
    world.write(&last, "the last of a part");
    sync(&world);
    let first = publish(&world);

    // Neither the list nor its name tells what is in it: not even the digest of a file, which would prove a guess.
    let digest = blake3::hash(b"content 7").to_hex();
    let everything = files(&world.base().join("dstor"));
    assert!(everything.iter().all(|path| !holds(path, digest.as_bytes())), "a digest is stored");
    let listed: Vec<_> =
        world.sandbox().files().expect("files").into_iter().filter(|file| file.name.contains("manifest")).collect();
    assert_eq!(listed.len(), 3, "two parts and a root");
    for file in &listed {
        assert!(file.name.ends_with(".gz.age"), "{}", file.name);
        assert!(fs::read(object(&world, &file.hash)).expect("read").starts_with(b"age-encryption.org/v1\n"));
    }

    let before = parts(&world, &first, &identity);
    let sent = world.sent();
    assert_eq!((publish(&world), world.sent()), (first.clone(), sent), "nothing changed");
    world.write("d7/f7", "changed");
    sync(&world);
    let sent = world.sent();
    let second = publish(&world);
    assert_eq!(world.sent(), sent + 2, "one part and the root");
    let after = parts(&world, &second, &identity);
    assert_eq!(before.iter().filter(|part| after.contains(part)).count(), 1, "{before:?} {after:?}");

    let closed = restore_bare(&world, &second, None);
    assert!(closed.code == 1 && closed.stderr.contains("is encrypted, and no key was given"), "{closed:?}");
    assert!(closed.stderr.contains("`--identity FILE`"), "{closed:?}");
    let (stranger, to_stranger) = key(&world, "stranger");
    let closed = restore_bare(&world, &second, Some(&stranger));
    assert!(closed.code == 1 && closed.stderr.contains("is encrypted, and to another key"), "{closed:?}");
    let back = restore_bare(&world, &second, Some(&identity));
    assert!(back.code == 0 && back.stdout.starts_with("31 files restored"), "{back:?}");
    let mut diff = Command::new("diff");
    diff.arg("-r").args([world.mirror(), dest(&world)]);
    assert_eq!(said(diff).code, 0);

    // Who is to read the next list has to be able to read all of it.
    let (_, own) = key(&world, "second");
    encrypt_to(&mut world, &[&own, &to_stranger]);
    let sent = world.sent();
    let third = publish(&world);
    assert_eq!(world.sent(), sent + 3, "two parts and the root");
    assert_eq!(parts(&world, &third, &stranger).len(), 2);
    // The files stay as they were: closed to the new key, and open to the old one.
    fs::remove_dir_all(dest(&world)).expect("removed");
    let back = restore_bare(&world, &third, Some(&stranger));
    assert!(back.code == 1 && back.stderr.contains("31 files are encrypted to another key"), "{back:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_agent_keeps_the_list_encrypted_and_current() {
    let (mut world, identity) = encrypted().await;
    world.set_config(world.config().replace("[encrypt]", "[manifest]\nevery = \"1s\"\n[encrypt]"));
    world.write("a", "one");
    let agent = world.start();
    let hash = |world: &World| world.status()["mirrors"][0]["manifest"]["hash"].as_str().map(str::to_owned);
    world.until("a list is stored", || hash(&world).is_some()).await;
    let first = hash(&world).expect("it is stored");
    world.write("b", "two");
    world.until("another is stored", || hash(&world).is_some_and(|hash| hash != first)).await;
    let second = hash(&world).expect("it is stored");
    assert_eq!(agent.stop(), 0);
    let back = restore_bare(&world, &second, Some(&identity));
    assert!(back.code == 0 && back.stdout.starts_with("2 files restored"), "{back:?}");
}
