//! Before there is a config: answers are checked as the config's values are, and all of it is written at once.

use std::io;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::error::quoted;
use super::guarded::Guarded;
use super::keep::{self, Older};
use super::stored::{Store, cannot_write, keep_api_key, keep_password};
use super::{Config, ConfigError, ConfigErrors, Dstor, Environment, Mirror, Overrides, load, places, sections};
use crate::mirror::Placement;

/// The secret that goes with a first config, to be kept beside it.
#[derive(Clone, Copy, Debug)]
pub enum Secret<'a> {
    /// There is none to keep.
    None,
    /// The API key.
    ApiKey(&'a SecretString),
    /// The password of the login that the config names.
    Password(&'a SecretString),
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Begun {
    /// The file with the secret.
    pub secret: Option<PathBuf>,
    /// Where the config lies that was there before.
    pub older: Option<PathBuf>,
}

impl Config {
    /// Blocking: writes a first config, mode 0600, and the secret that goes with it, each whole or not at all and the secret
    /// first: whoever is killed in between leaves no config that lacks its key. Directories that are not there are made, and
    /// ours is closed to others. A config that is there is replaced only if `replaces` says so, and kept beside it.
    ///
    /// # Errors
    /// [`ConfigError`] as the file system says, or if there is a config already.
    pub fn begin(
        overrides: &Overrides,
        environment: &Environment,
        text: &str,
        secret: Secret<'_>,
        replaces: bool,
    ) -> Result<Begun, ConfigError> {
        let file = places::config_path(overrides, environment)?;
        let directory = file.parent().unwrap_or(Path::new("/"));
        let is_ours = places::named_config(overrides, environment).is_none();
        let made =
            keep::private_directory(directory).and_then(|()| if is_ours { keep::close(directory) } else { Ok(()) });
        made.map_err(|cause| cannot_write("the configuration", &file, cause))?;
        if !replaces && file.symlink_metadata().is_ok() {
            return Err(there_is_one(&file));
        }
        let store = Store::beside(&file);
        let mut begun = Begun::default();
        match secret {
            Secret::None => {}
            Secret::ApiKey(key) => {
                keep_api_key(&store.api_key(), key.expose_secret())?;
                begun.secret = Some(store.api_key());
            }
            Secret::Password(password) => {
                keep_password(&store.password(), password.expose_secret())?;
                begun.secret = Some(store.password());
            }
        }
        if replaces && file.symlink_metadata().is_ok() {
            begun.older = Some(keep::beside(&file, ".old"));
        }
        let older = if replaces { Older::IsKept } else { Older::Stays };
        keep::keep(&file, text, older).map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists if !replaces => there_is_one(&file),
            _ => cannot_write("the configuration", &file, cause),
        })?;
        Ok(begun)
    }

    /// Blocking: reads and validates `text` as if it were the config.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong.
    pub fn of_text(text: &str, overrides: &Overrides, environment: &Environment) -> Result<Self, ConfigErrors> {
        let file = places::config_path(overrides, environment)?;
        load::load_from(Some(text.to_owned()), &file, overrides, environment)
    }

    /// Blocking: as [`Self::load`], save that there need not be a config, and that no mirror is needed then.
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong.
    pub fn load_if_any(overrides: &Overrides, environment: &Environment) -> Result<Self, ConfigErrors> {
        let file = places::config_path(overrides, environment)?;
        let Some(text) = Guarded::Config.read(&file)? else {
            let mut config = Self::without_file();
            load::address_of_variable(&mut config, environment)?;
            return Ok(config);
        };
        load::load_from(Some(text), &file, overrides, environment)
    }
}

impl Mirror {
    /// Blocking: the mirror that `dir` would be, and the path as a config should name it: links in it stay, so that it goes
    /// on being right when they lead elsewhere.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not there, is no directory, cannot be read, or cannot live beside the state directory.
    pub fn first(
        dir: &Path,
        remote: Option<&str>,
        overrides: &Overrides,
        environment: &Environment,
    ) -> Result<(Self, PathBuf), ConfigError> {
        let mirror = load::given_mirror(dir, remote)?;
        let state_dir = places::state_dir(overrides, environment)?;
        load::alone(&mirror, &state_dir)?;
        if let Err(cause) = std::fs::read_dir(&mirror.path) {
            let error = match cause.kind() {
                io::ErrorKind::NotFound => ConfigError::new(format!("the directory {} does not exist", quoted(dir))),
                _ => ConfigError::new(format!("cannot read the directory {}", quoted(dir))).because(cause),
            };
            return Err(error.with_hint("name one that is there and is yours to read"));
        }
        let absolute = places::absolute(dir)?;
        let has_dots = absolute.components().any(|part| part == std::path::Component::ParentDir);
        let path = if has_dots { mirror.path.clone() } else { absolute };
        Ok((mirror, path))
    }
}

impl Dstor {
    /// The service's address where none is given: `DSTOR_URL`, else the usual one.
    ///
    /// # Errors
    /// [`ConfigError`] if the variable holds none that credentials may be sent to.
    pub fn usual_address(environment: &Environment) -> Result<reqwest::Url, ConfigError> {
        let mut config = Config::without_file();
        load::address_of_variable(&mut config, environment)?;
        Ok(config.dstor.url)
    }

    /// The service's address, as a person gave it.
    ///
    /// # Errors
    /// [`ConfigError`] if it is none that credentials may be sent to.
    pub fn address(name: &str, text: &str) -> Result<reqwest::Url, ConfigError> {
        sections::parse_url(name, text)
    }
}

/// The directory on dStor, as a person gave it.
///
/// # Errors
/// [`ConfigError`] if it cannot be one.
pub fn remote(name: &str, text: &str) -> Result<Placement, ConfigError> {
    sections::parse_remote(name, text)
}

/// The path that a person typed: `~/` is the home directory, and a relative one counts from the working directory.
///
/// # Errors
/// [`ConfigError`] if it is none.
pub fn typed_path(text: &str, environment: &Environment) -> Result<PathBuf, ConfigError> {
    places::expand(text, &places::absolute(Path::new("."))?, environment)
}

fn there_is_one(file: &Path) -> ConfigError {
    ConfigError::new(format!("there is a configuration already: {}", quoted(file)))
        .with_hint("`--force` replaces it, and keeps it beside the new one with `.old` at its end")
}
