//! Word that it is time to end.

use std::time::Duration;

use tokio::sync::watch;

/// Whether to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Go on.
    Go,
    /// End what was begun, begin nothing.
    Soon,
}

impl Stop {
    /// Waits so long, but not longer than until it is time to stop; `true` if it is.
    pub async fn within(stop: &watch::Receiver<Self>, wait: Duration) -> bool {
        let mut stop = stop.clone();
        tokio::time::timeout(wait, Self::wait(&mut stop)).await.is_ok()
    }

    /// Waits until it is time to stop; also if whoever could say so is gone. Cancel safe.
    pub async fn wait(stop: &mut watch::Receiver<Self>) {
        // The guard must not live on: it would keep the sender from saying anything.
        let _ = stop.wait_for(|stop| *stop != Self::Go).await;
    }
}
