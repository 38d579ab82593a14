//! `key`, and the private keys that `--identity` names.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use super::args::{Generate, Global, Opens, ShowKey};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::places;
use crate::config::{self, Config, ConfigError, Environment, Place, keep_identity, parse_identities, read_identities};
use crate::mirror::shell_word;
use crate::seal::Identities;
use crate::upload::Clock;
use crate::wording::{shown, time};

/// No identity file is longer, in bytes.
const LONGEST: u64 = 1024 * 1024;

pub(super) fn generate(global: &Global, command: &Generate, output: &Output) -> Result<Exit, Failure> {
    let file = config::resolve(&std::path::absolute(&command.file)?);
    if let Some(mirror) = mirror_around(global, &file) {
        let what = format!("`{}` lies in the mirror `{}`, which would upload it", shown(&file), shown(&mirror));
        return Err(Failure::new(Exit::Usage, what).with_hint("name a file elsewhere, best on another machine or disk"));
    }
    let key = Identities::generate(&time(Clock.now()));
    keep_identity(&file, &key).map_err(of_identity)?;
    output.line(&key.recipient);
    output.note(format_args!(
        "The private key is in `{}`. Who has it can read everything; without it nobody",
        shown(&file)
    ));
    output.note("can, so keep a copy where the loss of this machine does not take it along.");
    output.note(format_args!(
        "hint: in the configuration: [encrypt] and below it recipients = [\"{}\"]; then `{}` brings files back",
        key.recipient,
        format_args!("dstor-sync restore DEST --identity {}", shell_word(&file))
    ));
    Ok(Exit::Fine)
}

pub(super) fn show(command: &ShowKey, output: &Output) -> Result<Exit, Failure> {
    read(&command.file)?.recipients().for_each(|recipient| output.line(recipient));
    Ok(Exit::Fine)
}

/// The private keys that a command was given, if any.
pub(super) fn given(opens: &Opens) -> Result<Option<Arc<Identities>>, Failure> {
    opens.identity.as_deref().map(|file| read(file).map(Arc::new)).transpose()
}

fn read(file: &Path) -> Result<Identities, Failure> {
    if file != Path::new("-") {
        return read_identities(file).map_err(of_identity);
    }
    let mut text = String::new();
    let read = std::io::stdin().lock().take(LONGEST).read_to_string(&mut text);
    let text = SecretString::from(text);
    read.map_err(|error| Failure::new(Exit::Attention, format!("cannot read a key from standard input: {error}")))?;
    parse_identities("standard input", text.expose_secret()).map_err(of_identity)
}

/// It is no fault of the configuration.
fn of_identity(error: ConfigError) -> Failure {
    Failure { exit: Exit::Attention, ..error.into() }
}

/// The mirror that a file would lie in, of the configuration or of the agent that ran last.
fn mirror_around(global: &Global, file: &Path) -> Option<std::path::PathBuf> {
    let overrides = places::overrides(global, None);
    let environment = Environment::of_process();
    let configured = Config::load(&overrides, &environment).map(|config| config.mirrors).unwrap_or_default();
    let known = config::state_dir(&overrides, &environment)
        .map_err(Failure::from)
        .and_then(|state_dir| Ok(places::open(&state_dir)?.active_mirrors()?))
        .unwrap_or_default();
    let mut all =
        configured.into_iter().map(|mirror| mirror.path).chain(known.into_iter().map(|row| row.settings.path));
    let parent = Place::of(file.parent()?);
    use crate::config::Relation::{Inside, Same};
    all.find(|mirror| matches!(parent.to(&Place::of(mirror)), Some(Same | Inside)))
}
