//! `raspboxd maintenance`: whether the SD card's own root can be written to, from the next start on.
//!
//! On an appliance's card the root is only read, and what is written lies over it in memory
//! (`image/stage-raspbox/03-readonly/files/init`, which looks for the mark that is set here). Elsewhere there is
//! nothing to switch.

use crate::root::Root;
use crate::whole;
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::ErrorKind;

/// What the first program of all says of the root.
const SAID: &str = "/run/raspbox-root";
const SAID_MAX_BYTES: u64 = 4 << 10;

/// The card's state partition, and the mark on it.
const STATE: &str = "/var/lib/raspbox-state";
const MARK: &str = "/var/lib/raspbox-state/maintenance";

/// What the root of an appliance's card is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) root: CardRoot,
    /// What went wrong at the start, in words.
    pub(crate) wrong: Option<String>,
}

/// Where writes to the root go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CardRoot {
    /// To memory; gone with the next start.
    Memory,
    /// To the card.
    Card,
    /// Nowhere.
    ReadOnly,
}

impl Card {
    /// What this system runs on; `None` where it was started from no card of ours.
    pub(crate) fn look(root: &Root) -> anyhow::Result<Option<Card>> {
        let Some(said) = whole::read(&root.at(SAID), SAID_MAX_BYTES)
            .with_context(|| format!("cannot read {SAID}"))?
        else {
            return Ok(None);
        };
        let said = String::from_utf8_lossy(&said);
        let (first, rest) = said.split_once('\n').unwrap_or((&said, ""));
        let rest = rest.trim();
        Ok(Some(Card {
            root: match first {
                "memory" => CardRoot::Memory,
                "card" => CardRoot::Card,
                "read-only" => CardRoot::ReadOnly,
                other => bail!("{SAID} says {other:?}"),
            },
            wrong: (!rest.is_empty()).then(|| rest.to_owned()),
        }))
    }
}

/// Switches it for the next start, durably: what that will be like, in words.
pub(crate) fn switch(root: &Root, on: bool) -> anyhow::Result<&'static str> {
    let Some(card) = Card::look(root)? else {
        bail!("this system wasn't started from raspbox's SD card: it can be changed as it is");
    };
    let mark = root.at(MARK);
    if on {
        whole::write(&mark, b"", 0o600).with_context(|| format!("cannot write {MARK}"))?;
    } else {
        match fs::remove_file(&mark) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            other => other.with_context(|| format!("cannot remove {MARK}"))?,
        }
        File::open(root.at(STATE))
            .and_then(|dir| dir.sync_all())
            .with_context(|| format!("cannot write to {STATE}"))?;
    }
    Ok(describe(card.root, on))
}

/// What is now and what will be, in words.
pub(crate) fn said(root: &Root) -> anyhow::Result<String> {
    let Some(card) = Card::look(root)? else {
        return Ok("this system wasn't started from raspbox's SD card".into());
    };
    let is_marked = root.at(MARK).exists();
    let wrong = card
        .wrong
        .map_or_else(String::new, |wrong| format!("\nat the start: {wrong}"));
    Ok(format!("{}{wrong}", describe(card.root, is_marked)))
}

fn describe(now: CardRoot, next: bool) -> &'static str {
    match (now, next) {
        (CardRoot::Memory, false) => {
            "off: the card is only read, and changes are gone with the next start"
        }
        (CardRoot::Memory | CardRoot::ReadOnly, true) => {
            "on from the next start: 'systemctl reboot', make your changes, 'raspboxd maintenance off' and \
             reboot again"
        }
        (CardRoot::Card, true) => {
            "on: the card is written to. When you are done: 'raspboxd maintenance off', and reboot"
        }
        (CardRoot::Card, false) => "off from the next start: 'systemctl reboot'",
        (CardRoot::ReadOnly, false) => "off: the card is only read, and nothing can be changed",
    }
}

#[cfg(test)]
mod tests {
    use super::{Card, CardRoot, MARK, SAID, said, switch};
    use crate::root::Root;
    use std::fs;

    fn started(what: &str) -> (tempfile::TempDir, Root) {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().into());
        for folder in ["run", "var/lib/raspbox-state"] {
            fs::create_dir_all(temp.path().join(folder)).unwrap();
        }
        if !what.is_empty() {
            fs::write(root.at(SAID), what).unwrap();
        }
        (temp, root)
    }

    #[test]
    fn it_is_switched_for_the_next_start_and_back() {
        let (_temp, root) = started("memory\n\n");
        assert!(said(&root).unwrap().starts_with("off: "));
        assert!(switch(&root, true).unwrap().starts_with("on from the next"));
        assert!(root.at(MARK).exists());
        assert!(switch(&root, true).is_ok(), "twice is once");
        assert!(said(&root).unwrap().starts_with("on from the next"));
        // That start.
        fs::write(root.at(SAID), "card\n\n").unwrap();
        assert!(said(&root).unwrap().starts_with("on: "));
        assert!(switch(&root, false).unwrap().starts_with("off from"));
        assert!(!root.at(MARK).exists());
        assert!(switch(&root, false).is_ok(), "twice is once");
    }

    #[test]
    fn elsewhere_there_is_nothing_to_switch() {
        let (_temp, root) = started("");
        assert!(switch(&root, true).is_err());
        assert!(!root.at(MARK).exists());
        assert!(said(&root).unwrap().contains("wasn't started"));
    }

    #[test]
    fn what_went_wrong_at_the_start_is_said() {
        let (_temp, root) = started("memory\nthe card has no state partition\n");
        assert_eq!(
            Card::look(&root).unwrap(),
            Some(Card {
                root: CardRoot::Memory,
                wrong: Some("the card has no state partition".into())
            })
        );
        assert!(said(&root).unwrap().ends_with("no state partition"));
        let (_temp, root) = started("something else\n");
        assert!(Card::look(&root).is_err());
    }
}
