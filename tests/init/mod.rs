//! The first minute: `init`, `login` and `logout`, from flags and at a terminal.

mod flags;
mod login;
mod screens;
mod secrets;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::terminal::Terminal;
use crate::world::{Said, World};

const COLUMNS: u16 = 80;

fn at_a_terminal(command: &Command) -> Terminal {
    Terminal::run(command, COLUMNS, 24)
}

impl World {
    /// The program as somebody meets it who has no configuration yet: its places are those in the home directory.
    fn newcomer<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.command(arguments);
        command.env("HOME", self.home()).env_remove("DSTOR_SYNC_CONFIG").env_remove("DSTOR_SYNC_STATE_DIR");
        command
    }

    fn home(&self) -> PathBuf {
        let home = self.base().join("home");
        fs::create_dir_all(&home).expect("made");
        home
    }

    /// Where a newcomer's configuration is written.
    fn places(&self) -> PathBuf {
        self.home().join(".config/dstor-sync")
    }

    fn mirror_text(&self) -> String {
        self.mirror().display().to_string()
    }

    /// Runs it to its end, with this on its standard input.
    fn with_input(&self, mut command: Command, input: &str) -> Said {
        tokio::task::block_in_place(|| {
            let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().expect("started");
            // It may have ended without reading.
            let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes());
            let output = child.wait_with_output().expect("ended");
            Said {
                code: output.status.code().unwrap_or(-1),
                stdout: String::from_utf8(output.stdout).expect("UTF-8"),
                stderr: String::from_utf8(output.stderr).expect("UTF-8"),
            }
        })
    }

    fn say(&self, command: Command) -> Said {
        self.with_input(command, "")
    }
}

/// The names in a directory and their modes, in order; none if it is not there.
fn listed(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let told = |entry: fs::DirEntry| {
        let mode = entry.metadata().expect("looked").mode() & 0o7777;
        format!("{} {mode:04o}", entry.file_name().display())
    };
    let mut listed: Vec<String> = entries.map(told).collect();
    listed.sort();
    listed
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
