//! What a directory would be as a mirror: counted, with nothing watched and nothing recorded.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};

use super::{Crew, Difference, Known, OpenRoot, Own, RuleBook, ScanError};
use crate::mirror::{MirrorPath, Observed, Policy, Recorded};

/// Threads that walk. Beyond that they wait for one disk.
const MOST_HANDS: usize = 4;

/// What a mirror of a directory would take, and what it would not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Survey {
    /// Directories, the top one among them: each takes one watch.
    pub directories: u64,
    /// Files that it would take.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that a rule leaves out; what lies below a directory among them is not counted.
    pub excluded: u64,
    /// Entries that are never sent: links, pipes, mounted file systems, what is too large, our own.
    pub skipped: u64,
    /// Files and directories that cannot be read; none of these is in `files`.
    pub unreadable: u64,
}

impl Survey {
    /// Blocking: walks the directory at `path`. `own` are files and directories of ours, absolute and without links.
    ///
    /// # Errors
    /// If the directory itself cannot be opened or read.
    pub fn of(path: &Path, own: &[PathBuf], rules: &RuleBook, policy: &Policy) -> io::Result<Self> {
        let root = OpenRoot::open(path, None).map_err(io::Error::other)?;
        let root = root.without(own.iter().map(|own| Own::now(own, path)).collect());
        let crew = Crew { root: &root, rules, policy, before_reading: &|_| {} };
        let hands = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MOST_HANDS));
        let mut tallies = vec![Self::default(); hands];
        let summary = crew.run(&MirrorPath::top(), &mut tallies, |tally| Counting { root: &root, policy, tally });
        let summary = summary.map_err(|error| match error {
            ScanError::Io(error) => error,
            ScanError::Known(never) => match never {},
        })?;
        let sum = |of: fn(&Self) -> u64| tallies.iter().map(of).sum::<u64>();
        Ok(Self {
            directories: summary.directories,
            files: sum(|tally| tally.files),
            bytes: sum(|tally| tally.bytes),
            excluded: summary.excluded,
            skipped: sum(|tally| tally.skipped),
            unreadable: summary.unreadable + sum(|tally| tally.unreadable),
        })
    }
}

/// Records in which nothing is known, so that everything there is differs, and is counted.
struct Counting<'a> {
    root: &'a OpenRoot,
    policy: &'a Policy,
    tally: &'a mut Survey,
}

impl Known for Counting<'_> {
    type Error = Infallible;

    fn listing(&mut self, _: &MirrorPath) -> Result<(Vec<(Box<[u8]>, Recorded)>, Vec<Box<[u8]>>), Infallible> {
        Ok(Default::default())
    }

    fn has_present_below(&mut self, _: &MirrorPath) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn has_taken_below(&mut self, _: &MirrorPath) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn differs(&mut self, Difference { path, observed, .. }: Difference) -> Result<(), Infallible> {
        match observed {
            Observed::File(stat) => {
                if self.policy.admit(stat.size, &path).is_err() {
                    self.tally.skipped += 1;
                } else if self.root.is_unreadable(&path) {
                    self.tally.unreadable += 1;
                } else {
                    self.tally.files += 1;
                    self.tally.bytes += stat.size;
                }
            }
            Observed::Other(..) => self.tally.skipped += 1,
            // One that cannot be read, which the walk counts itself.
            Observed::Directory | Observed::Missing => {}
        }
        Ok(())
    }
}

/// Blocking: how many directories this system lets one user watch, all programs together; `None` where it has no such
/// limit, or does not say.
#[must_use]
pub fn most_watches() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::mirror::{Placement, RemoteDir};

    #[test]
    fn everything_is_counted_once_and_as_what_would_become_of_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("it exists");
        fs::create_dir_all(top.join("d/e")).expect("made");
        fs::create_dir(top.join("state")).expect("made");
        for (name, bytes) in [("a", 1), ("d/b", 20), ("d/e/c", 300), ("large", 5000), ("d/x.tmp", 1), ("state/db", 1)] {
            fs::write(top.join(name), vec![b'x'; bytes]).expect("written");
        }
        fs::create_dir(top.join("out")).expect("made");
        fs::write(top.join("out/unseen"), "x").expect("written");
        fs::write(top.join(".dstorignore"), "out/\n").expect("written");
        symlink("a", top.join("link")).expect("linked");
        let rules = RuleBook::new(&["*.tmp".into()], true);
        let placement = Placement::Path(RemoteDir::parse("Docs").expect("a path"));
        let policy = Policy { max_file_size: 4096, ..Policy::new(placement) };
        let survey = Survey::of(&top, &[top.join("state")], &rules, &policy).expect("walked");
        // Taken: a, d/b, d/e/c, .dstorignore. Skipped: link, large, state.
        let expected =
            Survey { directories: 3, files: 4, bytes: 1 + 20 + 300 + 5, excluded: 2, skipped: 3, unreadable: 0 };
        assert_eq!(survey, expected);
        assert!(Survey::of(&top.join("none"), &[], &rules, &policy).is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_systems_limit_of_watches_is_a_number() {
        assert!(most_watches().is_some_and(|most| most > 0));
    }
}
