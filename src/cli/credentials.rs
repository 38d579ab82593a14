//! How `init` and `login` come by credentials, and whether dStor takes them.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{
    CredentialFiles, CredentialSources, Dstor, Environment, Source, Store, given_key, given_login, typed_path,
};
use crate::dstor::{Client, ClientOptions, CredentialSource, Credentials};
use crate::ledger::Millis;
use crate::mirror::Fault;
use crate::plan::AssembleError;
use crate::wording::time;

use super::args::Account;
use super::ask::Asker;
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::setup;

/// Whoever waits for a first answer is told so after this long without one.
const PATIENCE: Duration = Duration::from_secs(20);
/// No secret is longer, in bytes.
const LONGEST_SECRET: u64 = 64 * 1024;

/// Credentials that a person gave, and where they are.
pub(super) enum Given {
    /// They are where they are looked for anyway.
    Found(Credentials, Source),
    /// In a file that the config can name.
    InFile(Credentials, CredentialFiles),
    /// An API key that is in no file yet.
    Key(SecretString),
    /// A login whose password is in no file yet.
    Login {
        /// The account's e-mail address.
        email: String,
        /// Its password.
        password: SecretString,
    },
}

impl Given {
    /// What dStor is asked with.
    pub(super) fn credentials(&self) -> Credentials {
        match self {
            Self::Found(credentials, _) | Self::InFile(credentials, _) => copy(credentials),
            Self::Key(key) => Credentials::ApiKey(key.clone()),
            Self::Login { email, password } => Credentials::Login { email: email.clone(), password: password.clone() },
        }
    }
}

/// The credentials that flags name, if they name any. A password that is missing beside its address is asked for.
pub(super) fn of_flags(account: &Account, asker: &Asker<'_>) -> Result<Option<Given>, Failure> {
    read_flags(account, asker).map_err(Failure::of_usage)
}

fn read_flags(account: &Account, asker: &Asker<'_>) -> Result<Option<Given>, Failure> {
    if let Some(file) = &account.api_key_file {
        if file == Path::new("-") {
            return key(&piped("--api-key-file")?).map(Some);
        }
        return in_file(CredentialFiles::ApiKey(std::path::absolute(file)?)).map(Some);
    }
    let Some(email) = account.email.clone() else { return Ok(None) };
    let password = match &account.password_file {
        Some(file) if file == Path::new("-") => piped("--password-file")?,
        Some(file) => {
            let password_file = std::path::absolute(file)?;
            return in_file(CredentialFiles::Login { email, password_file }).map(Some);
        }
        None => ask_for_password(asker)?,
    };
    login(&email, &password).map(Some)
}

/// A way to be known to dStor.
#[derive(Clone, Copy)]
enum Way {
    Found,
    Key,
    KeyFile,
    Login,
}

/// The credentials that are there already or, at a terminal, those that a person chooses.
pub(super) fn choose(
    store: &Store,
    environment: &Environment,
    asker: &Asker<'_>,
    output: &Output,
) -> Result<Given, Failure> {
    let none = || {
        Failure::new(Exit::Usage, "no credentials were given").with_hint(
            "name an API key's file with `--api-key-file`, or give `--email` and `--password-file`, or set DSTOR_API_KEY",
        )
    };
    let mut found = CredentialSources::unnamed(store, environment).load()?;
    if !asker.is_anyone_there() {
        let (credentials, source) = found.ok_or_else(none)?;
        return Ok(Given::Found(credentials, source));
    }
    let mut ways = Vec::new();
    if let Some((_, source)) = &found {
        ways.push((Way::Found, format!("what is in {source}")));
    }
    ways.push((Way::Key, "an API key, made in dStor's dashboard and pasted here".to_owned()));
    ways.push((Way::KeyFile, "an API key that is in a file".to_owned()));
    ways.push((Way::Login, "e-mail address and password".to_owned()));
    output.note("\nHow does dStor know you?");
    for (number, (_, told)) in (1..).zip(&ways) {
        output.note(format_args!("  {number}  {told}"));
    }
    loop {
        let answer = asker.line("Number", Some("1"))?.ok_or_else(none)?;
        let chosen = answer.parse::<usize>().ok().and_then(|number| ways.get(number.checked_sub(1)?));
        let given = match chosen.map(|(way, _)| way) {
            Some(Way::Found) => match found.take() {
                Some((credentials, source)) => Ok(Given::Found(credentials, source)),
                None => Err(none()),
            },
            Some(Way::Key) => ask_for_key(asker),
            Some(Way::KeyFile) => ask_for_key_file(environment, asker),
            Some(Way::Login) => ask_for_login(asker),
            None => {
                output.note(format_args!("type a number from 1 to {}", ways.len()));
                continue;
            }
        };
        match given {
            Ok(given) => return Ok(given),
            // Where the input ended, the next question ends it.
            Err(failure) => output.failure(&failure),
        }
    }
}

fn ask_for_key_file(environment: &Environment, asker: &Asker<'_>) -> Result<Given, Failure> {
    let typed = asker.line("File with the API key", None)?.unwrap_or_default();
    in_file(CredentialFiles::ApiKey(typed_path(&typed, environment)?))
}

fn ask_for_login(asker: &Asker<'_>) -> Result<Given, Failure> {
    let email = asker.line("E-mail address", None)?.unwrap_or_default();
    login(&email, &ask_for_password(asker)?)
}

/// An API key that a person is asked for.
pub(super) fn ask_for_key(asker: &Asker<'_>) -> Result<Given, Failure> {
    let typed = asker.hidden("API key")?.ok_or_else(|| {
        Failure::new(Exit::Usage, "no API key was given")
            .with_hint("name a file that holds it with `--api-key-file`, `-` for standard input")
    })?;
    key(&typed)
}

pub(super) fn ask_for_password(asker: &Asker<'_>) -> Result<SecretString, Failure> {
    asker.hidden("Password")?.ok_or_else(|| {
        Failure::new(Exit::Usage, "no password was given")
            .with_hint("name a file that holds it with `--password-file`, `-` for standard input")
    })
}

/// A login that a person gave.
pub(super) fn login(email: &str, password: &SecretString) -> Result<Given, Failure> {
    match given_login(email, password.expose_secret()).map_err(Failure::from).map_err(Failure::of_usage)? {
        Credentials::Login { email, password } => Ok(Given::Login { email, password }),
        Credentials::ApiKey(key) => Ok(Given::Key(key)),
    }
}

/// Blocking: the credentials in these files.
pub(super) fn in_file(files: CredentialFiles) -> Result<Given, Failure> {
    let found = CredentialSources::of_files(files.clone()).load()?;
    let (credentials, _) = found.ok_or_else(|| Failure::new(Exit::Usage, "no file with credentials is named"))?;
    Ok(Given::InFile(credentials, files))
}

fn key(typed: &SecretString) -> Result<Given, Failure> {
    match given_key(typed.expose_secret()).map_err(Failure::from).map_err(Failure::of_usage)? {
        Credentials::ApiKey(key) => Ok(Given::Key(key)),
        Credentials::Login { email, password } => Ok(Given::Login { email, password }),
    }
}

/// Blocking: a secret on standard input.
fn piped(flag: &str) -> Result<SecretString, Failure> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new(Exit::Usage, format!("`{flag} -` reads standard input, and that is a terminal"))
            .with_hint(format!("leave `{flag}` out to be asked, or pipe the secret in")));
    }
    let mut secret = String::new();
    // The error holds nothing of what was read.
    let read = stdin.lock().take(LONGEST_SECRET).read_to_string(&mut secret);
    read.map_err(|_| Failure::new(Exit::Usage, format!("`{flag} -`: standard input holds no text in UTF-8")))?;
    let line = secret.trim_end_matches(['\r', '\n']);
    Ok(SecretString::from(line))
}

/// Until when an access token holds, in milliseconds since 1970; `None`: it does not say.
pub(super) type Until = Option<Millis>;

/// Asks dStor for an access token, which is then forgotten: whether it takes these credentials.
///
/// # Errors
/// [`Exit::Credentials`] if it refuses them, [`Exit::Unreachable`] if there is no answer, or none that makes sense.
pub(super) fn test(url: &Url, dstor: &Dstor, credentials: &Credentials, output: &Output) -> Result<Until, Failure> {
    output.note(format_args!("asking {} …", url.as_str().trim_end_matches('/')));
    let given = copy(credentials);
    let source: CredentialSource = Arc::new(move || Ok(Some(copy(&given))));
    let options = ClientOptions {
        url: url.clone(),
        token_lifetime: dstor.token_lifetime,
        credentials: source,
        stall_timeout: PATIENCE,
        authorities: dstor.authorities()?,
    };
    let client = Client::new(options).map_err(AssembleError::Client)?;
    let runtime = setup::runtime()?;
    let leased = runtime.block_on(client.tokens().get(None));
    match leased {
        Ok(_) => Ok(client.tokens().facts().borrow().expires_at),
        Err(Fault::Credentials(_) | Fault::Quota(_)) => Err(refused(credentials)),
        Err(fault) => Err(Failure::new(Exit::Unreachable, fault.message()).with_hint(format!(
            "is {} the right address, and is there a network? `--no-check` goes on without asking dStor",
            url.as_str().trim_end_matches('/')
        ))),
    }
}

fn refused(credentials: &Credentials) -> Failure {
    let (what, hint) = match credentials {
        Credentials::ApiKey(_) => {
            ("API key", "was all of it copied? dStor's dashboard tells whether it has expired or was revoked")
        }
        Credentials::Login { .. } => ("e-mail address and password", "try them in dStor's dashboard"),
    };
    Failure::new(Exit::Credentials, format!("dStor refuses the {what}")).with_hint(hint)
}

/// Says that dStor took them, and for how long.
pub(super) fn say_taken(until: Until, credentials: &Credentials, output: &Output) {
    output.line(format_args!("credentials  {}", output.paint("dStor takes them", Tone::Good)));
    output.line(until.map_or_else(
        || "             the access token does not say until when it holds".to_owned(),
        |until| format!("             access token until {}, then a new one by itself", time(until)),
    ));
    if matches!(credentials, Credentials::ApiKey(_)) {
        output.line("             API key until a day that only dStor's dashboard tells");
    }
}

/// Says that nobody asked.
pub(super) fn say_untested(output: &Output) {
    output.line("credentials  not tested");
}

/// The paths as the config names them.
pub(super) fn files_of(given: &Given, api_key: PathBuf, password_file: PathBuf) -> CredentialFiles {
    match given {
        Given::Found(..) => CredentialFiles::None,
        Given::InFile(_, files) => files.clone(),
        Given::Key(_) => CredentialFiles::ApiKey(api_key),
        Given::Login { email, .. } => CredentialFiles::Login { email: email.clone(), password_file },
    }
}

fn copy(credentials: &Credentials) -> Credentials {
    match credentials {
        Credentials::ApiKey(key) => Credentials::ApiKey(key.clone()),
        Credentials::Login { email, password } => {
            Credentials::Login { email: email.clone(), password: password.clone() }
        }
    }
}
