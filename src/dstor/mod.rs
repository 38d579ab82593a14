//! The remote: what travels between this machine and dStor, and nothing about files or queues.

mod answer;
mod authorities;
mod body;
mod client;
pub mod credentials;
mod error;
pub mod exchange;
#[cfg(test)]
mod fuzz;
mod http;
mod lease;
mod reach;
mod read;
pub mod session;
mod throttle;
mod token;
pub mod wire;

pub use answer::{Answer, Given, Outcome};
pub use authorities::{Authorities, NoAuthorities};
pub use client::{Client, ClientError, ClientOptions, Files, Measured, Upload, link};
pub use credentials::Credentials;
pub use http::is_loopback;
pub use lease::{Granted, Lease, Leased, Order, Standing, Want, Wish};
pub use reach::{Reach, reach};
pub use read::{Download, Reply};
pub use session::{SessionFailure, Stage};
pub use token::{CredentialSource, Token, TokenFacts, TokenSource};
