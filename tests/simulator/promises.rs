//! What is promised, and whether it is kept: at every step that a row which says `stored` is true, and at rest that dStor
//! holds exactly what the mirror has.

use std::time::Duration;

use dstor_sync::ledger::EntryState;
use dstor_sync::local::Tree as _;
use dstor_sync::mirror::{Digest, MirrorPath, Observed, Sessions, State};

use crate::disk::{Disk, Held, MIRROR};
use crate::reach::Rare;
use crate::remote::{Fate, Remote, Service};
use crate::run::{Happening, LARGEST, Run};
use crate::sending::Sort;

/// Requests in a minute to a dStor that only fails, at the most.
const MOST_A_MINUTE: usize = 12;

impl Run {
    fn remote_path(&self, path: &MirrorPath) -> Option<String> {
        let (parent, name) = path.split()?;
        let place = self.policy.placement.of_directory(&parent).ok()?;
        Some(Remote::path(&place, std::str::from_utf8(name).ok()?))
    }

    /// P1 for one path.
    pub(crate) fn check_row(&self, path: &MirrorPath) {
        let Some(row) = self.ledger.file(self.mirror, path).expect("read") else { return };
        if row.recorded.state != State::Stored {
            return;
        }
        self.rows_checked.set(self.rows_checked.get() + 1);
        let remote_path = self.remote_path(path).unwrap_or_default();
        match row.held {
            Some(held) if self.remote.borrow().has_acknowledged(&remote_path, &held.digest, &held.hash) => {}
            _ => self.break_promise(format!("{path} is called stored, and dStor never said so of these bytes")),
        }
    }

    /// P1 for all of them, and that what is called stored without a doubt is what dStor holds under that name now.
    pub(crate) fn check_all_rows(&self) {
        self.let_sessions_end();
        let mut wrong = None;
        self.ledger
            .entries(self.mirror, &MirrorPath::top(), |entry| {
                if entry.state != EntryState::Settled(State::Stored) {
                    return true;
                }
                self.rows_checked.set(self.rows_checked.get() + 1);
                let remote_path = self.remote_path(&entry.path).unwrap_or_default();
                let remote = self.remote.borrow();
                let Some((recorded, held)) = entry.row.and_then(|row| Some((row.recorded, row.held?))) else {
                    wrong = Some(format!("{} is called stored without a hash", entry.path));
                    return false;
                };
                if !remote.has_acknowledged(&remote_path, &held.digest, &held.hash) {
                    wrong = Some(format!("{} is called stored, and dStor never said so of these bytes", entry.path));
                } else if recorded.digest.is_some() && remote.holds(&remote_path) != Some(&held.digest) {
                    wrong = Some(format!("{} is called stored, and dStor holds other bytes there by now", entry.path));
                }
                wrong.is_none()
            })
            .expect("read");
        if let Some(wrong) = wrong {
            self.break_promise(wrong);
        }
    }

    fn let_sessions_end(&self) {
        for _ in 0..self.remote.borrow_mut().catch_up(self.now.get()) {
            self.meet(Rare::SessionEndedLate);
        }
    }

    /// P5: a dStor that only fails is asked at most so often in a minute.
    pub(crate) fn note_request(&self, sort: Sort, fate: Fate) {
        let mut failures = self.failures.borrow_mut();
        let service = self.remote.borrow().service;
        let is_told_the_way =
            matches!((sort, service), (Sort::Direct, Service::OnlySessions) | (Sort::Open, Service::WithoutSessions));
        match fate {
            // It says which way files go: that is no failure, and is asked once in an hour by each worker.
            Fate::NoHash | Fate::Truncated | Fate::ForeignHash | Fate::StoredUnheard | Fate::StalledAfter
                if is_told_the_way => {}
            // Of the account or the service: nobody else would fare better.
            Fate::ResetBefore
            | Fate::CutShort
            | Fate::StoredUnheard
            | Fate::StalledBefore
            | Fate::StalledAfter
            | Fate::Error500
            | Fate::Busy503
            | Fate::Busy429Date
            | Fate::Busy429Garbage
            | Fate::Quota403
            | Fate::Portal
            | Fate::Truncated
            | Fate::Redirect => failures.push_back(self.now.get()),
            Fate::NoHash if matches!(sort, Sort::Direct | Sort::Open) => failures.push_back(self.now.get()),
            Fate::TooLarge413 | Fate::Refused400 if sort == Sort::Open => failures.push_back(self.now.get()),
            // What becomes of a session shows at its end; what a service without any is worth, with the next file.
            Fate::Well | Fate::ForeignHash | Fate::NoHash if sort != Sort::Direct => {}
            Fate::TooLarge413 | Fate::Refused400 if sort == Sort::Status => {}
            Fate::NoHash => {}
            Fate::NoSessions
            | Fate::SessionFails
            | Fate::SessionStuck
            | Fate::SessionSlow
            | Fate::SessionLate
            | Fate::NameMissing
            | Fate::HashesSwapped
            | Fate::Restarts => {}
            Fate::Well
            | Fate::RevokeAll
            | Fate::TooLarge413
            | Fate::Refused400
            | Fate::ForeignHash
            | Fate::KeyRevoked => failures.clear(),
        }
        drop(failures);
        self.check_pace();
    }

    /// The same for a session that has come to an end after its files were sent.
    pub(crate) fn note_session(&self, has_listed: bool) {
        let mut failures = self.failures.borrow_mut();
        if has_listed {
            failures.clear();
        } else {
            failures.push_back(self.now.get());
        }
        drop(failures);
        self.check_pace();
    }

    pub(crate) fn check_pace(&self) {
        let mut failures = self.failures.borrow_mut();
        let minute_ago = self.now.get().saturating_sub(Duration::from_secs(60));
        while failures.front().is_some_and(|at| *at < minute_ago) {
            failures.pop_front();
        }
        if failures.len() > MOST_A_MINUTE {
            drop(failures);
            self.break_promise(format!(
                "a dStor that only fails was asked more than {MOST_A_MINUTE} times in a minute"
            ));
        }
    }

    /// Faults stop, the disk and the key are right, and the agent runs.
    pub(crate) fn calm_down(&self) {
        self.tell(|| "from here on everything goes well".into());
        self.faults.borrow_mut().stop();
        self.disk.borrow_mut().mounted = Some(MIRROR);
        let known = self.ledger.mirror(self.mirror).expect("read").root;
        if known.is_some_and(|known| known != Disk::identity(MIRROR)) {
            self.ledger.believe_root(self.mirror, Some(Disk::identity(MIRROR))).expect("written");
        }
        self.mend_key();
        self.get_well();
        // One that lacks a way may have to be asked again in an hour, or for ever where that way is asked for.
        let is_as_ever = self.remote.borrow().service == self.setting.service && !self.is_changed_service.get();
        if self.setting.sessions != Sessions::Auto || !is_as_ever || self.setting.service == Service::OnlySessions {
            self.remote.borrow_mut().service = Service::Whole;
        }
        self.is_calm.set(true);
        self.scans_done.set(0);
        self.after(Duration::from_secs(25), Happening::Start);
    }

    /// Whether a scan was made since all went well, and nothing is left to do.
    pub(crate) fn is_at_rest(&self) -> bool {
        if self.scans_done.get() == 0 {
            return false;
        }
        let outlook = self.ledger.outlook().expect("read");
        outlook.claimed == 0 && outlook.next_due_at.is_none() && self.invariant().is_ok()
    }

    /// The mirror invariant: what dStor holds is what the mirror has, and every row is true.
    pub(crate) fn invariant(&self) -> Result<(), String> {
        let outlook = self.ledger.outlook().expect("read");
        if outlook.claimed > 0 || outlook.next_due_at.is_some() {
            return Err(format!("the queue is not empty: {outlook:?}"));
        }
        self.let_sessions_end();
        let root = Held { disk: &self.disk, tree: MIRROR };
        let paths: Vec<MirrorPath> = self.disk.borrow().nodes().keys().cloned().collect();
        for path in paths {
            let look = root.look(&path).expect("memory can be read");
            let Observed::File(stat) = look.observed else { continue };
            let is_included = self.rules.borrow().judge(&root, &path, false).expect("memory can be read").is_yes();
            if !is_included || stat.size > LARGEST {
                continue;
            }
            let row = self.ledger.file(self.mirror, &path).expect("read").ok_or(format!("{path} was forgotten"))?;
            let digest = Digest::of(self.disk.borrow().content(MIRROR, &path).unwrap_or_default());
            match row.recorded.state {
                State::Failed if row.recorded.stat.size == stat.size => continue,
                State::Stored => {}
                state => return Err(format!("{path} is {state:?} although it is there")),
            }
            if row.held.is_none_or(|held| held.digest != digest) {
                return Err(format!("{path} is called stored, and what is stored are not its bytes"));
            }
            let remote_path = self.remote_path(&path).unwrap_or_default();
            if self.remote.borrow().holds(&remote_path) != Some(&digest) {
                return Err(format!("dStor does not hold the bytes of {path}"));
            }
        }
        self.nothing_too_much()
    }

    fn nothing_too_much(&self) -> Result<(), String> {
        let root = Held { disk: &self.disk, tree: MIRROR };
        let is_included =
            |path: &MirrorPath| self.rules.borrow().judge(&root, path, false).expect("memory can be read").is_yes();
        let mut wrong = None;
        self.ledger
            .entries(self.mirror, &MirrorPath::top(), |entry| {
                let is_here = self.disk.borrow().content(MIRROR, &entry.path).is_some() && is_included(&entry.path);
                let says_here = matches!(entry.state, EntryState::Settled(State::Stored | State::Failed));
                if says_here && !is_here {
                    wrong = Some(format!("{} is called {} and is not there", entry.path, entry.state.word()));
                }
                if entry.state == EntryState::Settled(State::Gone) && is_here {
                    wrong = Some(format!("{} is called gone and is there", entry.path));
                }
                wrong.is_none()
            })
            .expect("read");
        wrong.map_or(Ok(()), Err)
    }
}
