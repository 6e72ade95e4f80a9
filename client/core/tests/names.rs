//! Names of conflict copies, and what the other side can't hold.

use raspbox_core::names::{check, check_plan, clashes, conflict_name, is_conflict_copy};
use raspbox_core::plan::{Plan, Trouble};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::info::Holds;
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use std::time::Duration;

const ANYTHING: Holds = Holds {
    case_sensitive: true,
    symlinks: true,
    dos_names: false,
    file_max_bytes: u64::MAX,
    granularity: Duration::from_nanos(1),
};

const FAT: Holds = Holds {
    case_sensitive: false,
    symlinks: false,
    dos_names: true,
    file_max_bytes: 10,
    granularity: Duration::from_secs(2),
};

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

/// A tree from a text such as `a=x d/ d/l>t`.
fn tree(text: &str) -> Folder<()> {
    let mut tree = Folder::default();
    for word in text.split_whitespace() {
        let (name, entry) = if let Some(name) = word.strip_suffix('/') {
            (name, Entry::Folder)
        } else if let Some((name, target)) = word.split_once('>') {
            let target = LinkTarget::parse(target).expect("a good target");
            (name, Entry::Symlink(target))
        } else {
            let (name, content) = word.split_once('=').expect("a file has a content");
            (name, Entry::File(file(content)))
        };
        tree.insert(&path(name), Node::new(entry, ()))
            .expect("the parent is there");
    }
    tree
}

fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: Mtime(0),
        executable: false,
    }
}

#[test]
fn a_conflict_copy_stands_beside_the_file_and_keeps_its_extension() {
    let check = |name: &str, expected: &str| {
        let made = conflict_name(name, "pc", "2026-11-22", &|_| false);
        assert_eq!(made, expected);
        assert!(is_conflict_copy(&made), "{made}");
        assert_eq!(conflict_name(&made, "pc", "2026-11-22", &|_| false), made);
    };
    check("a.txt", "a (conflict pc 2026-11-22).txt");
    check("a", "a (conflict pc 2026-11-22)");
    check("a.b.c", "a.b (conflict pc 2026-11-22).c");
    check(".bashrc", ".bashrc (conflict pc 2026-11-22)");
    check(".a.conf", ".a (conflict pc 2026-11-22).conf");
    check("a.tar.gz", "a (conflict pc 2026-11-22).tar.gz");
    check(".tar.gz", ".tar (conflict pc 2026-11-22).gz");
    check("a.", "a. (conflict pc 2026-11-22)");
    check("Dr. No said", "Dr. No said (conflict pc 2026-11-22)");
    check(
        "a.averylongextension",
        "a.averylongextension (conflict pc 2026-11-22)",
    );
}

#[test]
fn there_is_never_a_conflict_of_a_conflict_copy() {
    let check = |name: &str, expected: &str| {
        let made = conflict_name(name, "pc", "2026-11-22", &|_| false);
        assert_eq!(made, expected);
    };
    check(
        "a (conflict tv 2020-01-02).txt",
        "a (conflict pc 2026-11-22).txt",
    );
    check(
        "a (conflict my tv 2020-01-02 17)",
        "a (conflict pc 2026-11-22)",
    );
    check(
        "a (conflict tv 2020-01-02) (conflict tv 2021-01-02).txt",
        "a (conflict pc 2026-11-22).txt",
    );
}

#[test]
fn what_only_looks_like_a_conflict_copy_is_none() {
    for name in [
        "a.txt",
        "a (conflict of interest).txt",
        "a (conflict pc 2026-11-22) final.txt",
        "a (conflict 2026-11-22).txt",
        "a (conflict pc 2026-11-2).txt",
        "a (conflict pc 2026-11-22 x).txt",
        "a (conflict pc 2026-11-22.txt",
        " (conflict pc 2026-11-22).txt",
    ] {
        assert!(!is_conflict_copy(name), "{name}");
    }
    assert_eq!(
        conflict_name("a (conflict of interest).txt", "pc", "2026-11-22", &|_| {
            false
        }),
        "a (conflict of interest) (conflict pc 2026-11-22).txt"
    );
}

#[test]
fn a_taken_name_gets_a_number() {
    let taken = [
        "a (conflict pc 2026-11-22).txt",
        "a (conflict pc 2026-11-22 2).txt",
    ];
    assert_eq!(
        conflict_name("a.txt", "pc", "2026-11-22", &|name| taken.contains(&name)),
        "a (conflict pc 2026-11-22 3).txt"
    );
}

#[test]
fn a_conflict_copy_has_a_legal_name_however_odd_what_it_is_made_of() {
    for name in [
        "x".repeat(255),
        "ü".repeat(127),
        format!("{}.txt", "€".repeat(83)),
    ] {
        let mut taken = Vec::new();
        for _ in 0..12 {
            let made = conflict_name(&name, &"ü:/)".repeat(50), "2026-11-22", &|name| {
                taken.iter().any(|taken| taken == name)
            });
            assert!(RelPath::parse(&made).is_ok(), "{made}");
            assert!(is_conflict_copy(&made), "{made}");
            let entry = Entry::Folder;
            assert_eq!(check(&path(&made), &entry, &FAT), Ok(()), "{made}");
            taken.push(made);
        }
        assert_eq!(name.ends_with(".txt"), taken[0].ends_with(".txt"));
    }
}

#[test]
fn what_a_drive_cannot_hold_is_said() {
    let refused = |name: &str, why: &str| {
        assert_eq!(
            check(&path(name), &Entry::Folder, &ANYTHING),
            Ok(()),
            "{name}"
        );
        let error = check(&path(name), &Entry::Folder, &FAT).expect_err(name);
        assert!(error.contains(why), "{error}");
    };
    for c in "\"*:<>?\\|".chars() {
        refused(&format!("a{c}b"), &format!("contains '{c}'"));
    }
    refused("a.", "ends with a dot");
    refused("a ", "ends with a space");
    refused("d:/a", "contains ':'");
    for name in ["con", "NUL.txt", "Com1", "lpt9.tar.gz", "AUX .c", "d/prn"] {
        refused(name, "device");
    }
    for good in [
        "a",
        " a",
        ".a",
        "a.b",
        "console",
        "com10",
        "com0",
        "ünï",
        "nul-1.txt",
    ] {
        assert_eq!(check(&path(good), &Entry::Folder, &FAT), Ok(()), "{good}");
    }
    let link = Entry::Symlink(LinkTarget::parse("t").expect("a good target"));
    assert_eq!(check(&path("l"), &link, &ANYTHING), Ok(()));
    assert!(check(&path("l"), &link, &FAT).is_err());
    let file = |content| Entry::File(file(content));
    assert_eq!(check(&path("a"), &file("ten bytes!"), &FAT), Ok(()));
    assert!(check(&path("a"), &file("eleven byte"), &FAT).is_err());
}

#[test]
fn names_that_would_be_one() {
    let check = |names: &[&str], case_sensitive, expected: &[&[&str]]| {
        let groups = clashes(names.iter().copied(), case_sensitive);
        assert_eq!(groups, expected, "{names:?}");
    };
    check(&["a", "b"], false, &[]);
    check(&["a", "A", "b"], false, &[&["a", "A"]]);
    check(&["a", "A", "b"], true, &[]);
    check(&["\u{e9}", "e\u{301}"], true, &[&["\u{e9}", "e\u{301}"]]);
    check(&["\u{c9}", "e\u{301}"], true, &[]);
    check(&["\u{c9}", "e\u{301}"], false, &[&["\u{c9}", "e\u{301}"]]);
    check(&["ς", "σ", "Σ"], false, &[&["ς", "σ", "Σ"]]);
    check(&["ß", "ss"], false, &[]);
    check(&["B", "a", "b", "A"], false, &[&["a", "A"], &["B", "b"]]);
}

/// What is pushed to a FAT drive, and what isn't.
fn pushed(base: &str, local: &str, remote: &str) -> String {
    let (base, local, remote) = (tree(base), tree(local), tree(remote));
    let plan: Plan<(), ()> = find_moves(reconcile(&base, &local, &remote));
    let plan = check_plan(plan, &local, &remote, &FAT);
    let mut words: Vec<String> = Vec::new();
    for action in &plan.push {
        let kind = match action {
            raspbox_core::plan::Action::Put { .. } => "+",
            raspbox_core::plan::Action::SetMeta { .. } => "^",
            raspbox_core::plan::Action::Delete { .. } => "-",
            raspbox_core::plan::Action::Move { .. } => ">",
        };
        words.push(format!("{kind}{}", action.path()));
    }
    for problem in &plan.problems {
        assert!(matches!(problem.what, Trouble::CannotHold(_)));
        words.push(format!("!{}", problem.path));
    }
    words.join(" ")
}

#[test]
fn what_cannot_be_held_is_taken_out_of_a_plan() {
    let check = |base, local, remote, expected| {
        assert_eq!(
            pushed(base, local, remote),
            expected,
            "{base} {local} {remote}"
        );
    };
    check("", "a=x a:=x", "", "+a !a:");
    check("", "b=x d:/ d:/a=x d:/e?/", "", "+b !d:");
    check("", "l>t", "", "!l");
    check("", "a=x A=y b=x", "", "+b !A !a");
    check("a=x", "a=x A=y", "a=x", "!A");
    check("", "A=y", "a=x", "!A");
    check("a=x", "A=y", "a=x", "-a +A");
    check("", "d/ d/a=x e/ e/A=x", "", "+d +d/a +e +e/A");
    check("", "a=more-than-ten-bytes", "", "!a");
    check("a=x", "a=more-than-ten-bytes", "a=x", "!a");
}

#[test]
fn what_would_have_made_way_stays() {
    let check = |base, local, remote, expected| {
        assert_eq!(
            pushed(base, local, remote),
            expected,
            "{base} {local} {remote}"
        );
    };
    // The old name stays where the new one can't be held.
    check("a=x", "a:=x", "a=x", "!a:");
    // And the folders that it is in, and those that would come in their place.
    check("d/ d/a=x", "b:=x", "d/ d/a=x", "!b:");
    check("d/ d/a=x d/c=y", "b:=x", "d/ d/a=x d/c=y", "-d/c !b:");
    check("d/ d/a=x", "b:=x d=z", "d/ d/a=x", "!b: !d");
    check("d/ d/a=x", "e:/ e:/a=x e:/b=y", "d/ d/a=x", "!e:");
    // A folder isn't emptied for a symlink that can't come.
    check("d/ d/a=x", "d>t", "d/ d/a=x", "!d");
}

#[test]
fn a_change_of_case_is_a_move_and_no_clash() {
    assert_eq!(pushed("a=x", "A=x", "a=x"), ">A");
    assert_eq!(pushed("d/ d/a=x", "D/ D/a=x", "d/ d/a=x"), ">D");
    // Into a place that is still taken when moves are made: the next time.
    assert_eq!(pushed("a=x b=y", "B=x", "a=x b=y"), "-b !B");
}

#[test]
fn a_conflict_copy_tells_beside_what_it_stands() {
    let original = raspbox_core::names::original_name;
    for name in ["letter.txt", "Makefile", "a.tar.gz", ".profile"] {
        let copy = raspbox_core::names::conflict_name(name, "laptop", "2026-11-20", &|_| false);
        assert_eq!(original(&copy).as_deref(), Some(name));
        assert_eq!(original(name), None);
    }
    assert_eq!(original("law (conflict of interest).txt"), None);
}
