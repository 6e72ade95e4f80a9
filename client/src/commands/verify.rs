//! `raspbox verify`.

use crate::cli::{Exit, Verify, exit_of_sync};
use crate::display::{Display, human_bytes};
use crate::engine::SyncError;
use crate::pairs::{Pair, Pairs};
use crate::verify::{Cure, Finding, Findings, Reread, Side};
use serde_json::{Value, json};

pub(crate) fn run(pairs: &Pairs, args: &Verify) -> anyhow::Result<Exit> {
    let mut worst = Exit::InSync;
    let mut results = Vec::new();
    for pair in pairs.chosen(args.folder.as_deref())? {
        let verified = match verify(pairs, &pair, args) {
            Ok(verified) => verified,
            Err(error) => {
                eprintln!("{}: {error}", pair.folder.display());
                worst = worst.max(exit_of_sync(&error));
                continue;
            }
        };
        worst = worst.max(verified.exit());
        if args.json {
            results.push(verified.as_json(&pair));
        } else {
            verified.print(&pair);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(worst)
}

/// What is known of one pairing, and why no more.
struct Verified {
    reread: Reread,
    findings: Findings,
    error: Option<SyncError>,
}

fn verify(pairs: &Pairs, pair: &Pair, args: &Verify) -> Result<Verified, SyncError> {
    let mut engine = super::engine(pairs, pair)?;
    let mut display = Display::new("", args.json);
    let reread = engine.reread(&mut |event| display.event(&event))?;
    display.round_over();
    // Only from here on does it matter what a sync does at the same time.
    let _lock = pairs.lock(pair).map_err(|error| SyncError::Local {
        path: pair.folder.clone(),
        source: std::io::Error::other(error),
    })?;
    engine.remember(&reread)?;
    let compared = engine.compare(&reread, args.repair, &mut |event| display.event(&event));
    display.round_over();
    let (findings, error) = match compared {
        Ok(findings) => (findings, None),
        Err(error) => (reread.findings(), Some(error)),
    };
    Ok(Verified {
        reread,
        findings,
        error,
    })
}

impl Verified {
    fn left(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .files
            .iter()
            .filter(|finding| !finding.repaired)
    }

    fn exit(&self) -> Exit {
        let is_good = self.left().next().is_none()
            && self.findings.versions == 0
            && self.reread.unread.is_empty();
        let exit = if is_good {
            Exit::InSync
        } else {
            Exit::Attention
        };
        exit.max(self.error.as_ref().map_or(Exit::InSync, exit_of_sync))
    }

    fn print(&self, pair: &Pair) {
        for finding in &self.findings.files {
            let line = describe(finding, self.error.is_none());
            if finding.repaired {
                println!("{line}");
            } else {
                eprintln!("{line}");
            }
        }
        for (path, why) in &self.reread.unread {
            eprintln!("{path} cannot be read: {why}");
        }
        if self.findings.versions > 0 {
            eprintln!(
                "{} of the versions that the appliance keeps can't be had any more: they are damaged",
                self.findings.versions
            );
        }
        if let Some(error) = &self.error {
            eprintln!("{}: {error}", pair.folder.display());
        }
        let damaged = self.left().count();
        let repaired = self.findings.files.len() - damaged;
        let mut said = format!(
            "{}: {} files read ({})",
            pair.folder.display(),
            self.reread.files,
            human_bytes(self.reread.bytes)
        );
        if repaired > 0 {
            said += &format!(", {repaired} repaired");
        }
        said += &match damaged {
            0 => ", all good".to_owned(),
            damaged => format!(", {damaged} damaged"),
        };
        println!("{said}");
        if self.left().any(|finding| finding.cure != Cure::Nobody) {
            println!("repair with: raspbox verify --repair");
        }
    }

    fn as_json(&self, pair: &Pair) -> Value {
        let files = self.findings.files.iter().map(|finding| {
            json!({
                "path": finding.path.as_str(),
                "side": match finding.side { Side::Here => "here", Side::There => "there" },
                "good": match finding.cure {
                    Cure::Other => "other-side",
                    Cure::Newer => "newer-on-other-side",
                    Cure::Nobody => "nowhere",
                },
                "repaired": finding.repaired,
            })
        });
        json!({
            "folder": pair.folder,
            "files": self.reread.files,
            "bytes": self.reread.bytes,
            "damaged": files.collect::<Vec<_>>(),
            "damaged_versions": self.findings.versions,
            "unread": self.reread.unread.iter()
                .map(|(path, why)| format!("{path}: {why}"))
                .collect::<Vec<_>>(),
            "error": self.error.as_ref().map(ToString::to_string),
        })
    }
}

/// A finding as a person should read it; `asked` tells whether the other side was.
fn describe(finding: &Finding, asked: bool) -> String {
    let path = &finding.path;
    let (side, other) = match finding.side {
        Side::Here => ("on this computer", "the other side"),
        Side::There => ("on the other side", "this computer"),
    };
    if finding.repaired {
        return format!("repaired {path} {side}");
    }
    let what = format!("{path} is damaged {side}");
    match (finding.cure, finding.side) {
        (Cure::Other, _) => format!("{what}; {other} has the good content"),
        (Cure::Newer, _) => format!("{what}; {other} has a newer content"),
        (Cure::Nobody, Side::Here) if !asked => {
            format!("{what}; who has the good content isn't known")
        }
        (Cure::Nobody, Side::Here) => format!(
            "{what}, and {other} doesn't have the good content. Restore it from elsewhere, or keep it \
             as it is: touch it, and it is synced"
        ),
        (Cure::Nobody, Side::There) => format!(
            "{what}, and {other} doesn't have the good content. Run 'raspbox verify --repair' on one \
             that has it"
        ),
    }
}
