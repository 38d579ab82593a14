//! The arguments, as clap reads them. The doc comments are the help.

mod begin;
mod key;
mod look;
mod prove;
mod steer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::ledger::Millis;
use crate::sandbox::Misbehaviour;

pub(super) use begin::{
    Account, Init, LogFormat, Login, Run, ServiceCommand, ServiceInstall, ServiceUninstall, ServiceWhich, Sync,
};
pub(super) use key::{Generate, KeyCommand, Opens, ShowKey};
pub(super) use look::{Doctor, Log, Ls, State, Status, Wait, Why};
pub(super) use prove::{Export, ManifestCommand, Publish, Restore, Show, Verify};
pub(super) use steer::{Accept, Emptied, Pause, Retry, RootCommand};

/// Mirrors local directories, one way, to dStor.
///
/// Watches directories and uploads what changes. Nothing below a mirror is ever written, and nothing is ever removed from
/// dStor. Whoever has a file's hash can read the file, unless it was encrypted here: dStor's content is public to those
/// who know its name.
#[derive(Parser)]
#[command(
    name = "dstor-sync",
    version,
    max_term_width = 100,
    after_help = "Examples:\n  dstor-sync run --sandbox ~/Documents   try it, without an account\n  dstor-sync status                      what it is doing\n\nExit status: 0 fine, 1 something needs attention, 2 usage, 3 the agent is not running,\n4 credentials missing or refused, 5 dStor can't be reached, 75 another agent runs,\n78 configuration, 124 timed out, 130 or 143 stopped by a signal."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Args)]
pub(super) struct Global {
    /// The configuration file
    #[arg(long, global = true, env = "DSTOR_SYNC_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the ledger is kept
    #[arg(long, global = true, env = "DSTOR_SYNC_STATE_DIR", value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(super) verbose: u8,
    /// Say less: only what needs attention
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// Whether to use colour
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(super) color: Color,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the agent: scan, then watch and upload until stopped
    #[command(
        after_help = "Examples:\n  dstor-sync run                         what the configuration says\n  dstor-sync run --sandbox ~/Documents   into a local dStor, without an account"
    )]
    Run(Run),
    /// Write a configuration, by asking or from flags
    ///
    /// Asks which directory is mirrored and how dStor knows you, tests that with dStor, shows what would be mirrored, and
    /// writes the configuration. Every answer is a flag as well. Without a terminal, or with --yes, nothing is asked: what
    /// has a default takes it, and what has none is an error that names the flag.
    #[command(
        after_help = "Examples:\n  dstor-sync init ~/Documents\n  dstor-sync init ~/Documents --yes --api-key-file ~/dstor-key\n\nExit status: 2 an answer is missing, 4 dStor refuses the credentials, 5 dStor can't be reached:\nnothing was written."
    )]
    Init(Init),
    /// Store credentials, once dStor has taken them
    ///
    /// Asks for an API key, or with --email for a password, tests it with dStor, and keeps it: in the file that the
    /// configuration names; else in the desktop's keyring, if there is one; else, or with --file, in a file beside the
    /// configuration that only you can read. An agent that works while you are not logged in needs a file.
    #[command(
        after_help = "Examples:\n  dstor-sync login\n  dstor-sync login --api-key-file - < ~/dstor-key\n\nExit status: 2 an answer is missing, 4 dStor refuses the credentials, 5 dStor can't be reached:\nnothing was stored."
    )]
    Login(Login),
    /// Forget the credentials that `login` or `init` stored
    #[command(after_help = "Examples:\n  dstor-sync logout\n  dstor-sync logout --config ~/other/config.toml")]
    Logout,
    /// Make one pass: scan, upload what changed, wait for it
    #[command(
        after_help = "Examples:\n  dstor-sync sync --dry-run   tell what would be uploaded\n  dstor-sync sync ~/Documents --remote Backup/Documents"
    )]
    Sync(Sync),
    /// Tell what the agent is doing and what needs attention
    #[command(after_help = "Examples:\n  dstor-sync status --watch\n  dstor-sync status --json | jq .mirrors[0].files")]
    Status(Status),
    /// List files with their state, hash and link
    #[command(
        after_help = "Examples:\n  dstor-sync ls ~/Documents/taxes\n  dstor-sync ls --at 2026-05-01T12:00 ~/Documents/taxes"
    )]
    Ls(Ls),
    /// Tell what happened: what was stored, retried, given up and left out, newest last
    ///
    /// The agent and `sync` note it in the state directory, the last 4 to 8 MiB of it. Of a file that is named, the versions that
    /// dStor stored are told with their links, however long ago that was.
    #[command(after_help = "Examples:\n  dstor-sync log -f\n  dstor-sync log -n all ~/Documents/thesis.pdf")]
    Log(Log),
    /// Tell why a path is in its state
    #[command(
        after_help = "Examples:\n  dstor-sync why ~/Documents/notes.txt\n  dstor-sync why ~/Documents/node_modules"
    )]
    Why(Why),
    /// Wait until everything, or these paths, are stored
    #[command(
        after_help = "Examples:\n  dstor-sync wait --timeout 5m\n  dstor-sync wait --proved ~/Documents/thesis.pdf"
    )]
    Wait(Wait),
    /// Prove that dStor holds what it said it stored
    ///
    /// By itself it asks dStor nothing, and tells what is known: a file is proved by its hash if dStor answered, when it
    /// stored it, with the identifier of exactly its bytes. Content under that identifier can be no other; whether dStor
    /// still has it, only reading it back shows. With --read, files are read back and compared with what was sent, the one
    /// that was read longest ago first. Works beside a running agent and without one.
    #[command(
        after_help = "Examples:\n  dstor-sync verify --read ~/Documents\n  dstor-sync verify --read --sample 5% --repair\n\nExit status: 0 all that was looked at is proved, 1 something is missing, different or not proved,\n3 there is no ledger, 5 dStor gave no answer for some."
    )]
    Verify(Verify),
    /// Look for what is wrong, and tell what to do
    ///
    /// Looks at the configuration, credentials, the way to dStor, the clock, the ledger and its disk, the agent and its
    /// service, the mirrors and how they are watched. Changes nothing, and asks dStor for nothing but an access token.
    /// Works without a configuration, a network or an agent: what cannot be looked at is said.
    #[command(
        after_help = "Examples:\n  dstor-sync doctor\n  dstor-sync doctor --offline --json\n\nExit status, by what has to be seen to first: 78 the configuration, 4 credentials,\n1 anything else for a person, 5 the network or dStor, 0 nothing (notes may be there)."
    )]
    Doctor(Doctor),
    /// Bring files back from dStor
    ///
    /// Rebuilds a mirror, or the files and directories of it that are named, in DEST, from what the ledger knows. Each file is
    /// asked back by its hash, compared with what was sent, and gets its name only then, with its time and permissions. What
    /// lies in DEST already is never replaced unless --force says so; what is there and right stays, so a restore that was
    /// broken off is completed by the same command. It needs no credentials.
    #[command(
        after_help = "Examples:\n  dstor-sync restore ~/restored\n  dstor-sync restore /tmp/taxes ~/Documents/taxes --dry-run\n\nExit status: 0 all of it is there, 1 something is missing, different, older or left out,\n3 there is no ledger, 5 dStor gave no answer for some."
    )]
    Restore(Restore),
    /// Take what dStor holds elsewhere: as lists, or as an archive for IPFS
    ///
    /// Lists tell, of each file that dStor holds, its hash and what is known of it. The archive holds the files themselves as
    /// IPFS's blocks, under the same hashes: from the mirror where a file lies there unchanged, else read back from dStor. It
    /// needs no credentials, and works beside a running agent and without one.
    #[command(
        after_help = "Examples:\n  dstor-sync export --csv -o ~/files.csv\n  dstor-sync export --car ~/taxes.car ~/Documents/taxes   then: ipfs dag import taxes.car\n\nExit status: 0 all of it is there, 1 something is left out, 2 usage, 3 there is no ledger,\n5 dStor gave no answer for some."
    )]
    Export(Export),
    /// Keep the list of a mirror's files on dStor, too
    ///
    /// A machine that is lost takes its ledger with it. A manifest is what a restore needs of it, stored on dStor: with its hash
    /// alone, `restore --from HASH DEST` brings everything back on a machine that has nothing else. Whoever has the hash can read
    /// the list and every file in it.
    #[command(
        after_help = "Examples:\n  dstor-sync manifest publish\n  dstor-sync manifest show QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
    )]
    Manifest {
        #[command(subcommand)]
        command: ManifestCommand,
    },
    /// Make keys for encryption
    ///
    /// With `[encrypt] recipients` in the configuration, files are encrypted on this machine before they are sent, in the form of
    /// age (https://age-encryption.org). That takes the public key alone; the private one is for who brings files back. With
    /// `names = true` beside it, the names of files and directories are hidden as well.
    #[command(
        after_help = "Examples:\n  dstor-sync key generate /media/usb/dstor-identity.txt\n  dstor-sync restore ~/restored --identity /media/usb/dstor-identity.txt"
    )]
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Look at the configuration
    #[command(after_help = "Examples:\n  dstor-sync config check\n  dstor-sync config show")]
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Settle which directory a mirror is
    #[command(after_help = "Examples:\n  dstor-sync root accept ~/Documents\n  dstor-sync root --help")]
    Root {
        #[command(subcommand)]
        command: RootCommand,
    },
    /// Let files that are suddenly empty be uploaded as they are
    ///
    /// When many files of a mirror that held something are empty all at once, as after a crash, they are not uploaded: they
    /// would take the place of the good ones. Restore them, and they go on by themselves; or accept them with this.
    #[command(
        after_help = "Examples:\n  dstor-sync accept ~/Documents\n  dstor-sync accept ~/Documents/logs ~/Documents/notes.txt"
    )]
    Accept(Emptied),
    /// Begin no upload for a while
    ///
    /// What is being uploaded goes on to its end. Changes are still noticed, and wait. It holds over restarts.
    #[command(
        after_help = "Examples:\n  dstor-sync pause            until `dstor-sync resume`\n  dstor-sync pause --for 2h"
    )]
    Pause(Pause),
    /// Go on after a pause
    #[command(
        after_help = "Examples:\n  dstor-sync resume\n  dstor-sync resume --sandbox   the agent of `run --sandbox`"
    )]
    Resume(Which),
    /// Try again what failed, now
    ///
    /// Files that were given up are tried again without a change; what waits after a failure waits no longer, and dStor is
    /// asked at once.
    #[command(
        after_help = "Examples:\n  dstor-sync retry ~/Documents/taxes\n  dstor-sync retry --unencrypted     after encryption was turned on"
    )]
    Retry(Retry),
    /// Compare every mirror with the ledger, now
    #[command(after_help = "Examples:\n  dstor-sync rescan\n  dstor-sync rescan && dstor-sync wait")]
    Rescan(Which),
    /// Run the agent as a service: begun by itself, and again after it failed
    #[command(
        after_help = "Examples:\n  dstor-sync service install --now            of your own, begun when you log in\n  dstor-sync service install --system --now   as root: begun with the machine"
    )]
    Service {
        #[command(subcommand)]
        command: ServiceCommand,
    },
    /// Print what a shell needs to complete commands
    #[command(
        after_help = "Examples:\n  dstor-sync completions bash > ~/.local/share/bash-completion/completions/dstor-sync\n  dstor-sync completions fish > ~/.config/fish/completions/dstor-sync.fish"
    )]
    Completions(Completions),
    /// Print a manual page, or write all of them
    #[command(
        after_help = "Examples:\n  dstor-sync man status | man -l -\n  dstor-sync man --all ~/.local/share/man/man1"
    )]
    Man(Man),
    /// Run a local dStor, for trying and testing
    #[command(
        after_help = "Examples:\n  dstor-sync sandbox\n  dstor-sync sandbox --listen 127.0.0.1:4747 --misbehave 'upload 503 x3'"
    )]
    Sandbox(Sandbox),
}

/// For the commands about an agent and its ledger: which one.
#[derive(Args)]
pub(super) struct Which {
    /// The agent of `run --sandbox`, and its ledger
    #[arg(long)]
    pub(super) sandbox: bool,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Validate it
    #[command(after_help = "Examples:\n  dstor-sync config check\n  dstor-sync config check --config ./config.toml")]
    Check,
    /// Print what is in effect, secrets masked
    #[command(after_help = "Examples:\n  dstor-sync config show\n  dstor-sync config show > effective.toml")]
    Show,
}

#[derive(Args)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

#[derive(Args)]
pub(super) struct Man {
    /// The command whose page it is; none: that of the program
    #[arg(value_name = "COMMAND", conflicts_with = "all")]
    pub(super) command: Vec<String>,
    /// Write the pages of all commands into this directory, which is made if it is not there
    #[arg(long, value_name = "DIR")]
    pub(super) all: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct Sandbox {
    /// Where to listen; this machine's own addresses only
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:4747")]
    pub(super) listen: SocketAddr,
    /// Where to keep what is uploaded; by default below the state directory
    #[arg(long, value_name = "DIR")]
    pub(super) store: Option<PathBuf>,
    /// Keep every answer back for this long, such as 50ms
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "0s")]
    pub(super) delay: Duration,
    /// Go wrong on purpose: `PHASE FAULT [xN]`, such as `upload 503 x3`; may be given several times
    #[arg(long, value_name = "RULE")]
    pub(super) misbehave: Vec<Misbehaviour>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let length: jiff::SignedDuration = text.parse().map_err(|_| "write it like 30s, 5m or 1h".to_owned())?;
    Duration::try_from(length).map_err(|_| "it cannot be negative".to_owned())
}

/// A time of day by this machine's zone, or with an offset: its second to the end.
fn instant(text: &str) -> Result<Millis, String> {
    let wrong = |_| "write it like 2026-05-01, 2026-05-01T12:00 or 2026-05-01T12:00:00Z".to_owned();
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => {
            let civil: jiff::civil::DateTime = text.parse().map_err(wrong)?;
            jiff::tz::TimeZone::system().to_timestamp(civil).map_err(wrong)?
        }
    };
    Ok(at.as_second().saturating_mul(1000).saturating_add(999))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them_and_nothing_else_is() {
        let noon = 1_777_636_800_999;
        assert_eq!(instant("2026-05-01T12:00:00Z"), Ok(noon));
        assert_eq!(instant("2026-05-01T14:00+02:00"), Ok(noon));
        let here = |text: &str| instant(text).expect("a time");
        assert_eq!(here("2026-05-01T12:00"), here("2026-05-01 12:00:00"));
        assert_eq!(here("2026-05-01T12:00") - here("2026-05-01"), 12 * 3600 * 1000);
        for wrong in ["", "yesterday", "12:00", "2026-13-01", "2026-05-01T25:00", "1777636800"] {
            assert!(instant(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_arguments_fit_together() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
