//! The command line: arguments in, text and exit status out. Nothing else prints.

mod accept;
mod agent;
mod args;
mod ask;
mod completions;
mod config;
mod credentials;
mod doctor;
mod exit;
mod export;
mod init;
mod key;
mod log;
mod login;
mod logs;
mod ls;
mod man;
mod manager;
mod manifest;
mod output;
mod places;
mod reach;
mod remote;
mod restore;
mod root;
mod sandbox;
mod service;
mod setup;
mod signals;
mod status;
mod steer;
mod suggest;
mod sync;
mod verify;
mod wait;
mod why;

use std::ffi::OsString;

use clap::Parser as _;

use args::{Arguments, Command, ConfigCommand, KeyCommand, ManifestCommand, RootCommand};
pub use exit::Exit;
use exit::Failure;
use output::Output;
use suggest::Suggestions;

/// Runs the command line `arguments`, the program's name first, and returns the process's exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Exit {
    let given: Vec<OsString> = arguments.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&given) {
        Ok(arguments) => arguments,
        Err(error) => {
            output::usage(&error);
            // Help and version go to stdout and are fine; the rest is usage.
            return if error.use_stderr() { Exit::Usage } else { Exit::Fine };
        }
    };
    hide_memory();
    let suggestions = match arguments.command {
        // What these suggest is not about an agent, or done without what was given.
        Command::Init(_) | Command::Service { .. } => Suggestions::default(),
        _ => Suggestions::of(&arguments.global, &given),
    };
    let output = Output::new(arguments.global.color, suggestions);
    match dispatch(arguments, &output) {
        Ok(Exit::Fine) if output.is_cut() => {
            output.note("error: the answer could not be written to the end; is the disk full?");
            Exit::Attention
        }
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

/// Keeps credentials out of core dumps, and other programs of the same user out of our memory (G2). Where the system does
/// not want to, the program does its work all the same.
fn hide_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    // A limit does not hold where a program takes the dumps, as systemd's does.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn dispatch(arguments: Arguments, output: &Output) -> Result<Exit, Failure> {
    let Arguments { global, command } = arguments;
    match command {
        Command::Run(command) => agent::run(&global, &command, output),
        Command::Init(command) => init::run(&global, &command, output),
        Command::Login(command) => login::login(&global, &command, output),
        Command::Logout => login::logout(&global, output),
        Command::Sync(command) => sync::run(&global, &command, output),
        Command::Status(command) => status::run(&global, &command, output),
        Command::Ls(command) => ls::run(&global, &command, output),
        Command::Log(command) => log::run(&global, &command, output),
        Command::Why(command) => why::run(&global, &command, output),
        Command::Verify(command) => verify::run(&global, &command, output),
        Command::Restore(command) => restore::run(&global, &command, output),
        Command::Export(command) => export::run(&global, &command, output),
        Command::Manifest { command: ManifestCommand::Publish(command) } => {
            manifest::publish(&global, &command, output)
        }
        Command::Manifest { command: ManifestCommand::Show(command) } => manifest::show(&global, &command, output),
        Command::Key { command: KeyCommand::Generate(command) } => key::generate(&global, &command, output),
        Command::Key { command: KeyCommand::Show(command) } => key::show(&command, output),
        Command::Wait(command) => wait::run(&global, &command, output),
        Command::Doctor(command) => doctor::run(&global, &command, output),
        Command::Config { command: ConfigCommand::Check } => config::check(&global, output),
        Command::Config { command: ConfigCommand::Show } => config::show(&global, output),
        Command::Root { command: RootCommand::Accept(command) } => root::accept(&global, &command, output),
        Command::Accept(command) => accept::run(&global, &command, output),
        Command::Pause(command) => steer::pause(&global, &command, output),
        Command::Resume(command) => steer::resume(&global, &command, output),
        Command::Retry(command) => steer::retry(&global, &command, output),
        Command::Rescan(command) => steer::rescan(&global, &command, output),
        Command::Service { command } => service::run(&global, &command, output),
        Command::Completions(command) => completions::run(&command, output),
        Command::Man(command) => man::run(&command, output),
        Command::Sandbox(command) => sandbox::run(&global, command, output),
    }
}
