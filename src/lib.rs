//! One-way mirrors of local directories on dStor.
//!
//! The modules from the ground up; each uses only those before it (a test keeps it so):
//!
//! | module | what is in it |
//! |---|---|
//! | [`mirror`] | the rules, pure: paths, digests, identifiers, when a path is quiet, what is to be done with it |
//! | [`seal`] | encryption: what leaves this machine, for those who have the key |
//! | [`local`] | the folder on this machine: watch, scan, open safely, read once |
//! | [`desktop`] | the desktop around us: metered networks, keyring, notices |
//! | [`ledger`] | what we know: SQLite, one file a table |
//! | [`dstor`] | the remote: client, token, what goes over the wire |
//! | [`upload`] | the uploader: queue, workers, pace |
//! | [`plan`] | what a run is put together from |
//! | [`wording`] | how paths, times and amounts are written |
//! | [`journal`] | what happened, a line each, for who asks later |
//! | [`verify`] | which stored files are read back, and what follows from what comes |
//! | [`restore`] | files from dStor into a directory on this machine |
//! | [`manifest`] | the list of all files of a mirror, on dStor itself |
//! | [`export`] | what dStor holds, for other programs |
//! | [`status`], [`sync`], [`agent`] | what a user can ask for |
//! | [`config`] | file, environment and flags, validated |
//! | [`doctor`] | what is looked at on the day something is wrong, and what to do |
//! | [`service`] | service managers: what they are told, and how the agent becomes one of their services |
//! | [`sandbox`] | dStor's API as a small server on loopback, for trying and testing |
//! | [`cli`] | arguments, output, exit statuses, signals; nothing else prints |

pub mod mirror;

pub mod seal;

pub mod local;

pub mod desktop;

pub mod ledger;

pub mod dstor;

pub mod upload;

pub mod plan;

pub mod wording;

pub mod journal;

pub mod verify;

pub mod restore;

pub mod manifest;

pub mod export;

pub mod status;

pub mod sync;

pub mod agent;

pub mod config;

pub mod doctor;

pub mod service;

pub mod sandbox;

pub mod cli;
