//! A directory with files in it, each unlike the others.

use std::path::{Path, PathBuf};

/// Files in each directory; directories in each directory of directories.
const FAN: usize = 100;

/// A tree below a directory of its own, which goes with it.
pub(crate) struct Tree {
    scratch: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Self {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(scratch.path().join("tree")).expect("made");
        Self { scratch }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.scratch.path().join("tree")
    }

    /// Makes `files` files of `size` bytes.
    pub(crate) fn make(&self, files: usize, size: usize) {
        make(&self.path(), "p", files, Some(size));
    }
}

/// Makes files of `size` bytes whose directories begin with `prefix`; without a size the directories alone.
pub(crate) fn make(tree: &Path, prefix: &str, files: usize, size: Option<usize>) {
    for first in (0..files).step_by(FAN) {
        let at = first / FAN;
        let dir = tree.join(format!("{prefix}{:03}/d{at:05}", at / FAN));
        std::fs::create_dir_all(&dir).expect("made");
        let Some(size) = size else { continue };
        for file in first..files.min(first + FAN) {
            let bytes = format!("{prefix}{file:015}").into_bytes().repeat(size.div_ceil(16));
            std::fs::write(dir.join(format!("file-{file:07}.txt")), &bytes[..size]).expect("written");
        }
    }
}
