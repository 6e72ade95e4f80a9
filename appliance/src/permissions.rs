//! What an account may do, in the letters of pyftpdlib that owners of the old system know.

use raspbox_protocol::commit::Op;
use std::fmt;
use std::str::FromStr;

/// One right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Permission {
    /// `e`: change the working directory (CWD).
    Enter,
    /// `l`: look (LIST, NLST, MLSD, MLST, STAT, SIZE, MDTM, SITE HASH; RNFR and APPE look first).
    List,
    /// `r`: read files (RETR).
    Read,
    /// `a`: go on writing a file that exists (APPE, STOR after REST).
    Append,
    /// `d`: delete files and folders (DELE, RMD).
    Delete,
    /// `f`: rename (RNFR, RNTO).
    Rename,
    /// `m`: make folders (MKD).
    MakeFolder,
    /// `w`: write files (STOR), replacing what was there.
    Write,
    /// `M`: change the executable bit (SITE CHMOD).
    ChangeMode,
    /// `T`: set the time of modification (SITE UTIME).
    SetTime,
}

/// Every right with its letter, in the order in which they are printed.
const LETTERS: [(Permission, char); 10] = [
    (Permission::Enter, 'e'),
    (Permission::List, 'l'),
    (Permission::Read, 'r'),
    (Permission::Append, 'a'),
    (Permission::Delete, 'd'),
    (Permission::Rename, 'f'),
    (Permission::MakeFolder, 'm'),
    (Permission::Write, 'w'),
    (Permission::ChangeMode, 'M'),
    (Permission::SetTime, 'T'),
];

/// A set of rights. Parsed from and printed as letters, `elradfmwMT` being all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Permissions(u16);

/// A letter that is no right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no permission; use letters of \"elradfmwMT\", for example \"elr\" to read only")]
pub(crate) struct PermissionError(char);

impl Permissions {
    /// Every right.
    pub(crate) const ALL: Permissions = Permissions((1 << LETTERS.len()) - 1);

    /// None at all.
    pub(crate) const NONE: Permissions = Permissions(0);

    /// Whether the right is in the set.
    pub(crate) fn has(self, permission: Permission) -> bool {
        self.0 & bit(permission) != 0
    }

    /// Whether an account may do this operation of a commit.
    pub(crate) fn allow(self, op: &Op) -> bool {
        self.has(match op {
            Op::Put { .. } | Op::Patch { .. } | Op::Restore { .. } | Op::Symlink { .. } => {
                Permission::Write
            }
            // Not for readers: it takes room, for which older versions may have to go.
            Op::Keep { .. } => Permission::Write,
            Op::MakeFolder { .. } => Permission::MakeFolder,
            Op::Delete { .. } => Permission::Delete,
            Op::Move { .. } => Permission::Rename,
            Op::SetMeta { .. } => Permission::SetTime,
        })
    }

    /// Whether an account may change anything through a commit.
    pub(crate) fn can_write(self) -> bool {
        self.has(Permission::Write)
    }
}

fn bit(permission: Permission) -> u16 {
    1 << permission as u16
}

impl FromStr for Permissions {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Permissions, PermissionError> {
        text.chars().try_fold(Permissions(0), |set, letter| {
            let (permission, _) = LETTERS
                .into_iter()
                .find(|(_, known)| *known == letter)
                .ok_or(PermissionError(letter))?;
            Ok(Permissions(set.0 | bit(permission)))
        })
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        LETTERS
            .into_iter()
            .filter(|(permission, _)| self.has(*permission))
            .try_for_each(|(_, letter)| write!(f, "{letter}"))
    }
}

impl serde::Serialize for Permissions {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Permissions {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{LETTERS, Permission, Permissions};

    #[test]
    fn letters_parse_and_print() {
        assert_eq!("elradfmwMT".parse(), Ok(Permissions::ALL));
        assert_eq!(Permissions::ALL.to_string(), "elradfmwMT");
        let read_only: Permissions = "rle".parse().unwrap();
        assert_eq!(read_only.to_string(), "elr");
        assert!(read_only.has(Permission::Read));
        assert!(!read_only.has(Permission::Write));
        assert!(!read_only.can_write());
        assert!("elx".parse::<Permissions>().is_err());
    }

    #[test]
    fn each_letter_is_one_right() {
        for (permission, letter) in LETTERS {
            let one: Permissions = letter.to_string().parse().unwrap();
            for (other, _) in LETTERS {
                assert_eq!(one.has(other), other == permission, "{letter}");
            }
        }
    }
}
