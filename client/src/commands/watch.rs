//! `raspbox watch`: a thread for each folder, until a signal or until none is left.

use crate::cli::{Exit, exit_of_sync};
use crate::commands::status::record;
use crate::display::{Display, conclusion};
use crate::engine::SyncError;
use crate::pairs::{Pair, Pairs, With};
use crate::report::Summary;
use crate::watch::{Notice, Settings, Wake, watch};
use std::cell::RefCell;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

pub(crate) fn run(pairs: &Pairs, folder: Option<&Path>) -> anyhow::Result<Exit> {
    let chosen = pairs.chosen(folder)?;
    let several = chosen.len() > 1;
    let loops: Vec<(Pair, Sender<Wake>, Receiver<Wake>)> = chosen
        .into_iter()
        .map(|pair| {
            let (wakes, received) = channel();
            (pair, wakes, received)
        })
        .collect();
    let stops: Vec<Sender<Wake>> = loops.iter().map(|(_, wakes, _)| wakes.clone()).collect();
    ctrlc::set_handler(move || {
        for stop in &stops {
            // A loop that has ended needs no telling.
            drop(stop.send(Wake::Stop));
        }
    })?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = loops
            .into_iter()
            .map(|(pair, wakes, received)| {
                scope.spawn(move || watch_one(pairs, &pair, several, &wakes, &received))
            })
            .collect();
        let exits = threads
            .into_iter()
            .map(|thread| thread.join().expect("a loop ends by returning"));
        Ok(exits.max().unwrap_or(Exit::InSync))
    })
}

fn watch_one(
    pairs: &Pairs,
    pair: &Pair,
    several: bool,
    wakes: &Sender<Wake>,
    received: &Receiver<Wake>,
) -> Exit {
    let label = if several {
        pair.folder.display().to_string()
    } else {
        String::new()
    };
    let shown = RefCell::new(Shown {
        display: Display::new(&label, false),
        last: None,
    });
    let result = super::engine(pairs, pair).and_then(|mut engine| {
        watch(
            &mut engine,
            &pair.folder,
            Settings {
                poll: poll(&pair.with),
            },
            (wakes, received),
            &mut || {
                pairs.lock(pair).map_err(|error| SyncError::Local {
                    path: pair.folder.clone(),
                    source: std::io::Error::other(error),
                })
            },
            &mut |event| shown.borrow_mut().display.event(&event),
            &mut |notice| shown.borrow_mut().notice(pairs, pair, &notice),
        )
    });
    shown.borrow_mut().display.round_over();
    match result {
        Ok(()) => Exit::InSync,
        Err(error) => {
            eprintln!("{}: {error}", pair.folder.display());
            let exit = exit_of_sync(&error);
            record(pairs, pair, &Err(error));
            exit
        }
    }
}

fn poll(with: &With) -> Duration {
    match with {
        // Only where its stream is missing, which doesn't happen.
        With::Appliance { .. } => Duration::from_secs(30),
        With::Server { poll_seconds, .. } => Duration::from_secs(*poll_seconds),
    }
}

/// What was shown last: the same is not shown again.
struct Shown {
    display: Display,
    last: Option<String>,
}

impl Shown {
    fn notice(&mut self, pairs: &Pairs, pair: &Pair, notice: &Notice<'_>) {
        self.display.round_over();
        match notice {
            Notice::Watching(None) => {
                self.display
                    .line(&format!("watching {}", pair.folder.display()));
            }
            Notice::Watching(Some(why)) => self.display.line(&format!(
                "watching {} by scanning, since the kernel can't: {why}",
                pair.folder.display()
            )),
            Notice::Round(summary) => self.round(pairs, pair, summary),
            Notice::Failed(error) => {
                let message = error.to_string();
                if self.last.as_ref() != Some(&message) {
                    self.display.line(&format!("{message} (trying again)"));
                    record_failure(pairs, pair, &message);
                }
                self.last = Some(message);
            }
        }
    }

    fn round(&mut self, pairs: &Pairs, pair: &Pair, summary: &Summary) {
        let message = conclusion(&pair.folder, summary);
        if summary.changed_anything() || self.last.as_ref() != Some(&message) {
            if self.last.is_none() || summary.needs_attention() {
                self.display.line(&message);
            }
            record(pairs, pair, &Ok(summary.clone()));
        }
        self.last = Some(message);
    }
}

fn record_failure(pairs: &Pairs, pair: &Pair, message: &str) {
    let error = SyncError::Local {
        path: pair.folder.clone(),
        source: std::io::Error::other(message.to_owned()),
    };
    record(pairs, pair, &Err(error));
}
