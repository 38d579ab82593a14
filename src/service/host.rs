//! A service manager of this machine, asked by its own program: systemd by `systemctl`, launchd by `launchctl`.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::unit::{self, Found, Kind};

/// The service's name.
const NAME: &str = "dstor-sync";
/// The same for launchd.
const LABEL: &str = "cloud.dstor.sync";

/// Why something could not be done with a service.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// There is no service manager that this program knows.
    #[error("neither systemd nor launchd manages the services of this machine")]
    NoManager,
    /// systemd is there, but the user's own part of it does not answer.
    #[error("your own systemd cannot be reached: {0}")]
    NoSession(String),
    /// Nobody is named for whom it is to run.
    #[error("the user whose files it mirrors is not named")]
    NoUser,
    /// What is there was not written here, or was edited since.
    #[error("`{}` was not written by `dstor-sync service install`, or was edited since; it was left as it is", .0.display())]
    Foreign(PathBuf),
    /// It is not installed.
    #[error("the service is not installed: `{}` is not there", .0.display())]
    NotInstalled(PathBuf),
    /// A file of it cannot be written, read or removed.
    #[error("cannot use `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The manager's program refused.
    #[error("`{command}` failed: {said}")]
    Refused {
        /// What was asked.
        command: String,
        /// What it said.
        said: String,
    },
}

/// Where the service is, or would be, installed.
#[derive(Clone, Debug)]
pub struct Host {
    kind: Kind,
    unit: PathBuf,
    /// The unit's name where it is started.
    name: String,
}

/// How a service is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    /// Its file.
    pub unit: PathBuf,
    /// Whether that is there.
    pub is_installed: bool,
    /// Whether it begins by itself, in the manager's word.
    pub enabled: String,
    /// Whether it runs, in the manager's word.
    pub active: String,
    /// The line that it last told of itself.
    pub status: String,
}

impl State {
    /// Whether it runs, or is about to.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.active.as_str(), "active" | "activating" | "reloading")
    }
}

impl Host {
    /// The manager for a service of the user's own, whose directories are in the environment.
    ///
    /// # Errors
    /// If there is none.
    pub fn of_user() -> Result<Self, HostError> {
        let directory = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = directory("HOME").ok_or(HostError::NoManager)?;
        if cfg!(target_os = "macos") {
            let unit = home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"));
            return Ok(Self { kind: Kind::Launchd, unit, name: LABEL.into() });
        }
        let config = directory("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config"));
        let unit = config.join("systemd/user").join(format!("{NAME}.service"));
        with_systemd(Self { kind: Kind::User, unit, name: format!("{NAME}.service") })
    }

    /// The manager for a service of the machine, for `user`.
    ///
    /// # Errors
    /// If there is none, or nobody is named.
    pub fn of_system(user: Option<&str>) -> Result<Self, HostError> {
        let user = user.filter(|user| !user.is_empty() && !user.contains('/')).ok_or(HostError::NoUser)?;
        let unit = Path::new("/etc/systemd/system").join(format!("{NAME}@.service"));
        with_systemd(Self { kind: Kind::System, unit, name: format!("{NAME}@{user}.service") })
    }

    /// Its unit's file.
    #[must_use]
    pub fn unit(&self) -> &Path {
        &self.unit
    }

    /// The name by which the manager knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Blocking: writes the unit that runs `program` with `arguments`, and has the manager begin it by itself from now on.
    /// What is there and not ours is replaced only with `is_forced`. Returns what was there.
    ///
    /// # Errors
    /// What could not be done; the unit may be written by then.
    pub fn install(&self, program: &Path, arguments: &[String], is_forced: bool) -> Result<Found, HostError> {
        let text = unit::text(self.kind, program, arguments).map_err(|error| self.file(error))?;
        if self.kind != Kind::Launchd {
            // Before anything is written for it.
            self.ask(&["show", "--property=Version"])?;
        }
        let found = unit::find(&self.unit, &text).map_err(|error| self.file(error))?;
        match found {
            Found::Foreign if !is_forced => return Err(HostError::Foreign(self.unit.clone())),
            Found::Same => {}
            Found::Nothing | Found::Ours | Found::Foreign => {
                unit::write(&self.unit, &text).map_err(|error| self.file(error))?;
            }
        }
        if self.kind != Kind::Launchd {
            self.ask(&["daemon-reload"])?;
            self.ask(&["enable", &self.name])?;
        }
        Ok(found)
    }

    /// Blocking: ends the service and removes its unit.
    ///
    /// # Errors
    /// What could not be done. One that is not ours stays, save with `is_forced`.
    pub fn uninstall(&self, is_forced: bool) -> Result<(), HostError> {
        match unit::find(&self.unit, "").map_err(|error| self.file(error))? {
            Found::Nothing => return Err(HostError::NotInstalled(self.unit.clone())),
            Found::Foreign if !is_forced => return Err(HostError::Foreign(self.unit.clone())),
            Found::Same | Found::Ours | Found::Foreign => {}
        }
        match self.kind {
            // Not loaded is as good as ended.
            Kind::Launchd => drop(self.ask(&["bootout", &self.launchd_target()])),
            Kind::System | Kind::User => drop(self.ask(&["disable", "--now", &self.name])?),
        }
        // Those of other users go on with it.
        if self.kind == Kind::System && self.has_other_instances() {
            return Ok(());
        }
        std::fs::remove_file(&self.unit).map_err(|error| self.file(error))?;
        if self.kind != Kind::Launchd {
            self.ask(&["daemon-reload"])?;
        }
        Ok(())
    }

    fn has_other_instances(&self) -> bool {
        let listed = self.ask(&["list-units", "--all", "--plain", "--no-legend", &format!("{NAME}@*.service")]);
        listed.is_ok_and(|listed| listed.lines().any(|line| line.contains(NAME) && !line.contains(&self.name)))
    }

    /// Blocking: starts it, and waits until it is at work.
    ///
    /// # Errors
    /// If it is not installed, or ended at once.
    pub fn start(&self) -> Result<(), HostError> {
        self.installed()?;
        match self.kind {
            Kind::Launchd => {
                let domain = format!("gui/{}", rustix::process::getuid().as_raw());
                self.ask(&["bootstrap", &domain, &self.unit.to_string_lossy()]).map(drop)
            }
            Kind::System | Kind::User => self.ask(&["start", &self.name]).map(drop),
        }
    }

    /// Blocking: stops it, and waits until it has ended.
    ///
    /// # Errors
    /// If it is not installed, or the manager refuses.
    pub fn stop(&self) -> Result<(), HostError> {
        self.installed()?;
        match self.kind {
            Kind::Launchd => self.ask(&["bootout", &self.launchd_target()]).map(drop),
            Kind::System | Kind::User => self.ask(&["stop", &self.name]).map(drop),
        }
    }

    /// Blocking: how it is.
    ///
    /// # Errors
    /// If the manager does not say.
    pub fn state(&self) -> Result<State, HostError> {
        let is_installed = self.unit.exists();
        let mut state = State {
            unit: self.unit.clone(),
            is_installed,
            enabled: String::new(),
            active: String::new(),
            status: String::new(),
        };
        if self.kind == Kind::Launchd {
            let is_loaded = self.ask(&["print", &self.launchd_target()]).is_ok();
            state.active = if is_loaded { "active" } else { "inactive" }.into();
            state.enabled = if is_installed { "enabled" } else { "disabled" }.into();
            return Ok(state);
        }
        let shown = self.ask(&["show", "--property=ActiveState,UnitFileState,StatusText", &self.name])?;
        for line in shown.lines() {
            match line.split_once('=') {
                Some(("ActiveState", word)) => state.active = word.into(),
                Some(("UnitFileState", word)) => state.enabled = word.into(),
                Some(("StatusText", text)) => state.status = text.into(),
                _ => {}
            }
        }
        Ok(state)
    }

    /// Blocking: whether a user's services end when they log out, and do not begin at the machine's start (F13). `None`: not
    /// known, or not so with this manager.
    #[must_use]
    pub fn ends_at_logout(&self) -> Option<bool> {
        if self.kind != Kind::User {
            return None;
        }
        let uid = rustix::process::getuid().as_raw().to_string();
        let mut command = Command::new("loginctl");
        match said(command.args(["show-user", &uid, "--property=Linger", "--value"])) {
            Ok(linger) => Some(linger.trim() != "yes"),
            // Whom logind does not know has no linger; then this is no login's session either.
            Err(HostError::Refused { said, .. }) if said.contains("not logged in or lingering") => Some(true),
            Err(_) => None,
        }
    }

    fn installed(&self) -> Result<(), HostError> {
        if self.unit.exists() { Ok(()) } else { Err(HostError::NotInstalled(self.unit.clone())) }
    }

    fn launchd_target(&self) -> String {
        format!("gui/{}/{}", rustix::process::getuid().as_raw(), self.name)
    }

    fn ask(&self, words: &[&str]) -> Result<String, HostError> {
        let mut command = match self.kind {
            Kind::Launchd => Command::new("launchctl"),
            Kind::System | Kind::User => Command::new("systemctl"),
        };
        if self.kind == Kind::User {
            command.arg("--user");
        }
        said(command.args(words)).map_err(|error| match error {
            HostError::Refused { said, .. } if self.kind == Kind::User && said.contains("connect to bus") => {
                HostError::NoSession(said)
            }
            other => other,
        })
    }

    fn file(&self, source: io::Error) -> HostError {
        HostError::File { path: self.unit.clone(), source }
    }
}

fn with_systemd(host: Host) -> Result<Host, HostError> {
    // Where it is process 1, and not merely installed: what sd_booted(3) looks at.
    if Path::new("/run/systemd/system").is_dir() { Ok(host) } else { Err(HostError::NoManager) }
}

/// Blocking: what a program says on stdout.
fn said(command: &mut Command) -> Result<String, HostError> {
    let told = || {
        let words: Vec<&OsStr> = std::iter::once(command.get_program()).chain(command.get_args()).collect();
        words.join(OsStr::new(" ")).to_string_lossy().into_owned()
    };
    let (line, output) = (told(), command.output());
    let refused = |said: String| HostError::Refused { command: line.clone(), said };
    let output = output.map_err(|error| refused(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(refused(if said.is_empty() { output.status.to_string() } else { said }))
}
