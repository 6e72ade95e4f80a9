//! The bytes of every message, fixed. A change here is a change of `PROTOCOL_VERSION`.

use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal, ResultFrame};
use raspbox_protocol::damage::{self, Damage, DamageError, Place};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::{Ended, HistoryFrame, How, Past};
use raspbox_protocol::holds::HoldsFrame;
use raspbox_protocol::info::{self, DriveId, Holds, Info};
use raspbox_protocol::patch::{Patch, Piece};
use raspbox_protocol::path::PATH_MAX_BYTES;
use raspbox_protocol::want::{ContentFrame, Want, WantFrame};
use raspbox_protocol::wire::{DATA_MAX_BYTES, Frame, FrameReader, ReadError, WireError, to_bytes};
use raspbox_protocol::{
    Cursor, Digest, Entry, Epoch, File, LinkTarget, Mtime, PROTOCOL_VERSION, RelPath, Version,
};
use std::fmt::Debug;
use std::time::Duration;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn file() -> File {
    File {
        digest: Digest::from_bytes([0xdd; 32]),
        size: 300,
        mtime: Mtime(-2),
        executable: true,
    }
}

const DD: &str = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read<F: Frame>(bytes: &[u8]) -> Option<F> {
    let mut reader = FrameReader::new(bytes);
    let frame = reader.read().ok()?;
    reader.into_inner().is_empty().then_some(frame)
}

/// The frame has these bytes, no part of them is a frame, and whatever else is one byte away has
/// one spelling only.
fn check<F: Frame + Debug + PartialEq>(frame: &F, expected: &str) {
    let bytes = to_bytes(std::slice::from_ref(frame));
    assert_eq!(hex(&bytes), expected, "{frame:?}");
    assert_eq!(read::<F>(&bytes).as_ref(), Some(frame));
    for len in 0..bytes.len() {
        assert_eq!(
            read::<F>(&bytes[..len]),
            None,
            "{frame:?} cut after {len} bytes"
        );
    }
    for at in 0..bytes.len() {
        for value in 0..=255 {
            let mut other = bytes.clone();
            other[at] = value;
            if let Some(read) = read::<F>(&other) {
                assert_eq!(to_bytes(&[read]), other, "two spellings of one frame");
            }
        }
    }
}

#[test]
fn feeds() {
    check(&FeedFrame::Head { whole: true }, "010101");
    check(&FeedFrame::Head { whole: false }, "010100");
    check(
        &FeedFrame::Entry {
            path: path("a/é"),
            entry: Entry::File(file()),
            version: Version(200),
        },
        &format!("023304612fc3a9c80100ac02feffffffffffffff01{DD}"),
    );
    check(
        &FeedFrame::Entry {
            path: path("d"),
            entry: Entry::Folder,
            version: Version(1),
        },
        "020401640101",
    );
    let link = Entry::Symlink(LinkTarget::parse("../x").expect("a target"));
    check(
        &FeedFrame::Entry {
            path: path("l"),
            entry: link,
            version: Version(0),
        },
        "0209016c0002042e2e2f78",
    );
    check(
        &FeedFrame::Gone {
            path: path("g"),
            version: Version(127),
        },
        "030301677f",
    );
    let cursor = Cursor {
        epoch: Epoch([0xee; 16]),
        seq: 128,
    };
    check(
        &FeedFrame::Mark(cursor),
        &format!("0412{}8001", "ee".repeat(16)),
    );
    check(&FeedFrame::Beat, "0500");
}

#[test]
fn commits() {
    let put = |expect| {
        CommitFrame::Op(Op::Put {
            path: path("a"),
            expect,
            file: file(),
        })
    };
    check(
        &put(Expect::Absent),
        &format!("012e016100ac02feffffffffffffff01{DD}"),
    );
    check(
        &put(Expect::Version(Version(5))),
        &format!("012f01610105ac02feffffffffffffff01{DD}"),
    );
    let symlink = Op::Symlink {
        path: path("a"),
        expect: Expect::Absent,
        target: LinkTarget::parse("b").expect("a target"),
    };
    check(&CommitFrame::Op(symlink), "02050161000162");
    check(
        &CommitFrame::Op(Op::MakeFolder { path: path("a") }),
        "03020161",
    );
    let delete = Op::Delete {
        path: path("a"),
        expect: Version(1),
    };
    check(&CommitFrame::Op(delete), "0403016101");
    let moved = Op::Move {
        from: path("a"),
        expect: Version(1),
        to: path("b"),
    };
    check(&CommitFrame::Op(moved), "05050161010162");
    let meta = Op::SetMeta {
        path: path("a"),
        expect: Version(1),
        mtime: Mtime(1),
        executable: false,
    };
    check(&CommitFrame::Op(meta), "060c016101010000000000000000");
    let restore = Op::Restore {
        path: path("a"),
        expect: Expect::Version(Version(5)),
        file: file(),
    };
    check(
        &CommitFrame::Op(restore),
        &format!("082f01610105ac02feffffffffffffff01{DD}"),
    );
    let keep = Op::Keep {
        path: path("a"),
        file: file(),
    };
    check(
        &CommitFrame::Op(keep),
        &format!("092d0161ac02feffffffffffffff01{DD}"),
    );
    let pieces = vec![
        Piece::Copied {
            offset: 128,
            len_bytes: 200,
        },
        Piece::Sent { len_bytes: 100 },
    ];
    let patch = Op::Patch {
        path: path("a"),
        expect: Expect::Version(Version(5)),
        file: file(),
        patch: Patch::new(Digest::from_bytes([0xbb; 32]), 328, pieces).expect("good pieces"),
    };
    check(
        &CommitFrame::Op(patch),
        &format!(
            "075901610105ac02feffffffffffffff01{DD}{}c80202018001c8010064",
            "bb".repeat(32)
        ),
    );
    check(&CommitFrame::Data(vec![7, 8]), "10020708");
    check(&CommitFrame::End { ops: 300 }, "1102ac02");
    check(&CommitFrame::Offset { bytes: 300 }, "1202ac02");
}

#[test]
fn results() {
    check(&ResultFrame::Outcome(Outcome::Done(Version(9))), "010109");
    let refused = |refusal| ResultFrame::Outcome(Outcome::Refused(refusal));
    for (refusal, code) in [
        (Refusal::Changed, 1),
        (Refusal::NoParent, 2),
        (Refusal::NotEmpty, 3),
        (Refusal::BadContent, 4),
        (Refusal::NoSpace, 6),
        (Refusal::Denied, 7),
        (Refusal::NotNow, 8),
        (Refusal::Damaged, 10),
    ] {
        let bytes = to_bytes(&[refused(refusal.clone())]);
        assert_eq!(hex(&bytes), format!("0202{code:02x}00"));
        assert_eq!(read(&bytes), Some(refused(refusal)));
    }
    check(&refused(Refusal::Name("x".into())), "0203050178");
    check(&refused(Refusal::Failed("x".into())), "0203090178");
    check(&ResultFrame::End, "0300");
}

#[test]
fn wants_and_contents() {
    let want = Want {
        path: path("a"),
        version: Version(2),
        offset: 1 << 32,
    };
    check(&WantFrame::Want(want), "01080161028080808010");
    check(&WantFrame::End, "0200");
    check(&ContentFrame::Begin { len_bytes: 3 }, "010103");
    check(&ContentFrame::Data(vec![1, 2, 3]), "1003010203");
    check(&ContentFrame::Done, "0200");
    check(
        &ContentFrame::Refused(Refusal::Failed("x".into())),
        "0303090178",
    );
    check(&ContentFrame::End, "0400");
}

#[test]
fn lists_of_contents() {
    let digest = Digest::from_bytes([0xdd; 32]);
    check(&HoldsFrame::Digest(digest), &format!("0120{DD}"));
    check(&HoldsFrame::End, "0200");
}

#[test]
fn histories() {
    let past = |number, ended| {
        HistoryFrame::Past(Past {
            number,
            entry: Entry::Folder,
            version: Version(200),
            by: "me".into(),
            since: Mtime(1),
            ended,
            kept: true,
        })
    };
    let ended = |how| {
        Some(Ended {
            at: Mtime(2),
            by: String::new(),
            how,
        })
    };
    let head = "01c801026d65010000000000000001";
    check(&past(None, None), &format!("011100{head}00"));
    let end = "01020000000000000000";
    check(
        &past(Some(300), ended(How::Replaced)),
        &format!("011d01ac02{head}{end}00"),
    );
    check(
        &past(Some(300), ended(How::Deleted)),
        &format!("011d01ac02{head}{end}01"),
    );
    check(
        &past(Some(300), ended(How::Moved(path("a")))),
        &format!("011f01ac02{head}{end}020161"),
    );
    check(&HistoryFrame::End, "0200");
}

#[test]
fn a_name_in_a_history_has_a_limit() {
    let past = |by: String| {
        to_bytes(&[HistoryFrame::Past(Past {
            number: None,
            entry: Entry::Folder,
            version: Version(1),
            by,
            since: Mtime(1),
            ended: None,
            kept: true,
        })])
    };
    let Some(HistoryFrame::Past(read)) = read(&past("é".repeat(200))) else {
        panic!("it is read");
    };
    assert_eq!(read.by, "é".repeat(127), "cut at a whole character");
}

#[test]
fn pieces_of_content_have_a_size() {
    let empty = FrameReader::new(&[16, 0][..]).read::<CommitFrame>();
    let wrong = matches!(empty, Err(ReadError::Wire(WireError::Length)));
    assert!(wrong, "not that it is too long: {empty:?}");
    let largest = CommitFrame::Data(vec![0; DATA_MAX_BYTES]);
    assert_eq!(
        read(&to_bytes(std::slice::from_ref(&largest))),
        Some(largest)
    );
    let larger: Option<CommitFrame> =
        read(&to_bytes(&[CommitFrame::Data(vec![0; DATA_MAX_BYTES + 1])]));
    assert_eq!(larger, None);
}

#[test]
fn a_refusals_reason_is_cut_at_a_whole_character() {
    let long = Refusal::Failed("é".repeat(400));
    let frame = ResultFrame::Outcome(Outcome::Refused(long));
    let Some(ResultFrame::Outcome(Outcome::Refused(Refusal::Failed(reason)))) =
        read(&to_bytes(&[frame]))
    else {
        panic!("it is read");
    };
    assert_eq!(reason, "é".repeat(256));
}

/// They end up on a person's screen, behind the path.
#[test]
fn refusals_are_told_in_words() {
    let words = [
        (Refusal::Changed, "it changed in the meantime"),
        (Refusal::NoParent, "its folder isn't there"),
        (Refusal::NotEmpty, "the folder isn't empty"),
        (Refusal::BadContent, "the content arrived damaged"),
        (
            Refusal::Name("no ':'".into()),
            "the drive can't hold it: no ':'",
        ),
        (Refusal::NoSpace, "the drive is full"),
        (Refusal::Denied, "this account may not do that"),
        (Refusal::NotNow, "the drive is missing or read-only for now"),
        (Refusal::Failed("it fell".into()), "it fell"),
        (Refusal::Damaged, "it is damaged on the drive"),
    ];
    for (refusal, expected) in words {
        assert_eq!(refusal.to_string(), expected);
    }
}

#[test]
fn a_path_in_a_frame_keeps_the_rules_of_paths() {
    for bad in ["..", "a//b", "/a", ".raspbox/x", "a\nb"] {
        let mut bytes = vec![3, u8::try_from(bad.len() + 2).expect("short")];
        bytes.push(u8::try_from(bad.len()).expect("short"));
        bytes.extend_from_slice(bad.as_bytes());
        bytes.push(1);
        assert_eq!(read::<FeedFrame>(&bytes), None, "{bad:?}");
    }
}

#[test]
fn info_is_text_and_a_line_of_it() {
    let info = Info {
        protocol: PROTOCOL_VERSION,
        drive: DriveId([1; 16]),
        cursor: Cursor {
            epoch: Epoch([2; 16]),
            seq: 3,
        },
        free_bytes: 4,
        size_bytes: 5,
        holds: Holds {
            case_sensitive: true,
            symlinks: true,
            dos_names: false,
            file_max_bytes: u64::MAX,
            granularity: Duration::from_millis(10),
        },
        now: Mtime(-6),
        writable: true,
        keeps: true,
        zstd: true,
    };
    let text = "protocol 1\n\
                drive 01010101010101010101010101010101\n\
                cursor 02020202020202020202020202020202.3\n\
                free-bytes 4\n\
                size-bytes 5\n\
                case-sensitive true\n\
                symlinks true\n\
                dos-names false\n\
                file-max-bytes 18446744073709551615\n\
                granularity-ns 10000000\n\
                now-ns -6\n\
                writable true\n\
                keeps true\n\
                zstd true\n";
    assert_eq!(info.to_string(), text);
    assert_eq!(text.parse(), Ok(info.clone()));
    let line = info.to_line();
    assert!(line.starts_with("protocol 1; drive 01") && line.ends_with("; zstd true"));
    assert_eq!(info::lines(&line).parse(), Ok(info.clone()));
    let newer = format!("colour blue\r\n{}", text.replace('\n', "\r\n"));
    assert_eq!(newer.parse(), Ok(info.clone()));
    let older = text.replace("keeps true\nzstd true\n", "");
    let (keeps, zstd) = (false, false);
    assert_eq!(
        older.parse(),
        Ok(Info {
            keeps,
            zstd,
            ..info
        })
    );
    assert!(
        text.replace("keeps true", "keeps some")
            .parse::<Info>()
            .is_err()
    );
    assert!(text.replace("drive", "drove").parse::<Info>().is_err());
    assert!(
        text.replace("bytes 4", "bytes many")
            .parse::<Info>()
            .is_err()
    );
}

#[test]
fn a_list_of_damages_is_text_with_an_end() {
    let expected = Digest::from_bytes([0xdd; 32]);
    let list = [
        Damage {
            place: Place::File {
                path: path("photos/a day.jpg"),
                version: Version(17),
            },
            expected,
            found: Some(Digest::from_bytes([0xee; 32])),
            since: Mtime(1_700_000_000_000_000_000),
        },
        Damage {
            place: Place::Kept,
            expected,
            found: None,
            since: Mtime(-1),
        },
    ];
    let (dd, ee) = ("dd".repeat(32), "ee".repeat(32));
    let text =
        format!("file 17 {dd} {ee} 1700000000000000000 photos/a day.jpg\nkept {dd} - -1\nend 2\n");
    assert_eq!(damage::print(&list), text);
    assert_eq!(damage::parse(&text).as_deref(), Ok(&list[..]));
    assert_eq!(damage::print(&[]), "end 0\n");
    assert_eq!(damage::parse("end 0\n"), Ok(Vec::new()));
    // Wherever it is cut, nothing that isn't told may be believed whole.
    for end in 0..text.len() {
        assert!(damage::parse(&text[..end]).is_err(), "{:?}", &text[..end]);
    }
    for wrong in [
        format!("kept {dd} - -1\nend 0\n"),
        format!("kept {dd} - -1 x\nend 1\n"),
        format!("file 17 {dd} {ee} 1 ../a\nend 1\n"),
        format!("file 17 {dd} {ee} 1 .raspbox/a\nend 1\n"),
        format!("film 17 {dd} {ee} 1 a\nend 1\n"),
        "\nend 1\n".into(),
    ] {
        assert!(damage::parse(&wrong).is_err(), "{wrong:?}");
    }
    assert_eq!(damage::parse(""), Err(DamageError::Cut));
}

#[test]
fn a_list_of_damages_has_a_limit() {
    let one = Damage {
        place: Place::Kept,
        expected: Digest::from_bytes([0xdd; 32]),
        found: None,
        since: Mtime(0),
    };
    let most = vec![one.clone(); damage::DAMAGES_MAX];
    let more = vec![one; damage::DAMAGES_MAX + 1];
    assert_eq!(damage::print(&more), damage::print(&most));
    let text = damage::print(&most);
    assert_eq!(damage::parse(&text).as_ref(), Ok(&most));
    let line = text.lines().next().expect("a line");
    assert!(damage::parse(&format!("{line}\n{text}")).is_err());
}

/// Who reads it takes no more than this, and any list that is printed is within it.
#[test]
fn the_longest_list_of_damages_is_read() {
    let names = ["x".repeat(255).as_str(); 14].join("/");
    let path = path(&format!("{names}/{}", "x".repeat(216)));
    assert_eq!(path.as_str().len(), PATH_MAX_BYTES);
    let longest = Damage {
        place: Place::File {
            path,
            version: Version(u64::MAX),
        },
        expected: Digest::from_bytes([0xdd; 32]),
        found: Some(Digest::from_bytes([0xee; 32])),
        since: Mtime(i64::MIN),
    };
    let (line, end) = (damage::print(&[longest]), "end 10000\n".len());
    let longest = (line.len() - "end 1\n".len()) * damage::DAMAGES_MAX + end;
    let limit = damage::DAMAGED_MAX_BYTES;
    assert!(
        (longest..longest * 2).contains(&limit),
        "{longest}, {limit}"
    );
}
