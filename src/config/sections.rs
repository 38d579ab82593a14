//! What each section of the file means, and which values it may have.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;

use super::credentials::{API_KEY_FILE, PASSWORD_FILE};
use super::document::{Found, Problems, Section};
use super::error::{plain, quoted};
use super::guarded::Guarded;
use super::places;
use super::units::parse_bandwidth;
use super::{
    Alerts, Config, ConfigError, CredentialFiles, Dstor, Encrypt, Environment, Manifest, Metered, Mirror, Overrides,
    Poll, Symlinks, Upload, Verify, Watch,
};
use crate::dstor::is_loopback;
use crate::mirror::{Guard, MirrorPath, Placement, RemoteDir, Rules, Sessions};
use crate::seal::{MOST_RECIPIENTS, Recipient, Recipients};

const SECOND: Duration = Duration::from_secs(1);
const SHORTEST_RESCAN: Duration = Duration::from_secs(10);
const WORKERS: RangeInclusive<u64> = 1..=64;
/// dStor's numbers travel through databases and JSON: 63 bits.
const REMOTE_IDS: RangeInclusive<u64> = 0..=i64::MAX as u64;

/// A mirror, and where it is written.
pub(super) struct Written {
    pub(super) mirror: Mirror,
    /// `FILE:LINE`; `None` for the directory on the command line.
    pub(super) place: Option<String>,
}

/// What the file says. Where it has faults, something stands in their place, and they are returned beside it.
pub(super) fn read_text(
    file: &Path,
    text: &str,
    overrides: &Overrides,
    environment: &Environment,
) -> (Config, Vec<Written>, Vec<ConfigError>) {
    let mut problems = Problems::new(file, text);
    let mut config = Config { source: Some(file.to_owned()), ..Config::without_file() };
    let mut written = Vec::new();
    if let Some(table) = problems.parse() {
        let reading = Reading { base: file.parent().unwrap_or(Path::new("/")), environment };
        let top = Section::top(&table, &mut problems);
        let dstor = top.section("dstor", "[dstor]", &mut problems);
        config.dstor.token_lifetime =
            dstor.duration("token_lifetime", config.dstor.token_lifetime, SECOND, &mut problems).value;
        if !overrides.sandbox {
            config.dstor.url = reading.url(&dstor, &mut problems);
            config.dstor.credential_files = reading.credential_files(&dstor, &mut problems);
            if let Some(Found { value, at }) = reading.path(&dstor, "ca_file", &mut problems) {
                config.dstor.ca_file = Some(value);
                if let Err(error) = config.dstor.authorities() {
                    problems.note(at, error);
                }
            }
        }
        let mirrors = top.sections("mirror", "[[mirror]]", &mut problems);
        let named = mirrors.as_ref().is_none_or(|mirrors| !mirrors.is_empty());
        for section in mirrors.into_iter().flatten() {
            let place = Some(problems.place(section.at));
            written.extend(reading.mirror(&section, &mut problems).map(|mirror| Written { mirror, place }));
        }
        if !named && overrides.dir.is_none() {
            let error = ConfigError::new(format!("the configuration {} names no mirror", quoted(file)));
            problems.note_whole(error.with_hint("add [[mirror]] with path = \"…\", the directory to mirror"));
        }
        config.watch = watch(&top.section("watch", "[watch]", &mut problems), &mut problems);
        config.upload = upload(&top.section("upload", "[upload]", &mut problems), &mut problems);
        config.encrypt = encrypt(&top.section("encrypt", "[encrypt]", &mut problems), &mut problems);
        let verify = top.section("verify", "[verify]", &mut problems);
        config.verify = Verify { budget: verify.a_day("budget", &mut problems) };
        let manifest = top.section("manifest", "[manifest]", &mut problems);
        config.manifest = Manifest { every: manifest.duration_or_none("every", SECOND, &mut problems) };
        config.alerts = alerts(&top.section("alerts", "[alerts]", &mut problems), &mut problems);
    }
    (config, written, problems.into_found())
}

/// What paths in the file count from.
struct Reading<'a> {
    base: &'a Path,
    environment: &'a Environment,
}

impl Reading<'_> {
    fn url(&self, dstor: &Section<'_>, problems: &mut Problems<'_>) -> Url {
        let Some(Found { value, at }) = dstor.text("url", problems) else { return Dstor::default().url };
        parse_url(&dstor.key("url"), value).unwrap_or_else(|error| {
            problems.note(at, error);
            Dstor::default().url
        })
    }

    fn path(&self, section: &Section<'_>, key: &str, problems: &mut Problems<'_>) -> Option<Found<PathBuf>> {
        let Found { value, at } = section.text(key, problems)?;
        match places::expand(value, self.base, self.environment) {
            Ok(value) => Some(Found { value, at }),
            Err(error) => {
                problems.note(at, error.at(section.key(key)));
                None
            }
        }
    }

    fn credential_files(&self, dstor: &Section<'_>, problems: &mut Problems<'_>) -> CredentialFiles {
        let api_key = self.path(dstor, "api_key_file", problems);
        let email = dstor.text("email", problems);
        let password = self.path(dstor, "password_file", problems);
        for (secret, name) in [(&api_key, API_KEY_FILE), (&password, PASSWORD_FILE)] {
            if let Some(secret) = secret
                && let Err(error) = Guarded::Secret(name).check(&secret.value)
            {
                problems.note(secret.at, error);
            }
        }
        let both = "give either `api_key_file` or `email` and `password_file`";
        match (api_key, email, password) {
            (Some(file), None, None) => CredentialFiles::ApiKey(file.value),
            (None, Some(email), Some(password)) => {
                if email.value.is_empty() || email.value.chars().any(|c| c.is_whitespace() || c.is_control()) {
                    let message = format!("{} is no address: {}", dstor.key("email"), quoted(email.value));
                    problems.note(email.at, ConfigError::new(message).with_hint("write it like \"me@example.org\""));
                }
                CredentialFiles::Login { email: email.value.to_owned(), password_file: password.value }
            }
            (None, None, None) => CredentialFiles::None,
            (Some(_), Some(Found { at, .. }), _) | (Some(_), None, Some(Found { at, .. })) => {
                let error = ConfigError::new("[dstor] has both an API key and a login");
                problems.note(at, error.with_hint(both));
                CredentialFiles::None
            }
            (None, Some(Found { at, .. }), None) => {
                // One that is there and cannot be read has been told.
                if !dstor.has("password_file") {
                    let error = ConfigError::new("[dstor] has `email` without `password_file`");
                    problems.note(at, error.with_hint("name the file with the password, or use `api_key_file`"));
                }
                CredentialFiles::None
            }
            (None, None, Some(Found { at, .. })) => {
                if !dstor.has("email") {
                    let error = ConfigError::new("[dstor] has `password_file` without `email`");
                    problems.note(at, error.with_hint("give the account's e-mail address, or use `api_key_file`"));
                }
                CredentialFiles::None
            }
        }
    }

    fn mirror(&self, section: &Section<'_>, problems: &mut Problems<'_>) -> Option<Mirror> {
        if !section.has("path") {
            let error = ConfigError::new("[[mirror]] has no `path`");
            problems.note(section.at, error.with_hint("add path = \"…\", the directory to mirror"));
        }
        let path = self.path(section, "path", problems);
        let placement = self.placement(section, path.as_ref(), problems);
        let of = path.as_ref().map(|path| path.value.as_path());
        let exclude = patterns(section, "exclude", of, problems);
        let allowed = patterns(section, "allow_secrets", of, problems);
        let symlinks = section.choice(
            "symlinks",
            &[("skip", Symlinks::Skip), ("follow", Symlinks::Follow)],
            Symlinks::Skip,
            problems,
        );
        if symlinks.value == Symlinks::Follow {
            problems.note(symlinks.at, unsupported("symlinks = \"follow\"", "symlinks = \"skip\" leaves links out"));
        }
        let poll = section.interval("poll", Mirror::POLL, SECOND, problems);
        let max_file_size = section.size("max_file_size", Mirror::MAX_FILE_SIZE, problems);
        let comment = section.text("comment", problems).map_or_else(String::new, |comment| comment.value.to_owned());
        let hidden = section.yes_or_no("hidden", true, problems);
        let rescan = section.duration("rescan", Mirror::RESCAN, SHORTEST_RESCAN, problems).value;
        let mut mirror = Mirror::new(places::resolve(&path?.value), placement?);
        mirror.policy.max_file_size = max_file_size;
        mirror.policy.guard = Guard::new(allowed);
        Some(Mirror {
            comment,
            exclude,
            hidden,
            symlinks: symlinks.value,
            poll: poll.map_or(Poll::Events, Poll::Every),
            rescan,
            ..mirror
        })
    }

    fn placement(
        &self,
        section: &Section<'_>,
        path: Option<&Found<PathBuf>>,
        problems: &mut Problems<'_>,
    ) -> Option<Placement> {
        let remote = section.text("remote", problems);
        let id = section.number("remote_id", REMOTE_IDS, problems);
        let (at, placement) = match (remote, id) {
            (Some(_), Some(id)) => {
                let error = ConfigError::new("[[mirror]] has both `remote` and `remote_id`");
                (id.at, Err(error.with_hint("keep one of them: `remote` is a path on dStor, `remote_id` a number")))
            }
            (Some(remote), None) => (remote.at, parse_remote(&section.key("remote"), remote.value)),
            (None, Some(id)) => (id.at, Ok(Placement::Id(id.value))),
            // One that is there and cannot be read has been told.
            (None, None) if section.has("remote") || section.has("remote_id") => return None,
            (None, None) => {
                let path = path?;
                let named = named_after(&path.value, &places::resolve(&path.value));
                (path.at, named.map_err(|error| error.with_hint("add remote = \"…\", its directory on dStor")))
            }
        };
        placement.map_err(|error| problems.note(at, error)).ok()
    }
}

fn patterns(section: &Section<'_>, key: &str, path: Option<&Path>, problems: &mut Problems<'_>) -> Vec<String> {
    let patterns = section.list(key, problems);
    let (_, bad) = Rules::parse(key, MirrorPath::top(), patterns.iter().map(|pattern| pattern.value));
    for (line, why) in bad {
        let of = path.map_or_else(String::new, |path| format!(" of the mirror {}", quoted(path)));
        let pattern = line.checked_sub(1).and_then(|at| patterns.get(at));
        let which = pattern.map_or_else(String::new, |pattern| format!(" {}", quoted(pattern.value)));
        let message = format!("`{key}`{of}: the pattern{which} is no rule: {}", plain(why));
        let error = ConfigError::new(message).with_hint("the syntax is gitignore's, such as \"*.tmp\" or \"cache/\"");
        problems.note(pattern.map_or(section.at, |pattern| pattern.at), error);
    }
    patterns.into_iter().map(|pattern| pattern.value.to_owned()).collect()
}

fn watch(section: &Section<'_>, problems: &mut Problems<'_>) -> Watch {
    let default = Watch::default();
    let settle = section.duration("settle", default.settle, Duration::ZERO, problems).value;
    let max_delay = section.duration("max_delay", default.max_delay, Duration::ZERO, problems);
    if max_delay.value < settle {
        let error = ConfigError::new("`max_delay` in [watch] is shorter than `settle`");
        problems.note(max_delay.at, error.with_hint("make `max_delay` as long as `settle` or longer"));
    }
    Watch { settle, max_delay: max_delay.value }
}

fn upload(section: &Section<'_>, problems: &mut Problems<'_>) -> Upload {
    let default = Upload::default();
    let workers = section.number("workers", WORKERS, problems).map(|workers| workers.value);
    let bandwidth = section.text("bandwidth", problems).and_then(|bandwidth| {
        let read = parse_bandwidth(bandwidth.value);
        if read.is_none() {
            let what = format!("`bandwidth` is {:?}, which is no limit", bandwidth.value);
            let error = ConfigError::new(what).with_hint(
                "such as \"2 MiB/s\", or by the time of day \"08:00 512 KiB/s, 18:00 none\"; \"\" means no limit",
            );
            problems.note(bandwidth.at, error);
        }
        read
    });
    let words = [("auto", Sessions::Auto), ("always", Sessions::Always), ("never", Sessions::Never)];
    let sessions = section.choice("sessions", &words, default.sessions, problems).value;
    let metered =
        section.choice("metered", &[("pause", Metered::Pause), ("go", Metered::Go)], default.metered, problems);
    Upload {
        workers: workers.and_then(|workers| usize::try_from(workers).ok()).unwrap_or(default.workers),
        bandwidth: bandwidth.unwrap_or_default(),
        metered: metered.value,
        sessions,
        retry_max_delay: section.duration("retry_max_delay", default.retry_max_delay, SECOND, problems).value,
        stall_timeout: section.duration("stall_timeout", default.stall_timeout, SECOND, problems).value,
        shutdown_grace: section.duration("shutdown_grace", default.shutdown_grace, Duration::ZERO, problems).value,
    }
}

fn encrypt(section: &Section<'_>, problems: &mut Problems<'_>) -> Encrypt {
    // Nobody writes the section to have nothing encrypted, and finds out when it is too late.
    if section.is_there() && !section.has("recipients") {
        let error = ConfigError::new("[encrypt] has no `recipients`, so nothing would be encrypted");
        let hint = "add recipients = [\"age1…\"], the public keys; `dstor-sync key generate FILE` makes one";
        problems.note(section.at, error.with_hint(hint));
    }
    let mut recipients = Vec::new();
    for Found { value, at } in section.list("recipients", problems) {
        match Recipient::parse(value.trim()) {
            Ok(recipient) => recipients.push(recipient),
            Err(why) => {
                let error = ConfigError::new(format!("an entry of {} {why}", section.key("recipients")));
                problems.note(at, error.with_hint(why.hint()));
            }
        }
    }
    if recipients.len() > MOST_RECIPIENTS {
        let error = ConfigError::new(format!("{} has {} entries", section.key("recipients"), recipients.len()));
        problems.note(section.at, error.with_hint(format!("{MOST_RECIPIENTS} are the most")));
    }
    let recipients = Recipients::new(recipients);
    let names = section.yes_or_no("names", false, problems);
    if names && recipients.is_none() && section.has("recipients") {
        let error = ConfigError::new(format!(
            "{} is true, and {} names nobody",
            section.key("names"),
            section.key("recipients")
        ));
        let hint = "names are hidden only where files are encrypted: name a public key, or leave `names` out";
        problems.note(section.at, error.with_hint(hint));
    }
    Encrypt { recipients, names }
}

fn alerts(section: &Section<'_>, problems: &mut Problems<'_>) -> Alerts {
    let mut command = |key| {
        let written = section.text(key, problems).map(|command| command.value.trim().to_owned());
        written.filter(|command| !command.is_empty())
    };
    let (on_problem, on_recovered) = (command("on_problem"), command("on_recovered"));
    let desktop = section.yes_or_no("desktop", false, problems);
    let heartbeat = section.text("heartbeat", problems).filter(|address| !address.value.is_empty());
    let heartbeat = heartbeat.and_then(|Found { value, at }| {
        let url = Url::parse(value).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        if url.is_none() {
            // Without what is written there: who knows the right address can send heartbeats in this machine's name.
            let error = ConfigError::new(format!("{} is no http or https address", section.key("heartbeat")));
            problems.note(at, error.with_hint("give the whole address that is to be fetched, or \"\" for none"));
        }
        url
    });
    let every = section.duration("every", Alerts::default().every, Duration::ZERO, problems).value;
    Alerts { on_problem, on_recovered, desktop, heartbeat, every }
}

/// An option that silently did nothing would be worse.
fn unsupported(what: &str, hint: &str) -> ConfigError {
    ConfigError::new(format!("{what} is not supported by this version")).with_hint(hint)
}

/// The service's address. What could hold a secret is not repeated.
pub(super) fn parse_url(key: &str, text: &str) -> Result<Url, ConfigError> {
    let hint = "write it like \"https://api.dstor.cloud\"";
    let fault = |what: &str, hint: &str| Err(ConfigError::new(format!("{key} {what}")).with_hint(hint));
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => return fault(&format!("is no web address: {error}"), hint),
    };
    if !url.username().is_empty() || url.password().is_some() {
        return fault(
            "holds a user name or a password",
            "credentials have their own places: `api_key_file`, or the environment variable DSTOR_API_KEY",
        );
    }
    if url.query().is_some() || url.fragment().is_some() {
        return fault("has a part after `?` or `#`", "give scheme, host and port only");
    }
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => {
            return fault(
                "is plain http: everyone on the way could read the credentials and the files",
                "use https; plain http is for loopback addresses only: 127.0.0.1, [::1], localhost",
            );
        }
        _ => return fault("is neither https nor http", hint),
    }
    if url.path() != "/" {
        return fault(&format!("has a path: {}", quoted(url.path())), "give scheme, host and port only");
    }
    Ok(url)
}

pub(super) fn parse_remote(key: &str, text: &str) -> Result<Placement, ConfigError> {
    let parsed = RemoteDir::parse(text).map(Placement::Path);
    parsed.map_err(|bad| {
        ConfigError::new(format!("{key} is no directory on dStor: {}: {bad}", quoted(text)))
            .with_hint("write it like \"Documents/2026\"; \"\" is the top")
    })
}

/// The dStor directory with the name of the directory `path`, or of what it leads to where it ends in dots.
pub(super) fn named_after(path: &Path, resolved: &Path) -> Result<Placement, ConfigError> {
    let name = path.file_name().or_else(|| resolved.file_name());
    let remote = name.and_then(|name| name.to_str()).and_then(|name| RemoteDir::parse(name).ok());
    remote.map(Placement::Path).ok_or_else(|| {
        ConfigError::new(format!("{} has no name that a directory on dStor could have", quoted(resolved)))
    })
}
