//! Being told to stop, so that what was started is ended and what was made is removed.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGINT, SIGTERM};

static IS_ASKED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// From now on a signal only leaves word; a second one ends the process at once.
pub(crate) fn listen() -> io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&IS_ASKED))?;
        signal_hook::flag::register(signal, Arc::clone(&IS_ASKED))?;
    }
    Ok(())
}

pub(crate) fn is_asked() -> bool {
    IS_ASKED.load(Ordering::Relaxed)
}

/// Unwinds, which ends and removes everything, once somebody has asked.
pub(crate) fn if_asked() {
    assert!(!is_asked(), "told to stop");
}
