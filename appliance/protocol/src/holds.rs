//! Which contents the appliance keeps as versions: asked by who is about to give up a copy.
//!
//! What somebody replaces or deletes on the drive itself (with another computer, or by a program on the
//! appliance) leaves no content behind. A workstation that still has it asks before it follows, and
//! gives the appliance what that doesn't keep ([`crate::commit::Op::Keep`]).
//!
//! A few are asked for by `SITE RBX HOLDS <digest> …`. Many are stored as a list of [`HoldsFrame`]s
//! under `holds/<uuid>`, and the answer is then retrieved under that name. Either way it is [`Held`].
//!
//! The appliance reads what it keeps before it says so, up to a limit of its own, so an answer may take half a minute.
//!
//! A file that has the content now does not count: somebody may overwrite that one as well, before
//! anybody has a copy.

use crate::Digest;
use crate::wire::{Frame, Payload, WireError};
use std::fmt;
use std::str::FromStr;

/// The most contents that are asked for in one command line, which is some 2 KiB then.
pub const LINE_MAX: usize = 32;

/// The most contents in one list.
pub const LIST_MAX: usize = 10_000;

/// One message of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldsFrame {
    /// One content.
    Digest(Digest),
    /// The end.
    End,
}

/// Which of the contents that were asked for are kept, in their order: printed as `1` and `0`, one
/// character each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held(pub Vec<bool>);

/// A text that is no [`Held`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a row of 0 and 1")]
pub struct NotHeld;

const DIGEST: u8 = 1;
const END: u8 = 2;

impl Frame for HoldsFrame {
    fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            HoldsFrame::Digest(digest) => {
                out.extend_from_slice(digest.as_bytes());
                DIGEST
            }
            HoldsFrame::End => END,
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> Result<Self, WireError> {
        let mut bytes = Payload::new(&payload);
        let frame = match kind {
            DIGEST => HoldsFrame::Digest(bytes.digest()?),
            END => HoldsFrame::End,
            other => return Err(WireError::Kind(other)),
        };
        bytes.done(frame)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.iter().map(|held| if *held { '1' } else { '0' });
        f.write_str(&digits.collect::<String>())
    }
}

impl FromStr for Held {
    type Err = NotHeld;

    fn from_str(text: &str) -> Result<Held, NotHeld> {
        let held = text.chars().map(|c| match c {
            '1' => Ok(true),
            '0' => Ok(false),
            _ => Err(NotHeld),
        });
        held.collect::<Result<_, _>>().map(Held)
    }
}

/// The digests of a `SITE RBX HOLDS`, 1 to [`LINE_MAX`] of them; `None` where they aren't that.
#[must_use]
pub fn parse_line(words: &str) -> Option<Vec<Digest>> {
    let digests: Option<Vec<Digest>> = words.split(' ').map(|word| word.parse().ok()).collect();
    digests.filter(|digests| digests.len() <= LINE_MAX)
}

/// The same, printed.
#[must_use]
pub fn print_line(digests: &[Digest]) -> String {
    let words: Vec<String> = digests.iter().map(ToString::to_string).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::{Held, LINE_MAX, NotHeld, parse_line, print_line};
    use crate::Digest;

    #[test]
    fn an_answer_prints_and_parses() {
        let held = Held(vec![true, false, false]);
        assert_eq!(held.to_string(), "100");
        assert_eq!("100".parse(), Ok(held));
        assert_eq!("".parse(), Ok(Held(Vec::new())));
        for bad in ["2", "1 0", "10\n", "true"] {
            assert_eq!(bad.parse::<Held>(), Err(NotHeld), "{bad:?}");
        }
    }

    #[test]
    fn a_line_has_a_limit() {
        let digests = |n: usize| vec![Digest::from_bytes([7; 32]); n];
        for good in [1, 2, LINE_MAX] {
            let line = print_line(&digests(good));
            assert_eq!(parse_line(&line), Some(digests(good)), "{good}");
        }
        let one = print_line(&digests(1));
        for bad in [
            String::new(),
            "7".into(),
            format!("{one} "),
            format!("{one}  {one}"),
            print_line(&digests(LINE_MAX + 1)),
        ] {
            assert_eq!(parse_line(&bad), None, "{bad:?}");
        }
    }
}
