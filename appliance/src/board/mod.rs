//! The board itself: its supply, its temperature, its card, and its light.
//!
//! `look` reads what the kernel knows, and says it (pure: `describe`). `light` is what the light on the board
//! tells (pure), for who has no computer at hand, `blink` does it. `raspboxd board --watch`, as root, is where they
//! meet; the daemon has no rights, and reads the report.

pub(crate) mod blink;
mod light;
mod look;

use crate::boot::RUN;
use crate::root::Root;
use crate::whole;
use serde::{Deserialize, Serialize};

/// The file's name, beside the other reports.
const FILE: &str = "board.json";
const FILE_MAX_BYTES: u64 = 4 << 10;

/// What the board is like.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// What somebody should do something about, in words.
    pub(crate) wrong: Vec<String>,
    /// The processor's temperature in °C, in steps, where there is a thermometer.
    pub(crate) celsius: Option<i32>,
    /// Whether the supply is too weak now.
    pub(crate) under_voltage: bool,
}

/// What was said last; `None` where nobody says it.
pub(crate) fn report() -> Option<Report> {
    Report::read(&Root::new("/".into()))
}

impl Report {
    fn read(root: &Root) -> Option<Report> {
        let content = whole::read(&root.at(RUN).join(FILE), FILE_MAX_BYTES).ok()??;
        serde_json::from_slice(&content).ok()
    }

    fn write(&self, root: &Root) -> std::io::Result<()> {
        let json = serde_json::to_vec_pretty(self).expect("it is plain data");
        whole::write(&root.at(RUN).join(FILE), &json, 0o644)
    }
}
