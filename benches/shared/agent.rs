//! An agent at work.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use super::process::Process;

/// An agent at work. Stopped when dropped.
pub(crate) struct Agent {
    child: Child,
    watches: mpsc::Receiver<Duration>,
    /// Lines of its log, save those that say that a file was stored.
    pub(crate) said: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    /// Starts `command`, which is the program with `run`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let begun = Instant::now();
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("started");
        let (watching, watches) = mpsc::channel();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let (pipe, into) = (child.stderr.take().expect("piped"), Arc::clone(&said));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if line.ends_with("watching") {
                    // Nobody may wait for it any more.
                    let _ = watching.send(begun.elapsed());
                }
                let mut said = into.lock().unwrap_or_else(PoisonError::into_inner);
                // A burst says a line a file.
                if !line.contains("stored") {
                    said.push(line);
                }
            }
        });
        Self { child, watches, said }
    }

    pub(crate) fn process(&self) -> Process {
        Process(self.child.id())
    }

    /// How long it took from its start until it watched and had compared everything.
    pub(crate) fn wait_until_watching(&self) -> Duration {
        let watches = self.watches.recv_timeout(Duration::from_secs(600));
        watches.unwrap_or_else(|_| panic!("it does not watch: {:?}", self.said))
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process().signal("TERM");
        let _ = self.child.wait();
    }
}
