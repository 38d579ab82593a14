//! Where log lines go, at the level that was asked for: stderr, as text or as JSON, or the journal. One of them, never two.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use super::args::{Global, LogFormat};
use super::output::Output;
use crate::upload::Clock;
use crate::wording::shown;

/// Where the journal takes entries with fields.
const JOURNAL: &str = "/run/systemd/journal/socket";
/// Longer values are cut in the journal, in bytes: an entry has to fit into a datagram.
const LONGEST_VALUE: usize = 16 * 1024;

/// Starts logging. `DSTOR_SYNC_LOG` takes a filter such as `debug` or `dstor_sync::upload=debug` and beats the flags.
pub(super) fn start(global: &Global, format: Option<LogFormat>, output: &Output) {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "notify=error,warn",
        (false, 0) => "dstor_sync=info,notify=error,warn",
        (false, 1) => "dstor_sync=debug,notify=error,info",
        (false, _) => "trace",
    };
    let filter = EnvFilter::try_from_env("DSTOR_SYNC_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let journal = || if is_to_the_journal() { Journal::open() } else { None };
    let sink = match format {
        Some(LogFormat::Text) => None,
        Some(LogFormat::Json) => Some(Sink::Json),
        None => journal().map(Sink::Journal),
    };
    // Started once a process; a second start (in tests) changes nothing.
    let _ = match sink {
        Some(sink) => tracing_subscriber::registry().with(filter).with(Entries { sink }).try_init(),
        None => tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(output.colors_stderr())
            .with_target(false)
            .fmt_fields(debug_fn(write_field))
            // Where stderr is gone it cannot tell so either, and would end the agent for it (F14).
            .log_internal_errors(false)
            .finish()
            .try_init(),
    };
}

/// Whether stderr is a stream to the journal: systemd says which file that is.
fn is_to_the_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let stderr = rustix::fs::fstat(std::io::stderr());
    stderr.is_ok_and(|stat| named.to_str() == Some(format!("{}:{}", stat.st_dev, stat.st_ino).as_str()))
}

/// Writes a field so that nothing in it acts on a terminal, whoever logged it: paths and servers' words are in them (B17).
fn write_field(out: &mut Writer<'_>, field: &Field, value: &dyn std::fmt::Debug) -> std::fmt::Result {
    let value = shown(format!("{value:?}"));
    match field.name() {
        "message" => out.write_str(&value),
        // Where a line of another library came from: that is in its head.
        name if name.starts_with("log.") => Ok(()),
        name => write!(out, " {name}={value}"),
    }
}

/// Hands over each event whole, for programs.
struct Entries {
    sink: Sink,
}

enum Sink {
    Json,
    Journal(Journal),
}

impl<S: Subscriber> Layer<S> for Entries {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut facts = Facts::default();
        event.record(&mut facts);
        match &self.sink {
            Sink::Json => to_stderr(&facts.json(level, Clock.now())),
            Sink::Journal(journal) => {
                // What the journal does not take goes where it gets lines from: better doubled than lost.
                if journal.socket.send_to(&facts.entry(level), JOURNAL).is_err() {
                    to_stderr(&facts.line());
                }
            }
        }
    }
}

/// A stderr that is gone ends nobody (F14).
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

struct Journal {
    socket: UnixDatagram,
}

impl Journal {
    fn open() -> Option<Self> {
        let socket = UnixDatagram::unbound().ok()?;
        std::fs::symlink_metadata(JOURNAL).ok()?;
        Some(Self { socket })
    }
}

/// What an event says.
#[derive(Default)]
struct Facts {
    message: String,
    fields: Vec<(&'static str, Value)>,
}

impl Facts {
    fn put(&mut self, field: &Field, value: Value) {
        match field.name() {
            "message" => self.message = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned),
            // Where a line of another library came from.
            name if name.starts_with("log.") => {}
            name => self.fields.push((name, value)),
        }
    }

    /// One line of JSON. Exact, and still nothing in it acts on a terminal: JSON can write every character with others.
    fn json(&self, level: Level, now: i64) -> String {
        let mut line: Map<String, Value> =
            self.fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let time = jiff::Timestamp::from_millisecond(now).map_or_else(|_| "unknown".into(), |at| at.to_string());
        for (name, value) in [("time", time), ("level", word(level).into()), ("message", self.message.clone())] {
            line.insert(name.into(), value.into());
        }
        let mut plain = String::new();
        for c in Value::from(line).to_string().chars() {
            let is_plain = c.is_ascii_graphic() || c == ' ' || shown(c.encode_utf8(&mut [0; 4])).chars().eq([c]);
            if is_plain {
                plain.push(c);
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String cannot fail.
                    let _ = write!(plain, "\\u{unit:04x}");
                }
            }
        }
        plain
    }

    /// The same line as in the text log, without its head.
    fn line(&self) -> String {
        let mut line = shown(&self.message);
        for (name, value) in &self.fields {
            let _ = write!(line, " {name}={}", plain_text(value));
        }
        line
    }

    /// An entry as the journal takes it: the line for people, and each fact in a field of its own.
    fn entry(&self, level: Level) -> Vec<u8> {
        let priority = match level {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        let mut entry = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=dstor-sync\nMESSAGE={}\n", cut(self.line()));
        for (name, value) in &self.fields {
            let name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            let _ = writeln!(entry, "DSTOR_{name}={}", cut(plain_text(value)));
        }
        entry.into_bytes()
    }
}

/// A value without anything that acts on a terminal, and so without line breaks.
fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), shown)
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_VALUE {
        text.truncate(text.floor_char_boundary(LONGEST_VALUE));
        text.push('…');
    }
    text
}

fn word(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

impl Visit for Facts {
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let acting = "a\u{1b}[31m\u{9b}\u{202e}\u{e0001}é\nb\u{7f}";
        Facts {
            message: "stored".into(),
            fields: vec![("path", acting.into()), ("bytes", 7.into()), ("remote.dir", "Docs".into())],
        }
    }

    // B17
    #[test]
    fn a_line_of_json_reads_back_exactly_and_acts_on_no_terminal() {
        let line = facts().json(Level::INFO, 1_500);
        assert!(line.chars().all(|c| !c.is_control() && !"\u{202e}\u{e0001}".contains(c)), "{line}");
        let read: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["path"], "a\u{1b}[31m\u{9b}\u{202e}\u{e0001}é\nb\u{7f}");
        assert_eq!((&read["bytes"], &read["level"]), (&7.into(), &"info".into()));
        assert_eq!((&read["time"], &read["message"]), (&"1970-01-01T00:00:01.5Z".into(), &"stored".into()));
        assert!(line.contains('é'), "what people write stays readable: {line}");
    }

    // B17
    #[test]
    fn an_entry_of_the_journal_has_one_line_for_each_field() {
        let entry = String::from_utf8(facts().entry(Level::WARN)).expect("text");
        let lines: Vec<&str> = entry.lines().collect();
        assert_eq!(lines[..2], ["PRIORITY=4", "SYSLOG_IDENTIFIER=dstor-sync"]);
        assert_eq!(
            lines[2],
            r"MESSAGE=stored path=a\u{1b}[31m\u{9b}\u{202e}\u{e0001}é\u{a}b\u{7f} bytes=7 remote.dir=Docs"
        );
        assert_eq!(lines[3], r"DSTOR_PATH=a\u{1b}[31m\u{9b}\u{202e}\u{e0001}é\u{a}b\u{7f}");
        assert_eq!(lines[4..], ["DSTOR_BYTES=7", "DSTOR_REMOTE_DIR=Docs"]);
        let long = Facts { message: "é".repeat(LONGEST_VALUE), fields: Vec::new() };
        assert!(long.entry(Level::ERROR).len() < LONGEST_VALUE + 100);
    }
}
