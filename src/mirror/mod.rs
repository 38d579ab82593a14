//! The rules: what a path is, when it is quiet, what is to be done with it, and how its bytes are named.
//!
//! Everything in this room is pure. There is no clock, no disk, no network and no async here: time and randomness
//! come in as arguments, so every rule can be tried a million times a second and replayed to the letter.

mod alarm;
mod backoff;
mod canary;
mod cid;
mod clock;
mod copy;
mod debounce;
mod decide;
mod digest;
mod emptied;
mod fault;
#[cfg(test)]
pub(crate) mod fuzz;
mod guard;
mod ignore;
mod names;
mod pace;
mod pack;
mod path;
mod rate;
mod signs;
mod twins;
mod vigil;

pub use alarm::{Alarm, Alert};
pub use backoff::Backoff;
pub use canary::{Canary, Pulse};
pub use cid::{Blocks, CHUNK_BYTES, Cid, CidBuilder, NotACid, multihash, varint};
pub use clock::{Jump, Moment, Passed, TICK, passed};
pub use copy::{Copying, copying, is_unmoved};
pub use debounce::Debouncer;
pub use decide::{Decision, Kind, Observed, Policy, Recorded, SECRET, Skip, Stat, State, Timestamp, decide};
pub use digest::{Digest, Sealed};
pub use emptied::{EMPTIED, EMPTIED_MESSAGE, are_too_many, is_emptied};
pub use fault::{BROKEN_OFF, Fault, NONSENSE, Scope, Verdict};
pub use guard::Guard;
pub use ignore::{DSTORIGNORE, Included, Rule, Rules};
pub use names::{NameKey, Names};
pub use pace::{Enter, GateFacts, Left, Pace, Ticket};
pub use pack::{LARGEST, MOST_BYTES, MOST_FILES, Room, Sessions, Way, Ways};
pub(crate) use path::escape;
pub use path::{BadRemoteDir, MirrorPath, Placement, RemoteDir, Unplaceable, shell_word};
pub use rate::{Meter, MinuteOfDay, Timetable};
pub use signs::sign_in;
pub use twins::{are_twins, leaves_its_name, may_have_twins, sent_name};
pub use vigil::{Reaction, ScanEnd, Vigil};
