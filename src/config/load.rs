//! File, environment and flags together: which of them counts, and whether the mirrors can live side by side.

use std::path::Path;

use reqwest::Url;

use super::error::{plain, quoted};
use super::guarded::Guarded;
use super::places::{self, Place, Relation};
use super::sections::{Written, named_after, parse_remote, parse_url, read_text};
use super::{Config, ConfigError, ConfigErrors, Dstor, Environment, Mirror, Overrides};
use crate::mirror::shell_word;

/// Blocking: see [`Config::load`].
pub(super) fn load(overrides: &Overrides, environment: &Environment) -> Result<Config, ConfigErrors> {
    if overrides.remote.is_some() && overrides.dir.is_none() {
        let error = ConfigError::new("`--remote` is given without a directory");
        return Err(error.with_hint("name the directory to mirror, or leave `--remote` out").into());
    }
    let file = places::config_path(overrides, environment)?;
    let text = Guarded::Config.read(&file)?;
    load_from(text, &file, overrides, environment)
}

/// Blocking: the same, with the text that is in `file`, if there is one.
pub(super) fn load_from(
    text: Option<String>,
    file: &Path,
    overrides: &Overrides,
    environment: &Environment,
) -> Result<Config, ConfigErrors> {
    let state_dir = places::state_dir(overrides, environment)?;
    let given = overrides.dir.as_deref().map(|dir| given_mirror(dir, overrides.remote.as_deref())).transpose()?;
    if text.is_none() && places::named_config(overrides, environment).is_some() {
        return Err(no_config(file, overrides, environment).into());
    }
    let mut found = Vec::new();
    let (mut config, written) = match (text, given) {
        (Some(text), given) => {
            let (config, mut written, problems) = read_text(file, &text, overrides, environment);
            found.extend(problems);
            if let Some(given) = given {
                if overrides.sandbox {
                    written = vec![Written { mirror: given, place: None }];
                } else if found.is_empty() {
                    found.extend(overlapping(&written));
                    written = vec![only_this(written, &given, file, overrides)?];
                }
            }
            (config, written)
        }
        (None, Some(mirror)) => {
            let config = Config::without_file();
            (config, vec![Written { mirror, place: None }])
        }
        (None, None) => return Err(no_config(file, overrides, environment).into()),
    };
    if !overrides.sandbox {
        found.extend(address_of_variable(&mut config, environment).err());
    }
    found.extend(overlapping(&written));
    found.extend(written.iter().filter_map(|written| holding_state(written, &state_dir)));
    found.extend(written.iter().filter_map(no_directory));
    ConfigErrors::none_in(found)?;
    config.mirrors = written.into_iter().map(|written| written.mirror).collect();
    if config.encrypt.recipients.is_some() {
        for mirror in &mut config.mirrors {
            mirror.policy.guard = std::mem::take(&mut mirror.policy.guard).off();
        }
    }
    Ok(config)
}

/// `DSTOR_URL` beats the file.
pub(super) fn address_of_variable(config: &mut Config, environment: &Environment) -> Result<(), ConfigError> {
    if let Some(url) = environment.get("DSTOR_URL") {
        let parsed = parse_url("it", &url.to_string_lossy());
        config.dstor.url = parsed.map_err(|error| error.at("the environment variable DSTOR_URL"))?;
    }
    Ok(())
}

/// Whether this one mirror, of the command line, can be one.
pub(super) fn alone(mirror: &Mirror, state_dir: &Path) -> Result<(), ConfigError> {
    let written = Written { mirror: mirror.clone(), place: None };
    match no_directory(&written).or_else(|| holding_state(&written, state_dir)) {
        Some(fault) => Err(fault),
        None => Ok(()),
    }
}

/// Blocking: see [`Config::service`].
pub(super) fn service(overrides: &Overrides, environment: &Environment) -> Result<Url, ConfigErrors> {
    let file = places::config_path(overrides, environment)?;
    if places::named_config(overrides, environment).is_some() || Guarded::Config.read(&file)?.is_some() {
        return Ok(load(overrides, environment)?.dstor.url);
    }
    let Some(url) = environment.get("DSTOR_URL") else { return Ok(Dstor::default().url) };
    parse_url("it", &url.to_string_lossy()).map_err(|error| error.at("the environment variable DSTOR_URL").into())
}

fn no_config(file: &Path, overrides: &Overrides, environment: &Environment) -> ConfigError {
    if places::named_config(overrides, environment).is_some() {
        return ConfigError::new(format!("cannot read the configuration {}: there is no such file", quoted(file)))
            .with_hint("correct the path, or write one there with `dstor-sync init`");
    }
    ConfigError::new(format!("there is no configuration: {} does not exist", quoted(file))).with_hint(
        "write one with `dstor-sync init`, name a directory to mirror, or try `dstor-sync run --sandbox DIR`: it needs \
             no account",
    )
}

/// The mirror for the directory on the command line.
pub(super) fn given_mirror(dir: &Path, remote: Option<&str>) -> Result<Mirror, ConfigError> {
    let absolute = places::absolute(dir)?;
    let path = places::resolve(&absolute);
    let placement = match remote {
        Some(remote) => parse_remote("`--remote`", remote)?,
        None => named_after(&absolute, &path).map_err(|error| error.with_hint("name one with `--remote`"))?,
    };
    Ok(Mirror::new(path, placement))
}

/// Of the file's mirrors, the one for the directory on the command line.
fn only_this(
    mut written: Vec<Written>,
    given: &Mirror,
    file: &Path,
    overrides: &Overrides,
) -> Result<Written, ConfigError> {
    let wanted = Place::of(&given.path);
    let relation = |written: &Written| wanted.to(&Place::of(&written.mirror.path));
    let Some(at) = written.iter().position(|written| relation(written) == Some(Relation::Same)) else {
        let message = format!("{} is no mirror in the configuration {}", quoted(&given.path), quoted(file));
        let outer = written.iter().find(|written| relation(written) == Some(Relation::Inside));
        return Err(ConfigError::new(message).with_hint(match outer {
            Some(outer) => format!("it lies in the mirror {}: name that one", quoted(&outer.mirror.path)),
            None => format!(
                "add it there, as [[mirror]] with path = \"{}\", or try it with `--sandbox`",
                plain(&given.path)
            ),
        }));
    };
    let this = written.swap_remove(at);
    if overrides.remote.is_some() && this.mirror.policy.placement != given.policy.placement {
        let message = format!(
            "`--remote` asks for {}, but the configuration {} mirrors {} to {}",
            quoted(given.policy.placement.to_string()),
            quoted(file),
            quoted(&this.mirror.path),
            quoted(this.mirror.policy.placement.to_string())
        );
        return Err(
            ConfigError::new(message).with_hint("leave `--remote` out, or change `remote` in the configuration")
        );
    }
    Ok(this)
}

pub(super) fn overlapping(written: &[Written]) -> Vec<ConfigError> {
    let places: Vec<Place> = written.iter().map(|written| Place::of(&written.mirror.path)).collect();
    let mut found = Vec::new();
    for (at, (later, place)) in written.iter().zip(&places).enumerate() {
        for (earlier, other) in written[..at].iter().zip(&places) {
            let (later_path, earlier_path) = (quoted(&later.mirror.path), quoted(&earlier.mirror.path));
            let how = match place.to(other) {
                None => continue,
                Some(Relation::Same) if later_path == earlier_path => format!("the mirror {later_path} is there twice"),
                Some(Relation::Same) => {
                    format!("the mirror {later_path} is the same directory as the mirror {earlier_path}")
                }
                Some(Relation::Inside) => format!("the mirror {later_path} lies in the mirror {earlier_path}"),
                Some(Relation::Holds) => format!("the mirror {later_path} holds the mirror {earlier_path}"),
            };
            found.push(later.fault(how).with_hint("a file belongs to one mirror only: remove one of the two"));
        }
    }
    found
}

/// A mirror that held the ledger would upload it at every write of its own.
fn holding_state(written: &Written, state_dir: &Path) -> Option<ConfigError> {
    let state_dir = places::resolve(state_dir);
    let mirror = &written.mirror.path;
    let (how, hint) = match Place::of(mirror).to(&Place::of(&state_dir))? {
        Relation::Same => ("is", "mirror another directory"),
        Relation::Inside => ("lies in", "mirror another directory"),
        Relation::Holds => (
            "holds",
            "put the state elsewhere with `--state-dir DIR` or DSTOR_SYNC_STATE_DIR, or mirror only directories beside it",
        ),
    };
    let message = format!("the mirror {} {how} the state directory {}", quoted(mirror), quoted(&state_dir));
    Some(written.fault(message).with_hint(hint))
}

fn no_directory(written: &Written) -> Option<ConfigError> {
    let path = &written.mirror.path;
    if !std::fs::metadata(path).is_ok_and(|found| !found.is_dir()) {
        return None;
    }
    let fault = written.fault(format!("the mirror {} is not a directory", quoted(path)));
    let directory = path.parent().unwrap_or(path);
    Some(fault.with_hint(format!("mirror the directory it lies in: {}", shell_word(directory))))
}

impl Written {
    /// A fault of this mirror.
    fn fault(&self, message: String) -> ConfigError {
        let error = ConfigError::new(message);
        match &self.place {
            Some(place) => error.at(place),
            None => error,
        }
    }
}
