//! What raspbox is made of, by the rules of `.cargo/deny.toml`: licences, sources, duplicates. `cargo deny
//! check` says the same and knows of holes as well; it takes longer to build than to check with, and the
//! list of known holes has to be fetched.

use serde_json::Value;
use spdx::{Expression, ParseMode};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::Table;

const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn rules() -> Table {
    let text = fs::read_to_string(workspace().join(".cargo/deny.toml")).expect("the rules");
    text.parse().expect("the rules")
}

/// The texts of a list.
fn texts<'a>(rules: &'a Table, part: &str, key: &str) -> BTreeSet<&'a str> {
    let list = rules[part][key].as_array().expect("a list");
    let text = |item: &'a toml::Value| item.as_str().or_else(|| item.get("crate")?.as_str());
    list.iter()
        .map(|item| text(item).expect("a text"))
        .collect()
}

/// Every package that is built for one of our systems, with what is only for tests.
fn packages(rules: &Table) -> Vec<Value> {
    let mut packages = BTreeMap::new();
    for target in texts(rules, "graph", "targets") {
        let output = Command::new(env!("CARGO"))
            .current_dir(workspace())
            .args([
                "metadata",
                "--locked",
                "--all-features",
                "--format-version=1",
            ])
            .args(["--filter-platform", target])
            .output()
            .expect("cargo metadata");
        assert!(output.status.success(), "{output:?}");
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let nodes = all["resolve"]["nodes"].as_array().expect("nodes");
        let ids: BTreeSet<_> = nodes
            .iter()
            .filter_map(|node| node["id"].as_str())
            .collect();
        for package in all["packages"].as_array().expect("packages") {
            let id = package["id"].as_str().expect("an id");
            if ids.contains(id) {
                packages.insert(id.to_owned(), package.clone());
            }
        }
    }
    assert!(packages.len() > 100, "{}", packages.len());
    packages.into_values().collect()
}

fn name(package: &Value) -> (&str, &str) {
    let text = |key: &str| package[key].as_str().expect("a text");
    (text("name"), text("version"))
}

#[test]
fn every_licence_is_an_allowed_one_and_each_of_them_is_used() {
    let rules = rules();
    let allowed = texts(&rules, "licenses", "allow");
    let mut used = BTreeSet::new();
    for package in packages(&rules) {
        let licence = package["license"].as_str().unwrap_or_default();
        let parsed = Expression::parse_mode(licence, ParseMode::LAX)
            .unwrap_or_else(|error| panic!("{:?}: {error}", name(&package)));
        let good = parsed.evaluate(|asked| {
            let asked = asked.license.id().map_or("", |id| id.name);
            used.extend(allowed.get(asked));
            allowed.contains(asked)
        });
        assert!(good, "{:?} is under {licence}", name(&package));
    }
    assert_eq!(used, allowed);
}

#[test]
fn everything_comes_from_crates_io_or_is_ours() {
    for package in packages(&rules()) {
        let ours = package["source"].is_null() && name(&package).0.starts_with("raspbox");
        assert!(
            ours || package["source"] == CRATES_IO,
            "{:?} comes from {}",
            name(&package),
            package["source"]
        );
    }
}

#[test]
fn nothing_is_there_twice_but_what_is_said() {
    let rules = rules();
    let packages = packages(&rules);
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for package in &packages {
        let (name, version) = name(package);
        versions.entry(name).or_default().insert(version);
    }
    for denied in texts(&rules, "bans", "deny") {
        assert!(!versions.contains_key(denied), "{denied}");
    }
    let mut said = texts(&rules, "bans", "skip");
    for (name, versions) in versions.iter().filter(|(_, versions)| versions.len() > 1) {
        let left = versions.iter().filter(|version| {
            let is_it = |said: &&str| {
                said.split_once('@').is_some_and(|(of, begin)| {
                    of == *name && version.starts_with(&format!("{begin}."))
                })
            };
            let it = said.iter().copied().find(is_it);
            it.is_none_or(|it| !said.remove(it))
        });
        assert_eq!(left.count(), 1, "{name}: {versions:?}");
    }
    assert_eq!(said, BTreeSet::new(), "these are there only once");
}

#[test]
fn every_dependency_has_a_reason() {
    let root: Table = fs::read_to_string(workspace().join("Cargo.toml"))
        .expect("the workspace")
        .parse()
        .expect("the workspace");
    let members = root["workspace"]["members"].as_array().expect("members");
    let members = members
        .iter()
        .map(|member| member.as_str().expect("a folder"));
    let mut count = 0;
    for member in members.chain(["."]) {
        let file = workspace().join(member).join("Cargo.toml");
        let text = fs::read_to_string(&file).expect("a member");
        let (mut is_list, mut has_reason) = (false, false);
        for line in text.lines() {
            if line.starts_with('[') {
                is_list = line.ends_with("dependencies]");
                has_reason = false;
            } else if line.is_empty() {
                has_reason = false;
            } else if line.starts_with('#') {
                has_reason = true;
            } else if is_list && !line.contains("workspace = true") && !line.contains("path = ") {
                count += 1;
                assert!(has_reason, "{}: why {line}?", file.display());
            }
        }
    }
    assert!(count > 30, "{count}");
}
