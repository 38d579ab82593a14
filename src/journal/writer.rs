//! Writes the journal on a thread of its own: whoever has something to tell never waits for the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::{Event, JOURNAL, Line, RENEWED_AT, older};
use crate::mirror::MirrorPath;
use crate::upload::{Clock, Folder, Happened, Report};

/// Lines that may wait for the disk; what comes on top is counted and told of as omitted.
const MOST_WAITING: usize = 8192;
/// What is handed to the system at a time, in bytes.
const PIECE: usize = 64 << 10;

enum Message {
    Line(Box<Line>),
    Close,
}

/// The journal of a run. Nothing is opened before the first line: a run that is turned away leaves no trace.
pub struct Writer {
    sender: SyncSender<Message>,
    omitted: Arc<AtomicU64>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// The journal in `state_dir`. Where the system gives no thread for it, there is none.
    #[must_use]
    pub fn start(state_dir: &Path) -> Arc<Self> {
        let (sender, receiver) = sync_channel(MOST_WAITING);
        let omitted = Arc::new(AtomicU64::new(0));
        let (path, lost) = (state_dir.join(JOURNAL), Arc::clone(&omitted));
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || work(&path, &receiver, &lost));
        let thread = thread.inspect_err(|error| tracing::warn!(%error, "what happens will not be noted for `log`"));
        Arc::new(Self { sender, omitted, thread: Mutex::new(thread.ok()) })
    }

    /// Writes a line, soon. Never blocks.
    pub fn write(&self, line: Line) {
        if self.sender.try_send(Message::Line(Box::new(line))).is_err() {
            self.omitted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something that happened to no file, now.
    pub fn note(&self, event: Event, reason: Option<String>) {
        self.write(Line::of(event, reason, Clock.now()));
    }

    /// `report`, with the journal told of it as well.
    #[must_use]
    pub fn beside(self: &Arc<Self>, report: Report) -> Report {
        let journal = Arc::clone(self);
        Arc::new(move |folder: &Folder, path: &MirrorPath, happened: &Happened| {
            if let Some(line) = Line::of_file(&path.under(&folder.path), happened, Clock.now()) {
                journal.write(line);
            }
            report(folder, path, happened);
        })
    }

    /// Blocking: ends once what was told so far is written. What is told later is lost.
    pub fn close(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A thread that is gone wants no word.
        let _ = self.sender.send(Message::Close);
        if let Some(thread) = thread {
            // A panic there took lines with it and nothing else.
            let _ = thread.join();
        }
    }
}

fn work(path: &Path, receiver: &Receiver<Message>, omitted: &AtomicU64) {
    let mut pages = Pages::new(path);
    let mut is_open = true;
    while is_open {
        let Ok(mut message) = receiver.recv() else { return };
        loop {
            match message {
                Message::Line(line) => pages.put(&line),
                Message::Close => is_open = false,
            }
            match receiver.try_recv() {
                Ok(next) => message = next,
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        let lost = omitted.swap(0, Ordering::Relaxed);
        if lost > 0 {
            pages.put(&Line { lines: Some(lost), ..Line::of(Event::Omitted, None, Clock.now()) });
        }
        pages.hand_over();
    }
}

/// The file, the one before it, and what is not in it yet.
struct Pages {
    path: PathBuf,
    file: Option<File>,
    /// Its length in bytes.
    length: u64,
    waiting: Vec<u8>,
    /// Whether it was told that nothing can be written.
    is_told: bool,
}

impl Pages {
    fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, length: 0, waiting: Vec::new(), is_told: false }
    }

    fn put(&mut self, line: &Line) {
        // What cannot be told in JSON does not exist: strings and numbers can.
        if serde_json::to_writer(&mut self.waiting, line).is_ok() {
            self.waiting.push(b'\n');
        }
        if self.waiting.len() >= PIECE {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let written = self.append();
        self.waiting.clear();
        match written {
            Ok(()) => self.is_told = false,
            Err(error) => {
                // Half a line may be in it now; it is closed in order when it is opened again.
                self.file = None;
                if !std::mem::replace(&mut self.is_told, true) {
                    tracing::warn!(file = %self.path.display(), %error, "what happens cannot be noted for `log`");
                }
            }
        }
    }

    fn append(&mut self) -> io::Result<()> {
        if self.length >= RENEWED_AT {
            self.file = None;
            fs::rename(&self.path, older(&self.path))?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => self.open()?,
        };
        file.write_all(&self.waiting)?;
        self.length += self.waiting.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    fn open(&mut self) -> io::Result<File> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        self.length = file.metadata()?.len();
        let mut last = [0];
        if self.length > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        // A run that was killed, or a full disk, may have left half a line.
        if self.length > 0 && last != *b"\n" {
            file.write_all(b"\n")?;
            self.length += 1;
        }
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Reader;
    use super::*;

    fn lines(reader: &mut Reader) -> Vec<u64> {
        let mut read = Vec::new();
        while let Some(line) = reader.read_line().expect("read") {
            read.push(line.lines.expect("a number"));
        }
        read
    }

    #[test]
    fn the_newest_lines_are_kept_and_who_follows_misses_none_where_the_file_is_renewed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut pages = Pages::new(&dir.path().join(JOURNAL));
        let mut follower = Reader::open(dir.path()).expect("opened");
        let (mut followed, mut written) = (Vec::new(), 0);
        let reason = Some("x".repeat(1000));
        while written < 3 * RENEWED_AT / 1000 {
            for _ in 0..100 {
                written += 1;
                pages.put(&Line { lines: Some(written), ..Line::of(Event::Omitted, reason.clone(), 0) });
            }
            pages.hand_over();
            // Seldom, so that some is yet to be read when the file is set aside.
            if written % 700 == 0 {
                followed.extend(lines(&mut follower));
            }
        }
        followed.extend(lines(&mut follower));
        assert!(followed.iter().copied().eq(1..=written), "{} of {written}", followed.len());
        let kept = lines(&mut Reader::open(dir.path()).expect("opened"));
        let bytes = |name: &Path| name.metadata().expect("there").len();
        let path = dir.path().join(JOURNAL);
        assert!(bytes(&older(&path)) >= RENEWED_AT && bytes(&path) + bytes(&older(&path)) < 3 * RENEWED_AT);
        assert!(kept.first().is_some_and(|first| *first > 1) && kept.last() == Some(&written));
    }

    #[test]
    fn what_is_written_between_the_last_look_and_the_renewal_is_read_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut pages = Pages::new(&dir.path().join(JOURNAL));
        let reason = Some("x".repeat(1000));
        let mut write = |number: u64| {
            pages.put(&Line { lines: Some(number), ..Line::of(Event::Omitted, reason.clone(), 0) });
            pages.hand_over();
        };
        write(1);
        let mut follower = Reader::open(dir.path()).expect("opened");
        assert_eq!(lines(&mut follower), [1]);
        // The follower has met the end and is about to look whether the file is still the newest.
        assert!(follower.next_written().expect("read").is_none());
        let mut last = 1;
        while !older(&dir.path().join(JOURNAL)).exists() {
            last += 1;
            write(last);
        }
        assert!(follower.goes_on().expect("looked"), "the file was renewed");
        assert!(lines(&mut follower).into_iter().eq(2..=last));
    }

    #[test]
    fn what_comes_too_fast_is_counted_and_told_of() {
        let dir = tempfile::tempdir().expect("a directory");
        // A pipe in the file's place: who opens it waits until someone reads.
        let path = dir.path().join(JOURNAL);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("run").success());
        let journal = Writer::start(dir.path());
        let more = 3 * MOST_WAITING as u64;
        for number in 0..more {
            journal.write(Line { lines: Some(number), ..Line::of(Event::Stored, None, 0) });
        }
        let text = std::thread::scope(|scope| {
            let reading = scope.spawn(|| fs::read_to_string(&path).expect("read"));
            journal.close();
            reading.join().expect("joined")
        });
        let lines: Vec<Line> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let omitted: u64 = lines.iter().filter(|line| line.event == Event::Omitted).filter_map(|line| line.lines).sum();
        let stored = lines.iter().filter(|line| line.event == Event::Stored).count() as u64;
        assert!(omitted > 0 && stored + omitted == more, "{stored} + {omitted}");
    }
}
