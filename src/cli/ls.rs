//! `ls`: files with state, hash and link.

use serde::Serialize;

use crate::dstor::link;
use crate::ledger::{AgentLock, Entry, EntryState, Holding, Ledger, Millis, MirrorRow, Shelved};
use crate::mirror::{MirrorPath, State as FileState, shell_word};
use crate::wording::{JsonPath, file_time, shown, time};

use super::args::{Global, Ls, State};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone};
use super::places;
use super::remote::Whereabouts;

/// A line of `ls --json`; its form is fixed.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    path: JsonPath,
    state: &'static str,
    /// Null where nobody knows it: of some versions that were replaced since.
    size: Option<u64>,
    modified_at: Option<String>,
    blake3: Option<String>,
    hash: Option<String>,
    proof: Option<String>,
    /// Whether what has the hash is the file encrypted; null: dStor holds nothing of it.
    encrypted: Option<bool>,
    url: Option<String>,
    remote_dir: Option<String>,
    remote_name: Option<String>,
    stored_at: Option<String>,
    error: Option<String>,
}

pub(super) fn run(global: &Global, command: &Ls, output: &Output) -> Result<Exit, Failure> {
    let state_dir = places::state_dir(global, &command.which)?;
    let ledger = places::open(&state_dir)?;
    // What a killed agent had in its hands waits again.
    let is_alive = AgentLock::is_held(&state_dir);
    let url = ledger.agent()?.map(|agent| agent.url);
    let mirrors = ledger.active_mirrors()?;
    let whereabouts = Whereabouts::new(&ledger)?;
    let mut wanted: Vec<(&MirrorRow, MirrorPath)> = Vec::new();
    for path in &command.paths {
        wanted.push(places::find(&mirrors, path)?);
    }
    if command.paths.is_empty() {
        wanted.extend(mirrors.iter().map(|mirror| (mirror, MirrorPath::top())));
    }
    if let Some(at) = command.at {
        return Then { command, output, ledger: &ledger, whereabouts, url: url.as_deref(), at }.list(&wanted);
    }
    let mut exit = Exit::Fine;
    for ((mirror, prefix), given) in wanted.iter().zip(command.paths.iter().map(Some).chain(std::iter::repeat(None))) {
        let mut any = false;
        let mut is_read = true;
        ledger.entries(mirror.id, prefix, |mut entry| {
            any = true;
            if !is_alive && entry.state == EntryState::Uploading {
                entry.state = EntryState::Pending;
            }
            if command.state.is_none_or(|state| state.is(entry.state)) {
                let line = line(mirror, &entry, url.as_deref(), &whereabouts);
                is_read = output.line_if_read(if command.json {
                    serde_json::to_string(&line).unwrap_or_default()
                } else {
                    human(&line, output)
                });
            }
            is_read
        })?;
        if let Some(given) = given.filter(|_| !any) {
            output.note(format_args!("error: nothing is known of `{}`", shown(given)));
            output.note(format_args!("hint: `dstor-sync why {}` tells more", shell_word(given)));
            exit = Exit::Attention;
        }
    }
    Ok(exit)
}

/// A listing of what there was at a time.
struct Then<'a> {
    command: &'a Ls,
    output: &'a Output,
    ledger: &'a Ledger,
    whereabouts: Whereabouts,
    url: Option<&'a str>,
    at: Millis,
}

impl Then<'_> {
    fn list(&self, wanted: &[(&MirrorRow, MirrorPath)]) -> Result<Exit, Failure> {
        let mut exit = places::tell_of_gaps(self.ledger, self.at, self.output)?;
        for (at, (mirror, scope)) in wanted.iter().enumerate() {
            let mut any = false;
            let mut page: Vec<Shelved> = self.ledger.holding(mirror.id, scope, Some(self.at))?.into_iter().collect();
            let mut holdings = self.ledger.holdings_at(mirror.id, scope, self.at)?;
            loop {
                for shelved in page {
                    let Shelved::Held(holding) = shelved else { continue };
                    any = true;
                    if !self.tell(mirror, &holding) {
                        return Ok(exit);
                    }
                }
                page = holdings.next_page()?;
                if page.is_empty() {
                    break;
                }
            }
            if let Some(given) = self.command.paths.get(at).filter(|_| !any) {
                let then = time(self.at);
                self.output.note(format_args!("error: by {then} dStor held nothing of `{}`", shown(given)));
                self.output.note(format_args!("hint: `dstor-sync log {}` tells of its versions", shell_word(given)));
                exit = Exit::Attention;
            }
        }
        Ok(exit)
    }

    /// `false` if nobody reads on.
    fn tell(&self, mirror: &MirrorRow, holding: &Holding) -> bool {
        let is_known = holding.state == EntryState::Settled(FileState::Stored);
        let remote = self.whereabouts.of(mirror, &holding.path, Some(holding.is_name_hidden));
        let line = Line {
            path: JsonPath::new(&holding.path.under(&mirror.settings.path)),
            state: "stored",
            size: is_known.then_some(holding.size),
            modified_at: file_time(holding.mtime).filter(|_| is_known),
            blake3: Some(holding.digest.to_string()),
            hash: Some(holding.hash.to_string()),
            proof: holding.proof.clone(),
            encrypted: Some(holding.sealed.is_some()),
            url: self.url.map(|url| link(url, &holding.hash)),
            remote_dir: remote.dir,
            remote_name: remote.name,
            stored_at: Some(time(holding.stored_at)),
            error: None,
        };
        self.output.line_if_read(if self.command.json {
            serde_json::to_string(&line).unwrap_or_default()
        } else {
            human(&line, self.output)
        })
    }
}

impl State {
    fn is(self, state: EntryState) -> bool {
        state
            == match self {
                Self::Pending => EntryState::Pending,
                Self::Uploading => EntryState::Uploading,
                Self::Stored => EntryState::Settled(FileState::Stored),
                Self::Failed => EntryState::Settled(FileState::Failed),
                Self::Skipped => EntryState::Settled(FileState::Skipped),
                Self::Gone => EntryState::Settled(FileState::Gone),
            }
    }
}

fn line(mirror: &MirrorRow, entry: &Entry, url: Option<&str>, whereabouts: &Whereabouts) -> Line {
    let held = entry.row.as_ref().and_then(|row| row.held.as_ref());
    let remote = whereabouts.of(mirror, &entry.path, held.map(|held| held.is_name_hidden));
    Line {
        path: JsonPath::new(&entry.path.under(&mirror.settings.path)),
        state: entry.state.word(),
        size: Some(entry.size),
        modified_at: entry.row.as_ref().and_then(|row| file_time(row.recorded.stat.mtime)),
        blake3: held.map(|held| held.digest.to_string()),
        hash: held.map(|held| held.hash.to_string()),
        proof: held.and_then(|held| held.proof.clone()),
        encrypted: held.map(|held| held.sealed.is_some()),
        url: held.zip(url).map(|(held, url)| link(url, &held.hash)),
        remote_dir: remote.dir,
        remote_name: remote.name,
        stored_at: held.map(|held| time(held.at)),
        error: entry.reason.as_ref().map(|(_, message)| message.clone()),
    }
}

fn human(line: &Line, output: &Output) -> String {
    let tone = match line.state {
        "stored" => Tone::Good,
        "failed" => Tone::Bad,
        "pending" | "uploading" => Tone::Busy,
        _ => Tone::Faint,
    };
    let state = output.paint(&format!("{:<9}", line.state), tone);
    let tail = match (&line.error, &line.url) {
        (Some(error), _) => shown(error),
        (None, Some(url)) => shown(url),
        (None, None) => String::new(),
    };
    format!("{state}  {}  {tail}", line.path.shown()).trim_end().to_owned()
}
