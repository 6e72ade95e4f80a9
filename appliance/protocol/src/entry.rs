//! What stands at a path: a file, a folder or a symlink.

use crate::Digest;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest symlink target, in bytes (Linux's `PATH_MAX` less its final NUL).
pub const LINK_TARGET_MAX_BYTES: usize = 4095;

/// One file, folder or symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// A regular file.
    File(File),
    /// A folder.
    Folder,
    /// A symlink, kept as one and never followed.
    Symlink(LinkTarget),
}

/// A regular file, as far as it is the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct File {
    /// The hash of the content.
    pub digest: Digest,
    /// The length of the content in bytes.
    pub size: u64,
    /// When the content was last changed, by the clock of whoever did.
    pub mtime: Mtime,
    /// Whether its owner may execute it.
    pub executable: bool,
}

/// A time of last modification: nanoseconds since 1970-01-01 UTC, from 1677 to 2262.
///
/// It is a hint for people and for skipping work, never an order of versions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mtime(pub i64);

/// What a symlink points to: 1 to [`LINK_TARGET_MAX_BYTES`] bytes of UTF-8 without NUL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LinkTarget(Box<str>);

/// Why a text can't be a symlink's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a symlink's target is 1 to {LINK_TARGET_MAX_BYTES} bytes of UTF-8 without NUL")]
pub struct LinkTargetError;

impl Mtime {
    /// From whole seconds and nanoseconds, as `stat(2)` gives them; what doesn't fit is clamped.
    #[must_use]
    pub fn from_parts(secs: i64, nanos: i64) -> Mtime {
        Mtime(secs.saturating_mul(1_000_000_000).saturating_add(nanos))
    }

    /// Whole seconds, rounded down, and the nanoseconds in `0..1_000_000_000` to add to them.
    #[must_use]
    pub fn parts(self) -> (i64, i64) {
        (
            self.0.div_euclid(1_000_000_000),
            self.0.rem_euclid(1_000_000_000),
        )
    }
}

impl From<SystemTime> for Mtime {
    fn from(time: SystemTime) -> Mtime {
        let ns = |duration: Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Mtime(ns(after)),
            Err(before) => Mtime(-ns(before.duration())),
        }
    }
}

impl From<Mtime> for SystemTime {
    fn from(mtime: Mtime) -> SystemTime {
        let distance = Duration::from_nanos(mtime.0.unsigned_abs());
        if mtime.0 >= 0 {
            UNIX_EPOCH + distance
        } else {
            UNIX_EPOCH - distance
        }
    }
}

impl fmt::Debug for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = self.parts();
        write!(f, "{secs}.{nanos:09}")
    }
}

impl LinkTarget {
    /// Checks a text and makes it a target.
    ///
    /// # Errors
    /// Where it is empty, too long or contains NUL.
    pub fn parse(text: &str) -> Result<LinkTarget, LinkTargetError> {
        let good = !text.is_empty() && text.len() <= LINK_TARGET_MAX_BYTES && !text.contains('\0');
        if good {
            Ok(LinkTarget(text.into()))
        } else {
            Err(LinkTargetError)
        }
    }

    /// The target as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Entry {
    /// Whether both are the same to a user: kind, content, executable bit and target.
    ///
    /// Times don't count: a `touch` is not an edit.
    #[must_use]
    pub fn same_content(&self, other: &Entry) -> bool {
        match (self, other) {
            (Entry::File(a), Entry::File(b)) => {
                a.digest == b.digest && a.executable == b.executable
            }
            (Entry::Folder, Entry::Folder) => true,
            (Entry::Symlink(a), Entry::Symlink(b)) => a == b,
            (Entry::File(_) | Entry::Folder | Entry::Symlink(_), _) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Entry, File, LinkTarget, Mtime};
    use crate::Digest;
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn times_after_1970_come_after_it() {
        let mtime = Mtime::from_parts(2, 500_000_000);
        let time = UNIX_EPOCH + Duration::from_millis(2500);
        assert_eq!(SystemTime::from(mtime), time);
        assert_eq!(Mtime::from(time), mtime);
    }

    #[test]
    fn times_before_1970_keep_their_nanoseconds() {
        let mtime = Mtime::from_parts(-2, 500_000_000);
        assert_eq!(mtime.parts(), (-2, 500_000_000));
        assert_eq!(
            SystemTime::from(mtime),
            UNIX_EPOCH - Duration::from_millis(1500)
        );
        assert_eq!(Mtime::from(SystemTime::from(mtime)), mtime);
        assert_eq!(format!("{:?}", Mtime(1)), "0.000000001");
    }

    #[test]
    fn times_out_of_range_are_clamped() {
        assert_eq!(Mtime::from_parts(i64::MAX, 0), Mtime(i64::MAX));
    }

    #[test]
    fn a_touch_is_no_edit_and_all_else_is() {
        let file = File {
            digest: Digest::of(b"one"),
            size: 3,
            mtime: Mtime(1),
            executable: false,
        };
        let link = |to| Entry::Symlink(LinkTarget::parse(to).expect("good"));
        let touched = File {
            mtime: Mtime(2),
            ..file
        };
        let runs = File {
            executable: true,
            ..file
        };
        let edited = File {
            digest: Digest::of(b"two"),
            ..file
        };
        let both = File {
            executable: true,
            ..edited
        };
        assert!(Entry::File(file).same_content(&Entry::File(touched)));
        assert!(Entry::Folder.same_content(&Entry::Folder));
        assert!(link("a").same_content(&link("a")));
        for (one, other) in [
            (Entry::File(file), Entry::File(runs)),
            (Entry::File(file), Entry::File(edited)),
            (Entry::File(file), Entry::File(both)),
            (Entry::File(file), Entry::Folder),
            (Entry::Folder, link("a")),
            (link("a"), link("b")),
        ] {
            assert!(!one.same_content(&other), "{one:?} and {other:?}");
            assert!(!other.same_content(&one), "{other:?} and {one:?}");
        }
    }

    #[test]
    fn targets_have_limits() {
        assert!(LinkTarget::parse("../x").is_ok());
        assert!(LinkTarget::parse(&"x".repeat(4095)).is_ok());
        for bad in ["", "a\0b", &"x".repeat(4096)] {
            assert!(LinkTarget::parse(bad).is_err());
        }
    }
}
