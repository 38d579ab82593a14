//! What happens to the files of a mirror in a storm, by one seed.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use dstor_sync::mirror::DSTORIGNORE;
use fastrand::Rng;

use crate::truth::LEFT_OUT;

const DIRECTORIES: [&str; 8] = ["", "a", "b", "a/c", "a/c/d", "b/e", "b/e/f0", "n"];
const FILES: usize = 14;
/// Contents that are remembered, to be saved once more.
const REMEMBERED: usize = 20;
/// More files than that, and the next deed removes some.
const MANY: usize = 200;

type Deed = fn(&mut Deeds) -> io::Result<()>;

/// Each with how often it is done, in comparison.
const DEEDS: [(u32, Deed); 17] = [
    (120, Deeds::save),
    (30, Deeds::rewrite_in_place),
    (15, Deeds::rewrite_and_put_the_time_back),
    (30, Deeds::append),
    (10, Deeds::truncate),
    (30, Deeds::replace_by_rename),
    (30, Deeds::rename_file),
    (5, Deeds::rename_directory),
    (15, Deeds::remove_file),
    (2, Deeds::remove_directory),
    (10, Deeds::make_deep_and_save_at_once),
    (4, Deeds::move_a_tree_in),
    (4, Deeds::file_and_directory_swap),
    (4, Deeds::link_takes_the_place),
    (10, Deeds::touch),
    (1, Deeds::remove_all),
    (6, Deeds::other_rules),
];

/// Whoever works in the mirror: what it does follows from its seed alone.
pub(super) struct Deeds {
    rng: Rng,
    mirror: PathBuf,
    outside: PathBuf,
    made: u64,
    remembered: Vec<Vec<u8>>,
}

impl Deeds {
    /// Works in `mirror`, and has `outside` for what comes from elsewhere.
    pub(super) fn new(seed: u64, mirror: PathBuf, outside: PathBuf) -> Self {
        fs::create_dir_all(&outside).expect("made");
        Self { rng: Rng::with_seed(seed), mirror, outside, made: 0, remembered: Vec::new() }
    }

    /// Does the next one. Many meet something in their way, as in life, and then do nothing or half.
    pub(super) fn next(&mut self) {
        if count(&self.mirror) > MANY {
            let _ = self.remove_directory();
        }
        let mut choice = self.rng.u32(..DEEDS.iter().map(|(weight, _)| weight).sum::<u32>());
        for (weight, deed) in DEEDS {
            if choice < weight {
                let _ = deed(self);
                return;
            }
            choice -= weight;
        }
    }

    /// The last one: no rule leaves anything out any more.
    pub(super) fn end(&self) {
        forget_rules(&self.mirror).expect("removed");
    }

    /// How long until the next one.
    pub(super) fn pause(&mut self) -> Duration {
        // Mostly a burst, at times quiet for long enough to be uploaded.
        match self.rng.u32(..40) {
            0 => Duration::from_millis(self.rng.u64(50..200)),
            1..=15 => Duration::from_millis(self.rng.u64(1..15)),
            _ => Duration::ZERO,
        }
    }

    fn save(&mut self) -> io::Result<()> {
        let (path, content) = (self.file(), self.content());
        let _ = fs::create_dir_all(path.parent().expect("below the mirror"));
        fs::write(path, content)
    }

    fn rewrite_in_place(&mut self) -> io::Result<()> {
        let path = self.some_file()?;
        let size = path.metadata()?.len();
        let content = self.bytes(usize::try_from(size).expect("small"));
        let mut file = File::options().write(true).open(path)?;
        // In two pieces: it is one version only when both are there.
        let (first, second) = content.split_at(content.len() / 2);
        file.write_all(first)?;
        if self.rng.u32(..8) == 0 {
            std::thread::sleep(Duration::from_millis(self.rng.u64(1..60)));
        }
        file.write_all(second)
    }

    fn rewrite_and_put_the_time_back(&mut self) -> io::Result<()> {
        let path = self.some_file()?;
        let meta = path.metadata()?;
        let content = self.bytes(usize::try_from(meta.len()).expect("small"));
        let mut file = File::options().write(true).open(path)?;
        file.write_all(&content)?;
        file.set_modified(meta.modified()?)
    }

    fn append(&mut self) -> io::Result<()> {
        let path = self.some_file()?;
        let size = self.rng.usize(1..3000);
        let more = self.bytes(size);
        File::options().append(true).open(path)?.write_all(&more)
    }

    fn truncate(&mut self) -> io::Result<()> {
        let path = self.some_file()?;
        let size = path.metadata()?.len();
        File::options().write(true).open(path)?.set_len(self.rng.u64(..=size))
    }

    fn replace_by_rename(&mut self) -> io::Result<()> {
        let (path, content) = (self.file(), self.content());
        // One name that rules leave out, and one that they do not.
        let temporary = path.with_file_name(if self.rng.bool() { LEFT_OUT } else { "doc.new" });
        fs::write(&temporary, content)?;
        fs::rename(temporary, path)
    }

    fn rename_file(&mut self) -> io::Result<()> {
        let (from, to) = (self.some_file()?, self.file());
        fs::rename(from, to)
    }

    fn rename_directory(&mut self) -> io::Result<()> {
        let (from, to) = (self.directory(), self.directory());
        if from == self.mirror || to == self.mirror {
            return Ok(());
        }
        fs::rename(from, to)
    }

    fn remove_file(&mut self) -> io::Result<()> {
        fs::remove_file(self.some_file()?)
    }

    fn remove_directory(&mut self) -> io::Result<()> {
        let all = self.mirror.read_dir()?.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let mut all: Vec<PathBuf> = all.collect();
        all.sort();
        match all.len() {
            0 => Ok(()),
            len => fs::remove_dir_all(&all[self.rng.usize(..len)]),
        }
    }

    fn remove_all(&mut self) -> io::Result<()> {
        for entry in self.mirror.read_dir()?.flatten() {
            let path = entry.path();
            let is_directory = entry.file_type()?.is_dir();
            if is_directory { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }

    fn make_deep_and_save_at_once(&mut self) -> io::Result<()> {
        self.made += 1;
        let dir = self.mirror.join(format!("n/{}/x/y", self.made));
        let content = self.content();
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("f"), content)
    }

    fn move_a_tree_in(&mut self) -> io::Result<()> {
        self.made += 1;
        let tree = self.outside.join(format!("tree{}", self.made));
        fs::create_dir_all(tree.join("sub"))?;
        for name in ["one", "two", "sub/three"] {
            let content = self.content();
            fs::write(tree.join(name), content)?;
        }
        let to = self.directory();
        fs::rename(&tree, if to == self.mirror { to.join(format!("tree{}", self.made)) } else { to })
    }

    fn file_and_directory_swap(&mut self) -> io::Result<()> {
        let path = self.file();
        let content = self.content();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {
                fs::remove_dir_all(&path)?;
                fs::write(path, content)
            }
            found => {
                if found.is_ok() {
                    fs::remove_file(&path)?;
                }
                fs::create_dir_all(&path)?;
                fs::write(path.join("f1"), content)
            }
        }
    }

    /// A link to a file, to a directory elsewhere or to the mirror itself, where a file or a directory was, and back.
    fn link_takes_the_place(&mut self) -> io::Result<()> {
        let path = if self.rng.bool() { self.file() } else { self.directory() };
        if path == self.mirror {
            return Ok(());
        }
        match path.symlink_metadata() {
            Ok(meta) if meta.is_symlink() => return fs::remove_file(path),
            Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path)?,
            Ok(_) => fs::remove_file(&path)?,
            Err(_) => {}
        }
        let elsewhere = self.outside.join("elsewhere");
        fs::create_dir_all(&elsewhere)?;
        fs::write(elsewhere.join("f1"), "not of the mirror")?;
        let target = match self.rng.u32(..3) {
            0 => elsewhere,
            1 => elsewhere.join("f1"),
            _ => self.mirror.clone(),
        };
        symlink(target, path)
    }

    /// Rules that leave something out, or none any more.
    fn other_rules(&mut self) -> io::Result<()> {
        let rules = self.directory().join(DSTORIGNORE);
        if rules.exists() || self.rng.u32(..3) == 0 {
            return fs::remove_file(rules);
        }
        let patterns = ["f1\nf2", "*", "c/\nn/", "/f*\n!f3", "**/f4"];
        fs::write(rules, patterns[self.rng.usize(..patterns.len())])
    }

    fn touch(&mut self) -> io::Result<()> {
        let path = self.some_file()?;
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(self.rng.u64(..2_000_000_000));
        File::options().append(true).open(path)?.set_modified(at)
    }

    fn directory(&mut self) -> PathBuf {
        let name = DIRECTORIES[self.rng.usize(..DIRECTORIES.len())];
        if name.is_empty() { self.mirror.clone() } else { self.mirror.join(name) }
    }

    /// A path for a file, whether there is one or not.
    fn file(&mut self) -> PathBuf {
        let name = format!("f{}", self.rng.usize(..FILES));
        self.directory().join(name)
    }

    /// A regular file that is there, if some tries find one. Nobody writes through a link: that would be elsewhere.
    fn some_file(&mut self) -> io::Result<PathBuf> {
        for _ in 0..8 {
            let path = self.file();
            let beneath = path.strip_prefix(&self.mirror).expect("below the mirror").to_owned();
            let mut at = self.mirror.clone();
            let is_plain = beneath.iter().all(|part| {
                at.push(part);
                at.symlink_metadata().is_ok_and(|meta| !meta.is_symlink())
            });
            if is_plain && path.is_file() {
                return Ok(path);
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    /// What is saved next: mostly new and small, at times the same as before.
    fn content(&mut self) -> Vec<u8> {
        if !self.remembered.is_empty() && self.rng.u32(..8) == 0 {
            return self.remembered[self.rng.usize(..self.remembered.len())].clone();
        }
        let size = match self.rng.u32(..100) {
            0..=4 => 0,
            5..=64 => self.rng.usize(1..2_000),
            65..=89 => self.rng.usize(2_000..50_000),
            90..=97 => self.rng.usize(50_000..300_000),
            _ => self.rng.usize(300_000..1_000_000),
        };
        let content = self.bytes(size);
        if self.remembered.len() < REMEMBERED {
            self.remembered.push(content.clone());
        }
        content
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.rng.fill(&mut bytes);
        bytes
    }
}

fn forget_rules(dir: &Path) -> io::Result<()> {
    for entry in dir.read_dir()? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            forget_rules(&entry.path())?;
        } else if entry.file_name() == DSTORIGNORE {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn count(dir: &Path) -> usize {
    let Ok(entries) = dir.read_dir() else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => count(&entry.path()),
            _ => 1,
        })
        .sum()
}
