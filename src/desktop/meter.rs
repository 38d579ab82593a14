//! Whether what goes over the network is counted and may cost: NetworkManager's word on the primary connection.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, watch};
use tracing::{debug, info};
use zbus::Proxy;
use zbus::proxy::MethodFlags;
use zbus::zvariant::OwnedValue;

use super::Bus;

const MANAGER: &str = "org.freedesktop.NetworkManager";
const MANAGER_PATH: &str = "/org/freedesktop/NetworkManager";
/// `NM_METERED_YES`: a person said so.
const YES: u32 = 1;
/// `NM_METERED_GUESS_YES`: a modem, or a telephone that says so by DHCP. The documentation of NetworkManager has
/// applications treat it like yes, and everything else, not knowing included, as not metered.
const GUESS_YES: u32 = 3;

/// Says whether the connection is metered, and asks for that only when somebody wants to know.
#[derive(Debug)]
pub struct Meter {
    bus: Bus,
    known: Mutex<Option<(Instant, bool)>>,
    facts: watch::Sender<bool>,
}

impl Meter {
    /// An answer is believed for so long.
    pub const FRESH: Duration = Duration::from_secs(5);

    /// One that asks on the system's `bus`.
    #[must_use]
    pub fn new(bus: Bus) -> Self {
        Self { bus, known: Mutex::default(), facts: watch::channel(false).0 }
    }

    /// The last answer, and word whenever it changes. Nobody is asked for it.
    pub fn facts(&self) -> watch::Receiver<bool> {
        self.facts.subscribe()
    }

    /// Whether it is metered. Where nobody can tell, it is not: most machines have no NetworkManager, and nothing would ever
    /// go up.
    pub async fn is_metered(&self) -> bool {
        // Held while it is asked: whoever else wants to know gets the same answer.
        let mut known = self.known.lock().await;
        if let Some((at, is_metered)) = *known
            && at.elapsed() < Self::FRESH
        {
            return is_metered;
        }
        let is_metered = self.look().await;
        *known = Some((Instant::now(), is_metered));
        let is_news = self.facts.send_if_modified(|told| std::mem::replace(told, is_metered) != is_metered);
        if is_news && is_metered {
            info!("the connection is metered: no upload begins");
        } else if is_news {
            info!("the connection is not metered any more: going on");
        }
        is_metered
    }

    async fn look(&self) -> bool {
        let asked = self.bus.ask(async |connection| {
            let properties = Proxy::new(connection, MANAGER, MANAGER_PATH, "org.freedesktop.DBus.Properties").await?;
            // One that does not run is not started for this.
            let flags = MethodFlags::NoAutoStart.into();
            let value = properties.call_with_flags("Get", flags, &(MANAGER, "Metered")).await?;
            let value: OwnedValue = value.ok_or(zbus::Error::InvalidReply)?;
            Ok(u32::try_from(value)?)
        });
        match asked.await {
            Ok(word) => matches!(word, YES | GUESS_YES),
            Err(error) => {
                debug!(%error, "nobody tells whether the connection is metered");
                false
            }
        }
    }
}
