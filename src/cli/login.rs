//! `login` and `logout`: credentials stored once dStor has taken them, and forgotten.

use std::path::Path;

use secrecy::ExposeSecret as _;

use crate::config::{
    self, Config, CredentialFiles, CredentialSources, Environment, Source, Store, keep_api_key, keep_password,
    kept_form,
};
use crate::desktop::{Keyring, KeyringError};
use crate::ledger::AgentLock;
use crate::status::Status;
use crate::wording::{shown, time};

use super::args::{Global, Login};
use super::ask::Asker;
use super::credentials::{self, Given};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places::overrides;

pub(super) fn login(global: &Global, command: &Login, output: &Output) -> Result<Exit, Failure> {
    let (overrides, environment) = (overrides(global, None), Environment::of_process());
    let store = Store::beside(&config::config_path(&overrides, &environment)?);
    let config = Config::load_if_any(&overrides, &environment)?;
    let asker = Asker::new(output, true)?;
    let named = &config.dstor.credential_files;
    let given = match (credentials::of_flags(&command.account, &asker)?, named) {
        (Some(given), _) => in_no_file(given),
        (None, CredentialFiles::Login { email, .. }) => {
            output.note(format_args!("for {}, which the configuration names", shown(email)));
            credentials::login(email, &credentials::ask_for_password(&asker)?)?
        }
        (None, CredentialFiles::None | CredentialFiles::ApiKey(_)) => credentials::ask_for_key(&asker)?,
    };
    fits(&given, named)?;
    let keyring = environment.session_bus().map(|bus| Keyring::new(bus, config.dstor.url.as_str()));
    // Looked at before dStor is asked: nobody wants to give a key twice.
    let chosen = choose(command, named, keyring.as_ref())?;
    if command.account.no_check {
        credentials::say_untested(output);
    } else {
        let until = credentials::test(&config.dstor.url, &config.dstor, &given.credentials(), output)?;
        credentials::say_taken(until, &given.credentials(), output);
    }
    if let Some(keyring) = chosen {
        keyring.keep(&kept_form(&given.credentials())).map_err(no_keyring)?;
        output.line("stored       the desktop's keyring");
        // They would come before it.
        for file in store.forget()? {
            output.line(format_args!("forgot       {}", shown(&file)));
        }
        output.note("note: an agent that runs while you are not logged in waits for it; `--file` keeps them in a file");
    } else {
        let kept = keep(&given, named, &store)?;
        output.line(format_args!("stored       {}", shown(&kept)));
        if let Some(Ok(true)) = keyring.map(|keyring| keyring.forget()) {
            output.line("forgot       what was in the desktop's keyring");
        }
    }
    if let Ok(Some((_, source @ (Source::ApiKeyVariable | Source::LoginVariables)))) =
        CredentialSources::new(&config, &environment).load()
    {
        output.note(format_args!("note: {source} comes before it, as long as that is set"));
    }
    Ok(Exit::Fine)
}

/// The keyring, if they are to be kept there.
fn choose<'a>(
    command: &Login,
    named: &CredentialFiles,
    keyring: Option<&'a Keyring>,
) -> Result<Option<&'a Keyring>, Failure> {
    if *named != CredentialFiles::None && command.keyring {
        let what = "the configuration names a file with credentials, which comes before the keyring";
        return Err(Failure::new(Exit::Usage, what).with_hint("take it out of [dstor], or leave `--keyring` out"));
    }
    if command.file || *named != CredentialFiles::None {
        return Ok(None);
    }
    let found = keyring.filter(|keyring| keyring.is_there());
    if found.is_none() && command.keyring {
        return Err(no_keyring(KeyringError::Absent));
    }
    Ok(found)
}

fn no_keyring(error: KeyringError) -> Failure {
    let hint = match error {
        KeyringError::Locked => "unlock it in the desktop's settings, or by logging in; `--file` does without it",
        KeyringError::Absent | KeyringError::Failed(_) => "`--file` keeps them in a file that only you can read",
    };
    Failure::new(Exit::Attention, shown(error.to_string())).with_hint(hint)
}

/// Credentials of a file are stored as those that are typed are: what the config names is named already.
fn in_no_file(given: Given) -> Given {
    match given {
        Given::Found(..) | Given::InFile(..) => match given.credentials() {
            crate::dstor::Credentials::ApiKey(key) => Given::Key(key),
            crate::dstor::Credentials::Login { email, password } => Given::Login { email, password },
        },
        Given::Key(_) | Given::Login { .. } => given,
    }
}

/// What the config names comes before what is stored, so it has to be of the same kind.
fn fits(given: &Given, named: &CredentialFiles) -> Result<(), Failure> {
    let (what, hint) = match (given, named) {
        (Given::Key(_), CredentialFiles::Login { .. }) => {
            ("a login, and this is an API key", "leave the flag out to give the password, or change [dstor] there")
        }
        (Given::Login { .. }, CredentialFiles::ApiKey(_)) => (
            "a file with an API key, and this is a login",
            "leave `--email` out to give a key, or change [dstor] there",
        ),
        (Given::Login { email, .. }, CredentialFiles::Login { email: named, .. }) if email != named => {
            ("another e-mail address", "give that one, or change `email` there")
        }
        _ => return Ok(()),
    };
    Err(Failure::new(Exit::Usage, format!("the configuration names {what}")).with_hint(hint))
}

/// Blocking: stores them where they are looked for. Returns the file.
fn keep(given: &Given, named: &CredentialFiles, store: &Store) -> Result<std::path::PathBuf, Failure> {
    match (given, named) {
        (Given::Key(key), CredentialFiles::ApiKey(file)) => {
            keep_api_key(file, key.expose_secret())?;
            Ok(file.clone())
        }
        (Given::Login { password, .. }, CredentialFiles::Login { password_file, .. }) => {
            keep_password(password_file, password.expose_secret())?;
            Ok(password_file.clone())
        }
        (Given::Login { email, password }, _) => {
            store.keep_login(email, password.expose_secret())?;
            Ok(store.login())
        }
        (Given::Key(key), _) => {
            store.keep_api_key(key.expose_secret())?;
            Ok(store.api_key())
        }
        (Given::Found(..) | Given::InFile(..), _) => Err(Failure::new(Exit::Attention, "they are stored already")),
    }
}

pub(super) fn logout(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let (overrides, environment) = (overrides(global, None), Environment::of_process());
    let store = Store::beside(&config::config_path(&overrides, &environment)?);
    // Forgetting comes first, and needs no config that is right.
    let forgotten = store.forget()?;
    for file in &forgotten {
        output.line(format_args!("forgot       {}", shown(file)));
    }
    let config = Config::load_if_any(&overrides, &environment);
    let in_keyring = forget_in_keyring(config.as_ref().ok(), &environment);
    if let Ok(true) = in_keyring {
        output.line("forgot       what was in the desktop's keyring");
    }
    if forgotten.is_empty() && matches!(in_keyring, Ok(false)) {
        output.line("nothing was stored");
    }
    for left in environment.credentials() {
        output.line(format_args!("left         {left}"));
    }
    let named = config.as_ref().ok().map(|config| &config.dstor.credential_files);
    let left = match named {
        Some(CredentialFiles::ApiKey(file) | CredentialFiles::Login { password_file: file, .. }) => Some(file),
        Some(CredentialFiles::None) | None => None,
    };
    if let Some(file) = left.filter(|file| file.exists()) {
        output.line(format_args!("left         {}", shown(file)));
        output.line("             which the configuration names; remove it yourself");
    }
    if let Err(errors) = &config {
        output.note(format_args!("warning: {}", shown(errors.to_string())));
        output.note("hint: whatever file with credentials it may name was left");
    }
    say_who_goes_on(&config::state_dir(&overrides, &environment)?, output);
    match in_keyring {
        Ok(_) => Ok(Exit::Fine),
        Err(error) => {
            let hint = match error {
                KeyringError::Locked => "unlock it in the desktop's settings, then `dstor-sync logout` once more",
                KeyringError::Absent | KeyringError::Failed(_) => "`dstor-sync logout` once more when it works",
            };
            Err(Failure::new(Exit::Attention, format!("{}; what is in it was left", shown(error.to_string())))
                .with_hint(hint))
        }
    }
}

/// Blocking: forgets the entry for the configured dStor; whether there was one.
fn forget_in_keyring(config: Option<&Config>, environment: &Environment) -> Result<bool, KeyringError> {
    let (Some(config), Some(bus)) = (config, environment.session_bus()) else { return Ok(false) };
    match Keyring::new(bus, config.dstor.url.as_str()).forget() {
        Err(KeyringError::Absent) => Ok(false),
        forgot => forgot,
    }
}

/// An agent that runs has an access token, which holds until it ends.
fn say_who_goes_on(state_dir: &Path, output: &Output) {
    if !AgentLock::is_held(state_dir) {
        return;
    }
    let until = Status::read(state_dir).ok().and_then(|status| status.dstor.token_expires_at);
    let until = until.map(|until| format!(" until {}", time(until.0))).unwrap_or_default();
    output.note(format_args!("note: the agent that runs may go on with its access token{until}; stop it to end that"));
}
