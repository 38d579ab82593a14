//! The program `dstor-sync`. Everything is in the library; see its `lib.rs` for the map.

use std::process::ExitCode;

fn main() -> ExitCode {
    dstor_sync::cli::run(std::env::args_os()).into()
}
