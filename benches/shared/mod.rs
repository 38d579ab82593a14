//! What the benches that start the program have in common: trees, the program with its ledger and a sandbox, and what a
//! command or a process costs.

pub(crate) mod agent;
pub(crate) mod measure;
pub(crate) mod process;
pub(crate) mod receiver;
pub(crate) mod tree;
pub(crate) mod world;
