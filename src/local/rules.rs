//! The rules that hold for a path of one mirror: built in, from the config, and from the `.dstorignore` files on disk.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Tree;
use crate::mirror::{DSTORIGNORE, Included, MirrorPath, Observed, Rules, Stat};

/// Longest `.dstorignore` that is read, in bytes.
const LONGEST: u64 = 1024 * 1024;

/// The lists of rules that hold in a directory, the strongest last; shared by all directories that add none.
pub(super) type Chain = Arc<Vec<Arc<Rules>>>;

/// A mirror's rules. Remembers the `.dstorignore` files it has read until they change.
pub struct RuleBook {
    hidden: bool,
    base: Chain,
    read: Mutex<HashMap<MirrorPath, (Stat, Arc<Rules>)>>,
}

impl RuleBook {
    /// A book with the config's `exclude` list and `hidden` setting. Bad patterns were refused with the config.
    #[must_use]
    pub fn new(exclude: &[String], hidden: bool) -> Self {
        let (exclude, _) =
            Rules::parse("the mirror's `exclude`", MirrorPath::top(), exclude.iter().map(String::as_str));
        Self { hidden, base: Arc::new(vec![Rules::built_in(), Arc::new(exclude)]), read: Mutex::default() }
    }

    /// Blocking: whether `path` belongs to the mirror; every directory above it has to, too.
    ///
    /// # Errors
    /// As the file system says.
    pub fn judge(&self, root: &dyn Tree, path: &MirrorPath, is_directory: bool) -> std::io::Result<Included> {
        let mut chain = self.chain(root, &MirrorPath::top(), self.base())?;
        for step in path.lineage() {
            let is_last = step == *path;
            let included = self.judge_with(&step, is_directory || !is_last, &chain);
            if !included.is_yes() || is_last {
                return Ok(included);
            }
            chain = self.chain(root, &step, chain)?;
        }
        Ok(Included::Yes)
    }

    /// Blocking: whether what is at `path` belongs to the mirror, as far as can be told; if in doubt, it does.
    #[must_use]
    pub fn may_include(&self, root: &dyn Tree, path: &MirrorPath) -> bool {
        let is_directory = root.look(path).is_ok_and(|look| look.observed.is_directory());
        self.judge(root, path, is_directory).map_or(true, |included| included.is_yes())
    }

    /// Blocking: the rules that hold for the entries of `dir`: those of all directories above and its own.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn chain_for(&self, root: &dyn Tree, dir: &MirrorPath) -> std::io::Result<Chain> {
        let mut chain = self.chain(root, &MirrorPath::top(), self.base())?;
        for step in dir.lineage() {
            chain = self.chain(root, &step, chain)?;
        }
        Ok(chain)
    }

    /// What a chain says of `path` itself.
    pub(super) fn judge_with(&self, path: &MirrorPath, is_directory: bool, chain: &[Arc<Rules>]) -> Included {
        Included::judge(path, is_directory, self.hidden, chain.iter().map(AsRef::as_ref))
    }

    /// What holds before any `.dstorignore` is read.
    pub(super) fn base(&self) -> Chain {
        Arc::clone(&self.base)
    }

    /// Adds the rules of `dir` itself, if it has any.
    fn chain(&self, root: &dyn Tree, dir: &MirrorPath, chain: Chain) -> std::io::Result<Chain> {
        let Some(file) = dir.join(DSTORIGNORE.as_bytes()) else { return Ok(chain) };
        // Most directories have none, and this is asked for each file that is looked at.
        if root.is_surely_missing(&file) {
            return Ok(chain);
        }
        self.chain_with(root, dir, root.look(&file)?.observed, chain)
    }

    /// Adds the rules of `dir` itself, at whose `.dstorignore` `observed` was seen.
    ///
    /// # Errors
    /// As the file system says.
    pub(super) fn chain_with(
        &self,
        root: &dyn Tree,
        dir: &MirrorPath,
        observed: Observed,
        mut chain: Chain,
    ) -> std::io::Result<Chain> {
        let (Observed::File(stat), Some(file)) = (observed, dir.join(DSTORIGNORE.as_bytes())) else { return Ok(chain) };
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = match read.get(dir) {
            Some((known, rules)) if *known == stat => Arc::clone(rules),
            _ => {
                let rules = Arc::new(parse(root, dir, &file)?);
                read.insert(dir.clone(), (stat, Arc::clone(&rules)));
                rules
            }
        };
        Arc::make_mut(&mut chain).push(rules);
        Ok(chain)
    }
}

fn parse(root: &dyn Tree, dir: &MirrorPath, file: &MirrorPath) -> std::io::Result<Rules> {
    let bytes = root.steering(file, LONGEST)?;
    let text = String::from_utf8_lossy(&bytes);
    let (rules, bad) = Rules::parse(&file.to_string(), dir.clone(), text.lines());
    for (line, why) in bad {
        tracing::warn!(%file, line, %why, "a rule cannot be read; the others hold");
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::local::OpenRoot;
    use std::fs;

    #[test]
    fn a_changed_dstorignore_counts_at_once() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir_all(dir.path().join("a/b")).expect("made");
        let root = OpenRoot::open(dir.path(), None).expect("open");
        let book = RuleBook::new(&["*.log".into()], true);
        let judge = |text: &str| {
            let path = MirrorPath::from_bytes(text.as_bytes()).expect("a path");
            book.judge(&root, &path, false).expect("judged").is_yes()
        };
        assert!(judge("a/b/x") && !judge("a/b/x.log"));
        fs::write(dir.path().join("a/.dstorignore"), "/b/\n").expect("written");
        assert!(!judge("a/b/x"), "its directory is excluded");
        fs::write(dir.path().join("a/b/.dstorignore"), "!x\n").expect("written");
        assert!(!judge("a/b/x"), "nothing below an excluded directory comes back");
        fs::write(dir.path().join("a/.dstorignore"), "!*.log\n").expect("written");
        assert!(judge("a/b/x") && judge("a/b/x.log"));
    }
}
