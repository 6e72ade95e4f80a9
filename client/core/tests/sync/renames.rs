//! Which moves are found, and that finding them is quick.

use crate::check::{check, with_moves};
use crate::world::{World, path, tree};
use raspbox_core::plan::Action;
use raspbox_core::tree::{Folder, Node};
use raspbox_protocol::{Digest, Entry, File, Mtime};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// What is pushed when `local` was `base` before, in the words `from>to`, `-gone`, `+new` and
/// `~replaced`; and pulled, when it is the other side that changed.
fn pushed(base: &str, local: &str) -> String {
    let planned = |local, remote| {
        let world = World::new(&tree(base), &tree(local), &tree(remote));
        check(&world, with_moves).expect("the plan is good");
        with_moves(&world.base, &world.local, &world.remote)
    };
    let pushed = words(&planned(local, base).push);
    assert_eq!(words(&planned(base, local).pull), pushed, "pulled");
    pushed
}

fn words(actions: &[Action<u64, u64>]) -> String {
    let words = actions.iter().map(|action| match action {
        Action::Move { from, to, .. } => format!("{from}>{to}"),
        Action::Delete { path, .. } => format!("-{path}"),
        Action::Put {
            path,
            replaces: None,
            ..
        } => format!("+{path}"),
        Action::Put { path, .. } | Action::SetMeta { path, .. } => format!("~{path}"),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_file_moves() {
    assert_eq!(pushed("a=x", "b=x"), "a>b");
    assert_eq!(pushed("a=x d/", "d/ d/a=x"), "a>d/a");
    assert_eq!(pushed("d/ d/a=x", "d/ e/ e/a=x"), "+e d/a>e/a");
    assert_eq!(
        pushed("a=x", "n/ n/m/ n/m/o/ n/m/o/a=x"),
        "+n +n/m +n/m/o a>n/m/o/a"
    );
}

#[test]
fn what_is_too_much_alike_or_not_alike_does_not_move() {
    assert_eq!(pushed("a=", "b="), "-a +b");
    assert_eq!(pushed("a=x", "b=y"), "-a +b");
    assert_eq!(pushed("a=x", "b=x*"), "-a +b");
    assert_eq!(pushed("a>x", "b>x"), "-a +b");
    assert_eq!(pushed("d/", "e/"), "-d +e");
    assert_eq!(pushed("d/ d/a=", "e/ e/a="), "-d/a -d +e +e/a");
}

#[test]
fn a_folder_moves_as_one() {
    assert_eq!(pushed("d/ d/a=x d/b=y", "e/ e/a=x e/b=y"), "d>e");
    assert_eq!(
        pushed("d/ d/s/ d/s/a=x d/l>t", "e/ e/s/ e/s/a=x e/l>t"),
        "d>e"
    );
    assert_eq!(pushed("d/ d/a=x e/", "e/ e/f/ e/f/a=x"), "d>e/f");
    assert_eq!(pushed("d/ d/a=x", "n/ n/d/ n/d/a=x"), "+n d>n/d");
    assert_eq!(pushed("d/ d/s/ d/s/a=x d/b=y", "s/ s/a=x"), "d/s>s -d/b -d");
}

#[test]
fn a_folder_that_changed_on_the_way_moves_file_by_file() {
    assert_eq!(
        pushed("d/ d/a=x d/b=y", "e/ e/a=x e/b=z"),
        "+e d/a>e/a -d/b -d +e/b"
    );
    assert_eq!(
        pushed("d/ d/s/ d/s/a=x d/b=y", "e/ e/s/ e/s/a=x e/b=z"),
        "+e d/s>e/s -d/b -d +e/b"
    );
    assert_eq!(pushed("d/ d/a=x", "e/ e/b=x"), "+e d/a>e/b -d");
    assert_eq!(
        pushed("d/ d/a=x d/l>t", "e/ e/a=x e/l>u"),
        "+e d/a>e/a -d/l -d +e/l"
    );
}

#[test]
fn the_same_name_is_preferred_and_nothing_moves_twice() {
    assert_eq!(pushed("a=x b=x d/", "d/ d/b=x"), "b>d/b -a");
    assert_eq!(pushed("a=x", "b=x c=x"), "a>b +c");
    assert_eq!(pushed("a=x b=x", "c=x"), "a>c -b");
    assert_eq!(
        pushed("d/ d/a=x e/ e/a=x", "n/ n/e/ n/e/a=x n/f/ n/f/a=x"),
        "+n e>n/e d>n/f"
    );
    // Whole folders first: a copy of a file in one doesn't take it out.
    assert_eq!(pushed("d/ d/a=x d/b=y", "a=x n/ n/a=x n/b=y"), "d>n +a");
}

#[test]
fn swaps_and_places_that_are_not_free_yet_are_left_alone() {
    assert_eq!(pushed("a=x b=y", "a=y b=x"), "~a ~b");
    assert_eq!(pushed("a=x", "a/ a/a=x"), "-a +a +a/a");
    assert_eq!(pushed("d/ d/d=x", "d=x"), "-d/d -d +d");
    assert_eq!(
        pushed("a=x d/ d/b=y", "a/ a/b=y d=x"),
        "-a -d/b -d +a +a/b +d"
    );
}

#[test]
fn moves_within_itself_go_file_by_file() {
    assert_eq!(pushed("d/ d/a=x", "d/ d/d/ d/d/a=x"), "+d/d d/a>d/d/a");
    assert_eq!(pushed("d/ d/d/ d/d/a=x", "d/ d/a=x"), "d/d/a>d/a -d/d");
}

/// Rows are checked where moves are carried out; here, that each has its tag.
#[test]
fn each_entry_that_moves_is_told() {
    let world = World::new(
        &tree("d/ d/a=x d/b/"),
        &tree("e/ e/a=x e/b/"),
        &tree("d/ d/a=x d/b/"),
    );
    let plan = with_moves(&world.base, &world.local, &world.remote);
    let [Action::Move { moved, .. }] = plan.push.as_slice() else {
        panic!("one move: {:?}", plan.push);
    };
    let mut rows = String::new();
    for (old, new, tag) in moved {
        let at_new = world.local.get(new).and_then(Node::tag);
        assert_eq!(at_new, Some(tag));
        write!(rows, "{old}>{new} ").expect("a string can be written");
    }
    assert_eq!(rows, "d>e d/a>e/a d/b>e/b ");
}

fn file(number: u32) -> Node<()> {
    let file = File {
        digest: Digest::of(&number.to_le_bytes()),
        size: 4,
        mtime: Mtime(0),
        executable: false,
    };
    Node::new(Entry::File(file), ())
}

/// `count` files in folders of a hundred; the same content in each if `alike`.
fn big(top: &str, count: u32, alike: bool) -> Folder<()> {
    let mut tree = tree(&format!("{top}/"));
    for number in 0..count {
        let folder = path(&format!("{top}/{}", number / 100));
        if number % 100 == 0 {
            tree.insert(&folder, Node::new(Entry::Folder, ()))
                .expect("the top is there");
        }
        let content = if alike { 0 } else { number };
        tree.insert(&path(&format!("{folder}/{number}")), file(content))
            .expect("the folder is there");
    }
    tree
}

/// Without optimisation, and with other tests beside it; anything quadratic takes minutes.
const QUICK: Duration = Duration::from_secs(120);

#[test]
fn a_hundred_thousand_files_move_as_one() {
    let (old, new) = (big("old", 100_000, false), big("new", 100_000, false));
    let world = World::new(&old, &new, &old);
    let began = Instant::now();
    let plan = with_moves(&world.base, &world.local, &world.remote);
    let took = began.elapsed();
    println!("planned in {took:?}");
    let [
        Action::Move {
            from, to, moved, ..
        },
    ] = plan.push.as_slice()
    else {
        panic!("{} actions instead of one move", plan.push.len());
    };
    assert_eq!((from.as_str(), to.as_str()), ("old", "new"));
    assert_eq!(moved.len(), 101_001);
    assert!(plan.pull.is_empty() && plan.asides.is_empty());
    assert!(took < QUICK, "{took:?}");
}

#[test]
fn many_files_of_one_content_are_matched_quickly() {
    let old = big("old", 50_000, true);
    let mut new = big("new", 50_000, true);
    // One file more in each folder, so that no folder moves whole.
    for folder in 0..500 {
        let extra = path(&format!("new/{folder}/extra"));
        new.insert(&extra, file(1 + folder)).expect("it is there");
    }
    let world = World::new(&old, &new, &old);
    let began = Instant::now();
    let plan = with_moves(&world.base, &world.local, &world.remote);
    let took = began.elapsed();
    let moves = plan
        .push
        .iter()
        .filter(|action| matches!(action, Action::Move { .. }));
    let keeps_name = |action: &&Action<u64, u64>| match action {
        Action::Move { from, to, .. } => from.name() == to.name(),
        Action::Put { .. } | Action::SetMeta { .. } | Action::Delete { .. } => false,
    };
    assert_eq!(moves.filter(keeps_name).count(), 50_000);
    assert!(took < QUICK, "{took:?}");
}
