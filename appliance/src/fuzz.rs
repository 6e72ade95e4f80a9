//! What must hold for the daemon's parsers, whatever the bytes: the targets of `raspbox-fuzz`.
//!
//! Only with the feature `fuzz`. Each function panics where something doesn't hold.

use crate::owner::file::File;
use crate::owner::settings::{self, Settings};
use crate::place::{Place, is_special_folder};
use crate::{boot, network, site, stamp};
use raspbox_protocol::Mtime;
use std::collections::BTreeSet;

/// A path from the network leads to a place below the top, or nowhere; seen from there it is the same place.
///
/// The first line is the working directory, the second what is asked for.
pub fn place(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (cwd, path) = text.split_once('\n').unwrap_or(("/", &text));
    let _ = is_special_folder(cwd, path);
    let Ok(place) = Place::resolve(cwd, path) else {
        return;
    };
    assert!(!path.contains(char::REPLACEMENT_CHARACTER));
    let again = match &place {
        Place::Top => "/".to_owned(),
        Place::Entry(path) => format!("/{path}"),
        Place::Versions(None) => "/.raspbox/versions".to_owned(),
        Place::Versions(Some(path)) => format!("/.raspbox/versions/{path}"),
        Place::Special(special) => special.to_string(),
    };
    assert_eq!(Place::resolve("/somewhere", &again), Ok(place));
}

/// The arguments of SITE commands, and times.
pub fn site(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    drop(site::parse_rbx(&text));
    if let Some((time, path)) = site::parse_utime(&text) {
        assert!(!path.is_empty());
        is_a_date(time);
    }
    if let Some((_, path)) = site::parse_chmod(&text) {
        assert!(!path.is_empty());
    }
    if let Some(time) = stamp::parse_stamp(&text) {
        is_a_date(time);
        let printed = stamp::print_time(time);
        let digits: String = printed.chars().filter(char::is_ascii_digit).collect();
        // But for a leap second, which is the next minute's first, and seconds that weren't said.
        if !text.ends_with("60") && text.len() == 14 {
            assert_eq!(digits, text);
        }
    }
}

fn is_a_date(time: Mtime) {
    let year = stamp::print_time(time)[..4].parse().unwrap_or(0);
    assert!((1678..=2262).contains(&year), "{time:?}");
}

/// The daemon's own configuration: what is wrong is said in one line.
pub fn config(bytes: &[u8]) {
    if let Err(what) = crate::config::parse(&String::from_utf8_lossy(bytes)) {
        assert!(!what.is_empty() && !what.contains('\n'), "{what:?}");
    }
}

/// `raspbox.toml`: the daemon can start with what was understood, what is blanked is blanked and nothing
/// else with it, and no text of it makes a line in a file of another program.
pub fn owners_file(bytes: &[u8]) {
    let file = File::parse(bytes.to_vec());
    if settings::is_the_daemons(&file) {
        return;
    }
    let (settings, problems) = settings::read(&file, None);
    for problem in &problems {
        assert!(problem.line.is_none_or(|line| line > 0));
    }
    assert_eq!(file.with(Vec::new()), bytes);
    let daemon = settings.for_daemon();
    if let Err(what) = crate::config::parse(&daemon) {
        panic!("the daemon wouldn't start: {what}\n{daemon}");
    }
    is_blanked(&file, &settings, bytes);
    makes_no_lines(&settings);
}

/// What is taken in is gone from the file then, and all else stays as it was.
fn is_blanked(file: &File, settings: &Settings, bytes: &[u8]) {
    let mut edits = Vec::new();
    if let Some(password) = &settings.password {
        edits.push((password.at.clone(), "\"\""));
    }
    if let Some(reset) = &settings.reset {
        edits.push((reset.at.clone(), "false"));
    }
    if let Some(at) = settings.wifi.as_ref().and_then(|wifi| wifi.at.as_ref()) {
        edits.push((at.clone(), "\"\""));
    }
    if edits.is_empty() {
        return;
    }
    let removed: usize = edits.iter().map(|(at, _)| at.len()).sum();
    let added: usize = edits.iter().map(|(_, new)| new.len()).sum();
    let blanked = file.with(edits);
    assert_eq!(blanked.len(), bytes.len() - removed + added);
    let (again, _) = settings::read(&File::parse(blanked), None);
    assert_eq!((&again.password, &again.reset), (&None, &None));
    assert_eq!(
        (&again.name, &again.timezone, &again.fixed, &again.dns),
        (
            &settings.name,
            &settings.timezone,
            &settings.fixed,
            &settings.dns
        )
    );
    assert_eq!(
        (again.port, &again.daemon),
        (settings.port, &settings.daemon)
    );
    assert!(again.wifi.is_none_or(|wifi| wifi.at.is_none()));
}

/// NetworkManager's files have the lines that they have with a name and a password of letters.
fn makes_no_lines(settings: &Settings) {
    let files = |settings: &Settings| {
        let wanted = boot::wanted_alone(settings);
        network::files::create_files(&wanted, &settings.name)
    };
    for file in files(settings) {
        let mut keys = BTreeSet::new();
        for line in file.content.lines() {
            let key = line.split_once('=').map_or(line, |(key, _)| key);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let header = key.starts_with('[') && key.ends_with(']');
            let comment = key.starts_with('#');
            assert!(
                line.is_empty() || header || comment || key.chars().all(plain),
                "{line:?} in {}",
                file.content
            );
            if header {
                keys.clear();
            } else if !comment && !line.is_empty() {
                assert!(keys.insert(key), "{key} twice in {}", file.content);
            }
        }
    }
}
