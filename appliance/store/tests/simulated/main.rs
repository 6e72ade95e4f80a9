//! A store on a simulated disk: the power is cut at every step, the disk is an odd one, or in trouble.

mod odd;
mod power;
mod trouble;

use raspbox_beneath::sim::{Computer, Disk, Entered, Node, Traits, enter};
use raspbox_protocol::commit::{CommitFrame, Expect, Op};
use raspbox_protocol::special::{CommitSummary, RequestId};
use raspbox_protocol::wire::to_bytes;
use raspbox_protocol::{Digest, File, Mtime, RelPath};
use raspbox_store::{By, Faults, Options, Store, StoreError};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

const AT: &str = "/simulated";

/// 2026-01-31 12:00 in UTC.
const NOON: Mtime = Mtime(1_769_860_800_000_000_000);

/// What users' files are.
type Files = BTreeMap<String, String>;

enum Change {
    Put(&'static str, &'static str),
    Delete(&'static str),
    Move(&'static str, &'static str),
    /// A content that was displaced comes back there.
    Restore(&'static str, &'static str),
    /// Somebody brings a content that once stood there.
    Keep(&'static str, &'static str),
    /// A commit of a new file is cut in its middle, and the next one goes on from there.
    Resume(&'static str, &'static str),
}

/// A disk at [`AT`], on a computer that is entered for as long as the first is there.
fn mounted(traits: Traits) -> (Entered, Disk) {
    let entered = enter(&Computer::new(NOON, 1));
    let disk = Disk::new(traits);
    disk.mount(Path::new(AT));
    (entered, disk)
}

fn open(faults: &Faults) -> Option<Store> {
    Store::open_with(Path::new(AT), Options { floor_bytes: 0 }, faults.clone()).ok()
}

fn path(text: &str) -> RelPath {
    RelPath::parse(text).expect("a good path")
}

fn file(content: &str) -> File {
    File {
        digest: Digest::of(content.as_bytes()),
        size: content.len() as u64,
        mtime: NOON,
        executable: false,
    }
}

/// A commit of the new file "a".
fn put_one(executable: bool) -> [CommitFrame; 2] {
    let op = Op::Put {
        path: path("a"),
        expect: Expect::Absent,
        file: File {
            executable,
            ..file("one")
        },
    };
    [CommitFrame::Op(op), CommitFrame::Data(b"one".to_vec())]
}

/// Commits one operation, under an id made of its content.
fn commit(store: &Store, content: &str, op: &[CommitFrame]) -> Result<(), StoreError> {
    let frames = to_bytes(&[op, &[CommitFrame::End { ops: 1 }]].concat());
    let id = RequestId(
        *Digest::of(content.as_bytes())
            .as_bytes()
            .first_chunk()
            .expect("32"),
    );
    match store.commit(id, &By("ann".into()), &|_| true, &mut &frames[..])? {
        CommitSummary::All { .. } => Ok(()),
        CommitSummary::Mixed { .. } => Err(StoreError::NotNow("refused".into())),
    }
}

fn files(disk: &Disk) -> Files {
    let tree = disk.user().tree("").into_iter();
    let users = tree.filter(|(path, _)| !path.starts_with(".raspbox"));
    users
        .map(|(path, node)| match node {
            Node::File { content, .. } => (path, String::from_utf8(content).expect("text")),
            other => panic!("{path} is {other:?}"),
        })
        .collect()
}

/// The same where there are folders.
fn files_below(disk: &Disk) -> Files {
    let tree = disk.user().tree("").into_iter();
    let users = tree.filter(|(path, _)| !path.starts_with(".raspbox"));
    let files = users.filter_map(|(path, node)| match node {
        Node::File { content, .. } => Some((path, String::from_utf8(content).expect("text"))),
        Node::Folder | Node::Symlink(_) => None,
    });
    files.collect()
}

impl Change {
    fn make(&self, store: &Store) -> Result<(), StoreError> {
        let by = By("ann".into());
        match self {
            Change::Put(at, content) => {
                let mut staged = store.stage()?;
                let wrote = staged.write_all(content.as_bytes());
                wrote.map_err(|error| StoreError::NotNow(error.to_string()))?;
                store.put(staged, &path(at), &by)?;
            }
            Change::Delete(at) => drop(store.delete_file(&path(at), &by)?),
            Change::Move(from, to) => drop(store.rename(&path(from), &path(to), &by)?),
            Change::Restore(at, content) => {
                let op = Op::Restore {
                    path: path(at),
                    expect: Expect::Absent,
                    file: file(content),
                };
                commit(store, content, &[CommitFrame::Op(op)])?;
            }
            Change::Keep(at, content) => {
                let op = Op::Keep {
                    path: path(at),
                    file: file(content),
                };
                let data = CommitFrame::Data(content.as_bytes().to_vec());
                commit(store, content, &[CommitFrame::Op(op), data])?;
            }
            Change::Resume(at, content) => {
                let op = CommitFrame::Op(Op::Put {
                    path: path(at),
                    expect: Expect::Absent,
                    file: file(content),
                });
                let (begin, rest) = content.as_bytes().split_at(content.len() / 2);
                let data = |piece: &[u8]| CommitFrame::Data(piece.to_vec());
                let frames = to_bytes(&[op.clone(), data(begin)]);
                let cut = store.commit(RequestId([1; 16]), &by, &|_| true, &mut &frames[..]);
                assert!(cut.is_err(), "nothing is applied");
                let bytes = store.part_bytes(&Digest::of(content.as_bytes()))?;
                if bytes != begin.len() as u64 {
                    return Err(StoreError::NotNow("it wasn't kept".into()));
                }
                commit(
                    store,
                    content,
                    &[op, CommitFrame::Offset { bytes }, data(rest)],
                )?;
            }
        }
        Ok(())
    }

    /// What becomes of the files, and the content that is displaced.
    fn on(&self, files: &mut Files) -> Option<String> {
        match self {
            Change::Put(at, content)
            | Change::Restore(at, content)
            | Change::Resume(at, content) => files.insert((*at).into(), (*content).into()),
            Change::Delete(at) => files.remove(*at),
            Change::Keep(_, content) => Some((*content).into()),
            Change::Move(from, to) => {
                let moved = files.remove(*from).expect("it is there");
                files.insert((*to).into(), moved)
            }
        }
    }
}
