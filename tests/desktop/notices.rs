//! What the desktop shows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use zbus::connection::Builder;
use zbus::zvariant::OwnedValue;

use super::bus::Bus;
use crate::world::World;

/// A desktop that remembers its notices.
struct Desktop(Arc<Mutex<Vec<String>>>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Desktop {
    #[expect(clippy::too_many_arguments, reason = "the specification has as many")]
    fn notify(
        &self,
        name: &str,
        _replaces: u32,
        _icon: &str,
        summary: &str,
        body: &str,
        _actions: Vec<String>,
        hints: HashMap<String, OwnedValue>,
        _expires: i32,
    ) -> u32 {
        let urgency = hints.get("urgency").and_then(|value| u8::try_from(value).ok());
        self.0.lock().expect("whole").push(format!("{name}: {summary}: {body}: {urgency:?}"));
        1
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_desktop_shows_a_notice_when_something_needs_a_person_and_when_it_is_over() {
    let bus = Bus::start().await;
    let shown = Arc::new(Mutex::new(Vec::new()));
    let built = Builder::address(bus.address().as_str())
        .and_then(|builder| builder.serve_at("/org/freedesktop/Notifications", Desktop(Arc::clone(&shown))))
        .and_then(|builder| builder.name("org.freedesktop.Notifications"));
    let _desktop = built.expect("a service").build().await.expect("on the bus");
    let mut world = World::with("", "sessions = \"never\"").await;
    world.set_config(format!("{}\n[alerts]\ndesktop = true\n", world.config()));
    world.misbehave("upload 413 name=bad");
    world.write("bad", "1");
    let mut command = world.command(&["run"]);
    command.env("DBUS_SESSION_BUS_ADDRESS", bus.address());
    let agent = world.start_command(command);
    let seen = || shown.lock().expect("whole").clone();
    world.until("a notice", || seen().len() == 1).await;
    assert_eq!(seen(), ["dstor-sync: dstor-sync needs you: dstor-sync status tells more: Some(2)"]);
    world.sandbox().behave();
    world.write("bad", "another");
    world.until("another", || seen().len() == 2).await;
    assert_eq!(seen()[1], "dstor-sync: dstor-sync: all is well again: dstor-sync status tells more: Some(1)");
    assert_eq!(agent.stop(), 0);
}
