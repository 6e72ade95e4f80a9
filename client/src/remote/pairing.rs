//! Getting and giving back a login of this device's own.
//!
//! The password of whoever pairs is proved and never sent ([`raspbox_protocol::pairing`]): until then
//! the certificate at the other end is anybody's.

use super::appliance::{self, Appliance, same_version};
use super::connection::{Connection, Endpoint, Tls};
use super::control::Control;
use super::foreign::Features;
use super::{Digest256, Remote, RemoteError};
use raspbox_protocol::info::Info;
use raspbox_protocol::pairing::{Accepted, Invitation, LOGIN, NOT_PROVEN, PairingError, Terms};
use raspbox_protocol::special::SITE;

/// The longest device name, in bytes. It goes into conflict copies' names, too.
pub const DEVICE_NAME_MAX_BYTES: usize = 60;

/// What a device has after pairing.
#[derive(Clone)]
pub struct Paired {
    /// The device's id; it logs in as `device:<id>`.
    pub device_id: String,
    /// The device's token, its password. Never printed.
    pub token: String,
    /// The appliance's certificate, to be pinned; `None` without TLS.
    pub fingerprint: Option<Digest256>,
    /// What the appliance said of itself.
    pub info: Info,
}

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// An appliance that speaks our version.
    Appliance,
    /// Another FTP server, and what it offers.
    Foreign {
        /// Its features.
        features: Features,
    },
}

impl std::fmt::Debug for Paired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Paired")
            .field("device_id", &self.device_id)
            .field("token", &"…")
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Paired {
    /// Where this device connects from now on: with its own login and the pinned certificate.
    #[must_use]
    pub fn endpoint(&self, paired_at: &Endpoint) -> Endpoint {
        device_endpoint(paired_at, &self.device_id, &self.token, self.fingerprint)
    }
}

/// The endpoint of a paired device.
#[must_use]
pub fn device_endpoint(
    at: &Endpoint,
    device_id: &str,
    token: &str,
    fingerprint: Option<Digest256>,
) -> Endpoint {
    Endpoint {
        host: at.host.clone(),
        port: at.port,
        user: format!("device:{device_id}"),
        secret: token.to_owned(),
        tls: fingerprint.map_or(Tls::Off, Tls::Pinned),
    }
}

/// Proves to the appliance that the endpoint's password is known here, has it prove the same, and gets a
/// login for this device; then tries it.
///
/// # Errors
/// Where the appliance can't be reached, refuses, or isn't one; [`RemoteError::NotProven`] where the
/// password isn't the same at both ends, or the certificate isn't.
pub fn pair(endpoint: &Endpoint, device_name: &str) -> Result<Paired, RemoteError> {
    let good = (1..=DEVICE_NAME_MAX_BYTES).contains(&device_name.len())
        && !device_name.chars().any(char::is_control)
        && device_name.trim() == device_name;
    let stranger = Endpoint {
        user: LOGIN.to_owned(),
        // Any will do.
        secret: LOGIN.to_owned(),
        ..endpoint.clone()
    };
    let mut connection = match Connection::open(&stranger) {
        Err(RemoteError::LoginRefused { address, .. }) if endpoint.tls != Tls::Off => {
            return Err(RemoteError::NotUnderstood {
                address,
                why: "what answers there is an ordinary FTP server, or an older appliance. Pair a \
                      server as ftp://… or ftps://…"
                    .into(),
            });
        }
        other => other?,
    };
    let Some(fingerprint) = connection.fingerprint() else {
        return Err(connection.nonsense("an appliance is paired over TLS"));
    };
    if !good {
        return Err(connection.nonsense(format!(
            "a device's name is 1 to {DEVICE_NAME_MAX_BYTES} bytes without line breaks: --device NAME"
        )));
    }
    let accepted = exchange(&mut connection, endpoint, &fingerprint, device_name)?;
    drop(connection);
    let (device_id, token) = (accepted.device_id, accepted.token);
    let fingerprint = Some(fingerprint);
    let own = device_endpoint(endpoint, &device_id, &token, fingerprint);
    let info = Appliance::new(own).info()?;
    Ok(Paired {
        device_id,
        token,
        fingerprint,
        info,
    })
}

/// The two commands of pairing. What is returned is the appliance's word, with its proof.
fn exchange(
    connection: &mut Connection,
    endpoint: &Endpoint,
    fingerprint: &Digest256,
    device_name: &str,
) -> Result<Accepted, RemoteError> {
    let terms = Terms {
        user: &endpoint.user,
        fingerprint: &fingerprint.0,
    };
    let not_proven = || RemoteError::NotProven {
        address: endpoint.address(),
        user: endpoint.user.clone(),
    };
    let trouble = |connection: &Connection, error: PairingError| match error {
        PairingError::NotProven => not_proven(),
        error @ (PairingError::NotUnderstood | PairingError::Version(_) | PairingError::Recipe) => {
            connection.nonsense(error)
        }
    };
    let reply = connection.command(&format!("SITE {SITE} INVITE {}", endpoint.user))?;
    if !reply.is_done() {
        return Err(connection.trouble(&reply));
    }
    let invitation: Invitation = (reply.text.parse()).map_err(|e| trouble(connection, e))?;
    let secret = (invitation.recipe.hash(&endpoint.secret)).map_err(|e| trouble(connection, e))?;
    let (waiting, answer) =
        (invitation.answer(terms, &secret, device_name)).map_err(|e| trouble(connection, e))?;
    let reply = connection.command(&format!("SITE {SITE} PAIR {answer} {device_name}"))?;
    if reply.code == NOT_PROVEN {
        return Err(not_proven());
    }
    if !reply.is_done() {
        return Err(connection.trouble(&reply));
    }
    // Its text isn't shown in any case: it holds a token.
    let accepted: Accepted = reply.text.parse().map_err(|e| trouble(connection, e))?;
    waiting
        .check(&accepted)
        .map_err(|e| trouble(connection, e))?;
    Ok(accepted)
}

/// Gives the device's login back; `endpoint` is the device's own.
///
/// # Errors
/// Where the appliance can't be reached or refuses. [`RemoteError::LoginRefused`] means that the
/// login was gone already.
pub fn unpair(endpoint: &Endpoint) -> Result<(), RemoteError> {
    let mut connection = Connection::open(endpoint)?;
    let reply = connection.command(&format!("SITE {SITE} UNPAIR"))?;
    if reply.is_done() {
        Ok(())
    } else {
        Err(connection.trouble(&reply))
    }
}

/// Finds out what answers at an address, with a login there.
///
/// # Errors
/// Where nothing does, the login is refused, or it is an appliance of another version.
pub fn probe(endpoint: &Endpoint) -> Result<Kind, RemoteError> {
    let mut connection = Connection::open_foreign(endpoint)?;
    if is_appliance(&mut connection)? {
        return Ok(Kind::Appliance);
    }
    let features = Features::ask(&mut connection)?;
    Ok(Kind::Foreign { features })
}

/// Whether it is an appliance, of our version; asked with a command that every other server
/// refuses.
fn is_appliance(connection: &mut Connection) -> Result<bool, RemoteError> {
    let reply = connection.command(&format!("SITE {SITE} VERSION"))?;
    let version = (reply.text.strip_prefix("raspbox ")).and_then(|v| v.trim().parse().ok());
    match version {
        Some(version) if reply.is_done() => same_version(connection, version).map(|()| true),
        _ => Ok(false),
    }
}

/// The info of an appliance over a login that isn't kept, to show before pairing.
///
/// # Errors
/// As for [`Remote::info`].
pub fn info(endpoint: &Endpoint) -> Result<Info, RemoteError> {
    appliance::info(&mut Connection::open(endpoint)?)
}
