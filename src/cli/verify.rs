//! `verify`: what is proved, what dStor gives back when it is asked, and what is not there as it should be.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::Url;
use serde::Serialize;

use crate::config::{Config, Environment, Upload};
use crate::dstor::{Client, ClientOptions};
use crate::ledger::{AgentLock, Entry, EntryState, Found, Ledger, Millis, MirrorId, MirrorRow, Proof, Readable};
use crate::mirror::{MirrorPath, State, shell_word};
use crate::plan::AssembleError;
use crate::sandbox::Sandbox;
use crate::upload::{Clock, Gate, Stop};
use crate::verify::{Asked, EndedBy, LOOK_AT, NAMES_OTHERWISE, Pass, Share, names_otherwise};
use crate::wording::{JsonPath, bytes, files, shown, time};

use super::args::{Global, Verify};
use super::exit::{Exit, Failure};
use super::output::{Output, Tone, bar};
use super::{logs, places, setup, signals};

/// The form of the lines below.
const SCHEMA: u32 = 1;
/// Files without an answer that are told of one by one; the rest is a number.
const SHOWN: u64 = 10;

/// A line of `verify --json`; its form is fixed.
#[derive(Serialize)]
struct Line {
    schema: u32,
    #[serde(flatten)]
    path: JsonPath,
    /// `proved`, `unproved`, `missing`, `different`, or `unknown` where dStor gave no answer.
    result: &'static str,
    /// `cid` or `read`, if it is proved.
    proof: Option<&'static str>,
    size: u64,
    hash: Option<String>,
    /// When it was last read back.
    read_at: Option<String>,
    error: Option<String>,
}

/// The last line of `verify --json`.
#[derive(Serialize)]
struct LastLine<'a> {
    schema: u32,
    summary: &'a Tally,
}

/// How many files came to what.
#[derive(Serialize, Default)]
struct Tally {
    proved: u64,
    /// Those of them that are proved by their hash alone.
    by_hash: u64,
    unproved: u64,
    missing: u64,
    different: u64,
    unknown: u64,
    /// Passed over: each costs more than the whole budget.
    too_large: u64,
    /// Not looked at, because they are about to be uploaded.
    waiting: u64,
    bytes_read: u64,
    /// Those that are to be uploaded again.
    repaired: u64,
}

/// Everything that a run works with.
struct Run<'a> {
    command: &'a Verify,
    output: &'a Output,
    mirrors: HashMap<MirrorId, &'a MirrorRow>,
    scopes: Vec<(MirrorId, MirrorPath)>,
    bar: Option<ProgressBar>,
    tally: Tally,
    /// Whether nothing is stored of some path that was named.
    is_short: bool,
}

pub(super) fn run(global: &Global, command: &Verify, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let state_dir = places::state_dir(global, &command.which)?;
    let ledger = open(&state_dir, command)?;
    let mirrors = ledger.active_mirrors()?;
    let mut scopes = Vec::new();
    for path in &command.paths {
        let (mirror, below) = places::find(&mirrors, path)?;
        scopes.push((mirror.id, below));
    }
    let mut run = Run {
        command,
        output,
        mirrors: mirrors.iter().map(|mirror| (mirror.id, mirror)).collect(),
        scopes,
        bar: None,
        tally: Tally::default(),
        is_short: false,
    };
    let exit = if command.read { run.read_back(global, &state_dir, &ledger)? } else { run.tell(&ledger)? };
    if command.repair {
        run.tally.repaired = ledger.at_once(|ledger| ledger.repair(&run.scopes, Clock.now()))?;
    }
    run.conclude(&ledger, AgentLock::is_held(&state_dir))?;
    Ok(exit)
}

/// The ledger, in this version's form if it is to be written to.
fn open(state_dir: &Path, command: &Verify) -> Result<Ledger, Failure> {
    if command.read || command.repair { places::open_for_a_word(state_dir) } else { places::open(state_dir) }
}

impl Run<'_> {
    /// Tells what is known, and asks nobody.
    fn tell(&mut self, ledger: &Ledger) -> Result<Exit, Failure> {
        let mut scopes = self.scopes.clone();
        if scopes.is_empty() {
            scopes.extend(self.mirrors.keys().map(|id| (*id, MirrorPath::top())));
            scopes.sort_by_key(|(id, _)| *id);
        }
        let mut is_read = true;
        for (at, (mirror, prefix)) in scopes.iter().enumerate() {
            let before = self.looked_at();
            ledger.entries(*mirror, prefix, |entry| {
                is_read = self.tell_entry(*mirror, &entry);
                is_read
            })?;
            if self.looked_at() == before && is_read {
                self.nothing_stored(at);
            }
        }
        let Tally { unproved, missing, different, .. } = self.tally;
        let is_found_short = unproved + missing + different > 0 || self.is_short;
        Ok(if is_found_short { Exit::Attention } else { Exit::Fine })
    }

    /// `false` if nobody reads on.
    fn tell_entry(&mut self, mirror: MirrorId, entry: &Entry) -> bool {
        let held = match (entry.state, entry.row.as_ref().and_then(|row| row.held.as_ref())) {
            (EntryState::Settled(State::Stored), Some(held)) => held,
            (EntryState::Pending | EntryState::Uploading, _) => {
                self.tally.waiting += 1;
                return true;
            }
            _ => return true,
        };
        let found = entry.reading.map_or(Found::Same, |reading| reading.found);
        let (result, proof) = match (found, held.proof.as_deref()) {
            (Found::Missing, _) => ("missing", None),
            (Found::Different, _) => ("different", None),
            (Found::Same, Some("cid")) => ("proved", Some(Proof::Cid)),
            (Found::Same, Some(_)) => ("proved", Some(Proof::Read)),
            (Found::Same, None) => ("unproved", None),
        };
        self.count(result);
        self.tally.by_hash += u64::from(proof == Some(Proof::Cid));
        self.line(&Line {
            schema: SCHEMA,
            path: self.path(mirror, &entry.path),
            result,
            proof: proof.map(Proof::word),
            size: entry.size,
            hash: Some(held.hash.to_string()),
            read_at: entry.reading.map(|reading| time(reading.at)),
            error: found.message().map(ToOwned::to_owned),
        })
    }

    /// Reads back, compares, and records what came.
    fn read_back(&mut self, global: &Global, state_dir: &Path, ledger: &Ledger) -> Result<Exit, Failure> {
        let (stop, signal) = signals::listen()?;
        let runtime = setup::runtime()?;
        let ended = runtime.block_on(async {
            let sandbox = self.start_sandbox(state_dir).await?;
            let ended = self.read_from(global, ledger, sandbox.as_ref(), stop.clone()).await;
            if let Some(sandbox) = sandbox {
                sandbox.stop().await;
            }
            ended
        });
        runtime.shutdown_background();
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let ended_by = ended?;
        for at in 0..self.scopes.len() {
            if ledger.count_readable(&self.scopes[at..=at], Millis::MAX)? == 0 {
                self.nothing_stored(at);
            }
        }
        let Tally { missing, different, unknown, .. } = self.tally;
        Ok(match &ended_by {
            Some(EndedBy::Stopped) => signal.exit(),
            _ if missing + different > 0 => Exit::Attention,
            Some(EndedBy::Unreachable(why)) => {
                self.output.note(format_args!("error: {}", shown(why)));
                self.output.note("hint: nothing is known of the files that could not be asked for; try again later");
                Exit::Unreachable
            }
            None if unknown > 0 => Exit::Unreachable,
            None if self.is_short => Exit::Attention,
            None => Exit::Fine,
        })
    }

    /// The sandbox that an agent keeps inside, where no such agent runs.
    async fn start_sandbox(&self, state_dir: &Path) -> Result<Option<Sandbox>, Failure> {
        let is_sandbox = self.mirrors.values().any(|mirror| mirror.settings.service == places::SANDBOX);
        if !is_sandbox || AgentLock::is_held(state_dir) {
            return Ok(None);
        }
        Ok(Some(setup::start_sandbox(state_dir).await?))
    }

    async fn read_from(
        &mut self,
        global: &Global,
        ledger: &Ledger,
        sandbox: Option<&Sandbox>,
        stop: tokio::sync::watch::Receiver<Stop>,
    ) -> Result<Option<EndedBy>, Failure> {
        // The one that stored them, whatever the configuration says by now.
        let service = self.mirrors.values().map(|mirror| mirror.settings.service.clone()).next().unwrap_or_default();
        let url = match (sandbox, service.as_str()) {
            (Some(sandbox), _) => sandbox.url(),
            (None, places::SANDBOX) => ledger.agent()?.map(|agent| agent.url).unwrap_or_default(),
            (None, _) => service,
        };
        let url =
            Url::parse(&url).map_err(|_| Failure::new(Exit::Attention, "no mirror says which dStor it goes to"))?;
        // All that it needs of the configuration; mirrors and credentials have no part in it.
        let loaded = Config::load(&places::overrides(global, None), &Environment::of_process());
        let (dstor, upload) = loaded.map(|config| (config.dstor, config.upload)).unwrap_or_default();
        let (authorities, Upload { workers, stall_timeout, .. }) = (dstor.authorities()?, upload);
        let client = Client::new(ClientOptions {
            url,
            token_lifetime: Duration::ZERO,
            credentials: Arc::new(|| Ok(None)),
            stall_timeout,
            authorities,
        })
        .map_err(AssembleError::Client)?;
        let (gate, scopes) = (Gate::new(workers), self.scopes.clone());
        let pass = Pass {
            scopes: &scopes,
            share: self.command.sample.unwrap_or(Share::WHOLE),
            budget: self.command.budget,
            client: &client,
            gate: &gate,
            workers,
        };
        let is_shown = self.output.is_interactive() && !global.quiet && !self.command.json;
        if is_shown {
            self.bar = Some(bar(Some(tokio::task::block_in_place(|| pass.files(ledger))?)));
        }
        let summary = pass.run(ledger, &mut |file, asked, _| self.tell_asked(file, asked), stop).await?;
        self.tally.too_large = summary.too_large;
        self.tally.bytes_read = summary.bytes;
        Ok(summary.ended_by)
    }

    fn tell_asked(&mut self, file: &Readable, asked: &Asked) {
        let (result, proof, error) = match asked {
            Asked::Answered(Found::Same, proof) => ("proved", Some(*proof), None),
            Asked::Answered(found, _) => (found.code().unwrap_or_default(), None, found.message().map(Into::into)),
            Asked::NotAnswered(why) => ("unknown", None, Some(why.clone())),
        };
        self.count(result);
        if let Some(bar) = &self.bar {
            bar.inc(1);
            bar.set_message(file.path.to_string());
        }
        let read_at = match asked {
            Asked::Answered(..) => Some(Clock.now()),
            Asked::NotAnswered(_) => file.read_at,
        };
        self.line(&Line {
            schema: SCHEMA,
            path: self.path(file.mirror, &file.path),
            result,
            proof: proof.map(Proof::word),
            size: file.size,
            hash: Some(file.hash.to_string()),
            read_at: read_at.map(time),
            error,
        });
    }

    /// The last line, and what it means.
    fn conclude(&self, ledger: &Ledger, is_agent_there: bool) -> Result<(), Failure> {
        let Tally { proved, by_hash, unproved, missing, different, unknown, too_large, waiting, bytes_read, .. } =
            &self.tally;
        if self.command.json {
            let last = LastLine { schema: SCHEMA, summary: &self.tally };
            self.output.line(serde_json::to_string(&last).map_err(std::io::Error::from)?);
            return Ok(());
        }
        if self.command.read {
            self.output.line(format_args!(
                "{} proved by reading back ({}), {missing} missing, {different} different, {unknown} could not be asked for.",
                files(*proved),
                bytes(*bytes_read)
            ));
        } else {
            let read = proved - by_hash;
            self.output.line(format_args!(
                "{} proved by the hash, {read} by reading back; {unproved} not proved, {missing} missing, {different} different.",
                files(*by_hash)
            ));
            if *by_hash > 0 {
                self.output.note(
                    "By the hash: dStor answered, when it stored them, with the identifier of exactly these bytes. \
                     Whether it still has them, `--read` shows.",
                );
            }
        }
        if *waiting > 0 {
            self.output.note(format_args!("{} not looked at: changes wait to be uploaded.", files(*waiting)));
        }
        if *too_large > 0 {
            self.output.note(format_args!("{} passed over: each is larger than the whole budget.", files(*too_large)));
        }
        if self.tally.repaired > 0 {
            let by = if is_agent_there { "the agent" } else { "the next `dstor-sync run` or `sync`" };
            self.output.line(format_args!("{} will be uploaded again by {by}.", files(self.tally.repaired)));
        } else if missing + different > 0 {
            self.output.note("hint: `--repair` has them uploaded again");
        }
        for mirror in self.mirrors.values() {
            let (looked_at, alike) = ledger.naming(mirror.id, LOOK_AT)?;
            if names_otherwise(looked_at, alike) {
                self.output.note(format_args!("`{}`: {NAMES_OTHERWISE}", shown(&mirror.settings.path)));
            }
        }
        Ok(())
    }

    fn count(&mut self, result: &str) {
        *match result {
            "proved" => &mut self.tally.proved,
            "unproved" => &mut self.tally.unproved,
            "missing" => &mut self.tally.missing,
            "different" => &mut self.tally.different,
            _ => &mut self.tally.unknown,
        } += 1;
    }

    fn nothing_stored(&mut self, scope: usize) {
        if let Some(given) = self.command.paths.get(scope) {
            self.output.note(format_args!("error: nothing of `{}` is stored", shown(given)));
            self.output.note(format_args!("hint: `dstor-sync why {}` tells more", shell_word(given)));
            self.is_short = true;
        }
    }

    fn path(&self, mirror: MirrorId, path: &MirrorPath) -> JsonPath {
        let under = |mirror: &&MirrorRow| path.under(&mirror.settings.path);
        JsonPath::new(&self.mirrors.get(&mirror).map_or_else(|| path.as_path().to_owned(), under))
    }

    /// Tells of a file: in JSON of each, else of those with which something is wrong. `false` if nobody reads on.
    fn line(&self, line: &Line) -> bool {
        if self.command.json {
            return self.output.line_if_read(serde_json::to_string(line).unwrap_or_default());
        }
        let tone = match line.result {
            "missing" | "different" => Tone::Bad,
            "unknown" if self.tally.unknown <= SHOWN => Tone::Busy,
            _ => return true,
        };
        let result = self.output.paint(&format!("{:<9}", line.result), tone);
        let why = line.error.as_deref().map(shown).unwrap_or_default();
        let print = || self.output.line_if_read(format_args!("{result}  {}  {why}", line.path.shown()));
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn looked_at(&self) -> u64 {
        let Tally { proved, unproved, missing, different, waiting, .. } = self.tally;
        proved + unproved + missing + different + waiting
    }
}
