//! One-way mirrors of local directories on dStor.

pub mod mirror;

pub mod local;

pub mod ledger;

pub mod dstor;

pub mod upload;

pub mod plan;

pub mod sync;

pub mod agent;

pub mod config;
pub mod sandbox;
