//! What a command costs: wall time, CPU time and peak memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What a run of a command cost.
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

/// A name, and what makes a command to be run under it once more.
pub(crate) type Contender<'a> = (&'a str, Box<dyn Fn() -> Command + 'a>);

/// Runs all commands in turns, so that whatever else the machine does meets them alike.
pub(crate) fn in_turns<'a>(rounds: usize, commands: &[Contender<'a>]) -> Vec<(&'a str, Vec<Cost>)> {
    let mut costs: Vec<(&str, Vec<Cost>)> = commands.iter().map(|(name, _)| (*name, Vec::new())).collect();
    for _ in 0..rounds {
        for ((_, command), (_, costs)) in commands.iter().zip(&mut costs) {
            costs.push(Cost::of(&mut command()));
        }
    }
    costs
}

pub(crate) fn median(of: &[Duration]) -> Duration {
    let mut sorted = of.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

pub(crate) fn program_in_path(name: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(name).exists()))
}

/// A figure from a file such as `/proc/PID/status`, which begins its line.
pub(crate) fn figure(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}
