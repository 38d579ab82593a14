//! Reads the journal, from its older lines to those that are written while it is read.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::{JOURNAL, Line, older};

/// A line that is longer than this is none of ours, in bytes: a path has at most 4 KiB, a reason less.
const LONGEST: u64 = 256 << 10;

/// Where someone is in the journal.
pub struct Reader {
    path: PathBuf,
    /// The file that is read now; `None` where there is none yet.
    file: Option<BufReader<File>>,
    /// Whether that one is still written to, as far as is known.
    is_newest: bool,
    /// A line that is not written to its end yet.
    begun: Vec<u8>,
}

impl Reader {
    /// At the beginning of what is kept in `state_dir`.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn open(state_dir: &Path) -> io::Result<Self> {
        let path = state_dir.join(JOURNAL);
        let old = open(&older(&path))?;
        let mut reader = Self { is_newest: old.is_none(), file: old, path, begun: Vec::new() };
        if reader.is_newest {
            reader.file = open(&reader.path)?;
        }
        Ok(reader)
    }

    /// Whether there is, or was, anything to read.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.file.is_some()
    }

    /// The next line; `None` once there is none yet. Half a line that a killed run left is passed over.
    ///
    /// # Errors
    /// As the system says.
    pub fn read_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.next_written()? {
                return Ok(Some(line));
            }
            if !self.goes_on()? {
                return Ok(None);
            }
        }
    }

    /// The next whole line of the file that is read now.
    pub(super) fn next_written(&mut self) -> io::Result<Option<Line>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        loop {
            let room = LONGEST.saturating_sub(self.begun.len() as u64);
            let read = file.by_ref().take(room).read_until(b'\n', &mut self.begun)?;
            if self.begun.last() == Some(&b'\n') || (read > 0 && self.begun.len() as u64 >= LONGEST) {
                let line = serde_json::from_slice(&self.begun);
                self.begun.clear();
                if let Ok(line) = line {
                    return Ok(Some(line));
                }
            } else if read == 0 {
                return Ok(None);
            }
        }
    }

    /// Whether there may be more to read, after the end of what was written was met.
    pub(super) fn goes_on(&mut self) -> io::Result<bool> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
            self.is_newest = true;
            return Ok(self.file.is_some());
        }
        if self.is_newest {
            // More may have been written to it before it was set aside: its end is looked for once more.
            self.is_newest = !self.is_set_aside()?;
            return Ok(!self.is_newest);
        }
        // Nobody writes to this one any more.
        self.begun.clear();
        self.file = None;
        Ok(true)
    }

    /// Whether the file that is read was set aside meanwhile, and another one is the newest.
    fn is_set_aside(&self) -> io::Result<bool> {
        let Some(file) = &self.file else { return Ok(false) };
        let who = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
        match self.path.metadata() {
            Ok(newest) => Ok(who(newest) != who(file.get_ref().metadata()?)),
            // Between the two names; the newest comes with its first line.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn open(path: &Path) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::new(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
