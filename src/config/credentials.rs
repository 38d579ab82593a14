//! Where credentials are looked for: environment variables, what systemd hands over, the files named in the config, what
//! `login` stored beside it, the desktop's keyring.

use std::fmt;
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret as _;

use super::error::{plain, quoted};
use super::guarded::Guarded;
use super::stored::{self, Store};
use super::{Config, ConfigError, CredentialFiles, Environment};
use crate::desktop::{Keyring, KeyringError};
use crate::dstor::Credentials;

pub(super) const API_KEY_FILE: &str = "the API key file";
pub(super) const PASSWORD_FILE: &str = "the password file";

/// Where credentials came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The environment variable `DSTOR_API_KEY`.
    ApiKeyVariable,
    /// The environment variables `DSTOR_EMAIL` and `DSTOR_PASSWORD`.
    LoginVariables,
    /// This file.
    File(PathBuf),
    /// The desktop's keyring.
    Keyring,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ApiKeyVariable => f.write_str("the environment variable DSTOR_API_KEY"),
            Self::LoginVariables => f.write_str("the environment variables DSTOR_EMAIL and DSTOR_PASSWORD"),
            Self::File(path) => write!(f, "the file {}", quoted(path)),
            Self::Keyring => f.write_str("the desktop's keyring"),
        }
    }
}

/// All the places where credentials may be. It holds no secret longer than the environment does.
#[derive(Clone, Debug)]
pub struct CredentialSources {
    environment: Environment,
    files: CredentialFiles,
    stored: Option<Store>,
    keyring: Option<Keyring>,
}

impl CredentialSources {
    /// The places that `environment` and `config` name.
    #[must_use]
    pub fn new(config: &Config, environment: &Environment) -> Self {
        Self {
            environment: environment.clone(),
            files: config.dstor.credential_files.clone(),
            stored: Store::of(config, environment),
            keyring: environment.session_bus().map(|bus| Keyring::new(bus, config.dstor.url.as_str())),
        }
    }

    /// The places that need no config to name them, save the keyring.
    #[must_use]
    pub fn unnamed(store: &Store, environment: &Environment) -> Self {
        let (environment, stored) = (environment.clone(), Some(store.clone()));
        Self { environment, files: CredentialFiles::None, stored, keyring: None }
    }

    /// These files alone.
    #[must_use]
    pub fn of_files(files: CredentialFiles) -> Self {
        Self { environment: Environment::default(), files, stored: None, keyring: None }
    }

    /// Blocking: the first credentials found, read anew each time. `None`: no place is named, systemd hands nothing over, and
    /// nothing is stored.
    ///
    /// # Errors
    /// [`ConfigError`] if the first place that is named has none that can be used, or if they are in a keyring that is locked.
    pub fn load(&self) -> Result<Option<(Credentials, Source)>, ConfigError> {
        match self.load_beside_keyring()? {
            None if self.files == CredentialFiles::None => self.load_from_keyring(),
            found => Ok(found),
        }
    }

    /// Blocking: looks whether the places that are there before a person logs in can be used. A keyring is none: it may be
    /// there, and unlocked, later.
    ///
    /// # Errors
    /// [`ConfigError`] if the first place that is named has none that can be used.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.load_beside_keyring().map(|_| ())
    }

    fn load_from_keyring(&self) -> Result<Option<(Credentials, Source)>, ConfigError> {
        let Some(keyring) = &self.keyring else { return Ok(None) };
        match keyring.load() {
            Ok(Some(secret)) => match stored::read(secret.expose_secret()) {
                Ok(credentials) => Ok(Some((credentials, Source::Keyring))),
                Err(fault) => Err(fault.of(&Source::Keyring)),
            },
            Ok(None) | Err(KeyringError::Absent) => Ok(None),
            Err(error @ KeyringError::Locked) => Err(ConfigError::new(plain(error.to_string())).with_hint(
                "log in to the desktop or unlock it there; `dstor-sync login --file` keeps them in a file instead",
            )),
            Err(error @ KeyringError::Failed(_)) => Err(ConfigError::new(plain(error.to_string()))
                .with_hint("`dstor-sync login --file` keeps them in a file instead")),
        }
    }

    fn load_beside_keyring(&self) -> Result<Option<(Credentials, Source)>, ConfigError> {
        if let Some(key) = self.variable("DSTOR_API_KEY")? {
            let key = api_key(key).map_err(|fault| fault.of(&Source::ApiKeyVariable))?;
            return Ok(Some((key, Source::ApiKeyVariable)));
        }
        match (self.variable("DSTOR_EMAIL")?, self.variable("DSTOR_PASSWORD")?) {
            (None, None) => {}
            (Some(email), Some(password)) => {
                let login = login(email, password).map_err(|fault| fault.of(&Source::LoginVariables))?;
                return Ok(Some((login, Source::LoginVariables)));
            }
            (Some(_), None) => return Err(alone("DSTOR_EMAIL", "DSTOR_PASSWORD")),
            (None, Some(_)) => return Err(alone("DSTOR_PASSWORD", "DSTOR_EMAIL")),
        }
        if let Some(directory) = self.environment.get("CREDENTIALS_DIRECTORY") {
            let path = Path::new(directory).join("api-key");
            if let Some(key) = Guarded::Handed.read(&path)? {
                return found_in(path, api_key(&key)).map(Some);
            }
        }
        match &self.files {
            CredentialFiles::None => self.stored.as_ref().map_or(Ok(None), Store::load),
            CredentialFiles::ApiKey(path) => {
                let key = secret(path, API_KEY_FILE)?;
                found_in(path.clone(), api_key(&key)).map(Some)
            }
            CredentialFiles::Login { email, password_file } => {
                let password = secret(password_file, PASSWORD_FILE)?;
                found_in(password_file.clone(), login(email, &password)).map(Some)
            }
        }
    }

    fn variable(&self, name: &str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.environment.get(name) else { return Ok(None) };
        let text = value.to_str().ok_or_else(|| {
            ConfigError::new(format!("the environment variable {name} is not text in UTF-8"))
                .with_hint(format!("set {name} anew, or unset it"))
        })?;
        Ok(Some(text))
    }
}

fn alone(given: &str, missing: &str) -> ConfigError {
    ConfigError::new(format!("the environment variable {given} is set, and {missing} is not"))
        .with_hint(format!("set both, or unset {given}"))
}

/// Blocking: the text of a file that the config names.
fn secret(path: &Path, name: &'static str) -> Result<String, ConfigError> {
    Guarded::Secret(name).read(path)?.ok_or_else(|| {
        ConfigError::new(format!("{name} {} does not exist", quoted(path)))
            .with_hint("`dstor-sync login` writes it; or correct the path in the configuration")
    })
}

pub(super) fn found_in(
    path: PathBuf,
    credentials: Result<Credentials, Unusable>,
) -> Result<(Credentials, Source), ConfigError> {
    let source = Source::File(path);
    match credentials {
        Ok(credentials) => Ok((credentials, source)),
        Err(fault) => Err(fault.of(&source)),
    }
}

/// Why a text cannot be a secret. The text itself is never told.
pub(super) struct Unusable(&'static str);

impl Unusable {
    fn of(self, source: &Source) -> ConfigError {
        ConfigError::new(format!("the credentials in {source} cannot be used: {}", self.0))
            .with_hint("put the secret there, alone and on one line")
    }
}

/// An API key that a person gave, by hand or through a pipe: blanks around it are not part of it.
///
/// # Errors
/// [`ConfigError`] if it can be none. It is not repeated.
pub fn given_key(text: &str) -> Result<Credentials, ConfigError> {
    api_key(text.trim()).map_err(|Unusable(why)| ConfigError::new(why).with_hint("give the key and nothing else"))
}

/// A login that a person gave.
///
/// # Errors
/// [`ConfigError`] if it can be none. The password is not repeated.
pub fn given_login(email: &str, password: &str) -> Result<Credentials, ConfigError> {
    login(email, password)
        .map_err(|Unusable(why)| ConfigError::new(why).with_hint("give it on one line, and nothing else"))
}

/// A key travels as an HTTP header: visible ASCII only.
pub(super) fn api_key(text: &str) -> Result<Credentials, Unusable> {
    let key = without_newline(text);
    if key.is_empty() {
        return Err(Unusable("the API key is empty"));
    }
    if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Unusable("the API key holds white space or control characters"));
    }
    if !key.is_ascii() {
        return Err(Unusable("the API key holds characters that are not ASCII"));
    }
    Ok(Credentials::ApiKey(key.into()))
}

/// A password may hold blanks.
pub(super) fn login(email: &str, password: &str) -> Result<Credentials, Unusable> {
    let (email, password) = (without_newline(email), without_newline(password));
    if email.is_empty() {
        return Err(Unusable("the e-mail address is empty"));
    }
    if email.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Unusable("the e-mail address holds white space or control characters"));
    }
    if password.trim().is_empty() {
        return Err(Unusable("the password is empty"));
    }
    if password.chars().any(char::is_control) {
        return Err(Unusable("the password holds control characters or more than one line"));
    }
    Ok(Credentials::Login { email: email.to_owned(), password: password.into() })
}

/// Editors and `echo` end a file with a newline.
fn without_newline(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Dstor;

    struct World {
        folder: tempfile::TempDir,
        variables: Vec<(&'static str, String)>,
        files: CredentialFiles,
    }

    impl World {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            Self { folder, variables: Vec::new(), files: CredentialFiles::None }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, text: impl AsRef<[u8]>) {
            fs::write(self.path(name), text).expect("written");
            fs::set_permissions(self.path(name), Permissions::from_mode(0o600)).expect("ours");
        }

        fn sources(&self) -> CredentialSources {
            let dstor = Dstor { credential_files: self.files.clone(), ..Dstor::default() };
            let config = Config { dstor, ..Config::without_file() };
            CredentialSources::new(&config, &Environment::from_pairs(self.variables.iter().cloned()))
        }

        fn found(&self) -> Option<(Credentials, Source)> {
            self.sources().load().unwrap_or_else(|error| panic!("{error}"))
        }

        /// The refusal with its hint, and the folder as `TOP`.
        fn refusal(&self) -> String {
            let error = self.sources().load().expect_err("it is refused");
            let told = format!("{error}\n  hint: {}", error.hint().unwrap_or("none"));
            told.replace(&self.folder.path().display().to_string(), "TOP")
        }
    }

    fn key(text: &str) -> Credentials {
        Credentials::ApiKey(text.into())
    }

    fn assert_found(world: &World, credentials: &Credentials, source: &Source) {
        let (found, from) = world.found().expect("there are credentials");
        assert!(found == *credentials && from == *source, "{found:?} from {from}");
    }

    #[test]
    fn the_first_of_variables_systemd_and_files_wins() {
        let mut world = World::new();
        assert!(world.found().is_none());
        world.write("file-key", "of-file\n");
        world.files = CredentialFiles::ApiKey(world.path("file-key"));
        assert_found(&world, &key("of-file"), &Source::File(world.path("file-key")));
        world.variables.push(("CREDENTIALS_DIRECTORY", world.folder.path().display().to_string()));
        assert_found(&world, &key("of-file"), &Source::File(world.path("file-key")));
        world.write("api-key", "of-systemd\r\n");
        // As systemd leaves it where an access list lets the service in.
        fs::set_permissions(world.path("api-key"), Permissions::from_mode(0o440)).expect("ours");
        assert_found(&world, &key("of-systemd"), &Source::File(world.path("api-key")));
        world.variables.extend([("DSTOR_EMAIL", "a@b".to_owned()), ("DSTOR_PASSWORD", "two words".to_owned())]);
        let login = Credentials::Login { email: "a@b".into(), password: "two words".into() };
        assert_found(&world, &login, &Source::LoginVariables);
        world.variables.push(("DSTOR_API_KEY", "of-variable".to_owned()));
        assert_found(&world, &key("of-variable"), &Source::ApiKeyVariable);
        assert_eq!(Source::ApiKeyVariable.to_string(), "the environment variable DSTOR_API_KEY");
        assert_eq!(Source::File("/a\nb".into()).to_string(), r"the file `/a\u{a}b`");
    }

    #[test]
    fn files_are_read_anew_each_time() {
        let mut world = World::new();
        world.write("p", "one\n");
        world.files = CredentialFiles::Login { email: "a@b".into(), password_file: world.path("p") };
        let sources = world.sources();
        let read = || sources.load().expect("it can be read").expect("there are credentials").0;
        let login = |password: &str| Credentials::Login { email: "a@b".into(), password: password.into() };
        assert!(read() == login("one"));
        world.write("p", "two\n");
        assert!(read() == login("two"));
    }

    #[test]
    fn half_a_login_is_refused() {
        let mut world = World::new();
        world.variables = vec![("DSTOR_EMAIL", "a@b".to_owned())];
        insta::assert_snapshot!(world.refusal(), @r"
        the environment variable DSTOR_EMAIL is set, and DSTOR_PASSWORD is not
          hint: set both, or unset DSTOR_EMAIL
        ");
        world.variables = vec![("DSTOR_PASSWORD", "hunter2".to_owned()), ("DSTOR_EMAIL", String::new())];
        insta::assert_snapshot!(world.refusal(), @r"
        the environment variable DSTOR_PASSWORD is set, and DSTOR_EMAIL is not
          hint: set both, or unset DSTOR_PASSWORD
        ");
    }

    #[test]
    fn what_is_no_secret_is_refused_by_its_place_and_never_told() {
        let mut world = World::new();
        world.files = CredentialFiles::ApiKey(world.path("k"));
        for (text, told) in [
            ("", "the API key is empty"),
            ("\n", "the API key is empty"),
            ("hunter2 x", "the API key holds white space or control characters"),
            ("hunter2\n\n", "the API key holds white space or control characters"),
            ("hunter2\0", "the API key holds white space or control characters"),
            ("hunter2ü", "the API key holds characters that are not ASCII"),
        ] {
            world.write("k", text);
            let start = format!("the credentials in the file `TOP/k` cannot be used: {told}\n  hint: ");
            assert!(world.refusal().starts_with(&start) && !world.refusal().contains("hunter2"), "{}", world.refusal());
        }
        world.write("k", b"hunter2\xff");
        assert!(world.refusal().starts_with("the API key file `TOP/k` is not text in UTF-8"));
        world.variables = vec![("DSTOR_API_KEY", "hunter2 x".to_owned())];
        insta::assert_snapshot!(world.refusal(), @r"
        the credentials in the environment variable DSTOR_API_KEY cannot be used: the API key holds white space or control characters
          hint: put the secret there, alone and on one line
        ");
        world.variables.clear();
        world.files = CredentialFiles::Login { email: "a@b".into(), password_file: world.path("k") };
        for (text, told) in [
            (" \n", "the password is empty"),
            ("hunter2\nx", "the password holds control characters or more than one line"),
        ] {
            world.write("k", text);
            assert!(world.refusal().contains(told) && !world.refusal().contains("hunter2"), "{}", world.refusal());
        }
    }

    #[test]
    fn a_secret_file_that_is_not_there_or_not_only_ours_is_refused() {
        let mut world = World::new();
        world.files = CredentialFiles::ApiKey(world.path("my key"));
        insta::assert_snapshot!(world.refusal(), @r"
        the API key file `TOP/my key` does not exist
          hint: `dstor-sync login` writes it; or correct the path in the configuration
        ");
        world.write("my key", "hunter2");
        fs::set_permissions(world.path("my key"), Permissions::from_mode(0o644)).expect("ours");
        insta::assert_snapshot!(world.refusal(), @r"
        others can read the API key file `TOP/my key` (mode 0644)
          hint: chmod 600 'TOP/my key'
        ");
    }

    #[test]
    fn debug_of_the_sources_shows_no_secret() {
        let mut world = World::new();
        world.variables = vec![("DSTOR_API_KEY", "hunter2".to_owned()), ("DSTOR_PASSWORD", "hunter2".to_owned())];
        assert!(!format!("{:?}", world.sources()).contains("hunter2"));
    }
}
