//! Pairing, as the appliance sees it; the exchange itself is [`raspbox_protocol::pairing`].
//!
//! It has to go before a login, and libunftp gives a session nothing but fixed texts before that. So
//! whoever wants to pair logs in as [`LOGIN`], which costs no password and gives no right: such a
//! session has no account ([`Session::account`]), so deadline and byte budget of strangers go on, it
//! gets no data connection, and all it is answered to are the two commands below. A guess is an answer
//! to an invitation, and a session has one.

use crate::accounts::Who;
use crate::backend::Backend;
use crate::reply::Trouble;
use crate::session::Session;
use crate::users::User;
use raspbox_protocol::pairing::{Acceptance, Accepted, Invitation, Inviting, LOGIN, Terms};
use std::fmt;
use std::time::Instant;
use unftp_core::auth::{ChannelEncryptionState, Credentials};

/// How far a session has come with it; only forwards.
#[derive(Debug, Default)]
pub(crate) enum Pairing {
    /// It has not logged in for that.
    #[default]
    Not,
    /// It may ask for an invitation.
    Begun,
    /// It may answer.
    Invited(Box<Attempt>),
    /// It may do no more.
    Over,
}

/// An invitation that was not answered yet.
pub(crate) struct Attempt {
    inviting: Inviting,
    /// `None` where there is no such user: then no answer is right.
    user: Option<User>,
}

impl fmt::Debug for Attempt {
    /// Without the hash of a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Attempt")
    }
}

/// Whether this login is the one for pairing; `None` where it is another one.
///
/// Only over TLS, whose certificate is what pairing is about, and in a session that is nobody's yet.
pub(crate) fn log_in(session: &Session, name: &str, credentials: &Credentials) -> Option<bool> {
    (name == LOGIN).then(|| {
        let encrypted = matches!(
            credentials.command_channel_security,
            ChannelEncryptionState::Tls
        );
        encrypted && session.begin_pairing()
    })
}

/// `SITE RBX INVITE <user>`.
pub(crate) fn invite(backend: &Backend, user: &str) -> Result<Invitation, Trouble> {
    let (shared, session) = (&backend.shared, &backend.session);
    let Pairing::Begun = session.next_of_pairing() else {
        return Err(out_of_turn());
    };
    let found = shared.accounts.user(user);
    let (recipe, secret) = User::known(found.as_ref(), user, &shared.identity.stranger_salts);
    let (inviting, invitation) = Inviting::begin(terms(backend, user), recipe, &secret);
    session.invited(Attempt {
        inviting,
        user: found,
    });
    Ok(invitation)
}

/// `SITE RBX PAIR <acceptance> <name>`; `None` where that isn't from who knows the password.
pub(crate) async fn accept(
    backend: &Backend,
    answer: &Acceptance,
    name: &str,
) -> Result<Option<Accepted>, Trouble> {
    let (shared, session) = (&backend.shared, &backend.session);
    let Pairing::Invited(attempt) = session.next_of_pairing() else {
        return Err(out_of_turn());
    };
    let (began, ip) = (Instant::now(), session.peer.ip());
    let Attempt { inviting, user } = *attempt;
    let may = shared.accounts.may_guess(ip);
    let right = may.then(|| inviting.check(answer, name).ok()).flatten();
    // Its password may be another one by now, or it may be gone.
    let user = user.filter(|user| shared.accounts.user(&user.name).as_ref() == Some(user));
    let (Some(convinced), Some(user)) = (right, user) else {
        if may {
            shared.accounts.guessed_wrong(ip);
        }
        shared
            .accounts
            .refuse(session, began, "pairing failed")
            .await;
        session.drain();
        return Ok(None);
    };
    let paired = shared.accounts.pair(name, &user.name, user.permissions);
    let (device, token) = paired
        .map_err(|error| {
            tracing::error!(error = format!("{error:#}"), "cannot pair");
            Trouble::local("cannot write the list of devices")
        })?
        .map_err(|error| Trouble::bad_request(error.to_string()))?;
    tracing::info!(
        session = session.id,
        device = device.id,
        name = device.name,
        user = user.name,
        "paired"
    );
    Ok(Some(convinced.accept(device.id, token)))
}

fn terms<'a>(backend: &'a Backend, user: &'a str) -> Terms<'a> {
    Terms {
        user,
        fingerprint: &backend.shared.identity.fingerprint,
    }
}

fn out_of_turn() -> Trouble {
    Trouble::bad_request(format!(
        "connect, log in as {LOGIN}, INVITE once, PAIR once"
    ))
}

impl Who {
    /// Whether it is somebody who may do nothing but pair.
    pub(crate) fn is_stranger(&self) -> bool {
        matches!(self, Who::Stranger)
    }
}
