//! What a client is told by its user.

use jiff::civil::date;
use jiff::tz::TimeZone;
use raspbox::ignores::Rules;
use raspbox::remote::foreign::parse_url;
use raspbox::times::When;
use raspbox_protocol::RelPath;

/// `.raspboxignore`: a line that is no pattern takes no other with it.
///
/// What comes after an empty line are paths to be asked about.
pub(crate) fn ignore(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (patterns, paths) = text.split_once("\n\n").unwrap_or((&text, ""));
    let rules = Rules::parse(patterns);
    assert!(rules.mistakes.len() <= patterns.lines().count() + 1);
    assert!(rules.same_as(&Rules::parse(patterns)));
    for path in paths.lines().filter_map(|line| RelPath::parse(line).ok()) {
        assert_eq!(rules.skip(&path, false), rules.skip(&path, false));
        let _ = rules.skip(&path, true);
    }
}

/// An FTP server's address has a host, a user and a folder that is none above.
pub(crate) fn address(bytes: &[u8]) {
    let Ok((endpoint, folder)) = parse_url(&String::from_utf8_lossy(bytes)) else {
        return;
    };
    assert!(endpoint.port > 0 && endpoint.secret.is_empty());
    for text in [&endpoint.host, &endpoint.user, &folder] {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert!(!endpoint.host.is_empty() && !endpoint.user.is_empty());
    assert!(folder.split('/').all(|name| name != "." && name != ".."));
}

/// A time as people write it, and on the day when the clocks go back.
pub(crate) fn time(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").expect("a time zone");
    let now = date(2026, 10, 25).at(2, 30, 0, 0).to_zoned(zone);
    let now = now.expect("a time");
    if let Err(error) = When::parse(&text, &now) {
        assert!(error.to_string().contains(&*text));
    }
}
