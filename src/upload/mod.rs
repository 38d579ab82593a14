//! The uploader: a queue in the ledger, workers that drain it, and the pace at which they may.
//!
//! Only the queue waits. Whatever fails sleeps in the ledger with its next attempt, and survives a restart.

mod alone;
mod errand;
mod folder;
mod pace;
mod pack;
mod porter;
mod queue;
mod reader;
mod recognise;
mod reconcile;
mod roads;
mod roll;
mod stop;
mod tasks;
mod turns;
mod twins;
mod worker;

pub use alone::{Alone, Answered};
pub use errand::{Ending, Errand, Failure, GateWord, Happened, Next, Patience, Sent, ToSend};
pub use folder::{Folder, Walk};
pub use pace::Gate;
pub use pack::{Fared, Heap, Pack, Parcel, Stopped, claim_beside, fewest_others};
pub use queue::{Clock, Queue};
pub use recognise::{Recognised, SAMPLE, is_familiar, recognise};
pub use reconcile::{ReconcileError, Reconciler, differences, push_of, walk};
pub use roads::Roads;
pub use roll::Roll;
pub use stop::Stop;
pub use tasks::{Broke, TaskFailure, Tasks};
pub use twins::{ItsName, whose_name};
pub use worker::{Report, Uploader, blocking};
