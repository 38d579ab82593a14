//! The remote: what travels between this machine and dStor, and nothing about files or queues.

mod client;
pub mod credentials;
mod error;
mod token;
pub mod wire;

pub use client::{Client, ClientError, ClientOptions, Upload, link};
pub use credentials::Credentials;
pub use token::{CredentialSource, Standing, Token, TokenFacts, TokenSource};
