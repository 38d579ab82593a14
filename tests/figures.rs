//! Figures: how much the agent stands, and how many tries each zero stands on. Each test prints its line.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dstor_sync::ledger::{EntryState, Ledger, MirrorSettings, Push, Urgency};
use dstor_sync::local::{Look, OpenRoot, Reading, Tree as _};
use dstor_sync::mirror::{CidBuilder, Decision, MirrorPath, Observed, Placement, Policy, RemoteDir, State, decide};
use dstor_sync::sandbox::Phase;
use dstor_sync::seal::Identities;
use dstor_sync::upload::{Clock, Errand, Next, Patience};
use fastrand::Rng;
use rustix::process::Signal;
use secrecy::ExposeSecret as _;

use crate::truth::{Truth, entries};
use crate::world::{Mount, World, tell};

fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number"))
}

fn stored(world: &World) -> usize {
    let (entries, _) = entries(world).expect("the ledger");
    entries.iter().filter(|entry| entry.state == EntryState::Settled(State::Stored)).count()
}

// A1, F9: `BURST_FILES`
#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_overflows_the_systems_queue_is_stored_to_the_last_file() {
    let files = number("BURST_FILES", 20_000);
    let world = World::with("", "workers = 8\nsessions = \"never\"").await;
    for at in 0..20 {
        world.write(&format!("d{at}/before"), "before");
    }
    let agent = world.start();
    world.until("what was there is stored", || stored(&world) == 20).await;
    // While it is stopped, nobody takes the events away.
    agent.signal(Signal::STOP);
    for at in 0..files {
        world.write(&format!("d{}/f{at}", at % 20), at.to_string());
    }
    let begun = Instant::now();
    agent.signal(Signal::CONT);
    // Step by step: it may be slow as long as it goes on.
    for step in (0..=files).step_by(1_000).chain([files]) {
        world.until(&format!("{step} are stored"), || stored(&world) >= 20 + step).await;
    }
    let took = begun.elapsed();
    world.until_mirrored().await;
    assert!(agent.log().contains("events were lost"), "the system's queue was not too short\n{}", agent.log());
    let missing = Truth::default().missing(&world);
    assert!(missing.is_empty(), "{missing:?}");
    tell(&format!("burst: {files} files, the system's queue overflowed, missing 0, {:.1} s", took.as_secs_f64()));
    assert_eq!(agent.stop(), 0);
}

/// A file of some pieces, each of which says which version it is of.
fn version(number: u64, bytes: usize) -> Vec<u8> {
    number.to_le_bytes().repeat(bytes / 8)
}

// B1, B2, P1: `REWRITTEN_UPLOADS`
#[tokio::test(flavor = "multi_thread")]
async fn of_files_that_are_rewritten_while_they_upload_no_mixture_is_stored() {
    rewritten(number("REWRITTEN_UPLOADS", 2_000) as u64, None).await;
}

// B1, B2, P1: a tenth of `REWRITTEN_UPLOADS`. What is encrypted is read otherwise, and torn by the same.
#[tokio::test(flavor = "multi_thread")]
async fn of_files_that_are_encrypted_and_rewritten_while_they_upload_no_mixture_is_stored() {
    let key = Identities::generate("now");
    let identities = Identities::parse(key.file.expose_secret()).expect("a key");
    rewritten(number("REWRITTEN_UPLOADS", 2_000) as u64 / 10, Some((&identities, &key.recipient))).await;
}

async fn rewritten(uploads: u64, encrypted: Option<(&Identities, &str)>) {
    const FILES: usize = 12;
    // Two are larger than all buffers on the way: those are read as slowly as they are sent.
    let bytes = |file: usize| if file < 2 { 4_000_000 } else { 320_000 };
    let mut world = World::with("", "workers = 6").await;
    let patient = world.config().replace("settle = \"100ms\"", "settle = \"30ms\"");
    let encrypt = encrypted.map_or_else(String::new, |(_, to)| format!("\n[encrypt]\nrecipients = [\"{to}\"]\n"));
    world.set_config(patient.replace("max_delay = \"2s\"", "max_delay = \"5m\"") + &encrypt);
    for at in 0..FILES {
        world.write(&format!("f{at}"), version(at as u64, bytes(at)));
    }
    let over = Arc::new(AtomicBool::new(false));
    let (until, mirror) = (Arc::clone(&over), world.mirror());
    let writer = std::thread::spawn(move || {
        let mut rng = Rng::with_seed(11);
        let (mut rewrites, mut interrupted) = (FILES as u64, BTreeSet::new());
        while !until.load(Ordering::Relaxed) {
            rewrites += 1;
            let at = if rng.u32(..10) == 0 { rng.usize(..2) } else { rng.usize(2..FILES) };
            let file = File::options().write(true).open(mirror.join(format!("f{at}"))).expect("opened");
            let content = version(rewrites, bytes(at));
            let begun = Instant::now();
            // In place and in pieces: its size never tells, and there are times when it is half of each.
            for (at, piece) in content.chunks(content.len() / 4).enumerate() {
                file.write_all_at(piece, (at * piece.len()) as u64).expect("written");
                std::thread::sleep(Duration::from_micros(rng.u64(..400)));
            }
            if begun.elapsed() > Duration::from_millis(20) {
                interrupted.insert(rewrites);
            }
            std::thread::sleep(Duration::from_micros(rng.u64(..6_000)));
        }
        (rewrites, interrupted)
    });
    // Slow enough for rewrites to fall into most of them.
    world.misbehave("upload slow=10000000");
    let agent = world.start();
    for step in (0..=uploads).step_by(100) {
        world.until(&format!("{step} uploads began"), || world.sandbox().requests(Phase::Upload) >= step).await;
    }
    over.store(true, Ordering::Relaxed);
    let (rewrites, interrupted) = writer.join().expect("rewritten");
    let is_recorded = || {
        let ls = world.ls();
        let is = |path: &[u8], bytes: &[u8]| {
            ls[std::str::from_utf8(path).expect("text")]["blake3"] == blake3::hash(bytes).to_hex().as_str()
        };
        let all = world.local().iter().all(|(path, bytes)| is(path, bytes));
        all && world.count("pending") == 0 && world.count("uploading") == 0
    };
    match encrypted {
        None => world.until_mirrored().await,
        Some(_) => world.until("the ledger has every file as it is now", is_recorded).await,
    }
    assert_eq!(agent.stop(), 0);
    let content_of = |hash: &str| {
        let stored = world.sandbox().content(hash).expect("its content");
        match encrypted {
            None => stored,
            Some((identities, _)) => identities.open_whole(&stored, 1 << 30).expect("whole, and to this key"),
        }
    };
    let versions = world.sandbox().versions().expect("versions");
    let mut halves = 0;
    for stored in &versions {
        let content = content_of(&stored.hash);
        let file = stored.name.trim_start_matches('f').parse().expect("its number");
        assert_eq!(content.len(), bytes(file), "a part of a version was stored");
        if content[8..] != content[..bytes(file) - 8] {
            let word = |word: &[u8]| u64::from_le_bytes(word.try_into().expect("eight bytes"));
            let words: BTreeSet<u64> = content.chunks(8).map(word).collect();
            // Where the writer itself was held up in the midst, the file was as quiet as any.
            assert!(
                words.iter().any(|word| interrupted.contains(word)),
                "a mixture of the versions {words:?} was stored"
            );
            halves += 1;
        }
    }
    for (path, row) in world.ls() {
        let content = content_of(row["hash"].as_str().expect("a hash"));
        assert_eq!(row["blake3"], blake3::hash(&content).to_hex().as_str(), "{path}");
    }
    let mut truth = Truth::default();
    if encrypted.is_none() {
        let wrong = truth.falsehoods(&world);
        assert!(wrong.is_empty(), "{wrong:?}");
    }
    let (alone, together) = (world.sandbox().requests(Phase::Upload), world.sandbox().requests(Phase::Chunk));
    tell(&format!(
        "rewritten during upload{}: {alone} uploads of one file and {together} of many began, {rewrites} rewrites, \
         {} versions stored, mixtures 0 ({halves} where the writer itself was held up), false rows 0 of {}",
        if encrypted.is_some() { ", encrypted" } else { "" },
        versions.len(),
        truth.rows
    ));
}

// B4: `TICK_EDITS`. The file, its times, the ledger and the errand are real; what a worker does for it is done here.
#[test]
fn an_edit_of_the_same_size_within_the_tick_of_the_last_one_is_seen() {
    let edits = number("TICK_EDITS", 10_000);
    let dir = tempfile::tempdir().expect("a directory");
    let same = edit_quickly(dir.path(), edits);
    tell(&format!("edits within a tick: {edits}, of which {same} left size and times as they were, missed 0"));

    let mount = Mount { at: dir.path().join("coarse") };
    std::fs::create_dir(&mount.at).expect("made");
    // Only root may mount.
    if mount.whole_seconds(&dir.path().join("image")) {
        let same = edit_quickly(&mount.at, edits);
        tell(&format!(
            "the same where times are whole seconds: {edits}, of which {same} left them as they were, missed 0"
        ));
        assert!(same > edits / 2, "the times are not that coarse: nothing was tried");
    }
}

/// Edits files of a mirror in `dir` right after they were stored; returns how often nothing but the bytes told of it.
fn edit_quickly(dir: &Path, edits: usize) -> usize {
    let mirror = dir.join("mirror");
    std::fs::create_dir(&mirror).expect("made");
    let root = OpenRoot::open(&mirror, None).expect("open");
    let ledger = Ledger::open(&dir.join("ledger.db")).expect("a ledger");
    let placement = Placement::Path(RemoteDir::parse("Docs").expect("a directory"));
    let policy = Policy::new(placement);
    let (service, path) = ("sandbox".to_owned(), mirror.clone());
    let settings = MirrorSettings { service, path, policy: policy.clone(), exclude: Vec::new(), hidden: true };
    let patience =
        Patience { settle: Duration::ZERO, max_delay: Duration::ZERO, retry_max_delay: Duration::from_secs(1) };
    let id = ledger.activate_mirrors(&[settings]).expect("a mirror")[0];
    let look = |path: &MirrorPath| match root.look(path).expect("looked").observed {
        Observed::File(stat) => stat,
        other => panic!("{other:?}"),
    };
    let (mut same, mut rng) = (0, Rng::with_seed(4));
    for at in 0..edits {
        let name = format!("f{}", at % 50);
        let path = MirrorPath::from_bytes(name.as_bytes()).expect("a path");
        let file = File::options().write(true).create(true).truncate(false).open(mirror.join(&name)).expect("opened");
        file.write_all_at(format!("first {at:06}").as_bytes(), 0).expect("written");

        let clock = Clock;
        let now = clock.now();
        ledger.push(id, &[Push { path: path.clone(), size: 0, due_at: 0 }], Urgency::Event, now).expect("pushed");
        let claim = ledger.claim(now, 1).expect("claimed").pop().expect("one is due");
        let errand = Errand::new(&claim, &policy, &patience);
        let stat = look(&path);
        let read_from = clock.timestamp();
        let content = Reading::open(&root, &path, stat).expect("opened").hash().expect("read");
        let digest = content.digest;
        let looked = Look { observed: Observed::File(stat), mode: 0o644 };
        let to_send = match errand.looked(&looked, true, now) {
            Next::Compare(file, known) => match errand.compared(file, known, Ok(content.clone()), read_from) {
                Ok(Next::Send(file)) => file,
                other => panic!("{other:?}"),
            },
            Next::Send(file) => file,
            other => panic!("{other:?}"),
        };
        let mut cid = CidBuilder::new();
        cid.update(format!("first {at:06}").as_bytes());
        let ending = errand.sent(&to_send, Ok(cid.finish()), Some(Ok(content)), read_from, now).expect("stored");
        ending.record(&ledger, &claim, || true, now).expect("settled");

        if rng.bool() {
            std::thread::sleep(Duration::from_micros(rng.u64(..8_000)));
        }
        file.write_all_at(format!("other {at:06}").as_bytes(), 0).expect("written");
        let edited = look(&path);
        same += usize::from(edited == stat);
        let recorded = ledger.recorded(id, &path).expect("read");
        let decision = decide(&Observed::File(edited), recorded.as_ref(), Ok(()));
        assert_eq!(decision, Decision::Compare(digest), "edit {at} was missed, {edited:?}");
    }
    same
}

// F1, F16
#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_ends_with_its_grace_whatever_hangs() {
    const GRACE: Duration = Duration::from_secs(2);
    let mut line = format!("told to stop, with a grace of {} s:", GRACE.as_secs());
    for (name, rule, phase) in [
        ("nothing hangs", None, None),
        ("an upload hangs", Some("upload stall"), Some(Phase::Upload)),
        ("an answer hangs", Some("upload endless"), Some(Phase::Upload)),
        ("the token hangs", Some("token stall"), Some(Phase::Token)),
        ("a slow upload", Some("upload slow=50000"), Some(Phase::Upload)),
    ] {
        let world = World::with("", "shutdown_grace = \"2s\"").await;
        if let Some(rule) = rule {
            world.misbehave(rule);
        }
        for at in 0..8 {
            world.write(&format!("f{at}"), vec![b'x'; 2_000_000]);
        }
        let mut agent = world.start();
        match phase {
            Some(phase) => world.until("it waits for dStor", || world.sandbox().requests(phase) > 0).await,
            None => world.until_mirrored().await,
        }
        let asked = Instant::now();
        agent.signal(Signal::TERM);
        assert_eq!(agent.end().code(), Some(0), "{name}");
        let took = asked.elapsed();
        assert!(took < GRACE + Duration::from_secs(20), "{name}: {took:?}");
        line.push_str(&format!(" {name} {:.2} s,", took.as_secs_f64()));
    }
    tell(line.trim_end_matches(','));
}
