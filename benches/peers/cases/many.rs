//! First syncs of very many small files.

use std::time::Duration;

use super::{Setting, tree};
use crate::rclone::Remote;
use crate::shared::world::World;
use crate::syncthing::Syncthing;
use crate::table::{Contest, Goal, Table, mib};
use crate::tools::Restic;

pub(crate) fn many(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(100_000), 1024);
    let work = format!("{} files of 1 KiB, first sync", wanted.0);
    let path = tree.path();
    let runs = Contest::new(&work, || World::first(&path, "", Duration::ZERO, wanted))
        .beside("restic backup to a directory", &["restic"], Goal::Within(1.0), || Restic::new().backup(&path, wanted))
        .beside("syncthing to another", &["syncthing", "curl"], Goal::Faster(30.0), || {
            Syncthing::new(&path).first(wanted)
        })
        .beside("rclone to S3", &["rclone"], Goal::None, || Remote::s3(Duration::ZERO).first(&path, 16, wanted))
        .run(setting.pairs, table);
    let (ours, theirs) = (&runs[0], &runs[1..]);
    let peaks: Vec<String> = theirs.iter().map(|their| format!("{} {}", their.name, mib(their.peak_kib()))).collect();
    table.figure(
        &format!("{work}: peak memory"),
        mib(ours.peak_kib()),
        (!peaks.is_empty()).then(|| ("the others", peaks.join(", "))),
        Some(("≤ 64 MiB", ours.peak_kib() <= 64 * 1024)),
    );
}

/// Once: it is about memory.
pub(crate) fn million(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(1_000_000), 16);
    let cost = World::first(&tree.path(), "", Duration::ZERO, wanted);
    table.figure(
        &format!("{} files of 16 bytes, first sync: peak memory", wanted.0),
        format!("{}; {:.1} s, CPU {:.1} s", mib(cost.peak_kib), cost.took.as_secs_f64(), cost.cpu.as_secs_f64()),
        None,
        Some(("≤ 150 MiB", cost.peak_kib <= 150 * 1024)),
    );
}
