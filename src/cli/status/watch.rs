//! `status --watch`: the same, whenever it changes, until a signal.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use signal_hook::consts::{SIGCONT, SIGTSTP, SIGWINCH};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use unicode_width::UnicodeWidthChar as _;

use super::super::exit::{Exit, Failure};
use super::super::output::Output;
use super::lines;
use crate::status::Status;
use crate::upload::Clock;
use crate::wording::shown;

/// How often it looks. A look costs a few small queries, however many files there are.
const LOOK: Duration = Duration::from_secs(1);

/// Watching has no end of its own: whoever stops it ends it well.
pub(super) fn run(state_dir: &Path, json: bool, output: &Output) -> Result<Exit, Failure> {
    let signals = listen()?;
    // What `status` refuses is refused here as well; what goes wrong later is shown, and looked at again.
    let mut status = Ok(Status::read(state_dir)?);
    let mut screen = (output.is_interactive() && !json).then(|| Screen::enter(output));
    let mut before = None;
    loop {
        let is_read_on = match (&mut screen, &status) {
            (Some(screen), Ok(status)) => screen.draw(&lines(status, Clock.now(), output)),
            (Some(screen), Err(failure)) => screen.draw(&complaint(failure)),
            (None, status) => print_if_new(status, json, &mut before, output)?,
        };
        if !is_read_on {
            return Ok(Exit::Fine);
        }
        match signals.recv_timeout(LOOK) {
            Err(RecvTimeoutError::Timeout) | Ok(SIGCONT | SIGWINCH) => {}
            Ok(SIGTSTP) => {
                let was_drawn = screen.take().is_some();
                signal_hook::low_level::emulate_default_handler(SIGTSTP)?;
                screen = was_drawn.then(|| Screen::enter(output));
            }
            Ok(_) | Err(RecvTimeoutError::Disconnected) => return Ok(Exit::Fine),
        }
        status = Status::read(state_dir).map_err(Failure::from);
    }
}

fn listen() -> std::io::Result<mpsc::Receiver<i32>> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH])?;
    let (send, receive) = mpsc::channel();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        // Nobody to tell is the end of the program.
        signals.forever().all(|signal| send.send(signal).is_ok());
    })?;
    Ok(receive)
}

fn complaint(failure: &Failure) -> Vec<String> {
    let mut lines = Vec::new();
    for (what, hint) in &failure.said {
        lines.push(format!("error: {}", shown(what)));
        lines.extend(hint.iter().map(|hint| format!("hint: {}", shown(hint))));
    }
    lines
}

/// Where nothing can be drawn in place: all of it, when something is new. Returns whether anybody reads on.
fn print_if_new(
    status: &Result<Status, Failure>,
    json: bool,
    before: &mut Option<String>,
    output: &Output,
) -> Result<bool, Failure> {
    let now = match status {
        Ok(status) => serde_json::to_string(status).map_err(std::io::Error::from)?,
        Err(failure) => complaint(failure).join("\n"),
    };
    if before.as_deref() == Some(&now) {
        return Ok(true);
    }
    let is_first = before.is_none();
    let text = match status {
        Ok(_) if json => now.clone(),
        Ok(status) => {
            let text = lines(status, Clock.now(), output).join("\n");
            if is_first { text } else { format!("\n{text}") }
        }
        Err(_) => {
            output.note(&now);
            *before = Some(now);
            return Ok(true);
        }
    };
    *before = Some(now);
    Ok(output.line_if_read(output.suggested(text)))
}

/// The terminal's other screen, as long as it is shown: what was there comes back.
struct Screen<'a> {
    output: &'a Output,
    drawn: String,
}

impl<'a> Screen<'a> {
    fn enter(output: &'a Output) -> Self {
        output.draw("\u{1b}[?1049h\u{1b}[?25l");
        Self { output, drawn: String::new() }
    }

    /// Draws the lines, as far as they fit; `false` if the terminal is gone.
    fn draw(&mut self, lines: &[String]) -> bool {
        let (columns, rows) = size();
        let lines: Vec<String> = lines.iter().map(|line| self.output.suggested(line)).collect();
        let frame = frame(&lines, columns, rows);
        if frame == self.drawn {
            return true;
        }
        let is_read = self.output.draw(&frame);
        self.drawn = frame;
        is_read
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        self.output.draw("\u{1b}[?25h\u{1b}[?1049l");
    }
}

/// Columns and rows of the terminal; those of old ones where it does not tell.
fn size() -> (usize, usize) {
    let told = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    let or = |told: Option<u16>, usual| told.filter(|number| *number > 0).map_or(usual, usize::from);
    (or(told.map(|size| size.ws_col), 80), or(told.map(|size| size.ws_row), 24))
}

/// What draws the lines from the top, and leaves nothing of what was there before.
fn frame(lines: &[String], columns: usize, rows: usize) -> String {
    let mut shown: Vec<String> = lines.iter().take(rows).map(|line| cut(line, columns)).collect();
    if lines.len() > rows {
        shown.truncate(rows - 1);
        shown.push(cut(&format!("… {} more lines", lines.len() - shown.len()), columns));
    }
    // The rest of each line is cleared before it is written: after a full one the cursor stands on its last column.
    let drawn: Vec<String> = shown.iter().map(|line| format!("\u{1b}[K{line}")).collect();
    format!("\u{1b}[H{}\u{1b}[0m\u{1b}[J", drawn.join("\r\n"))
}

/// A line of at most so many columns. Our own colours take none; nothing else in it acts on a terminal.
fn cut(line: &str, columns: usize) -> String {
    let width = |text: &str| {
        let (mut width, mut is_color) = (0, false);
        for c in text.chars() {
            match c {
                '\u{1b}' => is_color = true,
                'm' if is_color => is_color = false,
                _ if is_color => {}
                c => width += c.width().unwrap_or(0),
            }
        }
        width
    };
    if width(line) <= columns {
        return line.to_owned();
    }
    let (mut out, mut left, mut is_color, mut is_full) = (String::new(), columns.saturating_sub(1), false, false);
    for c in line.chars() {
        match c {
            '\u{1b}' => is_color = true,
            'm' if is_color => {
                is_color = false;
                out.push(c);
                continue;
            }
            _ if is_color => {}
            _ if is_full => continue,
            c if c.width().unwrap_or(0) > left => {
                is_full = true;
                out.push('…');
                continue;
            }
            c => left -= c.width().unwrap_or(0),
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_by_what_it_takes_on_the_terminal_and_keeps_its_colours_whole() {
        assert_eq!(cut("in sync", 7), "in sync");
        assert_eq!(cut("in sync", 6), "in sy…");
        assert_eq!(cut("日本語", 5), "日本…");
        assert_eq!(cut("日本語", 4), "日…");
        assert_eq!(cut("\u{1b}[31;1mbad\u{1b}[0m thing", 9), "\u{1b}[31;1mbad\u{1b}[0m thing");
        assert_eq!(cut("\u{1b}[31;1mbad\u{1b}[0m thing", 3), "\u{1b}[31;1mba…\u{1b}[0m");
        assert_eq!((cut("ab", 1), cut("ab", 0)), ("…".into(), "…".into()));
    }

    #[test]
    fn more_lines_than_the_terminal_has_are_told_of_in_the_last() {
        let lines: Vec<String> = (1..=5).map(|line| format!("line {line}")).collect();
        assert_eq!(
            frame(&lines, 80, 3),
            "\u{1b}[H\u{1b}[Kline 1\r\n\u{1b}[Kline 2\r\n\u{1b}[K… 3 more lines\u{1b}[0m\u{1b}[J"
        );
        assert!(frame(&lines, 80, 5).contains("line 5") && !frame(&lines, 80, 5).contains("more"));
        assert!(frame(&lines, 80, 4).contains("[K… 2 more lines"));
        assert!(frame(&lines, 80, 1).contains("[K… 5 more lines"));
    }
}
