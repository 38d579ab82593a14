//! What a process that goes on has used so far, as the kernel counts it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::measure::figure;

/// A running process, by its number.
#[derive(Clone, Copy)]
pub(crate) struct Process(pub(crate) u32);

/// What a process did while nothing happened around it.
pub(crate) struct Idle {
    pub(crate) length: Duration,
    pub(crate) memory_kib: u64,
    pub(crate) peak_kib: u64,
    pub(crate) cpu: Duration,
    /// How often its threads went to sleep again.
    pub(crate) woken: u64,
    /// Bytes that it caused to be written to storage.
    pub(crate) wrote: u64,
}

impl Process {
    fn proc(self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.0).into()
    }

    /// The most memory that it ever had.
    pub(crate) fn peak_kib(self) -> u64 {
        figure(&self.proc("status"), "VmHWM:").expect("it lives")
    }

    /// A figure of each of its threads, together: `of` takes it from the thread's directory.
    fn of_threads(self, of: impl Fn(&Path) -> Option<u64>) -> u64 {
        let threads = std::fs::read_dir(self.proc("task")).expect("it lives").flatten();
        threads.filter_map(|thread| of(&thread.path())).sum()
    }

    /// Time that its threads spent on a processor; not those that have ended.
    pub(crate) fn cpu(self) -> Duration {
        // Nanoseconds on a processor are the first figure of its only line.
        Duration::from_nanos(self.of_threads(|thread| figure(&thread.join("schedstat"), "")))
    }

    /// Looks at it for that long.
    pub(crate) fn idle(self, length: Duration) -> Idle {
        let woken = || self.of_threads(|thread| figure(&thread.join("status"), "voluntary_ctxt_switches:"));
        let wrote = || figure(&self.proc("io"), "write_bytes:").expect("it lives");
        let before = (self.cpu(), woken(), wrote());
        std::thread::sleep(length);
        Idle {
            length,
            memory_kib: figure(&self.proc("status"), "VmRSS:").expect("it lives"),
            peak_kib: self.peak_kib(),
            cpu: self.cpu().saturating_sub(before.0),
            woken: woken().saturating_sub(before.1),
            wrote: wrote() - before.2,
        }
    }

    pub(crate) fn signal(self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.0.to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill");
    }
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "memory {} KiB (peak {}), in {} s CPU {:.4} s, woken {} times, wrote {} bytes",
            self.memory_kib,
            self.peak_kib,
            self.length.as_secs(),
            self.cpu.as_secs_f64(),
            self.woken,
            self.wrote
        )
    }
}
