//! What each subcommand does.

pub(crate) mod conflicts;
pub(crate) mod discover;
pub(crate) mod history;
pub(crate) mod pair;
pub(crate) mod restore;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod verify;
pub(crate) mod watch;

use crate::cli::{Exit, Service};
use crate::engine::{Engine, SyncError};
use crate::pairs::{Pair, Pairs, PairsError, With};
use crate::remote::Remote;
use crate::remote::appliance::Appliance;
use crate::remote::connection::{Endpoint, Tls};
use crate::remote::foreign::Foreign;
use crate::remote::pairing::device_endpoint;
use raspbox_protocol::RelPath;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Why a command can't do what was asked for: what was asked for, and what to ask for instead.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(pub(crate) String);

/// The pairing that a path is in, and the path in its folder; `None` is the folder itself.
///
/// The path needn't be there, nor the folders above it.
pub(crate) fn locate(pairs: &Pairs, path: &Path) -> anyhow::Result<(Pair, Option<RelPath>)> {
    let all = pairs.all()?;
    if let Ok(real) = path.canonicalize()
        && let Some(pair) = all.iter().find(|pair| pair.folder == real)
    {
        return Ok((pair.clone(), None));
    }
    let absolute = real_path(path)?;
    let found = all.into_iter().find_map(|pair| {
        let below = absolute.strip_prefix(&pair.folder).ok()?.to_owned();
        Some((pair, below))
    });
    let Some((pair, below)) = found else {
        return Err(PairsError::NotPaired(absolute).into());
    };
    let below = RelPath::from_bytes(below.as_os_str().as_bytes())
        .map_err(|error| Unusable(format!("{}: {error}", path.display())))?;
    Ok((pair, Some(below)))
}

/// A path without symlinks on the way to it, as far as there is a way; the last name is not followed,
/// since a symlink is asked for itself.
fn real_path(path: &Path) -> std::io::Result<PathBuf> {
    let absolute = std::path::absolute(path)?;
    Ok(match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => real_folder(parent).join(name),
        (Some(_) | None, _) => real_folder(&absolute),
    })
}

fn real_folder(path: &Path) -> PathBuf {
    if let Ok(real) = path.canonicalize() {
        return real;
    }
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real_folder(parent).join(name),
        // `..` in what isn't there goes by the text.
        (Some(parent), None) => {
            let folder = real_folder(parent);
            folder.parent().map(Path::to_owned).unwrap_or(folder)
        }
        (None, _) => path.to_owned(),
    }
}

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

#[cfg(test)]
mod tests {
    use super::real_path;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_path_is_found_also_where_nothing_is() {
        let temp = tempfile::tempdir().expect("temp dir");
        let top = temp.path().canonicalize().expect("real");
        std::fs::create_dir_all(top.join("real/folder")).expect("made");
        symlink("real", top.join("link")).expect("made");
        symlink("nowhere", top.join("real/dangling")).expect("made");
        let check = |path: &str, expected: &str| {
            let found = real_path(&top.join(path)).expect("a path");
            assert_eq!(found, top.join(expected), "{path}");
        };
        check("real/folder", "real/folder");
        check("link/folder", "real/folder");
        check("link/gone", "real/gone");
        check("link/gone/and more/a.txt", "real/gone/and more/a.txt");
        check("link/folder/../gone", "real/gone");
        check("link/gone/../other/x", "real/other/x");
        check("link/dangling", "real/dangling");
        check("link", "link");
        check("link/folder/..", "real");
    }
}
