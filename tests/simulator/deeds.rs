//! What people and programs do: to files, to disks, to clocks, and to the agent.

use std::time::Duration;

use dstor_sync::mirror::{DSTORIGNORE, MirrorPath, Placement, RemoteDir, Sessions, Way};

use crate::disk::{Disk, Event, MIRROR, MOUNT_POINT, OTHER_DISK};
use crate::reach::Rare;
use crate::remote::{Fate, Service};
use crate::run::{Happening, LARGEST, Run};
use crate::tape::Deed;
use crate::worker::Load;

/// Few paths, so that deeds meet each other: a file may take a directory's place and the other way round.
const FILES: [&str; 9] = ["x", "y", "a/x", "a/y", "a/b/x", "a/b/c/z", "c/x", "a", "c"];
const DIRECTORIES: [&str; 4] = ["a", "a/b", "c", "d"];

pub(crate) fn path(text: &str) -> MirrorPath {
    MirrorPath::from_bytes(text.as_bytes()).expect("a plain path")
}

impl Run {
    pub(crate) fn do_deed(&self, deed: Deed) {
        let file = path(FILES[deed.path as usize % FILES.len()]);
        let directory = path(DIRECTORIES[deed.path as usize % DIRECTORIES.len()]);
        let size = [5, 5, 5, 9, 30, 0][deed.how as usize % 6];
        let before = self.disk.borrow().content(MIRROR, &file).map(<[u8]>::to_vec);
        match (deed.kind % 108, before) {
            (18..26, Some(old)) => self.write(&file, &self.fresh(old.len())),
            (26..32, Some(old)) => self.write(&file, &[old, self.fresh(3)].concat()),
            (32..36, Some(old)) => self.change_and_put_mtime_back(&file, old.len()),
            (36..39, Some(old)) => self.write_mapped(&file, old.len()),
            (39..43, Some(_)) => self.touch(&file),
            (0..43, _) => self.write(&file, &self.fresh(size)),
            (43..51, _) => self.remove(&file),
            (51..53, _) => self.remove(&directory),
            (53..58, _) => self.rename(&file, &path(FILES[deed.how as usize % FILES.len()])),
            (58..61, _) => self.rename(&directory, &path(DIRECTORIES[deed.how as usize % DIRECTORIES.len()])),
            (61..64, _) => {
                let deep = format!("{directory}/new{}/deeper/f", deed.how % 3);
                self.write(&path(&deep), &self.fresh(size));
            }
            (64..66, _) => self.move_in(&directory),
            (66..68, _) => self.write(&file, &self.fresh(usize::try_from(LARGEST).expect("small") + 1)),
            (68..70, _) => {
                self.disk.borrow_mut().link(&file, self.wall_ns());
                self.meet(Rare::Link);
                self.deliver_events();
            }
            (70..73, _) => self.change_rules(deed.how),
            (73..76, _) => self.take_root_away(deed.how),
            (76..80, _) => self.put_root_back(),
            (80..82, _) => self.accept_root(),
            (82..85, _) => self.set_clock(deed.how),
            (85..91, _) => self.crash(deed.how),
            (91, _) => self.cut_power(deed.how),
            (92..94, _) => self.stop(),
            (94..96, _) => self.mend_key(),
            (96, _) => self.keep_writing(file, 14),
            (97, _) => self.take_ill(deed.how),
            (98, _) => self.get_well(),
            (100..105, _) => self.save_together(deed.path, deed.how),
            (105, _) => self.change_service(deed.how),
            (106, _) => self.let_an_hour_pass(),
            (107, _) => {
                self.tell(|| "dStor restarts".into());
                self.remote.borrow_mut().sessions.clear();
            }
            (_, Some(old)) => {
                self.write(&file, &self.fresh(old.len()));
                self.after(
                    Duration::from_millis([500, 4_000, 9_000][deed.how as usize % 3]),
                    Happening::Write(file, old),
                );
            }
            (_, None) => {
                self.write(&file, b"again");
                self.after(Duration::from_secs(8), Happening::Write(file, b"again".to_vec()));
            }
        }
    }

    /// A program saves several files of a directory at once.
    fn save_together(&self, path_number: u32, how: u32) {
        let directory = ["", "a/", "d/"][path_number as usize % 3];
        let count = [4, 4, 5, 7][how as usize % 4];
        let back_after = [500, 4_000, 9_000, 40_000][how as usize / 8 % 4];
        for name in ["x", "y", "m", "n", "p", "q", "r"].iter().take(count) {
            let file = path(&format!("{directory}{name}"));
            let old = self.disk.borrow().content(MIRROR, &file).map(<[u8]>::to_vec);
            self.write(&file, &self.fresh(5));
            // Another one puts back what was there before, whatever became of the new ones meanwhile.
            if let Some(old) = old.filter(|_| (how / 4).is_multiple_of(2)) {
                self.after(Duration::from_millis(back_after), Happening::Write(file, old));
            }
        }
    }

    /// Another dStor is there by now, with other ways.
    fn change_service(&self, how: u32) {
        let service = [Service::Whole, Service::WithoutSessions, Service::OnlySessions][how as usize % 3];
        self.tell(|| format!("dStor is another by now: {service:?}"));
        self.is_changed_service.set(true);
        let mut remote = self.remote.borrow_mut();
        remote.service = service;
        remote.sessions.clear();
    }

    /// What is remembered for an hour is forgotten. Without that, an hour is like any minute.
    fn let_an_hour_pass(&self) {
        let now = self.now.get();
        let probe = Placement::Path(RemoteDir::parse("").expect("the root"));
        let is_remembered = self.setting.sessions == Sessions::Auto
            && (self.ways.borrow().fewest_others(1, 0, &probe, now) != Some(3)
                || self.ways.borrow().alone(1, &probe, now) != Way::Direct);
        if is_remembered && self.is_running.get() {
            self.tell(|| "an hour passes".into());
            self.meet(Rare::HourPassed);
            self.idle.set(Duration::from_secs(3_700));
        }
    }

    /// Bytes that never were before.
    fn fresh(&self, size: usize) -> Vec<u8> {
        let number = self.written.get();
        self.written.set(number + 1);
        let mut bytes = format!("{number:03}").into_bytes();
        bytes.resize(size, b'.');
        bytes
    }

    pub(crate) fn write(&self, file: &MirrorPath, bytes: &[u8]) {
        self.tell(|| format!("write {file}: {}", String::from_utf8_lossy(bytes)));
        self.note_what_is_under_way(file);
        if bytes.len() as u64 > LARGEST {
            self.meet(Rare::TooLarge);
        }
        let mut disk = self.disk.borrow_mut();
        if disk.content(MIRROR, file).is_none() && disk.nodes().contains_key(file) {
            self.meet(Rare::DirectoryBecameFile);
        }
        if file.lineage().any(|step| step != *file && disk.content(MIRROR, &step).is_some()) {
            self.meet(Rare::FileBecameDirectory);
        }
        if let Some((parent, _)) = file.split()
            && disk.nodes().contains_key(&parent)
            && !disk.is_watched(&parent)
            && self.is_running.get()
        {
            self.meet(Rare::MadeUnwatched);
        }
        disk.write(file, bytes, self.wall_ns());
        drop(disk);
        self.deliver_events();
    }

    fn change_and_put_mtime_back(&self, file: &MirrorPath, size: usize) {
        let mtime = self.disk.borrow().mtime(file);
        self.write(file, &self.fresh(size));
        self.disk.borrow_mut().set_mtime(file, mtime, self.wall_ns());
        self.meet(Rare::MtimePutBack);
        self.deliver_events();
    }

    fn write_mapped(&self, file: &MirrorPath, size: usize) {
        self.tell(|| format!("write {file} through a memory map"));
        self.note_what_is_under_way(file);
        if self.disk.borrow_mut().write_mapped(file, &self.fresh(size)) {
            self.meet(Rare::MappedWrite);
            self.after(Duration::from_secs(5), Happening::WriteBack(file.clone()));
            self.deliver_events();
        }
    }

    fn touch(&self, file: &MirrorPath) {
        self.tell(|| format!("touch {file}"));
        self.disk.borrow_mut().set_mtime(file, None, self.wall_ns());
        self.deliver_events();
    }

    fn remove(&self, what: &MirrorPath) {
        self.tell(|| format!("remove {what}"));
        self.note_what_is_under_way(what);
        if self.disk.borrow_mut().remove(what, self.wall_ns()) > 1 {
            self.meet(Rare::TreeRemoved);
        }
        self.deliver_events();
    }

    fn rename(&self, from: &MirrorPath, to: &MirrorPath) {
        self.tell(|| format!("rename {from} to {to}"));
        let is_directory = self.disk.borrow().content(MIRROR, from).is_none();
        if self.disk.borrow_mut().rename(from, to, self.wall_ns()) && is_directory {
            self.meet(Rare::DirectoryRenamed);
        }
        self.deliver_events();
    }

    /// A directory with content comes from elsewhere: no event tells of what is in it.
    fn move_in(&self, directory: &MirrorPath) {
        self.tell(|| format!("move in {directory}"));
        let mut disk = self.disk.borrow_mut();
        disk.make_directory(directory, self.wall_ns());
        let quiet_from = disk.events.len();
        for name in ["x", "m", "b/x"] {
            disk.write(&path(&format!("{directory}/{name}")), &self.fresh(6), self.wall_ns());
        }
        disk.events.truncate(quiet_from);
        drop(disk);
        self.meet(Rare::MovedIn);
        self.deliver_events();
    }

    fn change_rules(&self, how: u32) {
        let at = if how.is_multiple_of(2) {
            path(DSTORIGNORE)
        } else {
            path("a").join(DSTORIGNORE.as_bytes()).expect("a name")
        };
        self.meet(Rare::RulesChanged);
        match ["x\n", "b/\n", "/y\n!x\n", ""][how as usize / 2 % 4] {
            "" => self.remove(&at),
            rules => self.write(&at, rules.as_bytes()),
        }
    }

    fn take_root_away(&self, how: u32) {
        let other = [None, Some(MOUNT_POINT), Some(OTHER_DISK)][how as usize % 3];
        self.tell(|| format!("the mirror's disk goes; in its place: {other:?}"));
        if other == Some(OTHER_DISK) {
            self.disk.borrow_mut().fill_other_disk(&path("theirs"), b"not ours", self.wall_ns());
        }
        self.disk.borrow_mut().mounted = other;
        let workers = self.workers.borrow();
        let packs = workers.iter().filter_map(|worker| worker.task.as_ref());
        if packs.filter(|task| matches!(task.work.load, Load::Many(_))).count() > 0 {
            self.meet(Rare::RootGoneInPack);
        }
    }

    fn put_root_back(&self) {
        self.tell(|| "the mirror's disk is back".into());
        self.disk.borrow_mut().mounted = Some(MIRROR);
    }

    fn accept_root(&self) {
        let Some(tree) = self.disk.borrow().mounted else { return };
        self.tell(|| format!("a person accepts tree {tree}"));
        if tree != MIRROR {
            self.meet(Rare::RootAccepted);
        }
        self.ledger.believe_root(self.mirror, Some(Disk::identity(tree))).expect("written");
    }

    fn set_clock(&self, how: u32) {
        let by = [-30_000, 30_000, -1_500, 5_000, -200, -18_000_000, 7_200_000][how as usize % 7];
        self.tell(|| format!("the clock is set by {by} ms"));
        self.meet(if by < 0 { Rare::ClockBack } else { Rare::ClockAhead });
        if by < 0 {
            self.disk.borrow_mut().clock_is_set_back();
        }
        self.skew_ms.set(self.skew_ms.get() + by);
    }

    /// From now on dStor does the same wrong to every request.
    fn take_ill(&self, how: u32) {
        let fate = Fate::ILLNESSES[how as usize % Fate::ILLNESSES.len()];
        self.tell(|| format!("dStor takes ill: {fate:?}"));
        self.illness.set(Some(fate));
    }

    pub(crate) fn get_well(&self) {
        self.illness.set(None);
    }

    /// Many files, from before the agent ever ran.
    pub(crate) fn stock(&self) {
        for number in 0..14 {
            self.write(&path(&format!("s{number}")), &self.fresh(5));
        }
    }

    /// The machine goes down, and the file system keeps names and loses bytes.
    fn cut_power(&self, how: u32) {
        self.tell(|| "the power is cut, and files are empty".into());
        self.disk.borrow_mut().empty_all(self.wall_ns());
        self.crash(how);
    }

    pub(crate) fn mend_key(&self) {
        let key = self.remote.borrow().key();
        if self.key_file.replace(key) != key {
            self.tell(|| "a person puts in the new key".into());
            self.meet(Rare::KeyMended);
        }
    }

    pub(crate) fn keep_writing(&self, file: MirrorPath, more: u32) {
        self.write(&file, &self.fresh(7));
        if more > 0 {
            self.after(Duration::from_millis(1_100), Happening::KeepWriting(file, more - 1));
        }
    }

    /// What the watcher hears of what was done, and how well.
    pub(crate) fn deliver_events(&self) {
        let events: Vec<Event> = std::mem::take(&mut self.disk.borrow_mut().events);
        if !self.is_running.get() {
            if !events.is_empty() {
                self.meet(Rare::ChangedWhileDown);
            }
            return;
        }
        let who = self.incarnation.get();
        for event in events {
            let Some(heard) = self.disk.borrow().heard_as(&event) else { continue };
            if heard.split().is_some_and(|(parent, _)| !parent.is_top() && !self.disk.borrow().is_watched(&parent)) {
                self.meet(Rare::EventUnderOldName);
            }
            let mut faults = self.faults.borrow_mut();
            let fault = faults.harm(5);
            let soon = Duration::from_millis(u64::from(1 + faults.choice(3)));
            drop(faults);
            match fault {
                1 => {
                    self.tell(|| format!("the event of {heard} is lost"));
                    self.meet(Rare::EventLost);
                }
                2 => {
                    self.tell(|| format!("the event of {heard} is lost, and all behind it; the watcher knows"));
                    self.meet(Rare::Overflow);
                    self.after(soon, Happening::Heard(who, None));
                    return;
                }
                3 => {
                    self.meet(Rare::EventTwice);
                    self.after(soon, Happening::Heard(who, Some(heard.clone())));
                    self.after(soon * 2, Happening::Heard(who, Some(heard)));
                }
                4 => {
                    self.meet(Rare::EventLate);
                    self.after(Duration::from_secs(6), Happening::Heard(who, Some(heard)));
                }
                _ => self.after(soon, Happening::Heard(who, Some(heard))),
            }
        }
    }
}
