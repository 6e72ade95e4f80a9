//! What must hold for what a server says, whatever the bytes: targets of `raspbox-fuzz`.
//!
//! Only with the feature `fuzz`. Each function panics where something doesn't hold.

use super::foreign::Features;
use super::foreign_temporary::{is_abandoned, is_temporary};
use super::listing::{self, Format};
use super::peer::Reply;
use super::streams::{Draft, read_contents, read_feed, read_history, read_outcomes};
use super::{Digest256, Sink};
use raspbox_protocol::Mtime;
use raspbox_protocol::commit::{Outcome, Refusal};
use std::collections::VecDeque;
use std::io;
use std::time::SystemTime;
use suppaftp::Status;
use suppaftp::types::Response;

/// How many entries and versions the readers are allowed here: few, so that the limit is met.
const ENTRIES_MAX: usize = 64;

/// A listing, in both formats: no name of it leads out of its folder, none is passed over in silence.
pub fn listing(bytes: &[u8]) {
    for format in [Format::Facts, Format::Long] {
        let Ok((items, _)) = listing::read(bytes, format) else {
            continue;
        };
        let lines = bytes.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty() && **line != b"\r"[..]);
        assert!(items.len() <= lines.count());
        for item in items {
            assert!(!item.name.contains('\n') && item.name != "." && item.name != "..");
            if let Ok(name) = item.checked_name() {
                assert!(
                    !name.is_empty() && !name.contains('/') && !name.contains(char::is_control)
                );
            }
            assert!(!item.shown_name().contains(char::is_control));
            if is_abandoned(&item.name, SystemTime::now()) {
                assert!(is_temporary(&item.name));
            }
        }
    }
    let text = String::from_utf8_lossy(bytes);
    drop(listing::mlst(&text));
    if let Some(seconds) = listing::time(&text) {
        let printed = listing::time_text(Mtime::from_parts(seconds, 0));
        // But for what is out of an Mtime's years, and for a leap second.
        if (1678..=2261).contains(&text[..4].parse().unwrap_or(0)) && !text[..14].ends_with("60") {
            let day: u32 = text[6..8].parse().expect("it was parsed");
            assert!(
                printed.as_deref() == Some(&text[..14]) || day > 28,
                "{text} {printed:?}"
            );
        }
    }
}

/// A reply on the control connection, and what is read from some.
pub fn reply(bytes: &[u8]) {
    let reply = Reply::new(&Response::new(Status::Unknown, bytes.to_vec()));
    assert!(reply.code <= 999);
    assert!(!reply.to_string().contains(char::is_control));
    let _ = Features::parse(&reply.text);
    if let Ok(digest) = reply.text.parse::<Digest256>() {
        assert_eq!(digest.to_string().parse(), Ok(digest));
    }
}

/// A tree or a history: in order, each path once, no more of it than is allowed.
pub fn feed(bytes: &[u8]) {
    if let Ok(feed) = read_feed(bytes, ENTRIES_MAX) {
        assert!(feed.changes.len() <= ENTRIES_MAX);
        assert!(feed.changes.is_sorted_by(|(a, ..), (b, ..)| a < b));
        assert!(!feed.whole || feed.changes.iter().all(|(_, entry, _)| entry.is_some()));
    }
    if let Ok(history) = read_history(bytes, ENTRIES_MAX) {
        assert!(history.len() <= ENTRIES_MAX);
    }
}

/// Contents: each is as long as was said and comes in its turn, or isn't done.
pub fn contents(bytes: &[u8]) {
    const WANTS: usize = 4;
    let mut open: VecDeque<(usize, u64)> = (0..WANTS).map(|index| (index, 0)).collect();
    let mut taken = Taken::default();
    let result = read_contents(bytes, &mut open, &mut taken);
    assert_eq!(taken.settled, (0..taken.settled.len()).collect::<Vec<_>>());
    assert!(
        open.iter()
            .map(|(index, _)| *index)
            .eq(taken.settled.len()..WANTS)
    );
    assert!(result.is_err() || open.is_empty());
}

/// What came of each want.
#[derive(Default)]
struct Taken {
    /// What is left of the one that began.
    left: Option<u64>,
    settled: Vec<usize>,
}

impl Sink for Taken {
    fn begin(&mut self, index: usize, _offset: u64, len_bytes: u64) -> io::Result<()> {
        assert_eq!(index, self.settled.len());
        assert_eq!(self.left.replace(len_bytes), None);
        Ok(())
    }

    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        assert_eq!(index, self.settled.len());
        let left = self.left.as_mut().expect("it began");
        *left = left
            .checked_sub(piece.len() as u64)
            .expect("no more than was said");
        Ok(())
    }

    fn done(&mut self, index: usize) {
        assert_eq!(self.left.take(), Some(0));
        self.settled.push(index);
    }

    fn refused(&mut self, index: usize, _: Refusal) {
        self.left = None;
        self.settled.push(index);
    }
}

/// Outcomes: as many as were asked for, and each operation has one.
pub fn outcomes(bytes: &[u8]) {
    for count in 0..4 {
        if let Ok(outcomes) = read_outcomes(bytes, count) {
            assert_eq!(outcomes.len(), count);
            let merged: Vec<Outcome> = Draft::new(count).merge(outcomes.clone());
            assert_eq!(merged, outcomes);
        }
    }
}
