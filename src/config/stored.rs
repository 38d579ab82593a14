//! What `login` and `init` keep beside the config: an API key, or a login.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::credentials::{self, API_KEY_FILE, PASSWORD_FILE, Source};
use super::error::quoted;
use super::guarded::Guarded;
use super::keep::{self, Older};
use super::{Config, ConfigError, Environment, Overrides, places};
use crate::dstor::Credentials;

/// The key, and nothing else.
const API_KEY: &str = "api-key";
/// The password of the login that the config names, and nothing else.
const PASSWORD: &str = "password";
/// The e-mail address on the first line, the password on the second.
const LOGIN: &str = "login";
const LOGIN_FILE: &str = "the login file";

/// The directory of the config, as a place for secrets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// The place beside the config `file`.
    #[must_use]
    pub fn beside(file: &Path) -> Self {
        Self { directory: file.parent().unwrap_or(Path::new("/")).to_owned() }
    }

    /// The place beside the config that was read, or else beside where the user's own would be; `None` without a home.
    pub(super) fn of(config: &Config, environment: &Environment) -> Option<Self> {
        match &config.source {
            Some(file) => Some(Self::beside(file)),
            None => places::config_path(&Overrides::default(), environment).ok().map(|file| Self::beside(&file)),
        }
    }

    /// Where an API key is kept.
    #[must_use]
    pub fn api_key(&self) -> PathBuf {
        self.directory.join(API_KEY)
    }

    /// Where the password of a login that the config names is kept.
    #[must_use]
    pub fn password(&self) -> PathBuf {
        self.directory.join(PASSWORD)
    }

    /// Where a login that no config names is kept.
    #[must_use]
    pub fn login(&self) -> PathBuf {
        self.directory.join(LOGIN)
    }

    /// All files that it may hold.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 3] {
        [self.api_key(), self.login(), self.password()]
    }

    /// Blocking: what was stored, where no config names a file: the key, else the login.
    pub(super) fn load(&self) -> Result<Option<(Credentials, Source)>, ConfigError> {
        if let Some(key) = Guarded::Secret(API_KEY_FILE).read(&self.api_key())? {
            return credentials::found_in(self.api_key(), credentials::api_key(&key)).map(Some);
        }
        let Some(text) = Guarded::Secret(LOGIN_FILE).read(&self.login())? else { return Ok(None) };
        let (email, password) = text.split_once('\n').unwrap_or((&text, ""));
        credentials::found_in(self.login(), credentials::login(email, password)).map(Some)
    }

    /// Blocking: keeps an API key, whatever was stored before.
    ///
    /// # Errors
    /// [`ConfigError`] as the file system says.
    pub fn keep_api_key(&self, key: &str) -> Result<(), ConfigError> {
        keep_secret(&self.api_key(), API_KEY_FILE, key)
    }

    /// Blocking: keeps a login that no config names, and forgets a stored key, which would come before it.
    ///
    /// # Errors
    /// [`ConfigError`] as the file system says.
    pub fn keep_login(&self, email: &str, password: &str) -> Result<(), ConfigError> {
        keep_secret(&self.login(), LOGIN_FILE, &format!("{email}\n{password}"))?;
        forget(&self.api_key()).map(|_| ())
    }

    /// Blocking: removes whatever is stored. Returns what was there.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that cannot be removed.
    pub fn forget(&self) -> Result<Vec<PathBuf>, ConfigError> {
        let mut forgotten = Vec::new();
        for file in self.files() {
            if forget(&file)? {
                forgotten.push(file);
            }
        }
        Ok(forgotten)
    }
}

/// The form in which the keyring has what is stored: a key is one line, a login two.
pub(super) fn read(text: &str) -> Result<Credentials, credentials::Unusable> {
    match text.trim_end_matches(['\r', '\n']).split_once('\n') {
        Some((email, password)) => credentials::login(email, password),
        None => credentials::api_key(text),
    }
}

/// The form in which credentials are kept in a keyring.
#[must_use]
pub fn kept_form(credentials: &Credentials) -> SecretString {
    match credentials {
        Credentials::ApiKey(key) => key.clone(),
        Credentials::Login { email, password } => format!("{email}\n{}", password.expose_secret()).into(),
    }
}

/// Blocking: keeps a secret in this file, in place of what is in it; its directory is made if it is not there.
fn keep_secret(path: &Path, name: &'static str, secret: &str) -> Result<(), ConfigError> {
    let kept = keep::private_directory(path.parent().unwrap_or(Path::new("/")))
        .and_then(|()| keep::keep(path, &format!("{secret}\n"), Older::Goes));
    kept.map_err(|cause| cannot_write(name, path, cause))
}

/// Blocking: keeps the password of a login that the config names.
///
/// # Errors
/// [`ConfigError`] as the file system says.
pub fn keep_password(path: &Path, password: &str) -> Result<(), ConfigError> {
    keep_secret(path, PASSWORD_FILE, password)
}

/// Blocking: keeps an API key where the config names it.
///
/// # Errors
/// [`ConfigError`] as the file system says.
pub fn keep_api_key(path: &Path, key: &str) -> Result<(), ConfigError> {
    keep_secret(path, API_KEY_FILE, key)
}

fn forget(path: &Path) -> Result<bool, ConfigError> {
    keep::forget(path).map_err(|cause| {
        ConfigError::new(format!("cannot remove {}", quoted(path)))
            .because(cause)
            .with_hint("remove it by hand: it may hold credentials")
    })
}

pub(super) fn cannot_write(name: &str, path: &Path, cause: io::Error) -> ConfigError {
    ConfigError::new(format!("cannot write {name} {}", quoted(path)))
        .because(cause)
        .with_hint("its directory has to be yours, and its disk needs room")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_comes_before_a_login_and_a_login_takes_its_place() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::beside(&folder.path().join("c/config.toml"));
        let load = || store.load().unwrap_or_else(|error| panic!("{error}"));
        assert!(load().is_none() && store.forget().expect("nothing to do").is_empty());
        store.keep_login("me@example.org", "two words").expect("kept");
        let login = Credentials::Login { email: "me@example.org".into(), password: "two words".into() };
        assert!(load() == Some((login, Source::File(store.login()))));
        store.keep_api_key("a-key").expect("kept");
        assert!(load() == Some((Credentials::ApiKey("a-key".into()), Source::File(store.api_key()))));
        store.keep_login("me@example.org", "p").expect("kept");
        assert!(load().is_some_and(|(_, source)| source == Source::File(store.login())));
        assert_eq!(store.forget().expect("removed"), [store.login()]);
        assert!(load().is_none());
    }

    #[test]
    fn what_is_kept_in_a_keyring_is_read_as_it_was_given() {
        let login = Credentials::Login { email: "me@example.org".into(), password: " two words ".into() };
        for credentials in [Credentials::ApiKey("a-key".into()), login] {
            let kept = kept_form(&credentials);
            assert!(read(kept.expose_secret()).is_ok_and(|read| read == credentials));
        }
        // As a person puts it there by other means.
        assert!(read("a-key\n").is_ok_and(|read| read == Credentials::ApiKey("a-key".into())));
        assert!(read("").is_err() && read("me@example.org\n\n").is_err() && read("two words").is_err());
    }

    #[test]
    fn what_others_could_read_or_is_half_is_refused_and_not_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::beside(&folder.path().join("config.toml"));
        store.keep_api_key("hunter2").expect("kept");
        fs::set_permissions(store.api_key(), fs::Permissions::from_mode(0o644)).expect("ours");
        let error = store.load().expect_err("it is refused");
        assert!(error.to_string().starts_with("others can read the API key file"), "{error}");
        store.forget().expect("removed");
        fs::write(store.login(), "hunter2").expect("written");
        fs::set_permissions(store.login(), fs::Permissions::from_mode(0o600)).expect("ours");
        let error = store.load().expect_err("it is refused");
        assert!(error.to_string().ends_with("the password is empty"), "{error}");
        assert!(!error.to_string().contains("hunter2"));
    }
}
