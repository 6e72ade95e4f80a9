//! The same calls on a real folder and on a simulated disk have the same answers. This is what keeps
//! the simulation honest.

use crate::{AT, Bed, Numbers};
use raspbox_beneath::sim::Traits;
use raspbox_beneath::{File, Folder, Kind, Rename, Stat, Top};
use raspbox_protocol::Mtime;
use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

const SEEDS: u64 = 100;
const CALLS: usize = 300;

/// Times before this were set by a call, later ones are the clock's.
const SET_BEFORE: i64 = 1_000_000_000 * 1_000_000_000;

/// One of the two sides, with what is open on it.
struct Side {
    top: Top,
    folders: Vec<Folder>,
    files: Vec<File>,
}

/// What a call answered, as far as both must say the same.
fn answer<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => match error.raw_os_error() {
            Some(code) => format!("error {code}: {error}"),
            None => format!("{:?}: {error}", error.kind()),
        },
    }
}

fn shown(stat: Stat) -> impl Debug {
    let size = (stat.kind != Kind::Folder).then_some(stat.size);
    let mtime = (stat.mtime.0 < SET_BEFORE).then_some(stat.mtime);
    (stat.kind, size, mtime, stat.executable)
}

/// A call and what it is about, drawn once and made on both sides.
#[derive(Debug, Clone)]
struct Call {
    what: usize,
    folder: usize,
    other: usize,
    file: usize,
    path: String,
    name: String,
    to: String,
    how: Rename,
    number: usize,
}

const KINDS: usize = 22;

impl Call {
    fn draw(numbers: &mut Numbers) -> Call {
        let names = ["a", "b", "c", "d"];
        let long = "x".repeat(256);
        let odd = ["ä", "A", "a.", "a:b", &long];
        let name = |numbers: &mut Numbers| match numbers.below(20) {
            0 => (*numbers.one_of(&odd)).to_owned(),
            _ => (*numbers.one_of(&names)).to_owned(),
        };
        let depth = numbers.below(3);
        let parts: Vec<String> = (0..=depth).map(|_| name(numbers)).collect();
        let how = [Rename::Replace, Rename::NoReplace, Rename::Exchange];
        Call {
            what: numbers.below(KINDS),
            folder: numbers.below(100),
            other: numbers.below(100),
            file: numbers.below(100),
            path: parts.join("/"),
            name: name(numbers),
            to: name(numbers),
            how: *numbers.one_of(&how),
            number: numbers.below(10_000),
        }
    }

    fn on(&self, side: &mut Side) -> String {
        let Call { name, to, .. } = self;
        let folders = side.folders.len();
        let folder = &side.folders[self.folder % folders];
        let other = &side.folders[self.other % folders];
        let mode = if self.number.is_multiple_of(2) {
            0o755
        } else {
            0o644
        };
        let mtime = Mtime(i64::try_from(self.number).unwrap() * 1_234_567_891 - 1_000_000_000_000);
        match self.what {
            0 => answer(folder.make_folder(name, 0o755)),
            1 => {
                let made = folder.create_file(name, mode);
                Side::keep(&mut side.files, made)
            }
            2 => {
                let made = folder.open_or_create_file(name, mode);
                Side::keep(&mut side.files, made)
            }
            3 => {
                let made = folder.open_file(name);
                Side::keep(&mut side.files, made)
            }
            4 => answer(folder.make_symlink(to.as_ref(), name)),
            5 => answer(folder.read_symlink(name)),
            6..=9 => answer(folder.rename(name, other, to, self.how)),
            10 => answer(folder.rename_to_free(name, other, to)),
            11 => answer(folder.remove_file(name)),
            12 => answer(folder.remove_folder(name)),
            13 => answer(folder.set_mtime(name, mtime)),
            14 => answer(folder.set_mode(name, mode)),
            15 => answer(folder.stat(name).map(|found| found.map(shown))),
            16 => answer(folder.names().map(|mut names| {
                names.sort();
                names
            })),
            17 => {
                let opened = side.top.folder_at(Path::new(&self.path));
                Side::keep(&mut side.folders, opened)
            }
            18 => {
                let opened =
                    folder.folder_at(Path::new(if self.number < 1_000 { ".." } else { name }));
                Side::keep(&mut side.folders, opened)
            }
            19 => {
                let all = self.number < 500;
                let synced = match all {
                    true => folder.sync_filesystem(),
                    false => folder.sync(),
                };
                answer(folder.own_stat().map(shown)) + &answer(synced)
            }
            20 => answer(folder.remove_all(name)),
            _ => self.on_file(side, mode, mtime),
        }
    }

    fn on_file(&self, side: &mut Side, mode: u32, mtime: Mtime) -> String {
        let count = side.files.len();
        if count == 0 {
            return String::new();
        }
        let file = &mut side.files[self.file % count];
        let mut buffer = vec![0; self.number];
        match self.other % 9 {
            0 | 1 => answer(file.write(&vec![self.name.as_bytes()[0]; self.number])),
            2 => answer(file.read(&mut buffer)) + &answer(Ok(buffer)),
            3 => answer(file.seek(SeekFrom::Start(self.number as u64))),
            4 => answer(file.seek(SeekFrom::End(-5))),
            5 => answer(file.set_mtime(mtime)),
            6 => answer(file.set_mode(mode)),
            7 => answer(file.try_lock()),
            _ => answer(Stat::of(file).map(shown)) + &answer(file.sync_all()),
        }
    }
}

impl Side {
    fn new(path: &Path) -> Side {
        let top = Top::open(path).unwrap();
        let folders = vec![top.folder(None).unwrap()];
        Side {
            top,
            folders,
            files: Vec::new(),
        }
    }

    /// Keeps a few of what was opened, the oldest goes.
    fn keep<T>(kept: &mut Vec<T>, opened: io::Result<T>) -> String {
        let (opened, text) = match opened {
            Ok(opened) => (Some(opened), "opened".to_owned()),
            Err(error) => (None, answer::<()>(Err(error))),
        };
        kept.extend(opened);
        if kept.len() > 6 {
            // Never the top.
            kept.remove(1);
        }
        text
    }

    fn tree(&self) -> String {
        fn walk(folder: &Folder, at: &str, found: &mut Vec<String>) {
            for name in folder.names().unwrap() {
                let name = name.into_string().unwrap();
                let stat = folder.stat(&name).unwrap().unwrap();
                let path = format!("{at}/{name}");
                found.push(format!("{path} {:?}", shown(stat)));
                match stat.kind {
                    Kind::Folder => {
                        walk(&folder.folder_at(Path::new(&name)).unwrap(), &path, found);
                    }
                    Kind::File => {
                        let mut content = Vec::new();
                        let mut file = folder.open_file(&name).unwrap();
                        file.read_to_end(&mut content).unwrap();
                        found.push(format!("{content:?}"));
                    }
                    Kind::Symlink => found.push(format!("{:?}", folder.read_symlink(&name))),
                    Kind::Special => unreachable!("nothing makes one"),
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.folders[0], "", &mut found);
        found.sort();
        found.join("\n")
    }
}

#[test]
fn a_simulated_ext4_answers_as_a_real_folder_does() {
    for seed in 0..SEEDS {
        let real = tempfile::tempdir().unwrap();
        let _bed = Bed::new(Traits::ext4());
        let mut numbers = Numbers::new(seed);
        let mut sides = [Side::new(real.path()), Side::new(Path::new(AT))];
        for number in 0..CALLS {
            let call = Call::draw(&mut numbers);
            let answers = sides.each_mut().map(|side| call.on(side));
            assert!(
                answers[0] == answers[1],
                "seed {seed}, call {number}: {call:?}\nreal:      {:.300}\nsimulated: {:.300}",
                answers[0],
                answers[1]
            );
        }
        let trees = sides.each_ref().map(Side::tree);
        assert_eq!(trees[0], trees[1], "seed {seed}");
    }
}
