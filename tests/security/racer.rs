//! The agent at work while what it reads is swapped for links that lead out of the mirror.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dstor_sync::sandbox::Phase;
use notify::{EventKind, RecursiveMode, Watcher as _};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::tap::Tap;
use crate::world::World;

const SECRET: &[u8] = b"secret-outside-4c1f0a";
const ENOUGH_SWAPS: u64 = 5_000;
const ENOUGH_UPLOADS: u64 = 100;

// B12, B13, G11: what lies outside is never opened, never sent and never stored.
#[tokio::test(flavor = "multi_thread")]
async fn the_agent_reads_and_sends_nothing_from_outside_however_paths_are_swapped() {
    let mut world = World::new().await;
    let tap = Tap::on(&world.sandbox().url()).await;
    world.point_to(&tap.url());
    // Paths that are swapped without end are never quiet: they are looked at all the same, again and again.
    world.set_config(world.config().replace("\"100ms\"", "\"0s\"").replace("\"2s\"", "\"100ms\""));
    let outside = world.base().join("outside");
    fs::create_dir(&outside).expect("made");
    for at in 0..4 {
        world.write(&format!("d/f{at}"), "inside");
        fs::write(outside.join(format!("f{at}")), [SECRET, at.to_string().as_bytes()].concat()).expect("written");
    }
    world.write("g", "inside");
    fs::write(outside.join("g"), SECRET).expect("written");
    fs::write(outside.join(".dstorignore"), "*").expect("written");
    std::os::unix::fs::symlink(&outside, world.path("d-link")).expect("linked");
    std::os::unix::fs::symlink(outside.join("g"), world.path("g-link")).expect("linked");

    // The system tells of every file outside that anyone opens.
    let opened = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&opened);
    let files: HashSet<_> = fs::read_dir(&outside).expect("read").flatten().map(|entry| entry.path()).collect();
    let mut spy = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let touched = event.is_ok_and(|event| {
            matches!(event.kind, EventKind::Access(_)) && event.paths.iter().any(|path| files.contains(path))
        });
        counting.fetch_add(u64::from(touched), Ordering::Relaxed);
    })
    .expect("a watcher");
    spy.watch(&outside, RecursiveMode::NonRecursive).expect("watched");

    let (stop, swaps) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let swappers: Vec<_> = ["d", "g"]
        .into_iter()
        .map(|name| {
            let (one, other) = (world.path(name), world.path(&format!("{name}-link")));
            let (stop, swaps) = (Arc::clone(&stop), Arc::clone(&swaps));
            std::thread::spawn(move || {
                let mut at = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).expect("swapped");
                    let done = swaps.fetch_add(1, Ordering::Relaxed);
                    if done % 64 == 0 {
                        at += 1;
                        // Something to send: written to the real file wherever it is just now, if that is in the mirror.
                        let real =
                            if one.symlink_metadata().is_ok_and(|found| found.is_symlink()) { &other } else { &one };
                        let target = if real.is_dir() { real.join(format!("f{}", at % 4)) } else { real.clone() };
                        fs::write(target, format!("inside {at}")).expect("written");
                        // Swaps without a pause would leave nothing to look at twice in the same place.
                        std::thread::sleep(std::time::Duration::from_millis(5));
                    }
                }
            })
        })
        .collect();

    let agent = world.start_with(&["run", "-q"]);
    world
        .until("there were many swaps and uploads", || {
            swaps.load(Ordering::Relaxed) >= ENOUGH_SWAPS
                && world.sandbox().requests(Phase::Upload) + world.sandbox().requests(Phase::Chunk) >= ENOUGH_UPLOADS
        })
        .await;
    stop.store(true, Ordering::Relaxed);
    for swapper in swappers {
        swapper.join().expect("it swaps");
    }
    assert_eq!(opened.load(Ordering::Relaxed), 0, "a file outside was opened");
    assert_eq!(agent.stop(), 0);
    assert!(tap.bytes() > 10_000, "the tap heard nothing");
    assert!(!tap.heard(SECRET), "a file outside was sent");
    let hashes: HashSet<String> =
        world.sandbox().versions().expect("versions").into_iter().map(|file| file.hash).collect();
    assert!(hashes.len() > 10, "{} versions", hashes.len());
    for hash in hashes {
        let content = world.sandbox().content(&hash).expect("its content");
        // Written in two steps: emptied, then filled.
        assert!(content.is_empty() || content.starts_with(b"inside"), "{}", String::from_utf8_lossy(&content));
    }
    // The spy does hear: reading one file is one event at least.
    fs::read(outside.join("g")).expect("read");
    world.until("the spy hears", || opened.load(Ordering::Relaxed) > 0).await;
}
