//! What `key` takes, and what opens encrypted files.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(in crate::cli) enum KeyCommand {
    /// Make a key: keeps the private one in FILE, and prints the public one
    ///
    /// The public key goes into `recipients` in the configuration. The private one is needed only to bring files back: keep FILE
    /// where this machine's loss does not take it along, as without it nothing that was encrypted can ever be read. FILE is
    /// never replaced.
    #[command(
        after_help = "Examples:\n  dstor-sync key generate /media/usb/dstor-identity.txt\n  dstor-sync key generate identity.txt > recipient.txt"
    )]
    Generate(Generate),
    /// Print the public keys that belong to the private ones in FILE
    #[command(
        after_help = "Examples:\n  dstor-sync key show identity.txt\n  age --decrypt identity.txt.age | dstor-sync key show -"
    )]
    Show(ShowKey),
}

#[derive(Args)]
pub(in crate::cli) struct Generate {
    /// The file to keep the private key in; there must be none yet
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
}

#[derive(Args)]
pub(in crate::cli) struct ShowKey {
    /// The identity file; - for standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
}

/// What opens encrypted files.
#[derive(Args)]
pub(in crate::cli) struct Opens {
    /// The file with the private key that opens what was encrypted; - for standard input
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) identity: Option<PathBuf>,
}
