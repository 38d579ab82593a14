//! This program beside others that do such work: `cargo bench --bench peers -- [CASE…]`.
//!
//! Each case makes its data, has both sides do the work in turns, looks on the other side whether all of it
//! arrived, and prints what each cost as a median, and the ratio of the two as a median of the pairs' ratios, with the
//! lowest and the highest. `--small` is for trying; what it prints is measured, but no figure to quote.
//!
//! A side is its whole process, from its start: wall time, CPU time, peak memory. Servers count for nobody: the sandbox and
//! the S3 server work in this process, rclone's own servers and syncthing's receiver in processes of their own. They take
//! from the same processors on either side. What is received lies in memory (`/dev/shm`), on any side; trees and
//! ledgers lie below `TMPDIR`. The sandbox computes the IPFS identifier of each file (SHA-256),
//! the S3 server computes nothing.
//!
//! A case whose work was not done whole by either side fails, and has no row. Told to stop, it ends what it started and
//! removes what it made.
//!
//! `--install` gets the peers from Debian, as root: what is not there is named and left out. Needs `/usr/bin/time`.
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

mod cases;
mod rclone;
mod s3;
#[path = "../shared/mod.rs"]
mod shared;
mod stop;
mod syncthing;
mod table;
mod tools;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use cases::Setting;
use table::Table;

/// This program beside others that do such work.
#[derive(Parser)]
#[command(name = "peers", bin_name = "cargo bench --bench peers --")]
struct Arguments {
    /// What to measure; everything if nothing is named
    #[arg(value_name = "CASE")]
    cases: Vec<Case>,
    /// Runs of each side
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pairs: u32,
    /// A hundredth of the files, for trying
    #[arg(long)]
    small: bool,
    /// Print a table in Markdown at the end
    #[arg(long)]
    markdown: bool,
    /// Install the peers from Debian first
    #[arg(long)]
    install: bool,
    /// What cargo says to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// 10,000 files of 4 KiB, 50 ms before each answer: rclone to S3
    Latency,
    /// 10,000 files of 4 KiB: rclone to S3 and to SFTP
    First,
    /// 1,000 files of 4 KiB: rclone to WebDAV
    Webdav,
    /// The same with one file a request: rclone to S3
    Alone,
    /// Requests for 10,000 files
    Requests,
    /// 100,000 files of 1 KiB: restic, syncthing
    Many,
    /// A first sync of 1,000,000 files: memory
    Million,
    /// One file of 1 GiB: curl, rclone to S3
    Large,
    /// One file of 1 GiB that was touched: b3sum
    Hash,
    /// 100,000 files unchanged, from the start to watching: lsyncd, syncthing, restic
    Restart,
    /// 1,000,000 files unchanged: find, rsync, rclone to SFTP
    Rescan,
    /// 25,000 files back into an empty directory: restic
    Restore,
    /// From a saved file to its request: notify
    Event,
    /// 100,000 files watched, nothing happens: lsyncd, syncthing
    Idle,
    /// 100,000 files at once, in new directories, more than the system's queue holds: notify
    Burst,
}

impl Case {
    fn run(self, setting: Setting, table: &mut Table) {
        match self {
            Self::Latency => cases::first::latency(setting, table),
            Self::First => cases::first::first(setting, table),
            Self::Webdav => cases::first::webdav(setting, table),
            Self::Alone => cases::first::alone(setting, table),
            Self::Requests => cases::first::requests(setting, table),
            Self::Many => cases::many::many(setting, table),
            Self::Million => cases::many::million(setting, table),
            Self::Large => cases::large::large(setting, table),
            Self::Hash => cases::large::hash(setting, table),
            Self::Restart => cases::unchanged::restart(setting, table),
            Self::Rescan => cases::unchanged::rescan(setting, table),
            Self::Restore => cases::back::restore(setting, table),
            Self::Event => cases::watching::event(setting, table),
            Self::Idle => cases::watching::idle(setting, table),
            Self::Burst => cases::watching::burst(setting, table),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.install && !tools::install() {
        return ExitCode::FAILURE;
    }
    stop::listen().expect("signals can be listened to");
    let setting = Setting { pairs: arguments.pairs as usize, is_small: arguments.small };
    println!("{}", tools::surroundings());
    if setting.is_small {
        println!("small sizes, for trying: no figures to quote");
    }
    let mut table = Table::new(!setting.is_small);
    let mut failed = Vec::new();
    for case in if arguments.cases.is_empty() { Case::value_variants() } else { &arguments.cases } {
        let name = case.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let begun = Instant::now();
        // What goes wrong in one of them has been told of; the others are worth their time all the same.
        let ended = catch_unwind(AssertUnwindSafe(|| case.run(setting, &mut table)));
        println!(
            "-- {name}: {} in {:.0} s",
            if ended.is_ok() { "done" } else { "failed" },
            begun.elapsed().as_secs_f64()
        );
        if ended.is_err() {
            failed.push(name);
        }
        if stop::is_asked() {
            break;
        }
    }
    if arguments.markdown {
        print!("\n{}", table.markdown());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
