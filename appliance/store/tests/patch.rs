//! Contents that are put together: of one that is on the drive, and of what is sent.

mod common;

use common::{Box, op, patch, path, rot, scrub};
use raspbox_protocol::commit::{CommitFrame, Expect, Op, Outcome, Refusal};
use raspbox_protocol::patch::{Patch, Piece};
use raspbox_protocol::{Digest, Version};
use raspbox_store::StoreError;

const BAD: Outcome = Outcome::Refused(Refusal::BadContent);

/// Some 700 KB, so that it takes several pieces to copy and to send.
fn long(words: &str) -> String {
    (0..20_000)
        .map(|n| format!("{words} of line {n}\n"))
        .collect()
}

fn done(outcome: &Outcome) -> Version {
    match outcome {
        Outcome::Done(version) => *version,
        Outcome::Refused(refusal) => panic!("{refusal}"),
    }
}

/// The same with other content in its frames.
fn sending(mut frames: Vec<CommitFrame>, data: &[&str]) -> Vec<CommitFrame> {
    frames.truncate(1);
    frames.extend(
        data.iter()
            .map(|data| CommitFrame::Data(data.as_bytes().to_vec())),
    );
    frames
}

#[test]
fn a_content_is_put_together_of_what_stands_there_and_what_is_sent() {
    let my = Box::new();
    let old = long("the text");
    let version = my.put("a", &old).expect("put");
    let new = old.replacen("the text of line 10000", &long("another text"), 1);
    let frames = patch("a", Expect::Version(version), &old, &new);
    done(&my.one(1, frames));
    assert_eq!(my.on_disk("a").as_deref(), Some(&*new));
    assert!(my.keeps("a", &old), "what it replaced is a version");
    // The beginning and the end alone, in another order, and all of it at another place.
    let len_bytes = 100;
    let copied = |offset| Piece::Copied { offset, len_bytes };
    let last = new.len() as u64 - len_bytes;
    let pieces = vec![copied(last), Piece::Sent { len_bytes: 3 }, copied(0)];
    let turned = format!("{}...{}", &new[new.len() - 100..], &new[..100]);
    let base = Digest::of(new.as_bytes());
    let turn = op(Op::Patch {
        path: path("b"),
        expect: Expect::Absent,
        file: common::file(&turned),
        patch: Patch::new(base, new.len() as u64, pieces).expect("good"),
    });
    done(&my.one(2, sending(turn, &["..."])));
    assert_eq!(my.on_disk("b").as_deref(), Some(&*turned));
    done(&my.one(3, patch("c", Expect::Absent, &new, &new)));
    assert_eq!(my.on_disk("c").as_deref(), Some(&*new));
    assert_eq!(my.staged(), 0);
    my.check_tree();
    my.check_history();
}

#[test]
fn a_version_is_a_base_as_well() {
    let my = Box::new();
    let version = my.put("a", "what it was once").expect("put");
    done(&my.one(1, common::delete("a", version)));
    let frames = patch("b", Expect::Absent, "what it was once", "what it was twice");
    done(&my.one(2, frames));
    assert_eq!(my.on_disk("b").as_deref(), Some("what it was twice"));
}

#[test]
fn what_can_not_be_built_on_is_refused_and_the_rest_goes_on() {
    let my = Box::new();
    let version = my.put("a", "here it stands").expect("put");
    let expect = Expect::Version(version);
    let unknown = patch("a", expect, "here it stood", "here it fell");
    let next = common::put("next", Expect::Absent, "goes on");
    let outcomes = my.commit(1, &[unknown, next]);
    assert_eq!(outcomes[0], BAD);
    done(&outcomes[1]);
    assert_eq!(my.on_disk("a").as_deref(), Some("here it stands"));
    assert_eq!(my.staged(), 0);
    my.check_tree();
}

#[test]
fn what_comes_of_it_is_what_was_stated_or_nothing() {
    let my = Box::new();
    let expect = Expect::Version(my.put("a", "here it stands").expect("put"));
    let frames = || patch("a", expect, "here it stands", "here he stands");
    assert_eq!(my.one(1, sending(frames(), &["xx"])), BAD, "other bytes");
    assert_eq!(my.one(2, sending(frames(), &["h"])), BAD, "too few");
    assert_eq!(my.one(3, sending(frames(), &[])), BAD, "none");
    let too_many = common::stream(&[sending(frames(), &["he", "y"])]);
    let refused = my
        .store()
        .commit(common::id(4), &common::by(), &|_| true, &mut &*too_many);
    assert!(
        matches!(refused, Err(StoreError::BadRequest(_))),
        "{refused:?}"
    );
    assert_eq!(my.on_disk("a").as_deref(), Some("here it stands"));
    assert_eq!(my.staged(), 0);
    done(&my.one(5, frames()));
    assert_eq!(my.on_disk("a").as_deref(), Some("here he stands"));
}

#[test]
fn a_base_that_rotted_or_is_written_to_spoils_no_file() {
    let rotted = |my: &Box| rot(my, "a", "here it stinks");
    let known = |my: &Box| {
        rotted(my);
        scrub(my);
    };
    let edited = |my: &Box| std::fs::write(my.at("a"), "here").expect("written");
    let gone = |my: &Box| std::fs::remove_file(my.at("a")).expect("removed");
    let ways: [&dyn Fn(&Box); 4] = [&rotted, &known, &edited, &gone];
    for spoil in ways {
        let my = Box::new();
        let version = my.put("a", "here it stands").expect("put");
        spoil(&my);
        let before = my.on_disk("a");
        let expect = Expect::Version(version);
        let frames = patch("a", expect, "here it stands", "here he stands");
        assert_eq!(my.one(1, frames), BAD, "{before:?}");
        assert_eq!(my.on_disk("a"), before);
        assert_eq!(my.staged(), 0);
    }
}

#[test]
fn it_is_refused_where_a_put_would_be() {
    let my = Box::new();
    let old = my.put("a", "here it stands").expect("put");
    let new = my.put("a", "here it stood").expect("put");
    let frames = patch("a", Expect::Version(old), "here it stood", "here it fell");
    assert_eq!(my.one(1, frames), Outcome::Refused(Refusal::Changed));
    let frames = patch("no/folder", Expect::Absent, "here it stood", "here it fell");
    assert_eq!(my.one(2, frames), Outcome::Refused(Refusal::NoParent));
    let commit = common::stream(&[patch(
        "a",
        Expect::Version(new),
        "here it stood",
        "here it fell",
    )]);
    let nobody = my
        .store()
        .commit(common::id(3), &common::by(), &|_| false, &mut &*commit);
    nobody.expect("an outcome");
    let outcomes = my.store().outcome(common::id(3)).expect("known");
    assert_eq!(outcomes, Some(vec![Outcome::Refused(Refusal::Denied)]));
    assert_eq!(my.on_disk("a").as_deref(), Some("here it stood"));
    assert_eq!(my.staged(), 0);
}
