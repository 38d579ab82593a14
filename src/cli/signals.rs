//! The first SIGINT or SIGTERM asks to stop, the second ends at once. A terminal that closes (SIGHUP) asks, too; an agent
//! that has none reads its configuration again then.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::{Notify, watch};

use crate::upload::Stop;

use super::Exit;

/// Which signal asked to stop.
#[derive(Clone, Default)]
pub(super) struct Signal(Arc<AtomicI32>);

impl Signal {
    /// The exit status of a command that was stopped before it was done.
    pub(super) fn exit(&self) -> Exit {
        if self.0.load(Ordering::Relaxed) == SIGINT { Exit::Interrupted } else { Exit::Terminated }
    }
}

/// Listens for signals from now on.
///
/// # Errors
/// If the system takes no handlers.
pub(super) fn listen() -> std::io::Result<(watch::Receiver<Stop>, Signal)> {
    listen_with(None)
}

/// Listens for an agent. Rings the second of what it returns when the configuration is to be read again: at SIGHUP, unless
/// stdin is a terminal. Then it is the terminal that closes.
///
/// Asked now, as nothing is a terminal once it is closed.
///
/// # Errors
/// If the system takes no handlers.
pub(super) fn listen_for_an_agent() -> std::io::Result<(watch::Receiver<Stop>, Arc<Notify>)> {
    let reread = Arc::new(Notify::new());
    let hangup = (!std::io::stdin().is_terminal()).then(|| Arc::clone(&reread));
    Ok((listen_with(hangup)?.0, reread))
}

fn listen_with(hangup: Option<Arc<Notify>>) -> std::io::Result<(watch::Receiver<Stop>, Signal)> {
    let (send, stop) = watch::channel(Stop::Go);
    let first = Signal::default();
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let seen = first.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if signal == SIGHUP
                && let Some(hangup) = &hangup
            {
                hangup.notify_one();
                continue;
            }
            if seen.0.swap(signal, Ordering::Relaxed) != 0 {
                #[expect(
                    clippy::exit,
                    reason = "the second signal asks for exactly this; a killed agent loses nothing"
                )]
                std::process::exit(u8::from(Exit::Interrupted).into());
            }
            send.send_replace(Stop::Soon);
        }
    })?;
    Ok((stop, first))
}
