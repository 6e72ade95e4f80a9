//! The files in `/.raspbox/`.

use crate::client::Client;
use crate::harness::Daemon;
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal, ResultFrame};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::holds::{self, Held, HoldsFrame};
use raspbox_protocol::info::Info;
use raspbox_protocol::special::{CommitSummary, Receipt, RequestId};
use raspbox_protocol::want::{ContentFrame, Want, WantFrame};
use raspbox_protocol::wire::{DATA_MAX_BYTES, Frame, FrameReader, to_bytes};
use raspbox_protocol::{Cursor, Digest, Entry, File, Mtime, RelPath, Version};
use std::collections::BTreeMap;
use std::io::Read;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn info(client: &mut Client) -> Info {
    client.take_text("RETR /.raspbox/info").parse().unwrap()
}

fn frames<F: Frame>(bytes: &[u8]) -> Vec<F> {
    let mut reader = FrameReader::new(bytes);
    let mut frames = Vec::new();
    while let Ok(frame) = reader.read() {
        frames.push(frame);
    }
    assert!(reader.into_inner().is_empty(), "whole frames only");
    frames
}

fn feed(client: &mut Client, name: &str) -> Vec<FeedFrame> {
    frames(&client.retrieve(&format!("/.raspbox/{name}")).unwrap())
}

fn mark(frames: &[FeedFrame]) -> Cursor {
    match frames.last() {
        Some(FeedFrame::Mark(cursor)) => *cursor,
        other => panic!("no mark but {other:?}"),
    }
}

/// The tree as paths with their versions.
fn tree(client: &mut Client) -> BTreeMap<String, (Entry, Version)> {
    let frames = feed(client, "tree");
    assert_eq!(frames[0], FeedFrame::Head { whole: true });
    let entry = |frame: &FeedFrame| match frame {
        FeedFrame::Entry {
            path,
            entry,
            version,
        } => Some((path.to_string(), (entry.clone(), *version))),
        FeedFrame::Head { .. } | FeedFrame::Gone { .. } | FeedFrame::Mark(_) | FeedFrame::Beat => {
            None
        }
    };
    frames.iter().filter_map(entry).collect()
}

fn put(path_text: &str, expect: Expect, content: &[u8]) -> Vec<CommitFrame> {
    let op = Op::Put {
        path: path(path_text),
        expect,
        file: File {
            digest: Digest::of(content),
            size: content.len() as u64,
            mtime: Mtime::from_parts(1_000_000_000, 0),
            executable: false,
        },
    };
    let data = content
        .chunks(DATA_MAX_BYTES)
        .map(|piece| CommitFrame::Data(piece.to_vec()));
    [CommitFrame::Op(op)].into_iter().chain(data).collect()
}

fn commit(client: &mut Client, id: RequestId, ops: u32, mut frames: Vec<CommitFrame>) -> u32 {
    frames.push(CommitFrame::End { ops });
    client
        .store(&format!("/.raspbox/commit/{id}"), &to_bytes(&frames))
        .code
}

fn receipt(client: &mut Client, id: RequestId) -> Receipt {
    let reply = client.command(&format!("SITE RBX RESULT {id}")).expect(200);
    reply
        .text
        .trim_start_matches("200 ")
        .trim_end()
        .parse()
        .unwrap()
}

fn summary(client: &mut Client, id: RequestId) -> CommitSummary {
    receipt(client, id).summary
}

#[test]
fn info_tells_of_the_drive_and_the_account() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let before = info(&mut client);
    assert!(before.writable && before.free_bytes > 0);
    client.store("/a", b"x").expect(226);
    let after = info(&mut client);
    assert_eq!(after.drive, before.drive);
    assert_eq!(after.cursor.epoch, before.cursor.epoch);
    assert!(
        after.cursor.seq > before.cursor.seq,
        "an ordinary upload is journalled"
    );
}

#[test]
fn tree_and_changes_tell_what_there_is() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let start = info(&mut client).cursor;
    client.command("MKD /d").expect(257);
    client.store("/d/a", b"hello").expect(226);
    let tree = tree(&mut client);
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["d", "d/a"]);
    let Entry::File(file) = &tree["d/a"].0 else {
        panic!("a file")
    };
    assert_eq!((file.digest, file.size), (Digest::of(b"hello"), 5));

    let changes = feed(&mut client, &format!("changes/{start}"));
    assert_eq!(changes[0], FeedFrame::Head { whole: false });
    assert_eq!(changes.len(), 4, "{changes:?}");
    let now = mark(&changes);
    assert_eq!(now, info(&mut client).cursor);
    client.command("DELE /d/a").expect(250);
    let changes = feed(&mut client, &format!("changes/{now}"));
    assert!(matches!(&changes[1], FeedFrame::Gone { path, .. } if path.as_str() == "d/a"));

    let other = "00000000000000000000000000000000.0";
    let expired = client
        .retrieve(&format!("/.raspbox/changes/{other}"))
        .unwrap_err();
    assert_eq!(expired.code, 550);
    for name in ["changes", "changes/x", "events/1", "nothing", "result/00"] {
        assert_eq!(
            client
                .retrieve(&format!("/.raspbox/{name}"))
                .unwrap_err()
                .code,
            550,
            "{name}"
        );
    }
}

#[test]
fn events_are_pushed_while_they_happen() {
    let daemon = Daemon::start();
    let (mut listener, mut writer) = (daemon.client(), daemon.client());
    let cursor = info(&mut listener).cursor;
    let data = listener.open();
    listener
        .command(&format!("RETR /.raspbox/events/{cursor}"))
        .expect(150);
    let mut events = FrameReader::new(std::io::BufReader::new(data));
    let mut next = || events.read::<FeedFrame>().unwrap();
    assert_eq!(next(), FeedFrame::Head { whole: false });
    assert_eq!(next(), FeedFrame::Mark(cursor));
    // A heartbeat in between would show that one was waited for.
    for n in 0..20 {
        writer.store(&format!("/{n}"), b"x").expect(226);
        match next() {
            FeedFrame::Entry { path, .. } => assert_eq!(path.to_string(), n.to_string()),
            other => panic!("{other:?}"),
        }
        assert!(matches!(next(), FeedFrame::Mark(_)));
    }
}

#[test]
fn a_commit_is_applied_once_and_its_outcome_told_again() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let id = RequestId([1; 16]);
    let make = CommitFrame::Op(Op::MakeFolder { path: path("d") });
    let mut ops = vec![make];
    ops.extend(put("d/a", Expect::Absent, b"hello"));
    ops.extend(put("large", Expect::Absent, &vec![5; 3_000_000]));
    assert_eq!(commit(&mut client, id, 3, ops.clone()), 226);
    let told = summary(&mut client, id);
    let CommitSummary::All { ops: 3, first } = told else {
        panic!("{told:?}")
    };
    assert_eq!(tree(&mut client)["d"].1, first);
    assert_eq!(daemon.content("d/a").unwrap(), b"hello");
    assert_eq!(daemon.content("large").unwrap().len(), 3_000_000);
    let cursor = info(&mut client).cursor;
    assert_eq!(
        commit(&mut daemon.client(), id, 3, ops),
        226,
        "the connection was lost: again"
    );
    assert_eq!(summary(&mut client, id), told);
    assert_eq!(
        info(&mut client).cursor,
        cursor,
        "nothing was applied twice"
    );
    let unknown = RequestId([2; 16]);
    client
        .command(&format!("SITE RBX RESULT {unknown}"))
        .expect(550);
    assert_eq!(
        client
            .retrieve(&format!("/.raspbox/result/{unknown}"))
            .unwrap_err()
            .code,
        550
    );
}

#[test]
fn what_does_not_fit_is_refused_alone() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("/a", b"old").expect(226);
    let id = RequestId([3; 16]);
    let mut ops = put("a", Expect::Absent, b"mine");
    ops.extend(put("b", Expect::Absent, b"new"));
    assert_eq!(commit(&mut client, id, 2, ops), 226);
    assert_eq!(summary(&mut client, id), CommitSummary::Mixed { ops: 2 });
    let result = client.retrieve(&format!("/.raspbox/result/{id}")).unwrap();
    let result: Vec<ResultFrame> = frames(&result);
    assert_eq!(
        result[0],
        ResultFrame::Outcome(Outcome::Refused(Refusal::Changed))
    );
    assert!(matches!(result[1], ResultFrame::Outcome(Outcome::Done(_))));
    assert_eq!(result[2], ResultFrame::End);
    assert_eq!(daemon.content("a").unwrap(), b"old");
    assert_eq!(daemon.content("b").unwrap(), b"new");
}

#[test]
fn a_commit_needs_the_rights_of_its_operations() {
    let daemon = Daemon::start();
    daemon.add_user("adder", "elrw");
    let mut client = daemon.client_as("adder", "secret");
    let mut ops = put("a", Expect::Absent, b"x");
    ops.push(CommitFrame::Op(Op::MakeFolder { path: path("d") }));
    let id = RequestId([4; 16]);
    assert_eq!(commit(&mut client, id, 2, ops), 226);
    let result = client.retrieve(&format!("/.raspbox/result/{id}")).unwrap();
    let result: Vec<ResultFrame> = frames(&result);
    assert!(matches!(result[0], ResultFrame::Outcome(Outcome::Done(_))));
    assert_eq!(
        result[1],
        ResultFrame::Outcome(Outcome::Refused(Refusal::Denied))
    );
    assert!(!daemon.folder().join("d").exists());
}

#[test]
fn a_cut_commit_applies_nothing() {
    let daemon = Daemon::with("tls = 'optional'");
    let mut ops = put("a", Expect::Absent, b"x");
    ops.extend(put("large", Expect::Absent, &vec![5; 3_000_000]));
    ops.push(CommitFrame::End { ops: 2 });
    let bytes = to_bytes(&ops);
    for (n, len) in [5, 700_000, bytes.len() - 1].into_iter().enumerate() {
        let id = RequestId([u8::try_from(n).unwrap(); 16]);
        for cut in [true, false] {
            let mut client = daemon.client();
            let mut data = client.open();
            client
                .command(&format!("STOR /.raspbox/commit/{id}"))
                .expect(150);
            std::io::Write::write_all(&mut data, &bytes[..len]).unwrap();
            // Even a proper end of the connection is not the end of the commit.
            if cut {
                data.cut();
            } else {
                data.end();
            }
            client.reply().unwrap().expect(426);
            client.command(&format!("SITE RBX RESULT {id}")).expect(550);
        }
    }
    assert_eq!(daemon.content("a"), None);
    let mut client = daemon.client();
    assert_eq!(
        client
            .store(
                &format!("/.raspbox/commit/{}", RequestId([9; 16])),
                b"\xff\x00"
            )
            .code,
        550
    );
    assert_eq!(client.take_text("NLST"), "");
}

#[test]
fn many_files_come_in_one_transfer() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let large: Vec<u8> = (0_u32..500_000).flat_map(u32::to_le_bytes).collect();
    client.store("/large", &large).expect(226);
    for n in 0..50 {
        client
            .store(&format!("/{n:02}"), format!("file {n}").as_bytes())
            .expect(226);
    }
    client.store("/empty", b"").expect(226);
    let tree = tree(&mut client);
    let want = |name: &str, offset| {
        WantFrame::Want(Want {
            path: path(name),
            version: tree.get(name).map_or(Version(1), |(_, version)| *version),
            offset,
        })
    };
    client.store("/13", b"changed since").expect(226);
    let mut names: Vec<String> = (0..50).map(|n| format!("{n:02}")).collect();
    names.extend(["empty".into(), "large".into(), "absent".into()]);
    let mut list: Vec<WantFrame> = names.iter().map(|name| want(name, 0)).collect();
    list.push(want("large", 1_500_000));
    list.push(WantFrame::End);
    let id = RequestId([7; 16]);
    let name = format!("/.raspbox/want/{id}");
    assert_eq!(
        client.retrieve(&name).unwrap_err().code,
        550,
        "not stored yet"
    );
    client.store(&name, &to_bytes(&list)).expect(226);
    let answer = client.retrieve(&name).unwrap();
    let mut contents: Vec<Result<Vec<u8>, Refusal>> = Vec::new();
    let mut current: Option<(u64, Vec<u8>)> = None;
    for frame in frames::<ContentFrame>(&answer) {
        match frame {
            ContentFrame::Begin { len_bytes } => current = Some((len_bytes, Vec::new())),
            ContentFrame::Data(data) => current.as_mut().unwrap().1.extend(data),
            ContentFrame::Done => {
                let (len_bytes, content) = current.take().unwrap();
                assert_eq!(content.len() as u64, len_bytes);
                contents.push(Ok(content));
            }
            ContentFrame::Refused(refusal) => contents.push(Err(refusal)),
            ContentFrame::End => contents.push(Ok(b"end".to_vec())),
        }
    }
    assert_eq!(contents.len(), 55);
    for (n, content) in contents[..50].iter().enumerate() {
        match n {
            13 => assert_eq!(content, &Err(Refusal::Changed)),
            n => assert_eq!(content, &Ok(format!("file {n}").into_bytes())),
        }
    }
    assert_eq!(contents[50], Ok(vec![]));
    assert!(contents[51].as_ref().unwrap() == &large);
    assert!(contents[52].is_err());
    assert!(contents[53].as_ref().unwrap() == &large[1_500_000..]);
    assert_eq!(contents[54], Ok(b"end".to_vec()));

    assert_eq!(client.store(&name, b"\x01\x01").code, 426, "no end");
    assert_eq!(client.store(&name, b"\x63\x00").code, 550, "no list");
    let mut twice = to_bytes(&[WantFrame::End]);
    twice.push(2);
    assert_eq!(client.store(&name, &twice).code, 550, "something follows");
}

#[test]
fn a_stream_of_events_that_nobody_reads_holds_up_nobody() {
    let daemon = Daemon::start();
    let (mut listener, mut writer) = (daemon.client(), daemon.client());
    let cursor = info(&mut listener).cursor;
    let mut data = listener.open();
    listener
        .command(&format!("RETR /.raspbox/events/{cursor}"))
        .expect(150);
    data.read_exact(&mut [0; 3]).unwrap();
    for n in 0..50 {
        writer.store(&format!("/{n}"), b"x").expect(226);
    }
    listener.vanish();
    assert!(writer.is_served());
}

#[test]
fn who_may_write_is_told_how_much_of_a_cut_content_has_come() {
    let daemon = Daemon::start();
    daemon.add_user("reader", "elr");
    let digest = Digest::of(b"one");
    let ask = format!("SITE RBX PART {digest}");
    assert_eq!(daemon.client().command(&ask).expect(200).text, "200 0\r\n");
    daemon
        .client_as("reader", "secret")
        .command(&ask)
        .expect(550);
}

#[test]
fn who_asks_what_is_kept_is_told_and_may_bring_it() {
    let daemon = Daemon::start();
    daemon.add_user("reader", "elr");
    let mut client = daemon.client();
    client.store("/a", b"one").expect(226);
    client.store("/a", b"two").expect(226);
    let digests = ["one", "two", "three"].map(|content| Digest::of(content.as_bytes()));
    let ask = |client: &mut Client, digests: &[Digest]| {
        let line = holds::print_line(digests);
        client.command(&format!("SITE RBX HOLDS {line}"))
    };
    assert_eq!(ask(&mut client, &digests).expect(200).text, "200 100\r\n");
    let many = vec![digests[0]; holds::LINE_MAX + 1];
    ask(&mut client, &many[1..]).expect(200);
    ask(&mut client, &many).expect(501);
    client.command("SITE RBX HOLDS").expect(501);
    // The same as a list.
    let request = |n: u8| format!("/.raspbox/holds/{}", RequestId([n; 16]));
    let list = |digests: &[Digest]| {
        let frames = digests.iter().map(|digest| HoldsFrame::Digest(*digest));
        to_bytes(&frames.chain([HoldsFrame::End]).collect::<Vec<_>>())
    };
    client.retrieve(&request(1)).unwrap_err().expect(550);
    client.store(&request(1), &list(&digests)).expect(226);
    assert_eq!(client.retrieve(&request(1)).unwrap(), b"100");
    let most = vec![digests[0]; holds::LIST_MAX];
    client.store(&request(2), &list(&most)).expect(226);
    let Held(held) = client
        .take_text(&format!("RETR {}", request(2)))
        .parse()
        .unwrap();
    assert_eq!(held, vec![true; holds::LIST_MAX]);
    let more = vec![digests[0]; holds::LIST_MAX + 1];
    client.store(&request(3), &list(&more)).expect(550);
    client.store(&request(3), &list(&digests)[..50]).expect(426);
    client.store(&request(3), b"x").expect(426);
    let twice = [list(&digests), list(&digests)].concat();
    client.store(&request(3), &twice).expect(550);

    let file = File {
        digest: digests[2],
        size: 5,
        mtime: Mtime(0),
        executable: false,
    };
    let keep = to_bytes(&[
        CommitFrame::Op(Op::Keep {
            path: path("a"),
            file,
        }),
        CommitFrame::Data(b"three".to_vec()),
        CommitFrame::End { ops: 1 },
    ]);
    let commit = |n: u8| format!("/.raspbox/commit/{}", RequestId([n; 16]));
    // It takes room, so it isn't for those who only read.
    let mut reader = daemon.client_as("reader", "secret");
    assert!(!info(&mut reader).keeps && info(&mut client).keeps);
    reader.store(&commit(4), &keep).expect(226);
    assert_eq!(ask(&mut reader, &digests).expect(200).text, "200 100\r\n");
    client.store(&commit(5), &keep).expect(226);
    assert_eq!(ask(&mut client, &digests).expect(200).text, "200 101\r\n");
    assert_eq!(daemon.content("a").unwrap(), b"two");
}
