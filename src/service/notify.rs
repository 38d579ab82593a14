//! What systemd is told by a service of `Type=notify` while it runs: datagrams to the socket that it names. Where nobody
//! listens, nothing is said.
//!
//! Forty lines over the standard library: the crate for it knows no sockets without a path, and opens one for each word.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tracing::debug;

/// Longer status lines are cut, in characters: they are for one line on a screen.
const LONGEST_STATUS: usize = 300;

/// The service manager that started this process, if it wants to be told.
#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Duration>,
}

impl Manager {
    /// The one of this process, by what the environment says of it; `None`: none wants to be told.
    #[must_use]
    pub fn of_process() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        // Meant for another process, such as the one that started this one.
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| is_ours && *usec > 0).map(Duration::from_micros);
        Self::at(&variable("NOTIFY_SOCKET")?, watchdog)
            .inspect_err(|error| debug!(%error, "the service manager cannot be told"))
            .ok()
    }

    fn at(address: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // A manager that is behind with its reading must not hold up the agent.
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address: address_of(address.as_bytes())?, watchdog })
    }

    /// How often it wants a sign of life at the least; `None`: it wants none.
    #[must_use]
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is at work, for the first time or again.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// It reads its configuration again, until it is [`ready`](Self::ready).
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"));
    }

    /// It ends, and may take so long.
    pub fn stopping(&self, within: Duration) {
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={}", within.as_micros()));
    }

    /// How it is, in a line.
    pub fn status(&self, text: &str) {
        // A line more would be another word to the manager.
        let line = text.chars().map(|c| if c.is_control() { ' ' } else { c });
        self.say(&format!("STATUS={}", line.take(LONGEST_STATUS).collect::<String>()));
    }

    /// Every part of it has given a sign of life since it last said so.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    /// A manager that cannot be told is its own trouble: the service goes on.
    fn say(&self, words: &str) {
        if let Err(error) = self.socket.send_to_addr(words.as_bytes(), &self.address) {
            debug!(%error, "the service manager is not told");
        }
    }
}

/// A path, or after `@` a name without one.
fn address_of(text: &[u8]) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = text.strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt as _;
        return SocketAddr::from_abstract_name(name);
    }
    SocketAddr::from_pathname(OsStr::from_bytes(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_go_to_sockets_with_a_path_and_without_one_and_a_line_stays_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("notify");
        let mut listeners = vec![(path.clone().into_os_string(), UnixDatagram::bind(&path).expect("bound"))];
        #[cfg(target_os = "linux")]
        {
            let name = format!("@dstor-sync-test-{}", fastrand::u64(..));
            let bound = UnixDatagram::bind_addr(&address_of(name.as_bytes()).expect("an address")).expect("bound");
            listeners.push((name.into(), bound));
        }
        for (name, listener) in listeners {
            let manager = Manager::at(&name, None).expect("a manager");
            let heard = || {
                let mut buffer = [0; 1024];
                let length = listener.recv(&mut buffer).expect("a word");
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            manager.status("all is well\nREADY=1");
            assert_eq!(heard(), "STATUS=all is well READY=1");
            manager.stopping(Duration::from_millis(1500));
            assert_eq!(heard(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000");
            manager.status(&"é".repeat(1000));
            assert_eq!(heard().chars().count(), "STATUS=".len() + LONGEST_STATUS);
            manager.reloading();
            let reloading = heard();
            let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|usec| usec.parse::<u64>().ok());
            assert!(usec.is_some_and(|usec| usec > 0), "{reloading}");
        }
    }
}
