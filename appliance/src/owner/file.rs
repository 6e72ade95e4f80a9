//! The owner's file as it lies on the card: bytes → what can be understood of them, each thing with its
//! place, and bytes with a few values replaced.
//!
//! It is written with whatever a laptop has, so a byte order mark, CRLF and tabs are fine, and one line
//! that can't be read takes nothing else with it. It doesn't know what the keys mean.

use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The largest file that is read. The explained one has 6 KiB.
const SIZE_MAX_BYTES: usize = 64 << 10;

/// How many problems are told: the rest of a file that is no such file at all says nothing new.
const PROBLEMS_MAX: usize = 20;

/// How often a file is read while what contradicts itself is left out: once more than any took that was tried.
const ROUNDS_MAX: usize = 8;

/// Quotation marks and blanks that word processors and telephones put in place of the plain ones.
const TYPOGRAPHIC: &[char] = &[
    '\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{ab}',
    '\u{bb}', '\u{2033}', '\u{2032}',
];
const BLANKS: &[char] = &['\u{a0}', '\u{202f}', '\u{2009}', '\u{200b}', '\u{feff}'];

/// Something about the file that its owner should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The line, from 1; `None` where it is about the whole file.
    pub(crate) line: Option<usize>,
    /// What is wrong, and what to write instead.
    pub(crate) what: String,
}

/// A file that was read.
#[derive(Debug)]
pub(crate) struct File {
    bytes: Vec<u8>,
    /// As long as `bytes` from `begin` on, with blanks in place of what can't be read.
    text: String,
    begin: usize,
    problems: Vec<Problem>,
}

/// A value, and where in the text it stands.
pub(crate) type Value<'a> = Spanned<DeValue<'a>>;

impl File {
    /// Reads what can be read.
    pub(crate) fn parse(bytes: Vec<u8>) -> File {
        let begin = if bytes.starts_with(b"\xef\xbb\xbf") {
            3
        } else {
            0
        };
        let mut problems = Vec::new();
        let mut text = match whole_problem(&bytes) {
            Some(what) => {
                problems.push(Problem { line: None, what });
                String::new()
            }
            None => as_text(&bytes[begin..], &mut problems),
        };
        leave_what_is_understood(&mut text, &mut problems);
        problems.sort_by_key(|problem| problem.line);
        problems.truncate(PROBLEMS_MAX);
        File {
            bytes,
            text,
            begin,
            problems,
        }
    }

    /// What was understood.
    pub(crate) fn table(&self) -> DeTable<'_> {
        DeTable::parse(&self.text)
            .expect("what can't be parsed was blanked")
            .into_inner()
    }

    /// What was not.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The line on which something stands, from 1.
    pub(crate) fn line(&self, at: &Range<usize>) -> usize {
        line_of(&self.text, at.start)
    }

    /// A value as it is written.
    pub(crate) fn source(&self, at: &Range<usize>) -> &str {
        &self.text[at.clone()]
    }

    /// All bytes, with these values replaced and everything else as it was.
    pub(crate) fn with(&self, mut edits: Vec<(Range<usize>, &str)>) -> Vec<u8> {
        // From the end, so that places stay right.
        edits.sort_by_key(|(at, _)| std::cmp::Reverse(at.start));
        let mut bytes = self.bytes.clone();
        for (at, new) in edits {
            bytes.splice(at.start + self.begin..at.end + self.begin, new.bytes());
        }
        bytes
    }
}

impl Problem {
    /// The problem, after the name of its file.
    pub(crate) fn after(&self, name: &impl fmt::Display) -> String {
        match self.line {
            Some(_) => format!("{name} {self}"),
            None => format!("{name}: {self}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}

fn whole_problem(bytes: &[u8]) -> Option<String> {
    if bytes.len() > SIZE_MAX_BYTES {
        Some(format!(
            "the file has {} KiB; more than {} are not read, so nothing in it counts",
            bytes.len() >> 10,
            SIZE_MAX_BYTES >> 10
        ))
    } else if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        let what = "the file was saved as UTF-16, so nothing in it counts; save it again, and choose \
                    UTF-8 as its encoding";
        Some(what.into())
    } else {
        None
    }
}

/// The text; a line that isn't UTF-8 is blank in it.
fn as_text(bytes: &[u8], problems: &mut Vec<Problem>) -> String {
    let mut text = String::with_capacity(bytes.len());
    for (i, line) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        match std::str::from_utf8(line) {
            // A comment may hold what the parser refuses: control characters.
            Ok(line)
                if is_comment(line.as_bytes()) && line.trim_end().contains(char::is_control) =>
            {
                text.push_str(&blank(line.as_bytes()));
            }
            Ok(line) => text.push_str(line),
            Err(_) => {
                // In a comment it does no harm.
                if !is_comment(line) {
                    problems.push(Problem {
                        line: Some(i + 1),
                        what:
                            "a letter with an accent isn't UTF-8, so this line doesn't count; save \
                               the file again, and choose UTF-8 as its encoding"
                                .into(),
                    });
                }
                text.push_str(&blank(line));
            }
        }
    }
    text
}

fn is_comment(line: &[u8]) -> bool {
    line.trim_ascii_start().starts_with(b"#")
}

/// As many bytes, on as many lines.
fn blank(bytes: &[u8]) -> String {
    let blank = |byte: &u8| if *byte == b'\n' { '\n' } else { ' ' };
    bytes.iter().map(blank).collect()
}

/// Parses the text, and blanks in it what can't be parsed. Returns how often all of it was read: three
/// times at most, whatever anybody has tried so far.
fn leave_what_is_understood(text: &mut String, problems: &mut Vec<Problem>) -> usize {
    if DeTable::parse(text).is_ok() {
        return 1;
    }
    let said = statements(text);
    // One by one, since a bracket that isn't closed makes all that follows wrong.
    for (index, statement) in said.iter().enumerate() {
        let source = &text[statement.at.clone()];
        if let Err(error) = DeTable::parse(source) {
            problems.push(statement.problem(plainly(error.message(), source)));
            drop_statement(text, &said, index);
        }
    }
    // What is left contradicts itself: it is said twice, or is a value here and a table there. All of that at
    // once: 64 KiB have room for the same thing 16,000 times.
    for round in 2..=ROUNDS_MAX {
        let (_, errors) = DeTable::parse_recoverable(text);
        let errors: Vec<(usize, String)> = errors
            .iter()
            .map(|error| {
                let offset = error.span().map_or(0, |span| span.start);
                (offset, error.message().to_owned())
            })
            .collect();
        if errors.is_empty() {
            return round;
        }
        for (offset, message) in errors {
            let before = said.partition_point(|statement| statement.at.start <= offset);
            let Some(index) = before.checked_sub(1) else {
                continue;
            };
            let source = &text[said[index].at.clone()];
            // It has gone with its header.
            if source.trim().is_empty() {
                continue;
            }
            problems.push(said[index].problem(plainly(&message, source)));
            drop_statement(text, &said, index);
        }
    }
    problems.push(Problem {
        line: None,
        what: "the file contradicts itself in too many ways, so nothing in it counts".into(),
    });
    text.clear();
    ROUNDS_MAX
}

/// What is said: a key or a header, with the lines that go on with its value.
struct Statement {
    at: Range<usize>,
    line: usize,
    is_header: bool,
}

impl Statement {
    fn problem(&self, what: String) -> Problem {
        Problem {
            line: Some(self.line),
            what,
        }
    }
}

/// Everything that is said.
fn statements(text: &str) -> Vec<Statement> {
    let mut statements: Vec<Statement> = Vec::new();
    let mut start = 0;
    for (i, line) in text.split_inclusive('\n').enumerate() {
        let end = start + line.len();
        let said = line.trim();
        match statements.last_mut() {
            _ if said.is_empty() || said.starts_with('#') => {}
            Some(last) if !begins_statement(said) => last.at.end = end,
            _ => statements.push(Statement {
                at: start..end,
                line: i + 1,
                is_header: said.starts_with('['),
            }),
        }
        start = end;
    }
    statements
}

/// Whether a line begins something new, whatever came before it. An item of an array of strings, or its
/// closing bracket, doesn't.
fn begins_statement(said: &str) -> bool {
    let key = said.split_once('=').map(|(key, _)| key.trim());
    said.starts_with('[')
        || key.is_some_and(|key| {
            !key.is_empty() && !key.contains(['"', '\'', ',', '[', ']', '{', '}', '#'])
        })
        || said.starts_with(char::is_alphabetic)
}

/// Blanks what can't be understood; a header takes its table with it, or what stands in it would count
/// as something else.
fn drop_statement(text: &mut String, said: &[Statement], index: usize) {
    let start = said[index].at.start;
    let end = if said[index].is_header {
        let next = said[index + 1..].iter().find(|next| next.is_header);
        next.map_or(text.len(), |next| next.at.start)
    } else {
        said[index].at.end
    };
    let blank = blank(&text.as_bytes()[start..end]);
    text.replace_range(start..end, &blank);
}

/// What the parser says, for people.
fn plainly(message: &str, statement: &str) -> String {
    if let Some(found) = statement.chars().find(|char| TYPOGRAPHIC.contains(char)) {
        return format!(
            "{found} is a typographic quotation mark; write the plain one: \" (some editors and \
             telephones change it while you type)"
        );
    }
    if let Some(found) = statement.chars().find(|char| BLANKS.contains(char)) {
        return format!(
            "there is a special blank (U+{:04X}) in this line; write it again with plain ones",
            u32::from(found)
        );
    }
    let plain = if message.starts_with("duplicate key") {
        "this is said a second time; the first one counts"
    } else if message.starts_with("string values must be quoted")
        || ["invalid float", "invalid integer", "invalid date"]
            .iter()
            .any(|begin| message.starts_with(begin))
    {
        "put the value in quotation marks, like name = \"raspbox\""
    } else if message.starts_with("invalid basic string")
        || message.starts_with("invalid literal string")
        || message.starts_with("invalid multi-line")
    {
        "the closing quotation mark is missing"
    } else if message.starts_with("key with no value") {
        "this is no setting; write it like name = \"raspbox\", or put # before it"
    } else if message.starts_with("unclosed table") || message.starts_with("unclosed array") {
        "the closing ] is missing"
    } else {
        return format!("this can't be understood ({})", message.replace('\n', " "));
    };
    plain.into()
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + 1
}

#[cfg(test)]
mod tests {
    use super::{File, PROBLEMS_MAX, SIZE_MAX_BYTES};

    /// What counts, as `key=value` in the order of the keys, and what is wrong.
    fn check(bytes: impl AsRef<[u8]>, counts: &str, problems: &[&str]) {
        let file = File::parse(bytes.as_ref().to_vec());
        let shown: Vec<String> = file
            .table()
            .iter()
            .map(|(key, value)| {
                let value = file.source(&value.span()).trim();
                format!("{}={value}", key.get_ref())
            })
            .collect();
        assert_eq!(shown.join(" "), counts, "{:?}", file.text);
        let said: Vec<String> = file.problems().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), problems.len(), "{said:?}");
        for (said, expect) in said.iter().zip(problems) {
            assert!(said.contains(expect), "expected {expect:?}, said {said:?}");
        }
    }

    #[test]
    fn what_any_editor_makes_is_fine() {
        check("", "", &[]);
        check("# nothing\n", "", &[]);
        check("a = 1\nb = \"x\"", "a=1 b=\"x\"", &[]);
        check("\u{feff}a = 1\r\n\tb\t=\t2\t\r\n", "a=1 b=2", &[]);
        check(
            "d = [\r\n  \"1\",\r\n  \"2\",\r\n]\r\nz = 1\r\n",
            "d=[\r\n  \"1\",\r\n  \"2\",\r\n] z=1",
            &[],
        );
        check(b"# M\xfcller\na = 1\n", "a=1", &[]);
        check("a = 1\n# \u{1}\u{7f}\nb = 2\n", "a=1 b=2", &[]);
        check("ssid = \"Bob\u{2019}s\"", "ssid=\"Bob\u{2019}s\"", &[]);
    }

    #[test]
    fn one_line_takes_nothing_else_with_it() {
        let quotes = "line 2: \u{201c} is a typographic quotation mark";
        check(
            "a = 1\nb = \u{201c}x\u{201d}\nc = 3\n",
            "a=1 c=3",
            &[quotes],
        );
        check(
            "a = 1\nb\u{a0}= 2\nc = 3",
            "a=1 c=3",
            &["line 2: there is a special blank (U+00A0)"],
        );
        check(
            "a = box\nb = 2",
            "b=2",
            &["line 1: put the value in quotation marks"],
        );
        check(
            "a = 192.168.1.5/24\nb = 2",
            "b=2",
            &["line 1: put the value in quotation"],
        );
        check(
            "a = 'x\nb = 2",
            "b=2",
            &["line 1: the closing quotation mark is missing"],
        );
        check(
            "a = \"x\nb = 2",
            "b=2",
            &["line 1: the closing quotation mark is missing"],
        );
        check(
            "a = \"\"\"x\nb = 2",
            "b=2",
            &["line 1: the closing quotation mark"],
        );
        check("a = [\"1\",\nb = 2\nc = 3", "b=2 c=3", &["line 1: "]);
        check("a = [\n \"1\",\nb = 2\nc = 3", "b=2 c=3", &["line 1: "]);
        check("a: 1\nb = 2", "b=2", &["line 1: this is no setting"]);
        check("just words\nb = 2", "b=2", &["line 1: this is no setting"]);
        check(
            "a =\nb = 2",
            "b=2",
            &["line 1: put the value in quotation marks"],
        );
        check(
            b"a = \"M\xfcller\"\nb = 2\n",
            "b=2",
            &["line 1: a letter with an accent isn't UTF-8"],
        );
        check(
            "a = 1\nb = 2\na = 3\n",
            "a=1 b=2",
            &["line 3: this is said a second time"],
        );
        check("a = x\nb = y\nc = 1", "c=1", &["line 1: ", "line 2: "]);
    }

    #[test]
    fn a_broken_header_takes_its_table_with_it() {
        // Else a Wi-Fi password would become the one to log in with.
        let broken = "password = 'a'\n[wifi\npassword = 'b'\n[versions]\nx = 1";
        check(
            broken,
            "password='a' versions=[versions]",
            &["line 2: the closing ] is missing"],
        );
        let twice = "[wifi]\na = 1\n[x]\nb = 1\n[wifi]\na = 2\n";
        check(
            twice,
            "wifi=[wifi] x=[x]",
            &["line 5: this is said a second time"],
        );
    }

    #[test]
    fn what_is_no_such_file_is_said_once() {
        check(b"\xff\xfea\0=\x001\0", "", &["saved as UTF-16"]);
        check(vec![b'#'; SIZE_MAX_BYTES], "", &[]);
        check(vec![b'#'; SIZE_MAX_BYTES + 1], "", &["64 are not read"]);
        let file = File::parse("] x\n".repeat(500).into_bytes());
        assert!((1..=PROBLEMS_MAX).contains(&file.problems().len()));
        let file = File::parse("a = x\n".repeat(500).into_bytes());
        assert_eq!(file.problems().len(), PROBLEMS_MAX);
    }

    #[test]
    fn what_is_said_thousands_of_times_is_read_no_more_often() {
        for said in ["a=1\n", "[a]\n", "a.b=1\na=2\n[a]\nb=3\n", "[[a]]\n[a]\n"] {
            let mut text = said.repeat(SIZE_MAX_BYTES / said.len());
            let mut problems = Vec::new();
            let rounds = super::leave_what_is_understood(&mut text, &mut problems);
            assert!(rounds <= 3, "{said}: {rounds}");
            assert!(problems.len() > SIZE_MAX_BYTES / said.len() / 2);
            let file = File::parse(said.repeat(SIZE_MAX_BYTES / said.len()).into_bytes());
            assert_eq!(file.problems().len(), PROBLEMS_MAX);
            let keys: Vec<_> = file
                .table()
                .keys()
                .map(|key| key.get_ref().to_string())
                .collect();
            assert_eq!(keys, ["a"], "{said}: the first one counts");
        }
    }

    #[test]
    fn any_bytes_are_survived() {
        // Not random: every pair of the bytes that mean something.
        let meaning = b"\"'[]{}=#,.\\\n\r\t a1\xff\xc3\xa4\0";
        for first in meaning {
            for second in meaning {
                for frame in [
                    b"a = 1\n@@\nb = 2\n".as_slice(),
                    b"a = @@",
                    b"[@@]\nx = 1\n",
                ] {
                    let mut bytes = frame.to_vec();
                    let at = bytes.iter().position(|byte| *byte == b'@').unwrap();
                    bytes[at] = *first;
                    bytes[at + 1] = *second;
                    let file = File::parse(bytes.clone());
                    assert_eq!(file.with(Vec::new()), bytes);
                }
            }
        }
    }

    #[test]
    fn values_are_replaced_and_all_else_stays() {
        let text = "\u{feff}# a\r\nb = \"old\" # \u{e9}\r\n\r\n\tc\t=\t'x'\r\n[w]\r\nd = true";
        let file = File::parse(text.into());
        let table = file.table();
        let at = |key: &str| table.get(key).unwrap().span();
        let done = file.with(vec![(at("b"), "\"\""), (at("c"), "false")]);
        let expect = "\u{feff}# a\r\nb = \"\" # \u{e9}\r\n\r\n\tc\t=\tfalse\r\n[w]\r\nd = true";
        assert_eq!(String::from_utf8(done).unwrap(), expect);
    }
}
