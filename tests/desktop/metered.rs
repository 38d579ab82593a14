//! Uploads wait while the connection is metered.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use zbus::connection::Builder;

use super::bus::Bus;
use crate::service::Manager;
use crate::world::{World, said};

/// What NetworkManager says of the primary connection, and how often it was asked.
struct NetworkManager {
    metered: Arc<AtomicU32>,
    asked: Arc<AtomicUsize>,
}

#[zbus::interface(name = "org.freedesktop.NetworkManager")]
impl NetworkManager {
    #[zbus(property)]
    fn metered(&self) -> u32 {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.metered.load(Ordering::SeqCst)
    }
}

/// A bus with a NetworkManager on it.
struct Network {
    bus: Bus,
    metered: Arc<AtomicU32>,
    asked: Arc<AtomicUsize>,
    _manager: zbus::Connection,
}

impl Network {
    async fn new(word: u32) -> Self {
        let bus = Bus::start().await;
        let (metered, asked) = (Arc::new(AtomicU32::new(word)), Arc::new(AtomicUsize::new(0)));
        let manager = NetworkManager { metered: Arc::clone(&metered), asked: Arc::clone(&asked) };
        let built = Builder::address(bus.address().as_str())
            .and_then(|builder| builder.serve_at("/org/freedesktop/NetworkManager", manager))
            .and_then(|builder| builder.name("org.freedesktop.NetworkManager"));
        let _manager = built.expect("a service").build().await.expect("on the bus");
        Self { bus, metered, asked, _manager }
    }

    fn command(&self, world: &World, what: &str) -> Command {
        let mut command = world.command(&[what]);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address());
        command
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_up_while_the_connection_is_metered_and_all_of_it_afterwards() {
    const GUESS_YES: u32 = 3;
    const GUESS_NO: u32 = 4;
    let network = Network::new(GUESS_YES).await;
    let world = World::new().await;
    world.write("f", "1");
    let mut manager = Manager::new(&world);
    let agent = manager.start(&world, network.command(&world, "run"));
    world.until("it tells of it", || world.status()["agent"]["metered"] == true).await;
    world.until("the first scan is through", || world.status()["agent"]["state"] == "running").await;
    assert_eq!((world.count("pending"), world.sent()), (1, 0));
    let said = world.run(&["status"]);
    let hint = "`metered = \"go\"` in [upload] has them go all the same";
    assert!(
        said.stdout.starts_with(&format!("waiting: the connection is metered; 1 waiting; {hint}\n")),
        "{}",
        said.stdout
    );
    assert_eq!(said.code, 0, "it needs nobody");
    let said = world.run(&["wait", "--timeout", "0s"]);
    assert!(said.code == 124 && said.stderr.contains("waits for a connection that is not metered"), "{}", said.stderr);
    // Waiting is no hanging.
    manager.until_said(&world, "WATCHDOG=1").await;
    manager.until_said(&world, "WATCHDOG=1").await;
    network.metered.store(GUESS_NO, Ordering::SeqCst);
    world.until_mirrored().await;
    assert_eq!(world.status()["agent"]["metered"], false);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_at_rest_does_not_ask_whether_the_connection_is_metered() {
    let network = Network::new(0).await;
    let world = World::new().await;
    world.write("f", "1");
    let agent = world.start_command(network.command(&world, "run"));
    world.until_mirrored().await;
    world.until("the first scan is through", || world.status()["agent"]["state"] == "running").await;
    let asked = network.asked.load(Ordering::SeqCst);
    assert!(asked > 0, "it asked before it sent");
    // Two ticks of the agent's clock, each longer than an answer holds: a scan begins with the next one at the latest.
    for _ in 0..2 {
        let scanned = world.status()["mirrors"][0]["last_scan_at"].clone();
        assert_eq!(world.run(&["rescan"]).code, 0);
        world.until("a scan later", || world.status()["mirrors"][0]["last_scan_at"] != scanned).await;
    }
    assert_eq!(network.asked.load(Ordering::SeqCst), asked);
    assert_eq!(agent.stop(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_wants_it_uploads_over_a_metered_connection_too() {
    const YES: u32 = 1;
    let network = Network::new(YES).await;
    let world = World::with("", "metered = \"go\"").await;
    world.write("f", "1");
    let agent = world.start_command(network.command(&world, "run"));
    world.until_mirrored().await;
    assert_eq!(agent.stop(), 0);
    // One pass is what somebody wants now.
    let world = World::new().await;
    world.write("f", "1");
    assert_eq!(tokio::task::block_in_place(|| said(network.command(&world, "sync"))).code, 0);
    assert_eq!((world.sent(), network.asked.load(Ordering::SeqCst)), (1, 0));
}
