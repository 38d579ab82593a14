//! What `run`, `sync`, `init`, `login` and `service` take.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Args)]
pub(in crate::cli) struct Run {
    /// The directory to mirror; without a configuration, to a dStor directory of the same name
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: Option<PathBuf>,
    /// The dStor directory for DIR
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) remote: Option<String>,
    /// Upload to a local dStor inside this process: needs no account and no configuration
    #[arg(long)]
    pub(in crate::cli) sandbox: bool,
    /// How the log is written to stderr; by default as text, and to the journal where systemd started it
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub(in crate::cli) log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum LogFormat {
    /// For people
    Text,
    /// For programs: one JSON object a line
    Json,
}

#[derive(Args)]
pub(in crate::cli) struct Sync {
    #[command(flatten)]
    pub(in crate::cli) run: Run,
    /// Only tell what would be uploaded
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
}

/// What dStor knows a person by. None of it is a secret: those would be in the list of processes.
#[derive(Args)]
pub(in crate::cli) struct Account {
    /// A file with the API key and nothing else; `-`: standard input, from which it is stored
    #[arg(long, value_name = "FILE", conflicts_with_all = ["email", "password_file"])]
    pub(in crate::cli) api_key_file: Option<PathBuf>,
    /// The account's e-mail address, in place of an API key
    #[arg(long, value_name = "ADDRESS")]
    pub(in crate::cli) email: Option<String>,
    /// A file with the account's password and nothing else; `-`: standard input, from which it is stored
    #[arg(long, value_name = "FILE", requires = "email")]
    pub(in crate::cli) password_file: Option<PathBuf>,
    /// Do not ask dStor whether it takes them
    #[arg(long, visible_alias = "offline")]
    pub(in crate::cli) no_check: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Init {
    /// The directory to mirror
    #[arg(value_name = "DIR")]
    pub(in crate::cli) dir: Option<PathBuf>,
    /// The dStor directory for DIR; by default named after it
    #[arg(long, value_name = "PATH")]
    pub(in crate::cli) remote: Option<String>,
    /// The service's address; by default https://api.dstor.cloud
    #[arg(long, value_name = "URL")]
    pub(in crate::cli) url: Option<String>,
    #[command(flatten)]
    pub(in crate::cli) account: Account,
    /// Ask nothing
    #[arg(short, long)]
    pub(in crate::cli) yes: bool,
    /// Replace a configuration that is there; it is kept beside the new one
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

#[derive(Args)]
pub(in crate::cli) struct Login {
    #[command(flatten)]
    pub(in crate::cli) account: Account,
    /// Keep them in the desktop's keyring; without it and `--file`, that is where they are kept if there is one
    #[arg(long, conflicts_with = "file")]
    pub(in crate::cli) keyring: bool,
    /// Keep them in a file beside the configuration that only you can read
    #[arg(long)]
    pub(in crate::cli) file: bool,
}

#[derive(Subcommand)]
pub(in crate::cli) enum ServiceCommand {
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
pub(in crate::cli) struct ServiceWhich {
    /// A service of the machine, begun without a login; wants root
    #[arg(long)]
    pub(in crate::cli) system: bool,
    /// The user whom it runs as; by default the one who uses sudo
    #[arg(long, value_name = "NAME", requires = "system")]
    pub(in crate::cli) user: Option<String>,
}

#[derive(Args)]
pub(in crate::cli) struct ServiceInstall {
    #[command(flatten)]
    pub(in crate::cli) which: ServiceWhich,
    /// Start it, too
    #[arg(long)]
    pub(in crate::cli) now: bool,
    /// Replace a unit that is not as this command wrote it
    #[arg(long)]
    pub(in crate::cli) force: bool,
}

#[derive(Args)]
pub(in crate::cli) struct ServiceUninstall {
    #[command(flatten)]
    pub(in crate::cli) which: ServiceWhich,
    /// Remove a unit that is not as `service install` wrote it
    #[arg(long)]
    pub(in crate::cli) force: bool,
}
