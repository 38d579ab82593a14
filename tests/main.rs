//! The one integration binary: it links once, and its worlds share their helpers.

mod agent;
mod alerts;
mod architecture;
mod broken_off;
mod cli;
mod client;
mod edges;
mod failures;
mod faults;
mod figures;
mod ground;
mod guards;
mod log;
mod manual;
mod matrix;
mod restart;
mod roots;
mod security;
mod sessions;
mod steering;
mod storm;
mod stragglers;
mod syscalls;
mod truth;
mod verify;
mod world;
