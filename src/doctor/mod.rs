//! What is looked at on the day something is wrong: each check names what it found and, where it is not well, what to do.
//!
//! It changes nothing, and needs nothing: no config, no network, no home directory, no agent. What cannot be looked at is
//! said, and the rest is looked at all the same. The one thing that it asks of dStor is an access token.
//!
//! | here | what it looks at |
//! |---|---|
//! | `remote` | credentials, the way to dStor, the clock |
//! | `state` | the state directory, its disk, the ledger, the agent |
//! | `mirrors` | the mirrors' directories, how they are watched, what a person is to know of their files |
//! | `service` | what systemd knows of the agent |

mod mirrors;
mod remote;
mod service;
mod state;

use std::path::PathBuf;

use serde::Serialize;

use crate::config::service_url;
use crate::config::{Config, ConfigError, ConfigErrors, CredentialFiles, CredentialSources, Dstor, Environment};

/// The form of the JSON.
const SCHEMA: u32 = 1;

/// Whom it is about.
pub struct Patient {
    /// The configuration, or what is wrong with it.
    pub config: Result<Config, ConfigErrors>,
    /// Whether a configuration file was found or named.
    pub has_config: bool,
    /// The state directory, or why there is none.
    pub state_dir: Result<PathBuf, ConfigError>,
    /// The environment that both come from.
    pub environment: Environment,
    /// Whether the remote is the local dStor of `run --sandbox`: it needs no configuration and no network.
    pub is_sandbox: bool,
    /// Whether the network is left alone.
    pub is_offline: bool,
}

/// What somebody has to see to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Needs {
    /// The configuration: nothing else can be right before.
    Config,
    /// Credentials.
    Credentials,
    /// Anything else that only a person can do.
    Hands,
    /// The network or the service, which may mend themselves.
    Network,
}

/// What a check found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is well.
    Ok,
    /// It was not looked at.
    Skipped,
    /// It goes on like that; what could be done about it.
    Warn(String),
    /// It does not go on like that; who has to see to it, and what to do.
    Bad(Needs, String),
}

/// One line of the report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was looked at: a fixed word.
    pub name: &'static str,
    /// What was found, in a word.
    pub verdict: Verdict,
    /// What was found, for a person.
    pub what: String,
}

impl Check {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, what: what.into() }
    }

    fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Skipped, what: why.into() }
    }

    fn warn(name: &'static str, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Warn(hint.into()), what: what.into() }
    }

    fn bad(name: &'static str, needs: Needs, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Bad(needs, hint.into()), what: what.into() }
    }

    /// `ok`, `warn`, `bad` or `skip`.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Skipped => "skip",
            Verdict::Warn(_) => "warn",
            Verdict::Bad(..) => "bad",
        }
    }

    /// What to do, where it is not well.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match &self.verdict {
            Verdict::Ok | Verdict::Skipped => None,
            Verdict::Warn(hint) | Verdict::Bad(_, hint) => Some(hint),
        }
    }
}

/// All that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report(pub Vec<Check>);

impl Report {
    /// What has to be seen to first; `None`: nothing has to.
    #[must_use]
    pub fn first_need(&self) -> Option<Needs> {
        let needs = |check: &Check| match check.verdict {
            Verdict::Bad(needs, _) => Some(needs),
            Verdict::Ok | Verdict::Skipped | Verdict::Warn(_) => None,
        };
        self.0.iter().filter_map(needs).min()
    }

    /// How many checks came out with this word.
    #[must_use]
    pub fn count(&self, word: &str) -> usize {
        self.0.iter().filter(|check| check.word() == word).count()
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Json<'a> {
            schema: u32,
            ok: usize,
            warn: usize,
            bad: usize,
            skip: usize,
            checks: Vec<Line<'a>>,
        }
        #[derive(Serialize)]
        struct Line<'a> {
            check: &'static str,
            result: &'static str,
            message: &'a str,
            hint: Option<&'a str>,
        }
        let mut checks = Vec::new();
        for check in &self.0 {
            checks.push(Line { check: check.name, result: check.word(), message: &check.what, hint: check.hint() });
        }
        let [ok, warn, bad, skip] = ["ok", "warn", "bad", "skip"].map(|word| self.count(word));
        Json { schema: SCHEMA, ok, warn, bad, skip, checks }.serialize(serializer)
    }
}

/// Looks at everything. Takes a second or two for a million files, and up to half a minute where the network is silent.
pub async fn examine(patient: &Patient) -> Report {
    let state = tokio::task::block_in_place(|| state::look(patient));
    let mut checks = config(patient, state.knows_mirrors());
    checks.extend(state.checks.iter().cloned());
    checks.push(tokio::task::block_in_place(|| service::look(&patient.environment, state.is_alive())));
    checks.extend(remote(patient, state.url()).await);
    checks.extend(tokio::task::block_in_place(|| mirrors::look(patient, &state)));
    Report(checks)
}

fn config(patient: &Patient, has_ledger: bool) -> Vec<Check> {
    const NAME: &str = "config";
    let errors = match &patient.config {
        Ok(config) => {
            let source = config.source.as_ref().map_or_else(String::new, |file| format!("`{}`, ", file.display()));
            let mirrors = match config.mirrors.len() {
                1 => "1 mirror".to_owned(),
                more => format!("{more} mirrors"),
            };
            let warnings = config.warnings().into_iter().map(|warning| Check::warn(NAME, warning.what, warning.so));
            return std::iter::once(Check::ok(NAME, format!("{source}{mirrors}"))).chain(warnings).collect();
        }
        Err(errors) => errors,
    };
    if patient.is_sandbox {
        return vec![Check::skipped(NAME, "`run --sandbox` needs none")];
    }
    if !patient.has_config && has_ledger {
        let what = "there is none; the mirrors are those that the agent was given when it ran last";
        return vec![Check::warn(
            NAME,
            what,
            "`dstor-sync run` without a directory needs one; `dstor-sync init` writes it",
        )];
    }
    errors.iter().map(|error| of_config(NAME, error)).collect()
}

fn of_config(name: &'static str, error: &ConfigError) -> Check {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
    let hint = error.hint().unwrap_or("correct it; `dstor-sync config check` says whether all is well");
    Check::bad(name, Needs::Config, format!("{error}{cause}"), hint)
}

/// Credentials, dStor and clock.
async fn remote(patient: &Patient, known: Option<String>) -> Vec<Check> {
    if patient.is_sandbox {
        return remote::all_skipped("`run --sandbox` brings its own dStor");
    }
    let fallback;
    let config = match &patient.config {
        Ok(config) => config,
        // Whoever gives everything by variables has no file.
        Err(_) if !patient.has_config => match by_variables(&patient.environment, known) {
            Ok(config) => {
                fallback = config;
                &fallback
            }
            Err(error) => return vec![of_config("dstor", &error)],
        },
        Err(_) => return remote::all_skipped("the configuration says where, and cannot be used"),
    };
    let sources = CredentialSources::new(config, &patient.environment);
    remote::look(&config.dstor, sources, patient.is_offline).await
}

/// What `run DIR` would go by without a file. Nothing is sent where a file could not have it sent.
fn by_variables(environment: &Environment, known: Option<String>) -> Result<Config, ConfigError> {
    let named = environment.get("DSTOR_URL").map(|url| url.to_string_lossy().into_owned());
    let url = match named.or(known) {
        Some(url) => service_url(&url)?,
        None => Dstor::default().url,
    };
    let dstor = Dstor { url, credential_files: CredentialFiles::None, ..Dstor::default() };
    Ok(Config { dstor, ..Config::without_file() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_must_do_comes_before_what_may_mend_itself_and_the_config_before_all() {
        let bad = |needs| Check::bad("x", needs, "what", "hint");
        let mut report =
            Report(vec![Check::ok("a", "fine"), Check::warn("b", "what", "hint"), Check::skipped("c", "why")]);
        assert_eq!(report.first_need(), None);
        for needs in [Needs::Network, Needs::Hands, Needs::Credentials, Needs::Config] {
            report.0.push(bad(needs));
            assert_eq!(report.first_need(), Some(needs));
        }
        assert_eq!(["ok", "warn", "bad", "skip"].map(|word| report.count(word)), [1, 1, 4, 1]);
    }
}
