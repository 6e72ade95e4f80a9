//! Looks at the board, tells it, and has the light shine accordingly, until it is ended.

use super::light::{Light, decide};
use super::look::{describe, look};
use super::{FILE, Report};
use crate::network;
use crate::root::Root;
use crate::status::{STATUS_DIR, STATUS_FILE, Status};
use crate::whole;
use anyhow::Context;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// The light that is there for that on a Pi: by its name now, and on older kernels.
const LIGHTS: [&str; 2] = ["/sys/class/leds/ACT", "/sys/class/leds/led0"];

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// More than the daemon ever says of itself.
const STATUS_MAX_BYTES: u64 = 1 << 20;

/// How long a blink is, and the dark after it.
const BLINK: Duration = Duration::from_millis(200);

/// Looks once, and says it.
pub(crate) fn once(root: &Root) -> Report {
    describe(&look(root))
}

/// Looks again and again.
pub(crate) fn forever(root: &Root) -> ! {
    let light = light(root);
    let mut now = None;
    loop {
        let report = once(root);
        if let Err(error) = tell(root, &report) {
            tracing::warn!(error = format!("{error:#}"), "cannot tell of the board");
        }
        let status = daemon(root).unwrap_or_default();
        let wanted = decide(
            report.under_voltage,
            status.as_ref(),
            network::report().map(|report| report.ok),
        );
        if now != Some(wanted) {
            tracing::info!(light = ?wanted, "board");
            now = Some(wanted);
        }
        shine(light.as_ref(), wanted);
    }
}

/// What the daemon says of itself: in a folder of its own, so nothing in there is followed.
fn daemon(root: &Root) -> anyhow::Result<Option<Status>> {
    let file = root.at(STATUS_DIR).join(STATUS_FILE);
    match whole::read(&file, STATUS_MAX_BYTES)? {
        Some(json) => Status::of_running(&json),
        None => Ok(None),
    }
}

/// Writes the report where it is another one.
fn tell(root: &Root, report: &Report) -> anyhow::Result<()> {
    if root.said::<Report>(FILE).as_ref() != Some(report) {
        for what in &report.wrong {
            tracing::warn!(what, "board");
        }
        root.say(FILE, report)
            .with_context(|| format!("cannot write {FILE}"))?;
    }
    Ok(())
}

/// The light, if there is one; nothing else switches it from now on.
fn light(root: &Root) -> Option<PathBuf> {
    let light = LIGHTS.into_iter().map(|light| root.at(light));
    let light = light.into_iter().find(|light| light.exists())?;
    match fs::write(light.join("trigger"), "none") {
        Ok(()) => Some(light),
        Err(error) => {
            tracing::warn!(%error, "the light can't be switched");
            None
        }
    }
}

/// For as long as it is until the next look.
fn shine(light: Option<&PathBuf>, what: Light) {
    let switch = |on: bool| {
        if let Some(light) = light {
            // It was there before. Most count to 255, and some only to 1.
            let _ = fs::write(light.join("brightness"), if on { "255" } else { "0" });
        }
    };
    match what {
        Light::Steady => switch(true),
        Light::Off => switch(false),
        Light::Blinks(times) => {
            let mut spent = Duration::ZERO;
            for _ in 0..times {
                switch(true);
                std::thread::sleep(BLINK);
                switch(false);
                std::thread::sleep(BLINK);
                spent += BLINK * 2;
            }
            // A pause, so that they can be counted.
            std::thread::sleep(LOOK_INTERVAL.saturating_sub(spent));
            return;
        }
    }
    std::thread::sleep(LOOK_INTERVAL);
}
