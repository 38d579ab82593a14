//! `restore`: files from dStor into a directory, and what came of each.

mod told;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::sync::{mpsc, watch};

use crate::config::{self, Environment, Place, Relation};
use crate::ledger::MirrorRow;
use crate::manifest::{FetchError, fetch};
use crate::mirror::{Cid, MirrorPath};
use crate::plan::LEDGER;
use crate::restore::{Dest, EndedBy, Guarded, Item, Over, Pass, Scope, Summary, list};
use crate::upload::{Gate, Stop};
use crate::wording::{files, shown};

use super::args::{Global, Restore};
use super::exit::{self, Exit, Failure};
use super::output::{Output, bar};
use super::reach::{Reach, With};
use super::{key, logs, manifest, places, setup, signals};
use crate::seal::Identities;
use told::Tally;

/// Files at the same time, if no more uploads are.
const AT_A_TIME: usize = 8;
/// Items that are listed ahead.
const AHEAD: usize = 1_000;
/// How long a file that was broken off may take to be removed.
const GOODBYE: Duration = Duration::from_secs(2);

/// Everything that a run works with.
struct Run<'a> {
    output: &'a Output,
    global: &'a Global,
    command: &'a Restore,
    dest: PathBuf,
    /// What opens encrypted files.
    identities: Option<Arc<Identities>>,
    bar: Option<ProgressBar>,
    tally: Tally,
}

pub(super) fn run(global: &Global, command: &Restore, output: &Output) -> Result<Exit, Failure> {
    logs::start(global, None, output);
    let state_dir = places::state_dir(global, &command.which)?;
    let dest = config::resolve(&std::path::absolute(&command.dest)?);
    let identities = key::given(&command.opens)?;
    let run = Run { output, global, command, dest, identities, bar: None, tally: Tally::default() };
    match &command.from {
        None => run.by_ledger(&state_dir),
        Some(hash) => run.by_manifest(hash, &state_dir),
    }
}

/// Directories below `dest` where nothing is written.
///
/// # Errors
/// If nothing may be written at all.
fn guarded(global: &Global, command: &Restore, dest: &Path, mirrors: &[MirrorRow]) -> Result<Vec<Guarded>, Failure> {
    let overrides = places::overrides(global, None);
    let environment = Environment::of_process();
    let state_dir = config::resolve(&config::state_dir(&overrides, &environment)?);
    let mirrored = places::mirrored(&overrides, &environment, mirrors);
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

/// The paths that were named, as they are in the list of the mirror at `mirror`; of each, whether the list has it: not yet.
fn in_list(named: &[PathBuf], mirror: &Path) -> Result<Vec<(MirrorPath, bool)>, Failure> {
    let place = |path: &PathBuf| {
        let below = if path.is_absolute() { path.strip_prefix(mirror).unwrap_or(path) } else { path };
        // What separates its parts once too often, and what leads nowhere, is left out.
        let plain: PathBuf = below.components().filter(|part| *part != Component::CurDir).collect();
        MirrorPath::from_bytes(plain.as_os_str().as_bytes()).map(|path| (path, false)).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("`{}` is no path in this list", shown(path))).with_hint(format!(
                "name it as it lies in the mirror, such as `sub/file`, or below `{}`",
                shown(mirror)
            ))
        })
    };
    named.iter().map(place).collect()
}

impl Run<'_> {
    fn by_ledger(mut self, state_dir: &Path) -> Result<Exit, Failure> {
        let ledger = places::open(state_dir)?;
        let mirrors = ledger.active_mirrors()?;
        let several = ("each needs a directory of its own", "dstor-sync restore DEST");
        let (mirror, paths) = places::only(&mirrors, &self.command.paths, several)?;
        let dest = Arc::new(self.open(&mirrors)?);
        let scope = Scope {
            mirror: mirror.id,
            paths,
            with_gone: self.command.gone,
            at: self.command.at,
            longest: mirror.settings.policy.max_file_size,
        };
        let gaps = self.command.at.map(|at| places::tell_of_gaps(&ledger, at, self.output)).transpose()?;
        let count = |path| match self.command.at {
            None => ledger.count_holdings(mirror.id, path),
            Some(at) => ledger.count_then(mirror.id, path, at),
        };
        let count = scope.paths.iter().map(count).sum::<Result<u64, _>>()?;
        self.show_bar(Some(count));
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
        let is_short = is_short || gaps.is_some_and(|exit| exit != Exit::Fine);
        Ok(self.exit(&summary, &signal, is_short))
    }

    fn by_manifest(mut self, hash: &Cid, state_dir: &Path) -> Result<Exit, Failure> {
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
                root = manifest::root(&reach, &gate, hash, self.identities.as_deref(), self.command.unproved) => root?,
            };
            let head = fetched.head()?;
            let mut paths = in_list(&self.command.paths, Path::new(&head.mirror))?;
            self.show_bar(if paths.is_empty() { Some(head.files) } else { None });
            let dest = Arc::new(self.open(&mirrors)?);
            let (send, items) = mpsc::channel(AHEAD);
            let (client, ahead) = (Arc::clone(&reach.client), Arc::clone(&gate));
            let identities = self.identities.clone();
            let listing = tokio::spawn(async move {
                let is_wanted = |path: &MirrorPath| {
                    let mut is_wanted = paths.is_empty();
                    for (_, found) in paths.iter_mut().filter(|(named, _)| path.is_within(named)) {
                        (is_wanted, *found) = (true, true);
                    }
                    is_wanted
                };
                let listed = fetch(&client, &ahead, &fetched, identities.as_deref(), is_wanted, &send).await?;
                Ok::<_, FetchError>((listed, paths))
            });
            let summary = self.bring(&reach, &gate, dest, items, stop).await;
            if matches!(summary.ended_by, Some(EndedBy::Stopped | EndedBy::Full(_))) {
                listing.abort();
            }
            let listed = match listing.await {
                Ok(listed) => listed,
                Err(broken) if broken.is_cancelled() => Ok(Default::default()),
                // What was not listed is not there, and nobody was told.
                Err(broken) => return Err(std::io::Error::other(broken).into()),
            };
            reach.leave().await;
            Ok::<_, Failure>(Some((summary, listed)))
        });
        runtime.shutdown_timeout(GOODBYE);
        self.hide_bar();
        let Some((summary, listed)) = ended? else { return Ok(signal.exit()) };
        self.conclude(&summary)?;
        let (unlisted, named) = match listed {
            Ok(listed) => listed,
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
            self.output.note(format_args!("error: the part `{part}` of the manifest cannot be used: {}", shown(why)));
        }
        if unlisted.files > 0 {
            self.output.note(format_args!(
                "hint: {} of the list are not known; an older manifest may know them",
                files(unlisted.files)
            ));
        }
        let absent: Vec<&MirrorPath> = named.iter().filter(|(_, is_listed)| !is_listed).map(|(path, _)| path).collect();
        for path in &absent {
            self.output.note(format_args!("error: the list has nothing of `{path}`"));
        }
        if !absent.is_empty() && unlisted.parts.is_empty() {
            self.output.note(format_args!("hint: with `--dry-run`, and no path, everything in it is named"));
        }
        Ok(self.exit(&summary, &signal, !absent.is_empty() || !unlisted.parts.is_empty()))
    }

    fn open(&self, mirrors: &[MirrorRow]) -> Result<Dest, Failure> {
        let guarded = guarded(self.global, self.command, &self.dest, mirrors)?;
        let over = if self.command.force { Over::All } else { Over::Nothing };
        let open = if self.command.dry_run { Dest::look } else { Dest::open };
        open(&self.dest, over, guarded).map_err(|error| Failure::new(Exit::Attention, exit::told(&error)))
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
        let identities = self.identities.clone();
        let pass = Pass { dest, client: &reach.client, gate, at_a_time, identities, is_trial: self.command.dry_run };
        pass.run(items, &mut |item, fate| self.tell(item, fate), stop).await
    }

    /// `files`: how many there are, if that is known before they come.
    fn show_bar(&mut self, files: Option<u64>) {
        if self.output.is_interactive() && !self.global.quiet && !self.command.json {
            self.bar = Some(bar(files));
        }
    }

    fn hide_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
