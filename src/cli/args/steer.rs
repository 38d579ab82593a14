//! What the commands take that decide and steer: `root`, `accept`, `pause`, `retry`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{Which, duration};

#[derive(Subcommand)]
pub(in crate::cli) enum RootCommand {
    /// Accept the directory that is now at a mirror's path as the mirror
    ///
    /// When another directory than before is at a mirror's path, as when a disk is not mounted, nothing in it is believed
    /// until you say so. Stored files that are not in the accepted directory then turn `gone`; dStor keeps them.
    #[command(
        after_help = "Examples:\n  dstor-sync root accept ~/Documents\n  dstor-sync root accept /mnt/disk --sandbox"
    )]
    Accept(Accept),
}

#[derive(Args)]
pub(in crate::cli) struct Accept {
    /// The mirror's directory
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: PathBuf,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}

#[derive(Args)]
pub(in crate::cli) struct Emptied {
    /// Files, or directories with all below them
    #[arg(value_name = "PATH", required = true)]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}

#[derive(Args)]
pub(in crate::cli) struct Pause {
    /// Go on by itself after this long, such as 30m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(in crate::cli) length: Option<Duration>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}

#[derive(Args)]
pub(in crate::cli) struct Retry {
    /// Files, or directories with all below them; none: everything
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    /// Send again what is stored unencrypted, after encryption was turned on
    #[arg(long)]
    pub(in crate::cli) unencrypted: bool,
    /// Send again everything that is stored, as after the recipients of encryption changed
    #[arg(long, conflicts_with = "unencrypted")]
    pub(in crate::cli) stored: bool,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}
