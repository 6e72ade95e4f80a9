//! Names: of conflict copies, and whether a side can hold one.
//!
//! A name that can't be held is a problem with that path, said clearly; nothing here renames
//! anything but a conflict copy.

mod disk;
mod holds;

pub use disk::{Accents, Disk, Disks, composed};
pub use holds::check_plan;

use raspbox_protocol::path::NAME_MAX_BYTES;

/// The longest device name in a conflict copy's name, in bytes, so that room is left for the
/// file's own name.
pub const DEVICE_MAX_BYTES: usize = 64;

/// The longest part behind a dot that is kept as an extension, in bytes; longer ones are words.
const EXTENSION_MAX_BYTES: usize = 16;

/// How the mark of a conflict copy begins; it ends with a closing parenthesis.
const MARK: &str = " (conflict ";

/// The name of a conflict copy, beside `name`: `name (conflict DEVICE DATE).ext`, or with ` 2`,
/// ` 3` … before the closing parenthesis where that is taken.
///
/// `date` is `YYYY-MM-DD`, since that is how a conflict copy is known again. An extension is what
/// follows the last dot, if short and without spaces, and `.tar.` before it (`.tar.gz`). The mark
/// of a conflict copy is replaced and never repeated. The result is within [`NAME_MAX_BYTES`]: the
/// stem gives way, at a character's boundary.
#[must_use]
pub fn conflict_name(name: &str, device: &str, date: &str, taken: &dyn Fn(&str) -> bool) -> String {
    let plain = without_marks(name);
    let (stem, extension) = split_extension(&plain);
    let device = printable(device);
    let date = printable(date);
    let mut number = 1_u64;
    loop {
        let counted = if number == 1 {
            String::new()
        } else {
            format!(" {number}")
        };
        let mark = format!("{MARK}{device} {date}{counted})");
        let room = NAME_MAX_BYTES.saturating_sub(mark.len() + extension.len());
        let candidate = format!("{}{mark}{extension}", cut(stem, room));
        if !taken(&candidate) {
            return candidate;
        }
        number += 1;
    }
}

/// Whether a name is one that [`conflict_name`] makes.
#[must_use]
pub fn is_conflict_copy(name: &str) -> bool {
    find_mark(name).is_some()
}

/// The name that a conflict copy stands beside; `None` where it is none.
#[must_use]
pub fn original_name(name: &str) -> Option<String> {
    is_conflict_copy(name).then(|| without_marks(name))
}

fn without_marks(name: &str) -> String {
    let mut plain = name.to_owned();
    while let Some((begin, end)) = find_mark(&plain) {
        plain.replace_range(begin..end, "");
    }
    plain
}

/// Where in a name the mark of a conflict copy is.
fn find_mark(name: &str) -> Option<(usize, usize)> {
    let begin = name.rfind(MARK)?;
    let text = begin + MARK.len();
    let end = text + name[text..].find(')')? + 1;
    let rest = &name[end..];
    let at_end = rest.is_empty() || rest.starts_with('.');
    (begin > 0 && at_end && is_mark(&name[text..end - 1])).then_some((begin, end))
}

/// Whether this is `DEVICE DATE` or `DEVICE DATE NUMBER`: somebody's "(conflict of interest)" is
/// not a conflict copy.
fn is_mark(text: &str) -> bool {
    let mut words = text.rsplit(' ');
    let mut last = words.next();
    if last.is_some_and(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit())) {
        last = words.next();
    }
    last.is_some_and(is_date) && words.next().is_some()
}

fn is_date(word: &str) -> bool {
    let pattern = b"0000-00-00";
    word.len() == pattern.len()
        && word.bytes().zip(pattern).all(|(byte, like)| match like {
            b'-' => byte == b'-',
            _ => byte.is_ascii_digit(),
        })
}

/// The name before its extension, and the extension with its dot; it may be empty.
fn split_extension(name: &str) -> (&str, &str) {
    let is_extension = |text: &str| {
        !text.is_empty() && text.len() <= EXTENSION_MAX_BYTES && !text.contains(char::is_whitespace)
    };
    let Some((stem, last)) = name.rsplit_once('.') else {
        return (name, "");
    };
    if stem.is_empty() || !is_extension(last) {
        return (name, "");
    }
    let stem = match stem.strip_suffix(".tar") {
        Some(shorter) if !shorter.is_empty() => shorter,
        Some(_) | None => stem,
    };
    name.split_at(stem.len())
}

/// A text that fits into a mark: what would end the mark early, or what some filesystem can't
/// hold, becomes a dash.
fn printable(text: &str) -> String {
    let dashed: String = text
        .chars()
        .map(|c| {
            if c.is_control() || disk::DOS_FORBIDDEN.contains(c) || "/()".contains(c) {
                '-'
            } else {
                c
            }
        })
        .collect();
    cut(&dashed, DEVICE_MAX_BYTES).to_owned()
}

/// As much of the text as fits into `len` bytes.
fn cut(text: &str, len: usize) -> &str {
    let mut end = text.len().min(len);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
