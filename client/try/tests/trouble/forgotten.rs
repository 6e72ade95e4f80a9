//! What either side had in sync, and has forgotten.

use crate::brakes::fill;
use crate::common::{contents, home, names, put, round, synced, text};
use raspbox_protocol::Digest;
use std::fs;

#[test]
fn a_lost_client_database_merges_and_deletes_nothing() {
    let (home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    let mut removed = 0;
    for name in names(&laptop.state_dir) {
        for file in names(&laptop.state_dir.join(&name))
            .iter()
            .filter(|f| f.starts_with("sync.db"))
        {
            fs::remove_file(laptop.state_dir.join(&name).join(file)).expect("remove");
            removed += 1;
        }
    }
    assert!(removed > 0);
    fs::remove_file(laptop.folder.join("dir 0/0")).expect("remove");
    put(&laptop.folder, "dir 1/1", "edited here");
    put(&desktop.folder, "dir 2/2", "edited there");
    synced(&desktop);
    let merged = round(&laptop);
    assert_eq!(merged.code, 1, "{merged:#?}");
    assert_eq!(merged.count("deleted"), 0);
    home.settle(&[&laptop, &desktop]);
    let all = contents(&laptop.folder);
    for content in ["file 0", "file 1", "edited here", "file 2", "edited there"] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
    assert_eq!(
        text(&laptop.folder, "dir 1/1").as_deref(),
        Some("file 1"),
        "the appliance's keeps the name"
    );
}

#[test]
fn a_lost_journal_merges_and_deletes_nothing() {
    let (mut home, [laptop, desktop]) = home(["laptop", "desktop"]);
    fill(&laptop.folder, 20);
    home.settle(&[&laptop, &desktop]);
    home.appliance.stop().expect("stopped");
    let own = home.drive().join(".raspbox");
    let journal: Vec<String> = names(&own)
        .into_iter()
        .filter(|name| name.starts_with("journal.db"))
        .collect();
    assert!(!journal.is_empty(), "{:?}", names(&own));
    for name in journal {
        fs::remove_file(own.join(name)).expect("remove");
    }
    home.appliance.restart().expect("started");
    let quiet = round(&desktop);
    assert_eq!(
        (quiet.code, quiet.moved()),
        (0, false),
        "nothing has changed: {quiet:#?}"
    );
    fs::remove_file(laptop.folder.join("dir 0/0")).expect("remove");
    put(&laptop.folder, "dir 1/1", "edited here");
    let merged = round(&laptop);
    assert!(merged.code <= 1, "{merged:#?}");
    assert_eq!(merged.count("deleted"), 0);
    home.settle(&[&laptop, &desktop]);
    let all = contents(&desktop.folder);
    for content in ["file 0", "edited here"] {
        assert!(all.contains(&Digest::of(content.as_bytes())), "{content}");
    }
}
