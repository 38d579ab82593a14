//! Service managers: what they are told while the agent runs.

mod notify;

pub use notify::Manager;
