//! Disks that aren't like ext4: names that are one in any case, no exchange, no executable bits.

use super::{Change, Files, commit, file, files, files_below, mounted, open, path, put_one};
use raspbox_beneath::sim::{Fault, Traits, Unsynced};
use raspbox_protocol::Digest;
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::feed::FeedFrame;
use raspbox_store::{By, Faults};
use std::io::Write;

/// As drivers that know no exchange do it: the kernel says so, and what is replaced goes aside first.
#[test]
fn a_disk_that_exchanges_no_names_takes_what_replaces_something() {
    let (_entered, disk) = mounted(Traits {
        exchange: false,
        ..Traits::ext4()
    });
    let store = open(&Faults::default()).expect("opens");
    let mut expected = Files::new();
    let changes = [
        Change::Put("a", "one"),
        Change::Put("a", "two"),
        Change::Put("b", "three"),
        Change::Move("a", "b"),
    ];
    for change in changes {
        change.make(&store).expect("done");
        change.on(&mut expected);
        assert_eq!(files(&disk), expected);
    }
}

/// To Linux a rename between two spellings of one entry is done already, so it goes by way of another name;
/// the power is cut at each step of that.
#[test]
fn a_name_gets_another_case_where_both_are_one() {
    for (traits, from, to) in [
        (Traits::fat(), "a", "A"),
        (Traits::exfat(), "é", "É"),
        (Traits::apfs(), "é", "É"),
    ] {
        for folder in [false, true] {
            // An empty file is one as well.
            for content in ["mine", ""] {
                let steps =
                    (0..).take_while(|step| !respell(traits, (from, to), folder, content, *step));
                assert!(steps.count() > 1);
            }
        }
    }
}

/// Cuts the power at this step of a change of case; whether that was after its end.
fn respell(
    traits: Traits,
    (from, to): (&str, &str),
    folder: bool,
    content: &str,
    step: u64,
) -> bool {
    let inside = |at: &str| if folder { format!("{at}/f") } else { at.into() };
    let (_entered, disk) = mounted(traits);
    let by = By("ann".into());
    let store = open(&Faults::default()).expect("opens");
    if folder {
        store.make_folder(&path(from), &by).expect("made");
    }
    let mut staged = store.stage().expect("staged");
    staged.write_all(content.as_bytes()).expect("written");
    store.put(staged, &path(&inside(from)), &by).expect("put");
    disk.fail(disk.steps() + step, Fault::Die);
    let moved = store.rename(&path(from), &path(to), &by).is_ok();
    let whole = !disk.is_dead();
    drop(store);
    disk.crash(match step % 3 {
        0 => Unsynced::Dropped,
        1 => Unsynced::Kept,
        _ => Unsynced::Random(step),
    });
    disk.forgive();
    drop(open(&Faults::default()).expect("opens"));
    let expected = |at| Files::from([(inside(at), content.into())]);
    let found = files_below(&disk);
    let good = found == expected(to) || (!moved && found == expected(from));
    assert!(
        good,
        "{from}, folder: {folder}, {content:?}, step {step}: {found:?}"
    );
    assert!(moved || !whole);
    whole
}

/// Linux's FAT minds the case of accented letters, and somebody has put a file there: a client of ours is
/// refused, for any other it becomes a version.
#[test]
fn what_differs_in_the_case_of_an_accent_is_not_lost() {
    for ours in [true, false] {
        let (_entered, disk) = mounted(Traits::fat());
        let store = open(&Faults::default()).expect("opens");
        let by = By("ann".into());
        let mut staged = store.stage().expect("staged");
        staged.write_all(b"mine").expect("written");
        let version = store.put(staged, &path("é"), &by).expect("put");
        disk.user().write("É", b"somebody's").expect("written");
        if ours {
            let op = Op::Move {
                from: path("é"),
                expect: version,
                to: path("É"),
            };
            assert!(commit(&store, "move", &[CommitFrame::Op(op)]).is_err());
            let both = [("é", "mine"), ("É", "somebody's")];
            let both = both.map(|(name, content)| (name.to_owned(), content.to_owned()));
            assert_eq!(files(&disk), Files::from(both));
        } else {
            store.rename(&path("é"), &path("É"), &by).expect("renamed");
            assert_eq!(files(&disk), Files::from([("É".into(), "mine".into())]));
            let digest = Digest::of(b"somebody's").to_string();
            let kept = format!(".raspbox/versions/{}/{digest}", &digest[..2]);
            assert_eq!(disk.user().read(&kept).expect("kept"), b"somebody's");
        }
    }
}

/// What stands there in another case is known already, and is not taken for somebody's new file.
#[test]
fn what_is_spelled_otherwise_is_journalled_once() {
    for traits in [Traits::fat(), Traits::apfs()] {
        let (_entered, disk) = mounted(traits);
        let store = open(&Faults::default()).expect("opens");
        for (at, expect) in [("a", true), ("A", false)] {
            let op = Op::Put {
                path: path(at),
                expect: Expect::Absent,
                file: file(at),
            };
            let frames = [CommitFrame::Op(op), CommitFrame::Data(at.into())];
            assert_eq!(commit(&store, at, &frames).is_ok(), expect);
        }
        let mut told = Vec::new();
        let mut note = |frame| {
            if let FeedFrame::Entry { path, .. } = frame {
                told.push(path);
            }
            Ok(())
        };
        store.feed(None, &mut note).expect("fed");
        assert_eq!(told, [path("a")]);
        assert_eq!(files(&disk), Files::from([("a".into(), "a".into())]));
    }
}

/// A disk that keeps no such bits refuses them, and that is no trouble: the journal has it.
#[test]
fn a_disk_without_executable_bits_takes_what_is_executable() {
    let (_entered, disk) = mounted(Traits::fat());
    let store = open(&Faults::default()).expect("opens");
    commit(&store, "one", &put_one(true)).expect("done");
    assert_eq!(files(&disk), Files::from([("a".into(), "one".into())]));
}
