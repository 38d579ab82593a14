//! What is wrong with the configuration, and what to do about it.

use std::error::Error as _;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use crate::mirror::escape;

/// One fault of the configuration: what could not be done and where (file, line and key, as far as it has them).
///
/// Nothing in it acts on a terminal, and no secret is ever in it. What the system said is in `source()`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    message: String,
    hint: Option<String>,
    #[source]
    cause: Option<io::Error>,
}

impl ConfigError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, cause: None }
    }

    pub(super) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn because(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    /// The same fault, with where it was found in front.
    pub(super) fn at(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// What the person can do.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

/// Everything that is wrong with the configuration and could be told at once: one fault at least.
#[derive(Debug)]
pub struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// `Ok` if there is none.
    pub(super) fn none_in(found: Vec<ConfigError>) -> Result<(), Self> {
        if found.is_empty() { Ok(()) } else { Err(Self(found)) }
    }

    /// Each fault, in the order of the file.
    pub fn iter(&self) -> std::slice::Iter<'_, ConfigError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a ConfigError;
    type IntoIter = std::slice::Iter<'a, ConfigError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<ConfigError> for ConfigErrors {
    fn from(error: ConfigError) -> Self {
        Self(vec![error])
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    /// A line for each fault, with its cause but without its hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{error}")?;
            if let Some(cause) = error.source() {
                write!(f, ": {cause}")?;
            }
        }
        Ok(())
    }
}

/// Longest text of the user's that is repeated in a message, in characters.
const LONGEST_QUOTE: usize = 4096;

/// `text` in backticks, safe for a terminal and cut where it is endless.
pub(super) fn quoted(text: impl AsRef<OsStr>) -> String {
    format!("`{}`", plain(text))
}

/// `text` safe for a terminal, and cut where it is endless.
pub(super) fn plain(text: impl AsRef<OsStr>) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = escape(text.as_ref().as_bytes(), &mut out);
    if let Some((end, _)) = out.char_indices().nth(LONGEST_QUOTE) {
        out.truncate(end);
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_wrote_is_repeated_in_plain_and_not_without_end() {
        assert_eq!(quoted("a\x1b[2Jb"), r"`a\u{1b}[2Jb`");
        assert_eq!(plain("ä".repeat(4097)), "ä".repeat(4096) + "…");
    }

    #[test]
    fn all_faults_are_told_each_with_its_cause() {
        let denied = ConfigError::new("cannot read `a`").because(io::Error::other("denied"));
        let all = ConfigErrors::none_in(vec![denied, ConfigError::new("b").at("f:1").with_hint("do c")]);
        let all = all.expect_err("there are two");
        assert_eq!(all.to_string(), "cannot read `a`: denied\nf:1: b");
        assert_eq!(all.iter().map(|e| e.hint()).collect::<Vec<_>>(), [None, Some("do c")]);
        assert!(ConfigErrors::none_in(Vec::new()).is_ok());
    }
}
