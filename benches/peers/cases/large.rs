//! One large file.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::Setting;
use crate::rclone::Remote;
use crate::shared::measure::Cost;
use crate::shared::tree::Tree;
use crate::shared::world::World;
use crate::table::{Contest, Goal, Measure, Table, mib};

const MIB: usize = 1024 * 1024;
/// More than the tick of any file system's clock: a file that is read in the tick in which it changed is read again later.
const TICK: Duration = Duration::from_millis(100);

/// A tree with one file in it, and how many MiB that has.
fn one_file(setting: Setting) -> (Tree, usize) {
    // What is smaller rclone sends in one part, and CPU time is told in hundredths of a second.
    let size = if setting.is_small { 256 } else { 1024 };
    let tree = Tree::new();
    let mut file = File::create(tree.path().join("large")).expect("made");
    let mut rng = fastrand::Rng::with_seed(7);
    let mut piece = vec![0; MIB];
    for _ in 0..size {
        rng.fill(&mut piece);
        file.write_all(&piece).expect("written");
    }
    (tree, size)
}

pub(crate) fn large(setting: Setting, table: &mut Table) {
    let (tree, size) = one_file(setting);
    let wanted = (1, (size * MIB) as u64);
    let work = format!("one file of {size} MiB, first sync");
    let path = tree.path();
    let runs = Contest::new(&work, || World::first(&path, "", Duration::ZERO, wanted))
        // 0.7 of its speed.
        .beside("curl -F", &["curl"], Goal::Within(1.43), || curl(&path, wanted))
        .beside("rclone to S3", &["rclone"], Goal::Faster(3.0), || Remote::s3(Duration::ZERO).first(&path, 4, wanted))
        .run(setting.pairs, table);
    let peak = runs[0].peak_kib();
    table.figure(&format!("{work}: peak memory"), mib(peak), None, Some(("≤ 32 MiB", peak <= 32 * 1024)));
}

fn curl(tree: &Path, wanted: (u64, u64)) -> Cost {
    let world = World::new(tree, "");
    let cost = Cost::of(&mut world.curl(&tree.join("large")));
    assert_eq!(world.on_dstor(), wanted, "files and bytes that curl sent");
    cost
}

pub(crate) fn hash(setting: Setting, table: &mut Table) {
    let (tree, size) = one_file(setting);
    let work = format!("one file of {size} MiB that was touched, read and hashed again");
    let path = tree.path();
    let (_, world) = World::first_and(&path, "", Duration::ZERO, (1, (size * MIB) as u64));
    let sent = world.requests();
    let file = path.join("large");
    let mut touched = SystemTime::UNIX_EPOCH;
    let ours = || {
        touched += Duration::from_secs(1);
        File::options().write(true).open(&file).and_then(|file| file.set_modified(touched)).expect("touched");
        std::thread::sleep(TICK);
        let cost = Cost::of(&mut world.program(&["--quiet", "sync"]));
        // Compared, found to be the same, and on record as it is now.
        assert_eq!(world.requests(), sent, "requests with files");
        assert_eq!(world.recorded_time(), Some(touched), "the time of the file by the ledger");
        cost
    };
    let theirs = || {
        let mut b3sum = Command::new("b3sum");
        Cost::of(b3sum.arg("--no-mmap").arg(&file))
    };
    let runs =
        Contest::new(&work, ours).beside("b3sum --no-mmap", &["b3sum"], Goal::None, theirs).run(setting.pairs, table);
    if let [ours, theirs] = &runs[..] {
        table.beside(&work, ours, theirs, Measure::Cpu, Goal::Within(1.2));
    }
}
