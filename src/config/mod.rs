//! The configuration: the file, the environment and the flags, made into validated parts.
//!
//! | here | what it does |
//! |---|---|
//! | `environment` | the variables and flags that matter, captured |
//! | `places` | where config and state lie; what a path in the config means; how directories lie to each other |
//! | `document` | the file's text as typed values, each with its line; `units`: sizes and durations |
//! | `sections` | what each section of the file means, and which values it may have |
//! | `load` | file, environment and flags together, and whether the mirrors can live side by side |
//! | `guarded` | reading files that others must not touch |
//! | `credentials` | where credentials are looked for, and in which order |
//! | `identity` | the file with private keys, for who brings files back |
//! | `stored` | what `login` and `init` keep beside the config |
//! | `show` | the effective config as TOML |
//! | `draft`, `first` | a first config: its text, and writing it; `keep`: files that are there whole or not at all |
//!
//! It asks nothing of dStor and opens no mirrored directory.

mod credentials;
mod document;
mod draft;
mod environment;
mod error;
mod first;
#[cfg(test)]
mod fuzz;
mod guarded;
mod identity;
mod keep;
mod load;
mod places;
mod sections;
mod show;
mod stored;
#[cfg(test)]
mod tests;
mod units;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

pub use credentials::{CredentialSources, Source, given_key, given_login};
pub use draft::Draft;
pub use environment::{Environment, Overrides};
pub use error::{ConfigError, ConfigErrors};
pub use first::{Begun, Secret, remote, typed_path};
pub use identity::{keep_identity, parse_identities, read_identities};
pub use places::{Place, Relation, config_path, resolve, state_dir};
pub use stored::{Store, keep_api_key, keep_password, kept_form};

use crate::dstor::Authorities;
use crate::mirror::{Included, MirrorPath, Placement, Policy, Rules, Sessions, Timetable};
use crate::seal::Recipients;
use error::quoted;
use guarded::{CA_FILE, Guarded};

/// The whole configuration, validated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The account and its service.
    pub dstor: Dstor,
    /// What is mirrored: one at least, and none within another.
    pub mirrors: Vec<Mirror>,
    /// When a changed file is looked at.
    pub watch: Watch,
    /// How files are uploaded.
    pub upload: Upload,
    /// To whom files are encrypted before they leave this machine.
    pub encrypt: Encrypt,
    /// How stored files are read back.
    pub verify: Verify,
    /// When the list of files is stored on dStor.
    pub manifest: Manifest,
    /// Who is told that something needs them.
    pub alerts: Alerts,
    /// The file it was read from; `None` where there is none.
    pub source: Option<PathBuf>,
}

/// The account and its service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Dstor {
    /// Scheme, host and port: https, or http to a loopback address. With a sandbox, it does not matter.
    pub url: Url,
    /// The file with certificates of authorities that count beside the system's.
    pub ca_file: Option<PathBuf>,
    /// How long a token shall live.
    pub token_lifetime: Duration,
    /// Where the file says that the credentials are.
    pub credential_files: CredentialFiles,
}

/// The files that the config names for credentials, with their paths in full.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CredentialFiles {
    /// It names none.
    None,
    /// The file with the API key.
    ApiKey(PathBuf),
    /// The login.
    Login {
        /// The account's e-mail address.
        email: String,
        /// The file with its password.
        password_file: PathBuf,
    },
}

/// One mirrored directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mirror {
    /// The directory: absolute, and without links as far as it exists.
    pub path: PathBuf,
    /// Where it goes, and what it takes.
    pub policy: Policy,
    /// Kept with each file on dStor. Empty: none.
    pub comment: String,
    /// What is left out, in gitignore's syntax; every pattern is one.
    pub exclude: Vec<String>,
    /// Whether dot files belong to it.
    pub hidden: bool,
    /// What becomes of symbolic links.
    pub symlinks: Symlinks,
    /// How changes are noticed.
    pub poll: Poll,
    /// How often everything is compared, beside the watcher.
    pub rescan: Duration,
}

/// What becomes of symbolic links.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symlinks {
    /// They are left out.
    Skip,
    /// What they lead to is mirrored, never out of the mirror. Refused by [`Config::load`]: not built yet.
    Follow,
}

/// How changes are noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Poll {
    /// The system tells.
    Events,
    /// By looking this often, for file systems that send no events.
    Every(Duration),
}

/// When a changed file is looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watch {
    /// Quiet time before it is. May be zero.
    pub settle: Duration,
    /// One that never goes quiet is looked at after this long; never shorter than `settle`.
    pub max_delay: Duration,
}

/// How files are uploaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upload {
    /// How many at a time: 1 to 64.
    pub workers: usize,
    /// How fast they may go, all of them together.
    pub bandwidth: Timetable,
    /// What becomes of them while the connection is metered.
    pub metered: Metered,
    /// Whether many small files go in one request.
    pub sessions: Sessions,
    /// The longest back-off.
    pub retry_max_delay: Duration,
    /// A request that moved no byte for so long is dead.
    pub stall_timeout: Duration,
    /// How long uploads may go on once the agent is asked to stop. May be zero.
    pub shutdown_grace: Duration,
}

/// Whether files are encrypted before they leave this machine.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Encrypt {
    /// To whom; `None`: they go as they are.
    pub recipients: Option<Recipients>,
    /// Whether the names of files and directories travel as pseudonyms.
    pub names: bool,
}

/// What the agent does while the connection is metered, as over a telephone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Metered {
    /// It begins no upload.
    Pause,
    /// It goes on.
    Go,
}

/// How stored files are read back by the agent, beside what `verify` is told to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Verify {
    /// Bytes a day; `None`: nothing.
    pub budget: Option<u64>,
}

/// When the agent stores the list of a mirror's files on dStor, beside what `manifest publish` is told to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Manifest {
    /// No more often; `None`: not by itself.
    pub every: Option<Duration>,
}

/// Who is told that something needs them, without looking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alerts {
    /// Run by a shell when something needs a person.
    pub on_problem: Option<String>,
    /// Run by a shell when nothing does any more.
    pub on_recovered: Option<String>,
    /// Whether the desktop shows a notice for either.
    pub desktop: bool,
    /// Fetched after each scan that left everything stored: http or https.
    pub heartbeat: Option<Url>,
    /// Commands for problems are run no more often.
    pub every: Duration,
}

impl Default for Alerts {
    fn default() -> Self {
        let every = Duration::from_secs(3600);
        Self { on_problem: None, on_recovered: None, desktop: false, heartbeat: None, every }
    }
}

/// Something that is allowed and yet may not be what was meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// What there is.
    pub what: String,
    /// What follows from it, or what to do.
    pub so: String,
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.so)
    }
}

impl Default for Dstor {
    fn default() -> Self {
        Self {
            url: Url::parse("https://api.dstor.cloud").expect("it is a URL"),
            ca_file: None,
            token_lifetime: Duration::from_secs(3600),
            credential_files: CredentialFiles::None,
        }
    }
}

impl Dstor {
    /// Blocking: whose word on certificates counts beside the system's.
    ///
    /// # Errors
    /// The file cannot be used: others can write it, it is not there, or it holds no certificates.
    pub fn authorities(&self) -> Result<Authorities, ConfigError> {
        let Some(file) = &self.ca_file else { return Ok(Authorities::default()) };
        let pem = Guarded::Authorities.read(file)?.ok_or_else(|| {
            ConfigError::new(format!("{CA_FILE} {} does not exist", quoted(file)))
                .with_hint("correct `ca_file`, or leave it out to trust the system's authorities alone")
        })?;
        Authorities::from_pem(&pem).map_err(|why| {
            ConfigError::new(format!("{CA_FILE} {} cannot be used: {why}", quoted(file)))
                .with_hint("it holds certificates in PEM: -----BEGIN CERTIFICATE----- and so on")
        })
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self { settle: Duration::from_secs(2), max_delay: Duration::from_secs(60) }
    }
}

impl Default for Upload {
    fn default() -> Self {
        Self {
            workers: 4,
            bandwidth: Timetable::default(),
            metered: Metered::Pause,
            sessions: Sessions::Auto,
            retry_max_delay: Duration::from_secs(15 * 60),
            stall_timeout: Duration::from_secs(60),
            shutdown_grace: Duration::from_secs(20),
        }
    }
}

impl Mirror {
    /// Larger files are skipped where the config does not say otherwise; bytes.
    const MAX_FILE_SIZE: u64 = 10 << 30;
    const RESCAN: Duration = Duration::from_secs(3600);
    /// What `poll = true` means.
    const POLL: Duration = Duration::from_secs(30);

    /// `path` mirrored to `placement`, and everything else as by default.
    #[must_use]
    pub fn new(path: PathBuf, placement: Placement) -> Self {
        Self {
            path,
            policy: Policy { max_file_size: Self::MAX_FILE_SIZE, ..Policy::new(placement) },
            comment: String::new(),
            exclude: Vec::new(),
            hidden: true,
            symlinks: Symlinks::Skip,
            poll: Poll::Events,
            rescan: Self::RESCAN,
        }
    }

    /// Blocking: what lies at its top that people keep to themselves, and that no rule of the config leaves out (G13).
    fn secrets(&self) -> impl Iterator<Item = &'static str> {
        const SECRETS: [&str; 10] = [
            ".ssh",
            ".gnupg",
            ".aws",
            ".kube",
            ".password-store",
            ".netrc",
            ".git-credentials",
            ".env",
            ".npmrc",
            ".pypirc",
        ];
        let (rules, _) = Rules::parse("exclude", MirrorPath::top(), self.exclude.iter().map(String::as_str));
        SECRETS.into_iter().filter(move |name| {
            let (Ok(found), Some(path)) =
                (self.path.join(name).symlink_metadata(), MirrorPath::from_bytes(name.as_bytes()))
            else {
                return false;
            };
            !found.is_symlink() && Included::judge(&path, found.is_dir(), self.hidden, [&rules].into_iter()).is_yes()
        })
    }
}

/// The address of a dStor, where there is no file to name one.
///
/// # Errors
/// [`ConfigError`] if it is none, or credentials sent there could be overheard.
pub fn service_url(text: &str) -> Result<Url, ConfigError> {
    sections::parse_url("the address of dStor", text)
}

impl Config {
    /// Blocking: the address of dStor, where there need be no config: that of the file, of `DSTOR_URL`, or the usual one.
    ///
    /// # Errors
    /// If there is a config with faults in it, or the address is none.
    pub fn service(overrides: &Overrides, environment: &Environment) -> Result<Url, ConfigErrors> {
        load::service(overrides, environment)
    }

    /// Blocking: reads the config and validates all of it.
    ///
    /// With `overrides.dir`, only that directory is mirrored: one of the file's mirrors, or any where there is no file or
    /// with a sandbox. A mirror's directory need not be there: see [`Self::missing_mirrors`].
    ///
    /// # Errors
    /// [`ConfigErrors`] with everything that is wrong and can be told at once.
    pub fn load(overrides: &Overrides, environment: &Environment) -> Result<Self, ConfigErrors> {
        load::load(overrides, environment)
    }

    /// Blocking: as [`load`](Self::load), for who tells what is wrong: it looks at the directories that are named, and one of
    /// a share whose server is away may never answer. The thread that waits for it ends with the program.
    ///
    /// # Errors
    /// As [`load`](Self::load), or if it takes longer than `longest`.
    pub fn load_within(
        longest: Duration,
        overrides: Overrides,
        environment: Environment,
    ) -> Result<Self, ConfigErrors> {
        let (answer, answered) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Nobody may be waiting any more.
            let _ = answer.send(Self::load(&overrides, &environment));
        });
        answered.recv_timeout(longest).unwrap_or_else(|_| {
            let error = ConfigError::new("a directory that it names does not answer: its file system hangs");
            let hint = "see to the server of its share and to the network, or unmount it (`umount -f`)";
            Err(error.with_hint(hint).into())
        })
    }

    /// The defaults, without a mirror: where there is no file.
    pub(crate) fn without_file() -> Self {
        Self {
            dstor: Dstor::default(),
            mirrors: Vec::new(),
            watch: Watch::default(),
            upload: Upload::default(),
            encrypt: Encrypt::default(),
            verify: Verify::default(),
            manifest: Manifest::default(),
            alerts: Alerts::default(),
            source: None,
        }
    }

    /// Blocking: the mirrors whose directory is not there now. Its disk may not be mounted.
    #[must_use]
    pub fn missing_mirrors(&self) -> Vec<&Mirror> {
        self.mirrors.iter().filter(|mirror| !mirror.path.is_dir()).collect()
    }

    /// Blocking: what is allowed and yet may not be what was meant.
    #[must_use]
    pub fn warnings(&self) -> Vec<Warning> {
        let mut warnings = Vec::new();
        for (at, mirror) in self.mirrors.iter().enumerate() {
            let path = quoted(&mirror.path);
            for (what, file) in self.own_files() {
                if places::resolve(file).starts_with(&mirror.path) {
                    warnings.push(Warning {
                        what: format!("the mirror {path} holds {what} {}", quoted(file)),
                        so: "it is left out, but copies that an editor makes of it are not".into(),
                    });
                }
            }
            for secret in mirror.secrets() {
                warnings.push(Warning {
                    what: format!("the mirror {path} holds {}, which is for no one else", quoted(secret)),
                    so: match self.encrypt.recipients {
                        None => {
                            "unless `exclude` names it, it is uploaded, and whoever has its hash can read it".into()
                        }
                        Some(_) if self.encrypt.names => "unless `exclude` names it, it is uploaded, encrypted".into(),
                        Some(_) => "unless `exclude` names it, it is uploaded, encrypted, under its name".into(),
                    },
                });
            }
            if let Placement::Id(id) = mirror.policy.placement {
                warnings.push(Warning {
                    what: format!("the mirror {path} goes to the dStor directory #{id} by its number"),
                    so: "files in subdirectories are skipped; give `remote` to mirror them too".into(),
                });
            }
            let same = |other: &&Mirror| other.policy.placement == mirror.policy.placement;
            if let Some(other) = self.mirrors[..at].iter().find(same) {
                let (other, there) = (quoted(&other.path), quoted(mirror.policy.placement.to_string()));
                warnings.push(Warning {
                    what: format!("the mirrors {other} and {path} go to the same dStor directory {there}"),
                    so: "files of the same name take each other's place there".into(),
                });
            }
        }
        warnings
    }

    /// Blocking: the files and directories, without links, that no mirror may take: the config, the files with secrets, and
    /// where systemd hands over credentials.
    #[must_use]
    pub fn own_paths(&self, environment: &Environment) -> Vec<PathBuf> {
        let handed = environment.get("CREDENTIALS_DIRECTORY").map(Path::new);
        let stored = stored::Store::of(self, environment).map(|store| store.files()).into_iter().flatten();
        let named = self.own_files().into_iter().map(|(_, file)| file).chain(handed).map(places::resolve);
        named.chain(stored.map(|file| places::resolve(&file))).collect()
    }

    /// The config and the files with secrets, and what each is called.
    fn own_files(&self) -> Vec<(&'static str, &Path)> {
        let config = self.source.as_deref().map(|file| ("the configuration", file));
        let secret = match &self.dstor.credential_files {
            CredentialFiles::None => None,
            CredentialFiles::ApiKey(file) => Some((credentials::API_KEY_FILE, file.as_path())),
            CredentialFiles::Login { password_file, .. } => Some((credentials::PASSWORD_FILE, password_file.as_path())),
        };
        config.into_iter().chain(secret).collect()
    }
}
