//! `completions`: what a shell needs to complete the commands, made from the arguments themselves.

use clap::CommandFactory as _;

use super::args::{Arguments, Completions};
use super::exit::{Exit, Failure};
use super::output::Output;

pub(super) fn run(command: &Completions, output: &Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Arguments::command(), "dstor-sync", &mut script);
    output.content(&script);
    Ok(Exit::Fine)
}
