//! Which state directory a command is about, and which mirror a path belongs to.

use std::path::{Path, PathBuf};

use crate::config::{self, Config, Environment, Overrides};
use crate::ledger::{AgentLock, Ledger, Millis, MirrorRow};
use crate::mirror::{MirrorPath, shell_word};
use crate::plan::LEDGER;
use crate::wording::{shown, time};

use super::args::{Global, Run, Which};
use super::exit::{Exit, Failure};
use super::output::Output;

/// Where `run --sandbox` keeps its ledger and objects, below the state directory.
pub(super) const SANDBOX: &str = "sandbox";

pub(super) fn overrides(global: &Global, run: Option<&Run>) -> Overrides {
    Overrides {
        config: global.config.clone(),
        state_dir: global.state_dir.clone(),
        dir: run.and_then(|run| run.dir.clone()),
        remote: run.and_then(|run| run.remote.clone()),
        sandbox: run.is_some_and(|run| run.sandbox),
    }
}

/// The state directory whose ledger a reading command is about. Where only a sandbox ever ran, that one.
pub(super) fn state_dir(global: &Global, which: &Which) -> Result<PathBuf, Failure> {
    let base = config::state_dir(&overrides(global, None), &Environment::of_process())?;
    let sandbox = base.join(SANDBOX);
    let only_sandbox = !base.join(LEDGER).exists() && sandbox.join(LEDGER).exists();
    Ok(if which.sandbox || only_sandbox { sandbox } else { base })
}

/// A word for who asks about an agent that does not run while one with a sandbox does.
pub(super) fn other_agent(state_dir: &Path) -> Option<&'static str> {
    (!AgentLock::is_held(state_dir) && AgentLock::is_held(&state_dir.join(SANDBOX)))
        .then_some("an agent with a sandbox is running; `dstor-sync status --sandbox` tells of it")
}

/// A path on the command line, as mirrors know it: absolute, links resolved in all but its last part.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    let absolute = std::path::absolute(path)?;
    let resolved = match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) if !path.ends_with("..") => parent.canonicalize().map(|parent| parent.join(name)),
        _ => absolute.canonicalize(),
    };
    // A directory given with a slash at its end, or one that is itself a link to a mirror, is resolved as a whole below.
    Ok(resolved.unwrap_or(absolute))
}

/// The mirror that `path` lies in, and where.
pub(super) fn find<'a>(mirrors: &'a [MirrorRow], path: &Path) -> Result<(&'a MirrorRow, MirrorPath), Failure> {
    let absolute = absolute(path)?;
    let candidates = [Some(absolute.clone()), absolute.canonicalize().ok()];
    for candidate in candidates.iter().flatten() {
        for mirror in mirrors {
            if let Some(below) = MirrorPath::relative(&mirror.settings.path, candidate) {
                return Ok((mirror, below));
            }
        }
    }
    let known: Vec<String> = mirrors.iter().map(|mirror| format!("`{}`", shown(&mirror.settings.path))).collect();
    let hint = if known.is_empty() {
        "there is no mirror yet; `dstor-sync run DIR` begins one".into()
    } else {
        format!("mirrors: {}", known.join(", "))
    };
    Err(Failure::new(Exit::Attention, format!("`{}` is in no mirror", shown(path))).with_hint(hint))
}

/// The one mirror that everything named lies in, and where; without a name, the only one. `several`: why there can be no more,
/// and the command that names one.
pub(super) fn only<'a>(
    mirrors: &'a [MirrorRow],
    named: &[PathBuf],
    (why, command): (&str, &str),
) -> Result<(&'a MirrorRow, Vec<MirrorPath>), Failure> {
    let none = || Failure::new(Exit::Attention, "there is no mirror yet").with_hint("`dstor-sync run DIR` begins one");
    if named.is_empty() {
        return match mirrors {
            [only] => Ok((only, vec![MirrorPath::top()])),
            [] => Err(none()),
            [first, ..] => {
                let several = format!("there are {} mirrors, and {why}", mirrors.len());
                let hint = format!("name one: `{command} {}`", shell_word(&first.settings.path));
                Err(Failure::new(Exit::Usage, several).with_hint(hint))
            }
        };
    }
    let mut found: Option<&MirrorRow> = None;
    let mut paths = Vec::new();
    for path in named {
        let (mirror, below) = find(mirrors, path)?;
        if found.is_some_and(|first| first.id != mirror.id) {
            return Err(Failure::new(Exit::Usage, format!("the paths lie in more than one mirror, and {why}"))
                .with_hint("name those of one mirror at a time"));
        }
        found = Some(mirror);
        paths.push(below);
    }
    Ok((found.ok_or_else(none)?, paths))
}

/// The directories that are mirrored, by the ledger or the configuration.
pub(super) fn mirrored(overrides: &Overrides, environment: &Environment, mirrors: &[MirrorRow]) -> Vec<PathBuf> {
    let mut mirrored: Vec<PathBuf> = mirrors.iter().map(|mirror| mirror.settings.path.clone()).collect();
    // A configuration that is none has no mirrors that an agent could run on.
    let configured = Config::load(overrides, environment).map(|config| config.mirrors).unwrap_or_default();
    mirrored.extend(configured.into_iter().map(|mirror| mirror.path));
    mirrored.sort();
    mirrored.dedup();
    mirrored
}

/// Tells if not everything of a time is on record, and what that means.
pub(super) fn tell_of_gaps(ledger: &Ledger, at: Millis, output: &Output) -> Result<Exit, Failure> {
    let Some(until) = ledger.is_unrecorded(at)? else { return Ok(Exit::Fine) };
    let until = if until == Millis::MAX { "a newer version of the agent runs".into() } else { time(until) };
    output.note(format_args!(
        "warning: of {} not everything is on record: what was replaced or removed before {until} may be missing",
        time(at)
    ));
    Ok(Exit::Attention)
}

pub(super) fn open(state_dir: &Path) -> Result<Ledger, Failure> {
    Ok(Ledger::open_read_only(&state_dir.join(LEDGER))?)
}

/// The ledger, in this version's form, for a small write beside a running agent.
pub(super) fn open_for_a_word(state_dir: &Path) -> Result<Ledger, Failure> {
    let path = state_dir.join(LEDGER);
    if open(state_dir)?.is_of_an_older_form()? {
        let Ok(_lock) = AgentLock::take(state_dir) else {
            return Err(Failure::new(
                Exit::Attention,
                "the agent that runs is of an older version, and so is its ledger",
            )
            .with_hint("restart the agent with this version"));
        };
        drop(Ledger::open(&path)?);
    }
    Ok(Ledger::open_for_a_word(&path)?)
}
