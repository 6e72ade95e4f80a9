//! What to do so that everything is as it was: a decision, made of two trees of the appliance.

use raspbox_protocol::commit::{Expect, Op};
use raspbox_protocol::{Entry, File, RelPath, Version};
use std::collections::BTreeMap;

/// What stands on the appliance now.
pub type Now = BTreeMap<RelPath, (Entry, Version)>;

/// What stood there then.
pub type Then = BTreeMap<RelPath, Entry>;

/// The operations that make everything at a path and below (`None`: everywhere) what it was, in the
/// order to do them in: deletions, children first, then creations and replacements, parents first.
///
/// What wasn't there goes; each operation says what it replaces, so that what somebody saves in
/// between is not touched. A file's time alone makes no difference. Folders above the path are made
/// where they are missing, and are left alone otherwise.
#[must_use]
pub fn plan(now: &Now, then: &Then, at: Option<&RelPath>) -> Vec<Op> {
    let concerns = |path: &RelPath| at.is_none_or(|at| path.is_in(at));
    let mut then: Then = then
        .iter()
        .filter(|(path, _)| concerns(path))
        .map(|(path, entry)| (path.clone(), entry.clone()))
        .collect();
    add_missing_folders(&mut then);
    let mut ops = Vec::new();
    for (path, (entry, version)) in now.iter().rev().filter(|(path, _)| concerns(path)) {
        let stays = match (entry, then.get(path)) {
            (_, None) => false,
            (Entry::Folder, Some(then)) => *then == Entry::Folder,
            (Entry::File(_) | Entry::Symlink(_), Some(then)) => *then != Entry::Folder,
        };
        if !stays {
            ops.push(Op::Delete {
                path: path.clone(),
                expect: *version,
            });
        }
    }
    for (path, entry) in &then {
        ops.extend(bring_back(path, now.get(path), entry));
    }
    ops
}

/// The operation that makes a path what it was; `None` where it is.
#[must_use]
pub fn bring_back(path: &RelPath, now: Option<&(Entry, Version)>, then: &Entry) -> Option<Op> {
    let path = path.clone();
    let expect = match now {
        Some((Entry::File(_) | Entry::Symlink(_), version)) => Expect::Version(*version),
        // A folder went before, in an operation of its own.
        Some((Entry::Folder, _)) | None => Expect::Absent,
    };
    match (now, then) {
        (Some((now, _)), then) if now.same_content(then) => None,
        (Some((Entry::File(now), version)), Entry::File(then)) if now.digest == then.digest => {
            Some(set_executable(path, *version, *now, *then))
        }
        (_, Entry::File(file)) => Some(Op::Restore {
            path,
            expect,
            file: *file,
        }),
        (_, Entry::Folder) => Some(Op::MakeFolder { path }),
        (_, Entry::Symlink(target)) => Some(Op::Symlink {
            path,
            expect,
            target: target.clone(),
        }),
    }
}

fn set_executable(path: RelPath, expect: Version, now: File, then: File) -> Op {
    Op::SetMeta {
        path,
        expect,
        mtime: now.mtime,
        executable: then.executable,
    }
}

/// Adds the folders that something then needs. All were there then, but the appliance may have let
/// go of what it knew of them; and those above the path weren't asked for. Where they stand there is
/// nothing to do.
fn add_missing_folders(then: &mut Then) {
    let mut missing = Vec::new();
    for path in then.keys() {
        let mut above = path.parent();
        while let Some(folder) = above {
            if !then.contains_key(&folder) {
                missing.push(folder.clone());
            }
            above = folder.parent();
        }
    }
    for folder in missing {
        then.insert(folder, Entry::Folder);
    }
}

#[cfg(test)]
mod tests {
    use super::{Now, Then, plan};
    use raspbox_protocol::commit::{Expect, Op};
    use raspbox_protocol::{Digest, Entry, File, LinkTarget, Mtime, RelPath, Version};

    fn path(text: &str) -> RelPath {
        RelPath::parse(text).expect("good")
    }

    /// `d/` a folder, `a=x` a file of this content, `a=x*` an executable one, `l>t` a symlink.
    fn parse(text: &str) -> (RelPath, Entry) {
        if let Some(folder) = text.strip_suffix('/') {
            return (path(folder), Entry::Folder);
        }
        if let Some((at, target)) = text.split_once('>') {
            let target = LinkTarget::parse(target).expect("good");
            return (path(at), Entry::Symlink(target));
        }
        let (at, content) = text.split_once('=').expect("a file");
        let plain = content.trim_end_matches('*');
        let file = File {
            digest: Digest::of(plain.as_bytes()),
            size: plain.len() as u64,
            mtime: Mtime(0),
            executable: plain != content,
        };
        (path(at), Entry::File(file))
    }

    fn now(text: &str) -> Now {
        let versions = (1..).map(Version);
        let entries = text.split_whitespace().map(parse);
        entries
            .zip(versions)
            .map(|((path, entry), version)| (path, (entry, version)))
            .collect()
    }

    fn then(text: &str) -> Then {
        text.split_whitespace().map(parse).collect()
    }

    fn word(op: &Op) -> String {
        let over = |expect: &Expect| match expect {
            Expect::Absent => String::new(),
            Expect::Version(version) => format!(" over {version}"),
        };
        match op {
            Op::Delete { path, expect } => format!("-{path} {expect}"),
            Op::MakeFolder { path } => format!("+{path}/"),
            Op::Symlink { path, expect, .. } => format!(">{path}{}", over(expect)),
            Op::Restore { path, expect, .. } => format!("={path}{}", over(expect)),
            Op::SetMeta { path, expect, .. } => format!("*{path} over {expect}"),
            Op::Put { .. } | Op::Patch { .. } | Op::Move { .. } | Op::Keep { .. } => {
                panic!("nothing travels: {op:?}")
            }
        }
    }

    fn check(name: &str, was: &str, is: &str, at: Option<&str>, expected: &[&str]) {
        let at = at.map(path);
        let ops = plan(&now(is), &then(was), at.as_ref());
        let words: Vec<String> = ops.iter().map(word).collect();
        assert_eq!(words, expected, "{name}");
    }

    #[test]
    fn as_it_was() {
        check("nothing to do", "d/ d/a=1 l>x", "d/ d/a=1 l>x", None, &[]);
        check("an edit", "a=1", "a=2", None, &["=a over 1"]);
        check("gone", "d/ d/a=1", "", None, &["+d/", "=d/a"]);
        check("new", "", "d/ d/a=1", None, &["-d/a 2", "-d 1"]);
        check(
            "ransom",
            "d/ d/a=1 d/b=2",
            "d/ d/a.locked=x d/b.locked=y",
            None,
            &["-d/b.locked 3", "-d/a.locked 2", "=d/a", "=d/b"],
        );
        check(
            "a folder is a file now",
            "d/ d/a=1",
            "d=2",
            None,
            &["-d 1", "+d/", "=d/a"],
        );
        check(
            "a file is a folder now",
            "d=2",
            "d/ d/a=1",
            None,
            &["-d/a 2", "-d 1", "=d"],
        );
        check("a link is a file now", "a>x", "a=1", None, &[">a over 1"]);
        check("a bit", "a=1*", "a=1", None, &["*a over 1"]);
        check("a bit and more", "a=1*", "a=2", None, &["=a over 1"]);
    }

    #[test]
    fn only_at_a_path() {
        let (was, is) = ("d/ d/a=1 d/b=1 e=1", "d/ d/a=2 d/b=2 e=2");
        check("a file", was, is, Some("d/a"), &["=d/a over 2"]);
        check(
            "a folder",
            was,
            is,
            Some("d"),
            &["=d/a over 2", "=d/b over 3"],
        );
        check("no path", was, is, Some("x"), &[]);
        check(
            "its folder is gone",
            was,
            "e=2",
            Some("d/a"),
            &["+d/", "=d/a"],
        );
        check(
            "what came since goes",
            "d/",
            "d/ d/a=1 e=1",
            Some("d"),
            &["-d/a 2"],
        );
        check(
            "its folder is a file now",
            "d/ d/a=1",
            "d=1",
            Some("d/a"),
            // It isn't asked for, so the appliance refuses it.
            &["+d/", "=d/a"],
        );
    }

    #[test]
    fn a_folder_that_is_not_known_any_more_is_made() {
        check("two", "d/e/a=1", "", None, &["+d/", "+d/e/", "=d/e/a"]);
        check("one", "d/e/a=1", "d/", None, &["+d/e/", "=d/e/a"]);
        check("none", "d/e/a=1", "d/ d/e/", Some("d"), &["=d/e/a"]);
    }
}
