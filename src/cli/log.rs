//! `log`: what was stored, retried, given up and left out, newest last.

mod versions;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::journal::{Event, Line, Reader};
use crate::plan::LEDGER;
use crate::wording::{bytes, shown};

use super::args::{Global, Log};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places;
use versions::Versions;

/// How often it is looked whether there is more.
const LOOK: Duration = Duration::from_millis(250);

pub(super) fn run(global: &Global, command: &Log, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let wanted: Vec<PathBuf> = command.paths.iter().map(|path| places::absolute(path)).collect::<Result<_, _>>()?;
    let mut reader = Reader::open(&state_dir)?;
    if !reader.is_there() && !state_dir.join(LEDGER).exists() {
        let what = format!("no agent has written anything to `{}`", shown(&state_dir));
        return Err(Failure::new(Exit::NotRunning, what).with_hint("`dstor-sync run` or `dstor-sync sync` begins"));
    }
    let mut versions = Versions::of(&state_dir, &command.paths)?;
    let most = command.lines.most();
    let mut last = VecDeque::new();
    loop {
        let noted = reader.read_line()?;
        if noted.as_ref().is_some_and(|line| !is_wanted(line, &wanted) || versions.tell_of(line)) {
            continue;
        }
        let is_end = noted.is_none();
        let before = versions.take_until(noted.as_ref().map(|line| line.at.as_str()));
        for line in before.into_iter().chain(noted) {
            if most == usize::MAX && !write(&line, command, output) {
                return Ok(Exit::Fine);
            }
            if most < usize::MAX {
                last.push_back(line);
                if last.len() > most {
                    last.pop_front();
                }
            }
        }
        if is_end {
            break;
        }
    }
    if !last.iter().all(|line| write(line, command, output)) || !command.follow {
        return Ok(Exit::Fine);
    }
    loop {
        while let Some(line) = reader.read_line()? {
            if is_wanted(&line, &wanted) && !write(&line, command, output) {
                return Ok(Exit::Fine);
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// With paths, only what happened to them or below them.
fn is_wanted(line: &Line, wanted: &[PathBuf]) -> bool {
    wanted.is_empty() || line.path.as_ref().is_some_and(|path| wanted.iter().any(|at| path.exact().starts_with(at)))
}

/// `false` if nobody reads on.
fn write(line: &Line, command: &Log, output: &Output) -> bool {
    output.line_if_read(if command.json {
        serde_json::to_string(line).unwrap_or_default()
    } else {
        human(line, output)
    })
}

fn human(line: &Line, output: &Output) -> String {
    let (word, tone) = match line.event {
        Event::Started | Event::Stopped => (line.event.word(), Tone::Faint),
        Event::Stored => ("stored", Tone::Good),
        Event::Retried => ("waiting", Tone::Busy),
        Event::Failed => ("failed", Tone::Bad),
        Event::Skipped => ("skipped", Tone::Faint),
        Event::Gone => ("gone", Tone::Faint),
        Event::Returned => ("returned", Tone::Faint),
        Event::Away => ("away", Tone::Bad),
        Event::Back => ("back", Tone::Good),
        Event::Omitted => ("omitted", Tone::Busy),
    };
    let of_path = line.path.as_ref().map(|path| path.shown());
    let what = match (line.event, of_path) {
        (Event::Started, _) => "the agent".into(),
        (Event::Stopped, _) => "the agent".into(),
        (Event::Away | Event::Back, _) => "dStor".into(),
        (Event::Omitted, _) => {
            format!("{} lines: more happened at a time than could be noted", line.lines.unwrap_or(0))
        }
        (_, path) => path.unwrap_or_default(),
    };
    let size = line.size.map(|size| format!("  {}", bytes(size))).unwrap_or_default();
    let hash = line.hash.as_ref().map(|hash| format!("  {}", shown(hash))).unwrap_or_default();
    let url = line.url.as_ref().map(|url| format!("  {}", shown(url))).unwrap_or_default();
    let reason = line.reason.as_ref().map(|reason| format!("  {}", shown(reason))).unwrap_or_default();
    let next = line.next_attempt_at.as_ref().map(|at| format!("; next try {}", shown(at))).unwrap_or_default();
    format!(
        "{}  {}  {what}{size}{hash}{url}{reason}{next}",
        shown(Path::new(&line.at)),
        output.paint(&format!("{word:<8}"), tone)
    )
}
