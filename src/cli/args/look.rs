//! What the commands take that only look: `status`, `log`, `ls`, `why`, `wait`, `doctor`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{Which, duration, instant};
use crate::ledger::Millis;

#[derive(Args)]
pub(in crate::cli) struct Status {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// As JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
    /// Show it anew whenever it changes, until stopped
    ///
    /// On a terminal it is drawn in place, each second. Elsewhere all of it is printed again when something changed; with
    /// --json an object a line.
    #[arg(long)]
    pub(in crate::cli) watch: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Log {
    /// Only what happened to these files, or below these directories
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// How many lines, from the newest back, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "50")]
    pub(in crate::cli) lines: Lines,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

/// How many lines.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Lines(usize);

impl Lines {
    /// `usize::MAX` for all.
    pub(in crate::cli) fn most(self) -> usize {
        self.0
    }
}

impl std::str::FromStr for Lines {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self(usize::MAX)),
            number => number.parse().map(Self).map_err(|_| "a number, or `all`".into()),
        }
    }
}

#[derive(Args)]
pub(in crate::cli) struct Ls {
    /// Files and directories; none: everything
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Only those in this state
    #[arg(long, value_enum, value_name = "STATE", conflicts_with = "at")]
    pub(in crate::cli) state: Option<State>,
    /// What there was then, in the versions that dStor held by then, such as 2026-05-01 or 2026-05-01T12:00
    ///
    /// A day alone is its beginning; without an offset, the time is that of this machine's zone. To the end of the second.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    pub(in crate::cli) at: Option<Millis>,
    /// As JSON, one object a line
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum State {
    Pending,
    Uploading,
    Stored,
    Failed,
    Skipped,
    Gone,
}

#[derive(Args)]
pub(in crate::cli) struct Why {
    /// The path to explain
    #[arg(value_name = "PATH")]
    pub(in crate::cli) path: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}

#[derive(Args)]
pub(in crate::cli) struct Wait {
    /// Files and directories; none: everything
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Until each has a proof, too
    #[arg(long)]
    pub(in crate::cli) proved: bool,
    /// Give up after this long, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(in crate::cli) timeout: Option<Duration>,
}

#[derive(Args)]
pub(in crate::cli) struct Doctor {
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Ask nothing of the network
    #[arg(long)]
    pub(in crate::cli) offline: bool,
    /// As JSON
    #[arg(long)]
    pub(in crate::cli) json: bool,
}
