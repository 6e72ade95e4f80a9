//! What comes of a list of wants: each content into the staging folder, from where it was cut on.

use crate::chunks::CONTENT_MIN_BYTES;
use crate::local::{Staged, Workspace};
use crate::remote::Sink;
use crate::report::{Event, Report};
use raspbox_protocol::commit::Refusal;
use std::io::{self, Write};

/// What has come of one want.
pub(super) enum Arrival {
    Nothing,
    Partial(Staged),
    Whole(Staged),
    Failed(io::Error),
    Refused(Refusal),
}

/// Writes what comes into the staging folder.
pub(super) struct Fetch<'a, 'r> {
    pub(super) workspace: &'a Workspace,
    /// Whether large contents are cut, so that their next edit can be sent as a patch.
    pub(super) cuts: bool,
    pub(super) arrivals: Vec<Arrival>,
    pub(super) received_bytes: u64,
    pub(super) progress: &'a mut Report<'r>,
}

impl Fetch<'_, '_> {
    /// Remembers what went wrong with one file, for the one line about it.
    fn failed(&mut self, index: usize, error: io::Error) -> io::Error {
        let kind = error.kind();
        if let Arrival::Partial(staged) = &self.arrivals[index] {
            self.workspace.discard(staged);
        }
        self.arrivals[index] = Arrival::Failed(error);
        kind.into()
    }
}

impl Sink for Fetch<'_, '_> {
    fn come(&self, index: usize) -> u64 {
        match &self.arrivals[index] {
            Arrival::Partial(staged) => staged.len_bytes(),
            Arrival::Nothing | Arrival::Whole(_) | Arrival::Failed(_) | Arrival::Refused(_) => 0,
        }
    }

    fn begin(&mut self, index: usize, offset: u64, len_bytes: u64) -> io::Result<()> {
        if let Arrival::Partial(staged) = &self.arrivals[index]
            && staged.len_bytes() == offset
        {
            return Ok(());
        }
        if offset > 0 {
            return Err(self.failed(index, io::ErrorKind::InvalidInput.into()));
        }
        if let Arrival::Partial(staged) | Arrival::Whole(staged) = &self.arrivals[index] {
            self.workspace.discard(staged);
        }
        match self.workspace.stage() {
            Ok(staged) => {
                let is_cut = self.cuts && len_bytes >= CONTENT_MIN_BYTES;
                let staged = if is_cut { staged.cut() } else { staged };
                self.arrivals[index] = Arrival::Partial(staged);
                Ok(())
            }
            Err(error) => Err(self.failed(index, error)),
        }
    }

    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        let Arrival::Partial(staged) = &mut self.arrivals[index] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if let Err(error) = staged.write_all(piece) {
            return Err(self.failed(index, error));
        }
        let bytes = piece.len() as u64;
        self.received_bytes += bytes;
        (self.progress)(Event::Received(bytes));
        Ok(())
    }

    fn done(&mut self, index: usize) {
        let arrival = std::mem::replace(&mut self.arrivals[index], Arrival::Nothing);
        self.arrivals[index] = match arrival {
            Arrival::Partial(mut staged) => {
                staged.end();
                Arrival::Whole(staged)
            }
            other => other,
        };
    }

    fn refused(&mut self, index: usize, refusal: Refusal) {
        if let Arrival::Partial(staged) | Arrival::Whole(staged) = &self.arrivals[index] {
            self.workspace.discard(staged);
        }
        self.arrivals[index] = Arrival::Refused(refusal);
    }
}
