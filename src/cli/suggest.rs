//! The commands that messages suggest, as the person at this terminal has to type them: for the same agent.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::path::Path;

use clap::CommandFactory as _;

use super::args::{Arguments, Global};
use crate::mirror::shell_word;

/// How a message begins a command that it suggests.
const COMMAND: &str = "`dstor-sync ";

/// What was given on the command line to say which agent is meant.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Suggestions {
    /// What goes before the command's name: nothing, or flags with a space after each.
    flags: String,
    is_sandbox: bool,
}

impl Suggestions {
    /// What `arguments`, the program's name first, say.
    pub(super) fn of(global: &Global, arguments: &[OsString]) -> Self {
        // What the environment says holds for the next command as well.
        let flag = |name: &str, value: Option<&Path>, variable: &str| {
            let value = value.filter(|value| std::env::var_os(variable).is_none_or(|set| set != value.as_os_str()));
            value.map_or_else(String::new, |value| format!("{name} {} ", shell_word(value)))
        };
        let config = flag("--config", global.config.as_deref(), "DSTOR_SYNC_CONFIG");
        let state_dir = flag("--state-dir", global.state_dir.as_deref(), "DSTOR_SYNC_STATE_DIR");
        let mut flags = arguments.iter().skip(1).take_while(|argument| *argument != OsStr::new("--"));
        Self { flags: config + &state_dir, is_sandbox: flags.any(|argument| argument == OsStr::new("--sandbox")) }
    }

    /// A message, with what its commands need to be about the same agent.
    pub(super) fn told<'a, T: Display>(&'a self, message: &'a T) -> impl Display + 'a {
        Message { suggestions: self, message }
    }

    fn rewrite(&self, message: &str) -> String {
        let mut pieces = message.split(COMMAND);
        let mut told = pieces.next().unwrap_or_default().to_owned();
        for piece in pieces {
            let (command, rest) = piece.split_at(piece.find('`').unwrap_or(piece.len()));
            told.extend([COMMAND, &self.flags]);
            told += &self.for_the_sandbox(command);
            told += rest;
        }
        told
    }

    /// A command, whose name comes first, for the agent of the sandbox if it can be.
    fn for_the_sandbox(&self, command: &str) -> String {
        let mut at = Arguments::command();
        let mut end = 0;
        for word in command.split(' ') {
            let Some(next) = at.find_subcommand(word) else { break };
            at = next.clone();
            end += word.len() + 1;
        }
        let (name, rest) = command.split_at(end.saturating_sub(1).min(command.len()));
        let takes_it = at.get_arguments().any(|argument| argument.get_long() == Some("sandbox"));
        let is_for_it = self.is_sandbox && takes_it && !rest.contains("--sandbox");
        format!("{name}{}{rest}", if is_for_it { " --sandbox" } else { "" })
    }
}

struct Message<'a, T> {
    suggestions: &'a Suggestions,
    message: &'a T,
}

impl<T: Display> Display for Message<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self.suggestions == Suggestions::default() {
            return self.message.fmt(f);
        }
        let message = self.message.to_string();
        // What a program reads stays as it is.
        if message.starts_with('{') { f.write_str(&message) } else { f.write_str(&self.suggestions.rewrite(&message)) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn told(arguments: &[&str], message: &str) -> String {
        let given: Vec<OsString> = ["dstor-sync"].iter().chain(arguments).map(OsString::from).collect();
        let arguments = Arguments::try_parse_from(&given).unwrap_or_else(|error| panic!("{error}"));
        Suggestions::of(&arguments.global, &given).told(&message).to_string()
    }

    #[test]
    fn a_suggested_command_is_about_the_agent_that_was_asked_about() {
        let message = "a; `dstor-sync root accept /m` or `dstor-sync login` helps, `why` does not";
        assert_eq!(told(&["status"], message), message);
        assert_eq!(told(&["why", "--", "--sandbox"], message), message);
        assert_eq!(
            told(&["--state-dir", "/my state", "status", "--config", "c.toml"], message),
            "a; `dstor-sync --config c.toml --state-dir '/my state' root accept /m` or \
             `dstor-sync --config c.toml --state-dir '/my state' login` helps, `why` does not"
        );
        assert_eq!(
            told(&["status", "--sandbox"], message),
            "a; `dstor-sync root accept --sandbox /m` or `dstor-sync login` helps, `why` does not"
        );
    }

    #[test]
    fn what_says_it_already_and_what_programs_read_stay_as_they_are() {
        for message in ["`dstor-sync status --sandbox` tells", "{\"hint\": \"`dstor-sync status`\"}", "`dstor-sync `"] {
            assert_eq!(told(&["ls", "--sandbox"], message), message);
        }
        assert_eq!(told(&["ls", "--sandbox"], "`dstor-sync retry`"), "`dstor-sync retry --sandbox`");
        assert_eq!(told(&["ls", "--sandbox"], "cut off: `dstor-sync ls"), "cut off: `dstor-sync ls --sandbox");
    }
}
