//! What the agent keeps an eye on besides the files: its ledger, the clocks, its watcher, and what is its own.

mod clock;
mod emptied;
mod ledger;
mod own;
mod watcher;
