//! What appliance and client say to each other.

use raspbox_protocol::commit::{CommitFrame, ResultFrame};
use raspbox_protocol::compressed::{self, CompressedWriter};
use raspbox_protocol::damage;
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::HistoryFrame;
use raspbox_protocol::holds::{self, Held, HoldsFrame};
use raspbox_protocol::info::{DriveId, Info};
use raspbox_protocol::pairing::{Acceptance, Accepted, Invitation};
use raspbox_protocol::path::{DEPTH_MAX, NAME_MAX_BYTES, PATH_MAX_BYTES, check_name};
use raspbox_protocol::special::{Clock, CommitSummary, Receipt, RequestId, Special, is_folder};
use raspbox_protocol::want::{ContentFrame, WantFrame};
use raspbox_protocol::wire::{Frame, FrameReader, to_bytes};
use raspbox_protocol::{Cursor, Digest, Epoch, RelPath};
use std::fmt::{Debug, Display};
use std::io::{self, ErrorKind, Read, Write};
use std::str::FromStr;

pub(crate) fn commit(bytes: &[u8]) {
    frames::<CommitFrame>(bytes);
}

pub(crate) fn result(bytes: &[u8]) {
    frames::<ResultFrame>(bytes);
}

pub(crate) fn feed(bytes: &[u8]) {
    frames::<FeedFrame>(bytes);
}

pub(crate) fn want(bytes: &[u8]) {
    frames::<WantFrame>(bytes);
}

pub(crate) fn content(bytes: &[u8]) {
    frames::<ContentFrame>(bytes);
}

pub(crate) fn holds(bytes: &[u8]) {
    frames::<HoldsFrame>(bytes);
}

pub(crate) fn history(bytes: &[u8]) {
    frames::<HistoryFrame>(bytes);
}

/// Whatever is understood has one spelling: written again it is the bytes that came.
/// More than comes out of the longest input, unless little makes much.
const PLAIN_MAX_BYTES: u64 = 4 << 20;

/// Whatever it is, it is read or refused, a piece at a time; and what is compressed is what it was.
pub(crate) fn compressed(bytes: &[u8]) {
    let read = compressed::read(bytes)
        .and_then(|plain| io::copy(&mut plain.take(PLAIN_MAX_BYTES), &mut io::sink()));
    if let Err(error) = read {
        let kinds = [ErrorKind::InvalidData, ErrorKind::UnexpectedEof];
        assert!(kinds.contains(&error.kind()), "{error:?}");
    }
    let mut made = Vec::new();
    let mut writer = CompressedWriter::new(&mut made).expect("memory");
    writer.write_all(bytes).expect("written");
    writer.flush().expect("flushed");
    drop(writer);
    if !bytes.is_empty() {
        let mut plain = Vec::new();
        let mut reader = compressed::read(made.as_slice()).expect("memory");
        reader.read_to_end(&mut plain).expect("our own");
        assert_eq!(plain, bytes);
    }
}

fn frames<F: Frame>(bytes: &[u8]) {
    let mut reader = FrameReader::new(bytes);
    let mut frames: Vec<F> = Vec::new();
    let mut understood = 0;
    while let Ok(frame) = reader.read() {
        frames.push(frame);
        let left = reader.into_inner();
        understood = bytes.len() - left.len();
        reader = FrameReader::new(left);
    }
    assert_eq!(to_bytes(&frames), bytes[..understood]);
}

/// A path can't leave its folder, is within its limits, and the order is that of a walk.
pub(crate) fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut before: Option<RelPath> = None;
    for line in text.split('\n') {
        let Ok(path) = RelPath::parse(line) else {
            continue;
        };
        assert_eq!(path.as_str(), line);
        assert!(line.len() <= PATH_MAX_BYTES);
        let names: Vec<&str> = line.split('/').collect();
        assert!(names.len() <= DEPTH_MAX);
        for name in &names {
            assert!(!matches!(*name, "" | "." | ".."), "{line:?}");
            assert!(name.len() <= NAME_MAX_BYTES && !name.contains(char::is_control));
            assert_eq!(check_name(name), Ok(()));
        }
        assert!(!names[0].eq_ignore_ascii_case(".raspbox"));
        let parent = path.parent();
        assert_eq!(
            RelPath::child(parent.as_ref(), path.name()),
            Ok(path.clone())
        );
        if let Some(parent) = parent {
            assert!(parent < path);
        }
        if let Some(before) = before {
            let (a, b) = (before.as_str().split('/'), path.as_str().split('/'));
            assert_eq!(before.cmp(&path), a.cmp(b), "{before} {path}");
        }
        before = Some(path);
    }
}

/// Names and words mean after printing what they meant before.
pub(crate) fn special(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(Some(special)) = Special::parse(&text) {
        assert_eq!(Special::parse(&special.to_string()), Ok(Some(special)));
        assert!(!is_folder(&text));
    }
    prints::<Cursor>(&text);
    prints::<Epoch>(&text);
    prints::<Digest>(&text);
    prints::<DriveId>(&text);
    prints::<RequestId>(&text);
    prints::<CommitSummary>(&text);
    prints::<Receipt>(&text);
    prints::<Clock>(&text);
    prints::<Held>(&text);
    if let Some(digests) = holds::parse_line(&text) {
        assert!((1..=holds::LINE_MAX).contains(&digests.len()));
        let line = holds::print_line(&digests);
        assert_eq!(holds::parse_line(&line), Some(digests));
    }
}

/// The messages of a pairing.
pub(crate) fn pairing(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    prints::<Invitation>(&text);
    prints::<Acceptance>(&text);
    prints::<Accepted>(&text);
    if let Ok((acceptance, name)) = Acceptance::parse_with_name(&text) {
        assert!(!name.is_empty());
        let printed = format!("{acceptance} {name}");
        let again = Acceptance::parse_with_name(&printed);
        assert!(again.is_ok_and(|again| again == (acceptance, name)));
    }
}

pub(crate) fn info(bytes: &[u8]) {
    prints::<Info>(&String::from_utf8_lossy(bytes));
}

pub(crate) fn damage(bytes: &[u8]) {
    if let Ok(damages) = damage::parse(&String::from_utf8_lossy(bytes)) {
        assert!(damages.len() <= damage::DAMAGES_MAX);
        assert_eq!(damage::parse(&damage::print(&damages)), Ok(damages));
    }
}

fn prints<T: FromStr<Err: Debug + PartialEq> + Display + Debug + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string().parse(), Ok(value));
    }
}
