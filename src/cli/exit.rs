//! Exit statuses, and what is said when a command cannot do its work.

use crate::agent::AgentError;
use crate::config::{ConfigError, ConfigErrors};
use crate::ledger::{LedgerError, LockError};
use crate::plan::AssembleError;
use crate::sandbox::SandboxError;
use crate::sync::SyncError;
use crate::upload::Broke;

/// The process's exit status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// 0.
    Fine,
    /// 1: something needs attention.
    Attention,
    /// 2: the command line is wrong.
    Usage,
    /// 3: the agent is not running.
    NotRunning,
    /// 4: credentials are missing or refused.
    Credentials,
    /// 5: dStor cannot be reached.
    Unreachable,
    /// 75: another agent holds the ledger.
    Held,
    /// 78: the configuration; services do not restart on it.
    Config,
    /// 124: timed out.
    TimedOut,
    /// 130: stopped by SIGINT before done, or by a second signal.
    Interrupted,
    /// 143: stopped by SIGTERM before done.
    Terminated,
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Fine => 0,
            Exit::Attention => 1,
            Exit::Usage => 2,
            Exit::NotRunning => 3,
            Exit::Credentials => 4,
            Exit::Unreachable => 5,
            Exit::Held => 75,
            Exit::Config => 78,
            Exit::TimedOut => 124,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        u8::from(exit).into()
    }
}

/// What is said when a command cannot do its work: what happened, and what to do.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit: Exit,
    /// What happened and, where known, the way out; several where a config has several faults.
    pub(super) said: Vec<(String, Option<String>)>,
}

impl Failure {
    pub(super) fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self { exit, said: vec![(what.into(), None)] }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Some((_, last)) = self.said.last_mut() {
            *last = Some(hint.into());
        }
        self
    }
}

impl Failure {
    /// The same, as a fault of the command line.
    pub(super) fn of_usage(self) -> Self {
        Self { exit: Exit::Usage, ..self }
    }
}

/// An error with its causes, each once.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self { exit: Exit::Config, said: vec![(told(&error), error.hint().map(ToOwned::to_owned))] }
    }
}

impl From<ConfigErrors> for Failure {
    fn from(errors: ConfigErrors) -> Self {
        let said = errors.iter().map(|error| (told(error), error.hint().map(ToOwned::to_owned))).collect();
        Self { exit: Exit::Config, said }
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        let exit = match error {
            LedgerError::None(_) => Exit::NotRunning,
            _ => Exit::Attention,
        };
        Self { exit, said: vec![(told(&error), error.hint())] }
    }
}

impl From<AssembleError> for Failure {
    fn from(error: AssembleError) -> Self {
        match error {
            AssembleError::Lock(held @ LockError::Held(_)) => Self::new(Exit::Held, told(&held))
                .with_hint("stop it first, or name another --state-dir; `dstor-sync status` tells its process"),
            AssembleError::Ledger(error) => error.into(),
            unfit @ AssembleError::Unfit { .. } => {
                Self::new(Exit::Config, told(&unfit)).with_hint("name one on a disk of this machine, with --state-dir")
            }
            other @ (AssembleError::StateDir { .. } | AssembleError::Lock(LockError::Io { .. })) => {
                Self::new(Exit::Attention, told(&other))
                    .with_hint("let this user write there, or name another directory with --state-dir")
            }
            other @ AssembleError::Client(_) => Self::new(Exit::Attention, told(&other)).with_hint(
                "install this system's CA certificates (the package ca-certificates), or mend SSL_CERT_FILE",
            ),
        }
    }
}

impl From<Broke> for Failure {
    fn from(broke: Broke) -> Self {
        Self::new(Exit::Attention, told(&broke)).with_hint(broke.hint())
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        match error {
            AgentError::Assemble(error) => error.into(),
            AgentError::Ledger(error) => error.into(),
            AgentError::Broke(broke) => broke.into(),
            AgentError::Hangs => Self::new(Exit::Attention, told(&error))
                .with_hint("start it again: nothing is lost; look at what the mirrors lie on"),
        }
    }
}

impl From<SyncError> for Failure {
    fn from(error: SyncError) -> Self {
        match error {
            SyncError::Assemble(error) => error.into(),
            SyncError::Ledger(error) => error.into(),
            SyncError::Broke(broke) => broke.into(),
        }
    }
}

impl From<SandboxError> for Failure {
    fn from(error: SandboxError) -> Self {
        let hint = match &error {
            SandboxError::NotLoopback(_) => "choose an address of this machine's own, such as 127.0.0.1:8080",
            SandboxError::Listen { .. } => {
                "if another program has that address, choose another one with --listen, such as 127.0.0.1:8080"
            }
            SandboxError::InUse { .. } => "stop that one, or name another directory with --store or --state-dir",
            SandboxError::Store { .. } => {
                "let this user read and write it, or name another directory with --store or --state-dir"
            }
        };
        let exit = match error {
            SandboxError::NotLoopback(_) => Exit::Usage,
            SandboxError::Listen { .. } | SandboxError::InUse { .. } | SandboxError::Store { .. } => Exit::Attention,
        };
        Self::new(exit, told(&error)).with_hint(hint)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::new(Exit::Attention, told(&error))
    }
}
