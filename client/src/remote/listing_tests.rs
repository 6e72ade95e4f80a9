use super::{Format, Item, Kind, LINE_MAX_BYTES, Line, ListingError, NotALine};
use super::{facts, long, mlst, read, time, time_text};
use raspbox_protocol::Mtime;
use raspbox_protocol::path::PathError;

fn file(size: u64, mtime: i64) -> Kind {
    Kind::File {
        size: Some(size),
        mtime: Some(mtime),
    }
}

fn item(name: &str, kind: Kind) -> Result<Line, NotALine> {
    Ok(Line::Item(Item {
        name: name.into(),
        kind,
        unique: None,
    }))
}

#[test]
fn facts_are_read_as_rfc_3659_has_them() {
    let check = |line: &str, expected| assert_eq!(facts(line), expected, "{line:?}");
    let modify = "modify=20261122164101";
    let at = 1_795_365_661;
    check(
        &format!("type=file;size=3;perm=r;{modify}; a b"),
        item("a b", file(3, at)),
    );
    check(
        "Size=3;Type=FILE;Modify=20261122164101.123;  lead",
        item(" lead", file(3, at)),
    );
    check("type=dir; d", item("d", Kind::Folder));
    check("type=cdir; whatever", Ok(Line::Dots));
    check("type=pdir; ..", Ok(Line::Dots));
    check("type=dir; .", Ok(Line::Dots));
    check(
        "type=OS.unix=slink:/etc/passwd; l",
        item("l", Kind::Symlink),
    );
    check("type=OS.unix=chr-1/3; null", item("null", Kind::Other));
    check("perm=r; mystery", item("mystery", Kind::Other));
    check(" no facts", item("no facts", Kind::Other));
    check(
        "type=file; bare",
        item(
            "bare",
            Kind::File {
                size: None,
                mtime: None,
            },
        ),
    );
    for bad in [
        "noname",
        "type=file;size=3;x",
        "type=file;size=-3; x",
        "type=file;size=99999999999999999999; x",
        "type=file;modify=yesterday; x",
        "type=file;modify=20261322000000; x",
        "garbage here",
    ] {
        check(bad, Err(NotALine));
    }
}

#[test]
fn unique_tells_folders_apart() {
    let Ok(Line::Item(item)) = facts("type=dir;unique=801e33; d") else {
        panic!("an item");
    };
    assert_eq!(item.unique.as_deref(), Some("801e33"));
}

#[test]
fn mlst_speaks_of_one_thing() {
    let check = |reply: &str, expected| assert_eq!(mlst(reply), expected, "{reply:?}");
    check(
        "250-Listing \"a\":\r\n type=file;size=1;modify=19700101000000; /x/a b\r\n250 End",
        Some(file(1, 0)),
    );
    check("250-\r\n type=cdir; /\r\n250 End", Some(Kind::Folder));
    check("250-\r\n type=dir; /x\r\n250 End", Some(Kind::Folder));
    check("250 fine", None);
}

#[test]
fn long_lines_are_read_as_servers_print_them() {
    let check = |line: &str, expected| assert_eq!(long(line), expected, "{line:?}");
    let year = 1_792_800_000;
    assert_eq!(time("20261024000000"), Some(year));
    // vsftpd, pyftpdlib, pure-ftpd
    check(
        "-rw-r--r--    1 0        0              12 Oct 24  2026 a file",
        item("a file", file(12, year)),
    );
    check(
        "-rw-r--r--   1 root     root           12 Jan 01 00:01  lead",
        item(" lead", file(12, 60)),
    );
    check(
        "drwxr-xr-x    2 1000     1000         4096 Nov 22 16:41 d",
        item("d", Kind::Folder),
    );
    check(
        "lrwxrwxrwx    1 0 0 4 Nov 22 16:41 l -> /etc",
        item("l", Kind::Symlink),
    );
    check(
        "prw-------    1 0 0 0 Nov 22 16:41 pipe",
        item("pipe", Kind::Other),
    );
    // Without a group.
    check(
        "-rw-r--r--   1 owner     12 Oct 24  2026 x",
        item("x", file(12, year)),
    );
    // An owner who is called like a month, and a name like a line.
    check(
        "-rw-r--r-- 1 may jun 12 Oct 24 2026 -rw- 1 a b 3 Jan 01 2020 y",
        item("-rw- 1 a b 3 Jan 01 2020 y", file(12, year)),
    );
    check(
        "10-24-26  12:00AM                   12 x",
        item("x", file(12, year)),
    );
    check(
        "10-24-26  12:00PM       <DIR>          d",
        item("d", Kind::Folder),
    );
    check("total 12", Ok(Line::Nothing));
    check("drwxr-xr-x 2 0 0 4096 Nov 22 16:41 .", Ok(Line::Dots));
    check("drwxr-xr-x 2 0 0 4096 Nov 22 16:41 ..", Ok(Line::Dots));
    for bad in [
        "hello",
        "-rw-r--r--",
        "-rw-r--r-- 1 0 0 12 Nov 22 16:41",
        "-rw-r--r-- 1 0 0 twelve Nov 22 16:41 x",
        "?rw-r--r-- 1 0 0 12 Nov 22 16:41 x",
    ] {
        check(bad, Err(NotALine));
    }
}

#[test]
fn hostile_names_are_no_names() {
    let check = |name: &str, expected: Result<&str, PathError>| {
        let item = Item {
            name: name.into(),
            kind: Kind::Folder,
            unique: None,
        };
        assert_eq!(item.checked_name(), expected, "{name:?}");
        assert!(!item.shown_name().contains(['/', '\n', '\0']));
    };
    check("fine", Ok("fine"));
    check("", Err(PathError::Empty));
    check("/", Err(PathError::Empty));
    check("/etc/passwd", Err(PathError::Empty));
    check("../x", Err(PathError::Empty));
    check("..", Err(PathError::Dots));
    check("a\u{1b}[2J", Err(PathError::Control));
    check("a\0b", Err(PathError::Control));
    check("caf\u{fffd}", Err(PathError::NotUtf8));
    check(&"x".repeat(256), Err(PathError::LongName));
}

#[test]
fn listings_end() {
    let good = b"type=cdir; .\r\ntype=dir; a\r\n\r\ntype=dir; b";
    let (items, has_dots) = read(&good[..], Format::Facts).expect("a listing");
    let names: Vec<_> = items.iter().map(|item| item.name.as_str()).collect();
    assert_eq!((names, has_dots), (vec!["a", "b"], true));

    let endless_line = std::io::repeat(b'x');
    assert!(matches!(
        read(endless_line, Format::Facts),
        Err(ListingError::TooMuch(_))
    ));
    let longest = format!("type=dir; {}\n", "x".repeat(LINE_MAX_BYTES - 11));
    assert!(read(longest.as_bytes(), Format::Facts).is_ok());
    assert!(matches!(
        read(&b"type=dir; a\r\ngarbage\r\n"[..], Format::Facts),
        Err(ListingError::Line(_))
    ));
}

#[test]
fn times_go_both_ways() {
    for (text, secs) in [
        ("19700101000000", 0),
        ("20000229235959", 951_868_799),
        ("20261122164101", 1_795_365_661),
        ("19691231235959", -1),
        ("99991231235959", 253_402_300_799),
    ] {
        assert_eq!(time(text), Some(secs), "{text}");
        if secs < 9_000_000_000 {
            let back = time_text(Mtime::from_parts(secs, 999_999_999));
            assert_eq!(back.as_deref(), Some(text));
        }
    }
    for bad in [
        "",
        "2026",
        "2026112216410x",
        "20260022000000",
        "20261122250000",
    ] {
        assert_eq!(time(bad), None, "{bad:?}");
    }
}
