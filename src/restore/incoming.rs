//! What comes from dStor for a file, for the thread that writes it.

use std::io::{self, BufRead, Read};

use bytes::{Buf as _, Bytes};
use tokio::sync::mpsc;

/// What is on its way to the disk.
pub(super) enum Piece {
    Bytes(Bytes),
    /// These were all.
    End(End),
}

/// What is known once everything has come.
#[derive(Clone, Copy)]
pub(super) struct End {
    pub(super) is_longer: bool,
    pub(super) is_page: bool,
}

/// The pieces of a file as a stream of bytes. Reading waits for them, and fails if their end does not come.
pub(super) struct Incoming {
    pieces: mpsc::Receiver<Piece>,
    here: Bytes,
    end: Option<End>,
}

impl Incoming {
    pub(super) fn new(pieces: mpsc::Receiver<Piece>) -> Self {
        Self { pieces, here: Bytes::new(), end: None }
    }

    /// Blocking: takes what is still to come; `None` if its end does not come.
    pub(super) fn end(mut self) -> Option<End> {
        while !self.fill_buf().ok()?.is_empty() {
            self.here.clear();
        }
        self.end
    }
}

impl BufRead for Incoming {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        while self.here.is_empty() && self.end.is_none() {
            match self.pieces.blocking_recv() {
                Some(Piece::Bytes(bytes)) => self.here = bytes,
                Some(Piece::End(end)) => self.end = Some(end),
                None => return Err(io::Error::other("it was broken off")),
            }
        }
        Ok(&self.here)
    }

    fn consume(&mut self, read: usize) {
        self.here.advance(read);
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.fill_buf()?;
        let read = here.len().min(buffer.len());
        buffer[..read].copy_from_slice(&here[..read]);
        self.consume(read);
        Ok(read)
    }
}
