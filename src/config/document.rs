//! The config's text as sections of typed values, each with its line. What cannot be read is noted, and reading goes on:
//! all faults are told at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use super::error::{plain, quoted};
use super::units::{duration_text, parse_a_day, parse_duration, parse_size};

/// Every key there is, by section.
const KNOWN: [(&str, &[&str]); 9] = [
    ("the configuration", &["dstor", "mirror", "watch", "upload", "encrypt", "verify", "manifest", "alerts"]),
    ("[dstor]", &["url", "ca_file", "api_key_file", "email", "password_file", "token_lifetime"]),
    (
        "[[mirror]]",
        &[
            "path",
            "remote",
            "remote_id",
            "comment",
            "exclude",
            "allow_secrets",
            "hidden",
            "symlinks",
            "max_file_size",
            "poll",
            "rescan",
        ],
    ),
    ("[watch]", &["settle", "max_delay"]),
    (
        "[upload]",
        &["workers", "bandwidth", "metered", "sessions", "retry_max_delay", "stall_timeout", "shutdown_grace"],
    ),
    ("[encrypt]", &["recipients", "names"]),
    ("[verify]", &["budget"]),
    ("[manifest]", &["every"]),
    ("[alerts]", &["on_problem", "on_recovered", "desktop", "heartbeat", "every"]),
];

/// Nobody reads more faults at once, and a file of nothing else must not cost minutes.
const MOST: usize = 50;

/// The faults found so far in one file.
pub(super) struct Problems<'t> {
    file: &'t Path,
    text: &'t str,
    /// Each with the byte of the file that it concerns.
    found: Vec<(usize, ConfigError)>,
}

impl<'t> Problems<'t> {
    pub(super) fn new(file: &'t Path, text: &'t str) -> Self {
        Self { file, text, found: Vec::new() }
    }

    /// Notes a fault at the byte `at` of the file.
    pub(super) fn note(&mut self, at: usize, error: ConfigError) {
        if self.found.len() < MOST {
            let place = self.place(at);
            self.found.push((at, error.at(place)));
        }
    }

    /// Notes a fault of no line in particular.
    pub(super) fn note_whole(&mut self, error: ConfigError) {
        self.found.push((usize::MAX, error));
    }

    /// File and line of the byte `at`.
    pub(super) fn place(&self, at: usize) -> String {
        let line = 1 + self.text.bytes().take(at).filter(|b| *b == b'\n').count();
        format!("{}:{line}", plain(self.file))
    }

    /// All of them, in the order of the file.
    pub(super) fn into_found(mut self) -> Vec<ConfigError> {
        self.found.sort_by_key(|(at, _)| *at);
        self.found.into_iter().map(|(_, error)| error).collect()
    }

    /// The whole document's table; `None`, with a note, if it is no TOML.
    pub(super) fn parse(&mut self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table),
            Err(error) => {
                let at = error.span().map_or(0, |span| span.start);
                let fault = ConfigError::new(format!("not TOML: {}", plain(error.message())));
                self.note(at, fault.with_hint("correct the line; https://toml.io shows how TOML is written"));
                None
            }
        }
    }
}

/// A value and where it stands.
#[derive(Clone, Copy)]
pub(super) struct Found<T> {
    pub(super) value: T,
    pub(super) at: usize,
}

/// One table of the config. A section that is not there has no values.
pub(super) struct Section<'a> {
    name: &'static str,
    table: Option<&'a DeTable<'a>>,
    /// Where it begins.
    pub(super) at: usize,
}

impl<'a> Section<'a> {
    /// The document itself.
    pub(super) fn top(table: &'a Spanned<DeTable<'a>>, problems: &mut Problems<'_>) -> Self {
        Self::known("the configuration", table.get_ref(), 0, problems)
    }

    /// The section with this table; notes keys that nobody knows.
    fn known(name: &'static str, table: &'a DeTable<'a>, at: usize, problems: &mut Problems<'_>) -> Self {
        let known = KNOWN.iter().find(|(section, _)| *section == name).map_or(&[][..], |(_, keys)| *keys);
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                problems.note(key.span().start, unknown(key.get_ref(), name, known));
            }
        }
        Self { name, table: Some(table), at }
    }

    /// The section `key` of the document.
    pub(super) fn section(&self, key: &str, name: &'static str, problems: &mut Problems<'_>) -> Section<'a> {
        match self.value(key) {
            Some(Found { value: DeValue::Table(table), at }) => Section::known(name, table, at, problems),
            Some(Found { value, at }) => {
                problems.note(at, self.wrong(key, value, "a section").with_hint(format!("write it as {name}")));
                Section { name, table: None, at }
            }
            None => Section { name, table: None, at: 0 },
        }
    }

    /// The sections `[[key]]` of the document; `None` if it is something else, which is noted.
    pub(super) fn sections(
        &self,
        key: &str,
        name: &'static str,
        problems: &mut Problems<'_>,
    ) -> Option<Vec<Section<'a>>> {
        let Some(Found { value, at }) = self.value(key) else { return Some(Vec::new()) };
        let wrong = |value| self.wrong(key, value, "a list of sections").with_hint(format!("write each as {name}"));
        let Some(list) = value.as_array() else {
            problems.note(at, wrong(value));
            return None;
        };
        let mut sections = Vec::new();
        for item in list.iter() {
            let Some(table) = item.get_ref().as_table() else {
                problems.note(item.span().start, wrong(item.get_ref()));
                return None;
            };
            sections.push(Section::known(name, table, item.span().start, problems));
        }
        Some(sections)
    }

    /// Whether the document has it.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// Whether it says anything about `key`, be it readable or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    fn value(&self, key: &str) -> Option<Found<&'a DeValue<'a>>> {
        let value = self.table?.get(key)?;
        Some(Found { value: value.get_ref(), at: value.span().start })
    }

    /// How the key is called in messages.
    pub(super) fn key(&self, key: &str) -> String {
        format!("`{key}` in {}", self.name)
    }

    fn wrong(&self, key: &str, value: &DeValue<'_>, expected: &str) -> ConfigError {
        ConfigError::new(format!("{} is {}, not {expected}", self.key(key), kind(value)))
    }

    pub(super) fn text(&self, key: &str, problems: &mut Problems<'_>) -> Option<Found<&'a str>> {
        let Found { value, at } = self.value(key)?;
        let text = value.as_str().map(|value| Found { value, at });
        if text.is_none() {
            let hint = format!("write it in quotes: {key} = \"…\"");
            problems.note(at, self.wrong(key, value, "text").with_hint(hint));
        }
        text
    }

    pub(super) fn yes_or_no(&self, key: &str, default: bool, problems: &mut Problems<'_>) -> bool {
        let Some(Found { value, at }) = self.value(key) else { return default };
        value.as_bool().unwrap_or_else(|| {
            let hint = format!("write {key} = true or {key} = false");
            problems.note(at, self.wrong(key, value, "true or false").with_hint(hint));
            default
        })
    }

    /// A whole number. One that is too large for the type is out of `range` too.
    pub(super) fn number(
        &self,
        key: &str,
        range: RangeInclusive<u64>,
        problems: &mut Problems<'_>,
    ) -> Option<Found<u64>> {
        let Found { value, at } = self.value(key)?;
        let Some(number) = value.as_integer() else {
            let hint = format!("write it without quotes: a number from {} to {}", range.start(), range.end());
            problems.note(at, self.wrong(key, value, "a whole number").with_hint(hint));
            return None;
        };
        let parsed = u64::from_str_radix(number.as_str(), number.radix()).ok().filter(|value| range.contains(value));
        if parsed.is_none() {
            let (least, most) = (range.start(), range.end());
            let message = format!("{} is out of range: {}", self.key(key), quoted(number.as_str()));
            problems.note(at, ConfigError::new(message).with_hint(format!("it goes from {least} to {most}")));
        }
        parsed.map(|value| Found { value, at })
    }

    /// A list of texts.
    pub(super) fn list(&self, key: &str, problems: &mut Problems<'_>) -> Vec<Found<&'a str>> {
        let Some(Found { value, at }) = self.value(key) else { return Vec::new() };
        let hint = format!("write {key} = [\"…\", \"…\"]");
        let Some(list) = value.as_array() else {
            problems.note(at, self.wrong(key, value, "a list of texts").with_hint(hint));
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in list.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(Found { value: text, at: item.span().start }),
                None => {
                    let message = format!("{} holds {}, not text", self.key(key), kind(item.get_ref()));
                    problems.note(item.span().start, ConfigError::new(message).with_hint(hint.clone()));
                }
            }
        }
        texts
    }

    /// One of a few words: the value that belongs to it, and `default` if it is not there or is none of them.
    pub(super) fn choice<T: Copy>(
        &self,
        key: &str,
        words: &[(&str, T)],
        default: T,
        problems: &mut Problems<'_>,
    ) -> Found<T> {
        let Some(Found { value: text, at }) = self.text(key, problems) else { return Found { value: default, at: 0 } };
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Found { value: *value, at };
        }
        let all: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let message = format!("{} cannot be {}", self.key(key), quoted(text));
        problems.note(at, ConfigError::new(message).with_hint(format!("it is one of {}", all.join(", "))));
        Found { value: default, at }
    }

    /// A duration of `least` or more; `default` if it is not there or cannot be read.
    pub(super) fn duration(
        &self,
        key: &str,
        default: Duration,
        least: Duration,
        problems: &mut Problems<'_>,
    ) -> Found<Duration> {
        let Some(Found { value, at }) = self.value(key) else { return Found { value: default, at: self.at } };
        let read = match value.as_str() {
            Some(text) => self.parse_duration(key, text, least),
            None => Err(self.wrong(key, value, "a duration").with_hint(duration_hint(key, default))),
        };
        let value = read.unwrap_or_else(|fault| {
            problems.note(at, fault);
            default
        });
        Found { value, at }
    }

    fn parse_duration(&self, key: &str, text: &str, least: Duration) -> Result<Duration, ConfigError> {
        match parse_duration(text) {
            None => Err(ConfigError::new(format!("{} is no duration: {}", self.key(key), quoted(text)))
                .with_hint("write it like \"2s\", \"15m\" or \"1h 30m\"; days are hours, and a year is the longest")),
            Some(short) if short < least => {
                Err(ConfigError::new(format!("{} is too short: {}", self.key(key), quoted(text)))
                    .with_hint(format!("it is \"{}\" at least", duration_text(least))))
            }
            Some(duration) => Ok(duration),
        }
    }

    /// `false`, `true` or an interval of `least` or more: `None`, `usual`, or the interval.
    pub(super) fn interval(
        &self,
        key: &str,
        usual: Duration,
        least: Duration,
        problems: &mut Problems<'_>,
    ) -> Option<Duration> {
        match self.value(key)? {
            Found { value: DeValue::Boolean(wanted), .. } => wanted.then_some(usual),
            Found { value: DeValue::String(_), .. } => Some(self.duration(key, usual, least, problems).value),
            Found { value, at } => {
                let hint = format!("write {key} = true, {key} = false or {key} = \"{}\"", duration_text(usual));
                problems.note(at, self.wrong(key, value, "true, false or a duration").with_hint(hint));
                None
            }
        }
    }

    /// A duration; `None` if it is not there, is empty, or cannot be read.
    pub(super) fn duration_or_none(&self, key: &str, least: Duration, problems: &mut Problems<'_>) -> Option<Duration> {
        let written = self.text(key, problems)?;
        (!written.value.trim().is_empty()).then(|| self.duration(key, least, least, problems).value)
    }

    /// Bytes a day; `None` if it is not there, is empty, or cannot be read.
    pub(super) fn a_day(&self, key: &str, problems: &mut Problems<'_>) -> Option<u64> {
        let Found { value: text, at } = self.text(key, problems)?;
        if text.trim().is_empty() {
            return None;
        }
        let fault = match parse_a_day(text) {
            Some(bytes) if bytes > 0 => return Some(bytes),
            Some(_) => ConfigError::new(format!("{} is too small: {}", self.key(key), quoted(text))),
            None => ConfigError::new(format!("{} is no size a day: {}", self.key(key), quoted(text))),
        };
        let hint = format!("write it like {key} = \"100 MiB/day\", or {key} = \"\" for nothing");
        problems.note(at, fault.with_hint(hint));
        None
    }

    /// A size of one byte or more; `default` if it is not there or cannot be read.
    pub(super) fn size(&self, key: &str, default: u64, problems: &mut Problems<'_>) -> u64 {
        let Some(Found { value, at }) = self.value(key) else { return default };
        let hint = format!("write it like {key} = \"10 GiB\" or {key} = \"500 MB\"");
        let fault = match value.as_str() {
            None => self.wrong(key, value, "a size"),
            Some(text) => match parse_size(text) {
                Some(bytes) if bytes > 0 => return bytes,
                Some(_) => ConfigError::new(format!("{} is too small: {}", self.key(key), quoted(text))),
                None => ConfigError::new(format!("{} is no size: {}", self.key(key), quoted(text))),
            },
        };
        problems.note(at, fault.with_hint(hint));
        default
    }
}

fn duration_hint(key: &str, default: Duration) -> String {
    format!("write it like {key} = \"{}\"", duration_text(default))
}

/// What is said of a key that nobody knows. Its value is not repeated: it may be a secret in the wrong place.
fn unknown(key: &str, section: &str, known: &[&str]) -> ConfigError {
    let (nearest_key, hint) = match KNOWN.iter().find(|(_, keys)| keys.contains(&key)) {
        Some((elsewhere, _)) => (format!("`{key}` in {elsewhere}"), format!("move it to {elsewhere}")),
        None => {
            let near = |other: &str| strsim::jaro_winkler(key, other);
            let nearest = known.iter().max_by(|one, other| near(one).total_cmp(&near(other)));
            let all = format!("the keys there are {}", known.join(", "));
            (quoted(nearest.copied().unwrap_or_default()), all)
        }
    };
    let message = format!("unknown key {} in {section}; the nearest known key is {nearest_key}", quoted(key));
    ConfigError::new(message).with_hint(hint)
}

/// A kind of value, with its article.
fn kind(value: &DeValue<'_>) -> impl fmt::Display {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a section",
    }
}
