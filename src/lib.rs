//! One-way mirrors of local directories on dStor.

pub mod mirror;

pub mod dstor;

pub mod sandbox;
