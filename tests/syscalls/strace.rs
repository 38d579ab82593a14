//! The program under strace: which calls it makes, and one of them struck.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

/// Longer than any run takes that does not hang: some wait for a back-off.
const DEADLINE: Duration = Duration::from_secs(90);

/// What the program writes, below the world's directory.
pub(super) const OUTPUT: &str = "output";

/// What happens at a call.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Blow {
    /// The process is killed before it is carried out.
    Kill,
    /// It is not carried out, and fails with this error.
    Fail(&'static str),
}

/// Which call is struck, and how.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Strike {
    pub(super) call: &'static str,
    /// The nth that some thread makes of it; the first thread to get there counts.
    pub(super) nth: u32,
    /// Only those to this file of the world count.
    pub(super) file: Option<&'static str>,
    pub(super) blow: Blow,
}

/// A call of the program, as strace saw it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    thread: u32,
    /// The thread's name.
    pub(super) by: String,
    pub(super) name: String,
    /// What it was done to: a file's name, or what kind of thing.
    pub(super) to: String,
    is_injected: bool,
}

/// The program at work, with all its threads traced.
pub(super) struct Traced {
    child: Child,
    log: PathBuf,
    output: PathBuf,
}

/// How a traced run went.
pub(super) struct Ran {
    /// `None`: it hung and was killed.
    pub(super) status: Option<ExitStatus>,
    /// What it wrote, to either stream.
    pub(super) output: String,
    pub(super) calls: Vec<Call>,
}

impl Traced {
    /// Starts `command` with these calls traced, and one of them struck.
    pub(super) fn start(command: &Command, dir: &Path, calls: &[&str], strike: Option<Strike>) -> Self {
        let (log, output) = (dir.join("strace.log"), dir.join(OUTPUT));
        for left in [&log, &output] {
            // There is none at first.
            let _ = fs::remove_file(left);
        }
        // The question mark: not every machine has each of them.
        let traced: Vec<String> = calls.iter().map(|call| format!("?{call}")).collect();
        let mut strace = Command::new("strace");
        // The tracer is the grandchild and the program our child: its end and its status are those of the program.
        strace.args(["-D", "-f", "-y", "-Y", "-s", "0", "-o"]).arg(&log);
        if strike.is_none_or(|strike| strike.blow != Blow::Kill) {
            // Stops at these calls only, which is much faster; strace 6.1 sends no signals then.
            strace.arg("--seccomp-bpf");
        }
        strace.arg("-e").arg(format!("trace={}", traced.join(",")));
        if let Some(Strike { call, nth, file, blow }) = strike {
            let what = match blow {
                Blow::Kill => "signal=SIGKILL".to_owned(),
                Blow::Fail(error) => format!("error={error}"),
            };
            strace.arg("-e").arg(format!("inject={call}:{what}:when={nth}"));
            if let Some(file) = file {
                strace.arg("-P").arg(dir.join(file));
            }
        }
        strace.arg(command.get_program()).args(command.get_args()).env_clear();
        strace.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        strace.current_dir(command.get_current_dir().expect("a directory")).stdin(Stdio::null());
        let open = || fs::OpenOptions::new().create(true).append(true).open(&output).expect("a log");
        let child = strace.stdout(open()).stderr(open()).spawn();
        let child = child.expect("these tests need strace: apt-get install strace");
        Self { child, log, output }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn output(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.output).expect("its output")).into_owned()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("waited").is_some()
    }

    /// Blocking: waits for its end, and kills it if that does not come.
    pub(super) fn end(mut self) -> Ran {
        let begun = Instant::now();
        let mut hangs = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("waited") {
                break status;
            }
            if begun.elapsed() > DEADLINE && !hangs {
                hangs = true;
                self.child.kill().expect("killed");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let (last, ended) = (format!("{}<", self.pid()), Instant::now());
        let log = loop {
            let log = String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned();
            let is_whole = log.lines().any(|line| line.starts_with(&last) && line.contains("> +++ "));
            if is_whole {
                break log;
            }
            assert!(
                ended.elapsed() < DEADLINE,
                "strace does not trace: is ptrace permitted here?\n{}\n{log}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(5));
        };
        Ran { status: (!hangs).then_some(status), output: self.output(), calls: parse(&log) }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ran {
    /// The most calls of each name that any one thread made, to `file` if that is given: strace counts by thread.
    pub(super) fn most(&self, file: Option<&str>) -> BTreeMap<String, u32> {
        let name = file.map(|file| file.rsplit('/').next().unwrap_or(file));
        let mut by_thread: HashMap<(&str, u32), u32> = HashMap::new();
        for call in self.calls.iter().filter(|call| name.is_none_or(|name| call.to == name)) {
            *by_thread.entry((&call.name, call.thread)).or_default() += 1;
        }
        let mut most: BTreeMap<String, u32> = BTreeMap::new();
        for ((name, _), count) in by_thread {
            let before = most.entry(name.to_owned()).or_default();
            *before = count.max(*before);
        }
        most
    }

    /// The call that was struck, if the run came to it.
    pub(super) fn struck(&self, strike: &Strike) -> Option<&Call> {
        if strike.blow != Blow::Kill {
            return self.calls.iter().find(|call| call.is_injected);
        }
        let killed = self.status.is_some_and(|status| status.signal() == Some(Signal::KILL.as_raw()));
        let mut seen: HashMap<u32, u32> = HashMap::new();
        self.calls.iter().filter(|call| killed && call.name == strike.call).find(|call| {
            let count = seen.entry(call.thread).or_default();
            *count += 1;
            *count == strike.nth
        })
    }
}

/// Reads lines such as `12<ledger> pwrite64(13</state/ledger.db-wal>, ""..., 24, 65952) = 24`.
fn parse(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once('<') else { continue };
        let (Ok(thread), Some((by, text))) = (thread.parse(), rest.split_once("> ")) else { continue };
        let is_injected = text.ends_with("(INJECTED)");
        let text = text.trim_start();
        if text.starts_with("<... ") {
            if let Some(call) = calls.iter_mut().rev().find(|call| call.thread == thread) {
                call.is_injected |= is_injected;
            }
            continue;
        }
        let Some((name, arguments)) = text.split_once('(') else { continue };
        if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            let to = done_to(arguments);
            calls.push(Call { thread, by: by.to_owned(), name: name.to_owned(), to, is_injected });
        }
    }
    calls
}

/// What a call is done to, without what differs from run to run.
fn done_to(arguments: &str) -> String {
    let named = arguments.split(", ").find_map(|argument| argument.strip_prefix('"')?.split('"').next());
    let open = arguments.split_once('<').filter(|(fd, _)| fd.bytes().all(|b| b.is_ascii_digit()));
    let path = match (open, named) {
        (_, Some(path)) if !path.is_empty() => path,
        (Some((_, rest)), _) => rest.split('>').next().unwrap_or(""),
        (None, _) => "",
    };
    if path.starts_with("anon_inode") || path.contains(":[") {
        let kind: String = path.chars().filter(|c| !c.is_ascii_digit()).collect();
        return kind.replace("anon_inode:", "").replace(":[]", "");
    }
    match path {
        "" => "nothing".to_owned(),
        path if path.starts_with("/proc") || path.starts_with("/sys") || path.starts_with("/etc") => {
            "system".to_owned()
        }
        path if path.contains(".so") => "library".to_owned(),
        path => path.rsplit('/').next().unwrap_or(path).to_owned(),
    }
}
