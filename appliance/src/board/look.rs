//! What the kernel knows of the board, by files in `/sys`; any of them may be absent.

use super::Report;
use crate::maintenance::{Card, CardRoot};
use crate::root::Root;
use std::fs;
use std::path::Path;

/// Where a Pi begins to slow itself down (its `temp_limit` is 85).
const HOT_CELSIUS: i32 = 80;

/// The temperature is told in steps of so many degrees: each change is a file.
const STEP_CELSIUS: i32 = 5;

/// What there is to be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) under_voltage: Option<bool>,
    pub(super) millicelsius: Option<i32>,
    pub(super) card: Option<Card>,
}

/// Looks.
pub(super) fn look(root: &Root) -> Seen {
    Seen {
        under_voltage: under_voltage(&root.at("/sys/class/hwmon")),
        millicelsius: fs::read_to_string(root.at("/sys/class/thermal/thermal_zone0/temp"))
            .ok()
            .and_then(|text| text.trim().parse().ok()),
        card: Card::look(root).ok().flatten(),
    }
}

/// The driver raspberrypi-hwmon: "1" while the firmware sees less than 4.63 V.
fn under_voltage(monitors: &Path) -> Option<bool> {
    let monitors = fs::read_dir(monitors).ok()?.flatten();
    monitors
        .map(|monitor| monitor.path())
        .filter(|path| {
            fs::read_to_string(path.join("name")).is_ok_and(|name| name.trim() == "rpi_volt")
        })
        .find_map(|path| fs::read_to_string(path.join("in0_lcrit_alarm")).ok())
        .map(|alarm| alarm.trim() == "1")
}

/// What of it is told.
pub(super) fn describe(seen: &Seen) -> Report {
    let mut wrong = Vec::new();
    let under_voltage = seen.under_voltage == Some(true);
    if under_voltage {
        wrong.push(
            "UNDER-VOLTAGE: the power supply or its cable is too weak for this board and its drive"
                .into(),
        );
    }
    let celsius = seen
        .millicelsius
        .map(|millis| millis / 1000 / STEP_CELSIUS * STEP_CELSIUS);
    if let Some(celsius) = celsius.filter(|celsius| *celsius >= HOT_CELSIUS) {
        wrong.push(format!(
            "HOT: {celsius} °C, and slow because of that; it needs air"
        ));
    }
    if let Some(card) = &seen.card {
        match card.root {
            CardRoot::Memory => {}
            CardRoot::Card => {
                wrong
                    .push("MAINTENANCE: the card is written to, see 'raspboxd maintenance'".into());
            }
            CardRoot::ReadOnly => wrong.push("CARD: nothing can be changed".into()),
        }
        wrong.extend(card.wrong.iter().map(|what| format!("CARD: {what}")));
    }
    Report {
        wrong,
        celsius,
        under_voltage,
    }
}

#[cfg(test)]
mod tests {
    use super::{Seen, describe, look};
    use crate::maintenance::{Card, CardRoot};
    use crate::root::Root;
    use std::fs;

    fn said(seen: Seen) -> String {
        describe(&seen).wrong.join(" | ")
    }

    #[test]
    fn only_what_needs_somebody_is_said() {
        let card = |root, wrong: Option<&str>| Seen {
            card: Some(Card {
                root,
                wrong: wrong.map(str::to_owned),
            }),
            ..Seen::default()
        };
        let warm = |millicelsius| Seen {
            millicelsius: Some(millicelsius),
            under_voltage: Some(false),
            ..Seen::default()
        };
        assert_eq!(said(Seen::default()), "");
        assert_eq!(said(warm(79_900)), "");
        assert!(said(warm(80_100)).starts_with("HOT: 80 °C"));
        assert_eq!(describe(&warm(54_321)).celsius, Some(50));
        assert_eq!(said(card(CardRoot::Memory, None)), "");
        assert!(said(card(CardRoot::Card, None)).starts_with("MAINTENANCE"));
        assert_eq!(
            said(card(CardRoot::Memory, Some("no partition"))),
            "CARD: no partition"
        );
        let weak = Seen {
            under_voltage: Some(true),
            ..Seen::default()
        };
        assert!(describe(&weak).under_voltage && said(weak).starts_with("UNDER-VOLTAGE"));
    }

    #[test]
    fn a_pi_is_read_and_so_is_a_machine_without_any_of_it() {
        let temp = tempfile::tempdir().unwrap();
        let root = Root::new(temp.path().into());
        assert_eq!(look(&root), Seen::default());
        for (file, content) in [
            ("/sys/class/hwmon/hwmon0/name", "cpu_thermal\n"),
            ("/sys/class/hwmon/hwmon0/in0_lcrit_alarm", "0\n"),
            ("/sys/class/hwmon/hwmon1/name", "rpi_volt\n"),
            ("/sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n"),
            ("/sys/class/thermal/thermal_zone0/temp", "48312\n"),
        ] {
            let path = root.at(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let seen = look(&root);
        assert_eq!(seen.under_voltage, Some(true));
        assert_eq!(seen.millicelsius, Some(48_312));
    }
}
