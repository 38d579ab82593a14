//! A real `dbus-daemon` for one test, on which nothing is started by itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zbus::Connection;
use zbus::connection::Builder;

/// The bus. It ends with the test.
pub(crate) struct Bus {
    folder: tempfile::TempDir,
    daemon: Child,
}

impl Bus {
    pub(crate) async fn start() -> Self {
        // A socket's path must not be long, which the directory for a test may be.
        let folder = tempfile::Builder::new().prefix("bus").tempdir_in("/tmp").expect("a folder");
        let config = folder.path().join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\"
              \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">
             <busconfig><type>session</type><listen>unix:path={}/bus</listen><auth>EXTERNAL</auth>
             <policy context=\"default\"><allow eavesdrop=\"true\"/><allow send_destination=\"*\" eavesdrop=\"true\"/>
             <allow own=\"*\"/></policy></busconfig>",
            folder.path().display()
        );
        fs::write(&config, text).expect("written");
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
        let daemon = command.stderr(Stdio::null()).spawn().expect("dbus-daemon is installed (Debian: dbus-daemon)");
        let bus = Self { folder, daemon };
        until("the bus listens", async || Builder::address(bus.address().as_str()).expect("one").build().await.is_ok())
            .await;
        bus
    }

    pub(crate) fn address(&self) -> String {
        format!("unix:path={}/bus", self.folder.path().display())
    }

    /// A place for whoever lives on the bus.
    pub(crate) fn home(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Builder::address(self.address().as_str()).expect("an address").build().await.expect("connected")
    }

    pub(crate) async fn until_owned(&self, name: &str) {
        let connection = self.connect().await;
        until(&format!("somebody is `{name}`"), async || {
            let asked = connection
                .call_method(
                    Some("org.freedesktop.DBus"),
                    "/org/freedesktop/DBus",
                    Some("org.freedesktop.DBus"),
                    "NameHasOwner",
                    &name,
                )
                .await;
            asked.is_ok_and(|reply| reply.body().deserialize::<bool>().unwrap_or(false))
        })
        .await;
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// GNOME's keyring, with its own directory below the bus's. It ends with the test.
pub(crate) struct GnomeKeyring {
    daemon: Child,
    connection: Connection,
}

impl GnomeKeyring {
    /// With a keyring named `login`, as a desktop has it, that is unlocked.
    pub(crate) async fn start(bus: &Bus) -> Self {
        use std::io::Write as _;
        let run: PathBuf = bus.home().join("run");
        fs::create_dir_all(&run).expect("made");
        let mut daemon = Command::new("gnome-keyring-daemon")
            .args(["--foreground", "--unlock", "--components=secrets"])
            .env_clear()
            .env("HOME", bus.home())
            .env("XDG_RUNTIME_DIR", &run)
            .env("DBUS_SESSION_BUS_ADDRESS", bus.address())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("gnome-keyring-daemon is installed (Debian: gnome-keyring)");
        daemon.stdin.take().expect("piped").write_all(b"password").expect("told");
        bus.until_owned("org.freedesktop.secrets").await;
        Self { daemon, connection: bus.connect().await }
    }

    pub(crate) async fn lock(&self) {
        let login = zbus::zvariant::ObjectPath::try_from("/org/freedesktop/secrets/collection/login").expect("a path");
        let (service, path) = ("org.freedesktop.secrets", "/org/freedesktop/secrets");
        let locked = self
            .connection
            .call_method(Some(service), path, Some("org.freedesktop.Secret.Service"), "Lock", &(&[login][..],))
            .await;
        locked.expect("locked");
    }
}

impl Drop for GnomeKeyring {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

/// Waits for a condition, for a minute at most.
pub(crate) async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !tokio::time::timeout(Duration::from_secs(60), holds()).await.unwrap_or(false) {
        assert!(begun.elapsed() < Duration::from_secs(60), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
