//! Commits and lists that lie.

use crate::harness::Daemon;
use crate::oracle::Oracle;
use raspbox_protocol::commit::{CommitFrame, Expect, OPS_MAX, Op};
use raspbox_protocol::compressed::CompressedWriter;
use raspbox_protocol::special::{Form, RequestId, Special};
use raspbox_protocol::wire::{DATA_MAX_BYTES, FRAME_MAX_BYTES, to_bytes};
use raspbox_protocol::{Digest, File, Mtime, RelPath, Version};
use std::io::Write;

fn path(text: &str) -> RelPath {
    RelPath::parse(text).unwrap()
}

fn put(name: &str, size: u64) -> CommitFrame {
    CommitFrame::Op(Op::Put {
        path: path(name),
        expect: Expect::Absent,
        file: File {
            digest: Digest::of(b"x"),
            size,
            mtime: Mtime(0),
            executable: false,
        },
    })
}

/// Sends a commit, and returns the reply's code.
fn commit(daemon: &Daemon, n: u8, content: &[u8]) -> u32 {
    let id = RequestId([n; 16]);
    send(daemon, &Special::Commit(id, Form::Plain), content)
}

/// The same, of what says that it is compressed.
fn commit_zst(daemon: &Daemon, n: u8, content: &[u8]) -> u32 {
    let id = RequestId([n; 16]);
    send(daemon, &Special::Commit(id, Form::Zstd), content)
}

fn send(daemon: &Daemon, special: &Special, content: &[u8]) -> u32 {
    let mut client = daemon.client();
    client.store(&special.to_string(), content).code
}

fn compressed(content: &[u8]) -> Vec<u8> {
    let mut to = Vec::new();
    let mut writer = CompressedWriter::new(&mut to).unwrap();
    writer.write_all(content).unwrap();
    writer.flush().unwrap();
    drop(writer);
    to
}

#[test]
fn lengths_that_lie_are_refused_and_apply_nothing() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let end = |ops| CommitFrame::End { ops };
    let data = |bytes: &[u8]| CommitFrame::Data(bytes.to_vec());
    let honest = to_bytes(&[put("a", 1), data(b"x"), end(1)]);
    let cases: Vec<Vec<u8>> = vec![
        // More content than said, less, none, without end, another count.
        to_bytes(&[put("a", 1), data(b"xx"), end(1)]),
        to_bytes(&[put("a", 2), data(b"x"), end(1)]),
        to_bytes(&[put("a", u64::MAX), data(b"x"), end(1)]),
        to_bytes(&[put("a", 1), end(1)]),
        to_bytes(&[put("a", 1), data(b"x"), end(7)]),
        to_bytes(&[put("a", 1), data(b"x"), end(u32::MAX)]),
        to_bytes(&[data(b"x"), end(0)]),
        honest[..honest.len() - 1].to_vec(),
        [honest.clone(), honest.clone()].concat(),
        // Frames as long as there is no memory for.
        vec![0xff; 64],
        vec![0xff; FRAME_MAX_BYTES + 64],
        (0..=255).collect(),
    ];
    for (n, content) in (1..).zip(&cases) {
        let before = daemon.content("a");
        let code = commit(&daemon, n, content);
        // A content that isn't what was said is an outcome of its operation, not of the commit.
        assert!(
            daemon.content("a") == before,
            "case {n} ({code}) was applied"
        );
        let code = commit_zst(&daemon, 100 + n, &compressed(content));
        assert!(
            daemon.content("a") == before,
            "case {n} ({code}) was applied, compressed"
        );
    }
    assert_eq!(commit(&daemon, 99, &honest), 226);
    assert_eq!(daemon.content("a").unwrap(), b"x");
    oracle.after(&daemon);
}

#[test]
fn what_is_no_zstd_is_refused_and_applies_nothing() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let end = CommitFrame::End { ops: 1 };
    let honest = to_bytes(&[put("a", 1), CommitFrame::Data(b"x".to_vec()), end]);
    let good = compressed(&honest);
    let mut torn = good.clone();
    torn[10] ^= 0x40;
    // A window of 128 MiB, which a reader would have to keep.
    let wide = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 17 << 3, 0x01, 0x00, 0x00];
    let cases: [&[u8]; 7] = [
        b"",
        &honest,
        &torn,
        &good[..good.len() - 1],
        &[&good[..], &good].concat(),
        &[0xff; 4096],
        &wide,
    ];
    for (n, content) in (1..).zip(cases) {
        let code = commit_zst(&daemon, n, content);
        assert!(code >= 400, "case {n}: {code}");
        assert_eq!(daemon.content("a"), None, "case {n} was applied");
    }
    assert_eq!(commit_zst(&daemon, 99, &good), 226);
    assert_eq!(daemon.content("a").unwrap(), b"x");
    oracle.after(&daemon);
}

/// Half a GiB of nothing in a few KiB: it costs the time to write it, and no memory.
#[test]
fn much_that_comes_out_of_little_costs_no_memory() {
    const PIECES: usize = 2048;
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut bytes = Vec::new();
    let mut writer = CompressedWriter::new(&mut bytes).unwrap();
    let size = (PIECES * DATA_MAX_BYTES) as u64;
    writer.write_all(&to_bytes(&[put("a", size)])).unwrap();
    let piece = to_bytes(&[CommitFrame::Data(vec![0; DATA_MAX_BYTES])]);
    for _ in 0..PIECES {
        writer.write_all(&piece).unwrap();
    }
    writer
        .write_all(&to_bytes(&[CommitFrame::End { ops: 1 }]))
        .unwrap();
    writer.flush().unwrap();
    drop(writer);
    assert!(bytes.len() as u64 * 32 < size, "{}", bytes.len());
    // Its hash is another one, which is told as the outcome.
    assert_eq!(commit_zst(&daemon, 1, &bytes), 226);
    assert_eq!(daemon.content("a"), None);
    oracle.after(&daemon);
}

#[test]
fn a_batch_that_is_too_large_is_refused() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let folders = (0..=OPS_MAX).map(|n| {
        CommitFrame::Op(Op::MakeFolder {
            path: path(&format!("f{n}")),
        })
    });
    let mut frames: Vec<CommitFrame> = folders.collect();
    frames.push(CommitFrame::End {
        ops: u32::try_from(OPS_MAX + 1).unwrap(),
    });
    let code = commit(&daemon, 1, &to_bytes(&frames));
    assert!(code >= 400, "{code}");
    assert!(!daemon.folder().join("f0").exists(), "all or nothing");
    oracle.after(&daemon);
}

#[test]
fn a_batch_as_long_as_allowed_costs_little_memory() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    // The longest paths, so that little is sent and much is kept.
    let long = "x".repeat(200);
    let ops = (0..OPS_MAX).map(|n| {
        CommitFrame::Op(Op::Delete {
            path: path(&format!("{long}/{long}/{n}")),
            expect: Version(1),
        })
    });
    let mut frames: Vec<CommitFrame> = ops.collect();
    frames.push(CommitFrame::End {
        ops: u32::try_from(OPS_MAX).unwrap(),
    });
    commit(&daemon, 1, &to_bytes(&frames));
    oracle.after(&daemon);
}

#[test]
fn lists_that_lie_are_refused() {
    let daemon = Daemon::start();
    let oracle = Oracle::before(&daemon);
    let mut client = daemon.client();
    let id = RequestId([3; 16]);
    for kind in ["want", "holds"] {
        for content in [&[0xff; 4096][..], &[0; 4096], b"", b"\x01\x00\x00"] {
            let reply = client.store(&format!("/.raspbox/{kind}/{id}"), content);
            assert!(reply.code >= 400, "{kind}: {}", reply.text);
            if !client.is_served() {
                client = daemon.client();
            }
        }
    }
    oracle.after(&daemon);
}
