//! What the board's light tells.

use crate::status::{Drive, Status};

/// How it shines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Light {
    /// All is well.
    Steady,
    /// So many times, and a pause, over and over.
    Blinks(u8),
    /// raspboxd doesn't run, or does nothing yet.
    Off,
}

/// What it shall tell: of several things the one that comes first here, which may be why the others are.
pub(super) fn decide(
    under_voltage: bool,
    daemon: Option<&Status>,
    network_ok: Option<bool>,
) -> Light {
    if under_voltage {
        return Light::Blinks(5);
    }
    let Some(status) = daemon else {
        return Light::Off;
    };
    match (&status.drive, network_ok) {
        (Drive::Missing { .. } | Drive::Waiting { .. }, _) => Light::Blinks(2),
        (Drive::ReadOnly { .. } | Drive::Silent | Drive::Unusable { .. }, _) => Light::Blinks(3),
        (Drive::Served { errors, .. }, _) if *errors > 0 => Light::Blinks(3),
        (Drive::Served { .. }, Some(false)) => Light::Blinks(4),
        // Nobody looks after the network where raspboxd was installed on something else.
        (Drive::Served { .. }, Some(true) | None) => Light::Steady,
    }
}

#[cfg(test)]
mod tests {
    use super::{Light, decide};
    use crate::status::{Drive, Status};

    fn status(drive: Drive) -> Status {
        Status {
            pid: 1,
            version: String::new(),
            address: String::new(),
            fingerprint: String::new(),
            drive,
            network: None,
            problems: 0,
            nobody_may_enter: false,
            has_owners_file: false,
            paired: 0,
            online: Vec::new(),
            sessions: 0,
            board: Vec::new(),
        }
    }

    fn served(errors: u64) -> Drive {
        Drive::Served {
            name: None,
            free_mib: 1,
            size_mib: 1,
            is_full: false,
            repaired: false,
            errors,
            damaged: 0,
            damaged_versions: 0,
        }
    }

    #[test]
    fn one_thing_is_told_and_that_may_be_the_reason_for_the_others() {
        let missing = || Drive::Missing { others: Vec::new() };
        let broken = || Drive::Unusable { why: "x".into() };
        for (under_voltage, drive, network_ok, expect) in [
            (false, served(0), Some(true), Light::Steady),
            (false, served(0), None, Light::Steady),
            (false, served(0), Some(false), Light::Blinks(4)),
            (false, served(3), Some(false), Light::Blinks(3)),
            (false, missing(), Some(false), Light::Blinks(2)),
            (false, broken(), Some(true), Light::Blinks(3)),
            (false, Drive::Silent, Some(true), Light::Blinks(3)),
            (true, missing(), Some(false), Light::Blinks(5)),
            (true, served(0), Some(true), Light::Blinks(5)),
        ] {
            let status = status(drive);
            assert_eq!(
                decide(under_voltage, Some(&status), network_ok),
                expect,
                "{under_voltage} {:?} {network_ok:?}",
                status.drive
            );
        }
        assert_eq!(decide(false, None, Some(true)), Light::Off);
    }
}
