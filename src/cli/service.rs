//! `service`: the agent as a service of this user, or of the machine.

use crate::config::{Config, CredentialSources, Environment, Source};
use crate::service::{Found, Host, HostError};
use crate::wording::shown;

use super::args::{Global, ServiceCommand, ServiceInstall, ServiceUninstall, ServiceWhich};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places::overrides;

pub(super) fn run(global: &Global, command: &ServiceCommand, output: &Output) -> Result<Exit, Failure> {
    match command {
        ServiceCommand::Install(command) => install(global, command, output),
        ServiceCommand::Uninstall(command) => uninstall(command, output),
        ServiceCommand::Start(which) => {
            let host = host(which)?;
            host.start()?;
            output.line(format_args!("{} is running", host.name()));
            Ok(Exit::Fine)
        }
        ServiceCommand::Stop(which) => {
            let host = host(which)?;
            host.stop()?;
            output.line(format_args!("{} is stopped", host.name()));
            Ok(Exit::Fine)
        }
        ServiceCommand::Status(which) => status(which, output),
    }
}

fn host(which: &ServiceWhich) -> Result<Host, HostError> {
    if !which.system {
        return Host::of_user();
    }
    // Whoever uses sudo means themselves, and nobody means root.
    let asking = std::env::var("SUDO_USER").ok().filter(|user| user != "root");
    Host::of_system(which.user.as_deref().or(asking.as_deref()))
}

fn install(global: &Global, command: &ServiceInstall, output: &Output) -> Result<Exit, Failure> {
    let host = host(&command.which)?;
    if !command.which.system {
        // One that cannot run would only fail later, where nobody looks.
        let environment = Environment::of_process();
        let config = Config::load(&overrides(global, None), &environment)?;
        let credentials = CredentialSources::new(&config, &environment).load()?;
        match credentials.map(|(_, source)| source) {
            Some(Source::File(_)) => {}
            Some(Source::Keyring) => output.note(
                "note: the credentials are in the desktop's keyring: while you are not logged in, it waits for them",
            ),
            Some(source @ (Source::ApiKeyVariable | Source::LoginVariables)) => {
                return Err(Failure::new(
                    Exit::Credentials,
                    format!("the credentials are in {source}, which a service does not have"),
                )
                .with_hint("`dstor-sync login` stores them in a file that only you can read"));
            }
            None => {
                output.note("warning: there are no credentials yet; it waits until there are, see `dstor-sync login`")
            }
        }
    }
    let program = std::env::current_exe()?;
    let arguments = arguments(global)?;
    let found = host.install(&program, &arguments, command.force)?;
    let what = match found {
        Found::Nothing => "written",
        Found::Same => "unchanged",
        Found::Ours | Found::Foreign => "replaced",
    };
    output.line(format_args!("{what:<10}{}", shown(host.unit())));
    if command.now {
        host.start()?;
        output.line(format_args!("running   {}", host.name()));
    } else {
        let start = if command.which.system { " --system" } else { "" };
        output.line(format_args!("enabled   {}; start it now with `dstor-sync service start{start}`", host.name()));
    }
    if host.ends_at_logout() == Some(true) {
        output.note("note: it ends when you log out, and begins when you log in");
        output.note("hint: to have it run from the machine's start on: `loginctl enable-linger`");
    }
    Ok(Exit::Fine)
}

/// The places that were named here are to be those of the service, too.
fn arguments(global: &Global) -> Result<Vec<String>, Failure> {
    let mut arguments = Vec::new();
    for (flag, path) in [("--config", &global.config), ("--state-dir", &global.state_dir)] {
        if let Some(path) = path {
            let path = std::path::absolute(path)?;
            let text = path.to_str().ok_or_else(|| {
                Failure::new(Exit::Attention, format!("`{}` cannot be written in a unit", shown(&path)))
                    .with_hint("name a path that is text in UTF-8")
            })?;
            arguments.extend([flag.to_owned(), text.to_owned()]);
        }
    }
    Ok(arguments)
}

fn uninstall(command: &ServiceUninstall, output: &Output) -> Result<Exit, Failure> {
    let host = host(&command.which)?;
    host.uninstall(command.force)?;
    output.line(format_args!("removed   {}", host.name()));
    output.line("The configuration, the ledger and what is stored on dStor are left as they are.");
    Ok(Exit::Fine)
}

fn status(which: &ServiceWhich, output: &Output) -> Result<Exit, Failure> {
    let host = host(which)?;
    let state = host.state()?;
    let or = |word: &str, other: &str| shown(if word.is_empty() { other } else { word });
    let installed = if state.is_installed { "" } else { " (not there)" };
    output.line(format_args!("unit      {}{installed}", shown(&state.unit)));
    output.line(format_args!("service   {}, {}", or(&state.active, "unknown"), or(&state.enabled, "not enabled")));
    if !state.status.is_empty() {
        output.line(format_args!("says      {}", shown(&state.status)));
    }
    Ok(if state.is_running() { Exit::Fine } else { Exit::NotRunning })
}

impl From<HostError> for Failure {
    fn from(error: HostError) -> Self {
        let (exit, hint) = match &error {
            HostError::NoManager => (
                Exit::Attention,
                "have whatever starts programs here run `dstor-sync run`, and again when it ends with another status \
                 than 0, 2 or 78; or start it at each boot from `crontab -e`: `@reboot dstor-sync run`",
            ),
            HostError::NoSession(_) => (
                Exit::Attention,
                "log in as this user, not by `su` or `sudo`, or have its services run without a login with \
                 `sudo loginctl enable-linger USER`; or install one of the machine with `--system`",
            ),
            HostError::NoUser => (Exit::Usage, "name the user with `--user NAME`, or use `sudo` as that user"),
            HostError::Foreign(_) => (
                Exit::Attention,
                "remove it, or replace it with `--force`; changes of your own belong in `systemctl edit`",
            ),
            HostError::NotInstalled(_) => (Exit::NotRunning, "`dstor-sync service install` first"),
            HostError::File { .. } => (Exit::Attention, "for a service of the machine, be root: `sudo`"),
            HostError::Refused { .. } => (
                Exit::Attention,
                "`dstor-sync service status` tells how it is; `journalctl` with `--user -u dstor-sync`, or with \
                 `-u 'dstor-sync@*'`, tells why",
            ),
        };
        let source = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::new(exit, format!("{error}{source}")).with_hint(hint)
    }
}
