//! What the desktop around us knows and keeps, asked over D-Bus: whether the network is metered (NetworkManager), secrets
//! (the Secret Service of GNOME, KDE and others), notices on the screen.
//!
//! Each question has a connection of its own, so that nothing is held open at rest, and a time after which whoever has not
//! answered counts as hanging. A machine without a bus, or without anybody who answers, is the usual case and no fault.

mod bus;
mod keyring;
mod meter;
mod notice;

pub use bus::Bus;
pub use keyring::{Keyring, KeyringError};
pub use meter::Meter;
pub use notice::{Urgency, notify};
