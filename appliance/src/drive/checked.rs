//! Checking a filesystem with its own program before it is mounted.

use crate::drive::found::Served;
use crate::drive::report::Check;
use crate::programs::{Answer, FSCK_EXFAT, FSCK_EXT4, FSCK_FAT, ask};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Checks it, and repairs what can be repaired without asking anybody.
pub(crate) fn check(device: &str, filesystem: Served) -> Check {
    let (program, arguments): (_, &[&str]) = match filesystem {
        // Repairs what is safe to repair, and stops at anything else.
        Served::Ext4 => (FSCK_EXT4, &["-p", device]),
        // And keeps what no folder knows of, as FSCK0000.REC.
        Served::Exfat => (FSCK_EXFAT, &["-p", "-s", device]),
        // It has only "ask" (which none of us can answer), "look" and this.
        Served::Fat => (FSCK_FAT, &["-a", device]),
    };
    let dirty = filesystem == Served::Exfat && is_dirty(device);
    let check = match ask(program, arguments).map(|answer| judge(filesystem, &answer)) {
        // fsck.exfat says nothing of it: it wasn't unmounted.
        Ok(Check::Clean) if dirty => Check::Unclean,
        Ok(check) => check,
        Err(error) => Check::Failed(format!("{error:#}")),
    };
    tracing::info!(device, %filesystem, ?check, "checked");
    check
}

/// exFAT's own mark: the "VolumeDirty" bit of the "VolumeFlags" in its boot sector, which is set while
/// it is mounted (exFAT specification, 3.1.13).
fn is_dirty(device: &str) -> bool {
    let mut flags = [0; 2];
    let read = File::open(device).and_then(|device| device.read_exact_at(&mut flags, 106));
    read.is_ok() && flags[0] & 2 != 0
}

/// What the exit code means: e2fsck(8), fsck.exfat(8), fsck.fat(8).
fn judge(filesystem: Served, answer: &Answer) -> Check {
    let failed = || Check::Failed(answer.said.clone());
    match (filesystem, answer.code) {
        // e2fsck says nothing else of a journal that had to be played: it wasn't unmounted.
        (Served::Ext4, Some(0)) if answer.said.contains("recovering journal") => Check::Unclean,
        (_, Some(0)) => Check::Clean,
        // "File system errors corrected"; 2 is "and the system should be rebooted", which concerns a
        // filesystem that was mounted, and this one isn't.
        (Served::Ext4, Some(1..=3)) | (Served::Exfat, Some(1)) => Check::Repaired,
        // "Recoverable errors have been detected" (and with -a, corrected). 2 is wrong usage.
        (Served::Fat, Some(1)) => Check::Repaired,
        (Served::Ext4 | Served::Exfat | Served::Fat, Some(_) | None) => failed(),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::drive::found::Served;
    use crate::drive::report::Check;
    use crate::programs::Answer;

    #[test]
    fn what_cannot_be_repaired_is_not_trusted() {
        let check = |filesystem, code, expect: &Check| {
            let answer = Answer {
                code,
                out: String::new(),
                said: "why".into(),
            };
            assert_eq!(&judge(filesystem, &answer), expect, "{filesystem} {code:?}");
        };
        let failed = Check::Failed("why".into());
        for filesystem in [Served::Ext4, Served::Exfat, Served::Fat] {
            check(filesystem, Some(0), &Check::Clean);
            check(filesystem, Some(1), &Check::Repaired);
            check(filesystem, Some(4), &failed);
            check(filesystem, Some(8), &failed);
            check(filesystem, None, &failed);
        }
        let played = Answer {
            code: Some(0),
            out: String::new(),
            said: "RASPBOX: recovering journal RASPBOX: clean, 12/65536 files".into(),
        };
        assert_eq!(judge(Served::Ext4, &played), Check::Unclean);
        check(Served::Ext4, Some(2), &Check::Repaired);
        check(Served::Fat, Some(2), &failed);
        check(Served::Exfat, Some(2), &failed);
    }
}
