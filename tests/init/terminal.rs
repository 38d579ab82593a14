//! A terminal with somebody at it: the program's own, of 80 columns, and what it shows.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

const DEADLINE: Duration = Duration::from_secs(60);
pub(super) const COLUMNS: u16 = 80;

pub(super) struct Terminal {
    child: Child,
    screen: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// As long as it is open, the terminal stays as the program left it.
    _keyboard: OwnedFd,
    read_to: usize,
}

impl Terminal {
    /// Starts `command` at a terminal of its own. `setsid` makes it that, and becomes the program: the same process.
    pub(super) fn start(command: &Command) -> Self {
        let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&screen).expect("granted");
        unlockpt(&screen).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: COLUMNS, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&screen, size).expect("sized");
        let name = ptsname(&screen, Vec::new()).expect("named");
        let keyboard = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
        let keyboard = keyboard.expect("opened");
        let stdio = || Stdio::from(keyboard.try_clone().expect("copied"));
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        setsid.current_dir(command.get_current_dir().expect("a directory"));
        let child = setsid.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn();
        let child = child.expect("setsid of util-linux");
        let screen = File::from(screen);
        let shown: Arc<Mutex<Vec<u8>>> = Arc::default();
        let (mut reading, keeping) = (screen.try_clone().expect("copied"), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reading.read(&mut piece) {
                keeping.lock().expect("not poisoned").extend_from_slice(&piece[..length]);
            }
        });
        Self { child, screen, shown, _keyboard: keyboard, read_to: 0 }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that it showed so far, with lines as they end in files.
    pub(super) fn shown(&self) -> String {
        String::from_utf8(self.shown.lock().expect("not poisoned").clone()).expect("UTF-8").replace("\r\n", "\n")
    }

    /// Waits until this is shown, after what was waited for before.
    pub(super) fn until(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            let shown = self.shown();
            if let Some(at) = shown[self.read_to..].find(text) {
                self.read_to += at + text.len();
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "`{text}` is never shown:\n{shown}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Types this at the keyboard.
    pub(super) fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits for the question up to its end, and answers it: what is typed sooner is shown in the midst of it.
    pub(super) fn answer(&mut self, question: &str, answer: &str) {
        self.until(question);
        self.until(": ");
        self.type_in(&format!("{answer}\n"));
    }

    /// Whether what is typed is shown.
    pub(super) fn echoes(&self) -> bool {
        tcgetattr(&self.screen).expect("its modes").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for its end, and for all that it showed.
    pub(super) fn end(&mut self) -> Option<i32> {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        // The terminal hands over in order: once this came back, so has all before it.
        if self.echoes() {
            self.type_in("END OF SCREEN\n");
            self.until("END OF SCREEN");
        }
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
