//! How a computer is paired by the password of a user, so that neither side has to believe the other.
//!
//! A password-authenticated key exchange (SPAKE2) on a TLS connection whose certificate nobody has
//! vouched for yet. What both sides put in is the password's argon2id hash, which is what the
//! appliance keeps; what they get out is the same key only where user, certificate and protocol version
//! are the same for both as well. So whoever is in between, with a certificate of his own, ends up with
//! two keys that nobody shares; what he has seen tells nothing of the password. He can try one
//! guess for each time that somebody types it, as whoever calls the appliance can, which counts those.
//!
//! ```text
//! device     USER pair:, PASS of anything             a login that may do nothing but this
//! device     SITE RBX INVITE <user>
//! appliance  200 <Invitation>                         how to hash the password; its element
//! device     SITE RBX PAIR <Acceptance> <name>        its element, and the proof that it has the key
//! appliance  200 <Accepted>                           the device's own login, and its own proof
//! ```
//!
//! The device proves first, and the appliance says nothing to one that can't. The device keeps
//! nothing of an answer without its proof, and pins the certificate then.
//!
//! Whoever has stolen the hashes from the appliance can pair with them as if he had the passwords (an
//! augmented exchange would want more than an argon2id hash to be kept). He was root there.

use crate::PROTOCOL_VERSION;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use spake2::{Ed25519Group, Identity, Password, Spake2};
use std::fmt;
use std::str::FromStr;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The user as whom a device logs in to be paired, with any password. It may do nothing else.
pub const LOGIN: &str = "pair:";

/// The reply code to an answer without the right proof; RFC 959's "not logged in".
pub const NOT_PROVEN: u32 = 530;

/// How long a password's hash is: argon2's usual 32 bytes.
pub const HASH_BYTES: usize = 32;

/// The most memory that a hash may take. The appliance has at most two at work, within 192 MiB; and
/// whoever claims to be one can't make a computer swap. (RFC 9106's second choice takes as much.)
pub const MEMORY_MAX_KIB: u32 = 64 << 10;

/// The most passes over that memory. With [`MEMORY_MAX_KIB`] they take a computer some seconds.
pub const PASSES_MAX: u32 = 10;

/// The most lanes.
pub const LANES_MAX: u32 = 8;

/// How long a salt may be, in bytes (a PHC string's limit is 48).
pub const SALT_BYTES: std::ops::RangeInclusive<usize> = 8..=48;

/// A message of SPAKE2: which side it is from, and a point.
const ELEMENT_BYTES: usize = 33;

/// What a password was hashed with: argon2id, version 0x13, to [`HASH_BYTES`].
///
/// There is no lower limit but argon2's: a weak hash makes guessing easier for whoever has stolen
/// it, and for nobody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
}

/// A password's hash: what both sides of the exchange know. Wiped when it goes.
pub type Secret = Zeroizing<[u8; HASH_BYTES]>;

/// What the appliance sends first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// How to hash the password.
    pub recipe: Recipe,
    element: [u8; ELEMENT_BYTES],
}

/// What the device answers; its name follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    element: [u8; ELEMENT_BYTES],
    proof: Proof,
}

/// What the appliance answers to the right proof.
#[derive(Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The device's id there.
    pub device_id: String,
    /// The device's own password.
    pub token: String,
    proof: Proof,
}

/// That its sender has the key, and what it says with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Proof([u8; 32]);

/// What both sides must see alike.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Whose password it is.
    pub user: &'a str,
    /// The SHA-256 of the certificate of this connection: the one shown, and the one seen.
    pub fingerprint: &'a [u8; 32],
}

/// The appliance, between its invitation and the answer. It takes one answer.
pub struct Inviting(Spake2<Ed25519Group>);

/// The appliance, after the right answer.
pub struct Convinced(Key);

/// The device, between its answer and what comes of it.
pub struct Waiting(Key);

/// Why a pairing's message can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairingError {
    /// It isn't one.
    #[error("its answer to pairing isn't understood")]
    NotUnderstood,
    /// The other side speaks another version.
    #[error("it speaks version {0} of the protocol, and this program version {PROTOCOL_VERSION}")]
    Version(u32),
    /// A hash that would take too much of this machine, or none.
    #[error("it wants the password hashed in a way that no appliance does")]
    Recipe,
    /// The other side hasn't proved that it knows the password.
    #[error("it doesn't know the password")]
    NotProven,
}

impl Recipe {
    /// Takes what argon2id was given, where it is within the limits.
    ///
    /// # Errors
    /// [`PairingError::Recipe`].
    pub fn new(
        (memory_kib, passes, lanes): (u32, u32, u32),
        salt: &[u8],
    ) -> Result<Recipe, PairingError> {
        let recipe = Recipe {
            memory_kib,
            passes,
            lanes,
            salt: salt.to_vec(),
        };
        let good = memory_kib <= MEMORY_MAX_KIB
            && passes <= PASSES_MAX
            && lanes <= LANES_MAX
            && SALT_BYTES.contains(&salt.len());
        match recipe.params() {
            Ok(_) if good => Ok(recipe),
            Ok(_) | Err(_) => Err(PairingError::Recipe),
        }
    }

    /// Hashes a password. Takes its time, on purpose.
    ///
    /// # Errors
    /// [`PairingError::Recipe`], where there isn't memory enough.
    pub fn hash(&self, password: &str) -> Result<Secret, PairingError> {
        let params = self.params().map_err(|_| PairingError::Recipe)?;
        let mut memory = Zeroizing::new(vec![Block::default(); params.block_count()]);
        let mut secret = Secret::default();
        let hashed = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into_with_memory(
                password.as_bytes(),
                &self.salt,
                secret.as_mut(),
                memory.as_mut_slice(),
            );
        hashed.map_err(|_| PairingError::Recipe)?;
        Ok(secret)
    }

    fn params(&self) -> argon2::Result<Params> {
        Params::new(self.memory_kib, self.passes, self.lanes, Some(HASH_BYTES))
    }
}

impl Inviting {
    /// Begins an exchange.
    #[must_use]
    pub fn begin(terms: Terms<'_>, recipe: Recipe, secret: &Secret) -> (Inviting, Invitation) {
        let (device, appliance) = identities(terms, &recipe);
        let password = Password::new(secret.as_slice());
        let (state, element) = Spake2::start_b(&password, &device, &appliance);
        let element = element.try_into().expect("a side and a point");
        (Inviting(state), Invitation { recipe, element })
    }

    /// Checks a device's answer, which says this name with it.
    ///
    /// # Errors
    /// [`PairingError::NotProven`], where it hasn't got the key.
    pub fn check(self, answer: &Acceptance, name: &str) -> Result<Convinced, PairingError> {
        let key = Key::of(self.0, &answer.element)?;
        if answer.proof.is(&key.device(name)) {
            Ok(Convinced(key))
        } else {
            Err(PairingError::NotProven)
        }
    }
}

impl Convinced {
    /// Gives the device its login, with our own proof.
    #[must_use]
    pub fn accept(self, device_id: String, token: String) -> Accepted {
        let proof = self.0.appliance(&device_id, &token);
        Accepted {
            device_id,
            token,
            proof,
        }
    }
}

impl Invitation {
    /// Answers as the device of this name, with the password's hash by [`Invitation::recipe`].
    ///
    /// # Errors
    /// [`PairingError::NotUnderstood`], where its element is none.
    pub fn answer(
        &self,
        terms: Terms<'_>,
        secret: &Secret,
        name: &str,
    ) -> Result<(Waiting, Acceptance), PairingError> {
        let (device, appliance) = identities(terms, &self.recipe);
        let password = Password::new(secret.as_slice());
        let (state, element) = Spake2::start_a(&password, &device, &appliance);
        let key = Key::of(state, &self.element).map_err(|_| PairingError::NotUnderstood)?;
        let answer = Acceptance {
            element: element.try_into().expect("a side and a point"),
            proof: key.device(name),
        };
        Ok((Waiting(key), answer))
    }
}

impl Waiting {
    /// Checks that the login which came is from whoever has the key.
    ///
    /// # Errors
    /// [`PairingError::NotProven`], where it isn't.
    pub fn check(self, accepted: &Accepted) -> Result<(), PairingError> {
        let proof = self.0.appliance(&accepted.device_id, &accepted.token);
        if accepted.proof.is(&proof) {
            Ok(())
        } else {
            Err(PairingError::NotProven)
        }
    }
}

/// The names of both sides, which go into the key with all that both must see alike. SPAKE2 hashes each
/// by itself; in the second one all but the recipe's salt has a fixed form, and that is last.
fn identities(terms: Terms<'_>, recipe: &Recipe) -> (Identity, Identity) {
    let device = format!("raspbox {PROTOCOL_VERSION} device for {}", terms.user);
    let appliance = format!(
        "raspbox {PROTOCOL_VERSION} appliance {} {recipe}",
        Hex(terms.fingerprint)
    );
    (
        Identity::new(device.as_bytes()),
        Identity::new(appliance.as_bytes()),
    )
}

/// What both sides have in the end, where all was right.
struct Key(Zeroizing<Vec<u8>>);

impl Key {
    fn of(state: Spake2<Ed25519Group>, element: &[u8]) -> Result<Key, PairingError> {
        // An element of the other side, and a point of the curve, or an error.
        let key = state.finish(element).map_err(|_| PairingError::NotProven)?;
        Ok(Key(Zeroizing::new(key)))
    }

    fn device(&self, name: &str) -> Proof {
        self.proof("raspbox pairing 2026-11: proof of the device", name)
    }

    fn appliance(&self, device_id: &str, token: &str) -> Proof {
        let said = Zeroizing::new(format!("{device_id} {token}"));
        self.proof("raspbox pairing 2026-11: proof of the appliance", &said)
    }

    /// Each side has a key of its own, so that nobody can send back what he was sent.
    fn proof(&self, side: &str, said: &str) -> Proof {
        let key = Zeroizing::new(blake3::derive_key(side, &self.0));
        Proof(*blake3::keyed_hash(&key, said.as_bytes()).as_bytes())
    }
}

impl Proof {
    fn is(&self, other: &Proof) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for Recipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (memory, passes, lanes) = (self.memory_kib, self.passes, self.lanes);
        write!(f, "m={memory},t={passes},p={lanes} {}", Hex(&self.salt))
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{PROTOCOL_VERSION} {} {}",
            self.recipe,
            Hex(&self.element)
        )
    }
}

impl FromStr for Invitation {
    type Err = PairingError;

    fn from_str(text: &str) -> Result<Invitation, PairingError> {
        let (version, rest) = text.split_once(' ').ok_or(PairingError::NotUnderstood)?;
        let version = version.parse().map_err(|_| PairingError::NotUnderstood)?;
        if version != PROTOCOL_VERSION {
            return Err(PairingError::Version(version));
        }
        let words: Vec<&str> = rest.split(' ').collect();
        let [cost, salt, element] = words[..] else {
            return Err(PairingError::NotUnderstood);
        };
        let cost = parse_cost(cost).ok_or(PairingError::NotUnderstood)?;
        let salt = parse_hex_of_any_length(salt).ok_or(PairingError::NotUnderstood)?;
        Ok(Invitation {
            recipe: Recipe::new(cost, &salt)?,
            element: crate::digest::parse_hex(element).ok_or(PairingError::NotUnderstood)?,
        })
    }
}

fn parse_cost(text: &str) -> Option<(u32, u32, u32)> {
    let (memory, rest) = text.strip_prefix("m=")?.split_once(",t=")?;
    let (passes, lanes) = rest.split_once(",p=")?;
    Some((
        memory.parse().ok()?,
        passes.parse().ok()?,
        lanes.parse().ok()?,
    ))
}

fn parse_hex_of_any_length(text: &str) -> Option<Vec<u8>> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let byte = |pair: &[u8; 2]| {
        let [byte] = crate::digest::parse_hex(std::str::from_utf8(pair).ok()?)?;
        Some(byte)
    };
    pairs.iter().map(byte).collect()
}

impl fmt::Display for Acceptance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", Hex(&self.element), Hex(&self.proof.0))
    }
}

impl FromStr for Acceptance {
    type Err = PairingError;

    fn from_str(text: &str) -> Result<Acceptance, PairingError> {
        let (element, proof) = text.split_once(' ').ok_or(PairingError::NotUnderstood)?;
        let parse = || {
            Some(Acceptance {
                element: crate::digest::parse_hex(element)?,
                proof: Proof(crate::digest::parse_hex(proof)?),
            })
        };
        parse().ok_or(PairingError::NotUnderstood)
    }
}

impl Acceptance {
    /// Takes an acceptance and the name that follows it apart.
    ///
    /// # Errors
    /// [`PairingError::NotUnderstood`], also where there is no name.
    pub fn parse_with_name(text: &str) -> Result<(Acceptance, &str), PairingError> {
        let second = text.match_indices(' ').nth(1);
        let (at, _) = second.ok_or(PairingError::NotUnderstood)?;
        let name = text[at..].trim();
        if name.is_empty() {
            return Err(PairingError::NotUnderstood);
        }
        Ok((text[..at].parse()?, name))
    }
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {}",
            self.device_id,
            self.token,
            Hex(&self.proof.0)
        )
    }
}

impl FromStr for Accepted {
    type Err = PairingError;

    fn from_str(text: &str) -> Result<Accepted, PairingError> {
        let words: Vec<&str> = text.split(' ').collect();
        let [device_id, token, proof] = words[..] else {
            return Err(PairingError::NotUnderstood);
        };
        let is_hex = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit());
        let proof = crate::digest::parse_hex(proof);
        match proof {
            Some(proof) if is_hex(device_id) && is_hex(token) => Ok(Accepted {
                device_id: device_id.into(),
                token: token.into(),
                proof: Proof(proof),
            }),
            Some(_) | None => Err(PairingError::NotUnderstood),
        }
    }
}

impl fmt::Debug for Accepted {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accepted({})", self.device_id)
    }
}

impl fmt::Debug for Inviting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inviting")
    }
}

/// Bytes as hex digits.
struct Hex<'a>(&'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        crate::digest::write_hex(f, self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::{
        Acceptance, Accepted, Invitation, Inviting, LANES_MAX, MEMORY_MAX_KIB, PASSES_MAX,
        PairingError, Recipe, SALT_BYTES, Secret, Terms,
    };

    const APPLIANCES: [u8; 32] = [7; 32];
    const NAME: &str = "Ann's laptop";

    fn recipe() -> Recipe {
        Recipe::new((64, 1, 1), b"saltsalt").expect("within the limits")
    }

    fn terms<'a>(user: &'a str, fingerprint: &'a [u8; 32]) -> Terms<'a> {
        Terms { user, fingerprint }
    }

    /// The appliance's half, for ann, whose password is "correct".
    fn invite() -> (Inviting, Invitation) {
        let secret = recipe().hash("correct").expect("memory");
        Inviting::begin(terms("ann", &APPLIANCES), recipe(), &secret)
    }

    #[test]
    fn what_was_accepted_is_two_words_in_hex_and_a_proof() {
        let proof = "0".repeat(64);
        let accepted: Accepted = format!("abc 123 {proof}").parse().expect("understood");
        for text in [
            format!("xyz 123 {proof}"),
            format!("abc secret {proof}"),
            "abc 123 short".into(),
            format!("abc 123 {proof} more"),
        ] {
            assert!(text.parse::<Accepted>().is_err(), "{text}");
        }
        assert_eq!(
            format!("{accepted:?}"),
            "Accepted(abc)",
            "without the token"
        );
    }

    /// What comes of a whole exchange, all that is said taken for text and back.
    fn exchange(seen: Terms<'_>, password: &str) -> Result<(), PairingError> {
        let (appliance, invitation) = invite();
        let invitation: Invitation = invitation.to_string().parse()?;
        let secret = invitation.recipe.hash(password)?;
        let (device, answer) = invitation.answer(seen, &secret, NAME)?;
        let line = format!("{answer} {NAME}");
        let (answer, name) = Acceptance::parse_with_name(&line)?;
        let accepted = appliance
            .check(&answer, name)?
            .accept("0123abcd".into(), "ff".repeat(32));
        let accepted: Accepted = accepted.to_string().parse()?;
        assert_eq!(accepted.token, "ff".repeat(32));
        device.check(&accepted)
    }

    #[test]
    fn the_same_password_user_and_certificate_pair_and_no_other() {
        assert_eq!(exchange(terms("ann", &APPLIANCES), "correct"), Ok(()));
        let not = Err(PairingError::NotProven);
        assert_eq!(exchange(terms("ann", &APPLIANCES), "Correct"), not);
        assert_eq!(exchange(terms("ann", &APPLIANCES), ""), not);
        assert_eq!(exchange(terms("bob", &APPLIANCES), "correct"), not);
        assert_eq!(exchange(terms("ann", &[8; 32]), "correct"), not);
    }

    #[test]
    fn another_recipe_is_another_key() {
        let (appliance, invitation) = invite();
        let secret = invitation.recipe.hash("correct").expect("memory");
        let changed = Invitation {
            recipe: Recipe::new((64, 1, 1), b"saltsalu").expect("within the limits"),
            ..invitation
        };
        let (_, answer) = changed
            .answer(terms("ann", &APPLIANCES), &secret, NAME)
            .expect("an answer");
        assert!(appliance.check(&answer, NAME).is_err());
    }

    #[test]
    fn an_answer_is_good_for_one_name_and_one_exchange() {
        let (first, invitation) = invite();
        let secret = invitation.recipe.hash("correct").expect("memory");
        let (_, answer) = invitation
            .answer(terms("ann", &APPLIANCES), &secret, NAME)
            .expect("an answer");
        let (second, _) = invite();
        assert!(second.check(&answer, NAME).is_err(), "replayed");
        let (third, _) = invite();
        assert!(third.check(&answer, "another").is_err());
        assert!(first.check(&answer, NAME).is_ok());
    }

    #[test]
    fn the_appliance_has_to_prove_what_it_gives() {
        let check = |change: fn(&mut Accepted)| {
            let (appliance, invitation) = invite();
            let secret = invitation.recipe.hash("correct").expect("memory");
            let (device, answer) = invitation
                .answer(terms("ann", &APPLIANCES), &secret, NAME)
                .expect("an answer");
            let mut accepted = appliance
                .check(&answer, NAME)
                .expect("the right password")
                .accept("0123abcd".into(), "ff".repeat(32));
            change(&mut accepted);
            device.check(&accepted)
        };
        assert_eq!(check(|_| {}), Ok(()));
        let not = Err(PairingError::NotProven);
        assert_eq!(check(|accepted| accepted.token = "00".repeat(32)), not);
        assert_eq!(
            check(|accepted| accepted.device_id = "0123abce".into()),
            not
        );
        assert_eq!(check(|accepted| accepted.proof.0 = [0; 32]), not);
    }

    #[test]
    fn nobody_can_send_back_what_he_was_sent() {
        // The device's own element and proof, turned round as the appliance's.
        let (_, invitation) = invite();
        let secret = invitation.recipe.hash("correct").expect("memory");
        let ann = terms("ann", &APPLIANCES);
        let (device, answer) = invitation.answer(ann, &secret, NAME).expect("an answer");
        let echoed = Accepted {
            device_id: "0123abcd".into(),
            token: "ff".repeat(32),
            proof: answer.proof,
        };
        assert_eq!(device.check(&echoed), Err(PairingError::NotProven));
        let reflected = Invitation {
            element: answer.element,
            ..invitation
        };
        assert!(reflected.answer(ann, &secret, NAME).is_err());
    }

    #[test]
    fn a_recipe_has_limits() {
        let salt = [1; 16];
        assert!(Recipe::new((MEMORY_MAX_KIB, PASSES_MAX, LANES_MAX), &salt).is_ok());
        for cost in [
            (MEMORY_MAX_KIB + 1, 1, 1),
            (64, PASSES_MAX + 1, 1),
            (4096, 1, LANES_MAX + 1),
            (7, 1, 1),
            (64, 0, 1),
            (64, 1, 0),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            assert_eq!(
                Recipe::new(cost, &salt),
                Err(PairingError::Recipe),
                "{cost:?}"
            );
        }
        for len in [0, SALT_BYTES.start() - 1, SALT_BYTES.end() + 1] {
            assert!(Recipe::new((64, 1, 1), &vec![1; len]).is_err(), "{len}");
        }
        let whole = invite().1.to_string();
        let greedy = whole.replace("m=64", "m=4194304");
        assert_eq!(greedy.parse::<Invitation>(), Err(PairingError::Recipe));
    }

    #[test]
    fn messages_have_one_form() {
        let (_, invitation) = invite();
        let text = invitation.to_string();
        assert!(
            text.starts_with("1 m=64,t=1,p=1 73616c7473616c74 42"),
            "{text}"
        );
        assert_eq!(text.parse(), Ok(invitation));
        let next = format!("2{}", &text[1..]);
        assert_eq!(next.parse::<Invitation>(), Err(PairingError::Version(2)));
        for bad in [
            "",
            "1",
            "x m=64,t=1,p=1 73616c7473616c74 42",
            &text[..text.len() - 1],
            &format!("{text} "),
            &text.replace("m=64", "n=64"),
            &text.replace("t=1", "t=-1"),
            &text.replace(" 73", "  73"),
            &text.replace(" 73", " 7"),
            &text.replace(" 73", " é"),
        ] {
            assert!(bad.parse::<Invitation>().is_err(), "{bad}");
        }
        for bad in ["", "00", "00 00", "00 00 name"] {
            assert!(Acceptance::parse_with_name(bad).is_err(), "{bad}");
        }
        for bad in ["", "a b", "a b c d"] {
            assert!(bad.parse::<Accepted>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_element_that_is_no_point_is_refused() {
        let (appliance, invitation) = invite();
        let secret = Secret::default();
        // No point of the curve has the y-coordinate 2.
        let mut element = [0; 33];
        (element[0], element[1]) = (b'B', 2);
        let wrong = Invitation {
            element,
            ..invitation
        };
        let ann = terms("ann", &APPLIANCES);
        assert!(wrong.answer(ann, &secret, NAME).is_err());
        let answer: Acceptance = format!("4102{} {}", "00".repeat(31), "00".repeat(32))
            .parse()
            .expect("well formed");
        assert!(appliance.check(&answer, NAME).is_err());
    }
}
