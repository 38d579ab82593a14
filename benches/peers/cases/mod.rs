//! What is measured.

pub(crate) mod back;
pub(crate) mod first;
pub(crate) mod large;
pub(crate) mod many;
pub(crate) mod unchanged;
pub(crate) mod watching;

use crate::shared::tree::Tree;

/// How it is measured.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    /// Runs of each side.
    pub(crate) pairs: usize,
    pub(crate) is_small: bool,
}

impl Setting {
    /// So many files, or a hundredth of them.
    fn files(self, usual: usize) -> usize {
        if self.is_small { usual / 100 } else { usual }
    }
}

/// A tree of files of `size` bytes, and what whoever has all of it has: files and bytes.
fn tree(files: usize, size: usize) -> (Tree, (u64, u64)) {
    let tree = Tree::new();
    tree.make(files, size);
    (tree, (files as u64, (files * size) as u64))
}
