//! Every case over a small alphabet.

use crate::check::{assert_good, check, plain};
use crate::world::{World, tree};
use raspbox_core::tree::Folder;

/// What the baseline can have at one path.
const SYNCED: [&str; 10] = [
    "",
    "p=x",
    "p=y",
    "p=z",
    "p=x*",
    "p>t",
    "p/",
    "p/ p/c=x",
    "p/ p/c=y p/e/",
    "p/ p/e/ p/e/c=x",
];

/// What a side can have there besides.
const TROUBLE: [&str; 6] = [
    "p?",
    "p!/",
    "p/ p/c?",
    "p!/ p/c=x",
    "p/ p/c=x p/u?",
    "p/ p/e!/ p/e/c=x",
];

pub(crate) fn trees(texts: impl IntoIterator<Item = String>) -> Vec<Folder<()>> {
    texts.into_iter().map(|text| tree(&text)).collect()
}

/// Checks every baseline against every pair of sides; returns how many cases that were.
fn enumerate(bases: &[Folder<()>], sides: &[Folder<()>]) -> usize {
    for base in bases {
        for local in sides {
            for remote in sides {
                let world = World::new(base, local, remote);
                assert_good(&world, &"enumerated");
            }
        }
    }
    bases.len() * sides.len() * sides.len()
}

/// All combinations of what can be in each place.
pub(crate) fn combinations(places: &[&[&str]]) -> Vec<String> {
    places.iter().fold(vec![String::new()], |texts, choices| {
        let longer = texts
            .iter()
            .flat_map(|text| choices.iter().map(move |choice| format!("{text} {choice}")));
        longer.collect()
    })
}

#[test]
fn one_path() {
    let bases = trees(SYNCED.map(str::to_owned));
    let sides = trees(SYNCED.iter().chain(&TROUBLE).map(ToString::to_string));
    assert_eq!(enumerate(&bases, &sides), 10 * 16 * 16);
}

#[test]
fn a_folder_with_two_children() {
    let known = combinations(&[
        &["d/"],
        &["", "d/a=ax", "d/a=ay"],
        &["", "d/b=bx", "d/b=by"],
    ]);
    let known: Vec<String> = known
        .into_iter()
        .chain(["", "d=z"].map(str::to_owned))
        .collect();
    let trouble = combinations(&[
        &["d/", "d!/"],
        &["", "d/a=ax", "d/a?"],
        &["", "d/b=bx", "d/b=by"],
    ]);
    let bases = trees(known.clone());
    let sides = trees(known.into_iter().chain(trouble));
    assert_eq!(enumerate(&bases, &sides), 11 * 29 * 29);
}

/// The same contents everywhere, so that moves are found.
#[test]
fn a_folder_with_two_children_and_two_files_beside_it() {
    let folder = combinations(&[&["d/"], &["", "d/a=x", "d/a=y"], &["", "d/b=x", "d/b=y"]]);
    let folder: Vec<String> = folder
        .into_iter()
        .chain(["", "d=x"].map(str::to_owned))
        .collect();
    let folder: Vec<&str> = folder.iter().map(String::as_str).collect();
    let states = combinations(&[&folder, &["", "e=x", "e=y"]]);
    let states = trees(states);
    assert_eq!(enumerate(&states, &states), 33 * 33 * 33);
}

/// Two folders, each with or without one file, so that whole folders move, into each other too.
#[test]
fn two_folders_that_may_move() {
    let states = combinations(&[
        &[
            "",
            "d=y",
            "d/",
            "d/ d/a=x",
            "d/ d/e/ d/e/a=x",
            "d/ d/a=x d/e/ d/e/a=x",
        ],
        &["", "e=x", "e/ e/a=x", "e/ e/d/ e/d/a=x"],
    ]);
    let states = trees(states);
    assert_eq!(enumerate(&states, &states), 24 * 24 * 24);
}

#[test]
fn the_checks_are_not_idle() {
    let world = World::new(&tree("a=x"), &tree("a=y"), &tree("a=z"));
    assert!(check(&world, plain).is_ok());
    assert!(check(&world, |_, _, _| raspbox_core::plan::Plan::default()).is_err());
}
