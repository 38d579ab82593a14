//! What `verify`, `restore`, `export` and `manifest` take.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Opens, Which, instant};
use crate::ledger::Millis;
use crate::mirror::Cid;
use crate::verify::Share;

#[derive(Args)]
pub(in crate::cli) struct Verify {
    /// Files, and directories with all below them; none: everything
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// Read files back from dStor, and compare them with what was sent
    #[arg(long)]
    pub(in crate::cli) read: bool,
    /// Read only this part of them, such as 5%
    #[arg(long, value_name = "PART", requires = "read", value_parser = share)]
    pub(in crate::cli) sample: Option<Share>,
    /// Read no more than this, such as 1GiB; each request counts 1 KiB beside the file
    #[arg(long, value_name = "SIZE", requires = "read", value_parser = size)]
    pub(in crate::cli) budget: Option<u64>,
    /// Have what is missing or different uploaded again, by the agent or by the next `sync`
    #[arg(long)]
    pub(in crate::cli) repair: bool,
    /// As JSON, one object a line, the summary last
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Restore {
    /// The directory to restore into; made if it is not there
    #[arg(value_name = "DEST")]
    pub(in crate::cli) dest: PathBuf,
    /// Files, and directories with all below them, by their paths in the mirror, with --from also by those in its list;
    /// none: all of the only mirror
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    #[command(flatten)]
    pub(in crate::cli) opens: Opens,
    /// Restore what the manifest with this hash lists; needs no ledger and no configuration
    #[arg(long, value_name = "HASH", value_parser = hash, conflicts_with_all = ["gone", "at"])]
    pub(in crate::cli) from: Option<Cid>,
    /// With --from: although its hash does not prove that it is the one that was published
    #[arg(long, requires = "from")]
    pub(in crate::cli) unproved: bool,
    /// Also what is no longer in the mirror; a file that is named is brought in any case
    #[arg(long)]
    pub(in crate::cli) gone: bool,
    /// What there was then, in the versions that dStor held by then, such as 2026-05-01 or 2026-05-01T12:00
    ///
    /// A day alone is its beginning; without an offset, the time is that of this machine's zone. To the end of the second.
    #[arg(long, value_name = "TIME", value_parser = instant, conflicts_with = "gone")]
    pub(in crate::cli) at: Option<Millis>,
    /// Replace files and links in DEST that differ
    #[arg(long)]
    pub(in crate::cli) force: bool,
    /// Let DEST be a mirror, lie in one or hold one
    #[arg(long)]
    pub(in crate::cli) into_mirror: bool,
    /// Only tell what would be restored
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// As JSON, one object a line, the summary last
    #[arg(long)]
    pub(in crate::cli) json: bool,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("form").required(true))]
pub(in crate::cli) struct Export {
    /// Files, and directories with all below them; none: everything
    #[arg(value_name = "PATH")]
    pub(in crate::cli) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
    /// A table for spreadsheets and databases (RFC 4180), a line a file
    #[arg(long, group = "form")]
    pub(in crate::cli) csv: bool,
    /// One JSON object a line, with the same values
    #[arg(long, group = "form")]
    pub(in crate::cli) json: bool,
    /// SHA-256 and path below the mirror, as `sha256sum -c` takes them; reads the files, or has them from dStor
    #[arg(long, group = "form")]
    pub(in crate::cli) sha256sum: bool,
    /// Hash, tabulator and a name, for another IPFS pinning service
    #[arg(long, group = "form")]
    pub(in crate::cli) pins: bool,
    /// An archive (CARv1) that any IPFS node can import; reads the files, or has them from dStor
    #[arg(long, value_name = "FILE", group = "form")]
    pub(in crate::cli) car: Option<PathBuf>,
    /// Write to this file, which is there whole or not at all; else to standard output
    #[arg(short, long, value_name = "FILE", conflicts_with = "car")]
    pub(in crate::cli) output: Option<PathBuf>,
    /// Also what is no longer in the mirror; a file that is named is taken in any case
    #[arg(long)]
    pub(in crate::cli) gone: bool,
    /// Replace FILE if it is there
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

#[derive(Subcommand)]
pub(in crate::cli) enum ManifestCommand {
    /// Store the list of what dStor holds of a mirror; prints its hash
    ///
    /// Only what changed in it since the last time is sent. Write the hash down where the machine cannot take it along.
    #[command(after_help = "Examples:\n  dstor-sync manifest publish\n  dstor-sync manifest publish ~/Documents")]
    Publish(Publish),
    /// Tell what is in a manifest
    #[command(
        after_help = "Examples:\n  dstor-sync manifest show QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o\n  DSTOR_URL=https://dstor.example dstor-sync manifest show QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
    )]
    Show(Show),
}

#[derive(Args)]
pub(in crate::cli) struct Publish {
    /// The mirror's directory; none: the only one
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(in crate::cli) which: Which,
}

#[derive(Args)]
pub(in crate::cli) struct Show {
    /// What `manifest publish` printed
    #[arg(value_name = "HASH", value_parser = hash)]
    pub(in crate::cli) hash: Cid,
    /// Ask the dStor inside `run --sandbox`
    #[arg(long)]
    pub(in crate::cli) sandbox: bool,
    #[command(flatten)]
    pub(in crate::cli) opens: Opens,
    /// Take it although its hash does not prove that it is the one that was published
    #[arg(long)]
    pub(in crate::cli) unproved: bool,
}

fn hash(text: &str) -> Result<Cid, String> {
    Cid::parse(text).map_err(|error| error.to_string())
}

fn share(text: &str) -> Result<Share, String> {
    Share::parse(text).ok_or_else(|| "write it like 5% or 0.25%".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    let size = text.trim().parse::<bytesize::ByteSize>().map_err(|_| "write it like 1GiB or 500 MB".to_owned())?;
    if size.as_u64() > 0 { Ok(size.as_u64()) } else { Err("nothing can be read for that".to_owned()) }
}
