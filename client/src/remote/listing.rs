//! Folder listings of ordinary FTP servers: MLSD (RFC 3659), and what `LIST` prints where there is
//! nothing better.
//!
//! A listing comes from a stranger. Every name is checked before it becomes part of a path, lines
//! and listings have limits, and a line that can't be understood is an error of the whole listing:
//! what is passed over would look absent, and what looks absent gets deleted.

use raspbox_protocol::Mtime;
use raspbox_protocol::path::{PathError, check_name};
use std::io::{self, BufRead, Read};

/// The longest line, in bytes: a path, facts and some room.
pub const LINE_MAX_BYTES: usize = 8 << 10;

/// The most entries of one folder.
pub const ITEMS_MAX: usize = 1_000_000;

/// What a folder lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Its name; not checked for what a path may hold (see [`Item::checked_name`]).
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The MLSD fact `unique`, which tells a folder that is reached by a link back into itself.
    pub unique: Option<String>,
}

/// What a listed name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A regular file, as far as the listing tells.
    File {
        /// Its size in bytes.
        size: Option<u64>,
        /// Its time in whole seconds.
        mtime: Option<i64>,
    },
    /// A folder.
    Folder,
    /// A symlink.
    Symlink,
    /// Something else, or something that isn't told.
    Other,
}

/// Why a listing can't be believed.
#[derive(Debug, thiserror::Error)]
pub enum ListingError {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A line that is no entry.
    #[error("a line of its listing isn't understood: {0:?}")]
    Line(String),
    /// More than a limit.
    #[error("its listing has more than {0}")]
    TooMuch(&'static str),
}

/// Which kind of listing to parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `MLSD`.
    Facts,
    /// `LIST`, as Unix's `ls -l` or DOS's `dir`.
    Long,
}

impl Item {
    /// The name, if it may be part of a path.
    ///
    /// # Errors
    /// The first rule that it breaks. U+FFFD stands for bytes that weren't UTF-8: such a name can't
    /// be addressed.
    pub fn checked_name(&self) -> Result<&str, PathError> {
        if self.name.contains(char::REPLACEMENT_CHARACTER) {
            return Err(PathError::NotUtf8);
        }
        check_name(&self.name).map(|()| self.name.as_str())
    }

    /// The name as it may be shown: what can't be is U+FFFD.
    #[must_use]
    pub fn shown_name(&self) -> String {
        let odd = |c: char| c.is_control() || c == '/';
        self.name.replace(odd, "\u{fffd}")
    }
}

/// Reads a listing to its end. `.` and `..` are passed over; whether they were there comes second.
///
/// # Errors
/// See [`ListingError`].
pub fn read(from: impl Read, format: Format) -> Result<(Vec<Item>, bool), ListingError> {
    let mut from = io::BufReader::with_capacity(64 << 10, from);
    let mut items = Vec::new();
    let mut has_dots = false;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limit = LINE_MAX_BYTES as u64 + 1;
        (&mut from).take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok((items, has_dots));
        }
        if line.len() > LINE_MAX_BYTES {
            return Err(ListingError::TooMuch("8192 bytes in a line"));
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        let parsed = match format {
            Format::Facts => facts(text),
            Format::Long => long(text),
        };
        match parsed {
            Ok(Line::Item(item)) if items.len() < ITEMS_MAX => items.push(item),
            Ok(Line::Item(_)) => return Err(ListingError::TooMuch("1000000 entries")),
            Ok(Line::Dots) => has_dots = true,
            Ok(Line::Nothing) => {}
            Err(NotALine) => return Err(ListingError::Line(super::peer::one_line(text))),
        }
    }
}

/// What one line says.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Item(Item),
    /// The folder itself or its parent.
    Dots,
    /// An empty line, or `total 12`.
    Nothing,
}

#[derive(Debug, PartialEq, Eq)]
struct NotALine;

/// A line of MLSD, or the middle line of MLST: `fact=value;fact=value; name`.
fn facts(line: &str) -> Result<Line, NotALine> {
    if line.is_empty() {
        return Ok(Line::Nothing);
    }
    let (facts, name) = line.split_once(' ').ok_or(NotALine)?;
    let (mut kind, mut size, mut mtime, mut unique) = (None, None, None, None);
    for fact in facts.split_terminator(';') {
        let (key, value) = fact.split_once('=').ok_or(NotALine)?;
        match key.to_ascii_lowercase().as_str() {
            "type" => kind = Some(value.to_ascii_lowercase()),
            "size" => size = Some(value.parse().map_err(|_| NotALine)?),
            "modify" => mtime = Some(time(value).ok_or(NotALine)?),
            "unique" => unique = Some(value.to_owned()),
            _ => {}
        }
    }
    let kind = match kind.as_deref() {
        Some("file") => Kind::File { size, mtime },
        Some("dir") => Kind::Folder,
        Some("cdir" | "pdir") => return Ok(Line::Dots),
        Some(kind) if kind.starts_with("os.unix=slink") || kind.starts_with("os.unix=symlink") => {
            Kind::Symlink
        }
        Some(_) | None => Kind::Other,
    };
    Ok(item(name.to_owned(), kind, unique))
}

/// The middle line of an answer to MLST, which begins with a space.
///
/// `None` where there is no such line.
#[must_use]
pub fn mlst(reply: &str) -> Option<Kind> {
    let line = reply.lines().find(|line| line.starts_with(' '))?;
    let line = line.trim_start();
    // Its name is a whole path, so it is no item; `cdir` is a folder here.
    let (head, _) = line.split_once(' ')?;
    match facts(&format!("{head} x")) {
        Ok(Line::Item(item)) => Some(item.kind),
        Ok(Line::Dots) => Some(Kind::Folder),
        Ok(Line::Nothing) | Err(NotALine) => None,
    }
}

fn item(name: String, kind: Kind, unique: Option<String>) -> Line {
    match name.as_str() {
        "." | ".." => Line::Dots,
        _ => Line::Item(Item { name, kind, unique }),
    }
}

/// A line of LIST.
fn long(line: &str) -> Result<Line, NotALine> {
    if line.is_empty() || line.starts_with("total ") {
        return Ok(Line::Nothing);
    }
    unix(line).or_else(|| dos(line)).ok_or(NotALine)
}

/// `-rw-r--r--   1 owner group   1234 Nov 22 16:41 name`; some leave the group out.
fn unix(line: &str) -> Option<Line> {
    let kind = match line.as_bytes().first()? {
        b'-' => Kind::File {
            size: None,
            mtime: None,
        },
        b'd' => Kind::Folder,
        b'l' => Kind::Symlink,
        b'b' | b'c' | b'p' | b's' => Kind::Other,
        _ => return None,
    };
    let mut rest = line;
    let mut words = Vec::new();
    // The name begins one space after the time, whatever it begins with itself.
    loop {
        rest = rest.trim_start_matches(' ');
        let (word, after) = rest.split_once(' ')?;
        words.push(word);
        rest = after;
        if words.len() > 10 {
            return None;
        }
        let [.., size, month, day, clock] = words[..] else {
            continue;
        };
        if words.len() < 6 {
            continue;
        }
        let (Some(month), Ok(size)) = (month_number(month), size.parse()) else {
            continue;
        };
        let mtime = date(month, day.parse().ok()?, clock)?;
        let kind = match kind {
            Kind::File { .. } => Kind::File {
                size: Some(size),
                mtime: Some(mtime),
            },
            other => other,
        };
        let name = match (&kind, rest.split_once(" -> ")) {
            (Kind::Symlink, Some((name, _))) => name,
            _ => rest,
        };
        return Some(item(name.to_owned(), kind, None));
    }
}

/// `11-22-26  04:41PM       <DIR>          name`.
fn dos(line: &str) -> Option<Line> {
    let (day, rest) = line.split_once(' ')?;
    let (clock, rest) = rest.trim_start().split_once(' ')?;
    let (size, name) = rest.trim_start().split_once(' ')?;
    let mut parts = day.split('-').map(|part| part.parse::<i64>().ok());
    let (month, day, year) = (parts.next()??, parts.next()??, parts.next()??);
    let year = match year {
        0..70 => 2000 + year,
        70..100 => 1900 + year,
        _ => year,
    };
    let half = clock.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let (hour, minute) = clock[..clock.len() - half.len()].split_once(':')?;
    let (hour, minute) = (hour.parse::<i64>().ok()?, minute.parse().ok()?);
    let hour = match half.to_ascii_uppercase().as_str() {
        "" => hour,
        "AM" => hour % 12,
        "PM" => hour % 12 + 12,
        _ => return None,
    };
    let mtime = seconds(year, month, day, [hour, minute, 0])?;
    if size == "<DIR>" {
        return Some(item(
            name.trim_start_matches(' ').to_owned(),
            Kind::Folder,
            None,
        ));
    }
    let kind = Kind::File {
        size: Some(size.parse().ok()?),
        mtime: Some(mtime),
    };
    Some(item(name.to_owned(), kind, None))
}

fn month_number(name: &str) -> Option<i64> {
    const NAMES: [&str; 12] = [
        "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
    ];
    let name = name.to_ascii_lowercase();
    let at = NAMES.iter().position(|&known| known == name)?;
    i64::try_from(at + 1).ok()
}

/// A date as `ls -l` prints it. Without a year it is taken as one of 1970's: LIST's times are only
/// told apart, never shown.
fn date(month: i64, day: i64, clock: &str) -> Option<i64> {
    match clock.split_once(':') {
        Some((hour, minute)) => seconds(
            1970,
            month,
            day,
            [hour.parse().ok()?, minute.parse().ok()?, 0],
        ),
        None => seconds(clock.parse().ok()?, month, day, [0; 3]),
    }
}

/// A time of RFC 3659: `YYYYMMDDHHMMSS`, in UTC; a fraction is dropped. In seconds since 1970.
#[must_use]
pub fn time(text: &str) -> Option<i64> {
    let digits = text.split('.').next()?;
    if digits.len() != 14 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let part = |from: usize, to: usize| digits[from..to].parse::<i64>().ok();
    let clock = [part(8, 10)?, part(10, 12)?, part(12, 14)?];
    seconds(part(0, 4)?, part(4, 6)?, part(6, 8)?, clock)
}

/// The same time as text; `None` where its year hasn't four digits.
#[must_use]
pub fn time_text(mtime: Mtime) -> Option<String> {
    let (secs, _) = mtime.parts();
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}"))
}

fn seconds(year: i64, month: i64, day: i64, [hour, minute, second]: [i64; 3]) -> Option<i64> {
    let good = (0..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..=60).contains(&second);
    if !good {
        return None;
    }
    // Days since 1970-01-01, with years that begin in March
    // (https://howardhinnant.github.io/date_algorithms.html).
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(days * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Year, month and day of a day since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
