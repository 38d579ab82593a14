//! What needs the bytes of the files: sums, and the archive.

use std::cell::RefCell;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::super::exit::{Exit, Failure};
use super::super::output::bar;
use super::super::reach::{Reach, With};
use super::super::setup;
use super::super::signals::{self, Signal};
use super::out::{Out, begin};
use super::{Go, Run, SHOWN, Tally, Told, unwritable};
use crate::export::{Car, MOST_ROOTS, Read, Source, sha256sum};
use crate::ledger::MirrorRow;
use crate::mirror::{CidBuilder, MirrorPath, shell_word};
use crate::upload::Gate;
use crate::wording::{counted, files, shown};

const OTHERWISE: &str = "dStor cut it otherwise: its hash is not the one that these bytes have here";
const CLOSED: &str = "it is not here as it was stored, and dStor has it encrypted";
const CHANGED: &str = "it was stored anew meanwhile; export again";

/// What became of a file.
enum Fate {
    Taken,
    LeftOut(&'static str),
    NotAnswered(String),
    Stopped,
}

impl Run<'_> {
    pub(super) fn sums(self, state_dir: &Path, mut out: Out<'_>) -> Result<Exit, Failure> {
        let (run, signal) = self.with_bytes(state_dir, |source, told| {
            let (fate, sum) = sum(source, told)?;
            if let (Fate::Taken, Some(sum)) = (&fate, sum)
                && out.put(&sha256sum(&sum, told.entry.path.as_path()))? == Go::Home
            {
                return Ok(Fate::Stopped);
            }
            Ok(fate)
        })?;
        match signal {
            Some(signal) => Ok(signal),
            None => run.conclude(out),
        }
    }

    pub(super) fn archive(mut self, state_dir: &Path, path: &Path) -> Result<Exit, Failure> {
        let mut roots = Vec::new();
        self.each(|told, _| {
            roots.extend(told.held.hash.sha256_of_v0());
            Ok(Go::On)
        })?;
        // They are counted once more when they are read.
        self.tally = Tally::default();
        roots.sort_unstable();
        roots.dedup();
        if roots.len() > MOST_ROOTS {
            let what = format!("{} in one archive are more than IPFS nodes import", files(roots.len() as u64));
            return Err(Failure::new(Exit::Usage, what)
                .with_hint(format!("name directories, so that each archive has {MOST_ROOTS} at the most")));
        }
        let failed = |error: io::Error| unwritable(path, &error);
        let (outfile, file) = begin(path, self.command.force)?;
        let car = RefCell::new(Car::begin(file, roots).map_err(failed)?);
        let (run, signal) = self.with_bytes(state_dir, |source, told| pack(source, told, &car).map_err(failed))?;
        if let Some(signal) = signal {
            return Ok(signal);
        }
        let (roots, file) = car.into_inner().finish().map_err(failed)?;
        drop(file);
        if roots == 0 {
            run.output.note(format_args!("error: there is nothing to put into `{}`; it was not written", shown(path)));
            return Ok(match run.tell_the_rest() {
                Exit::Fine => Exit::Attention,
                other => other,
            });
        }
        outfile.finish().map_err(failed)?;
        let taken = files(run.tally.taken);
        run.output.line(format_args!(
            "{taken} in `{}`, under {}.",
            shown(path),
            counted(roots as u64, "hash", "hashes")
        ));
        run.output.note(format_args!("hint: `ipfs dag import {}` takes it", shell_word(path)));
        Ok(run.tell_the_rest())
    }

    /// Does something for each file that may read its bytes. The exit status, if it was stopped.
    fn with_bytes(
        mut self,
        state_dir: &Path,
        mut each: impl FnMut(&mut Source<'_>, &Told<'_>) -> Result<Fate, Failure>,
    ) -> Result<(Self, Option<Exit>), Failure> {
        let Some((mirror, _)) = self.scopes.first() else { return Ok((self, None)) };
        let (mirror, output, is_shown) = (*mirror, self.output, self.shows_a_bar());
        let count = |(mirror, path): &(&MirrorRow, MirrorPath)| self.ledger.count_holdings(mirror.id, path);
        let all = self.scopes.iter().map(count).sum::<Result<u64, _>>()?;
        let (stop, signal) = signals::listen()?;
        let runtime = setup::runtime()?;
        let reach = runtime.block_on(Reach::of(self.global, &mirror.settings.service, state_dir, With::Nothing))?;
        let gate = Gate::new(1);
        let place = (&*mirror.settings.path, mirror.root);
        let mut source = Source::new(place, &reach.client, &gate, runtime.handle().clone(), stop);
        let bar = is_shown.then(|| bar(Some(all)));
        let leave_out = |told: &Told<'_>, why: &str| {
            let say = || output.note(format_args!("left out  {}  {}", told.path().shown(), shown(why)));
            match &bar {
                Some(bar) => bar.suspend(say),
                None => say(),
            }
        };
        let went = self.each(|told, tally| {
            if source.is_stopped() {
                return Ok(Go::Home);
            }
            match each(&mut source, &told)? {
                Fate::Taken => tally.taken += 1,
                Fate::LeftOut(why) => {
                    tally.left_out += 1;
                    leave_out(&told, why);
                }
                Fate::NotAnswered(why) => {
                    tally.unknown += 1;
                    if tally.unknown <= SHOWN {
                        leave_out(&told, &format!("no answer: {why}"));
                    }
                }
                Fate::Stopped => return Ok(Go::Home),
            }
            if let Some(bar) = &bar {
                bar.inc(1);
                bar.set_message(told.entry.path.to_string());
            }
            Ok(Go::On)
        });
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
        let stopped = ended_by(&source, &signal);
        if let Some(why) = source.gave_up() {
            output.note(format_args!("error: {}", shown(why)));
            output.note("hint: what could not be asked for is left out; try again later");
        }
        drop(source);
        runtime.block_on(reach.leave());
        runtime.shutdown_background();
        // A reader who has gone is no fault.
        let ended = match went? {
            Go::Home => Some(stopped.unwrap_or(Exit::Fine)),
            Go::On => None,
        };
        Ok((self, ended))
    }

    fn shows_a_bar(&self) -> bool {
        let is_free = self.command.output.is_some() || self.command.car.is_some();
        is_free && self.output.is_interactive() && !self.global.quiet
    }
}

fn ended_by(source: &Source<'_>, signal: &Signal) -> Option<Exit> {
    source.is_stopped().then(|| signal.exit())
}

/// The SHA-256 of the version that dStor holds.
fn sum(source: &mut Source<'_>, told: &Told<'_>) -> io::Result<(Fate, Option<[u8; 32]>)> {
    let sha = RefCell::new(Sha256::new());
    let take = &mut |bytes: &[u8]| {
        sha.borrow_mut().update(bytes);
        Ok(())
    };
    let (held, path) = (told.held, &told.entry.path);
    let sum = || Some(sha.borrow().clone().finalize().into());
    if let Some(size) = told.size() {
        match source.local(path, size, take) {
            Read::Whole(digest) if digest == held.digest => return Ok((Fate::Taken, sum())),
            Read::Stopped => return Ok((Fate::Stopped, None)),
            Read::NotTaken(error) => return Err(error),
            Read::Whole(_) | Read::Missing | Read::NotAnswered(_) => {}
        }
    }
    if held.sealed.is_some() {
        return Ok((Fate::LeftOut(CLOSED), None));
    }
    let begin = || {
        *sha.borrow_mut() = Sha256::new();
        Ok(())
    };
    Ok(match source.remote(&held.hash, (held.digest, told.longest()), begin, take) {
        Read::Whole(digest) if digest == held.digest => (Fate::Taken, sum()),
        read => (not_there(read)?, None),
    })
}

/// Puts a file's blocks into the archive.
fn pack(source: &mut Source<'_>, told: &Told<'_>, car: &RefCell<Car>) -> io::Result<Fate> {
    let (held, path) = (told.held, &told.entry.path);
    let Some(root) = held.hash.sha256_of_v0() else { return Ok(Fate::LeftOut(OTHERWISE)) };
    match car.borrow().has(&root) {
        Some(true) => return Ok(Fate::Taken),
        Some(false) => {}
        None => return Ok(Fate::LeftOut(CHANGED)),
    }
    car.borrow_mut().mark();
    let builder = RefCell::new(CidBuilder::with_blocks(car));
    let take = &mut |bytes: &[u8]| {
        builder.borrow_mut().update(bytes);
        car.borrow_mut().check()
    };
    let finish = || builder.replace(CidBuilder::with_blocks(car)).finish();
    // What was encrypted is on dStor alone: encrypted once more, it would be something else.
    let (wanted, longest) = held.sealed.map_or((held.digest, told.longest()), |sealed| (sealed.digest, sealed.size));
    let mut read = Read::Missing;
    if let Some(size) = told.size()
        && held.sealed.is_none()
    {
        read = source.local(path, size, take);
    }
    let is_same = |read: &Read| matches!(read, Read::Whole(digest) if *digest == wanted);
    if matches!(read, Read::Missing) || (matches!(read, Read::Whole(_)) && !is_same(&read)) {
        let begin = || {
            drop(builder.replace(CidBuilder::with_blocks(car)));
            car.borrow_mut().take_back()
        };
        read = source.remote(&held.hash, (wanted, longest), begin, take);
    }
    if is_same(&read) {
        if finish() == held.hash {
            car.borrow_mut().keep(&root)?;
            return Ok(Fate::Taken);
        }
        car.borrow_mut().take_back()?;
        return Ok(Fate::LeftOut(OTHERWISE));
    }
    car.borrow_mut().take_back()?;
    not_there(read)
}

/// What it means that the right bytes did not come.
fn not_there(read: Read) -> io::Result<Fate> {
    Ok(match read {
        Read::Whole(_) => Fate::LeftOut("it is not here as it was stored, and dStor gives other bytes"),
        Read::Missing => Fate::LeftOut("it is not here as it was stored, and dStor does not have it any more"),
        Read::NotAnswered(why) => Fate::NotAnswered(why),
        Read::Stopped => Fate::Stopped,
        Read::NotTaken(error) => return Err(error),
    })
}
