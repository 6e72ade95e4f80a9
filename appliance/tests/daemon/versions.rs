//! Versions: as files for ordinary clients, and as frames for ours.

use crate::client::Client;
use crate::harness::Daemon;
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::feed::FeedFrame;
use raspbox_protocol::history::{HistoryFrame, How, Past};
use raspbox_protocol::special::{Clock, RequestId};
use raspbox_protocol::wire::{Frame, FrameReader, to_bytes};
use raspbox_protocol::{Digest, Entry, File, Mtime, RelPath};

const AT: &str = "/.raspbox/versions";

fn frames<F: Frame>(bytes: &[u8]) -> Vec<F> {
    let mut reader = FrameReader::new(bytes);
    let mut frames = Vec::new();
    while let Ok(frame) = reader.read() {
        frames.push(frame);
    }
    assert!(reader.into_inner().is_empty(), "whole frames only");
    frames
}

fn clock(client: &mut Client) -> Clock {
    let reply = client.command("SITE RBX CLOCK").expect(200);
    reply
        .text
        .trim_start_matches("200 ")
        .trim_end()
        .parse()
        .unwrap()
}

fn history(client: &mut Client, path: &str) -> Vec<Past> {
    let bytes = client
        .retrieve(&format!("/.raspbox/history/{path}"))
        .unwrap();
    let mut frames: Vec<HistoryFrame> = frames(&bytes);
    assert_eq!(frames.pop(), Some(HistoryFrame::End));
    let past = |frame| match frame {
        HistoryFrame::Past(past) => past,
        HistoryFrame::End => panic!("one end"),
    };
    frames.into_iter().map(past).collect()
}

fn names(client: &mut Client, path: &str) -> Vec<String> {
    let list = client.take_text(&format!("NLST {path}"));
    list.lines().map(Into::into).collect()
}

/// `docs/letter.txt` in two versions, and a file that is gone.
fn filled() -> Daemon {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.command("MKD /docs").expect(257);
    for content in ["one", "two", "three"] {
        client
            .store("/docs/letter.txt", content.as_bytes())
            .expect(226);
    }
    client.store("/gone", b"gone").expect(226);
    client.command("DELE /gone").expect(250);
    daemon
}

#[test]
fn any_client_can_look_through_the_versions() {
    let daemon = filled();
    let mut client = daemon.client();
    assert_eq!(names(&mut client, AT), ["docs", "gone"]);
    assert_eq!(names(&mut client, &format!("{AT}/docs")), ["letter.txt"]);
    let folder = format!("{AT}/docs/letter.txt");
    let versions = names(&mut client, &folder);
    assert_eq!(versions.len(), 2);
    for (name, content) in versions.iter().zip(["one", "two"]) {
        let like = name.replace(|c: char| c.is_ascii_digit(), "0");
        assert!(like.starts_with("0000-00-00T00.00.00Z raspbox 0"), "{name}");
        assert!(name.ends_with(".txt"), "{name}");
        let file = format!("{folder}/{name}");
        assert_eq!(client.retrieve(&file).unwrap(), content.as_bytes());
        let size = client.command(&format!("SIZE {file}")).expect(213);
        assert!(size.text.contains(&content.len().to_string()), "{size:?}");
        assert!(client.take_text(&format!("LIST {file}")).contains(name));
        client.command("REST 1").expect(350);
        assert_eq!(client.retrieve(&file).unwrap(), &content.as_bytes()[1..]);
    }
    // By going there, as a person does.
    client.command(&format!("CWD {folder}")).expect(250);
    assert_eq!(client.retrieve(&versions[0]).unwrap(), b"one");
    client.command("CWD ..").expect(250);
    assert!(client.take_text("MLSD").contains("letter.txt"));
    for absent in [
        "nowhere",
        "docs/letter.txt/2026-11-20T18.03.11Z raspbox 1.txt",
        "docs/x",
    ] {
        assert!(
            client.retrieve(&format!("{AT}/{absent}")).is_err(),
            "{absent}"
        );
        assert!(client.command(&format!("CWD {AT}/{absent}")).code >= 500);
    }
    assert!(client.retrieve(&folder).is_err(), "a folder");
    assert!(
        client
            .command(&format!("CWD {folder}/{}", versions[0]))
            .code
            >= 500
    );
}

#[test]
fn nothing_can_be_written_where_versions_are() {
    let daemon = filled();
    let mut client = daemon.client();
    let folder = format!("{AT}/docs/letter.txt");
    let file = format!("{folder}/{}", names(&mut client, &folder)[0]);
    for path in [&file, &folder, &format!("{AT}/new"), &AT.to_owned()] {
        assert!(client.store(path, b"x").code >= 500, "{path}");
        for verb in [
            "DELE",
            "RMD",
            "MKD",
            "SITE CHMOD 755",
            "SITE UTIME 20010909014640",
        ] {
            assert!(
                client.command(&format!("{verb} {path}")).code >= 500,
                "{verb} {path}"
            );
        }
        client.command(&format!("RNFR {path}"));
        assert!(client.command("RNTO /out").code >= 400, "{path}");
    }
    assert_eq!(client.retrieve(&file).unwrap(), b"one");
    assert_eq!(daemon.content("docs/letter.txt").unwrap(), b"three");
}

#[test]
fn versions_need_the_right_to_read_and_to_list() {
    let daemon = filled();
    let mut owner = daemon.client();
    let folder = format!("{AT}/docs/letter.txt");
    let file = format!("{folder}/{}", names(&mut owner, &folder)[0]);
    let now = clock(&mut owner).now.0;
    daemon.add_user("lister", "el");
    daemon.add_user("reader", "er");
    let mut lister = daemon.client_as("lister", "secret");
    assert!(lister.take(&format!("NLST {folder}")).is_ok());
    assert!(lister.retrieve(&file).is_err());
    assert!(lister.retrieve("/.raspbox/history/gone").is_err());
    assert!(lister.retrieve(&format!("/.raspbox/at/{now}")).is_err());
    let mut reader = daemon.client_as("reader", "secret");
    assert!(reader.retrieve(&file).is_ok());
    assert!(reader.take(&format!("NLST {folder}")).is_err());
    reader.command(&format!("SIZE {file}")).expect(550);
    reader.command("SITE RBX CLOCK").expect(550);
    assert!(reader.retrieve("/.raspbox/history/gone").is_err());
}

#[test]
fn a_history_and_a_tree_of_the_past_are_told() {
    let daemon = filled();
    let mut client = daemon.client();
    let known = history(&mut client, "gone");
    assert_eq!(known.len(), 1);
    let ended = known[0].ended.as_ref().unwrap();
    assert_eq!((&*ended.by, &ended.how), ("raspbox", &How::Deleted));
    assert_eq!(history(&mut client, "docs/letter.txt").len(), 3);
    assert_eq!(history(&mut client, "never").len(), 0);

    let tree_at = |client: &mut Client, time: Mtime| -> Vec<String> {
        let bytes = client
            .retrieve(&format!("/.raspbox/at/{}", time.0))
            .unwrap();
        let frames: Vec<FeedFrame> = frames(&bytes);
        assert_eq!(frames[0], FeedFrame::Head { whole: true });
        assert!(matches!(frames.last(), Some(FeedFrame::Mark(_))));
        let path = |frame: &FeedFrame| match frame {
            FeedFrame::Entry { path, .. } => Some(path.to_string()),
            _ => None,
        };
        frames.iter().filter_map(path).collect()
    };
    let now = clock(&mut client);
    assert_eq!(tree_at(&mut client, now.now), ["docs", "docs/letter.txt"]);
    let then = known[0].since;
    assert_eq!(
        tree_at(&mut client, then),
        ["docs", "docs/letter.txt", "gone"]
    );
    assert_eq!(tree_at(&mut client, now.begun), [""; 0]);
    let early = format!("/.raspbox/at/{}", now.begun.0 - 1);
    client.retrieve(&early).unwrap_err().expect(550);
}

#[test]
fn a_restore_needs_the_right_to_write_and_sends_no_content() {
    let daemon = filled();
    daemon.add_user("reader", "elr");
    let op = Op::Restore {
        path: RelPath::parse("gone").unwrap(),
        expect: Expect::Absent,
        file: File {
            digest: Digest::of(b"gone"),
            size: 4,
            mtime: Mtime::from_parts(1_000_000_000, 0),
            executable: true,
        },
    };
    let commit = to_bytes(&[CommitFrame::Op(op), CommitFrame::End { ops: 1 }]);
    let request = |n| format!("/.raspbox/commit/{}", RequestId([n; 16]));
    let mut reader = daemon.client_as("reader", "secret");
    reader.store(&request(1), &commit).expect(226);
    assert_eq!(daemon.content("gone"), None);
    let mut client = daemon.client();
    client.store(&request(2), &commit).expect(226);
    assert_eq!(daemon.content("gone").unwrap(), b"gone");
    let restored = &history(&mut client, "gone")[0];
    assert!(matches!(&restored.entry, Entry::File(file) if file.executable));
    assert_eq!(restored.number, None);
}
