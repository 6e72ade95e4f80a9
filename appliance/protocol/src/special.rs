//! The names of the files through which clients and appliance talk, and the SITE command's words.

use crate::{Cursor, Mtime, RelPath, Version};
use std::fmt;
use std::str::FromStr;

/// The folder of all special files, as an FTP client names it.
pub const ROOT: &str = "/.raspbox";

/// The SITE subcommand that clients use: `SITE RBX <verb> …`.
pub const SITE: &str = "RBX";

/// What the appliance answers to `SITE RBX KNOWS <cursor>`, after the reply code, where its journal
/// has been at that position.
pub const KNOWN: &str = "known";

/// The same where it hasn't: it is another journal, or one that was put back to an older state. What
/// a client remembers of it doesn't hold.
pub const UNKNOWN: &str = "unknown";

/// A special file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Special {
    /// [`crate::info::Info`], to retrieve.
    Info,
    /// The whole tree as a [`crate::feed`], to retrieve.
    Tree,
    /// What changed after a cursor as a [`crate::feed`], to retrieve.
    Changes(Cursor),
    /// The same and all that follows, to retrieve for as long as one likes.
    Events(Cursor),
    /// A [`crate::commit`], to store.
    Commit(RequestId, Form),
    /// The outcomes of a commit, to retrieve.
    Result(RequestId),
    /// A list of [`crate::want`]s to store, which is always plain, and their contents to retrieve.
    Want(RequestId, Form),
    /// A list of contents to store, and which of them are kept ([`crate::holds`]) to retrieve.
    Holds(RequestId),
    /// What is known to be damaged ([`crate::damage`]), to retrieve.
    Damaged,
    /// What a path was before, as [`crate::history`], to retrieve.
    History(RelPath),
    /// The whole tree as it was then as a [`crate::feed`], to retrieve: a time by the appliance's
    /// clock.
    At(Mtime),
}

/// How a stream travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// [`crate::compressed`]; its name ends so as zstd's files do.
    Zstd,
}

/// The end of the name of what is compressed.
const ZST: &str = ".zst";

/// The folder in which ordinary FTP clients find versions as files; see the appliance.
pub const VERSIONS: &str = "/.raspbox/versions";

/// The appliance's clock, as `SITE RBX CLOCK` tells it after the reply code. Times of a
/// [`crate::history`] are by this clock, which never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clock {
    /// What it shows.
    pub now: Mtime,
    /// From when on changes are known.
    pub begun: Mtime,
}

/// A request's identity, made by the client at random: 32 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub [u8; 16]);

/// A name in [`ROOT`] that means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no such special file")]
pub struct NoSuchSpecial;

/// What the appliance answers to `SITE RBX RESULT <id>`, after the reply code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// What became of it.
    pub summary: CommitSummary,
    /// Where the journal has it, if that is still known and nothing else is there.
    pub alone: Option<Stretch>,
}

/// A stretch of the journal that one commit wrote alone: who knew all before it, and knows what became of that
/// commit, knows all up to its end, and need not be told what it did itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Where the journal was before.
    pub after: Cursor,
    /// The number of its last change; that of `after` where it changed nothing.
    pub last: u64,
}

/// What became of a commit, in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitSummary {
    /// Every operation was done; the first has version `first`, each further one the next number.
    All {
        /// How many operations.
        ops: u32,
        /// The version of the first.
        first: Version,
    },
    /// Anything else: retrieve `result/<id>`.
    Mixed {
        /// How many operations.
        ops: u32,
    },
}

impl Special {
    /// The special file of this absolute FTP path: `Ok(None)` where it isn't under [`ROOT`] at all.
    ///
    /// # Errors
    /// Where it is under [`ROOT`] but no special file.
    pub fn parse(ftp_path: &str) -> Result<Option<Special>, NoSuchSpecial> {
        let Some(rest) = ftp_path.strip_prefix(ROOT) else {
            return Ok(None);
        };
        if rest.starts_with(|c: char| c != '/') {
            return Ok(None);
        }
        rest.strip_prefix('/').unwrap_or_default().parse().map(Some)
    }
}

/// Whether this absolute FTP path is [`ROOT`] or one of the folders in it: clients such as curl go
/// there step by step. There is nothing to list in them.
#[must_use]
pub fn is_folder(ftp_path: &str) -> bool {
    let folders = [
        "", "/changes", "/events", "/commit", "/result", "/want", "/holds", "/history", "/at",
    ];
    ftp_path
        .strip_prefix(ROOT)
        .is_some_and(|rest| folders.contains(&rest))
}

impl FromStr for Special {
    type Err = NoSuchSpecial;

    fn from_str(name: &str) -> Result<Self, NoSuchSpecial> {
        let (verb, argument) = match name.split_once('/') {
            None => (name, None),
            Some((verb, argument)) => (verb, Some(argument)),
        };
        let cursor = || argument.and_then(|a| a.parse().ok()).ok_or(NoSuchSpecial);
        let id = || argument.and_then(|a| a.parse().ok()).ok_or(NoSuchSpecial);
        let formed = || {
            let argument = argument.ok_or(NoSuchSpecial)?;
            match argument.strip_suffix(ZST) {
                Some(id) => Ok((id.parse()?, Form::Zstd)),
                None => Ok((argument.parse()?, Form::Plain)),
            }
        };
        match (verb, argument) {
            ("info", None) => Ok(Special::Info),
            ("tree", None) => Ok(Special::Tree),
            ("damaged", None) => Ok(Special::Damaged),
            ("changes", _) => cursor().map(Special::Changes),
            ("events", _) => cursor().map(Special::Events),
            ("commit", _) => formed().map(|(id, form)| Special::Commit(id, form)),
            ("result", _) => id().map(Special::Result),
            ("want", _) => formed().map(|(id, form)| Special::Want(id, form)),
            ("holds", _) => id().map(Special::Holds),
            ("history", Some(path)) => RelPath::parse(path)
                .map(Special::History)
                .map_err(|_| NoSuchSpecial),
            ("at", Some(ns)) => time(ns).map(Special::At).ok_or(NoSuchSpecial),
            _ => Err(NoSuchSpecial),
        }
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Special::Info => write!(f, "{ROOT}/info"),
            Special::Tree => write!(f, "{ROOT}/tree"),
            Special::Damaged => write!(f, "{ROOT}/damaged"),
            Special::Changes(cursor) => write!(f, "{ROOT}/changes/{cursor}"),
            Special::Events(cursor) => write!(f, "{ROOT}/events/{cursor}"),
            Special::Commit(id, form) => write!(f, "{ROOT}/commit/{id}{form}"),
            Special::Result(id) => write!(f, "{ROOT}/result/{id}"),
            Special::Want(id, form) => write!(f, "{ROOT}/want/{id}{form}"),
            Special::Holds(id) => write!(f, "{ROOT}/holds/{id}"),
            Special::History(path) => write!(f, "{ROOT}/history/{path}"),
            Special::At(time) => write!(f, "{ROOT}/at/{}", time.0),
        }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Form::Plain => "",
            Form::Zstd => ZST,
        })
    }
}

/// Nanoseconds since 1970 in their one spelling.
fn time(text: &str) -> Option<Mtime> {
    let ns: i64 = text.parse().ok()?;
    (ns.to_string() == text).then_some(Mtime(ns))
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::digest::write_hex(f, &self.0)
    }
}

impl FromStr for RequestId {
    type Err = NoSuchSpecial;

    fn from_str(text: &str) -> Result<Self, NoSuchSpecial> {
        crate::digest::parse_hex(text)
            .map(RequestId)
            .ok_or(NoSuchSpecial)
    }
}

impl fmt::Display for CommitSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommitSummary::All { ops, first } => write!(f, "all {ops} from {first}"),
            CommitSummary::Mixed { ops } => write!(f, "mixed {ops}"),
        }
    }
}

impl FromStr for CommitSummary {
    type Err = NoSuchSpecial;

    fn from_str(text: &str) -> Result<Self, NoSuchSpecial> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let number = |word: &str| word.parse().map_err(|_| NoSuchSpecial);
        match words[..] {
            ["all", ops, "from", first] => Ok(CommitSummary::All {
                ops: number(ops)?,
                first: Version(first.parse().map_err(|_| NoSuchSpecial)?),
            }),
            ["mixed", ops] => Ok(CommitSummary::Mixed { ops: number(ops)? }),
            _ => Err(NoSuchSpecial),
        }
    }
}

impl Stretch {
    /// Where the journal was after it.
    #[must_use]
    pub fn end(&self) -> Cursor {
        Cursor {
            seq: self.last,
            ..self.after
        }
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.summary)?;
        match self.alone {
            Some(Stretch { after, last }) => write!(f, " alone {after} to {last}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Receipt {
    type Err = NoSuchSpecial;

    fn from_str(text: &str) -> Result<Self, NoSuchSpecial> {
        let (summary, alone) = match text.split_once(" alone ") {
            None => (text, None),
            Some((summary, stretch)) => (summary, Some(stretch.parse()?)),
        };
        Ok(Receipt {
            summary: summary.parse()?,
            alone,
        })
    }
}

impl FromStr for Stretch {
    type Err = NoSuchSpecial;

    fn from_str(text: &str) -> Result<Self, NoSuchSpecial> {
        let (after, last) = text.split_once(" to ").ok_or(NoSuchSpecial)?;
        let after: Cursor = after.parse().map_err(|_| NoSuchSpecial)?;
        let last = last.parse().map_err(|_| NoSuchSpecial)?;
        let forward = after.seq <= last;
        forward
            .then_some(Stretch { after, last })
            .ok_or(NoSuchSpecial)
    }
}

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "now {} begun {}", self.now.0, self.begun.0)
    }
}

impl FromStr for Clock {
    type Err = NoSuchSpecial;

    fn from_str(text: &str) -> Result<Self, NoSuchSpecial> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let ["now", now, "begun", begun] = words[..] else {
            return Err(NoSuchSpecial);
        };
        Ok(Clock {
            now: time(now).ok_or(NoSuchSpecial)?,
            begun: time(begun).ok_or(NoSuchSpecial)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Clock, CommitSummary, Form, NoSuchSpecial, Receipt, RequestId, Special, Stretch};
    use crate::{Cursor, Epoch, Mtime, RelPath, Version};

    #[test]
    fn every_special_file_prints_and_parses() {
        let cursor = Cursor {
            epoch: Epoch([1; 16]),
            seq: 2,
        };
        let id = RequestId([0xfe; 16]);
        for special in [
            Special::Info,
            Special::Tree,
            Special::Changes(cursor),
            Special::Events(cursor),
            Special::Commit(id, Form::Plain),
            Special::Commit(id, Form::Zstd),
            Special::Result(id),
            Special::Want(id, Form::Plain),
            Special::Want(id, Form::Zstd),
            Special::Holds(id),
            Special::Damaged,
            Special::History(RelPath::parse("a/b c.txt").expect("good")),
            Special::At(Mtime(1_234_567_890_123_456_789)),
            Special::At(Mtime(-1)),
        ] {
            assert_eq!(Special::parse(&special.to_string()), Ok(Some(special)));
        }
    }

    #[test]
    fn other_paths_are_no_special_files() {
        for ordinary in ["/", "/a", "/.raspboxignore", "/a/.raspbox/info", ".raspbox"] {
            assert_eq!(Special::parse(ordinary), Ok(None), "{ordinary}");
        }
        for wrong in [
            "",
            "/",
            "/infos",
            "/info/x",
            "/damaged/x",
            "/changes",
            "/commit/1",
            "/commit/.zst",
            "/tree.zst",
            "/holds",
            "/holds/1",
            "/tree/",
            "/../a",
            "/history",
            "/history/",
            "/history/a//b",
            "/history/../a",
            "/at",
            "/at/x",
            "/at/01",
            "/at/+1",
            "/at/9223372036854775808",
        ] {
            assert_eq!(
                Special::parse(&format!("/.raspbox{wrong}")),
                Err(NoSuchSpecial),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_folders_of_special_files_are_known() {
        for folder in ["/.raspbox", "/.raspbox/changes", "/.raspbox/want"] {
            assert!(super::is_folder(folder), "{folder}");
        }
        for other in [
            "/",
            "",
            "/.raspbox/",
            "/.raspbox/info",
            "/.raspbox/staging",
            "/.raspboxx",
        ] {
            assert!(!super::is_folder(other), "{other}");
        }
    }

    #[test]
    fn summaries_print_and_parse() {
        for summary in [
            CommitSummary::All {
                ops: 3,
                first: Version(41),
            },
            CommitSummary::Mixed { ops: 0 },
        ] {
            assert_eq!(summary.to_string().parse(), Ok(summary));
        }
        assert!("all 3 from".parse::<CommitSummary>().is_err());
    }

    #[test]
    fn receipts_print_and_parse() {
        let after = Cursor {
            epoch: Epoch([1; 16]),
            seq: 40,
        };
        let summary = CommitSummary::Mixed { ops: 2 };
        for alone in [None, Some(Stretch { after, last: 43 })] {
            let receipt = Receipt { summary, alone };
            assert_eq!(receipt.to_string().parse(), Ok(receipt));
        }
        for bad in ["", "to 43", " to 43", "x to 43"] {
            let text = format!("mixed 2 alone {bad}");
            assert!(text.parse::<Receipt>().is_err(), "{text}");
        }
        // Back it never goes.
        let text = format!("mixed 2 alone {after} to 39");
        assert!(text.parse::<Receipt>().is_err(), "{text}");
    }

    #[test]
    fn the_clock_prints_and_parses() {
        let clock = Clock {
            now: Mtime(5),
            begun: Mtime(-5),
        };
        assert_eq!(clock.to_string().parse(), Ok(clock));
        for bad in ["", "now 5", "now x begun 1", "begun 1 now 2"] {
            assert!(bad.parse::<Clock>().is_err(), "{bad}");
        }
    }
}
