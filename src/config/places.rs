//! Where the config and the state lie, and what a path in the config means.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use super::error::quoted;
use super::{ConfigError, Environment, Overrides};

/// The name of our directory in each of the places.
const OURS: &str = "dstor-sync";
/// The config's name there.
const CONFIG: &str = "config.toml";
/// No path is longer, in bytes, its end included (Linux's `PATH_MAX`).
const LONGEST_PATH: usize = 4096;
/// The kernel follows as many links in one path.
const MOST_LINKS: usize = 40;

/// Where a system keeps its users' settings.
#[derive(Clone, Copy)]
enum Layout {
    /// The XDG base directories.
    Xdg,
    /// `~/Library/Application Support`, for everything.
    Apple,
}

const HERE: Layout = if cfg!(target_os = "macos") { Layout::Apple } else { Layout::Xdg };

/// The config file: `--config`, `DSTOR_SYNC_CONFIG`, `$CONFIGURATION_DIRECTORY` (systemd), or the user's own.
///
/// # Errors
/// [`ConfigError`] if none of them is given and there is no home directory.
pub fn config_path(overrides: &Overrides, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if let Some(named) = named_config(overrides, environment) {
        return named;
    }
    let in_directory = directory(environment, HERE, "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config");
    let directory = in_directory.map_err(|error| {
        error.with_hint(
            "set HOME, or name the configuration with `--config FILE` or the environment variable DSTOR_SYNC_CONFIG",
        )
    })?;
    Ok(directory.join(CONFIG))
}

/// The config file that a person named, by flag or variable, if any.
pub(super) fn named_config(overrides: &Overrides, environment: &Environment) -> Option<Result<PathBuf, ConfigError>> {
    named(overrides.config.as_deref(), "--config", environment, "DSTOR_SYNC_CONFIG")
}

/// The state directory: `--state-dir`, `DSTOR_SYNC_STATE_DIR`, `$STATE_DIRECTORY` (systemd), or the user's own.
/// With `--sandbox` too: what such a run keeps lies below it.
///
/// # Errors
/// [`ConfigError`] if none of them is given and there is no home directory.
pub fn state_dir(overrides: &Overrides, environment: &Environment) -> Result<PathBuf, ConfigError> {
    let named = named(overrides.state_dir.as_deref(), "--state-dir", environment, "DSTOR_SYNC_STATE_DIR");
    named.unwrap_or_else(|| {
        directory(environment, HERE, "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state").map_err(|error| {
            error.with_hint(
                "set HOME, or name the state directory with `--state-dir DIR` or the environment variable \
                 DSTOR_SYNC_STATE_DIR",
            )
        })
    })
}

fn named(
    flag: Option<&Path>,
    flag_name: &str,
    environment: &Environment,
    variable: &str,
) -> Option<Result<PathBuf, ConfigError>> {
    match flag {
        Some(path) => Some(absolute(path).map_err(|error| error.at(flag_name))),
        None => environment.get(variable).map(|path| absolute(Path::new(path)).map_err(|error| error.at(variable))),
    }
}

/// `path`, counted from the working directory.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    let whole = std::path::absolute(path)
        .map_err(|cause| ConfigError::new(format!("{} is no path", quoted(path))).because(cause))?;
    not_endless(whole)
}

/// Our directory: the first that `systemd` names, else the one in `xdg`, else the one in the home directory.
fn directory(
    environment: &Environment,
    layout: Layout,
    systemd: &str,
    xdg: &str,
    in_home: &str,
) -> Result<PathBuf, ConfigError> {
    let by_systemd = environment.get(systemd).and_then(|list| list.as_bytes().split(|b| *b == b':').next());
    if let Some(first) = by_systemd.map(|bytes| Path::new(OsStr::from_bytes(bytes))).filter(|path| path.is_absolute()) {
        return Ok(first.to_owned());
    }
    match layout {
        Layout::Apple => Ok(home(environment)?.join("Library/Application Support").join(OURS)),
        // A relative path in it does not count: the specification says so.
        Layout::Xdg => match environment.get(xdg).map(Path::new).filter(|path| path.is_absolute()) {
            Some(base) => Ok(base.join(OURS)),
            None => Ok(home(environment)?.join(in_home).join(OURS)),
        },
    }
}

fn home(environment: &Environment) -> Result<&Path, ConfigError> {
    let home = environment.get("HOME").map(Path::new).filter(|path| path.is_absolute());
    home.ok_or_else(|| {
        ConfigError::new("there is no home directory: the environment variable HOME is not set to an absolute path")
            .with_hint("set HOME")
    })
}

/// The path that `text` in the config means: `~/` is the home directory, and a relative one counts from `base`.
pub(super) fn expand(text: &str, base: &Path, environment: &Environment) -> Result<PathBuf, ConfigError> {
    if text.is_empty() {
        return Err(ConfigError::new("an empty path").with_hint("write the path of the directory or file"));
    }
    if text.contains('\0') {
        return Err(ConfigError::new(format!("{} is no path: it holds a NUL", quoted(text))));
    }
    let whole = if text == "~" {
        home(environment)?.to_owned()
    } else if let Some(below) = text.strip_prefix("~/") {
        home(environment)?.join(below.trim_start_matches('/'))
    } else if text.starts_with('~') {
        return Err(ConfigError::new(format!("{} is no path: only `~/` stands for a home directory", quoted(text)))
            .with_hint("write the path in full, or put `./` before a name that begins with `~`"));
    } else {
        base.join(text)
    };
    not_endless(whole)
}

fn not_endless(path: PathBuf) -> Result<PathBuf, ConfigError> {
    if path.as_os_str().len() >= LONGEST_PATH {
        return Err(ConfigError::new(format!("the path {} is longer than any path can be", quoted(&path)))
            .with_hint(format!("paths end before {LONGEST_PATH} bytes")));
    }
    Ok(path)
}

/// Blocking: the absolute `path` without links and dots, as far as it exists. A link to what is not there (a disk that
/// is not mounted) is followed too, so that a mirror keeps its path when its disk comes and goes.
#[must_use]
pub fn resolve(path: &Path) -> PathBuf {
    follow(path, MOST_LINKS)
}

fn follow(path: &Path, links: usize) -> PathBuf {
    if let Ok(canonical) = fs::canonicalize(path) {
        return canonical;
    }
    let Some(parent) = path.parent() else { return path.to_owned() };
    if links > 0
        && let Ok(target) = fs::read_link(path)
    {
        return follow(&parent.join(target), links - 1);
    }
    let mut above = follow(parent, links);
    match path.components().next_back() {
        Some(Component::Normal(name)) => above.push(name),
        Some(Component::ParentDir) => {
            above.pop();
        }
        Some(Component::CurDir | Component::RootDir | Component::Prefix(_)) | None => {}
    }
    above
}

/// How one directory lies to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relation {
    /// They are one.
    Same,
    /// It lies in the other.
    Inside,
    /// The other lies in it.
    Holds,
}

/// A directory, and by what numbers the system knows it and those above it.
///
/// Those numbers show what paths do not: a bind mount of a directory or of one above it, or names that differ in case
/// only. A bind mount of something *below* a mirror does not show.
pub struct Place {
    path: PathBuf,
    itself: Option<(u64, u64)>,
    lineage: Vec<(u64, u64)>,
}

impl Place {
    /// Blocking: looks at the resolved `path` and at all above it.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        Self { path: path.to_owned(), itself: identity(path), lineage: path.ancestors().filter_map(identity).collect() }
    }

    /// How this one lies to `other`; `None`: apart.
    #[must_use]
    pub fn to(&self, other: &Self) -> Option<Relation> {
        if self.path == other.path || (self.itself.is_some() && self.itself == other.itself) {
            Some(Relation::Same)
        } else if self.is_inside(other) {
            Some(Relation::Inside)
        } else if other.is_inside(self) {
            Some(Relation::Holds)
        } else {
            None
        }
    }

    fn is_inside(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path) || other.itself.is_some_and(|top| self.lineage.contains(&top))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_pairs(pairs.iter().copied())
    }

    #[test]
    fn a_flag_beats_the_variable_which_beats_systemd_which_beats_xdg_which_beats_home() {
        let mut pairs = vec![
            ("HOME", "/home/me"),
            ("XDG_CONFIG_HOME", "/xdg/config"),
            ("XDG_STATE_HOME", "/xdg/state"),
            ("CONFIGURATION_DIRECTORY", "/etc/dstor-sync:/etc/other"),
            ("STATE_DIRECTORY", "/var/lib/dstor-sync:/var/lib/other"),
            ("DSTOR_SYNC_CONFIG", "/variable/c.toml"),
            ("DSTOR_SYNC_STATE_DIR", "/variable/state"),
        ];
        let mut flags = Overrides {
            config: Some("/flag/c.toml".into()),
            state_dir: Some("/flag/state".into()),
            ..Overrides::default()
        };
        for (config, state) in [
            ("/flag/c.toml", "/flag/state"),
            ("/variable/c.toml", "/variable/state"),
            ("/etc/dstor-sync/config.toml", "/var/lib/dstor-sync"),
            ("/xdg/config/dstor-sync/config.toml", "/xdg/state/dstor-sync"),
            ("/home/me/.config/dstor-sync/config.toml", "/home/me/.local/state/dstor-sync"),
        ] {
            let environment = environment(&pairs);
            if cfg!(target_os = "linux") || !config.ends_with("dstor-sync/config.toml") || config.starts_with("/etc") {
                assert_eq!(config_path(&flags, &environment).expect("a place"), Path::new(config));
                assert_eq!(state_dir(&flags, &environment).expect("a place"), Path::new(state));
            }
            if flags.config.take().is_some() {
                flags.state_dir = None;
            } else {
                pairs.truncate(pairs.len().saturating_sub(2));
            }
        }
    }

    #[test]
    fn relative_flags_count_from_the_working_directory_and_relative_xdg_does_not_count() {
        let environment = environment(&[("HOME", "/home/me"), ("XDG_CONFIG_HOME", "relative")]);
        let flags = Overrides { state_dir: Some("s".into()), ..Overrides::default() };
        let here = std::env::current_dir().expect("the test has one");
        assert_eq!(state_dir(&flags, &environment).expect("a place"), here.join("s"));
        let config = directory(&environment, Layout::Xdg, "CONFIGURATION_DIRECTORY", "XDG_CONFIG_HOME", ".config");
        assert_eq!(config.expect("a place"), Path::new("/home/me/.config/dstor-sync"));
        let apple = directory(&environment, Layout::Apple, "STATE_DIRECTORY", "XDG_STATE_HOME", ".local/state");
        assert_eq!(apple.expect("a place"), Path::new("/home/me/Library/Application Support/dstor-sync"));
    }

    #[test]
    fn without_a_home_the_flag_and_the_variable_are_named() {
        let told = |error: ConfigError| format!("{error}\n{}", error.hint().unwrap_or_default());
        let nowhere = Environment::default();
        let config = config_path(&Overrides::default(), &nowhere).expect_err("no home");
        let state = state_dir(&Overrides::default(), &environment(&[("HOME", "relative")])).expect_err("no home");
        insta::assert_snapshot!(told(config), @r"
        there is no home directory: the environment variable HOME is not set to an absolute path
        set HOME, or name the configuration with `--config FILE` or the environment variable DSTOR_SYNC_CONFIG
        ");
        insta::assert_snapshot!(told(state), @r"
        there is no home directory: the environment variable HOME is not set to an absolute path
        set HOME, or name the state directory with `--state-dir DIR` or the environment variable DSTOR_SYNC_STATE_DIR
        ");
    }

    #[test]
    fn a_path_in_the_config_counts_from_its_directory_or_from_home() {
        let environment = environment(&[("HOME", "/home/me")]);
        let expand = |text: &str| expand(text, Path::new("/c"), &environment).map_err(|error| error.to_string());
        assert_eq!(expand("a/b"), Ok("/c/a/b".into()));
        assert_eq!(expand("/a"), Ok("/a".into()));
        assert_eq!(expand("~"), Ok("/home/me".into()));
        assert_eq!(expand("~//a"), Ok("/home/me/a".into()));
        assert_eq!(expand("./~a"), Ok("/c/./~a".into()));
        assert_eq!(expand(""), Err("an empty path".into()));
        assert_eq!(expand("~you/a"), Err("`~you/a` is no path: only `~/` stands for a home directory".into()));
        assert!(expand("a\0b").is_err());
        assert!(expand(&"a/".repeat(3000)).is_err_and(|error| error.contains("longer than any path")));
        assert!(super::expand("~/a", Path::new("/c"), &Environment::default()).is_err());
    }

    #[test]
    fn a_path_is_resolved_through_links_also_to_what_is_not_there() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("it exists");
        fs::create_dir(top.join("real")).expect("new");
        symlink("real", top.join("link")).expect("new");
        symlink("unmounted/disk", top.join("dangling")).expect("new");
        symlink("loop", top.join("loop")).expect("new");
        assert_eq!(resolve(&top.join("link/./x/../y")), top.join("real/y"));
        assert_eq!(resolve(&top.join("dangling/d")), top.join("unmounted/disk/d"));
        assert_eq!(resolve(&top.join("loop")), top.join("loop"));
        let endless = format!("/{}", "no/".repeat(1300));
        assert_eq!(resolve(Path::new(&endless)), Path::new(&endless));
    }

    #[test]
    fn directories_know_how_they_lie_to_each_other_by_their_numbers_too() {
        let folder = tempfile::tempdir().expect("a folder");
        let top = folder.path().canonicalize().expect("it exists");
        fs::create_dir_all(top.join("a/b")).expect("new");
        fs::create_dir(top.join("ab")).expect("new");
        // A link that is not resolved stands in for a bind mount, which only root can make: another path, same numbers.
        symlink("a", top.join("bound")).expect("new");
        let to = |one: &str, other: &str| Place::of(&top.join(one)).to(&Place::of(&top.join(other)));
        assert_eq!(to("a", "a"), Some(Relation::Same));
        assert_eq!(to("a/b", "a"), Some(Relation::Inside));
        assert_eq!(to("a", "a/missing"), Some(Relation::Holds));
        assert_eq!(to("missing/x", "missing"), Some(Relation::Inside));
        assert_eq!(to("a", "ab"), None);
        assert_eq!(to("missing", "gone"), None);
        assert_eq!(to("bound", "a"), Some(Relation::Same));
        assert_eq!(to("bound/b", "a"), Some(Relation::Inside));
        assert_eq!(to("a", "bound/b"), Some(Relation::Holds));
    }
}
