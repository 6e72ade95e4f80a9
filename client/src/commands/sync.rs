//! `raspbox sync`.

use crate::cli::{Exit, Sync, exit_of_sync};
use crate::commands::status::{self, record};
use crate::display::{Display, conclusion, print_plan};
use crate::engine::{Options, Scope, SyncError};
use crate::pairs::{Pair, Pairs};
use crate::report::{Event, Summary};
use raspbox_core::guard::Allowances;

pub(crate) fn run(pairs: &Pairs, args: &Sync) -> anyhow::Result<Exit> {
    let mut worst = Exit::InSync;
    let mut results = Vec::new();
    let chosen = pairs.chosen(args.folder.as_deref())?;
    if chosen.len() > 1 && (args.confirm_deletions.is_some() || args.confirm_changes.is_some()) {
        // What was shown was shown of one of them.
        eprintln!("several folders are paired: say for which one this is confirmed");
        return Ok(Exit::Usage);
    }
    for pair in chosen {
        let _lock = pairs.lock(&pair)?;
        let result = round(pairs, &pair, args);
        if !args.dry_run {
            record(pairs, &pair, &result);
        }
        let exit = match &result {
            Ok(summary) if summary.needs_attention() => Exit::Attention,
            Ok(_) => Exit::InSync,
            Err(error) => exit_of_sync(error),
        };
        worst = worst.max(exit);
        if args.json {
            results.push(status::as_json(&pair, &result));
            continue;
        }
        match &result {
            Ok(summary) if args.dry_run => {
                println!("{}: nothing was done (dry run)", pair.folder.display());
                show_unsyncable(summary);
            }
            Ok(summary) => {
                show_unsyncable(summary);
                println!("{}", conclusion(&pair.folder, summary));
            }
            Err(error) => eprintln!("{}: {error}", pair.folder.display()),
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&results)?);
    }
    Ok(worst)
}

fn round(pairs: &Pairs, pair: &Pair, args: &Sync) -> Result<Summary, SyncError> {
    let mut engine = super::engine(pairs, pair)?;
    let options = Options {
        dry_run: args.dry_run,
        allow: Allowances {
            deletions: confirmed(args.confirm_deletions),
            changes: confirmed(args.confirm_changes),
        },
    };
    let mut display = Display::new("", args.json);
    let result = engine.round(&Scope::All, options, &mut |event| match event {
        Event::Planned(plan) if args.dry_run && !args.json => print_plan(plan),
        Event::Planned(_) if args.dry_run => {}
        event => display.event(&event),
    });
    display.round_over();
    result
}

/// How many an option lets through; without a number, any.
fn confirmed(option: Option<Option<usize>>) -> usize {
    option.map_or(0, |count| count.unwrap_or(usize::MAX))
}

fn show_unsyncable(summary: &Summary) {
    for (name, why) in &summary.unsyncable {
        eprintln!("{name} can't be synced: {why}. Rename it");
    }
}
