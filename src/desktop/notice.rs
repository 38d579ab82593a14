//! A notice on the screen, by the desktop's own means.

use std::collections::HashMap;

use zbus::zvariant::Value;

use super::Bus;

const NOTIFICATIONS: &str = "org.freedesktop.Notifications";
const NOTIFICATIONS_PATH: &str = "/org/freedesktop/Notifications";
/// The desktop decides how long a notice stays.
const AS_USUAL: i32 = -1;

/// How much a notice is to stand out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// It is good to know.
    Normal,
    /// It stays until somebody has seen it.
    Critical,
}

/// Shows a notice on the desktop of the session's `bus`. Desktops read `body` as markup: it holds no words of others.
///
/// # Errors
/// In words: there is no such bus, or nobody shows notices there.
pub async fn notify(bus: &Bus, summary: &str, body: &str, urgency: Urgency) -> Result<(), String> {
    let urgency: u8 = match urgency {
        Urgency::Normal => 1,
        Urgency::Critical => 2,
    };
    let hints = HashMap::from([("urgency", Value::from(urgency))]);
    let actions: [&str; 0] = [];
    let notice = ("dstor-sync", 0_u32, "", summary, body, &actions[..], hints, AS_USUAL);
    let shown = bus.ask(async |connection| {
        let interface = Some(NOTIFICATIONS);
        connection.call_method(interface, NOTIFICATIONS_PATH, interface, "Notify", &notice).await
    });
    shown.await.map(|_| ()).map_err(|error| error.to_string())
}
