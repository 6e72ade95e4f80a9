//! Commits and lists that lie.

use crate::harness::Daemon;
use crate::oracle::Oracle;
use raspbox_protocol::commit::{CommitFrame, Expect, OPS_MAX, Op};
use raspbox_protocol::special::RequestId;
use raspbox_protocol::wire::{FRAME_MAX_BYTES, to_bytes};
use raspbox_protocol::{Digest, File, Mtime, RelPath, Version};

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
    let mut client = daemon.client();
    client
        .store(&format!("/.raspbox/commit/{id}"), content)
        .code
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
    }
    assert_eq!(commit(&daemon, 99, &honest), 226);
    assert_eq!(daemon.content("a").unwrap(), b"x");
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
