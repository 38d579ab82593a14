//! Where a list goes: to standard output, or to a file that is there whole or not at all.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use super::super::args::Global;
use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use super::super::places;
use super::{Go, unwritable};
use crate::config::{self, Environment, Place, Relation};
use crate::export::Outfile;
use crate::ledger::MirrorRow;
use crate::restore::Over;
use crate::wording::shown;

/// So many bytes go to standard output at a time.
const PIECE: usize = 64 << 10;

/// A list on its way.
pub(super) struct Out<'a> {
    output: &'a Output,
    to: To,
}

enum To {
    /// Standard output, and what is not written to it yet.
    Standard(Vec<u8>),
    /// A terminal, on which nothing of a name may act.
    Terminal,
    File {
        path: PathBuf,
        outfile: Outfile,
        writer: BufWriter<File>,
    },
}

impl<'a> Out<'a> {
    pub(super) fn begin(output: &'a Output, path: Option<&Path>, is_forced: bool) -> Result<Self, Failure> {
        let to = match path {
            None if std::io::stdout().is_terminal() => To::Terminal,
            None => To::Standard(Vec::new()),
            Some(path) => {
                let (outfile, file) = begin(path, is_forced)?;
                To::File { path: path.to_owned(), outfile, writer: BufWriter::new(file) }
            }
        };
        Ok(Self { output, to })
    }

    /// Writes a line.
    pub(super) fn put(&mut self, line: &[u8]) -> Result<Go, Failure> {
        let is_read = match &mut self.to {
            To::Standard(waiting) => {
                waiting.extend_from_slice(line);
                if waiting.len() < PIECE { true } else { self.output.content(&std::mem::take(waiting)) }
            }
            To::Terminal => {
                use std::os::unix::ffi::OsStrExt as _;
                self.output.line_if_read(shown(std::ffi::OsStr::from_bytes(line.trim_ascii_end())))
            }
            To::File { path, writer, .. } => {
                writer.write_all(line).map_err(|error| unwritable(path, &error))?;
                true
            }
        };
        Ok(if is_read { Go::On } else { Go::Home })
    }

    /// All of it was put: returns the file that it is in now, if it is one.
    pub(super) fn finish(self) -> Result<Option<PathBuf>, Failure> {
        match self.to {
            To::Standard(waiting) => {
                self.output.content(&waiting);
                Ok(None)
            }
            To::Terminal => Ok(None),
            To::File { path, outfile, mut writer } => {
                let finished = writer.flush().and_then(|()| outfile.finish());
                finished.map_err(|error| unwritable(&path, &error))?;
                Ok(Some(path))
            }
        }
    }
}

/// Begins a file.
pub(super) fn begin(path: &Path, is_forced: bool) -> Result<(Outfile, File), Failure> {
    let over = if is_forced { Over::All } else { Over::Nothing };
    let begun = Outfile::begin(path, over).and_then(|outfile| {
        let file = outfile.file()?;
        Ok((outfile, file))
    });
    begun.map_err(|error| unwritable(path, &error))
}

/// The file that a person named, if it may be written: not into a mirror, which is only read, nor among the agent's own.
pub(super) fn admitted(global: &Global, path: &Path, mirrors: &[MirrorRow]) -> Result<PathBuf, Failure> {
    if path == Path::new("-") {
        return Err(Failure::new(Exit::Usage, "`-` is no file")
            .with_hint("leave `-o` out for standard output; an archive needs a file, as its head is written last"));
    }
    let path = std::path::absolute(path)?;
    let (overrides, environment) = (places::overrides(global, None), Environment::of_process());
    let state_dir = config::state_dir(&overrides, &environment)?;
    let place = Place::of(&config::resolve(path.parent().unwrap_or(&path)));
    let lies_in =
        |dir: &Path| matches!(place.to(&Place::of(&config::resolve(dir))), Some(Relation::Same | Relation::Inside));
    let mirrored = places::mirrored(&overrides, &environment, mirrors);
    if let Some(dir) = mirrored.iter().chain([&state_dir]).find(|dir| lies_in(dir)) {
        let what = format!("`{}` lies in `{}`, where nothing is written", shown(&path), shown(dir));
        return Err(Failure::new(Exit::Usage, what).with_hint("choose another place"));
    }
    Ok(path)
}
