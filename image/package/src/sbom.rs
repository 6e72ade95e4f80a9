//! What a program is made of, as CycloneDX: <https://cyclonedx.org/docs/1.5/json/>. It says what the compiler
//! was given for one package and one target, and nothing that differs from one build to the next.

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::Command;

/// The bill of materials of a package of this workspace for a target of Rust's.
pub(crate) fn print(package: &str, target: &str) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--prefix=none", "--edges=normal"])
        .args([
            "--format={p}\t{l}",
            "--target",
            target,
            "--package",
            package,
        ])
        .output()
        .context("cannot run cargo tree")?;
    ensure!(
        output.status.success(),
        "cargo tree: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lock = include_str!("../../../Cargo.lock");
    let bill = bill(&String::from_utf8(output.stdout)?, lock)?;
    Ok(format!("{bill:#}\n"))
}

/// From cargo's tree, the package itself on its first line, and the lock file.
fn bill(tree: &str, lock: &str) -> anyhow::Result<Value> {
    let hashes = hashes(lock)?;
    let mut components = BTreeMap::new();
    let mut top = None;
    for line in tree.lines() {
        let (what, licence) = line.split_once('\t').context("a line of cargo tree")?;
        let mut words = what.split(' ');
        let (name, version) = (words.next(), words.next());
        let (Some(name), Some(version)) = (name, version.and_then(|v| v.strip_prefix('v'))) else {
            anyhow::bail!("not understood: {line}");
        };
        let component = component(name, version, licence.trim_end_matches(" (*)"), &hashes);
        if top.is_none() {
            top = Some(component);
        } else {
            components.insert((name, version), component);
        }
    }
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": { "component": top.context("cargo tree says nothing")? },
        "components": components.into_values().collect::<Vec<_>>(),
    }))
}

fn component(
    name: &str,
    version: &str,
    licence: &str,
    hashes: &BTreeMap<(String, String), String>,
) -> Value {
    let mut component = json!({
        "type": "library",
        "name": name,
        "version": version,
        // Older crates write "MIT/Apache-2.0".
        "licenses": [{ "expression": licence.replace('/', " OR ") }],
    });
    // Our own are in no registry.
    if let Some(hash) = hashes.get(&(name.to_owned(), version.to_owned())) {
        component["purl"] = json!(format!("pkg:cargo/{name}@{version}"));
        component["hashes"] = json!([{ "alg": "SHA-256", "content": hash }]);
    }
    component
}

/// The hash of each package that comes from the registry.
fn hashes(lock: &str) -> anyhow::Result<BTreeMap<(String, String), String>> {
    let lock: toml::Table = toml::from_str(lock)?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let mut hashes = BTreeMap::new();
    for package in packages.context("the lock file lists no packages")? {
        let text = |key| {
            package
                .get(key)
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
        };
        if let (Some(name), Some(version), Some(hash)) =
            (text("name"), text("version"), text("checksum"))
        {
            hashes.insert((name, version), hash);
        }
    }
    Ok(hashes)
}

#[cfg(test)]
mod tests {
    use super::{bill, print};
    use serde_json::{Value, json};

    #[test]
    fn a_tree_becomes_a_bill() {
        let tree = "ours v0.1.0 (/home/somebody/ours)\tMIT OR Apache-2.0\n\
                    libc v0.2.1\tMIT/Apache-2.0\n\
                    serde_derive v1.0.0 (proc-macro)\tMIT\n\
                    libc v0.2.1\tMIT/Apache-2.0 (*)\n";
        let lock = "[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n\
                    [[package]]\nname = \"libc\"\nversion = \"0.2.1\"\nchecksum = \"abc\"\n";
        let bill = bill(tree, lock).unwrap();
        assert_eq!(bill["metadata"]["component"]["name"], "ours");
        let components = bill["components"].as_array().unwrap();
        assert_eq!(components.len(), 2);
        assert_eq!(
            components[0],
            json!({
                "type": "library",
                "name": "libc",
                "version": "0.2.1",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }],
                "purl": "pkg:cargo/libc@0.2.1",
                "hashes": [{ "alg": "SHA-256", "content": "abc" }],
            })
        );
        assert!(
            !bill.to_string().contains("somebody"),
            "no path of this machine"
        );
    }

    #[test]
    fn the_daemons_bill_has_what_it_is_made_of_and_no_more() {
        let bill = print("raspboxd", "aarch64-unknown-linux-gnu").unwrap();
        let bill: Value = serde_json::from_str(&bill).unwrap();
        let names: Vec<&str> = bill["components"]
            .as_array()
            .unwrap()
            .iter()
            .map(|component| component["name"].as_str().unwrap())
            .collect();
        for part in ["libunftp", "ring", "raspbox-store", "libsqlite3-sys"] {
            assert!(names.contains(&part), "{part}");
        }
        // For tests, for the client, for Windows.
        for other in ["tempfile", "suppaftp", "windows-sys"] {
            assert!(!names.contains(&other), "{other}");
        }
    }
}
