//! What the service manager is told of a running agent: that it is at work, how it is, and that all of it lives.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tracing::error;

use crate::agent::{News, Seen, Vitals};
use crate::service::Manager;
use crate::status::Status;
use crate::upload::Clock;

/// How often the line of `status` is looked at. It is sent where it changed.
const LOOK: Duration = Duration::from_secs(5);
/// The line changes most while the first scan goes on.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// Signs of life are sent so many times as often as the manager wants them.
const SPARE: u32 = 4;

/// Tells the manager, as long as it is polled.
pub(super) async fn attend(manager: &Manager, state_dir: &Path, vitals: &Vitals) -> Infallible {
    tokio::join!(tell_status(manager, state_dir), prove_life(manager, vitals)).0
}

/// The agent's news, for the manager.
pub(super) fn tell(manager: Option<Arc<Manager>>) -> crate::agent::Tell {
    Arc::new(move |news| {
        let Some(manager) = &manager else { return };
        match news {
            News::AtWork => manager.ready(),
            News::Stopping(within) => {
                manager.stopping(within + SPARE_TO_STOP);
                manager.status("stopping: ending what it began");
            }
        }
    })
}

/// Beside what its tasks take, the ledger has to be closed.
const SPARE_TO_STOP: Duration = Duration::from_secs(30);

async fn tell_status(manager: &Manager, state_dir: &Path) -> Infallible {
    let (mut told, mut wait) = (String::new(), FIRST_LOOK);
    loop {
        tokio::time::sleep(wait).await;
        let dir = state_dir.to_owned();
        let read = tokio::task::spawn_blocking(move || Status::read(&dir)).await;
        if let Ok(Ok(status)) = read {
            let (answer, _) = super::status::answer(&status, Clock.now());
            if answer != told {
                manager.status(&answer);
                told = answer;
            }
            wait = if status.agent.state == "starting" { FIRST_LOOK } else { LOOK };
        }
    }
}

/// Says that the agent lives each time that all of it has proved so. Says nothing while it has not: then the manager
/// starts it anew, once that has lasted for as long as the unit says.
async fn prove_life(manager: &Manager, vitals: &Vitals) -> Infallible {
    let Some(watchdog) = manager.watchdog() else { return std::future::pending().await };
    let mut seen = Seen::default();
    loop {
        tokio::time::sleep(watchdog / SPARE).await;
        let mut proof = std::pin::pin!(vitals.prove(&mut seen));
        if tokio::time::timeout(watchdog / 2, proof.as_mut()).await.is_err() {
            let silent = vitals.silent().join(", ");
            error!(%silent, for_s = (watchdog / 2).as_secs(), "a part of the agent gives no sign of life");
            proof.await;
        }
        manager.alive();
    }
}
