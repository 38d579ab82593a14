//! A file that a person named: there whole, or not at all.

use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use crate::restore::{Over, Part};

/// A file on its way to its name. Dropped before, it leaves nothing.
pub struct Outfile {
    part: Part,
    name: Vec<u8>,
    over: Over,
}

impl Outfile {
    /// Blocking: begins the file `path`. It is for its owner alone: whoever has a hash can read the file.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if it is there and may not be replaced; else as the file system says.
    pub fn begin(path: &Path, over: Over) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?.as_bytes().to_vec();
        match (path.symlink_metadata(), over) {
            (Ok(meta), _) if meta.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            (Ok(_), Over::Nothing) => return Err(io::ErrorKind::AlreadyExists.into()),
            _ => {}
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::openat(CWD, dir, flags, Mode::empty())?;
        Ok(Self { part: Part::make(dir.into())?, name, over })
    }

    /// What is to be written to.
    ///
    /// # Errors
    /// As the system says.
    pub fn file(&self) -> io::Result<File> {
        self.part.file()
    }

    /// Blocking: gives it its name, once the disk holds it.
    ///
    /// # Errors
    /// As for [`begin`](Self::begin).
    pub fn finish(self) -> io::Result<()> {
        self.part.finish(&self.name, self.over)
    }
}
