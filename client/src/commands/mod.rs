//! What each subcommand does.

pub(crate) mod discover;
pub(crate) mod pair;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod verify;
pub(crate) mod watch;

use crate::cli::{Exit, Service};
use crate::engine::{Engine, SyncError};
use crate::pairs::{Pair, Pairs, With};
use crate::remote::Remote;
use crate::remote::appliance::Appliance;
use crate::remote::connection::{Endpoint, Tls};
use crate::remote::foreign::Foreign;
use crate::remote::pairing::device_endpoint;
use std::path::Path;

/// The other side of a pairing, not yet connected.
pub(crate) fn remote(pair: &Pair) -> Box<dyn Remote> {
    let fingerprint = pair.with.fingerprint();
    match &pair.with {
        With::Appliance { .. } => {
            let at = endpoint(&pair.with).expect("an appliance has one");
            Box::new(Appliance::new(at))
        }
        With::Server {
            host,
            port,
            user,
            password,
            path,
            ..
        } => {
            let at = Endpoint {
                host: host.clone(),
                port: *port,
                user: user.clone(),
                secret: password.clone(),
                tls: fingerprint.map_or(Tls::Off, Tls::Pinned),
            };
            Box::new(Foreign::new(at, path))
        }
    }
}

/// Where this device logs in; `None` for an ordinary server, where it has no login of its own.
pub(crate) fn endpoint(with: &With) -> Option<Endpoint> {
    match with {
        With::Appliance {
            host,
            port,
            device_id,
            token,
            ..
        } => {
            let at = Endpoint {
                host: host.clone(),
                port: *port,
                user: String::new(),
                secret: String::new(),
                tls: Tls::FirstUse,
            };
            Some(device_endpoint(&at, device_id, token, with.fingerprint()))
        }
        With::Server { .. } => None,
    }
}

pub(crate) fn engine(pairs: &Pairs, pair: &Pair) -> Result<Engine, SyncError> {
    Engine::open(
        &pair.folder,
        &pair.id,
        &pair.device,
        &pairs.database(pair),
        remote(pair),
    )
}

pub(crate) fn service(what: &Service, state_dir: Option<&Path>) -> anyhow::Result<Exit> {
    match what {
        Service::Install => {
            let program = std::env::current_exe()?;
            let state_dir = state_dir.map(std::path::absolute).transpose()?;
            let (unit, started) = crate::service::install(&program, state_dir.as_deref())?;
            println!("wrote {}", unit.display());
            if started {
                println!("started; see: systemctl --user status raspbox");
            } else {
                println!(
                    "no systemd user session answers here. In yours, run:\n  \
                     systemctl --user daemon-reload && systemctl --user enable --now raspbox"
                );
            }
        }
        Service::Remove => match crate::service::remove()? {
            Some(unit) => println!("removed {}", unit.display()),
            None => println!("there was no unit"),
        },
    }
    Ok(Exit::InSync)
}
