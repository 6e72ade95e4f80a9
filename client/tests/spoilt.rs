//! A remote whose content isn't what it says it is: said, and not fetched again and again.
#![allow(missing_docs)]

use raspbox::engine::{Engine, Options, Scope};
use raspbox::local::Workspace;
use raspbox::remote::{Events, Look, Remote, RemoteError, RemoteTree, Sink};
use raspbox_beneath::File;
use raspbox_core::plan::Trouble;
use raspbox_core::tree::Unknown;
use raspbox_protocol::commit::{Op, Outcome};
use raspbox_protocol::info::{DriveId, Holds, Info};
use raspbox_protocol::want::Want;
use raspbox_protocol::{Cursor, Digest, Entry, Epoch, Mtime, RelPath, Version};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// One file `a`, whose bytes are never those of its hash.
struct Spoilt {
    version: Arc<AtomicU64>,
    fetched: Arc<AtomicU64>,
}

impl Spoilt {
    fn cursor(&self) -> Cursor {
        Cursor {
            epoch: Epoch([1; 16]),
            seq: self.version.load(Ordering::SeqCst),
        }
    }
}

impl Remote for Spoilt {
    fn info(&mut self) -> Result<Info, RemoteError> {
        Ok(Info {
            protocol: raspbox_protocol::PROTOCOL_VERSION,
            drive: DriveId([2; 16]),
            cursor: self.cursor(),
            free_bytes: 1 << 30,
            size_bytes: 1 << 30,
            holds: Holds {
                case_sensitive: true,
                symlinks: true,
                dos_names: false,
                file_max_bytes: u64::MAX,
                granularity: Duration::from_nanos(1),
            },
            now: Mtime(0),
            writable: true,
        })
    }

    fn knows(&mut self, _cursor: Cursor) -> Result<bool, RemoteError> {
        Ok(true)
    }

    fn look(
        &mut self,
        _: Option<Cursor>,
        _: &RemoteTree,
        _: &dyn Fn(&RelPath) -> Option<(u64, bool)>,
    ) -> Result<Look, RemoteError> {
        let file = raspbox_protocol::File {
            digest: Digest::of(b"good"),
            size: 4,
            mtime: Mtime(0),
            executable: false,
        };
        let version = Version(self.cursor().seq);
        Ok(Look {
            whole: true,
            changes: vec![(
                RelPath::parse("a").expect("good"),
                Some(Entry::File(file)),
                version,
            )],
            unknown: Vec::new(),
            cursor: self.cursor(),
        })
    }

    fn push(
        &mut self,
        _: &[Op],
        _: &mut dyn FnMut(usize) -> io::Result<File>,
        _: &mut dyn FnMut(u64),
    ) -> Result<Vec<Outcome>, RemoteError> {
        panic!("there is nothing to push")
    }

    fn pull(&mut self, wants: &[Want], sink: &mut dyn Sink) -> Result<(), RemoteError> {
        for index in 0..wants.len() {
            self.fetched.fetch_add(1, Ordering::SeqCst);
            sink.begin(index, 4)?;
            sink.data(index, b"evil")?;
            sink.done(index);
        }
        Ok(())
    }

    fn knows_hashes(&self) -> bool {
        true
    }

    fn events(&self, _: Cursor) -> Result<Option<Box<dyn Events>>, RemoteError> {
        Ok(None)
    }
}

#[test]
fn a_content_that_is_spoilt_again_and_again_is_damaged_and_not_fetched_for_ever() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = dir.path().join("folder");
    Workspace::mark(&folder, "pair").expect("marked");
    let (version, fetched) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
    let remote = Spoilt {
        version: Arc::clone(&version),
        fetched: Arc::clone(&fetched),
    };
    let database = dir.path().join("sync.db");
    let mut engine =
        Engine::open(&folder, "pair", "laptop", &database, Box::new(remote)).expect("an engine");
    let mut round = || {
        let summary = engine.round(&Scope::All, Options::default(), &mut |_| {});
        let summary = summary.expect("a round");
        let problems: Vec<Trouble> = summary.problems.into_iter().map(|p| p.what).collect();
        assert_eq!(problems, [Trouble::Remote(Unknown::Damaged)]);
        fetched.load(Ordering::SeqCst)
    };
    assert_eq!([round(), round(), round()], [2, 2, 2]);
    // Another version may be another content.
    version.store(2, Ordering::SeqCst);
    assert_eq!([round(), round()], [4, 4]);
    assert!(!folder.join("a").exists());
    assert_eq!(
        std::fs::read_dir(folder.join(".raspbox/staging"))
            .expect("staging")
            .count(),
        0
    );
}
