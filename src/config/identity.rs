//! The file with private keys: made once, read by who brings files back, and never by an agent.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use secrecy::ExposeSecret as _;

use super::ConfigError;
use super::error::quoted;
use super::guarded::Guarded;
use super::stored::cannot_write;
use crate::seal::{Identities, NewKey};

const IDENTITY_FILE: &str = "the identity file";

/// Blocking: the private keys in `file`, which nobody else may read.
///
/// # Errors
/// If it is not there, others can read or write it, or it holds something else. What it holds is never repeated.
pub fn read_identities(file: &Path) -> Result<Identities, ConfigError> {
    let text = Guarded::Secret(IDENTITY_FILE).read(file)?.ok_or_else(|| {
        ConfigError::new(format!("there is no identity file {}", quoted(file)))
            .with_hint("name the file that `dstor-sync key generate` wrote, or - for standard input")
    })?;
    parse_identities(&format!("{IDENTITY_FILE} {}", quoted(file)), &text)
}

/// The private keys in a text, which is called `what`.
///
/// # Errors
/// If it holds something else. What it holds is never repeated.
pub fn parse_identities(what: &str, text: &str) -> Result<Identities, ConfigError> {
    Identities::parse(text).map_err(|why| ConfigError::new(format!("{what} {why}")).with_hint(why.hint()))
}

/// Blocking: keeps a new key in `file`, for its owner alone.
///
/// # Errors
/// If there is a file already: a key is never replaced, as what was encrypted to it would be lost. As the file system says.
pub fn keep_identity(file: &Path, key: &NewKey) -> Result<(), ConfigError> {
    let put = || -> io::Result<()> {
        let mut made = OpenOptions::new().create_new(true).write(true).mode(0o600).open(file)?;
        let written = made.write_all(key.file.expose_secret().as_bytes()).and_then(|()| made.sync_all());
        if written.is_err() {
            // Half a key is none. The first error is the one to tell.
            let _ = fs::remove_file(file);
        }
        written
    };
    put().map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            ConfigError::new(format!("{} is there already, and a key is never replaced", quoted(file)))
                .with_hint("name another file; `dstor-sync key show FILE` prints the public key of one that is there")
        }
        _ => cannot_write(IDENTITY_FILE, file, error),
    })
}
