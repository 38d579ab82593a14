//! The remote: what travels between this machine and dStor, and nothing about files or queues.

mod credentials;
pub mod wire;

pub use credentials::Credentials;
