//! Names that are hidden from dStor.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;

use dstor_sync::sandbox::Phase;

use super::{encrypt_to, encrypted, files, hash_of, holds, key};
use crate::security::tap::Tap;
use crate::world::{World, said, sync};

/// What every name of the tests has in it.
const NAMED: &str = "treasure";

fn hide_names(world: &mut World) {
    world.set_config(world.config().replace("[encrypt]", "[encrypt]\nnames = true"));
}

/// Directory and name on dStor of all that was ever stored.
fn stored(world: &World) -> BTreeSet<(String, String)> {
    let all = world.sandbox().versions().expect("versions");
    all.into_iter().map(|file| (file.directory, file.name)).collect()
}

fn place(world: &World, path: &str) -> (String, String) {
    let line = &world.ls()[path];
    let text = |key: &str| line[key].as_str().expect("a text").to_owned();
    (text("remote_dir"), text("remote_name"))
}

/// Now, in a second that is over when it returns.
async fn moment(world: &World) -> String {
    let now = jiff::Timestamp::now();
    world.until("that second is over", || jiff::Timestamp::now().as_second() > now.as_second()).await;
    now.to_string()
}

/// Hash and name on dStor of a file, as they were at a time.
fn then(world: &World, at: &str, path: &str) -> (String, String) {
    let said = world.run(&["ls", "--json", "--at", at]);
    let lines = said.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    let mut of_it = lines.filter(|line| line["path"].as_str().is_some_and(|at| at.ends_with(path)));
    let line = of_it.next().expect("it was there");
    let text = |key: &str| line[key].as_str().expect("a text").to_owned();
    (text("hash"), text("remote_name"))
}

fn is_pseudonym(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_hexdigit())
}

// P1
#[tokio::test(flavor = "multi_thread")]
async fn no_name_leaves_the_machine_and_all_of_them_come_back() {
    let (mut world, identity) = encrypted().await;
    hide_names(&mut world);
    let tap = Tap::on(&world.sandbox().url()).await;
    world.point_to(&tap.url());
    for at in 0..6 {
        world.write(&format!("{NAMED}-maps/of/{NAMED}-{at}"), format!("map {at}"));
    }
    world.write(&format!("{NAMED}-lone/{NAMED}"), "alone");
    world.write(&format!("{NAMED}.txt"), "at the top");
    world.write(&format!("{NAMED} \"a\""), "one");
    // Names that cannot travel as they are: no text, and two that would become one on their way.
    world.write(&format!("{NAMED} %22a%22"), "other");
    let odd = world.mirror().join(OsStr::from_bytes(b"treasure-\xff"));
    fs::write(&odd, "no text").expect("written");
    world.misbehave("upload 401 x1");
    sync(&world);
    assert!(world.sandbox().requests(Phase::Chunk) > 0 && world.sandbox().requests(Phase::Upload) > 0);
    assert_eq!(world.count("stored"), 11, "{:?}", world.states());
    let published = world.run(&["manifest", "publish"]);
    assert_eq!(published.code, 0, "{published:?}");

    assert!(tap.bytes() > 1_000, "the way led elsewhere");
    assert!(tap.heard(b"Docs/"), "directories travel where the tap does not look");
    assert!(!tap.heard(NAMED.as_bytes()), "a name was sent");
    assert!(stored(&world).iter().all(|(dir, name)| !dir.contains(NAMED) && !name.contains(NAMED)), "a name is kept");
    assert!(files(&world.base().join("dstor")).iter().all(|path| !holds(path, NAMED.as_bytes())), "a name is stored");
    let ls = world.ls();
    for at in 0..6 {
        let (dir, name) = place(&world, &format!("{NAMED}-maps/of/{NAMED}-{at}"));
        assert!(stored(&world).contains(&(dir.clone(), name.clone())), "{dir} {name}");
        let parts: Vec<&str> = dir.split('/').collect();
        assert!(parts[0] == "Docs" && parts.len() == 3 && parts[1..].iter().all(|part| is_pseudonym(part)), "{dir}");
        assert!(is_pseudonym(&name));
    }
    assert!(ls.values().all(|line| line["proof"] == "cid"));
    assert_eq!(world.status()["encrypt"]["names"], true);
    let why = world.run(&["why".as_ref(), odd.as_os_str()]);
    assert!(why.stdout.contains("name     hidden; on dStor it is "), "{why:?}");
    let pins = world.run(&["export", "--pins"]);
    assert!(pins.code == 0 && pins.stdout.lines().count() == 11 && !pins.stdout.contains(NAMED), "{pins:?}");

    // From the list alone, on a machine that has nothing else.
    let (bare, dest) = (world.base().join("bare"), world.base().join("dest"));
    fs::create_dir_all(&bare).expect("made");
    let mut restore = Command::new(env!("CARGO_BIN_EXE_dstor-sync"));
    restore.args(["restore", "--from", published.stdout.trim(), "--identity"]).args([&identity, &dest]);
    restore.env_clear().env("HOME", &bare).env("DSTOR_URL", world.sandbox().url()).current_dir(&bare);
    let back = tokio::task::block_in_place(|| said(restore));
    assert!(back.code == 0 && back.stdout.starts_with("11 files restored"), "{back:?}");
    let mut diff = Command::new("diff");
    diff.arg("-r").args([world.mirror(), dest]);
    assert_eq!(said(diff).code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_keeps_its_name_and_a_pseudonym_is_kept_for_good() {
    let (mut world, _) = encrypted().await;
    world.write("d/old", "stored under its name");
    world.write("d/changes", "first");
    sync(&world);
    let named = |name: &str| ("Docs/d".to_owned(), name.to_owned());
    assert_eq!((place(&world, "d/old"), place(&world, "d/changes")), (named("old"), named("changes")));
    let (first, first_hash) = (moment(&world).await, hash_of(&world, "d/changes"));

    hide_names(&mut world);
    let sent = world.sent();
    sync(&world);
    assert_eq!(world.sent(), sent, "sent again, and nobody asked");
    assert_eq!(place(&world, "d/old"), named("old"), "dStor has it under that name");
    world.write("d/changes", "second");
    world.write("d/new", "new");
    sync(&world);
    assert_eq!((world.sent(), place(&world, "d/old")), (sent + 2, named("old")));
    let (changed, new) = (place(&world, "d/changes"), place(&world, "d/new"));
    assert!(is_pseudonym(&changed.1) && is_pseudonym(&new.1) && changed.0 == new.0, "{changed:?} {new:?}");
    assert!(stored(&world).contains(&changed) && stored(&world).contains(&new));

    let (second, second_hash) = (moment(&world).await, hash_of(&world, "d/changes"));

    // Another start, other recipients: the same pseudonyms, or each file would have many on dStor.
    let (_, other) = key(&world, "other");
    encrypt_to(&mut world, &[&other]);
    hide_names(&mut world);
    world.write("d/changes", "third");
    sync(&world);
    assert_eq!(place(&world, "d/changes"), changed);

    // Turned off again: what went under a pseudonym keeps it.
    encrypt_to(&mut world, &[&other]);
    world.write("d/changes", "fourth");
    sync(&world);
    assert_eq!((place(&world, "d/changes"), place(&world, "d/new")), (named("changes"), new));
    assert_eq!(world.status()["encrypt"]["names"], false);
    // A list tells real names: it is not stored in the open.
    world.set_config(world.config().split("\n[encrypt]").next().expect("something before it").to_owned());
    sync(&world);
    let refused = world.run(&["manifest", "publish"]);
    assert!(refused.code == 1 && refused.stderr.contains("would tell them"), "{refused:?}");
    assert_eq!(then(&world, &first, "/d/changes"), (first_hash, "changes".into()));
    assert_eq!(then(&world, &second, "/d/changes"), (second_hash, changed.1));
}
