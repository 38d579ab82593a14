//! The folder on this machine: who it is, what is in it, what its files hold, and when something happens to it.
//!
//! Read-only: nothing below a mirror is ever written. What is recorded and what is sent are other rooms' business.

mod calls;
mod crew;
mod filesystem;
#[cfg(test)]
mod racer;
mod read;
mod root;
mod rules;
mod scan;
mod survey;
mod tree;
mod uptime;
mod watch;

pub use calls::{Call, Calls};
pub use crew::Crew;
pub use filesystem::unfit_for_a_ledger;
pub use read::{Content, ReadError, Reading};
pub use root::{Identity, Look, OpenRoot, Own, RootError};
pub use rules::RuleBook;
pub use scan::{Difference, Known, Scan, ScanError, ScanSummary};
pub use survey::{Survey, most_watches};
pub use tree::{Name, Tree};
pub use uptime::uptime;
pub use watch::{Heard, Hearing, WatchError, Watcher, sends_no_events};
