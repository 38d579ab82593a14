//! Walking a mirror and comparing it with what is known: the way to find what no event told.
//!
//! A directory is watched first and read second, so that nothing falls between. The known side is brought a directory at
//! a time, in the order of names: neither side is ever in memory as a whole.

use std::io;
use std::iter::Peekable;
use std::sync::Arc;

use super::rules::Chain;
use super::{Name, RuleBook, Tree};
use crate::mirror::{
    DSTORIGNORE, Decision, Kind, MirrorPath, Observed, Policy, Recorded, Rules, Skip, State, are_twins, decide,
    is_emptied, leaves_its_name, may_have_twins,
};

/// A path at which disk and record disagree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    /// The path.
    pub path: MirrorPath,
    /// What is there.
    pub observed: Observed,
    /// Whether it is a file that held something when it was stored, and is empty now.
    pub is_emptied: bool,
}

impl Difference {
    fn at(path: MirrorPath, observed: Observed) -> Self {
        Self { path, observed, is_emptied: false }
    }
}

/// What is known of a mirror, a directory at a time. Whoever keeps records brings it.
pub trait Known {
    /// What can go wrong with the records.
    type Error;

    /// The files known in `dir`, ordered by name, and the names of the directories known in it, ordered.
    ///
    /// # Errors
    /// The records' own.
    #[expect(clippy::type_complexity, reason = "two lists, each named above")]
    fn listing(&mut self, dir: &MirrorPath) -> Result<(Vec<(Box<[u8]>, Recorded)>, Vec<Box<[u8]>>), Self::Error>;

    /// Whether anything that is not gone is known at or below `dir`.
    ///
    /// # Errors
    /// The records' own.
    fn has_present_below(&mut self, dir: &MirrorPath) -> Result<bool, Self::Error>;

    /// Whether any stored or failed file is known at or below `dir`.
    ///
    /// # Errors
    /// The records' own.
    fn has_taken_below(&mut self, dir: &MirrorPath) -> Result<bool, Self::Error>;

    /// Takes a difference.
    ///
    /// # Errors
    /// The records' own, or that it is time to stop.
    fn differs(&mut self, difference: Difference) -> Result<(), Self::Error>;
}

/// What a scan saw.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ScanSummary {
    /// Directories read.
    pub directories: u64,
    /// Regular files seen that no rule excludes.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that a rule excludes. What lies below an excluded directory is not counted.
    pub excluded: u64,
    /// Directories that could not be read.
    pub unreadable: u64,
    /// Differences handed over.
    pub differences: u64,
}

impl std::ops::AddAssign for ScanSummary {
    fn add_assign(&mut self, other: Self) {
        let Self { directories, files, bytes, excluded, unreadable, differences } = other;
        self.directories += directories;
        self.files += files;
        self.bytes += bytes;
        self.excluded += excluded;
        self.unreadable += unreadable;
        self.differences += differences;
    }
}

/// Why a scan ended early.
#[derive(Debug, thiserror::Error)]
pub enum ScanError<E> {
    /// The directory to begin with cannot be read.
    #[error("cannot read the directory")]
    Io(#[source] io::Error),
    /// The records failed.
    #[error("the records failed")]
    Known(#[source] E),
}

/// A walk over a mirror, or a part of it.
pub struct Scan<'a> {
    /// The mirror's directory.
    pub root: &'a dyn Tree,
    /// Its rules.
    pub rules: &'a RuleBook,
    /// What it takes.
    pub policy: &'a Policy,
    /// Called with each directory before it is read.
    pub before_reading: &'a dyn Fn(&MirrorPath),
}

/// A directory to be read, and the rules of those above it.
pub(super) struct Step {
    pub(super) dir: MirrorPath,
    chain: Chain,
}

impl Scan<'_> {
    /// Blocking: walks `top` and everything below, and hands over what differs.
    ///
    /// A directory that cannot be read is itself a difference, so that someone looks at it again; nothing in it counts as
    /// missing.
    ///
    /// # Errors
    /// [`ScanError::Io`] only if `top` itself cannot be read.
    pub fn run<K: Known>(&self, top: &MirrorPath, known: &mut K) -> Result<ScanSummary, ScanError<K::Error>> {
        let mut summary = ScanSummary::default();
        let mut steps = vec![self.first(top)?];
        while let Some(step) = steps.pop() {
            self.visit(step, top, known, &mut summary, &mut steps)?;
        }
        Ok(summary)
    }

    /// Where a walk of `top` begins.
    pub(super) fn first<E>(&self, top: &MirrorPath) -> Result<Step, ScanError<E>> {
        let chain = match top.split() {
            Some((parent, _)) => self.rules.chain_for(self.root, &parent),
            None => Ok(self.rules.base()),
        };
        Ok(Step { dir: top.clone(), chain: chain.map_err(ScanError::Io)? })
    }

    /// Blocking: reads one directory of the walk of `top`, hands over what differs in it, and adds the directories in it to
    /// `steps`.
    pub(super) fn visit<K: Known>(
        &self,
        Step { dir, chain }: Step,
        top: &MirrorPath,
        known: &mut K,
        summary: &mut ScanSummary,
        steps: &mut Vec<Step>,
    ) -> Result<(), ScanError<K::Error>> {
        (self.before_reading)(&dir);
        let (chain, names) = match self.names(&dir, chain) {
            Ok(read) => read,
            Err(error) if dir == *top => return Err(ScanError::Io(error)),
            // Gone since its parent was read: its parent's event or the next scan tells.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(_) => {
                summary.unreadable += 1;
                return self.hand_over(known, summary, Difference::at(dir, Observed::Directory));
            }
        };
        summary.directories += 1;
        self.compare(&dir, &chain, names, known, summary, steps)
    }

    /// The entries of a directory by name, and the chain of rules that holds for them.
    fn names(&self, dir: &MirrorPath, chain: Chain) -> io::Result<(Chain, Vec<Name>)> {
        let mut names = self.root.list(dir)?;
        names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        let chain = match names.binary_search_by(|name| (*name.bytes).cmp(DSTORIGNORE.as_bytes())) {
            Ok(at) => self.rules.chain_with(self.root, dir, names[at].look.observed, chain)?,
            Err(_) => chain,
        };
        Ok((chain, names))
    }

    fn compare<K: Known>(
        &self,
        dir: &MirrorPath,
        chain: &Chain,
        names: Vec<Name>,
        known: &mut K,
        summary: &mut ScanSummary,
        steps: &mut Vec<Step>,
    ) -> Result<(), ScanError<K::Error>> {
        let (files, directories) = known.listing(dir).map_err(ScanError::Known)?;
        let leaving = self.leaving(dir, chain, &names, &files);
        let mut files = files.into_iter().peekable();
        let mut directories = directories.into_iter().peekable();
        for Name { bytes, look } in names {
            let observed = look.observed;
            self.missing_before(Some(&bytes), dir, &mut files, &mut directories, known, summary)?;
            let recorded = files.next_if(|(name, _)| *name == bytes).map(|(_, recorded)| recorded);
            let is_known_directory = directories.next_if(|name| *name == bytes).is_some();
            let Some(path) = dir.join(&bytes) else { continue };
            if !self.rules.judge_with(&path, observed.is_directory(), chain).is_yes() {
                summary.excluded += 1;
                let file_taken = recorded.is_some_and(|row| is_taken(&row));
                if file_taken || (is_known_directory && known.has_taken_below(&path).map_err(ScanError::Known)?) {
                    self.hand_over(known, summary, Difference::at(path, observed))?;
                }
                continue;
            }
            match observed {
                Observed::Directory => {
                    // A file's row at a directory's path: the file is gone.
                    if recorded.is_some_and(|row| row.state != State::Gone) {
                        self.hand_over(known, summary, Difference::at(path.clone(), observed))?;
                    }
                    steps.push(Step { dir: path, chain: Arc::clone(chain) });
                }
                Observed::File(stat) => {
                    summary.files += 1;
                    summary.bytes += stat.size;
                    let admitted = match self.policy.admit(stat.size, &path) {
                        Ok(()) if leaving.contains(&bytes) => Err(Skip::NameTaken),
                        Ok(()) => self.policy.guard.admit(&path, &stat, recorded.as_ref()),
                        refused => refused,
                    };
                    let hides = is_known_directory && known.has_present_below(&path).map_err(ScanError::Known)?;
                    if hides || decide(&observed, recorded.as_ref(), admitted) != Decision::Nothing {
                        let is_emptied = is_emptied(&observed, recorded.as_ref());
                        self.hand_over(known, summary, Difference { path, observed, is_emptied })?;
                    }
                }
                Observed::Other(kind, _) => {
                    // As with a file that took a directory's place; but what a mount hides is not gone.
                    let hides = is_known_directory
                        && kind != Kind::Mount
                        && known.has_present_below(&path).map_err(ScanError::Known)?;
                    if hides || decide(&observed, recorded.as_ref(), Ok(())) != Decision::Nothing {
                        self.hand_over(known, summary, Difference::at(path, observed))?;
                    }
                }
                // What was listed was there.
                Observed::Missing => {}
            }
        }
        self.missing_before(None, dir, &mut files, &mut directories, known, summary)
    }

    /// The names that have to be left to others in the directory, because both become one on their way (B19).
    fn leaving(
        &self,
        dir: &MirrorPath,
        chain: &[Arc<Rules>],
        names: &[Name],
        files: &[(Box<[u8]>, Recorded)],
    ) -> Vec<Box<[u8]>> {
        if !self.policy.names.are_plain() {
            return Vec::new();
        }
        let takes = |path: &MirrorPath, size| {
            self.policy.admit(size, path).is_ok() && self.rules.judge_with(path, false, chain).is_yes()
        };
        let candidates: Vec<(&[u8], bool)> = names
            .iter()
            .filter(|name| match name.look.observed {
                Observed::File(stat) if may_have_twins(&name.bytes) => {
                    dir.join(&name.bytes).is_some_and(|path| takes(&path, stat.size))
                }
                _ => false,
            })
            .map(|name| {
                let row = files.iter().find(|(known, _)| *known == name.bytes);
                (&*name.bytes, row.is_some_and(|(_, row)| row.state == State::Stored))
            })
            .collect();
        let leaves = |(name, is_stored): &&(&[u8], bool)| {
            leaves_its_name(name, *is_stored, candidates.iter().copied().filter(|(other, _)| are_twins(name, other)))
        };
        candidates.iter().filter(leaves).map(|(name, _)| (*name).into()).collect()
    }

    /// Hands over what is known before the name `until` in the order of names, and is not on disk.
    fn missing_before<K: Known>(
        &self,
        until: Option<&[u8]>,
        dir: &MirrorPath,
        files: &mut Peekable<impl Iterator<Item = (Box<[u8]>, Recorded)>>,
        directories: &mut Peekable<impl Iterator<Item = Box<[u8]>>>,
        known: &mut K,
        summary: &mut ScanSummary,
    ) -> Result<(), ScanError<K::Error>> {
        let is_before = |name: &[u8]| until.is_none_or(|until| name < until);
        while let Some((name, recorded)) = files.next_if(|(name, _)| is_before(name)) {
            if decide(&Observed::Missing, Some(&recorded), Ok(())) != Decision::Nothing
                && let Some(path) = dir.join(&name)
            {
                self.hand_over(known, summary, Difference::at(path, Observed::Missing))?;
            }
        }
        while let Some(name) = directories.next_if(|name| is_before(name)) {
            if let Some(path) = dir.join(&name)
                && known.has_present_below(&path).map_err(ScanError::Known)?
            {
                self.hand_over(known, summary, Difference::at(path, Observed::Missing))?;
            }
        }
        Ok(())
    }

    fn hand_over<K: Known>(
        &self,
        known: &mut K,
        summary: &mut ScanSummary,
        difference: Difference,
    ) -> Result<(), ScanError<K::Error>> {
        summary.differences += 1;
        known.differs(difference).map_err(ScanError::Known)
    }
}

fn is_taken(row: &Recorded) -> bool {
    matches!(row.state, State::Stored | State::Failed)
}
