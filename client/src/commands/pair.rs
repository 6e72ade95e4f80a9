//! `raspbox pair` and `raspbox unpair`.

use crate::cli::{Exit, Pair as Args};
use crate::local::Workspace;
use crate::pairs::{Pair, Pairs, With, absolute};
use crate::remote::connection::{Connection, Endpoint, Tls};
use crate::remote::foreign::parse_url;
use crate::remote::{Digest256, RemoteError, pairing};
use anyhow::Context;
use std::io::IsTerminal;
use std::path::Path;

/// The FTP port (RFC 959).
const PORT: u16 = 21;

pub(crate) fn run(pairs: &Pairs, args: &Args) -> anyhow::Result<Exit> {
    let folder = match &args.folder {
        Some(folder) => folder.clone(),
        None => std::env::home_dir()
            .context("no home directory; give --folder")?
            .join("raspbox"),
    };
    let folder = absolute(&folder)?;
    pairs.check_free(&folder)?;
    if let Some(owner) = Workspace::owner(&folder) {
        anyhow::bail!(
            "{} bears the mark of a pairing that isn't known here ({owner}). If it is another \
             computer's folder or a copy of one, pair a new folder; if the pairing is gone, remove \
             {}/.raspbox and try again",
            folder.display(),
            folder.display()
        );
    }
    let id = raspbox_beneath::random_name()[..8].to_owned();
    let device = args.device.clone().map_or_else(host_name, Ok)?;
    let with = if args.target.contains("://") {
        with_server(args)?
    } else {
        with_appliance(args, &device)?
    };
    let pair = Pair {
        id,
        folder,
        device,
        with,
    };
    if let Err(error) = keep(pairs, &pair) {
        // The device's login would stay behind on the appliance, useless and unknown.
        if let Some(endpoint) = super::endpoint(&pair.with) {
            drop(pairing::unpair(&endpoint));
        }
        return Err(error);
    }
    println!(
        "paired {} with {} as '{}'. Next: raspbox sync, or raspbox watch, or raspbox service install",
        pair.folder.display(),
        pair.with.name(),
        pair.device
    );
    Ok(Exit::InSync)
}

fn keep(pairs: &Pairs, pair: &Pair) -> anyhow::Result<()> {
    Workspace::mark(&pair.folder, &pair.id)
        .with_context(|| format!("cannot use {}", pair.folder.display()))?;
    Ok(pairs.add(pair)?)
}

fn with_appliance(args: &Args, device: &str) -> anyhow::Result<With> {
    let (host, port) = host_and_port(&args.target)?;
    let endpoint = Endpoint {
        host,
        port,
        user: args.user.clone(),
        secret: password(args, &args.user)?,
        tls: args.fingerprint.map_or(Tls::FirstUse, Tls::Pinned),
    };
    let paired = pairing::pair(&endpoint, device)?;
    let fingerprint = paired.fingerprint.expect("it was paired over TLS");
    println!(
        "it knows the password as well; from now on only its certificate is accepted:\n  \
         {fingerprint}\ndrive {}, {} free",
        paired.info.drive,
        crate::display::human_bytes(paired.info.free_bytes)
    );
    Ok(With::Appliance {
        host: endpoint.host,
        port,
        device_id: paired.device_id,
        token: paired.token,
        fingerprint: fingerprint.to_string(),
    })
}

fn with_server(args: &Args) -> anyhow::Result<With> {
    let (mut endpoint, path) = parse_url(&args.target)?;
    let fingerprint = match endpoint.tls {
        Tls::Off => {
            eprintln!(
                "warning: ftp:// is not encrypted. Whoever is in between reads the password and the \
                 files; use ftps:// if the server has it"
            );
            None
        }
        Tls::FirstUse | Tls::Pinned(_) => Some(first_use(&endpoint, args.fingerprint)?),
    };
    endpoint.tls = fingerprint.map_or(Tls::Off, Tls::Pinned);
    endpoint.secret = password(args, &endpoint.user)?;
    match pairing::probe(&endpoint)? {
        pairing::Kind::Foreign { .. } => {}
        pairing::Kind::Appliance => {
            println!(
                "this is an appliance: 'raspbox pair {}' does more",
                endpoint.address()
            );
        }
    }
    Ok(With::Server {
        host: endpoint.host,
        port: endpoint.port,
        user: endpoint.user,
        password: endpoint.secret,
        fingerprint: fingerprint.map(|f| f.to_string()),
        path,
        poll_seconds: args.poll.max(1),
    })
}

/// Shows the certificate of a server that isn't known yet, before anything is sent to it.
fn first_use(endpoint: &Endpoint, wanted: Option<Digest256>) -> Result<Digest256, RemoteError> {
    let found = Connection::fingerprint_at(endpoint)?;
    match wanted {
        Some(pinned) if pinned != found => Err(RemoteError::OtherCertificate {
            address: endpoint.address(),
            pinned,
            found,
        }),
        Some(_) => Ok(found),
        None => {
            println!(
                "{} has the certificate\n  {found}\nCompare it with the one that it prints at its \
                 start. From now on only this one is accepted.",
                endpoint.address()
            );
            Ok(found)
        }
    }
}

fn password(args: &Args, user: &str) -> anyhow::Result<String> {
    let password = if args.password_stdin {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        line.trim_end_matches(['\r', '\n']).to_owned()
    } else if std::io::stdin().is_terminal() {
        rpassword::prompt_password(format!("password of {user}: "))?
    } else {
        anyhow::bail!("no terminal to ask for the password on; give it with --password-stdin");
    };
    anyhow::ensure!(!password.is_empty(), "the password is empty");
    Ok(password)
}

/// Takes `host`, `host:port`, `[v6]`, `[v6]:port` and a bare IPv6 address.
fn host_and_port(target: &str) -> anyhow::Result<(String, u16)> {
    let wrong = || anyhow::anyhow!("'{target}' is no HOST or HOST:PORT");
    let port = |text: &str| {
        text.parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)
    };
    if let Some(rest) = target.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
        return match rest.strip_prefix(':') {
            Some(text) => Ok((host.to_owned(), port(text)?)),
            None if rest.is_empty() => Ok((host.to_owned(), PORT)),
            None => Err(wrong()),
        };
    }
    match target.split_once(':') {
        Some((_, rest)) if rest.contains(':') => Ok((target.to_owned(), PORT)),
        Some((host, text)) if !host.is_empty() => Ok((host.to_owned(), port(text)?)),
        None if !target.is_empty() => Ok((target.to_owned(), PORT)),
        Some(_) | None => Err(wrong()),
    }
}

fn host_name() -> anyhow::Result<String> {
    let name = nix::unistd::gethostname().context("no host name; give --device")?;
    let name = name.to_string_lossy();
    Ok(name.split('.').next().unwrap_or("computer").to_owned())
}

pub(crate) fn unpair(pairs: &Pairs, folder: &Path) -> anyhow::Result<Exit> {
    for pair in pairs.chosen(Some(folder))? {
        let _lock = pairs.lock(&pair)?;
        if let Some(endpoint) = super::endpoint(&pair.with) {
            match pairing::unpair(&endpoint) {
                Ok(()) | Err(RemoteError::LoginRefused { .. }) => {}
                Err(error) => eprintln!(
                    "warning: {error}\nThe device '{}' is still known there; remove it with: \
                     raspboxd device revoke {}",
                    pair.device, pair.device
                ),
            }
        }
        // A folder that isn't there now, or is another's, keeps its mark.
        if Workspace::owner(&pair.folder).as_deref() == Some(&pair.id) {
            Workspace::unmark(&pair.folder)?;
        }
        pairs.remove(&pair)?;
        println!(
            "unpaired {}. Its files stay, here and there",
            pair.folder.display()
        );
    }
    Ok(Exit::InSync)
}

#[cfg(test)]
mod tests {
    use super::host_and_port;

    #[test]
    fn hosts_and_ports() {
        let check = |text: &str, host: &str, port: u16| {
            assert_eq!(
                host_and_port(text).ok(),
                Some((host.to_owned(), port)),
                "{text}"
            );
        };
        check("raspbox.local", "raspbox.local", 21);
        check("10.0.0.2:2121", "10.0.0.2", 2121);
        check("fe80::1", "fe80::1", 21);
        check("[fe80::1]:2121", "fe80::1", 2121);
        check("[::1]", "::1", 21);
        for wrong in ["", ":21", "host:", "host:0", "host:99999", "[::1", "[::1]x"] {
            assert!(host_and_port(wrong).is_err(), "{wrong}");
        }
    }
}
