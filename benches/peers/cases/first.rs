//! First syncs of ten thousand small files.

use std::time::Duration;

use super::{Setting, tree};
use crate::rclone::{Remote, Served};
use crate::shared::measure::median;
use crate::shared::tree::Tree;
use crate::shared::world::World;
use crate::table::{Contest, Goal, Measure, Table};

const FILES: usize = 10_000;
const BYTES: usize = 4096;
/// What stands before each answer where there is a network in between.
const DELAY: Duration = Duration::from_millis(50);
/// rclone's files at a time where nothing is in between: more make it no faster here.
const TRANSFERS: usize = 16;
/// What goes in a session at the most; see the program's `mirror::pack`.
const PACK: usize = dstor_sync::mirror::MOST_FILES;

pub(crate) fn latency(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(FILES), BYTES);
    let work = format!("{} files of 4 KiB, first sync, 50 ms before each answer", wanted.0);
    let path = tree.path();
    // As many at a time on either side.
    for (at_a_time, goal) in [(16, Goal::Faster(40.0)), (64, Goal::Faster(10.0))] {
        let settings = format!("[upload]\nworkers = {at_a_time}\n");
        Contest::new(&format!("{work}, {at_a_time} at a time"), || World::first(&path, &settings, DELAY, wanted))
            .beside("rclone to S3", &["rclone"], goal, || Remote::s3(DELAY).first(&path, at_a_time, wanted))
            .run(setting.pairs, table);
    }
    let usual: Vec<Duration> = (0..setting.pairs).map(|_| World::first(&path, "", DELAY, wanted).took).collect();
    let took = median(&usual);
    table.figure(&format!("{work}, 4 at a time as it comes"), format!("{:.2} s", took.as_secs_f64()), None, None);
}

pub(crate) fn first(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(FILES), BYTES);
    let work = format!("{} files of 4 KiB, first sync", wanted.0);
    let path = tree.path();
    let rclone = |remote: Remote| remote.first(&path, TRANSFERS, wanted);
    Contest::new(&work, || World::first(&path, "", Duration::ZERO, wanted))
        .beside("rclone to S3", &["rclone"], Goal::Faster(10.0), || rclone(Remote::s3(Duration::ZERO)))
        .beside("rclone to its SFTP", &["rclone"], Goal::Faster(20.0), || rclone(Remote::served(Served::Sftp)))
        .run(setting.pairs, table);
}

/// A tenth of the files: rclone takes more than 30 ms for each of them here, most of it waiting.
pub(crate) fn webdav(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(FILES / 10), BYTES);
    let work = format!("{} files of 4 KiB, first sync", wanted.0);
    let path = tree.path();
    Contest::new(&work, || World::first(&path, "", Duration::ZERO, wanted))
        .beside("rclone to its WebDAV", &["rclone"], Goal::None, || {
            Remote::served(Served::WebDav).first(&path, TRANSFERS, wanted)
        })
        .run(setting.pairs, table);
}

pub(crate) fn alone(setting: Setting, table: &mut Table) {
    let (tree, wanted) = tree(setting.files(FILES), BYTES);
    let work = format!("{} files of 4 KiB, first sync, one a request", wanted.0);
    let path = tree.path();
    let never = "[upload]\nsessions = \"never\"\n";
    let runs = Contest::new(&work, || World::first(&path, never, Duration::ZERO, wanted))
        .beside("rclone to S3", &["rclone"], Goal::Faster(5.0), || {
            Remote::s3(Duration::ZERO).first(&path, TRANSFERS, wanted)
        })
        .run(setting.pairs, table);
    if let [ours, theirs] = &runs[..] {
        table.beside(&work, ours, theirs, Measure::Cpu, Goal::Faster(5.0));
    }
}

pub(crate) fn requests(setting: Setting, table: &mut Table) {
    let files = setting.files(FILES);
    let (spread, wanted) = tree(files, BYTES);
    let flat = Tree::new();
    flat.make_flat(files, BYTES);
    for (how, tree, in_each) in [("100 a directory", &spread, 100), ("in one directory", &flat, files)] {
        let (_, world) = World::first_and(&tree.path(), "", Duration::ZERO, wanted);
        // No session holds files of two directories.
        let sessions = (files.div_ceil(in_each) * in_each.div_ceil(PACK)) as u64;
        // Opened, filled and asked about once; and one for the token.
        let (least, asked) = (3 * sessions + 1, world.all_requests());
        table.figure(
            &format!("{files} files of 4 KiB, {how}: requests"),
            format!("{asked}, {} of them with files; {least} is the least for {sessions} sessions", world.requests()),
            None,
            Some(("≤ 1.05× the least", asked as f64 <= least as f64 * 1.05)),
        );
    }
}
