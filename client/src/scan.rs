//! Looking at the local folder: what is there, with the hash of every file.
//!
//! A file is read only where its size, mtime, ctime or inode isn't as it was when it was hashed, or
//! where that hash was taken so soon after the file was written that a second write could have left
//! all four the same (git calls such an entry "racily clean").
//!
//! Where a file is read although it looks as it did when a hash was taken that may be believed, and
//! has another hash now, then nobody wrote to it: it is damaged, and nothing is decided about it.

mod by_number;

use crate::chunks::{CONTENT_MIN_BYTES, Chunks, Cutter};
use crate::disk;
use crate::ignores::Rules;
use crate::state::{Hashed, Print};
pub use by_number::ByNumber;
use raspbox_beneath::{Folder as OpenFolder, Kind, Stat, Top, absent, now};
use raspbox_core::names::Disk;
use raspbox_core::tree::{Folder, Node, Unknown};
use raspbox_protocol::digest::Hasher;
use raspbox_protocol::{Digest, File, LinkTarget, Mtime, PathError, RelPath};
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::time::Duration;

/// The coarsest step in which a filesystem keeps times: FAT's two seconds.
pub const GRANULARITY_MAX: Duration = Duration::from_secs(2);

/// The step in which FAT keeps when a file was made, which it gives for its ctime, in nanoseconds.
const FAT_STEP_NANOS: i64 = 10_000_000;

/// How long a program may go on writing through a mapping of a file without its times telling: they are
/// set at the first store to a page, and again only after the kernel has written that page out. Linux
/// does so when it is 30 seconds old and looks for such pages every 5 (`dirty_expire_centisecs` and
/// `dirty_writeback_centisecs`); the rest is for a disk that is busy.
pub const WRITEBACK_MAX: Duration = Duration::from_secs(60);

/// How long a file must not have been touched before it is looked at: longer than the pauses of a
/// program that saves, shorter than a person's patience.
pub const QUIET: Duration = Duration::from_millis(100);

/// How often a file that changes while it is read is read again before it counts as busy.
const READS_MAX: usize = 3;

/// As much as is read at once: large enough that the call costs nothing, small enough for a cache.
const PIECE_BYTES: usize = 256 << 10;

/// As much as is read at once of a file that seems to be small: a page.
const PIECE_MIN_BYTES: usize = 4 << 10;

/// What the local side knows of an entry besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seen {
    /// What it looked like.
    pub print: Print,
    /// Whether its hash may be believed for as long as it looks the same.
    pub settled: bool,
}

/// Whether what is known of a file is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doubt {
    /// As far as its looks say so.
    No,
    /// Not before it is read again: its content was not what it should be when it was sent.
    Suspect,
    /// It was found damaged when it looked like this.
    Damaged(Print),
}

/// The local side.
pub type LocalTree = Folder<Seen>;

/// A file that was known by another path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// Its hash as it was before it was damaged, if it was.
    pub digest: Digest,
    /// Whether it was found damaged.
    pub damaged: bool,
}

/// Looks at a folder.
pub struct Scanner<'a> {
    /// The folder.
    pub top: &'a Top,
    /// What its disk makes of names.
    pub disk: &'a Disk,
    /// What isn't synced.
    pub rules: &'a Rules,
    /// What was known of a path at the last scan. What it fails at isn't read.
    pub known: &'a dyn Fn(&RelPath) -> io::Result<Option<Hashed>>,
    /// A file that was known by another path and looked just so.
    pub moved: &'a dyn Fn(&Print) -> io::Result<Option<Moved>>,
    /// Whether a file is executable where its disk doesn't know; `None` where that does.
    pub executable: Option<&'a dyn Fn(&RelPath) -> bool>,
    /// What speaks against believing that.
    pub doubt: &'a dyn Fn(&RelPath) -> Doubt,
    /// The clock when the scan began.
    pub now: Mtime,
    /// Told of each file that had to be read: its size in bytes.
    pub reading: &'a mut dyn FnMut(&RelPath, u64),
    /// Hashes that were taken, for the cache.
    pub fresh: Vec<(RelPath, Hashed)>,
    /// The chunks of large contents that were read; `None` where nobody wants to know them.
    pub chunks: Option<Vec<(Digest, Chunks)>>,
    /// Files that were found damaged, with what they look like.
    pub damaged: Vec<(RelPath, Print)>,
    /// Names that can't be synced, where, and why.
    pub unsyncable: Vec<(String, String)>,
    /// Files that were touched less than [`QUIET`] ago; they count as busy, and were not read.
    pub young: Vec<RelPath>,
}

impl Scanner<'_> {
    /// Everything.
    ///
    /// # Errors
    /// Where the top itself can't be read.
    pub fn all(&mut self) -> io::Result<LocalTree> {
        let folder = self.top.folder(None)?;
        self.children(&folder, None)
    }

    /// What stands at one path now, with everything below; `None` where nothing does, or nothing
    /// that is synced.
    pub fn at(&mut self, path: &RelPath) -> Option<Node<Seen>> {
        let parent = match self.top.parent_of(path) {
            Ok(parent) => parent,
            Err(error) if absent(&error) => return None,
            Err(error) => return Some(unreadable(&error)),
        };
        // It may be found by a name that isn't its own.
        if !disk::is_exact(self.disk) {
            match disk::shows(self.disk, &parent, path.name()) {
                Ok(true) => {}
                Ok(false) => return None,
                Err(error) => return Some(unreadable(&error)),
            }
        }
        self.node(&parent, OsStr::new(path.name()), path)
    }

    /// What is in an open folder. Files come first, and then what is in folders: what is known is asked for by folder.
    fn children(&mut self, folder: &OpenFolder, at: Option<&RelPath>) -> io::Result<LocalTree> {
        let mut found = Folder::default();
        // A map that is made of all of them at once has no room to spare.
        let names = folder.names()?;
        let mut children = Vec::with_capacity(names.len());
        let mut folders = Vec::new();
        for name in names {
            match child(self.disk, at, &name) {
                Ok(path) => match self.look(folder, &name, &path) {
                    Ok(Some(stat)) if stat.kind == Kind::Folder => folders.push((path, stat)),
                    Ok(Some(stat)) => match self.node_of(folder, &name, &path, &stat) {
                        Some(node) => children.push((path.name().into(), node)),
                        None => found.holds_unsynced = true,
                    },
                    // Vanished or ignored; the latter keeps the folder from being removed.
                    Ok(None) => found.holds_unsynced = true,
                    Err(error) => children.push((path.name().into(), unreadable(&error))),
                },
                // Our own folder is nobody's business.
                Err(PathError::Reserved) => {}
                Err(error) => {
                    found.holds_unsynced = true;
                    let place = at.map_or_else(String::new, |at| format!("{at}/"));
                    let shown = name.to_string_lossy().escape_debug().to_string();
                    self.unsyncable.push((place + &shown, error.to_string()));
                }
            }
        }
        for (path, stat) in folders {
            match self.folder(&path, &stat) {
                Some(node) => children.push((path.name().into(), node)),
                None => found.holds_unsynced = true,
            }
        }
        found.children = children.into_iter().collect();
        Ok(found)
    }

    fn node(&mut self, parent: &OpenFolder, name: &OsStr, path: &RelPath) -> Option<Node<Seen>> {
        match self.look(parent, name, path) {
            Ok(stat) => self.node_of(parent, name, path, &stat?),
            Err(error) => Some(unreadable(&error)),
        }
    }

    /// What stands at a path; `None` where nothing does, or nothing that is synced.
    fn look(&self, parent: &OpenFolder, name: &OsStr, path: &RelPath) -> io::Result<Option<Stat>> {
        let stat = parent.stat(name)?;
        Ok(stat.filter(|stat| !self.rules.skip(path, stat.kind == Kind::Folder)))
    }

    fn folder(&mut self, path: &RelPath, stat: &Stat) -> Option<Node<Seen>> {
        let open = self.top.folder(Some(path));
        match open.and_then(|folder| self.children(&folder, Some(path))) {
            Ok(folder) => Some(Node::Folder(folder, unread(stat))),
            // It was one when it was listed; by now it may have another name, which was not.
            Err(error) if vanished(&error) => Some(Node::Unknown(Unknown::Busy)),
            Err(error) => Some(unreadable(&error)),
        }
    }

    fn node_of(
        &mut self,
        parent: &OpenFolder,
        name: &OsStr,
        path: &RelPath,
        stat: &Stat,
    ) -> Option<Node<Seen>> {
        match stat.kind {
            Kind::File => self.file(parent, name, path, stat),
            Kind::Folder => self.folder(path, stat),
            Kind::Symlink => Some(match parent.read_symlink(name).map(OsString::into_string) {
                Ok(Ok(target)) => match LinkTarget::parse(&target) {
                    Ok(target) => Node::Symlink(target, unread(stat)),
                    Err(error) => Node::Unknown(Unknown::Unsyncable(error.to_string())),
                },
                Ok(Err(_)) => Node::Unknown(Unknown::Unsyncable("its target is not UTF-8".into())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
                Err(error) => unreadable(&error),
            }),
            Kind::Special => Some(Node::Unknown(Unknown::Special)),
        }
    }

    fn as_file(&self, path: &RelPath, stat: &Stat, digest: Digest) -> File {
        let known = self.executable.map(|known| known(path));
        File {
            digest,
            size: stat.size,
            mtime: stat.mtime,
            executable: known.unwrap_or(stat.executable),
        }
    }

    /// What is known of a file that looks so.
    fn known_as(
        &mut self,
        path: &RelPath,
        print: &Print,
        doubt: Doubt,
    ) -> io::Result<Option<Hashed>> {
        match (self.known)(path)? {
            Some(known) if known.print == *print => Ok(Some(known)),
            // Of a suspect nothing is believed.
            _ if doubt == Doubt::No => self.moved_here(path, print),
            _ => Ok(None),
        }
    }

    /// What is known of a file that came to this path with a folder that was moved. That leaves the file's ctime as it
    /// is, which whatever is done to the file itself sets anew; so one that has the number, the size and the times of
    /// one that was hashed is that one.
    fn moved_here(&mut self, path: &RelPath, print: &Print) -> io::Result<Option<Hashed>> {
        if !tells_changes(print) {
            return Ok(None);
        }
        let Some(Moved { digest, damaged }) = (self.moved)(print)? else {
            return Ok(None);
        };
        let hashed = Hashed {
            print: *print,
            digest,
            settled: true,
        };
        self.fresh.push((path.clone(), hashed));
        if damaged {
            // That it was moved is to be seen, and then the mark is where it is.
            self.damaged.push((path.clone(), *print));
        }
        Ok(Some(hashed))
    }

    fn file(
        &mut self,
        parent: &OpenFolder,
        name: &OsStr,
        path: &RelPath,
        stat: &Stat,
    ) -> Option<Node<Seen>> {
        let print = Print::from(stat);
        let doubt = (self.doubt)(path);
        let known = match self.known_as(path, &print, doubt) {
            Ok(known) => known,
            Err(error) => return Some(unreadable(&error)),
        };
        if known.is_none() && !is_quiet(stat.ctime, now()) {
            self.young.push(path.clone());
            return Some(Node::Unknown(Unknown::Busy));
        }
        if doubt == Doubt::Damaged(print) {
            return Some(Node::Unknown(Unknown::Damaged));
        }
        let known = known.filter(|known| known.settled);
        if let Some(known) = known
            && doubt != Doubt::Suspect
        {
            let seen = Seen {
                print,
                settled: true,
            };
            return Some(Node::File(self.as_file(path, stat, known.digest), seen));
        }
        (self.reading)(path, stat.size);
        match hash(parent, name, self.chunks.is_some(), &mut |_| {}) {
            Ok(Some((stat, digest, _)))
                if known.is_some_and(|k| k.digest != digest && k.print == Print::from(&stat)) =>
            {
                self.damaged.push((path.clone(), print));
                Some(Node::Unknown(Unknown::Damaged))
            }
            Ok(Some((stat, digest, chunks))) => {
                if let (Some(all), Some(chunks)) = (&mut self.chunks, chunks) {
                    all.push((digest, chunks));
                }
                let hashed = Hashed {
                    print: Print::from(&stat),
                    digest,
                    settled: is_settled(&Print::from(&stat), self.now),
                };
                self.fresh.push((path.clone(), hashed));
                let seen = Seen {
                    print: hashed.print,
                    settled: hashed.settled,
                };
                Some(Node::File(self.as_file(path, &stat, digest), seen))
            }
            Ok(None) => Some(Node::Unknown(Unknown::Busy)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(unreadable(&error)),
        }
    }
}

/// Whether a file that looked so at `now` can't be written again and look the same: it was written
/// before what may still be mapped, and its times are older than a step of the filesystem's clock. A
/// program that sets the mtime back is told by the ctime, whose step is worth minding where it shows
/// whole seconds.
#[must_use]
pub fn is_settled(print: &Print, now: Mtime) -> bool {
    let before = |time: i64, age: Duration| {
        time < now
            .0
            .saturating_sub(i64::try_from(age.as_nanos()).expect("a minute fits"))
    };
    let whole_seconds = print.ctime % 1_000_000_000 == 0;
    before(print.mtime, WRITEBACK_MAX) && (!whole_seconds || before(print.ctime, GRANULARITY_MAX))
}

/// Whether the ctime is one that no other state of a file has: of a clock finer than FAT's hundredths of a
/// second, where numbers of files don't last either.
fn tells_changes(print: &Print) -> bool {
    print.ctime % FAT_STEP_NANOS != 0
}

/// Whether a file with this ctime hasn't been touched for long enough. One of the future says
/// nothing: a clock was set back, or is a file server's.
pub(crate) fn is_quiet(ctime: Mtime, now: Mtime) -> bool {
    let quiet = i64::try_from(QUIET.as_nanos()).expect("a tenth of a second fits");
    !(0..quiet).contains(&now.0.saturating_sub(ctime.0))
}

/// Hashes a file; `None` where it kept changing meanwhile.
///
/// # Errors
/// Where it can't be read.
pub fn read_file(parent: &OpenFolder, name: &OsStr) -> io::Result<Option<(Stat, Digest)>> {
    let read = hash(parent, name, false, &mut |_| {})?;
    Ok(read.map(|(stat, digest, _)| (stat, digest)))
}

/// The same, of what the disk has, and not of a copy in memory.
///
/// # Errors
/// Where it can't be read.
pub fn read_medium(parent: &OpenFolder, name: &OsStr) -> io::Result<Option<(Stat, Digest)>> {
    let read = hash(parent, name, false, &mut raspbox_beneath::File::drop_cached)?;
    Ok(read.map(|(stat, digest, _)| (stat, digest)))
}

/// The same, and where it is large and `cut` says so, how it is cut into chunks.
fn hash(
    parent: &OpenFolder,
    name: &OsStr,
    cut: bool,
    prepare: &mut dyn FnMut(&raspbox_beneath::File),
) -> io::Result<Option<(Stat, Digest, Option<Chunks>)>> {
    for _ in 0..READS_MAX {
        let mut file = parent.open_file(name)?;
        let before = Stat::of(&file)?;
        prepare(&file);
        let mut piece = vec![0; piece_bytes(before.size)];
        let mut hasher = Hasher::new();
        let mut cutter = (cut && before.size >= CONTENT_MIN_BYTES).then(Cutter::default);
        loop {
            let len = file.read(&mut piece)?;
            if len == 0 {
                break;
            }
            hasher.update(&piece[..len]);
            if let Some(cutter) = &mut cutter {
                cutter.update(&piece[..len]);
            }
        }
        let after = Stat::of(&file)?;
        if Print::from(&before) == Print::from(&after) && hasher.len_bytes() == after.size {
            return Ok(Some((after, hasher.digest(), cutter.map(Cutter::finish))));
        }
    }
    Ok(None)
}

/// How much of a file of this size to read at once: of a small one all of it and the end behind it, since
/// room that nothing comes into has to be made as well. It may grow meanwhile.
fn piece_bytes(size: u64) -> usize {
    let whole = usize::try_from(size).map_or(PIECE_BYTES, |size| size.saturating_add(1));
    whole.clamp(PIECE_MIN_BYTES, PIECE_BYTES)
}

/// The path of a name as the disk shows it.
fn child(disk: &Disk, at: Option<&RelPath>, name: &OsStr) -> Result<RelPath, PathError> {
    let name = disk::known_name(disk, name).ok_or(PathError::NotUtf8)?;
    RelPath::child(at, &name)
}

fn vanished(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// What is seen of something that has no content to read.
fn unread(stat: &Stat) -> Seen {
    Seen {
        print: Print::from(stat),
        settled: true,
    }
}

fn unreadable<T>(error: &io::Error) -> Node<T> {
    Node::Unknown(Unknown::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::{
        Doubt, GRANULARITY_MAX, QUIET, Scanner, WRITEBACK_MAX, hash, is_quiet, is_settled,
    };
    use crate::ignores::Rules;
    use crate::state::{Hashed, Print};
    use raspbox_beneath::{Stat, Top, now};
    use raspbox_core::names::{Accents, Disk};
    use raspbox_core::tree::{Node, Unknown};
    use raspbox_protocol::{Digest, Mtime, RelPath};
    use std::ffi::OsStr;
    use std::path::Path;
    use std::time::Duration;

    fn disk(top: &Top) -> Disk {
        let filesystem = top.folder(None).and_then(|top| top.filesystem());
        Disk::here(filesystem.expect("known").holds(), Accents::Apart)
    }

    fn before(time: Mtime, age: Duration) -> Mtime {
        Mtime(time.0 - i64::try_from(age.as_nanos()).expect("short"))
    }

    #[test]
    fn a_hash_is_believed_once_the_file_is_older_than_any_clocks_step() {
        let now = Mtime(1_700_000_000_000_000_000);
        let at = |mtime: Mtime, ctime: Mtime| Print {
            mtime: mtime.0,
            ctime: ctime.0,
            ..Print::default()
        };
        // A filesystem that keeps nanoseconds.
        let touched = Mtime(now.0 - 1);
        assert!(!is_settled(&at(now, touched), now));
        assert!(!is_settled(&at(before(now, GRANULARITY_MAX), touched), now));
        // Linux may let a page that is mapped be written to in silence for 35 seconds.
        let mapped = before(now, Duration::from_secs(35));
        assert!(!is_settled(&at(mapped, touched), now));
        assert!(!is_settled(&at(before(now, WRITEBACK_MAX), touched), now));
        let old = Mtime(before(now, WRITEBACK_MAX).0 - 1);
        assert!(is_settled(&at(old, touched), now));
        assert!(
            !is_settled(&at(Mtime(now.0 + 1), touched), now),
            "of the future"
        );
        // One that keeps seconds.
        assert!(!is_settled(&at(old, now), now), "its time may be set back");
        let seconds_ago = before(now, Duration::from_secs(3));
        assert!(is_settled(&at(old, seconds_ago), now));
    }

    #[test]
    fn a_file_is_quiet_once_nobody_touched_it_for_a_moment() {
        let now = Mtime(1_700_000_000_000_000_000);
        assert!(!is_quiet(now, now));
        assert!(!is_quiet(Mtime(before(now, QUIET).0 + 1), now));
        assert!(is_quiet(before(now, QUIET), now));
        // A clock that was set back says nothing, and must not hold a file up for years.
        assert!(is_quiet(Mtime(now.0 + 1), now));
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again_and_then_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("a");
        let top = Top::open(dir.path()).expect("open");
        let folder = top.folder(None).expect("the top");
        let name = OsStr::new("a");
        let read = |changes: usize| {
            std::fs::write(&file, "first").expect("write");
            let mut reads = 0;
            let found = hash(&folder, name, false, &mut |_| {
                reads += 1;
                if reads <= changes {
                    std::fs::write(&file, format!("written {reads}")).expect("write");
                }
            });
            (reads, found.expect("read").map(|(_, digest, _)| digest))
        };
        assert_eq!(read(0), (1, Some(Digest::of(b"first"))));
        assert_eq!(read(1), (2, Some(Digest::of(b"written 1"))));
        assert_eq!(read(100), (3, None));
    }

    /// What a scan makes of a file with this content, of which this was known.
    fn scan(
        content: &str,
        known: impl Fn(Print) -> Option<Hashed>,
        doubt: impl Fn(Print) -> Doubt,
    ) -> (Option<Node<()>>, usize, usize) {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("a");
        std::fs::write(&file, content).expect("write");
        let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let open = std::fs::File::options().append(true).open(&file);
        open.and_then(|file| file.set_modified(long_ago))
            .expect("its time");
        let top = Top::open(dir.path()).expect("open");
        let path = RelPath::parse("a").expect("good");
        let look = || -> Stat { top.stat(&path).expect("known").expect("there") };
        // Its ctime is young, whatever its mtime is.
        while !is_quiet(look().ctime, now()) {
            std::thread::yield_now();
        }
        let print = Print::from(&look());
        let mut reads = 0;
        let mut scanner = Scanner {
            top: &top,
            disk: &disk(&top),
            rules: &Rules::parse(""),
            known: &|_| Ok(known(print)),
            moved: &|_| Ok(None),
            executable: None,
            doubt: &|_| doubt(print),
            now: now(),
            reading: &mut |_, _| reads += 1,
            fresh: Vec::new(),
            chunks: None,
            damaged: Vec::new(),
            unsyncable: Vec::new(),
            young: Vec::new(),
        };
        let node = scanner.at(&path);
        let damaged = scanner.damaged.len();
        let node = node.map(|node| match node {
            Node::File(file, _) => Node::File(file, ()),
            Node::Unknown(why) => Node::Unknown(why),
            Node::Folder(..) | Node::Symlink(..) => panic!("it is a file"),
        });
        drop(dir);
        (node, reads, damaged)
    }

    fn digest(node: &Option<Node<()>>) -> Option<Digest> {
        match node {
            Some(Node::File(file, ())) => Some(file.digest),
            _ => None,
        }
    }

    #[test]
    fn a_settled_hash_is_believed_by_looks_unless_it_is_suspect() {
        let good = Digest::of(b"good");
        let known = |settled| {
            move |print| {
                Some(Hashed {
                    print,
                    digest: good,
                    settled,
                })
            }
        };
        let no = |_| Doubt::No;
        // Believed, and not read.
        let (node, reads, damaged) = scan("evil", known(true), no);
        assert_eq!((digest(&node), reads, damaged), (Some(good), 0, 0));
        // Suspect: read. Another hash under the same looks is damage, the same one is nothing.
        let (node, reads, damaged) = scan("evil", known(true), |_| Doubt::Suspect);
        assert_eq!(node, Some(Node::Unknown(Unknown::Damaged)));
        assert_eq!((reads, damaged), (1, 1));
        let (node, _, damaged) = scan("good", known(true), |_| Doubt::Suspect);
        assert_eq!((digest(&node), damaged), (Some(good), 0));
        // Taken too soon after the write: whatever is there now is an edit.
        let (node, reads, damaged) = scan("evil", known(false), |_| Doubt::Suspect);
        let evil = Some(Digest::of(b"evil"));
        assert_eq!((digest(&node), reads, damaged), (evil, 1, 0));
        // So it is where it doesn't look the same.
        let touched = |mut print: Print| {
            print.ctime -= 1;
            Some(Hashed {
                print,
                digest: good,
                settled: true,
            })
        };
        let (node, reads, damaged) = scan("evil", touched, |_| Doubt::Suspect);
        assert_eq!((digest(&node), reads, damaged), (evil, 1, 0));
    }

    #[test]
    fn what_was_found_damaged_stays_so_for_as_long_as_it_looks_so() {
        let (node, reads, _) = scan("evil", |_| None, Doubt::Damaged);
        assert_eq!(node, Some(Node::Unknown(Unknown::Damaged)));
        assert_eq!(reads, 0);
        let other = |mut print: Print| {
            print.ctime -= 1;
            Doubt::Damaged(print)
        };
        let (node, reads, _) = scan("evil", |_| None, other);
        assert_eq!((digest(&node), reads), (Some(Digest::of(b"evil")), 1));
    }

    #[test]
    fn a_folder_that_can_not_be_read_is_unknown_and_not_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir(dir.path().join("gone")).expect("mkdir");
        let top = Top::open(Path::new(dir.path())).expect("open");
        let mut scanner = Scanner {
            top: &top,
            disk: &disk(&top),
            rules: &Rules::parse(""),
            known: &|_| Ok(None),
            moved: &|_| Ok(None),
            executable: None,
            doubt: &|_| Doubt::No,
            now: now(),
            reading: &mut |_, _| {},
            fresh: Vec::new(),
            chunks: None,
            damaged: Vec::new(),
            unsyncable: Vec::new(),
            young: Vec::new(),
        };
        // A path through something that is no folder can't be told to be absent.
        std::os::unix::fs::symlink("gone", dir.path().join("link")).expect("symlink");
        let below = RelPath::parse("link/x").expect("good");
        assert!(matches!(
            scanner.at(&below),
            Some(Node::Unknown(Unknown::Unreadable(_)))
        ));
        let gone = RelPath::parse("gone/x").expect("good");
        assert!(scanner.at(&gone).is_none());
    }
}
