//! The names under which uploads to an ordinary FTP server stand until they are whole.
//!
//! Such a name says when it was made, by the clock of who made it, so that what a cut upload left
//! behind can be told from an upload that goes on somewhere else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How temporary names begin; 16 hex digits of seconds since 1970 and 16 random ones follow.
const TEMPORARY_PREFIX: &str = ".raspbox-upload-";

/// The age at which a temporary name belongs to nobody any more. Nothing uploads one file for a day.
const ABANDONED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether it is a name that only uploads use.
pub(super) fn is_temporary(name: &str) -> bool {
    made_at(name).is_some()
}

/// Whether it is such a name and older than any upload.
pub(super) fn is_abandoned(name: &str, now: SystemTime) -> bool {
    let age = made_at(name).and_then(|made| now.duration_since(made).ok());
    age.is_some_and(|age| age > ABANDONED_AFTER)
}

fn made_at(name: &str) -> Option<SystemTime> {
    let digits = name.strip_prefix(TEMPORARY_PREFIX)?;
    let good = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if digits.len() != 32 || !digits.bytes().all(good) {
        return None;
    }
    let secs = u64::from_str_radix(&digits[..16], 16).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(secs))
}

/// A new one, for now.
pub(super) fn new_name() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let secs = since.map_or(0, |since| since.as_secs());
    let random = raspbox_beneath::random_name();
    format!("{TEMPORARY_PREFIX}{secs:016x}{}", &random[..16])
}

#[cfg(test)]
mod tests {
    use super::{ABANDONED_AFTER, is_abandoned, is_temporary, new_name};
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    #[test]
    fn only_our_own_names_are_temporary() {
        assert!(is_temporary(&new_name()));
        assert!(is_temporary(
            ".raspbox-upload-0123456789abcdef0123456789abcdef"
        ));
        for other in [
            ".raspbox-upload-",
            ".raspbox-upload-0123456789ABCDEF0123456789ABCDEF",
            ".raspbox-upload-0123456789abcdef0123456789abcde",
            "raspbox-upload-0123456789abcdef0123456789abcdef",
            ".raspbox-upload-0123456789abcdef0123456789abcdef.txt",
        ] {
            assert!(!is_temporary(other), "{other}");
        }
    }

    #[test]
    fn an_upload_is_abandoned_after_a_day() {
        let name = ".raspbox-upload-00000000000003e80000000000000000";
        let after = |age: Duration| UNIX_EPOCH + Duration::from_secs(1000) + age;
        assert!(!is_abandoned(name, after(ABANDONED_AFTER)));
        assert!(is_abandoned(
            name,
            after(ABANDONED_AFTER + Duration::from_secs(1))
        ));
        assert!(!is_abandoned(name, UNIX_EPOCH));
        assert!(!is_abandoned(&new_name(), SystemTime::now()));
        assert!(!is_abandoned("old.txt", after(ABANDONED_AFTER * 2)));
    }
}
