//! Questions to a person at a terminal. Whoever ends the program at one gets the terminal back as it was.
//!
//! By hand on `termios`, which is in the tree anyway: the libraries for hidden input leave a terminal without echo behind
//! when they are interrupted, and those with menus bring a terminal library of their own.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::Exit;
use super::exit::Failure;
use super::output::{Output, Tone};
use crate::wording::shown;

/// The terminal as it was, while it hides what is typed.
static SHOWING: Mutex<Option<Termios>> = Mutex::new(None);
/// Whether the cursor stands behind a question.
static IS_ASKING: AtomicBool = AtomicBool::new(false);
/// The key that stands for no key, in a terminal's list of keys with a meaning.
const NO_KEY: u8 = if cfg!(target_os = "linux") { 0 } else { 0xff };

/// Asks, or not: where there is nobody to ask, every question has its default for an answer, or none.
pub(super) struct Asker<'a> {
    output: &'a Output,
    is_anyone_there: bool,
}

impl<'a> Asker<'a> {
    /// Asks only at a terminal, and only if it `may`. From now on signals end the program at once.
    ///
    /// # Errors
    /// If the system takes no handlers.
    pub(super) fn new(output: &'a Output, may: bool) -> io::Result<Self> {
        end_on_signals()?;
        Ok(Self { output, is_anyone_there: may && io::stdin().is_terminal() && io::stderr().is_terminal() })
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_anyone_there(&self) -> bool {
        self.is_anyone_there
    }

    /// A line; what was just typed Enter to is the default. `None`: nobody is there and there is none, or the input ended.
    pub(super) fn line(&self, question: &str, default: Option<&str>) -> Result<Option<String>, Failure> {
        if !self.is_anyone_there {
            return Ok(default.map(ToOwned::to_owned));
        }
        let offer = default.map(|default| format!(" [{}]", shown(default))).unwrap_or_default();
        IS_ASKING.store(true, Ordering::Relaxed);
        self.output.prompt(format_args!("{}{offer}: ", self.output.paint_note(question, Tone::Asked)));
        let Some(line) = self.read()? else { return Ok(None) };
        let typed = line.trim();
        Ok(match default {
            Some(default) if typed.is_empty() => Some(default.to_owned()),
            _ => Some(typed.to_owned()),
        })
    }

    /// A line that is not shown. `None`: nobody is there, or the input ended.
    pub(super) fn hidden(&self, question: &str) -> Result<Option<SecretString>, Failure> {
        if !self.is_anyone_there {
            return Ok(None);
        }
        let hiding = Hiding::begin()?;
        IS_ASKING.store(true, Ordering::Relaxed);
        self.output.prompt(format_args!("{} (not shown): ", self.output.paint_note(question, Tone::Asked)));
        let line = self.read();
        drop(hiding);
        Ok(line?.map(|line| SecretString::from(line.trim_end_matches(['\r', '\n']))))
    }

    /// Yes or no; `default` for whoever is not there, or whose input ends.
    pub(super) fn yes(&self, question: &str, default: bool) -> Result<bool, Failure> {
        let offer = if default { "Y/n" } else { "y/N" };
        loop {
            let Some(answer) = self.line(&format!("{question} [{offer}]"), None)? else {
                return Ok(default && !self.is_anyone_there);
            };
            match answer.to_ascii_lowercase().as_str() {
                "" => return Ok(default),
                "y" | "yes" => return Ok(true),
                "n" | "no" => return Ok(false),
                _ => self.output.note("type y or n"),
            }
        }
    }

    /// A line of the terminal; `None` at its end.
    fn read(&self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line);
        IS_ASKING.store(false, Ordering::Relaxed);
        match read {
            Ok(0) => {
                // Where Ctrl-D was typed, the cursor still stands behind the question.
                self.output.note("");
                Ok(None)
            }
            Ok(_) => Ok(Some(line)),
            // The error holds nothing of what was typed.
            Err(_) => Err(Failure::new(Exit::Usage, "what was typed is not text in UTF-8, or the terminal is gone")),
        }
    }
}

/// While it lives, the terminal shows nothing of what is typed but the end of the line.
struct Hiding;

impl Hiding {
    fn begin() -> io::Result<Self> {
        let mut showing = showing();
        let modes = tcgetattr(io::stdin())?;
        let mut hiding = modes.clone();
        hiding.local_modes.remove(LocalModes::ECHO);
        hiding.local_modes.insert(LocalModes::ECHONL);
        // These two would give the terminal to someone else as it is.
        hiding.special_codes[SpecialCodeIndex::VSUSP] = NO_KEY;
        hiding.special_codes[SpecialCodeIndex::VQUIT] = NO_KEY;
        *showing = Some(modes);
        // What is typed ahead stays: it may be the answer.
        tcsetattr(io::stdin(), OptionalActions::Now, &hiding)?;
        Ok(Self)
    }
}

impl Drop for Hiding {
    fn drop(&mut self) {
        show_again();
    }
}

fn show_again() {
    if let Some(modes) = showing().take() {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &modes);
    }
}

fn showing() -> MutexGuard<'static, Option<Termios>> {
    SHOWING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first signal ends the program, whatever it is at: what it writes is there whole or not at all.
fn end_on_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            show_again();
            if IS_ASKING.load(Ordering::Relaxed) {
                // The shell's prompt begins a line of its own.
                let _ = io::Write::write_all(&mut io::stderr(), b"\n");
            }
            let exit = if signal == SIGINT { Exit::Interrupted } else { Exit::Terminated };
            #[expect(clippy::exit, reason = "whoever waits for an answer cannot be told otherwise")]
            std::process::exit(u8::from(exit).into());
        }
    })?;
    Ok(())
}
