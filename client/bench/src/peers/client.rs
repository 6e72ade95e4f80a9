//! `client`: raspbox beside other programs that bring a folder to another computer.

use crate::programs::{Between, Pair, Program};
use crate::table::{Row, Table};
use anyhow::{Context, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

/// How much of everything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Files that are new.
    new: usize,
    /// Files of which nothing or one is.
    many: usize,
    large_mib: u64,
    /// Files that are edited while a program looks out for that.
    edits: usize,
}

impl Sizes {
    /// For tables.
    pub(crate) const WHOLE: Sizes = Sizes {
        new: 10_000,
        many: 100_000,
        large_mib: 1 << 10,
        edits: 20,
    };

    /// For a link that isn't fast.
    pub(crate) const LINK: Sizes = Sizes {
        new: 2_000,
        many: 0,
        large_mib: 32,
        edits: 0,
    };

    /// To see that that works.
    pub(crate) const QUICK_LINK: Sizes = Sizes {
        new: 200,
        large_mib: 8,
        ..Sizes::LINK
    };

    /// To see that it works.
    pub(crate) const QUICK: Sizes = Sizes {
        new: 1_000,
        many: 5_000,
        large_mib: 64,
        edits: 5,
    };
}

const NEW: Row = Row::speed("first upload of small files", "files/s");
const NEW_WIRE: Row = Row::cost("what travelled for each of them", "bytes");
const MOVED: Row = Row::cost("all of them moved with their folder", "s");
const MOVED_WIRE: Row = Row::cost("what travelled for that", "KiB");
const REAL: Row = Row::cost("a tree of real sources", "s");
const REAL_WIRE: Row = Row::cost("what travelled for it, of each MiB", "MiB");
const SAME: Row = Row::cost("nothing changed in a large tree", "s");
const SAME_WIRE: Row = Row::cost("what travelled to find that", "KiB");
const FOUND: Row = Row::circumstance("find with stat on the same tree", "s");
const HERE: Row = Row::cost("memory of the program meanwhile", "MiB");
const THERE: Row = Row::cost("memory of its server meanwhile", "MiB");
const ONE: Row = Row::cost("one file changed in it", "s");
const ONE_HERE: Row = Row::cost("memory of the program for that", "MiB");
const WATCHED: Row = Row::cost("the same while the program watches", "s");
const LARGE: Row = Row::speed("a large file", "MiB/s");
const PIECE: Row = Row::cost("a MiB in its middle changed", "s");
const PIECE_WIRE: Row = Row::cost("what travelled for that MiB", "MiB");

/// How many files there are in a folder.
const FOLDER_FILES: usize = 100;

/// What a small file has, in bytes.
const SMALL_BYTES: usize = 1 << 10;

/// Measures these programs, round by round.
pub(crate) fn measure(
    programs: &[Program],
    between: Between<'_>,
    sizes: &Sizes,
    rounds: usize,
) -> anyhow::Result<Table> {
    let names: Vec<String> = programs.iter().map(|program| program.name()).collect();
    let mut table = Table::new(&names);
    for round in 1..=rounds {
        for (n, program) in programs.iter().enumerate() {
            eprintln!("round {round} of {rounds}: {}", program.name());
            if !table.is_far_behind(n, &[NEW, MOVED]) {
                new_files(*program, between, sizes, &mut |row, v| table.add(row, n, v))?;
            }
            if !table.is_far_behind(n, &[REAL]) {
                real_files(*program, between, &mut |row, v| table.add(row, n, v))?;
            }
            if !table.is_far_behind(n, &[LARGE, PIECE]) {
                large_file(*program, between, sizes, &mut |row, v| table.add(row, n, v))?;
            }
        }
    }
    // Of these each has all its rounds in turn: their trees don't fit into memory at once.
    for (n, program) in programs.iter().enumerate().filter(|_| sizes.many > 0) {
        eprintln!("{} files: {}", sizes.many, program.name());
        let pair = Pair::start(*program, between)?;
        fill(&pair.here.join("many"), sizes.many)?;
        pair.settle()?;
        ensure_same(&pair, sizes.many)?;
        // First all of these: what was saved a moment ago is no tree at rest.
        for _ in 1..=rounds {
            if !table.is_far_behind(n, &[SAME]) {
                old_files(&pair, &mut |row, v| table.add(row, n, v))?;
            }
        }
        for round in 1..=rounds {
            if !table.is_far_behind(n, &[ONE]) {
                one_file(&pair, sizes, round, &mut |row, v| table.add(row, n, v))?;
            }
        }
    }
    Ok(table)
}

/// The first upload, and then the folder is moved.
fn new_files(
    program: Program,
    between: Between<'_>,
    sizes: &Sizes,
    add: &mut impl FnMut(Row, f64),
) -> anyhow::Result<()> {
    let pair = Pair::start(program, between)?;
    fill(&pair.here.join("new"), sizes.new)?;
    let cost = pair.sync()?;
    ensure_same(&pair, sizes.new)?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let files = sizes.new as f64;
    add(NEW, files / cost.seconds);
    add(NEW_WIRE, cost.wire_kib() * 1024.0 / files);
    fs::rename(pair.here.join("new"), pair.here.join("moved"))?;
    let cost = pair.sync()?;
    ensure_same(&pair, sizes.new)?;
    ensure!(count(&pair.there.join("moved"))? == sizes.new, "not moved");
    add(MOVED, cost.seconds);
    add(MOVED_WIRE, cost.wire_kib());
    Ok(())
}

/// The first upload of what somebody wrote: all that this machine's Python is made of, in Python.
fn real_files(
    program: Program,
    between: Between<'_>,
    add: &mut impl FnMut(Row, f64),
) -> anyhow::Result<()> {
    let pair = Pair::start(program, between)?;
    let asked = Command::new("python3")
        .args([
            "-c",
            "import sysconfig; print(sysconfig.get_path('stdlib'))",
        ])
        .output()?;
    let library = String::from_utf8(asked.stdout)?;
    let mut sources = Vec::new();
    find_sources(Path::new(library.trim()), &mut sources)?;
    ensure!(
        !sources.is_empty(),
        "python3 isn't installed: there are no sources"
    );
    let mut bytes = 0;
    for source in &sources {
        let to = pair.here.join(source.strip_prefix(library.trim())?);
        fs::create_dir_all(to.parent().context("it is in a folder")?)?;
        bytes += fs::copy(source, &to)?;
        let file = File::options().write(true).open(&to)?;
        file.set_modified(SystemTime::now() - AGE)?;
    }
    let cost = pair.sync()?;
    ensure_same(&pair, sources.len())?;
    eprintln!("    {} files, {bytes} bytes", sources.len());
    add(REAL, cost.seconds);
    #[expect(clippy::cast_precision_loss, reason = "some MiB")]
    add(REAL_WIRE, cost.wire_kib() * 1024.0 / bytes as f64);
    Ok(())
}

/// All `.py` in a folder, but for what was installed besides.
fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() && entry.file_name() != "site-packages" {
            find_sources(&path, found)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "py") {
            found.push(path);
        }
    }
    Ok(())
}

/// A look at a tree in which nothing changed.
fn old_files(pair: &Pair<'_>, add: &mut impl FnMut(Row, f64)) -> anyhow::Result<()> {
    add(FOUND, find(&pair.here)?);
    let cost = pair.sync()?;
    add(SAME, cost.seconds);
    add(SAME_WIRE, cost.wire_kib());
    add(HERE, cost.here_mib);
    add(THERE, cost.there_mib);
    Ok(())
}

/// One file of many is saved.
fn one_file(
    pair: &Pair<'_>,
    sizes: &Sizes,
    round: usize,
    add: &mut impl FnMut(Row, f64),
) -> anyhow::Result<()> {
    let (path, content) = (path_of(round), format!("another content, of round {round}"));
    let path = format!("many/{path}");
    fs::write(pair.here.join(&path), &content)?;
    let cost = pair.sync()?;
    let arrived = fs::read_to_string(pair.there.join(&path))?;
    ensure!(arrived == content, "{path} didn't arrive");
    add(ONE, cost.seconds);
    add(ONE_HERE, cost.here_mib);
    for seconds in pair.watched(&path, sizes.edits)? {
        add(WATCHED, seconds);
    }
    Ok(())
}

/// A large file, of which a little is changed then.
fn large_file(
    program: Program,
    between: Between<'_>,
    sizes: &Sizes,
    add: &mut impl FnMut(Row, f64),
) -> anyhow::Result<()> {
    let pair = Pair::start(program, between)?;
    let path = pair.here.join("large");
    let bytes = sizes.large_mib << 20;
    std::io::copy(&mut random()?.take(bytes), &mut File::create(&path)?)?;
    let cost = pair.sync()?;
    ensure!(
        fs::metadata(pair.there.join("large"))?.len() == bytes,
        "not all of it"
    );
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    add(LARGE, sizes.large_mib as f64 / cost.seconds);
    let mut piece = vec![0; 1 << 20];
    random()?.read_exact(&mut piece)?;
    // Of times FTP has whole seconds, and what is edited within one isn't seen.
    std::thread::sleep(Duration::from_secs(2));
    let mut file = File::options().write(true).open(&path)?;
    file.seek(SeekFrom::Start(bytes / 2))?;
    file.write_all(&piece)?;
    drop(file);
    let cost = pair.sync()?;
    let mut arrived = vec![0; 1 << 20];
    let mut file = File::open(pair.there.join("large"))?;
    file.seek(SeekFrom::Start(bytes / 2))?;
    file.read_exact(&mut arrived)?;
    ensure!(
        arrived == piece,
        "{}: the changed piece didn't arrive",
        program.name()
    );
    add(PIECE, cost.seconds);
    add(PIECE_WIRE, cost.wire_kib() / 1024.0);
    Ok(())
}

/// How files are spread over folders.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// So many in each folder, side by side.
    Each(usize),
    /// Over so many folders, each in the one before.
    Deep(usize),
}

impl Layout {
    /// The folder and the name of a file.
    fn place(self, n: usize) -> (String, String) {
        let folder = match self {
            Layout::Each(files) => format!("folder {:03}", n / files),
            Layout::Deep(folders) => vec!["d"; n % folders + 1].join("/"),
        };
        (folder, format!("a file with the number {n}"))
    }
}

/// A hundred in each.
pub(crate) const USUAL: Layout = Layout::Each(FOLDER_FILES);

fn path_of(n: usize) -> String {
    let (folder, name) = USUAL.place(n);
    format!("{folder}/{name}")
}

/// How old files are that nobody has just saved. Of younger ones raspbox doubts what it knows for a minute.
const AGE: Duration = Duration::from_secs(60 * 60);

/// Makes small files that have been there for a while, each with a content of its own that doesn't compress.
pub(crate) fn fill(folder: &Path, files: usize) -> anyhow::Result<()> {
    fill_as(USUAL, folder, files)
}

/// The same, spread otherwise.
pub(crate) fn fill_as(layout: Layout, folder: &Path, files: usize) -> anyhow::Result<()> {
    let mut random = std::io::BufReader::new(random()?);
    let mut content = vec![0; SMALL_BYTES];
    let before = SystemTime::now() - AGE;
    for n in 0..files {
        let (place, name) = layout.place(n);
        let place = folder.join(place);
        if !place.exists() {
            fs::create_dir_all(&place)?;
        }
        random.read_exact(&mut content)?;
        let mut file = File::create(place.join(name))?;
        file.write_all(&content)?;
        file.set_modified(before)?;
    }
    Ok(())
}

fn random() -> std::io::Result<File> {
    File::open("/dev/urandom")
}

/// Whether as many files are there as are here.
fn ensure_same(pair: &Pair<'_>, files: usize) -> anyhow::Result<()> {
    let (here, there) = (count(&pair.here)?, count(&pair.there)?);
    ensure!(
        (here, there) == (files, files),
        "{files} files, of which {here} are here and {there} there"
    );
    Ok(())
}

/// How many files there are in a tree, raspbox's own left out.
fn count(folder: &Path) -> anyhow::Result<usize> {
    let mut files = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            files += 1;
        } else if entry.file_name() != ".raspbox" {
            files += count(&entry.path())?;
        }
    }
    Ok(files)
}

/// What any program that looks at each file pays at least, in seconds.
fn find(folder: &Path) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let found = Command::new("find")
        .arg(folder)
        .args(["-printf", "%p %s %T@ %C@ %i\\n"])
        .stdout(std::process::Stdio::null())
        .status()?;
    ensure!(found.success(), "find: {found}");
    Ok(begin.elapsed().as_secs_f64())
}
