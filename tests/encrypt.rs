//! Encryption: what leaves the machine is closed to all but who has the key, and comes back with it.

mod list;
mod names;
mod returns;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use dstor_sync::sandbox::Phase;

use crate::security::tap::Tap;
use crate::world::{World, sync};

/// What no one but us may ever see.
const SECRET: &[u8] = b"the-treasure-lies-below-the-third-oak";

/// Makes a key, and returns its file and the public one.
fn key(world: &World, name: &str) -> (PathBuf, String) {
    let file = world.base().join(name);
    let said = world.run(&["key".as_ref(), "generate".as_ref(), file.as_os_str()]);
    assert_eq!(said.code, 0, "{said:?}");
    (file, said.stdout.trim().to_owned())
}

/// Has what is sent from now on encrypted to these.
fn encrypt_to(world: &mut World, recipients: &[&str]) {
    let config: String =
        world.config().split("\n[encrypt]").next().map(str::to_owned).expect("there is something before it");
    world.set_config(format!("{config}\n[encrypt]\nrecipients = {recipients:?}\n"));
}

/// A world in which everything is encrypted, and the file with its key.
async fn encrypted() -> (World, PathBuf) {
    let mut world = World::new().await;
    let (identity, recipient) = key(&world, "identity");
    encrypt_to(&mut world, &[&recipient]);
    (world, identity)
}

/// Every file below a directory.
fn files(top: &Path) -> Vec<PathBuf> {
    let (mut dirs, mut files) = (vec![top.to_owned()], Vec::new());
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).expect("read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() { dirs.push(path) } else { files.push(path) }
        }
    }
    files
}

fn holds(path: &Path, bytes: &[u8]) -> bool {
    fs::read(path).expect("read").windows(bytes.len()).any(|window| window == bytes)
}

/// Where the sandbox keeps the bytes under a hash.
pub(crate) fn object(world: &World, hash: &str) -> PathBuf {
    let all = files(&world.base().join("dstor/objects"));
    all.into_iter().find(|path| path.to_string_lossy().contains(hash)).expect("it is there")
}

fn hash_of(world: &World, path: &str) -> String {
    world.ls()[path]["hash"].as_str().expect("a hash").to_owned()
}

// G13
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_leaves_the_machine_can_be_read_by_others_and_all_of_it_is_proved_without_the_key() {
    let (mut world, identity) = encrypted().await;
    let tap = Tap::on(&world.sandbox().url()).await;
    world.point_to(&tap.url());
    // Together in a session, alone, and larger than a buffer; the secret lies across what is encrypted together.
    for at in 0..6 {
        world.write(&format!("small/f{at}"), [SECRET, &[b'0' + at]].concat());
    }
    world.write("lone", SECRET);
    world.write("empty", "");
    world.write(
        "large",
        [SECRET, &vec![b'x'; 65_536 - SECRET.len() - 9], SECRET, &vec![b'y'; 900_000], SECRET].concat(),
    );
    // The token is refused in the midst: the body is made anew.
    world.misbehave("upload 401 x1");
    fs::rename(&identity, world.base().join("elsewhere")).expect("moved away");
    sync(&world);
    assert_eq!(world.sandbox().requests(Phase::Token), 2, "no token was refused");
    assert!(world.sandbox().requests(Phase::Chunk) > 0 && world.sandbox().requests(Phase::Upload) > 0);
    assert_eq!(world.run(&["manifest", "publish"]).code, 0);

    assert!(tap.bytes() > 900_000, "the way led elsewhere");
    assert!(!tap.heard(SECRET), "it was sent");
    assert!(files(&world.base().join("dstor")).iter().all(|path| !holds(path, SECRET)), "it is stored");
    assert!(tap.heard(b"\"lone\""), "names are not hidden, and nobody says so");
    let ls = world.ls();
    for (path, bytes) in world.local() {
        let line = &ls[std::str::from_utf8(&path).expect("text")];
        assert_eq!(
            (&line["encrypted"], &line["proof"], &line["size"]),
            (&true.into(), &"cid".into(), &bytes.len().into())
        );
        assert_eq!(line["blake3"], blake3::hash(&bytes).to_hex().as_str(), "that of the file itself");
    }
    let status = world.status();
    assert_eq!(
        (&status["mirrors"][0]["files"]["encrypted"], &status["mirrors"][0]["files"]["stored"]),
        (&9.into(), &9.into())
    );
    assert!(world.run(&["status"]).stdout.contains("all of them encrypted"), "{:?}", world.run(&["status"]));
    let why = world.run(&["why".as_ref(), world.path("lone").as_os_str()]);
    assert!(why.stdout.contains("form     encrypted, "), "{why:?}");
    let read = world.run(&["verify", "--read"]);
    assert_eq!(read.code, 0, "{read:?}");

    // What did not change is not sent again, though it would be other bytes each time.
    let sent = world.sent();
    fs::File::options()
        .append(true)
        .open(world.path("lone"))
        .and_then(|f| f.set_modified(std::time::SystemTime::now()))
        .expect("touched");
    sync(&world);
    assert_eq!(world.sent(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_stays_as_it_is_until_it_changes_and_that_is_told() {
    let mut world = World::new().await;
    world.write("old", "stored in the open");
    world.write("changes", "first");
    sync(&world);
    assert_eq!(world.ls()["old"]["encrypted"], false);
    let (_, one) = key(&world, "one");
    encrypt_to(&mut world, &[&one]);
    let sent = world.sent();
    sync(&world);
    assert_eq!(world.sent(), sent, "sent again, and nobody asked");
    let told = world.run(&["status"]).stdout;
    assert!(told.contains("2 of them not encrypted: stored before encryption was turned on"), "{told}");
    world.write("changes", "second");
    sync(&world);
    assert_eq!((&world.ls()["old"]["encrypted"], &world.ls()["changes"]["encrypted"]), (&false.into(), &true.into()));
    assert!(world.run(&["status"]).stdout.contains("1 of them not encrypted"));

    // Other recipients hold for what comes; nothing is sent for it.
    let (_, two) = key(&world, "two");
    encrypt_to(&mut world, &[&one, &two]);
    let sent = world.sent();
    sync(&world);
    assert_eq!(world.sent(), sent, "sent again, and nobody asked");
    assert_eq!(world.status()["encrypt"]["recipients"], serde_json::json!([one, two]));

    // Where someone asks for it, it is sent: what is in the open, and what only the first of them could read.
    let (old, changed) = (hash_of(&world, "old"), hash_of(&world, "changes"));
    let said = world.run(&["retry", "--unencrypted"]);
    assert!(said.code == 3 && said.stdout.contains(": 1 file will be sent again, encrypted"), "{said:?}");
    sync(&world);
    assert_eq!(world.ls()["old"]["encrypted"], true);
    assert!(hash_of(&world, "old") != old && hash_of(&world, "changes") == changed);
    assert!(world.run(&["retry", "--unencrypted"]).stdout.contains(": nothing is stored unencrypted"));
    let said = world.run(&["retry".as_ref(), "--stored".as_ref(), world.path("changes").as_os_str()]);
    assert!(said.stdout.contains(": 1 file will be sent again\n"), "{said:?}");
    sync(&world);
    assert_ne!(hash_of(&world, "changes"), changed);

    // Turned off, that is told as well.
    encrypt_to(&mut world, &[]);
    world.write("new", "in the open");
    sync(&world);
    assert_eq!(world.ls()["new"]["encrypted"], false);
    let told = world.run(&["status"]).stdout;
    assert!(told.contains("2 of them encrypted; new files are not"), "{told}");
    let said = world.run(&["retry", "--unencrypted"]);
    assert!(said.code == 1 && said.stderr.contains("no file is encrypted now"), "{said:?}");
    let said = world.run(&["retry", "--stored"]);
    assert!(said.stdout.contains(": 1 file will be sent again\n"), "{said:?}");
    sync(&world);
    assert_eq!(world.ls()["old"]["encrypted"], true, "what was encrypted went in the open");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_dstor_lost_or_changed_is_found_without_the_key_and_sent_again_encrypted() {
    let (world, _) = encrypted().await;
    for name in ["lost", "changed", "well"] {
        world.write(name, [SECRET, name.as_bytes()].concat());
    }
    sync(&world);
    fs::remove_file(object(&world, &hash_of(&world, "lost"))).expect("removed");
    let changed = object(&world, &hash_of(&world, "changed"));
    let mut bytes = fs::read(&changed).expect("read");
    *bytes.last_mut().expect("some") ^= 1;
    fs::write(&changed, bytes).expect("written");
    let said = world.run(&["verify", "--read", "--repair"]);
    assert_eq!(said.code, 1, "{said:?}");
    let files = world.status()["mirrors"][0]["files"].clone();
    assert_eq!(files["pending"], 2, "{files}");
    let sent = world.sent();
    sync(&world);
    assert_eq!(world.sent(), sent + 2);
    assert_eq!(world.run(&["verify", "--read"]).code, 0);
    assert!(world.ls().values().all(|line| line["encrypted"] == true && line["proof"] == "cid"));
    assert!(files_of(&world).iter().all(|path| !holds(path, SECRET)));
}

fn files_of(world: &World) -> Vec<PathBuf> {
    files(&world.base().join("dstor"))
}

// G1
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_kept_once_for_its_owner_alone_and_never_where_it_would_be_uploaded() {
    let world = World::new().await;
    let (file, recipient) = key(&world, "identity");
    assert!(recipient.starts_with("age1") && recipient.len() == 62, "{recipient}");
    assert_eq!(file.metadata().expect("there").permissions().mode() & 0o7777, 0o600);
    let text = fs::read_to_string(&file).expect("read");
    let secret = text.lines().find(|line| line.starts_with("AGE-SECRET-KEY-1")).expect("the key").to_owned();
    let run = |arguments: &[&str], file: &Path| {
        let mut all: Vec<&std::ffi::OsStr> = arguments.iter().map(std::ffi::OsStr::new).collect();
        all.push(file.as_os_str());
        let said = world.run(&all);
        assert!(!said.stdout.contains(&secret) && !said.stderr.contains(&secret), "{said:?}");
        said
    };
    let again = run(&["key", "generate"], &file);
    assert!(again.code == 1 && again.stderr.contains("a key is never replaced"), "{again:?}");
    assert_eq!(fs::read_to_string(&file).expect("read"), text);
    let inside = run(&["key", "generate"], &world.path("identity"));
    assert!(inside.code == 2 && inside.stderr.contains("which would upload it"), "{inside:?}");
    assert!(!world.path("identity").exists());

    assert_eq!(run(&["key", "show"], &file).stdout.trim(), recipient);
    let mut by_age = std::process::Command::new("age-keygen");
    by_age.arg("-y").arg(&file);
    assert_eq!(crate::world::said(by_age).stdout.trim(), recipient, "age reads it, too");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("opened");
    let open = run(&["key", "show"], &file);
    assert!(open.code == 1 && open.stderr.contains("others can read"), "{open:?}");
    fs::write(world.base().join("public"), &recipient).expect("written");
    crate::world::private(&world.base().join("public"));
    let public = run(&["key", "show"], &world.base().join("public"));
    assert!(public.code == 1 && public.stderr.contains("holds a public key, in line 1"), "{public:?}");
}
