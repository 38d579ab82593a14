//! What the ledger knows of the life of files that are named: it goes further back than what was noted.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};

use super::super::exit::Failure;
use super::super::places;
use crate::dstor::link;
use crate::journal::{Event, Line};
use crate::ledger::{Held, Ledger, LedgerError, Moment, Turn};
use crate::plan::LEDGER;
use crate::wording::JsonPath;

/// The lives of files, in lines that are not told yet.
pub(super) struct Versions {
    ledger: Option<Ledger>,
    /// In the order of their times.
    lines: VecDeque<Line>,
    /// Which hashes are told of, for each file.
    hashes: HashMap<PathBuf, HashSet<String>>,
}

impl Versions {
    /// Those of the files among `paths`, by the ledger in `state_dir`, if there is one.
    pub(super) fn of(state_dir: &Path, paths: &[PathBuf]) -> Result<Self, Failure> {
        let mut versions = Self { ledger: None, lines: VecDeque::new(), hashes: HashMap::new() };
        if paths.is_empty() {
            return Ok(versions);
        }
        let ledger = match Ledger::open_read_only(&state_dir.join(LEDGER)) {
            Err(LedgerError::None(_)) => return Ok(versions),
            opened => opened?,
        };
        let url = ledger.agent()?.map(|agent| agent.url).unwrap_or_default();
        let mirrors = ledger.active_mirrors()?;
        let mut lines = Vec::new();
        for path in paths {
            // What was noted may be of a mirror that is none any more.
            let Ok((mirror, below)) = places::find(&mirrors, path) else { continue };
            let path = below.under(&mirror.settings.path);
            if versions.hashes.contains_key(&path) {
                continue;
            }
            let life = ledger.life(mirror.id, &below)?;
            let hashes = life.iter().filter_map(|moment| match &moment.event {
                Turn::Stored(held, _) => Some(held.hash.to_string()),
                Turn::Gone | Turn::Back => None,
            });
            versions.hashes.insert(path.clone(), hashes.collect());
            lines.extend(life.iter().map(|moment| line(&path, moment, &url)));
        }
        lines.sort_by(|a, b| a.at.cmp(&b.at));
        versions.lines = lines.into();
        versions.ledger = Some(ledger);
        Ok(versions)
    }

    /// Whether the ledger tells of what was noted in this line.
    pub(super) fn tell_of(&self, line: &Line) -> bool {
        let hashes = line.path.as_ref().and_then(|path| self.hashes.get(&path.exact()));
        let (Some(hashes), Some(ledger)) = (hashes, &self.ledger) else { return false };
        match line.event {
            Event::Stored => line.hash.as_ref().is_some_and(|hash| hashes.contains(hash)),
            Event::Gone => {
                let at = line.at.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond);
                at.is_ok_and(|at| matches!(ledger.is_unrecorded(at), Ok(None)))
            }
            Event::Started
            | Event::Stopped
            | Event::Retried
            | Event::Failed
            | Event::Skipped
            | Event::Returned
            | Event::Away
            | Event::Back
            | Event::Omitted => false,
        }
    }

    /// What happened up to a time, in its order; all that is left without one.
    pub(super) fn take_until(&mut self, at: Option<&str>) -> Vec<Line> {
        // All times are written alike, in UTC: their order is that of their text.
        let count = self.lines.partition_point(|line| at.is_none_or(|at| *line.at <= *at));
        self.lines.drain(..count).collect()
    }
}

fn line(path: &Path, moment: &Moment, url: &str) -> Line {
    let blank = |event| Line { path: Some(JsonPath::new(path)), ..Line::of(event, None, moment.at) };
    match &moment.event {
        Turn::Gone => blank(Event::Gone),
        Turn::Back => blank(Event::Returned),
        Turn::Stored(Held { hash, .. }, size) => {
            Line { size: *size, hash: Some(hash.to_string()), url: Some(link(url, hash)), ..blank(Event::Stored) }
        }
    }
}
