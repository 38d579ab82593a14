//! A program on a real terminal: a pseudo-terminal of this machine, which it can be drawn on, typed to and resized.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

pub(crate) struct Terminal {
    master: OwnedFd,
    program: Child,
    shown: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
    before: Termios,
}

impl Terminal {
    /// Runs the program with a terminal of this many columns and rows, which is its controlling one.
    pub(crate) fn run(command: &Command, columns: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo-terminal");
        grantpt(&master).and_then(|()| unlockpt(&master)).expect("ours");
        resize(&master, columns, rows);
        let name = ptsname(&master, Vec::new()).expect("its name").into_bytes();
        let open =
            || File::options().read(true).write(true).open(std::ffi::OsString::from_vec(name.clone())).expect("opened");
        let before = tcgetattr(open()).expect("a terminal");
        let mut whole = Command::new("setsid");
        whole.arg("--ctty").arg(command.get_program()).args(command.get_args());
        whole.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        whole.current_dir(command.get_current_dir().expect("given"));
        let program = whole.stdin(open()).stdout(open()).stderr(open()).spawn().expect("started");
        let shown = Arc::<Mutex<Vec<u8>>>::default();
        let (keeping, mut reading) = (Arc::clone(&shown), File::from(master.try_clone().expect("another")));
        let reader = std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // It ends with an error once nobody has the other end any more.
            while let Ok(read @ 1..) = reading.read(&mut piece) {
                keeping.lock().expect("not poisoned").extend_from_slice(&piece[..read]);
            }
        });
        Self { master, program, shown, reader: Some(reader), before }
    }

    /// Everything that the program wrote so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8(self.shown.lock().expect("not poisoned").clone()).expect("UTF-8")
    }

    pub(crate) fn type_in(&self, keys: &str) {
        File::from(self.master.try_clone().expect("another")).write_all(keys.as_bytes()).expect("typed");
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        resize(&self.master, columns, rows);
    }

    /// Waits for the program's end, and that the terminal works as it did before.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.program.try_wait().expect("waited") {
                break status;
            }
            assert!(begun.elapsed() < Duration::from_secs(90), "it does not end: {}", self.shown());
            std::thread::sleep(Duration::from_millis(10));
        };
        let now = tcgetattr(&self.master).expect("a terminal");
        assert_eq!(
            (now.input_modes, now.output_modes, now.control_modes, now.local_modes),
            (self.before.input_modes, self.before.output_modes, self.before.control_modes, self.before.local_modes)
        );
        // What it wrote last may be on its way still.
        if let Some(reader) = self.reader.take() {
            reader.join().expect("read to its end");
        }
        (status, self.shown())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

fn resize(master: &OwnedFd, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(master, size).expect("resized");
}
