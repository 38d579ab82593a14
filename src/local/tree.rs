//! What the rules' rooms ask of a mirror's directory: enough to walk it, judge it and look at its paths.
//!
//! The real one is [`OpenRoot`](super::OpenRoot). Everything that decides goes through this trait, so that the same
//! decisions can be driven over a directory that exists only in memory, a million times and by a seed.

use std::io;

use super::{Identity, Look};
use crate::mirror::MirrorPath;

/// A name in a directory, and what is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name {
    /// One part of a path.
    pub bytes: Box<[u8]>,
    /// What it names.
    pub look: Look,
}

/// A mirror's directory, held fast: it stays the same one even if its path means another by now.
pub trait Tree {
    /// Who it is.
    fn identity(&self) -> Identity;

    /// Blocking: what is at `path`. A path that leads through a link, or through what is no directory, leads to nothing.
    ///
    /// # Errors
    /// As the file system says, save for what simply is not there.
    fn look(&self, path: &MirrorPath) -> io::Result<Look>;

    /// Blocking: whether it is certain, and cheaply found out, that nothing is at `path`. `false` says nothing.
    fn is_surely_missing(&self, path: &MirrorPath) -> bool {
        let _ = path;
        false
    }

    /// Blocking: the names in a directory, in any order.
    ///
    /// # Errors
    /// As the file system says; [`io::ErrorKind::NotFound`] also if another file system was mounted there since its
    /// parent was read.
    fn list(&self, dir: &MirrorPath) -> io::Result<Vec<Name>>;

    /// Blocking: the first `longest` bytes of a small file that steers us, such as a list of rules.
    ///
    /// # Errors
    /// As the file system says.
    fn steering(&self, file: &MirrorPath, longest: u64) -> io::Result<Vec<u8>>;
}
