//! The board itself: its supply, its temperature, its card, and its light.
//!
//! `look` reads what the kernel knows, and says it (pure: `describe`). `light` is what the light on the board
//! tells (pure), for who has no computer at hand, `blink` does it. `raspboxd board --watch`, as root, is where they
//! meet; the daemon has no rights, and reads the report.

pub(crate) mod blink;
mod light;
mod look;

use crate::root::Root;
use serde::{Deserialize, Serialize};

/// The file's name, beside the other reports.
const FILE: &str = "board.json";

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
    Root::new("/".into()).said(FILE)
}
