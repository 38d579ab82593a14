//! The way back: a tree that lies elsewhere is brought into an empty directory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Setting, tree};
use crate::shared::measure::Cost;
use crate::shared::world::World;
use crate::table::{Contest, Goal, Table, mib};
use crate::tools::{Restic, is_same};

pub(crate) fn restore(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(25_000), 4096);
    let work = format!("{} files of 4 KiB, restored", wanted.0);
    let path = tree.path();
    let world = World::new(&path, "");
    world.pass();
    let list = world.publish();
    // They stay until the end: for minutes after a file was removed, ext4 looks for another inode for each new one, which would
    // cost whoever comes next more than all else.
    let dests = tempfile::tempdir().expect("a directory");
    let dests = dests.path();
    let ours = || into_a_new_directory(dests, &path, |dest| (world.restore(&list, dest), dest.to_owned()));
    // What it is to bring back.
    let mut restic = None;
    let restic = || {
        let restic: &mut Restic = restic.get_or_insert_with(|| {
            let restic = Restic::new();
            restic.backup(&path, wanted);
            restic
        });
        let below = path.strip_prefix("/").expect("an absolute path");
        into_a_new_directory(dests, &path, |dest| (restic.restore(dest), dest.join(below)))
    };
    let runs = Contest::new(&work, ours).beside("restic restore from a directory", &["restic"], Goal::None, restic);
    let runs = runs.run(setting.pairs, table);
    let others = runs[1..].iter().map(|their| format!("{} {}", their.name, mib(their.peak_kib()))).collect::<Vec<_>>();
    let beside = (!others.is_empty()).then(|| ("the other", others.join(", ")));
    table.figure(&format!("{work}: peak memory"), mib(runs[0].peak_kib()), beside, None);
}

/// What the command of `work` costs that brings `tree` back below a directory that is not there yet; where `work` says, all of
/// it has to be there then, with its times.
fn into_a_new_directory(dests: &Path, tree: &Path, work: impl FnOnce(&Path) -> (Command, PathBuf)) -> Cost {
    let scratch = tempfile::tempdir_in(dests).expect("a directory").keep();
    let (mut command, brought) = work(&scratch.join("dest"));
    let cost = Cost::of(&mut command);
    assert!(is_same(tree, &brought), "what was brought back differs");
    cost
}
