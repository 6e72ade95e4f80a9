//! Ordinary FTP.

use crate::client::Client;
use crate::harness::{Daemon, eventually};
use raspbox_protocol::Digest;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};

/// Longer than one piece of the data path, and no multiple of one.
fn large(seed: u8) -> Vec<u8> {
    let number = (0_u32..3 << 18).map(|i| i.wrapping_mul(2_654_435_761).wrapping_add(seed.into()));
    number
        .flat_map(u32::to_le_bytes)
        .take((3 << 20) - 77)
        .collect()
}

#[test]
fn a_file_comes_back_as_it_was_stored() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let piece = 256 << 10;
    for (name, content) in [
        ("empty", vec![]),
        ("small", b"hello".to_vec()),
        ("one piece", vec![7; piece]),
        ("less", vec![8; piece - 1]),
        ("more", vec![9; piece + 1]),
        ("large", large(0)),
    ] {
        client.store(name, &content).expect(226);
        assert!(daemon.content(name).unwrap() == content, "{name}");
        assert!(client.retrieve(name).unwrap() == content, "{name}");
        let size = client.command(&format!("SIZE {name}")).expect(213);
        assert_eq!(size.text, format!("213 {}\r\n", content.len()));
        let hash = client.command(&format!("SITE HASH {name}")).expect(213);
        assert_eq!(hash.text, format!("213 {}\r\n", Digest::of(&content)));
    }
    client.store("small", b"again").expect(226);
    assert_eq!(client.retrieve("small").unwrap(), b"again");
}

#[test]
fn transfers_are_resumed_and_files_appended_to() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    let content = large(1);
    client.store("a", &content[..1_000_000]).expect(226);
    client.command("REST 1000000").expect(350);
    client.store("a", &content[1_000_000..]).expect(226);
    assert!(daemon.content("a").unwrap() == content);
    client.command("REST 2999999").expect(350);
    assert!(client.retrieve("a").unwrap() == content[2_999_999..]);
    assert!(
        client.retrieve("a").unwrap() == content,
        "the position counts once"
    );
    client.store("b", b"abc").expect(226);
    client.give("APPE b", b"def").expect(226);
    client.give("APPE new", b"x").expect(226);
    assert_eq!(daemon.content("b").unwrap(), b"abcdef");
    assert_eq!(daemon.content("new").unwrap(), b"x");
}

#[test]
fn a_position_is_not_left_over_for_the_next_transfer() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("short", b"short").expect(226);
    client.store("long", b"0123456789").expect(226);
    client.command("REST 8").expect(350);
    assert_eq!(
        client.retrieve("short").unwrap_err().code,
        550,
        "it is shorter"
    );
    // libunftp still has the 8. Whatever comes now must not write or read from there.
    assert!(client.is_gone());
    assert_eq!(daemon.content("long").unwrap(), b"0123456789");
    daemon.client().store("long", b"new").expect(226);
    assert_eq!(daemon.content("long").unwrap(), b"new");
}

#[test]
fn folders_are_made_listed_entered_and_removed() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.command("MKD docs").expect(257);
    client.command("MKD /docs/deep").expect(257);
    client.command("MKD docs").expect(550);
    client.command("CWD docs").expect(250);
    client.store("ä b.txt", b"hello").expect(226);
    client.command("MKD sub").expect(257);
    assert_eq!(client.take_text("NLST"), "deep\r\nsub\r\nä b.txt\r\n");
    let list = client.take_text("LIST -la");
    assert!(list.contains("-rw-r--r--") && list.contains(" 5 ") && list.contains(" ä b.txt\r\n"));
    assert!(
        list.contains("drwxr-xr-x") && list.contains(" deep\r\n"),
        "{list}"
    );
    let mlsd = client.take_text("MLSD");
    assert!(
        mlsd.contains("type=file;size=5;modify=") && mlsd.contains("; ä b.txt\r\n"),
        "{mlsd}"
    );
    assert!(mlsd.contains("type=dir;size=0;"), "{mlsd}");
    // Relative paths reach the backend unjoined here.
    assert!(
        client
            .command("MLST ä b.txt")
            .expect(250)
            .text
            .contains("size=5")
    );
    assert!(
        client
            .command("STAT ä b.txt")
            .expect(200)
            .text
            .contains("ä b.txt")
    );
    assert!(
        client
            .command("STAT /docs")
            .expect(200)
            .text
            .contains("deep")
    );
    assert_eq!(client.take_text("NLST /docs/deep"), "");
    assert_eq!(client.take_text("LIST /no"), "", "as vsftpd does");
    assert_eq!(client.take_text("MLSD /no/deeper"), "");
    client.command("MLST /no").expect(550);
    client.command("CWD ..").expect(250);
    client.command("CWD no").expect(550);
    client.command("CWD docs").expect(250);
    client.command("CWD deep").expect(250);
    client.command("CDUP").expect(250);
    assert!(
        client
            .command("MLST ä b.txt")
            .expect(250)
            .text
            .contains("size=5")
    );
    client.command("CDUP").expect(250);
    client.command("MLST ä b.txt").expect(550);
    client.command("CWD /docs/ä b.txt").expect(550);
    client.command("RMD docs").expect(550);
    client.command("DELE docs/ä b.txt").expect(250);
    client.command("RMD docs/sub").expect(250);
    client.command("RMD docs/deep").expect(250);
    client.command("RMD docs").expect(250);
    assert_eq!(client.take_text("NLST"), "");
}

#[test]
fn files_are_renamed_and_deleted() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("a", b"1").expect(226);
    client.command("MKD sub").expect(257);
    client.command("RNFR a").expect(350);
    client.command("RNTO sub/b").expect(250);
    assert_eq!(daemon.content("a"), None);
    assert_eq!(daemon.content("sub/b").unwrap(), b"1");
    client.command("RNFR a").expect(550);
    client.command("RNTO c").expect(450);
    client.command("RNFR sub").expect(350);
    client.command("RNTO sub2").expect(250);
    client.command("DELE sub2/b").expect(250);
    client.command("DELE sub2/b").expect(550);
    client.command("DELE sub2").expect(550);
    assert_eq!(daemon.content("sub2/b"), None);
}

#[test]
fn times_and_executable_bits_are_set() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.command("MKD d").expect(257);
    client.command("CWD d").expect(250);
    client.store("a b", b"x").expect(226);
    client.command("SITE UTIME 20010909014640 a b").expect(200);
    assert_eq!(
        client.command("MDTM a b").expect(213).text,
        "213 20010909014640\r\n"
    );
    let three = "20200101000000 20020909014640 20200101000000 UTC";
    client
        .command(&format!("SITE UTIME /d/a b {three}"))
        .expect(200);
    assert_eq!(
        client.command("MDTM /d/a b").expect(213).text,
        "213 20020909014640\r\n"
    );
    client.command("SITE UTIME yesterday a b").expect(501);
    client.command("SITE UTIME 20010909014640 no").expect(550);
    client.command("SITE CHMOD 755 a b").expect(200);
    let mode = std::fs::metadata(daemon.folder().join("d/a b"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o100, 0o100);
    assert!(client.take_text("LIST").starts_with("-rwxr-xr-x"));
    client.store("a b", b"y").expect(226);
    assert!(
        client.take_text("LIST").starts_with("-rwxr-xr-x"),
        "kept by an upload"
    );
    client.command("SITE CHMOD 644 a b").expect(200);
    assert!(client.take_text("LIST").starts_with("-rw-r--r--"));
    client.command("SITE CHMOD u+x a b").expect(501);
    // Unknown verbs end in libunftp.
    client.command("MFMT 20010909014640 a").expect(500);
}

#[test]
fn a_cut_upload_leaves_what_was_there() {
    let daemon = Daemon::with("tls = 'optional'");
    let content = large(2);
    let old = large(3);
    let mut client = daemon.client();
    client.store("a", &old).expect(226);
    for cut_after in [0, 5, 600_000, 2_500_000] {
        for name in ["a", "new"] {
            // On TLS: no close_notify, the control connection stays.
            let mut client = daemon.client();
            let mut data = client.open();
            client.command(&format!("STOR {name}")).expect(150);
            data.write_all(&content[..cut_after]).unwrap();
            data.flush().unwrap();
            data.cut();
            client.reply().unwrap().expect(426);
            // In plain: all connections are gone, as when a laptop goes to sleep.
            let mut client = Client::connect(daemon.address);
            client.log_in("raspbox", &daemon.password).expect(230);
            let mut data = client.open();
            client.command(&format!("STOR {name}")).expect(150);
            data.write_all(&content[..cut_after]).unwrap();
            client.vanish();
            data.cut();
        }
    }
    eventually("all uploads have ended", || {
        daemon.log().matches("session ended").count() >= 16
    });
    assert!(daemon.content("a").unwrap() == old);
    assert_eq!(daemon.content("new"), None);
    assert_eq!(client.take_text("NLST"), "a\r\n");
}

#[test]
fn a_transfer_that_the_client_gives_up_is_over() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    client.store("/a", &vec![1; 16 << 20]).expect(226);
    let mut data = client.open();
    client.command("RETR /a").expect(150);
    std::io::Read::read_exact(&mut data, &mut [0; 1000]).unwrap();
    // libunftp comes to an ABOR only after the transfer, which closing the connection ends.
    drop(data);
    client.send("ABOR");
    let codes = [client.reply().unwrap().code, client.reply().unwrap().code];
    assert!(codes.contains(&426) && codes.contains(&226), "{codes:?}");
    assert_eq!(client.retrieve("/a").unwrap().len(), 16 << 20);
}

#[test]
fn nothing_outside_the_folder_can_be_reached() {
    let daemon = Daemon::start();
    let outside = daemon.folder().parent().unwrap().join("secret");
    std::fs::write(&outside, b"secret").unwrap();
    std::fs::create_dir(daemon.folder().join("real")).unwrap();
    symlink(&outside, daemon.folder().join("link")).unwrap();
    symlink(
        daemon.folder().parent().unwrap(),
        daemon.folder().join("folder"),
    )
    .unwrap();
    symlink("..", daemon.folder().join("real/up")).unwrap();
    let mut client = daemon.client();
    for path in [
        "../secret",
        "/../secret",
        "real/../../secret",
        "/./../secret",
        "//../secret",
        "link",
        "folder/secret",
        "/folder/secret",
        "real/up/../secret",
        "real/up/up/secret",
    ] {
        assert!(client.retrieve(path).is_err(), "{path}");
        let reply = client.store(path, b"evil");
        assert!(
            path == "link" || path == "real/up/../secret" || reply.code >= 400,
            "{path}: {reply:?}"
        );
        if reply.code < 400 {
            // A symlink was replaced by a file, or a file made in the folder.
            client.command(&format!("DELE {path}")).expect(250);
        }
        let listed = client.take(&format!("LIST {path}")).unwrap_or_default();
        assert!(listed.is_empty() || path == "link", "{path}");
        assert_ne!(client.command(&format!("DELE {path}")).code, 250, "{path}");
        assert_ne!(client.command(&format!("MKD {path}/x")).code, 257, "{path}");
        assert_ne!(
            client.command(&format!("SITE HASH {path}")).code,
            213,
            "{path}"
        );
        assert_ne!(
            client.command(&format!("SITE CHMOD 777 {path}")).code,
            200,
            "{path}"
        );
    }
    for path in ["..", "/..", "folder", "real/up", "real/../.."] {
        client.command(&format!("CWD {path}")).expect(550);
    }
    client.store("inside", b"x").expect(226);
    client.command("RNFR inside").expect(350);
    assert!(client.command("RNTO ../outside").code >= 500);
    client.command("RNFR inside").expect(350);
    assert!(client.command("RNTO folder/outside").code >= 500);
    assert_eq!(std::fs::read(&outside).unwrap(), b"secret");
    assert_eq!(daemon.content("inside").unwrap(), b"x");
    assert!(!outside.with_file_name("outside").exists());
}

#[test]
fn raspbox_own_folder_is_not_there_for_ordinary_commands() {
    let daemon = Daemon::start();
    let mut client = daemon.client();
    assert!(daemon.folder().join(".raspbox").is_dir());
    for command in ["NLST", "LIST", "MLSD", "LIST -a"] {
        assert!(!client.take_text(command).contains("raspbox"), "{command}");
    }
    let inside = std::fs::read_dir(daemon.folder().join(".raspbox")).unwrap();
    let mut paths: Vec<String> = inside
        .map(|entry| {
            format!(
                "/.raspbox/{}",
                entry.unwrap().file_name().into_string().unwrap()
            )
        })
        .collect();
    paths.extend([
        "/.raspbox".into(),
        "/.RASPBOX/journal".into(),
        "/x/../.raspbox/x".into(),
    ]);
    for path in paths {
        assert!(client.retrieve(&path).is_err(), "{path}");
        assert!(client.store(&path, b"x").code >= 400, "{path}");
        // Where versions are looked through, by other names than they have on the drive.
        let is_versions = path == "/.raspbox/versions";
        let listed = client.take(&format!("LIST {path}"));
        assert!(
            listed.is_err() || (is_versions && listed.unwrap().is_empty()),
            "{path}"
        );
        for verb in ["DELE", "RMD", "MKD", "CWD", "SIZE", "RNFR"] {
            // One may go there, as curl does on its way to /.raspbox/info, and that is all.
            let look = ["CWD", "SIZE", "RNFR"].contains(&verb);
            let allowed = (verb == "CWD" && path == "/.raspbox") || (look && is_versions);
            let refused = client.command(&format!("{verb} {path}")).code >= 500;
            assert_eq!(refused, !allowed, "{verb} {path}");
        }
    }
    client.command("CWD /.raspbox").expect(250);
    assert!(client.take("LIST").is_err());
    client.command("CWD /").expect(250);
    client.store("a", b"x").expect(226);
    client.command("RNFR a").expect(350);
    assert!(client.command("RNTO /.raspbox/a").code >= 500);
}

#[test]
fn names_that_are_not_utf8_are_refused_and_not_renamed() {
    let daemon = Daemon::with("tls = 'optional'");
    let mut client = Client::connect(daemon.address);
    client.log_in("raspbox", &daemon.password).expect(230);
    let _data = client.open();
    client.send("STOR a\u{fffd}b");
    client.reply().unwrap().expect(150);
    drop(_data);
    client.reply().unwrap().expect(553);
    assert!(client.command("MKD a\u{7}b").code >= 500);
    assert_eq!(client.take_text("NLST"), "");
}
