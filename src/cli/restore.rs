//! `restore`: files from dStor into a directory, and what came of each.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::sync::{mpsc, watch};

use crate::config::{self, Config, Environment, Place, Relation};
use crate::ledger::MirrorRow;
use crate::manifest::{Unlisted, fetch};
use crate::mirror::{Cid, MirrorPath};
use crate::plan::LEDGER;
use crate::restore::{Dest, EndedBy, Fate, Guarded, Item, Listed, Over, Pass, Scope, Summary, list};
use crate::upload::{Gate, Stop};
use crate::wording::{JsonPath, bytes, files, shown};

use super::args::{Global, Restore};
use super::exit::{Exit, Failure, told};
use super::output::{Output, Tone};
use super::reach::{Reach, With};
use super::{logs, manifest, places, setup, signals};

/// The form of the lines below.
const SCHEMA: u32 = 1;
/// Files at the same time, if no more uploads are.
const AT_A_TIME: usize = 8;
/// Items that are listed ahead.
const AHEAD: usize = 1_000;
/// Paths that are told of one by one where the reason is the same for all; the rest is a number.
const SHOWN: u64 = 10;
/// How long a file that was broken off may take to be removed.
const GOODBYE: Duration = Duration::from_secs(2);

/// A line of `restore --json`; its form is fixed.
#[derive(Serialize)]
struct Line {
    schema: u32,
    #[serde(flatten)]
    path: JsonPath,
    /// `restored`, `there`, `due` (with `--dry-run`), `kept`, `missing`, `different`, `unknown`, `failed`, `not_stored`,
    /// `skipped` or `nonsense`.
    result: &'static str,
    size: Option<u64>,
    hash: Option<String>,
    /// Whether a later version was seen than dStor holds.
    is_older: bool,
    error: Option<String>,
}

/// The last line of `restore --json`.
#[derive(Serialize)]
struct LastLine<'a> {
    schema: u32,
    summary: &'a Tally,
}

/// How many files came to what.
#[derive(Serialize, Default)]
struct Tally {
    restored: u64,
    there: u64,
    due: u64,
    kept: u64,
    missing: u64,
    different: u64,
    unknown: u64,
    failed: u64,
    not_stored: u64,
    skipped: u64,
    nonsense: u64,
    /// Of those that are there: in an older version than was last seen.
    older: u64,
    /// Of those that were restored: without their time or mode.
    bare: u64,
    /// No longer in the mirror, and not asked for.
    gone: u64,
    bytes_read: u64,
}

/// Everything that a run works with.
struct Run<'a> {
    output: &'a Output,
    global: &'a Global,
    command: &'a Restore,
    dest: PathBuf,
    bar: Option<ProgressBar>,
    tally: Tally,
}

pub(super) fn run(global: &Global, command: &Restore, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let state_dir = places::state_dir(global, &command.which)?;
    let dest = config::resolve(&std::path::absolute(&command.dest)?);
    let run = Run { output, global, command, dest, bar: None, tally: Tally::default() };
    match &command.from {
        None => run.from_ledger(&state_dir),
        Some(hash) => run.from_manifest(hash, &state_dir),
    }
}

/// The mirror that everything named lies in, and where.
fn scope<'a>(mirrors: &'a [MirrorRow], named: &[PathBuf]) -> Result<(&'a MirrorRow, Vec<MirrorPath>), Failure> {
    if named.is_empty() {
        return match mirrors {
            [only] => Ok((only, vec![MirrorPath::top()])),
            [] => Err(Failure::new(Exit::Attention, "there is no mirror to restore")),
            [first, ..] => {
                let several = format!("there are {} mirrors, and each needs a directory of its own", mirrors.len());
                let hint = format!("name one: `dstor-sync restore DEST {}`", shown(&first.settings.path));
                Err(Failure::new(Exit::Usage, several).with_hint(hint))
            }
        };
    }
    let mut found: Option<&MirrorRow> = None;
    let mut paths = Vec::new();
    for path in named {
        let (mirror, below) = places::find(mirrors, path)?;
        if found.is_some_and(|first| first.id != mirror.id) {
            return Err(Failure::new(Exit::Usage, "the paths lie in more than one mirror")
                .with_hint("restore each mirror into a directory of its own"));
        }
        found = Some(mirror);
        paths.push(below);
    }
    let mirror = found.ok_or_else(|| Failure::new(Exit::Attention, "there is no mirror to restore"))?;
    Ok((mirror, paths))
}

/// Directories below `dest` where nothing is written.
///
/// # Errors
/// If nothing may be written at all.
fn guarded(global: &Global, command: &Restore, dest: &Path, mirrors: &[MirrorRow]) -> Result<Vec<Guarded>, Failure> {
    let overrides = places::overrides(global, None);
    let environment = Environment::of_process();
    let state_dir = config::resolve(&config::state_dir(&overrides, &environment)?);
    let mut mirrored: Vec<PathBuf> = mirrors.iter().map(|mirror| mirror.settings.path.clone()).collect();
    // A configuration that is none has no mirrors that an agent could run on.
    let configured = Config::load(&overrides, &environment).map(|config| config.mirrors).unwrap_or_default();
    mirrored.extend(configured.into_iter().map(|mirror| mirror.path));
    mirrored.sort();
    mirrored.dedup();
    let place = Place::of(dest);
    let mut guarded = Vec::new();
    let mut guard = |inner: &Path, why: String| {
        guarded.extend(MirrorPath::relative(dest, inner).map(|path| Guarded { path, why }));
    };
    match place.to(&Place::of(&state_dir)) {
        None => {}
        Some(Relation::Holds) => guard(&state_dir, "dstor-sync keeps its state there".into()),
        Some(Relation::Same | Relation::Inside) => {
            let what = format!("`{}` belongs to the state directory `{}`", shown(dest), shown(&state_dir));
            return Err(Failure::new(Exit::Usage, what).with_hint("restore into another directory"));
        }
    }
    for mirror in mirrored.iter().filter(|_| !command.into_mirror) {
        match place.to(&Place::of(mirror)) {
            None => {}
            Some(Relation::Holds) => {
                guard(mirror, format!("it lies in the mirror `{}`; `--into-mirror` restores there", shown(mirror)))
            }
            Some(relation @ (Relation::Same | Relation::Inside)) => {
                let how = if relation == Relation::Same { "is" } else { "lies in" };
                let what = format!("`{}` {how} the mirror `{}`", shown(dest), shown(mirror));
                return Err(Failure::new(Exit::Usage, what).with_hint(
                    "restore into another directory, or say `--into-mirror`: what is missing there is then brought back",
                ));
            }
        }
    }
    Ok(guarded)
}

impl Run<'_> {
    fn from_ledger(mut self, state_dir: &Path) -> Result<Exit, Failure> {
        let ledger = places::open(state_dir)?;
        let mirrors = ledger.active_mirrors()?;
        let (mirror, paths) = scope(&mirrors, &self.command.paths)?;
        let dest = Arc::new(self.open(&mirrors)?);
        let scope = Scope {
            mirror: mirror.id,
            paths,
            with_gone: self.command.gone,
            longest: mirror.settings.policy.max_file_size,
        };
        let count = |path| ledger.count_holdings(mirror.id, path);
        self.show_bar(scope.paths.iter().map(count).sum::<Result<u64, _>>()?);
        let (stop, signal) = signals::listen()?;
        let runtime = setup::runtime()?;
        let ended = runtime.block_on(async {
            let reach = Reach::of(self.global, &mirror.settings.service, state_dir, With::Nothing).await?;
            let (send, items) = mpsc::channel(AHEAD);
            let path = state_dir.join(LEDGER);
            let listing = tokio::task::spawn_blocking(move || list(path, &scope, &send));
            let gate = Gate::new(reach.upload.workers.max(AT_A_TIME));
            let summary = self.bring(&reach, &gate, dest, items, stop).await;
            let listed = listing.await.map_err(std::io::Error::other)?;
            reach.leave().await;
            Ok::<_, Failure>((summary, listed?))
        });
        runtime.shutdown_timeout(GOODBYE);
        self.hide_bar();
        let (summary, listed) = ended?;
        let is_short = self.told_of_all(&listed);
        self.conclude(&summary)?;
        Ok(self.exit(&summary, &signal, is_short))
    }

    fn from_manifest(mut self, hash: &Cid, state_dir: &Path) -> Result<Exit, Failure> {
        // There need be none.
        let mirrors = places::open(state_dir).and_then(|ledger| Ok(ledger.active_mirrors()?)).unwrap_or_default();
        guarded(self.global, self.command, &self.dest, &mirrors)?;
        let (stop, signal) = signals::listen()?;
        let runtime = setup::runtime()?;
        let ended = runtime.block_on(async {
            let reach = Reach::of_machine(self.global, self.command.which.sandbox).await?;
            let gate = Arc::new(Gate::new(reach.upload.workers.max(AT_A_TIME)));
            let mut stopped = stop.clone();
            let fetched = tokio::select! {
                biased;
                () = Stop::wait(&mut stopped) => return Ok(None),
                root = manifest::root(&reach, &gate, hash, self.command.unproved) => root?,
            };
            self.show_bar(fetched.head()?.files);
            let dest = Arc::new(self.open(&mirrors)?);
            let (send, items) = mpsc::channel(AHEAD);
            let (client, ahead) = (Arc::clone(&reach.client), Arc::clone(&gate));
            let listing = tokio::spawn(async move { fetch(&client, &ahead, &fetched, &send).await });
            let summary = self.bring(&reach, &gate, dest, items, stop).await;
            if matches!(summary.ended_by, Some(EndedBy::Stopped | EndedBy::Full(_))) {
                listing.abort();
            }
            let listed = listing.await.unwrap_or_else(|_| Ok(Unlisted::default()));
            reach.leave().await;
            Ok::<_, Failure>(Some((summary, listed)))
        });
        runtime.shutdown_timeout(GOODBYE);
        self.hide_bar();
        let Some((summary, listed)) = ended? else { return Ok(signal.exit()) };
        self.conclude(&summary)?;
        let unlisted = match listed {
            Ok(unlisted) => unlisted,
            Err(error) => {
                let exit = self.exit(&summary, &signal, false);
                let failure = Failure::from(error);
                return if exit == Exit::Fine {
                    Err(failure)
                } else {
                    self.output.failure(&failure);
                    Ok(exit)
                };
            }
        };
        for (part, why) in &unlisted.parts {
            self.output.note(format_args!("error: the part `{part}` of the manifest is not to be had: {}", shown(why)));
        }
        if unlisted.files > 0 {
            self.output.note(format_args!(
                "hint: {} of the list are not known; an older manifest may know them",
                files(unlisted.files)
            ));
        }
        Ok(self.exit(&summary, &signal, !unlisted.parts.is_empty()))
    }

    fn open(&self, mirrors: &[MirrorRow]) -> Result<Dest, Failure> {
        let guarded = guarded(self.global, self.command, &self.dest, mirrors)?;
        let over = if self.command.force { Over::All } else { Over::Nothing };
        let open = if self.command.dry_run { Dest::look } else { Dest::open };
        open(&self.dest, over, guarded).map_err(|error| Failure::new(Exit::Attention, told(&error)))
    }

    async fn bring(
        &mut self,
        reach: &Reach,
        gate: &Gate,
        dest: Arc<Dest>,
        items: mpsc::Receiver<Item>,
        stop: watch::Receiver<Stop>,
    ) -> Summary {
        let at_a_time = reach.upload.workers.max(AT_A_TIME);
        let pass = Pass { dest, client: &reach.client, gate, at_a_time, is_trial: self.command.dry_run };
        pass.run(items, &mut |item, fate| self.tell(item, fate), stop).await
    }

    fn show_bar(&mut self, files: u64) {
        if self.output.is_interactive() && !self.global.quiet && !self.command.json {
            self.bar = Some(bar(files));
        }
    }

    fn hide_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn tell(&mut self, item: &Item, fate: Option<&Fate>) {
        let tally = &mut self.tally;
        let path_of = |path: &MirrorPath| JsonPath::new(&path.under(&self.dest));
        let line =
            |path, result| Line { schema: SCHEMA, path, result, size: None, hash: None, is_older: false, error: None };
        let (line, tone) = match item {
            Item::NotStored(path) => {
                tally.not_stored += 1;
                (line(path_of(path), "not_stored"), Some(Tone::Busy))
            }
            Item::Skipped(path) => {
                tally.skipped += 1;
                (line(path_of(path), "skipped"), None)
            }
            Item::Nonsense(path) => {
                use std::os::unix::ffi::OsStrExt as _;
                tally.nonsense += 1;
                let path = JsonPath::new(Path::new(std::ffi::OsStr::from_bytes(path)));
                let why = "its record makes no sense; nothing is done about it".to_owned();
                (Line { error: Some(why), ..line(path, "nonsense") }, Some(Tone::Bad))
            }
            Item::Wanted(wanted) => {
                let Some(fate) = fate else { return };
                let (result, tone, error) = match fate {
                    Fate::Restored { is_dressed, .. } => {
                        tally.restored += 1;
                        tally.bare += u64::from(!is_dressed);
                        ("restored", None, None)
                    }
                    Fate::There => {
                        tally.there += 1;
                        ("there", None, None)
                    }
                    Fate::Due => {
                        tally.due += 1;
                        ("due", Some(Tone::Good), None)
                    }
                    Fate::Kept(why) => {
                        tally.kept += 1;
                        ("kept", Some(Tone::Bad), Some(why.clone()))
                    }
                    Fate::Missing => {
                        tally.missing += 1;
                        ("missing", Some(Tone::Bad), Some("dStor does not have it any more".to_owned()))
                    }
                    Fate::Different => {
                        tally.different += 1;
                        ("different", Some(Tone::Bad), Some("dStor gives other bytes than were stored".to_owned()))
                    }
                    Fate::NotAnswered(why) => {
                        tally.unknown += 1;
                        let tone = (tally.unknown <= SHOWN).then_some(Tone::Busy);
                        ("unknown", tone, Some(why.clone()))
                    }
                    Fate::Failed(why) => {
                        tally.failed += 1;
                        ("failed", Some(Tone::Bad), Some(why.clone()))
                    }
                };
                let is_there = matches!(fate, Fate::Restored { .. } | Fate::There | Fate::Due);
                let is_older = is_there && wanted.is_older;
                tally.older += u64::from(is_older);
                if let Some(bar) = &self.bar {
                    bar.inc(1);
                    bar.set_message(wanted.path.to_string());
                }
                let (size, hash) = (Some(wanted.size), Some(wanted.hash.to_string()));
                let line = Line { size, hash, is_older, error, ..line(path_of(&wanted.path), result) };
                (line, tone.or(is_older.then_some(Tone::Busy)))
            }
        };
        self.line(&line, tone);
    }

    /// In JSON of each, else of those of which a person has to know.
    fn line(&self, line: &Line, tone: Option<Tone>) {
        if self.command.json {
            return self.output.line(serde_json::to_string(line).unwrap_or_default());
        }
        let Some(tone) = tone else { return };
        let (word, why) = match (line.result, line.error.as_deref()) {
            ("not_stored", _) => ("not stored", "dStor holds no version of it"),
            ("restored" | "there", _) => ("older", "dStor holds an older version than was last seen"),
            (word, why) => (word, why.unwrap_or_default()),
        };
        let word = self.output.paint(&format!("{word:<10}"), tone);
        let text = format!("{word}  {}  {}", line.path.shown(), shown(why));
        match &self.bar {
            Some(bar) => bar.suspend(|| self.output.line(text.trim_end())),
            None => self.output.line(text.trim_end()),
        }
    }

    /// Whether there was nothing to some path that was named.
    fn told_of_all(&mut self, listed: &[Listed]) -> bool {
        let command = self.command;
        let mut is_short = false;
        for (at, found) in listed.iter().enumerate() {
            self.tally.gone += found.gone;
            if found.files > 0 || found.within.is_some() {
                continue;
            }
            let named = command.paths.get(at).map(shown);
            let Some(named) = named.filter(|_| found.gone == 0) else {
                if found.gone > 0 {
                    self.output.note(format_args!(
                        "error: of `{}` there are only files that are no longer in the mirror",
                        command.paths.get(at).map_or_else(|| "the mirror".into(), shown)
                    ));
                    self.output.note("hint: `--gone` restores them");
                    is_short = true;
                }
                continue;
            };
            self.output.note(format_args!("error: nothing of `{named}` is stored"));
            self.output.note(format_args!("hint: `dstor-sync why {named}` tells more"));
            is_short = true;
        }
        is_short
    }

    /// The last line, and what it means.
    fn conclude(&mut self, summary: &Summary) -> Result<(), Failure> {
        self.tally.bytes_read = summary.bytes;
        let Tally { restored, there, due, kept, missing, different, unknown, failed, .. } = &self.tally;
        let Tally { not_stored, skipped, nonsense, older, bare, gone, bytes_read, .. } = &self.tally;
        if self.command.json {
            let last = LastLine { schema: SCHEMA, summary: &self.tally };
            self.output.line(serde_json::to_string(&last).map_err(std::io::Error::from)?);
        } else if self.command.dry_run {
            self.output.line(format_args!(
                "{} would be restored, {there} already there, {kept} left as they are.",
                files(*due)
            ));
        } else {
            let mut text = format!("{} restored ({}), {there} already there", files(*restored), bytes(*bytes_read));
            for (count, what) in [
                (kept, "left as they are"),
                (missing, "missing"),
                (different, "different"),
                (unknown, "without an answer"),
                (failed, "not written"),
                (not_stored, "never stored"),
                (nonsense, "without sense"),
            ] {
                if *count > 0 {
                    text.push_str(&format!(", {count} {what}"));
                }
            }
            self.output.line(format_args!("{text}."));
        }
        let note = |count: u64, what: &str| {
            if count > 0 && !self.command.json {
                self.output.note(format_args!("{}{what}", files(count)));
            }
        };
        note(*older, ": dStor holds an older version than was last seen here.");
        note(*bare, " could not be given the time or permissions: this file system does not take them.");
        note(
            *skipped,
            " never mirrored, such as links and pipes; `dstor-sync ls --state skipped` lists what was left out.",
        );
        note(*gone, " no longer in the mirror; `--gone` restores these, too.");
        match &summary.ended_by {
            Some(EndedBy::Unreachable(why)) => {
                self.output.note(format_args!("error: {}", shown(why)));
                self.output.note("hint: the same command goes on where this one ended");
            }
            Some(EndedBy::Full(why)) => {
                self.output.note(format_args!("error: cannot write to `{}`: {}", shown(&self.dest), shown(why)));
                self.output.note("hint: make room; the same command goes on where this one ended");
            }
            Some(EndedBy::Stopped) | None => {}
        }
        Ok(())
    }

    fn exit(&self, summary: &Summary, signal: &signals::Signal, is_short: bool) -> Exit {
        let Tally { kept, missing, different, unknown, failed, not_stored, nonsense, older, .. } = &self.tally;
        match &summary.ended_by {
            Some(EndedBy::Stopped) => signal.exit(),
            Some(EndedBy::Full(_)) => Exit::Attention,
            _ if kept + missing + different + failed + nonsense > 0 => Exit::Attention,
            Some(EndedBy::Unreachable(_)) => Exit::Unreachable,
            None if *unknown > 0 => Exit::Unreachable,
            None if not_stored + older > 0 || is_short => Exit::Attention,
            None => Exit::Fine,
        }
    }
}

fn bar(files: u64) -> ProgressBar {
    let bar = ProgressBar::new(files);
    // A template without a fault in it, as that of `sync`.
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} files  {elapsed}  {wide_msg}") {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
