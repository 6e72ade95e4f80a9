//! Streams of what changes, and who doesn't take them.

use crate::client::{Client, Wire};
use crate::harness::{Daemon, eventually};
use crate::oracle::Oracle;
use crate::transfers::sessions;
use raspbox_protocol::commit::{CommitFrame, OPS_MAX, Op};
use raspbox_protocol::special::RequestId;
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Cursor, RelPath, info::Info};
use std::io::Read;

/// Makes so many folders that what a stream tells of them fits into no socket's buffers.
fn fill(client: &mut Client) {
    let long = ["x".repeat(240), "y".repeat(240), "z".repeat(240)].join("/");
    for folder in [&long[..240], &long[..481], &long] {
        client.command(&format!("MKD /{folder}")).expect(257);
    }
    for commit in 0..2_u8 {
        let folder = |n: usize| {
            CommitFrame::Op(Op::MakeFolder {
                path: RelPath::parse(&format!("{long}/{commit} {n}")).unwrap(),
            })
        };
        let ops = u32::try_from(OPS_MAX).unwrap();
        let frames = (0..OPS_MAX).map(folder);
        let bytes = to_bytes(&frames.chain([CommitFrame::End { ops }]).collect::<Vec<_>>());
        let id = RequestId([commit; 16]);
        client
            .store(&format!("/.raspbox/commit/{id}"), &bytes)
            .expect(226);
    }
}

fn cursor(client: &mut Client) -> Cursor {
    let info = client.take_text("RETR /.raspbox/info");
    info.parse::<Info>().unwrap().cursor
}

/// Somebody who asks for a stream and takes its first byte.
fn slow(daemon: &Daemon, what: &str) -> (Client, Wire) {
    let mut client = daemon.client();
    let mut data = client.open();
    client
        .command(&format!("RETR /.raspbox/{what}"))
        .expect(150);
    data.read_exact(&mut [0]).unwrap();
    (client, data)
}

#[test]
fn whoever_takes_no_changes_holds_up_nobody_and_is_shown_out() {
    let daemon = Daemon::with("[limits]\nidle_timeout_s = 10");
    let mut writer = daemon.client();
    let since = cursor(&mut writer);
    fill(&mut writer);
    let oracle = Oracle::before(&daemon);
    let crowd: Vec<_> = (0..3)
        .flat_map(|_| [format!("events/{since}"), "tree".into()])
        .map(|what| slow(&daemon, &what))
        .collect();
    // What happens meanwhile goes on, and they are not waited for.
    let mut other = daemon.client();
    for n in 0..50 {
        other.store(&format!("/{n}"), b"x").expect(226);
    }
    drop(other);
    drop(writer);
    eventually("all are shown out", || sessions(&daemon) == 0);
    drop(crowd);
    oracle.after(&daemon);
}
