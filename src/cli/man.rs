//! `man`: manual pages, made from the arguments themselves.

use std::path::Path;

use clap::CommandFactory as _;
use clap_mangen::roff::{Roff, bold, roman};

use super::args::{Arguments, Man};
use super::exit::{Exit, Failure};
use super::output::Output;
use crate::wording::shown;

pub(super) fn run(command: &Man, output: &Output) -> Result<Exit, Failure> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    if let Some(dir) = &command.all {
        let pages = write_all(&program, dir).map_err(|error| {
            Failure::new(Exit::Attention, format!("cannot write manual pages to `{}`: {error}", shown(dir)))
                .with_hint("name a directory that you may write to")
        })?;
        output.line(format_args!("{pages} pages in `{}`", shown(dir)));
        return Ok(Exit::Fine);
    }
    let mut named = &program;
    for word in &command.command {
        named = named.find_subcommand(word).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no command `{}`", shown(command.command.join(" "))))
                .with_hint("`dstor-sync --help` lists them")
        })?;
    }
    output.content(&page(named)?);
    Ok(Exit::Fine)
}

/// Writes the pages of a command and all below it, as `dstor-sync-config-check.1`; returns how many.
fn write_all(command: &clap::Command, dir: &Path) -> std::io::Result<usize> {
    std::fs::create_dir_all(dir)?;
    std::fs::write(dir.join(format!("{}.1", name(command))), page(command)?)?;
    command.get_subcommands().try_fold(1, |pages, below| Ok(pages + write_all(below, dir)?))
}

fn page(command: &clap::Command) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone().version(env!("CARGO_PKG_VERSION")))
        .title(name(command).to_uppercase())
        .source(concat!("dstor-sync ", env!("CARGO_PKG_VERSION")))
        .manual("User Commands");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    closing(command).to_writer(&mut page)?;
    Ok(page)
}

/// What help says after all else, each paragraph as the section that its first words name.
fn closing(command: &clap::Command) -> Roff {
    let mut closing = Roff::new();
    let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    for (title, body) in text.split("\n\n").filter_map(|paragraph| paragraph.split_once(':')) {
        closing.control("SH", [title.to_uppercase().as_str()]).control("nf", []);
        for line in body.trim().lines() {
            closing.text([roman(line.trim())]);
        }
        closing.control("fi", []);
    }
    if name(command) != "dstor-sync" {
        closing.control("SH", ["SEE ALSO"]).text([bold("dstor-sync"), roman("(1)")]);
    }
    closing
}

/// As `dstor-sync-config-check`.
fn name(command: &clap::Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}
