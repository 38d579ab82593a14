//! `config check` and `config show`.

use crate::config::{Config, CredentialSources, Environment, Source};
use crate::dstor::Credentials;
use crate::wording::shown;

use super::args::Global;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places::overrides;

pub(super) fn check(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let config = Config::load(&overrides(global, None), &environment)?;
    let credentials = credentials(&config, &environment)?;
    for warning in config.warnings() {
        output.note(format_args!("warning: {warning}"));
    }
    let mut exit = Exit::Fine;
    for mirror in config.missing_mirrors() {
        output.note(format_args!("error: the mirror `{}` does not exist", shown(&mirror.path)));
        output.note("hint: make the directory, mount its disk, or correct the path");
        exit = Exit::Attention;
    }
    match &credentials {
        Some((_, source)) => output.line(format_args!("credentials from {source}")),
        None => {
            output.note("error: there are no credentials");
            output.note(
                "hint: `dstor-sync login` stores them; or set DSTOR_API_KEY, or `api_key_file` in the configuration",
            );
            exit = Exit::Credentials;
        }
    }
    for mirror in &config.mirrors {
        output.line(format_args!("mirror {} → {}", shown(&mirror.path), mirror.policy.placement));
    }
    if exit == Exit::Fine {
        output.line("the configuration is fine");
    }
    Ok(exit)
}

/// The credentials in use. A keyring that is locked is no fault of the configuration.
fn credentials(config: &Config, environment: &Environment) -> Result<Option<(Credentials, Source)>, Failure> {
    let sources = CredentialSources::new(config, environment);
    sources.check()?;
    sources.load().map_err(|error| Failure { exit: Exit::Credentials, ..error.into() })
}

pub(super) fn show(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let environment = Environment::of_process();
    let config = Config::load(&overrides(global, None), &environment)?;
    let credentials = credentials(&config, &environment)?;
    output.line(config.effective(credentials.as_ref().map(|(_, source)| source)).trim_end());
    Ok(Exit::Fine)
}
