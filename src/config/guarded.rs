//! Reading the config and the secrets, and refusing those that others can touch.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::ConfigError;
use super::error::quoted;
use crate::mirror::shell_word;

/// Larger files are not ours, in bytes: `/dev/zero` must not fill the memory.
const LARGEST: u64 = 1024 * 1024;
/// What the file with certificates of authorities is called.
pub(super) const CA_FILE: &str = "the CA file";
const OTHERS_WRITE: u32 = 0o022;
const OTHERS_READ: u32 = 0o044;

/// What a file is, which says who may touch it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarded {
    /// The config: others may read it.
    Config,
    /// The certificates of authorities: others may read them.
    Authorities,
    /// A file with a secret, by its name for people.
    Secret(&'static str),
    /// A credential that systemd hands over. Others may read it as far as its mode goes: it is 0440 where an access
    /// list lets the service in, and the directory around it keeps everyone else out.
    Handed,
}

impl Guarded {
    fn name(self) -> &'static str {
        match self {
            Self::Config => "the configuration",
            Self::Authorities => CA_FILE,
            Self::Secret(name) => name,
            Self::Handed => "the credential",
        }
    }

    /// Blocking: refuses the file if others can write it, or read it if it is secret. One that cannot be looked at is
    /// left to whoever reads it.
    pub(super) fn check(self, path: &Path) -> Result<(), ConfigError> {
        std::fs::metadata(path).map_or(Ok(()), |found| self.check_mode(path, &found))
    }

    fn check_mode(self, path: &Path, found: &Metadata) -> Result<(), ConfigError> {
        let mode = found.mode() & 0o7777;
        let (may, chmod) = match self {
            Self::Config | Self::Authorities | Self::Handed if mode & OTHERS_WRITE != 0 => ("write", "go-w"),
            Self::Secret(_) if mode & OTHERS_WRITE != 0 => ("write", "600"),
            Self::Secret(_) if mode & OTHERS_READ != 0 => ("read", "600"),
            Self::Config | Self::Authorities | Self::Handed | Self::Secret(_) => return Ok(()),
        };
        let message = format!("others can {may} {} {} (mode {mode:04o})", self.name(), quoted(path));
        Err(ConfigError::new(message).with_hint(format!("chmod {chmod} {}", shell_word(path))))
    }

    /// Blocking: the file's text; `None` if there is no such file.
    pub(super) fn read(self, path: &Path) -> Result<Option<String>, ConfigError> {
        let failed = |cause: io::Error| {
            ConfigError::new(format!("cannot read {} {}", self.name(), quoted(path)))
                .because(cause)
                .with_hint("correct the path, or let this user read the file")
        };
        // Without O_NONBLOCK, a FIFO that nobody writes to would hold us for ever.
        let file = match rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        let found = file.metadata().map_err(failed)?;
        if !found.is_file() {
            return Err(ConfigError::new(format!("{} {} is not a regular file", self.name(), quoted(path)))
                .with_hint("name a file, not a directory or a device"));
        }
        self.check_mode(path, &found)?;
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > LARGEST {
            return Err(ConfigError::new(format!("{} {} is larger than 1 MiB", self.name(), quoted(path)))
                .with_hint("name the right file: this one is too large to be it"));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            // The error holds the bytes: it goes no further, they may be secret.
            Err(_) => Err(ConfigError::new(format!("{} {} is not text in UTF-8", self.name(), quoted(path)))
                .with_hint("name the right file, or save this one as UTF-8")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const SECRET: Guarded = Guarded::Secret("the API key file");

    #[test]
    fn a_file_is_refused_as_soon_as_others_may_do_more_than_they_should() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("f");
        fs::write(&path, "x").expect("written");
        for (mode, config, secret, handed) in [
            (0o600, true, true, true),
            (0o400, true, true, true),
            (0o644, true, false, true),
            (0o440, true, false, true),
            (0o604, true, false, true),
            (0o620, false, false, false),
            (0o602, false, false, false),
        ] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).expect("ours");
            for (guarded, fine) in [(Guarded::Config, config), (SECRET, secret), (Guarded::Handed, handed)] {
                assert_eq!(guarded.check(&path).is_ok(), fine, "{mode:o} {}", guarded.name());
                assert_eq!(guarded.read(&path).is_ok(), fine, "{mode:o} {}", guarded.name());
            }
        }
    }

    #[test]
    fn only_regular_files_of_a_bearable_size_and_in_utf_8_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let message = |path: &Path| Guarded::Config.read(path).expect_err("refused").to_string();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("fifo"), Mode::from_raw_mode(0o600)).expect("a FIFO");
        assert!(message(&path("fifo")).ends_with("is not a regular file"));
        assert!(message(folder.path()).ends_with("is not a regular file"));
        fs::write(path("large"), vec![b'#'; 1024 * 1024 + 1]).expect("written");
        assert!(message(&path("large")).ends_with("is larger than 1 MiB"));
        fs::write(path("latin"), b"\xe9").expect("written");
        assert!(message(&path("latin")).ends_with("is not text in UTF-8"));
        fs::write(path("whole"), vec![b'#'; 1024 * 1024]).expect("written");
        assert!(Guarded::Config.read(&path("whole")).expect("fine").is_some());
        assert!(Guarded::Config.read(&path("none")).expect("fine").is_none());
        assert!(message(&path("latin/x")).starts_with("cannot read the configuration"));
    }
}
