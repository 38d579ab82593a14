//! Trees in which nothing changed.

use super::Setting;
use crate::rclone::Remote;
use crate::shared::measure::Cost;
use crate::shared::tree::Tree;
use crate::shared::world::World;
use crate::syncthing::Syncthing;
use crate::table::{Contest, Goal, Table, mib};
use crate::tools::{Lsyncd, Restic, copy, find, rsync};

/// Where the copy of a tree lies, beside it.
pub(super) const COPY: &str = "copy";

/// A tree of which the ledger knows everything, as after a first sync, and which has a copy for those who compare with one.
pub(super) fn known(files: usize) -> (Tree, World, (u64, u64)) {
    let tree = Tree::new();
    let world = World::new(&tree.path(), "");
    // It makes the ledger.
    world.pass();
    tree.make(files, 16);
    // Before the ledger knows it: a file that has another name more has changed for it.
    copy(&tree.path(), &tree.beside(COPY));
    world.know_everything();
    let wanted = (files as u64, files as u64 * 16);
    assert_eq!(world.proved(), wanted, "files and bytes that the ledger knows");
    (tree, world, wanted)
}

pub(crate) fn restart(setting: Setting, table: &mut Table) {
    let (tree, world, wanted) = known(setting.files(100_000));
    let work = format!("{} files unchanged, from the start to watching", wanted.0);
    let path = tree.path();
    let copied = tree.beside(COPY);
    let ours = || {
        let agent = world.start();
        let took = agent.wait_until_watching();
        let process = agent.process();
        let cost = Cost { took, cpu: process.cpu(), peak_kib: process.peak_kib() };
        assert_eq!((world.proved(), world.requests()), (wanted, 0), "what is stored, and requests with files");
        cost
    };
    let lsyncd = || {
        let lsyncd = Lsyncd::start(&path, &copied);
        let (took, process) = lsyncd.wait_until_watching();
        Cost { took, cpu: process.cpu(), peak_kib: process.peak_kib() }
    };
    // What they are to know before they start again.
    let (mut syncthing, mut restic) = (None, None);
    let syncthing = || {
        let syncthing = syncthing.get_or_insert_with(|| {
            let new = Syncthing::new(&path);
            new.restart(wanted.0);
            new
        });
        syncthing.restart(wanted.0).0
    };
    let restic = || {
        let restic = restic.get_or_insert_with(|| {
            let new = Restic::new();
            new.backup(&path, wanted);
            new
        });
        restic.backup(&path, wanted)
    };
    Contest::new(&work, ours)
        .beside("lsyncd (CPU and memory without its rsync)", &["lsyncd", "rsync"], Goal::Within(1.0), lsyncd)
        .beside("syncthing", &["syncthing", "curl"], Goal::Faster(4.0), syncthing)
        .beside("restic backup once more", &["restic"], Goal::None, restic)
        .run(setting.pairs, table);
}

pub(crate) fn rescan(setting: Setting, table: &mut Table) {
    let (tree, world, wanted) = known(setting.files(1_000_000));
    let work = format!("{} files unchanged, one pass", wanted.0);
    let path = tree.path();
    let copied = tree.beside(COPY);
    // It warms the cache for all alike.
    world.pass();
    let before = world.ledger_bytes();
    let mut remote = None;
    // Whatever is not as it was ends it with an error.
    let rclone = || Cost::of(remote.get_or_insert_with(|| Remote::sftp_of(&copied)).copy(&path, 16).arg("--immutable"));
    let runs = Contest::new(&work, || Cost::of(&mut world.program(&["--quiet", "sync"])))
        .beside("find -printf", &["find"], Goal::Within(1.5), || Cost::of(&mut find(&path)))
        .beside("rsync -a", &["rsync"], Goal::Within(1.0), || Cost::of(&mut rsync(&path, &copied)))
        .beside("rclone to its SFTP", &["rclone"], Goal::Faster(4.0), rclone)
        .run(setting.pairs, table);
    let (peak, requests, grown) = (runs[0].peak_kib(), world.all_requests(), world.ledger_bytes() - before);
    table.figure(
        &format!("{work}: memory, requests, growth of the ledger"),
        format!("{}, {requests} requests, {grown} bytes", mib(peak)),
        None,
        Some(("≤ 64 MiB, 0, 0", peak <= 64 * 1024 && requests == 0 && grown == 0)),
    );
    assert_eq!(world.proved(), wanted, "what is stored by the ledger");
}
