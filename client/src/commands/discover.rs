//! `raspbox discover`.

use crate::cli::{Discover, Exit};
use crate::remote::discover::{Where, browse};
use std::time::Duration;

pub(crate) fn run(args: &Discover) -> anyhow::Result<Exit> {
    let place = if args.loopback {
        Where::Loopback
    } else {
        Where::Network
    };
    let found = browse(place, Duration::from_secs(args.seconds))?;
    if args.json {
        let list: Vec<serde_json::Value> = found
            .iter()
            .map(|found| {
                serde_json::json!({
                    "name": found.name,
                    "addresses": found.addresses,
                    "port": found.port,
                    "fingerprint": found.fingerprint.map(|f| f.to_string()),
                    "drive": found.drive.map(|d| d.to_string()),
                })
            })
            .collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(Exit::InSync);
    }
    for found in &found {
        let address = found.addresses.first().map_or("?", String::as_str);
        println!("{:<20} {address}:{}", found.name, found.port);
        if let Some(fingerprint) = found.fingerprint {
            println!("{:<20} certificate {fingerprint}", "");
        }
    }
    if found.is_empty() {
        println!(
            "no appliance answered within {} s. Is it on, and in the same network? Its address works \
             as well: raspbox pair ADDRESS",
            args.seconds
        );
    }
    Ok(Exit::InSync)
}
