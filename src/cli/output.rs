//! The only place that prints: stdout is the answer, stderr is about it.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::args::Color;
use super::exit::Failure;
use super::suggest::Suggestions;
use crate::wording::shown;

/// How often a bar is drawn though nothing moved.
const BETWEEN_TICKS: Duration = Duration::from_millis(200);

/// Where results and messages go, and whether in colour.
pub(super) struct Output {
    color: Color,
    suggestions: Suggestions,
    /// Whether some of the answer could not be written, for another reason than that nobody reads on.
    is_cut: AtomicBool,
}

/// What a word means, for its colour.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Bad,
    Faint,
    Asked,
}

impl Output {
    pub(super) fn new(color: Color, suggestions: Suggestions) -> Self {
        Self { color, suggestions, is_cut: AtomicBool::new(false) }
    }

    /// A line of the answer. A reader who has gone is no fault (F14).
    pub(super) fn line(&self, line: impl Display) {
        self.line_if_read(self.suggestions.told(&line));
    }

    /// Text as [`line`](Self::line) and [`note`](Self::note) print it, with the commands that it suggests about the same agent.
    pub(super) fn suggested(&self, text: impl Display) -> String {
        self.suggestions.told(&text).to_string()
    }

    /// A line of the answer as it is, such as one with a file's name; `false` if nobody reads on.
    pub(super) fn line_if_read(&self, line: impl Display) -> bool {
        let written = writeln!(std::io::stdout().lock(), "{line}");
        if written.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        written.is_ok()
    }

    /// An answer that is a file's content, byte for byte; `false` if nobody reads on.
    pub(super) fn content(&self, content: &[u8]) -> bool {
        let written = std::io::stdout().lock().write_all(content);
        if written.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::BrokenPipe) {
            self.is_cut.store(true, Ordering::Relaxed);
        }
        written.is_ok()
    }

    /// Text for a terminal, as it is and at once; `false` if nobody reads on.
    pub(super) fn draw(&self, text: &str) -> bool {
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_ok()
    }

    /// Whether some of the answer is lost.
    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Ordering::Relaxed)
    }

    /// A line about the answer.
    pub(super) fn note(&self, line: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{}", self.suggestions.told(&line));
    }

    /// A line about the answer that holds anywhere, not only on this machine.
    pub(super) fn note_as_is(&self, line: impl Display) {
        let _ = writeln!(std::io::stderr().lock(), "{line}");
    }

    /// A question, at whose end the answer is typed.
    pub(super) fn prompt(&self, question: impl Display) {
        let mut stderr = std::io::stderr().lock();
        let _ = write!(stderr, "{question}").and_then(|()| stderr.flush());
    }

    pub(super) fn failure(&self, failure: &Failure) {
        let bad = self.on(std::io::stderr().is_terminal());
        for (what, hint) in &failure.said {
            // Errors repeat paths as they are; what is shown already stays as it is.
            self.note(format_args!("{} {}", painted("error:", Tone::Bad, bad), shown(what)));
            if let Some(hint) = hint {
                self.note(format_args!("{} {}", painted("hint:", Tone::Faint, bad), shown(hint)));
            }
        }
    }

    /// `text` in the colour of its meaning, for stdout.
    pub(super) fn paint(&self, text: &str, tone: Tone) -> String {
        painted(text, tone, self.on(std::io::stdout().is_terminal()))
    }

    /// The same, for stderr.
    pub(super) fn paint_note(&self, text: &str, tone: Tone) -> String {
        painted(text, tone, self.colors_stderr())
    }

    pub(super) fn colors_stderr(&self) -> bool {
        self.on(std::io::stderr().is_terminal())
    }

    /// Whether stdout is a terminal that moves its cursor.
    pub(super) fn is_interactive(&self) -> bool {
        std::io::stdout().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
    }

    fn on(&self, is_terminal: bool) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
            }
        }
    }
}

/// A bar on the terminal for so many files; `None`: nobody knows yet how many.
pub(super) fn bar(files: Option<u64>) -> ProgressBar {
    let (bar, template) = match files {
        Some(files) => (ProgressBar::new(files), "{bar:30} {pos}/{len} files  {elapsed}  {wide_msg}"),
        None => (ProgressBar::no_length(), "{pos} files  {elapsed}  {wide_msg}"),
    };
    // A template without a fault in it, seen by the test that draws it.
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.enable_steady_tick(BETWEEN_TICKS);
    bar
}

/// What clap has to say. It repeats arguments as they are: where something in them acts on a terminal, all is shown plain.
pub(super) fn usage(error: &clap::Error) {
    let text = error.to_string();
    let plain: Vec<String> = text.lines().map(shown).collect();
    if text.lines().eq(&plain) {
        // A closed pipe is nobody's fault.
        let _ = error.print();
    } else {
        let _ = writeln!(std::io::stderr().lock(), "{}", plain.join("\n"));
    }
}

fn painted(text: &str, tone: Tone, on: bool) -> String {
    if !on {
        return text.to_owned();
    }
    let code = match tone {
        Tone::Good => "32",
        Tone::Busy => "33",
        Tone::Bad => "31;1",
        Tone::Faint => "2",
        Tone::Asked => "1",
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}
