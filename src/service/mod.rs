//! Service managers: what they are told while the agent runs, and how the agent is made one of their services.

mod host;
mod notify;
mod unit;

pub use host::{Host, HostError, State};
pub use notify::Manager;
pub use unit::Found;
