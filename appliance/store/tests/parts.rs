//! Contents that were cut, and gone on with: at the byte where they were, or not at all.

mod common;

use common::{Box, Faults, by, delete, file, id, op, path, put, stream};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, RelPath};
use raspbox_store::{Options, Policy, Store, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

const CONTENT: &str = "all of it, from the first byte to the last";

/// The least that is kept here.
const MIN_BYTES: usize = 5;

fn faults() -> Faults {
    Faults {
        part_min_bytes: Some(MIN_BYTES as u64),
        ..Faults::default()
    }
}

fn new() -> Box {
    Box::with(faults())
}

fn to_put(at: &str) -> Op {
    Op::Put {
        path: path(at),
        expect: Expect::Absent,
        file: file(CONTENT),
    }
}

/// The frames of what is sent from one byte to before another; from the first on, or from where it was cut.
fn sent(what: Op, from: usize, to: usize) -> Vec<CommitFrame> {
    let mut frames = op(what);
    if from > 0 {
        frames.push(CommitFrame::Offset { bytes: from as u64 });
    }
    let piece = CONTENT.as_bytes()[from..to].to_vec();
    frames.push(CommitFrame::Data(piece));
    frames
}

fn is_cut(my: &Box, frames: &[CommitFrame]) {
    let result = my.try_commit(9, &to_bytes(frames));
    assert!(matches!(result, Err(StoreError::Request(_))), "{result:?}");
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

fn kept(my: &Box) -> usize {
    let bytes = my.store().part_bytes(&Digest::of(CONTENT.as_bytes()));
    usize::try_from(bytes.expect("an answer")).expect("short")
}

fn parts(my: &Box) -> usize {
    let parts = std::fs::read_dir(my.at(".raspbox/parts"));
    parts.expect("the parts").count()
}

#[test]
fn what_was_cut_is_gone_on_with() {
    let mut my = new();
    assert_eq!(kept(&my), 0);
    is_cut(&my, &sent(to_put("a"), 0, 7));
    assert_eq!((kept(&my), my.tree().len()), (7, 0));
    my.open_with(faults()).expect("opens again");
    assert_eq!(kept(&my), 7, "also after a start");
    is_cut(&my, &sent(to_put("a"), 7, 20));
    assert_eq!(kept(&my), 20);
    let done = my.one(1, sent(to_put("b"), 20, CONTENT.len()));
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    assert_eq!(my.on_disk("b").as_deref(), Some(CONTENT));
    assert_eq!((kept(&my), parts(&my), my.staged()), (0, 0, 0));
    my.check_tree();
}

#[test]
fn all_may_have_come_but_the_end() {
    let my = new();
    is_cut(&my, &sent(to_put("a"), 0, CONTENT.len()));
    assert_eq!(kept(&my), CONTENT.len());
    let bytes = CONTENT.len() as u64;
    let rest = vec![CommitFrame::Op(to_put("a")), CommitFrame::Offset { bytes }];
    assert!(matches!(my.one(1, rest), Outcome::Done(_)));
    assert_eq!(my.on_disk("a").as_deref(), Some(CONTENT));
}

#[test]
fn a_version_that_was_cut_is_gone_on_with_as_well() {
    let my = new();
    let keep = || Op::Keep {
        path: path("a"),
        file: file(CONTENT),
    };
    is_cut(&my, &sent(keep(), 0, 7));
    let done = my.one(1, sent(keep(), 7, CONTENT.len()));
    assert!(matches!(done, Outcome::Done(_)), "{done:?}");
    assert!(my.keeps("a", CONTENT));
}

#[test]
fn little_is_not_kept_and_less_replaces_nothing() {
    let my = new();
    is_cut(&my, &sent(to_put("a"), 0, MIN_BYTES - 1));
    assert_eq!(kept(&my), 0);
    is_cut(&my, &sent(to_put("a"), 0, 20));
    is_cut(&my, &sent(to_put("a"), 0, 10));
    assert_eq!((kept(&my), parts(&my)), (20, 1));
}

#[test]
fn what_does_not_belong_together_gets_no_name() {
    let my = new();
    let hash = Digest::of(CONTENT.as_bytes()).to_string();
    is_cut(&my, &sent(to_put("a"), 0, 7));
    let part = my.at(".raspbox/parts").join(&hash);
    std::fs::write(&part, "another").expect("written");
    let refused = my.one(1, sent(to_put("a"), 7, CONTENT.len()));
    assert_eq!(refused, Outcome::Refused(Refusal::BadContent));
    assert_eq!((my.on_disk("a"), kept(&my), my.staged()), (None, 0, 0));
    let whole = my.one(2, sent(to_put("a"), 0, CONTENT.len()));
    assert!(matches!(whole, Outcome::Done(_)), "{whole:?}");

    // Nor is what a symlink leads to.
    std::fs::write(my.at("secret"), &CONTENT[..7]).expect("written");
    std::os::unix::fs::symlink(my.at("secret"), &part).expect("made");
    let refused = my.one(3, sent(to_put("b"), 7, CONTENT.len()));
    assert_eq!(refused, Outcome::Refused(Refusal::BadContent));
    assert_eq!(my.on_disk("secret").as_deref(), Some(&CONTENT[..7]));
}

/// What isn't ours is left alone, and keeps nothing else from going.
#[test]
fn what_somebody_put_among_them_is_in_nobodys_way() {
    let my = new();
    is_cut(&my, &sent(to_put("a"), 0, 10));
    std::fs::create_dir(my.at(".raspbox/parts/0-first")).expect("made");
    for n in 0..12 {
        cut_one(&my, &format!("the beginning of something, {n}"));
    }
    assert_eq!(parts(&my), 8 + 1);
    let hash = Digest::of(CONTENT.as_bytes());
    std::fs::create_dir(my.at(".raspbox/parts").join(hash.to_string())).expect("made");
    assert_eq!(kept(&my), 0);
    let whole = my.one(1, sent(to_put("a"), 0, CONTENT.len()));
    assert!(matches!(whole, Outcome::Done(_)), "{whole:?}");
}

#[test]
fn nobody_goes_on_from_where_nothing_is() {
    let my = new();
    is_cut(&my, &sent(to_put("a"), 0, 10));
    for (n, from) in [(1, 9), (2, 11)] {
        let refused = my.one(n, sent(to_put("a"), from, CONTENT.len()));
        assert_eq!(refused, Outcome::Refused(Refusal::BadContent), "{from}");
    }
    assert_eq!(kept(&my), 10, "and it stays");
    // The others of the same commit are done.
    let outcomes = my.commit(
        3,
        &[
            sent(to_put("b"), 11, CONTENT.len()),
            put("c", Expect::Absent, "c"),
        ],
    );
    assert_eq!(outcomes[0], Outcome::Refused(Refusal::BadContent));
    assert!(matches!(outcomes[1], Outcome::Done(_)));
}

#[test]
fn offsets_that_break_the_rules_apply_nothing() {
    let my = new();
    is_cut(&my, &sent(to_put("a"), 0, 10));
    let offset = |bytes| vec![CommitFrame::Offset { bytes }];
    let cases = [
        ("before all", vec![offset(10)]),
        (
            "of no content",
            vec![delete("a", raspbox_protocol::Version(1)), offset(10)],
        ),
        ("twice", vec![sent(to_put("a"), 10, 12), offset(10)]),
        ("in the middle", vec![sent(to_put("a"), 0, 10), offset(10)]),
        ("beyond its end", vec![op(to_put("a")), offset(1_000)]),
        (
            "of a patch",
            vec![
                vec![common::patch("a", Expect::Absent, "base", "basement").remove(0)],
                offset(4),
            ],
        ),
    ];
    for (name, frames) in cases {
        let result = my.try_commit(1, &stream(&frames));
        assert!(matches!(result, Err(StoreError::BadRequest(_))), "{name}");
        assert_eq!((my.tree().len(), my.staged()), (0, 0), "{name}");
        // A peer that breaks the rules is no cut.
        is_cut(&my, &sent(to_put("a"), 0, 10));
    }
}

#[test]
fn who_may_not_write_leaves_nothing_and_takes_nothing() {
    let my = new();
    let cut = |may: bool| {
        let frames = to_bytes(&sent(to_put("a"), 0, 10));
        let result = my
            .store()
            .commit(id(1), &by(), &|_| may, &mut frames.as_slice());
        assert!(result.is_err());
    };
    cut(false);
    assert_eq!(parts(&my), 0);
    cut(true);
    let frames = stream(&[sent(to_put("a"), 10, CONTENT.len())]);
    let summary = my
        .store()
        .commit(id(2), &by(), &|_| false, &mut frames.as_slice());
    summary.expect("read");
    let outcomes = my.store().outcome(id(2)).expect("an answer");
    assert_eq!(outcomes, Some(vec![Outcome::Refused(Refusal::Denied)]));
    assert_eq!(kept(&my), 10);
}

fn cut_one(my: &Box, content: &str) {
    let put = Op::Put {
        path: RelPath::parse("p").expect("good"),
        expect: Expect::Absent,
        file: file(content),
    };
    let data = CommitFrame::Data(content.as_bytes()[..10].to_vec());
    is_cut(my, &[CommitFrame::Op(put), data]);
}

#[test]
fn there_are_only_so_many() {
    let my = new();
    for n in 0..12 {
        cut_one(&my, &format!("the beginning of something, {n}"));
    }
    assert_eq!(parts(&my), 8);
    let last = Digest::of(b"the beginning of something, 11");
    assert_eq!(my.store().part_bytes(&last).expect("an answer"), 10);
}

#[test]
fn after_a_week_it_is_let_go() {
    let clock = Arc::new(AtomicI64::new(0));
    let my = Box::with(Faults {
        clock: Some(Arc::clone(&clock)),
        ..faults()
    });
    is_cut(&my, &sent(to_put("a"), 0, 10));
    let thin = |after: Duration| {
        let now = raspbox_beneath::now().0 + i64::try_from(after.as_nanos()).expect("short");
        clock.store(now, Ordering::Relaxed);
        let long = Duration::from_secs(100 * 366 * 86_400);
        let thinned = my.store().thin(&Policy::default(), long, &mut || true);
        thinned.expect("thinned");
    };
    let day = Duration::from_secs(86_400);
    thin(6 * day);
    assert_eq!(kept(&my), 10);
    thin(8 * day);
    assert_eq!(kept(&my), 0);
}

/// A drive of a thousand bytes.
#[test]
fn it_goes_before_any_version_does() {
    let dir = tempfile::tempdir().expect("a folder");
    let faults = Faults {
        drive_bytes: Some(1_000),
        ..faults()
    };
    let store = Store::open_with(dir.path(), Options { floor_bytes: 100 }, faults);
    let mut my = Box {
        dir,
        store: Some(store.expect("opens")),
    };
    let content = |byte: &str| byte.repeat(250);
    my.put("a", &content("1")).expect("put");
    my.put("a", &content("2")).expect("put");
    let put = Op::Put {
        path: path("b"),
        expect: Expect::Absent,
        file: file(&content("3")),
    };
    let begin = CommitFrame::Data(content("3").into_bytes()[..200].to_vec());
    is_cut(&my, &[CommitFrame::Op(put.clone()), begin]);
    assert_eq!(parts(&my), 1);
    // What goes on with it isn't in its own way.
    let rest = CommitFrame::Data(content("3").into_bytes()[200..].to_vec());
    let offset = CommitFrame::Offset { bytes: 200 };
    let cut = [CommitFrame::Op(put), offset, rest];
    is_cut(&my, &cut);
    let part = my.store().part_bytes(&Digest::of(content("3").as_bytes()));
    assert_eq!(part.expect("an answer"), 250);
    my.put("c", &content("4")).expect("put");
    assert_eq!(parts(&my), 0);
    assert!(my.keeps("a", &content("1")), "it needn't have gone");
    my.close();
}
