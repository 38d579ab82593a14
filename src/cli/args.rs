//! The arguments, as clap reads them. The doc comments are the help.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::mirror::Cid;
use crate::sandbox::Misbehaviour;
use crate::verify::Share;

/// Mirrors local directories, one way, to dStor.
///
/// Watches directories and uploads what changes. Nothing below a mirror is ever written, and nothing is ever removed from
/// dStor. Whoever has a file's hash can read the file: dStor's content is public to those who know its name.
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
    /// Asks for an API key, or with --email for a password, tests it with dStor, and keeps it in a file that only you can
    /// read: the one that the configuration names, or one beside the configuration.
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
    #[command(after_help = "Examples:\n  dstor-sync ls ~/Documents/taxes\n  dstor-sync ls --state failed --json")]
    Ls(Ls),
    /// Tell what happened: what was stored, retried, given up and left out, newest last
    ///
    /// The agent and `sync` note it in the state directory, the last 4 to 8 MiB of it.
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
    #[command(after_help = "Examples:\n  dstor-sync retry\n  dstor-sync retry ~/Documents/taxes")]
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

#[derive(Args)]
pub(super) struct Run {
    /// The directory to mirror; without a configuration, to a dStor directory of the same name
    #[arg(value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// The dStor directory for DIR
    #[arg(long, value_name = "PATH")]
    pub(super) remote: Option<String>,
    /// Upload to a local dStor inside this process: needs no account and no configuration
    #[arg(long)]
    pub(super) sandbox: bool,
    /// How the log is written to stderr; by default as text, and to the journal where systemd started it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(super) log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    /// For people
    Text,
    /// For programs: one JSON object a line
    Json,
}

#[derive(Args)]
pub(super) struct Sync {
    #[command(flatten)]
    pub(super) run: Run,
    /// Only tell what would be uploaded
    #[arg(long)]
    pub(super) dry_run: bool,
}

/// What dStor knows a person by. None of it is a secret: those would be in the list of processes.
#[derive(Args)]
pub(super) struct Account {
    /// A file with the API key and nothing else; `-`: standard input, from which it is stored
    #[arg(long, value_name = "FILE", conflicts_with_all = ["email", "password_file"])]
    pub(super) api_key_file: Option<PathBuf>,
    /// The account's e-mail address, in place of an API key
    #[arg(long, value_name = "ADDRESS")]
    pub(super) email: Option<String>,
    /// A file with the account's password and nothing else; `-`: standard input, from which it is stored
    #[arg(long, value_name = "FILE", requires = "email")]
    pub(super) password_file: Option<PathBuf>,
    /// Do not ask dStor whether it takes them
    #[arg(long, visible_alias = "offline")]
    pub(super) no_check: bool,
}

#[derive(Args)]
pub(super) struct Init {
    /// The directory to mirror
    #[arg(value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    /// The dStor directory for DIR; by default named after it
    #[arg(long, value_name = "PATH")]
    pub(super) remote: Option<String>,
    /// The service's address; by default https://api.dstor.cloud
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    #[command(flatten)]
    pub(super) account: Account,
    /// Ask nothing
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Replace a configuration that is there; it is kept beside the new one
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args)]
pub(super) struct Login {
    #[command(flatten)]
    pub(super) account: Account,
}

/// For the commands that read: whose ledger.
#[derive(Args)]
pub(super) struct Which {
    /// Read the ledger of `run --sandbox`
    #[arg(long)]
    pub(super) sandbox: bool,
}

#[derive(Args)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) which: Which,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Show it anew whenever it changes, until stopped
    ///
    /// On a terminal it is drawn in place, each second. Elsewhere all of it is printed again when something changed; with
    /// --json an object a line.
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Args)]
pub(super) struct Log {
    /// Only what happened to these files, or below these directories
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
    /// How many lines, from the newest back, or `all`
    #[arg(short = 'n', long, value_name = "N", default_value = "50")]
    pub(super) lines: Lines,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub(super) follow: bool,
    /// One JSON object a line
    #[arg(long)]
    pub(super) json: bool,
}

/// How many lines.
#[derive(Clone, Copy)]
pub(super) struct Lines(usize);

impl Lines {
    /// `usize::MAX` for all.
    pub(super) fn most(self) -> usize {
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
pub(super) struct Ls {
    /// Files and directories; none: everything
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
    /// Only those in this state
    #[arg(long, value_enum, value_name = "STATE")]
    pub(super) state: Option<State>,
    /// As JSON, one object a line
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum State {
    Pending,
    Uploading,
    Stored,
    Failed,
    Skipped,
    Gone,
}

#[derive(Args)]
pub(super) struct Why {
    /// The path to explain
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Args)]
pub(super) struct Wait {
    /// Files and directories; none: everything
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
    /// Until each has a proof, too
    #[arg(long)]
    pub(super) proved: bool,
    /// Give up after this long, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) timeout: Option<Duration>,
}

#[derive(Args)]
pub(super) struct Verify {
    /// Files, and directories with all below them; none: everything
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
    /// Read files back from dStor, and compare them with what was sent
    #[arg(long)]
    pub(super) read: bool,
    /// Read only this part of them, such as 5%
    #[arg(long, value_name = "PART", requires = "read", value_parser = share)]
    pub(super) sample: Option<Share>,
    /// Read no more than this, such as 1GiB; each request counts 1 KiB beside the file
    #[arg(long, value_name = "SIZE", requires = "read", value_parser = size)]
    pub(super) budget: Option<u64>,
    /// Have what is missing or different uploaded again, by the agent or by the next `sync`
    #[arg(long)]
    pub(super) repair: bool,
    /// As JSON, one object a line, the summary last
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Subcommand)]
pub(super) enum ManifestCommand {
    /// Store the list of what dStor holds of a mirror; prints its hash
    ///
    /// Only what changed in it since the last time is sent. Write the hash down where the machine cannot take it along.
    #[command(after_help = "Examples:\n  dstor-sync manifest publish\n  dstor-sync manifest publish ~/Documents")]
    Publish(Publish),
    /// Tell what is in a list
    #[command(
        after_help = "Examples:\n  dstor-sync manifest show QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o\n  DSTOR_URL=https://dstor.example dstor-sync manifest show QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o"
    )]
    Show(Show),
}

#[derive(Args)]
pub(super) struct Publish {
    /// The mirror's directory; none: the only one
    #[arg(value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Args)]
pub(super) struct Show {
    /// What `manifest publish` printed
    #[arg(value_name = "HASH", value_parser = hash)]
    pub(super) hash: Cid,
    /// Ask the dStor inside `run --sandbox`
    #[arg(long)]
    pub(super) sandbox: bool,
    /// Take it although its hash does not prove that it is the one that was published
    #[arg(long)]
    pub(super) unproved: bool,
}

#[derive(Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) which: Which,
    /// Ask nothing of the network
    #[arg(long)]
    pub(super) offline: bool,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args)]
pub(super) struct Restore {
    /// The directory to restore into; made if it is not there
    #[arg(value_name = "DEST")]
    pub(super) dest: PathBuf,
    /// Files, and directories with all below them, by their paths in the mirror; none: all of the only mirror
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
    /// Restore what the manifest with this hash lists; needs no ledger and no configuration
    #[arg(long, value_name = "HASH", value_parser = hash, conflicts_with_all = ["paths", "gone"])]
    pub(super) from: Option<Cid>,
    /// With --from: although its hash does not prove that it is the one that was published
    #[arg(long, requires = "from")]
    pub(super) unproved: bool,
    /// Also what is no longer in the mirror; a file that is named is brought in any case
    #[arg(long)]
    pub(super) gone: bool,
    /// Replace files and links in DEST that differ
    #[arg(long)]
    pub(super) force: bool,
    /// Let DEST be a mirror, lie in one or hold one
    #[arg(long)]
    pub(super) into_mirror: bool,
    /// Only tell what would be restored
    #[arg(long)]
    pub(super) dry_run: bool,
    /// As JSON, one object a line, the summary last
    #[arg(long)]
    pub(super) json: bool,
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

#[derive(Subcommand)]
pub(super) enum ServiceCommand {
    /// Write the unit, and have it begin by itself
    ///
    /// The unit runs this very program, with --config and --state-dir as they are given here. One that was not written by
    /// this command, or was edited since, is left as it is.
    #[command(
        after_help = "Examples:\n  dstor-sync service install --now\n  dstor-sync service install --system --user alice"
    )]
    Install(ServiceInstall),
    /// Stop it, and remove the unit; configuration and ledger stay
    #[command(after_help = "Examples:\n  dstor-sync service uninstall\n  dstor-sync service uninstall --system")]
    Uninstall(ServiceUninstall),
    /// Start it
    #[command(after_help = "Examples:\n  dstor-sync service start\n  dstor-sync service start --system")]
    Start(ServiceWhich),
    /// Stop it; it begins again at the next login or start of the machine
    #[command(after_help = "Examples:\n  dstor-sync service stop\n  dstor-sync service stop --system")]
    Stop(ServiceWhich),
    /// Tell whether it is installed and runs
    #[command(after_help = "Examples:\n  dstor-sync service status\n  dstor-sync service status --system --user alice")]
    Status(ServiceWhich),
}

/// For the commands about a service: whose.
#[derive(Args)]
pub(super) struct ServiceWhich {
    /// A service of the machine, begun without a login; wants root
    #[arg(long)]
    pub(super) system: bool,
    /// The user whom it runs as; by default the one who uses sudo
    #[arg(long, value_name = "NAME", requires = "system")]
    pub(super) user: Option<String>,
}

#[derive(Args)]
pub(super) struct ServiceInstall {
    #[command(flatten)]
    pub(super) which: ServiceWhich,
    /// Start it, too
    #[arg(long)]
    pub(super) now: bool,
    /// Replace a unit that is not as this command wrote it
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Args)]
pub(super) struct ServiceUninstall {
    #[command(flatten)]
    pub(super) which: ServiceWhich,
    /// Remove a unit that is not as `service install` wrote it
    #[arg(long)]
    pub(super) force: bool,
}

#[derive(Subcommand)]
pub(super) enum RootCommand {
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
pub(super) struct Accept {
    /// The mirror's directory
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Args)]
pub(super) struct Emptied {
    /// Files, or directories with all below them
    #[arg(value_name = "PATH", required = true)]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Args)]
pub(super) struct Pause {
    /// Go on by itself after this long, such as 30m or 2h
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    pub(super) length: Option<Duration>,
    #[command(flatten)]
    pub(super) which: Which,
}

#[derive(Args)]
pub(super) struct Retry {
    /// Files, or directories with all below them; none: everything
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<PathBuf>,
    #[command(flatten)]
    pub(super) which: Which,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
