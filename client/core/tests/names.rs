//! Names of conflict copies, and what the other side can't hold.

use raspbox_core::names::{
    Accents, Disk, Disks, check_plan, composed, conflict_name, is_conflict_copy,
};
use raspbox_core::plan::{Action, Plan, Problem, Trouble};
use raspbox_core::reconcile::reconcile;
use raspbox_core::renames::find_moves;
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::info::Holds;
use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath};
use std::collections::BTreeSet;
use std::time::Duration;

const EXT4: Disk = Disk {
    called: "the drive",
    holds: Holds {
        case_sensitive: true,
        symlinks: true,
        dos_names: false,
        file_max_bytes: u64::MAX,
        granularity: Duration::from_nanos(1),
    },
    accents: Accents::Alike,
};

const FAT: Disk = Disk {
    holds: Holds {
        case_sensitive: false,
        symlinks: false,
        dos_names: true,
        file_max_bytes: 10,
        granularity: Duration::from_secs(2),
    },
    ..EXT4
};

/// A Mac's of before.
const MAC: Disk = Disk {
    holds: Holds {
        case_sensitive: false,
        ..EXT4.holds
    },
    accents: Accents::Rewritten,
    ..EXT4
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
            assert_eq!(FAT.check(&path(&made), &entry), Ok(()), "{made}");
            taken.push(made);
        }
        assert_eq!(name.ends_with(".txt"), taken[0].ends_with(".txt"));
    }
}

#[test]
fn what_a_drive_cannot_hold_is_said() {
    let refused = |name: &str, why: &str| {
        assert_eq!(EXT4.check(&path(name), &Entry::Folder), Ok(()), "{name}");
        let error = FAT.check(&path(name), &Entry::Folder).expect_err(name);
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
        assert_eq!(FAT.check(&path(good), &Entry::Folder), Ok(()), "{good}");
    }
    let link = Entry::Symlink(LinkTarget::parse("t").expect("a good target"));
    assert_eq!(EXT4.check(&path("l"), &link), Ok(()));
    assert!(FAT.check(&path("l"), &link).is_err());
    let file = |content| Entry::File(file(content));
    assert_eq!(FAT.check(&path("a"), &file("ten bytes!")), Ok(()));
    assert!(FAT.check(&path("a"), &file("eleven byte")).is_err());
}

#[test]
fn names_that_would_be_one() {
    let apart = |disk: Disk| Disk {
        accents: Accents::Apart,
        ..disk
    };
    let check = |names: &[&str], disk: Disk, one: bool| {
        let keys: BTreeSet<_> = names.iter().map(|name| disk.key(name)).collect();
        assert_eq!(keys.len(), if one { 1 } else { names.len() }, "{names:?}");
    };
    check(&["a", "b"], FAT, false);
    check(&["a", "A"], FAT, true);
    check(&["a", "A"], EXT4, false);
    check(&["\u{e9}", "e\u{301}"], EXT4, true);
    check(&["\u{e9}", "e\u{301}"], apart(EXT4), false);
    check(&["\u{e9}", "e\u{301}"], apart(FAT), false);
    check(&["\u{c9}", "e\u{301}"], EXT4, false);
    check(&["\u{c9}", "e\u{301}"], FAT, true);
    check(&["\u{c9}", "\u{e9}"], apart(FAT), true);
    check(&["ς", "σ", "Σ"], FAT, true);
    check(&["ß", "ss"], FAT, false);
}

#[test]
fn a_disk_that_rewrites_names_holds_those_that_come_back_as_they_were() {
    let check = |name: &str, good: bool| {
        assert_eq!(
            MAC.check(&path(name), &Entry::Folder).is_ok(),
            good,
            "{name:?}"
        );
        assert_eq!(composed(name) == name, good, "{name:?}");
        assert!(EXT4.check(&path(name), &Entry::Folder).is_ok());
    };
    check("a", true);
    check("\u{e9}", true);
    check("e\u{301}", false);
    check("e\u{301}/a", false);
    // The sign for ångström is an Å to everybody else.
    check("\u{212b}", false);
    assert_eq!(composed("e\u{301}"), "\u{e9}");
    let ascii = Disk {
        accents: Accents::Missing,
        ..EXT4
    };
    assert!(ascii.check(&path("a"), &Entry::Folder).is_ok());
    assert!(ascii.check(&path("\u{e9}"), &Entry::Folder).is_err());
}

/// What is pushed to a FAT drive, and what isn't; what would be pulled from it to a FAT folder is
/// decided alike.
fn pushed(base: &str, local: &str, remote: &str) -> String {
    let (base, local, remote) = (tree(base), tree(local), tree(remote));
    let disks = |local, remote| Disks { local, remote };
    let push = planned(&base, &local, &remote, &disks(EXT4, FAT));
    let pull = planned(&base, &remote, &local, &disks(FAT, EXT4));
    let words = words(&push.push, &push);
    assert_eq!(words, self::words(&pull.pull, &pull));
    words
}

fn planned(
    base: &Folder<()>,
    local: &Folder<()>,
    remote: &Folder<()>,
    disks: &Disks,
) -> Plan<(), ()> {
    let plan = find_moves(reconcile(base, local, remote), disks);
    check_plan(plan, local, remote, disks)
}

/// Actions, and what the plan has against others.
fn words(actions: &[Action<(), ()>], plan: &Plan<(), ()>) -> String {
    let mut words: Vec<String> = Vec::new();
    for action in actions {
        let kind = match action {
            Action::Put { .. } => "+",
            Action::SetMeta { .. } => "^",
            Action::Delete { .. } => "-",
            Action::Move { .. } => ">",
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
    // What the other direction takes away is not in the way.
    check("a=x", "a=x A=y", "", "+A");
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
    // What then stands in the way of another name keeps that out, too.
    check("a=x", "a:=x A=y", "a=x", "!A !a:");
    // A folder isn't emptied for a symlink that can't come.
    check("d/ d/a=x", "d>t", "d/ d/a=x", "!d");
}

#[test]
fn a_change_of_case_is_a_move_and_no_clash() {
    assert_eq!(pushed("a=x", "A=x", "a=x"), ">A");
    assert_eq!(pushed("d/ d/a=x", "D/ D/a=x", "d/ d/a=x"), ">D");
    // Into a place that is still taken when moves are made: none is made.
    assert_eq!(pushed("a=x b=y", "B=x", "a=x b=y"), "-a -b +B");
    assert_eq!(
        pushed("d/ d/a=x", "D/ D/a=y", "d/ d/a=x"),
        "-d/a -d +D +D/a"
    );
    assert_eq!(
        pushed("d/ d/a=x d/b=y", "D/ D/a=x D/b=z", "d/ d/a=x d/b=y"),
        "-d/a -d/b -d +D +D/a +D/b"
    );
}

/// Else which of them comes would depend on when each was first seen.
#[test]
fn what_is_not_known_yet_has_its_name_all_the_same() {
    let mut local = tree("A=y");
    let unknown = Node::Unknown(Unknown::Busy);
    local.insert(&path("a"), unknown).expect("the top is there");
    let disks = Disks {
        local: EXT4,
        remote: FAT,
    };
    let plan = planned(&tree(""), &local, &tree(""), &disks);
    assert!(plan.push.is_empty(), "{plan:?}");
    let refused = |problem: &&Problem| matches!(problem.what, Trouble::CannotHold(_));
    let refused: Vec<_> = plan.problems.iter().filter(refused).collect();
    assert_eq!(refused.len(), 1, "{plan:?}");
    assert_eq!(refused[0].path, path("A"));
}

/// What is set aside for something that can't come isn't.
#[test]
fn no_conflict_copy_for_something_that_cannot_come() {
    let pulled = |base: &str, local: &str, remote: &str| {
        let (base, local, remote) = (tree(base), tree(local), tree(remote));
        let disks = Disks {
            local: FAT,
            remote: EXT4,
        };
        let plan = planned(&base, &local, &remote, &disks);
        (plan.asides.len(), words(&plan.pull, &plan))
    };
    assert_eq!(pulled("a=x", "a=y", "a>t"), (0, "!a".to_owned()));
    assert_eq!(pulled("a=x", "a=y", "a=z"), (1, "+a".to_owned()));
    assert_eq!(
        pulled("a=x", "a=y", "a/ a/b=z a/c:=z"),
        (1, "+a +a/b !a/c:".to_owned())
    );
}

/// Where both directions have something against it, each says which disk it is.
#[test]
fn it_is_said_which_disk_it_is() {
    let here = Disk::here(FAT.holds, Accents::Apart);
    let disks = Disks {
        local: here,
        remote: Disk::drive(FAT.holds),
    };
    let plan = planned(&tree(""), &tree("a=x"), &tree("A=y"), &disks);
    let said: Vec<_> = plan.problems.iter().map(|problem| &problem.what).collect();
    let there = "to the drive, it is the same name as 'A' beside it, which differs in upper and \
                 lower case only; rename one of them";
    let here = "to the disk of this computer's folder, it is the same name as 'a' beside it, which \
                differs in upper and lower case only; rename one of them";
    assert_eq!(
        said,
        [there, here]
            .map(|why| Trouble::CannotHold(why.to_owned()))
            .each_ref()
    );
    assert!(plan.is_empty());
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
