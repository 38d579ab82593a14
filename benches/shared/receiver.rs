//! Where receivers keep what they get.

use std::path::Path;

/// The system's directory in memory.
const MEMORY: &str = "/dev/shm";

/// A directory in memory where the system has one, else below `TMPDIR`. Whatever is sent ends up in such a one, whoever
/// sends it: a disk, which makes some files a millisecond, would be most of what is measured.
pub(crate) fn directory() -> tempfile::TempDir {
    let made = match Path::new(MEMORY).is_dir() {
        true => tempfile::tempdir_in(MEMORY),
        false => tempfile::tempdir(),
    };
    made.expect("a directory")
}
