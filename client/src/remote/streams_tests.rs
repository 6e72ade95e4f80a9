use super::{
    Draft, Feed, next_mark, read_contents, read_feed, read_outcomes, write_commit, write_wants,
};
use crate::remote::Sink;
use raspbox_beneath::File;
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal, ResultFrame};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::patch::{Patch, Piece};
use raspbox_protocol::want::{ContentFrame, Want, WantFrame};
use raspbox_protocol::wire::{DATA_MAX_BYTES, FrameReader, to_bytes};
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, File as FileEntry, Mtime, RelPath, Version};
use std::collections::VecDeque;
use std::io::{self, Read, Write};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn put(name: &str, content: &[u8]) -> Op {
    Op::Put {
        path: path(name),
        expect: Expect::Absent,
        file: FileEntry {
            digest: Digest::of(content),
            size: content.len() as u64,
            mtime: Mtime(0),
            executable: false,
        },
    }
}

fn holding(content: &[u8]) -> io::Result<File> {
    let mut file = tempfile::tempfile()?;
    file.write_all(content)?;
    io::Seek::rewind(&mut file)?;
    Ok(file.into())
}

/// The frames of a commit, contents put together.
fn parsed(bytes: &[u8]) -> (Vec<(Op, Vec<u8>)>, u32) {
    let mut frames = FrameReader::new(bytes);
    let mut ops: Vec<(Op, Vec<u8>)> = Vec::new();
    loop {
        match frames.read().expect("a frame") {
            CommitFrame::Op(op) => ops.push((op, Vec::new())),
            CommitFrame::Offset { bytes } => panic!("nothing has come, not {bytes} bytes"),
            CommitFrame::Data(piece) => ops.last_mut().expect("an op").1.extend(piece),
            CommitFrame::End { ops: count } => return (ops, count),
        }
    }
}

#[test]
fn a_commit_carries_what_can_be_opened() {
    let large = vec![7; DATA_MAX_BYTES * 2 + 1];
    let ops = [
        put("gone", b"x"),
        put("large", &large),
        put("empty", b""),
        put("shrunk", b"12345"),
        put("grown", b"12"),
        Op::MakeFolder { path: path("d") },
    ];
    let mut draft = Draft::new(ops.len());
    let (mut bytes, mut sent) = (Vec::new(), 0);
    let mut open = |index: usize| match index {
        0 => Err(io::Error::other("vanished")),
        1 => holding(&large),
        2 => holding(b""),
        3 => holding(b"123"),
        4 => holding(b"1234"),
        other => panic!("{other} has no content"),
    };
    write_commit(&mut bytes, &ops, &mut draft, &mut open, &mut |more| {
        sent += more;
    })
    .expect("sent");
    let (found, count) = parsed(&bytes);
    let expected = [
        (ops[1].clone(), large.clone()),
        (ops[2].clone(), vec![]),
        (ops[3].clone(), b"123\0\0".to_vec()),
        (ops[4].clone(), b"12".to_vec()),
        (ops[5].clone(), vec![]),
    ];
    assert_eq!((found.as_slice(), count), (&expected[..], 5));
    assert_eq!(sent, large.len() as u64 + 5 + 2);
    assert_eq!(draft.sent(), 5);

    // The same id again: the same operations, even where a content is gone by now.
    let mut again = Vec::new();
    let mut open = |_| Err(io::Error::other("all gone"));
    write_commit(&mut again, &ops, &mut draft, &mut open, &mut |_| {}).expect("sent");
    assert_eq!(parsed(&again).1, 5);

    let mut answers = vec![Outcome::Done(Version(1)); 5];
    answers[2] = Outcome::Refused(Refusal::BadContent);
    let outcomes = draft.merge(answers);
    assert_eq!(
        outcomes[0],
        Outcome::Refused(Refusal::Failed("vanished".into()))
    );
    assert_eq!(
        outcomes[3],
        Outcome::Refused(Refusal::Failed("all gone".into()))
    );
    assert_eq!(outcomes[5], Outcome::Done(Version(1)));
}

#[test]
fn of_a_patch_only_what_is_new_travels() {
    let content = b"the old beginning, something new, the old end";
    let copied = |offset, len_bytes| Piece::Copied { offset, len_bytes };
    let pieces = vec![
        copied(0, 17),
        Piece::Sent { len_bytes: 15 },
        copied(17, 12),
        Piece::Sent { len_bytes: 1 },
    ];
    let patch = |pieces| {
        let patch = Patch::new(Digest::of(b"the old"), 29, pieces).expect("good pieces");
        Op::Patch {
            path: path("a"),
            expect: Expect::Version(Version(1)),
            file: FileEntry {
                digest: Digest::of(content),
                size: patch.len_bytes(),
                mtime: Mtime(0),
                executable: false,
            },
            patch,
        }
    };
    let ops = [
        patch(pieces.clone()),
        patch(vec![copied(0, 29)]),
        put("next", b"x"),
        patch(pieces),
    ];
    let mut draft = Draft::new(ops.len());
    let (mut bytes, mut sent) = (Vec::new(), 0);
    let mut open = |index: usize| match index {
        0 => holding(content),
        2 => holding(b"x"),
        3 => holding(&content[..20]),
        other => panic!("nothing of {other} travels"),
    };
    write_commit(&mut bytes, &ops, &mut draft, &mut open, &mut |more| {
        sent += more;
    })
    .expect("sent");
    let contents: Vec<Vec<u8>> = parsed(&bytes).0.into_iter().map(|(_, data)| data).collect();
    let cut_short = [&b", s"[..], &[0; 13]].concat();
    assert_eq!(
        contents,
        [&b", something newd"[..], b"", b"x", &cut_short],
        "what it lacks is filled up, and its hash is wrong"
    );
    assert_eq!(sent, 16 + 1 + 16);
}

#[test]
fn as_many_outcomes_come_as_operations_went() {
    let done = ResultFrame::Outcome(Outcome::Done(Version(1)));
    let check = |frames: &[ResultFrame], good| {
        assert_eq!(
            read_outcomes(&to_bytes(frames)[..], 2).is_ok(),
            good,
            "{frames:?}"
        );
    };
    check(&[done.clone(), done.clone(), ResultFrame::End], true);
    check(&[done.clone(), ResultFrame::End], false);
    check(
        &[done.clone(), done.clone(), done.clone(), ResultFrame::End],
        false,
    );
    check(&[done.clone(), done], false);
}

fn entry(name: &str, version: u64) -> FeedFrame {
    FeedFrame::Entry {
        path: path(name),
        entry: Entry::Folder,
        version: Version(version),
    }
}

#[test]
fn feeds_are_sorted_and_have_an_end() {
    let cursor = Cursor {
        epoch: Epoch([1; 16]),
        seq: 9,
    };
    let (head, mark) = (FeedFrame::Head { whole: false }, FeedFrame::Mark(cursor));
    let gone = FeedFrame::Gone {
        path: path("b"),
        version: Version(3),
    };
    let frames = [
        head.clone(),
        entry("a/b", 1),
        entry("b", 2),
        entry("a", 1),
        gone.clone(),
        mark.clone(),
    ];
    let expected = Feed {
        whole: false,
        changes: vec![
            (path("a"), Some(Entry::Folder), Version(1)),
            (path("a/b"), Some(Entry::Folder), Version(1)),
            (path("b"), None, Version(3)),
        ],
        cursor,
    };
    assert_eq!(
        read_feed(&to_bytes(&frames)[..], 4).expect("a feed"),
        expected
    );
    assert!(read_feed(&to_bytes(&frames)[..], 3).is_err());
    let whole = FeedFrame::Head { whole: true };
    for bad in [
        vec![mark.clone()],
        vec![head.clone(), entry("a", 1)],
        vec![head.clone(), head.clone(), mark.clone()],
        vec![head.clone(), FeedFrame::Beat, mark.clone()],
        vec![whole, gone, mark],
    ] {
        assert!(read_feed(&to_bytes(&bad)[..], 4).is_err(), "{bad:?}");
    }
}

#[test]
fn a_server_that_only_shows_that_it_lives_holds_nobody() {
    let beats = || to_bytes(&[FeedFrame::Beat]).into_iter().cycle();
    let head = to_bytes(&[FeedFrame::Head { whole: true }]);
    let feed = Endless(head.into_iter().chain(beats()));
    assert!(read_feed(feed, 1000).is_err());
    let mut frames = FrameReader::new(Endless(beats()));
    assert!(next_mark(&mut frames, 1000).is_err());
    // A mark that comes in time is one.
    let cursor = Cursor {
        epoch: Epoch([1; 16]),
        seq: 9,
    };
    let beats = vec![FeedFrame::Beat; 1000];
    let bytes = to_bytes(&[beats, vec![FeedFrame::Mark(cursor)]].concat());
    let found = next_mark(&mut FrameReader::new(&bytes[..]), 1000);
    assert_eq!(found.expect("a mark"), cursor);
}

/// A server that never stops.
struct Endless<I>(I);

impl<I: Iterator<Item = u8>> Read for Endless<I> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut len = 0;
        for (to, byte) in buffer.iter_mut().zip(&mut self.0) {
            *to = byte;
            len += 1;
        }
        Ok(len)
    }
}

/// Takes contents, except of those it can't.
#[derive(Default)]
struct Basket {
    cannot: Option<usize>,
    log: Vec<String>,
}

impl Sink for Basket {
    fn begin(&mut self, index: usize, offset: u64, len_bytes: u64) -> io::Result<()> {
        let from = match offset {
            0 => String::new(),
            offset => format!(" from {offset}"),
        };
        self.log.push(format!("begin {index} {len_bytes}{from}"));
        if self.cannot == Some(index) {
            return Err(io::Error::other("full"));
        }
        Ok(())
    }

    fn data(&mut self, index: usize, piece: &[u8]) -> io::Result<()> {
        self.log.push(format!("data {index} {}", piece.len()));
        Ok(())
    }

    fn done(&mut self, index: usize) {
        self.log.push(format!("done {index}"));
    }

    fn refused(&mut self, index: usize, refusal: Refusal) {
        self.log.push(format!("refused {index} {refusal:?}"));
    }
}

#[test]
fn of_what_was_cut_only_the_rest_is_sent() {
    let ops = [put("a", b"12345"), put("b", b"123")];
    let mut draft = Draft::new(ops.len());
    draft.go_on_from(0, 3);
    draft.go_on_from(1, 3);
    assert_eq!(draft.come_bytes(), 6);
    let (mut bytes, mut sent) = (Vec::new(), 0);
    let mut open = |index: usize| holding([&b"12345"[..], b"123"][index]);
    let mut progress = |more| sent += more;
    write_commit(&mut bytes, &ops, &mut draft, &mut open, &mut progress).expect("sent");
    let [a, b] = ops;
    let frames = [
        CommitFrame::Op(a),
        CommitFrame::Offset { bytes: 3 },
        CommitFrame::Data(b"45".into()),
        CommitFrame::Op(b),
        CommitFrame::Offset { bytes: 3 },
        CommitFrame::End { ops: 2 },
    ];
    assert_eq!((bytes, sent), (to_bytes(&frames), 2));
}

#[test]
fn contents_go_where_they_belong() {
    let data = |len| ContentFrame::Data(vec![1; len]);
    let begin = |len_bytes| ContentFrame::Begin { len_bytes };
    let frames = [
        begin(3),
        data(1),
        data(2),
        ContentFrame::Done,
        ContentFrame::Refused(Refusal::Changed),
        begin(1),
        data(1),
        ContentFrame::Done,
        begin(2),
        ContentFrame::Refused(Refusal::NotNow),
        ContentFrame::End,
    ];
    let mut sink = Basket {
        cannot: Some(4),
        ..Basket::default()
    };
    let mut open: VecDeque<(usize, u64)> = [(0, 0), (2, 0), (4, 7), (5, 0)].into();
    read_contents(&to_bytes(&frames)[..], &mut open, &mut sink).expect("contents");
    assert!(open.is_empty());
    let expected = [
        "begin 0 3",
        "data 0 1",
        "data 0 2",
        "done 0",
        "refused 2 Changed",
        "begin 4 1 from 7",
        "begin 5 2",
        "refused 5 NotNow",
    ];
    assert_eq!(sink.log, expected);
}

#[test]
fn contents_that_lie_are_cut_off() {
    let data = |len| ContentFrame::Data(vec![1; len]);
    let begin = |len_bytes| ContentFrame::Begin { len_bytes };
    let check = |frames: &[ContentFrame], left: usize| {
        let mut open: VecDeque<(usize, u64)> = [(0, 0), (1, 0)].into();
        let mut sink = Basket::default();
        let read = read_contents(&to_bytes(frames)[..], &mut open, &mut sink);
        assert!(read.is_err(), "{frames:?}");
        assert_eq!(open.len(), left, "{frames:?}");
    };
    check(&[begin(1), data(2)], 2);
    check(&[begin(3), data(2), ContentFrame::Done], 2);
    check(&[begin(0), ContentFrame::Done], 1);
    check(&[ContentFrame::End], 2);
    check(&[data(1)], 2);
    let refused = ContentFrame::Refused(Refusal::Changed);
    check(&[refused.clone(), refused.clone(), refused], 0);
}

#[test]
fn wants_are_written_as_a_list() {
    let want = Want {
        path: path("a"),
        version: Version(1),
        offset: 0,
    };
    let mut bytes = Vec::new();
    write_wants(&mut bytes, [want.clone()].into_iter()).expect("written");
    assert_eq!(bytes, to_bytes(&[WantFrame::Want(want), WantFrame::End]));
}
