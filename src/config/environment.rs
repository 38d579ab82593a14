//! What the configuration takes from outside the file: environment variables and flags.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::desktop::Bus;

/// What the command line asks for; a flag beats the environment, and that beats the file.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--state-dir`.
    pub state_dir: Option<PathBuf>,
    /// The directory that `run` or `sync` is given.
    pub dir: Option<PathBuf>,
    /// `--remote`: the dStor directory for `dir`.
    pub remote: Option<String>,
    /// `--sandbox`: the remote is a local one, whatever the file says of the real one.
    pub sandbox: bool,
}

/// The environment variables that matter, as they were when they were captured. Later code asks only this.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<String, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self::from_pairs(std::env::vars_os())
    }

    /// An environment of these variables. Those that do not matter are left out.
    pub fn from_pairs<K: Into<OsString>, V: Into<OsString>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let named = pairs.into_iter().filter_map(|(name, value)| Some((name.into().into_string().ok()?, value.into())));
        Self(named.filter(|(name, _)| name.starts_with("DSTOR_") || may_be_shown(name)).collect())
    }

    /// Which variables of those set hold credentials, or the place of some that systemd hands over; for a person.
    #[must_use]
    pub fn credentials(&self) -> Vec<&'static str> {
        let told = [
            ("DSTOR_API_KEY", "the environment variable DSTOR_API_KEY"),
            ("DSTOR_EMAIL", "the environment variable DSTOR_EMAIL"),
            ("DSTOR_PASSWORD", "the environment variable DSTOR_PASSWORD"),
            ("CREDENTIALS_DIRECTORY", "what systemd hands over in CREDENTIALS_DIRECTORY"),
        ];
        told.into_iter().filter(|(name, _)| self.get(name).is_some()).map(|(_, told)| told).collect()
    }

    /// The system's bus.
    #[must_use]
    pub fn system_bus(&self) -> Bus {
        let named = self.get("DBUS_SYSTEM_BUS_ADDRESS").and_then(OsStr::to_str);
        Bus::at(named.unwrap_or("unix:path=/var/run/dbus/system_bus_socket"))
    }

    /// The bus of the session that this process is in; `None`: it is in none.
    #[must_use]
    pub fn session_bus(&self) -> Option<Bus> {
        if let Some(named) = self.get("DBUS_SESSION_BUS_ADDRESS") {
            return named.to_str().map(Bus::at);
        }
        // Where systemd and others have it, as the desktop's own libraries know.
        let socket = Path::new(self.get("XDG_RUNTIME_DIR")?).join("bus");
        socket.to_str().map(|path| Bus::at(format!("unix:path={path}")))
    }

    /// The value of `name`. Empty counts as not set, as scripts and the XDG base directories have it.
    pub(crate) fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }
}

/// Whether `name` is one of ours and holds a place, not credentials. (`DSTOR_URL` could hold a password.)
fn may_be_shown(name: &str) -> bool {
    name.starts_with("DSTOR_SYNC_")
        || name.starts_with("XDG_")
        || name.starts_with("DBUS_")
        || matches!(name, "HOME" | "STATE_DIRECTORY" | "CONFIGURATION_DIRECTORY" | "CREDENTIALS_DIRECTORY")
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if may_be_shown(name) { value } else { OsStr::new("[hidden]") });
        f.debug_map().entries(self.0.iter().map(|(name, value)| shown((name, value.as_os_str())))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_where_its_variable_says_or_in_the_runtime_directory_or_there_is_none() {
        let of = |pairs: &[(&str, &str)]| Environment::from_pairs(pairs.iter().copied()).session_bus();
        let (run, named) = (("XDG_RUNTIME_DIR", "/run/user/1"), ("DBUS_SESSION_BUS_ADDRESS", "unix:abstract=x"));
        assert_eq!(of(&[run, named]), Some(Bus::at("unix:abstract=x")));
        assert_eq!(of(&[run]), Some(Bus::at("unix:path=/run/user/1/bus")));
        assert_eq!(of(&[("HOME", "/h")]), None);
    }

    #[test]
    fn only_variables_that_matter_are_kept_and_debug_hides_what_may_be_secret() {
        let environment = Environment::from_pairs([
            ("DSTOR_API_KEY", "hunter2"),
            ("DSTOR_URL", "https://me:hunter2@example.org"),
            ("DSTOR_SYNC_CONFIG", "/c"),
            ("HOME", "/h"),
            ("PATH", "/bin"),
            ("XDG_STATE_HOME", ""),
        ]);
        assert_eq!(environment.get("DSTOR_API_KEY"), Some(OsStr::new("hunter2")));
        assert_eq!(environment.get("PATH"), None);
        assert_eq!(environment.get("XDG_STATE_HOME"), None);
        insta::assert_snapshot!(format!("{environment:?}"), @r#"{"DSTOR_API_KEY": "[hidden]", "DSTOR_SYNC_CONFIG": "/c", "DSTOR_URL": "[hidden]", "HOME": "/h", "XDG_STATE_HOME": ""}"#);
    }
}
