//! Each verb needs its letter.

use crate::client::{Client, Reply};
use crate::harness::Daemon;

/// A letter, and a command that needs it; both users see the same folder, made anew each time.
type Case = (char, &'static str, fn(&mut Client) -> Reply);

fn given(client: &mut Client, command: &str) -> Reply {
    client.take(command).map_or_else(
        |reply| reply,
        |_| Reply {
            code: 226,
            text: String::new(),
        },
    )
}

const CASES: [Case; 24] = [
    ('e', "CWD", |c| c.command("CWD /folder")),
    ('l', "LIST", |c| given(c, "LIST /")),
    ('l', "NLST", |c| given(c, "NLST /")),
    ('l', "MLSD", |c| given(c, "MLSD /")),
    ('l', "MLST", |c| c.command("MLST /file")),
    ('l', "STAT", |c| c.command("STAT /folder")),
    ('l', "SIZE", |c| c.command("SIZE /file")),
    ('l', "MDTM", |c| c.command("MDTM /file")),
    ('l', "HASH", |c| c.command("SITE HASH /file")),
    ('l', "info", |c| given(c, "RETR /.raspbox/info")),
    ('r', "info", |c| given(c, "RETR /.raspbox/info")),
    ('l', "tree", |c| given(c, "RETR /.raspbox/tree")),
    ('r', "RETR", |c| given(c, "RETR /file")),
    ('a', "APPE", |c| c.give("APPE /file", b"more")),
    ('l', "APPE looks first", |c| c.give("APPE /file", b"more")),
    ('d', "DELE", |c| c.command("DELE /file")),
    ('d', "RMD", |c| c.command("RMD /folder")),
    ('f', "RNTO", |c| {
        c.command("RNFR /file");
        c.command("RNTO /renamed")
    }),
    ('m', "MKD", |c| c.command("MKD /made")),
    ('w', "STOR", |c| c.store("/stored", b"x")),
    ('w', "STOR over", |c| c.store("/file", b"x")),
    ('M', "CHMOD", |c| c.command("SITE CHMOD 755 /file")),
    ('T', "UTIME", |c| {
        c.command("SITE UTIME 20010909014640 /file")
    }),
    ('a', "REST STOR", |c| {
        c.command("REST 2");
        c.store("/file", b"x")
    }),
];

#[test]
fn each_verb_is_refused_without_its_letter_and_done_with_all() {
    let daemon = Daemon::with("[limits]\nmax_sessions_per_address = 64");
    let (file, folder) = (daemon.folder().join("file"), daemon.folder().join("folder"));
    for (letter, name, act) in CASES {
        if !user_exists(&daemon, letter) {
            daemon.add_user(&user_of(letter), &"elradfmwMT".replace(letter, ""));
        }
        let mut owner = daemon.client();
        for command in ["DELE /renamed", "RMD /made", "DELE /stored", "MKD /folder"] {
            owner.command(command);
        }
        owner.store("/file", b"content").expect(226);
        let reply = act(&mut daemon.client_as(&user_of(letter), "secret"));
        assert!(reply.code >= 400, "{name} without {letter}: {reply:?}");
        assert_eq!(
            std::fs::read(&file).unwrap(),
            b"content",
            "{name} without {letter}"
        );
        assert!(folder.is_dir(), "{name} without {letter}");
        assert!(
            !daemon.folder().join("stored").exists(),
            "{name} without {letter}"
        );
        let reply = act(&mut daemon.client());
        assert!(reply.code < 400, "{name} with all: {reply:?}");
    }
}

fn user_of(letter: char) -> String {
    format!("without-{}", u32::from(letter))
}

fn user_exists(daemon: &Daemon, letter: char) -> bool {
    let users = daemon.control(&["user", "list"]).stdout;
    String::from_utf8(users)
        .unwrap()
        .contains(&format!("{} ", user_of(letter)))
}

#[test]
fn a_read_only_account_changes_nothing() {
    let daemon = Daemon::start();
    daemon.client().store("/file", b"content").expect(226);
    daemon.add_user("reader", "elr");
    let mut reader = daemon.client_as("reader", "secret");
    assert_eq!(reader.retrieve("/file").unwrap(), b"content");
    assert!(
        reader
            .take_text("RETR /.raspbox/info")
            .contains("writable false")
    );
    for command in [
        "DELE /file",
        "MKD /x",
        "RMD /x",
        "SITE CHMOD 755 /file",
        "SITE UTIME 20010909014640 /file",
    ] {
        reader.command(command).expect(550);
    }
    reader.store("/file", b"x").expect(550);
    reader.store("/new", b"x").expect(550);
    reader.give("APPE /file", b"x").expect(550);
    assert!(reader.is_gone(), "after a failed transfer with a position");
    assert_eq!(daemon.content("file").unwrap(), b"content");
    assert_eq!(daemon.content("new"), None);
}
