//! The remote: what travels between this machine and dStor, and nothing about files or queues.

pub mod wire;
