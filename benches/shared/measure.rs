//! What a command costs: wall time, CPU time and peak memory, of the whole process.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a run of a command cost.
///
/// As `time` tells it, which is small when it starts the command: the most memory that Linux knows of a process is that of
/// whoever started it, if that had more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    pub(crate) took: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_kib: u64,
}

impl Cost {
    /// Runs a command to its end; it has to succeed.
    pub(crate) fn of(command: &mut Command) -> Self {
        let figures = tempfile::NamedTempFile::new().expect("a file");
        let mut timed = Command::new("/usr/bin/time");
        timed
            .arg("-o")
            .arg(figures.path())
            .args(["-f", "%U %S %M"])
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => timed.env(key, value),
                None => timed.env_remove(key),
            };
        }
        let begun = Instant::now();
        let status = timed.stdin(Stdio::null()).stdout(Stdio::null()).status().expect("`time` is installed");
        let took = begun.elapsed();
        assert!(status.success(), "{command:?}: {status}");
        let figures = std::fs::read_to_string(figures.path()).expect("read");
        let figures: Vec<f64> = figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect();
        let [user, system, peak] = figures[..] else { panic!("{figures:?}") };
        Self { took, cpu: Duration::from_secs_f64(user + system), peak_kib: peak as u64 }
    }
}

pub(crate) fn median(of: &[Duration]) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

/// A figure from a file such as `/proc/PID/status`, which begins its line.
pub(crate) fn figure(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
