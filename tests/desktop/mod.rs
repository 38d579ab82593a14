//! The desktop around the agent: a real message bus of the test's own, on it what a desktop has there.

mod bus;
mod keyring;
mod metered;
mod notices;
