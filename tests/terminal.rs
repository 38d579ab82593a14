//! A terminal with somebody at it: a pseudo-terminal that a program is drawn on, typed to at, resized and left.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, Winsize, tcgetattr, tcsetwinsize};

const DEADLINE: Duration = Duration::from_secs(90);

pub(crate) struct Terminal {
    program: Child,
    screen: File,
    shown: Arc<Mutex<Vec<u8>>>,
    /// Reads until nobody has the other end any more; none once it was waited for.
    reader: Option<JoinHandle<()>>,
    before: Termios,
    read_to: usize,
}

impl Terminal {
    /// Runs the program at a terminal of this many columns and rows, which is its controlling one. `setsid` makes it that,
    /// and becomes the program: the same process.
    pub(crate) fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let (screen, keyboard) = pair();
        resize(&screen, columns, rows);
        let before = tcgetattr(&keyboard).expect("a terminal");
        let mut setsid = Command::new("setsid");
        setsid.arg("--ctty").arg(command.get_program()).args(command.get_args()).env_clear();
        setsid.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        setsid.current_dir(command.get_current_dir().expect("a directory"));
        let stdio = || Stdio::from(keyboard.try_clone().expect("copied"));
        let program = setsid.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().expect("setsid of util-linux");
        let screen = File::from(screen);
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (mut reading, keeping) = (screen.try_clone().expect("copied"), Arc::clone(&shown));
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reading.read(&mut piece) {
                keeping.lock().expect("not poisoned").extend_from_slice(&piece[..length]);
            }
        });
        Self { program, screen, shown, reader: Some(reader), before, read_to: 0 }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.program.id()
    }

    /// All that it showed so far, with lines as they end in files. Of a letter that has come in part there is a mark.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("not poisoned")).replace("\r\n", "\n")
    }

    /// Waits until this is shown, after what was waited for before.
    pub(crate) fn until(&mut self, text: &str) {
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
    pub(crate) fn type_in(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).expect("typed");
    }

    /// Waits for the question up to its end, and answers it: what is typed sooner is shown in the midst of it.
    pub(crate) fn answer(&mut self, question: &str, answer: &str) {
        self.until(question);
        self.until(": ");
        self.type_in(&format!("{answer}\n"));
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.screen, columns, rows);
    }

    /// Whether what is typed is shown.
    pub(crate) fn echoes(&self) -> bool {
        tcgetattr(&self.screen).expect("its modes").local_modes.contains(LocalModes::ECHO)
    }

    /// Waits for the program's end, and for all that it showed, and that the terminal works as it did before. Returns its
    /// exit status.
    pub(crate) fn end(&mut self) -> Option<i32> {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.program.try_wait().expect("waited") {
                break status;
            }
            assert!(begun.elapsed() < DEADLINE, "it does not end:\n{}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        let modes = |of: &Termios| (of.input_modes, of.output_modes, of.control_modes, of.local_modes);
        let now = tcgetattr(&self.screen).expect("its modes");
        assert_eq!(modes(&now), modes(&self.before), "{}", self.shown());
        // What it wrote last may be on its way still.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("read to its end");
        }
        status.code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// A terminal: its screen, which this side has, and its keyboard, which is for a program. No other program has them.
pub(crate) fn pair() -> (OwnedFd, OwnedFd) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    grantpt(&screen).and_then(|()| unlockpt(&screen)).expect("its other end");
    let name = ptsname(&screen, Vec::new()).expect("a name");
    let keyboard = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty());
    (screen, keyboard.expect("opened"))
}

fn resize(screen: impl std::os::fd::AsFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(screen, size).expect("resized");
}
