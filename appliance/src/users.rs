//! People who log in with a password: the file `users.toml`, and the same tables in the config.

use crate::permissions::Permissions;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use raspbox_protocol::pairing::{LANES_MAX, LOGIN, MEMORY_MAX_KIB, PASSES_MAX, Recipe, Secret};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The file's name in the state directory.
pub(crate) const USERS_FILE: &str = "users.toml";

/// The user that is made where there is none at all.
pub(crate) const FIRST_USER: &str = "raspbox";

/// The longest name, in bytes.
const USER_NAME_MAX_BYTES: usize = 64;

/// Memory in KiB, passes and lanes: OWASP's second recommendation for argon2id (Password Storage
/// Cheat Sheet), about a second on a Pi 3.
const COST: (u32, u32, u32) = (19 << 10, 2, 1);

/// How long our salts are, in bytes: argon2's recommendation, and the library's choice.
const SALT_BYTES: usize = 16;

/// A hash that no password has, of the same cost: what an unknown user's password is compared with.
const NOBODY: &str = concat!(
    "$argon2id$v=19$m=19456,t=2,p=1$AAAAAAAAAAAAAAAAAAAAAA",
    "$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
);

/// One user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    /// The name to log in with.
    pub(crate) name: String,
    /// A PHC string, `$argon2id$…`.
    pub(crate) password_hash: String,
    /// What the user may do; everything where it isn't said.
    #[serde(default = "all")]
    pub(crate) permissions: Permissions,
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Users {
    /// In the order in which they were made.
    #[serde(default)]
    pub(crate) user: Vec<User>,
}

fn all() -> Permissions {
    Permissions::ALL
}

impl User {
    /// A user with this password.
    pub(crate) fn new(
        name: &str,
        password: &str,
        permissions: Permissions,
    ) -> anyhow::Result<User> {
        let user = User {
            name: name.into(),
            password_hash: hash(password)?,
            permissions,
        };
        user.check().map_err(anyhow::Error::msg)?;
        Ok(user)
    }

    /// Whether the name and the hash can be used; says what to do where not.
    pub(crate) fn check(&self) -> Result<(), String> {
        let name = &self.name;
        let good = !name.is_empty()
            && name.len() <= USER_NAME_MAX_BYTES
            && !name.chars().any(char::is_control)
            && !name.starts_with(crate::devices::LOGIN_PREFIX)
            && name != LOGIN;
        if !good {
            return Err(format!(
                "user name {name:?}: use 1 to {USER_NAME_MAX_BYTES} bytes without control \
                 characters, not beginning with \"{}\" and not \"{LOGIN}\"",
                crate::devices::LOGIN_PREFIX
            ));
        }
        match parse(&self.password_hash) {
            Some(_) => Ok(()),
            None => Err(format!(
                "user {name:?}: password_hash is no argon2id PHC string with a hash of 32 bytes and a \
                 cost of at most m={MEMORY_MAX_KIB},t={PASSES_MAX},p={LANES_MAX}; make one with \
                 'raspboxd user set {name} --password-stdin'"
            )),
        }
    }

    /// Whether this is the password. Slow on purpose; `None` takes as long as a wrong password.
    pub(crate) fn verify(user: Option<&User>, password: &str) -> bool {
        let stored = user.map_or(NOBODY, |user| &user.password_hash);
        let same = parse(stored).is_some_and(|(recipe, secret)| {
            (recipe.hash(password)).is_ok_and(|hash| hash.ct_eq(secret.as_slice()).into())
        });
        same && user.is_some()
    }

    /// What is known of this user's password, to pair with; for nobody something that looks the same
    /// each time that somebody asks, and that no password has.
    pub(crate) fn known(
        user: Option<&User>,
        name: &str,
        stranger_salts: &[u8; 32],
    ) -> (Recipe, Secret) {
        if let Some(known) = user.and_then(|user| parse(&user.password_hash)) {
            return known;
        }
        let made_up = blake3::keyed_hash(stranger_salts, name.as_bytes());
        let salt = &made_up.as_bytes()[..SALT_BYTES];
        let recipe = Recipe::new(COST, salt).expect("our own cost is within the limits");
        let mut secret = Secret::default();
        getrandom::fill(secret.as_mut()).expect("the kernel gives random bytes");
        (recipe, secret)
    }
}

/// How a stored hash was made, and what it is.
fn parse(phc: &str) -> Option<(Recipe, Secret)> {
    let phc = PasswordHash::new(phc).ok()?;
    let params = Params::try_from(&phc).ok()?;
    let plain = params.keyid().is_empty() && params.data().is_empty();
    if phc.algorithm != Algorithm::Argon2id.ident()
        || phc.version != Some(Version::V0x13.into())
        || !plain
    {
        return None;
    }
    let cost = (params.m_cost(), params.t_cost(), params.p_cost());
    let recipe = Recipe::new(cost, phc.salt?.as_ref()).ok()?;
    let mut secret = Secret::default();
    let hash = phc.hash?;
    if hash.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(hash.as_bytes());
    Some((recipe, secret))
}

fn hash(password: &str) -> anyhow::Result<String> {
    let (memory, passes, lanes) = COST;
    let params =
        Params::new(memory, passes, lanes, None).expect("the cost is within argon2's limits");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash: PasswordHash = argon2
        .hash_password(password.as_bytes())
        .map_err(|error| anyhow::anyhow!("cannot hash the password: {error}"))?;
    Ok(hash.to_string())
}

/// A random password that can be read out and typed: 80 bits, no letters that look alike.
pub(crate) fn readable_password() -> Zeroizing<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    let mut password = Zeroizing::new(String::new());
    for (i, byte) in random.into_iter().enumerate() {
        if i > 0 && i % 4 == 0 {
            password.push('-');
        }
        password.push(char::from(LETTERS[usize::from(byte % 32)]));
    }
    password
}

#[cfg(test)]
mod tests {
    use super::{NOBODY, User, hash, readable_password};
    use crate::permissions::Permissions;

    #[test]
    fn only_the_password_is_the_password() {
        let user = User::new("ann", "correct horse", Permissions::ALL).unwrap();
        assert!(User::verify(Some(&user), "correct horse"));
        assert!(!User::verify(Some(&user), "Correct horse"));
        assert!(!User::verify(Some(&user), ""));
        assert!(!User::verify(None, "correct horse"));
    }

    #[test]
    fn an_unknown_user_costs_as_much() {
        let cost = |phc: &str| phc.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(cost(NOBODY), cost(&hash("x").unwrap()));
        assert!(argon2::password_hash::phc::PasswordHash::new(NOBODY).is_ok());
    }

    #[test]
    fn names_and_hashes_are_checked() {
        let user = |name: &str, hash: &str| User {
            name: name.into(),
            password_hash: hash.into(),
            permissions: Permissions::ALL,
        };
        assert!(user("ann", NOBODY).check().is_ok());
        assert!(user("", NOBODY).check().is_err());
        assert!(user("a\nb", NOBODY).check().is_err());
        assert!(user("device:0123abcd", NOBODY).check().is_err());
        assert!(user("pair:", NOBODY).check().is_err());
        for (this, that) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("m=19456", "m=65537"),
            ("t=2", "t=11"),
            ("p=1", "p=9"),
            ("p=1", "p=1,data=AAAA"),
            ("AAAAA$", "AAAAA$AAAA"),
        ] {
            let hash = NOBODY.replacen(this, that, 1);
            assert!(user("ann", &hash).check().is_err(), "{hash}");
        }
        assert!(user("ann", "secret").check().is_err());
    }

    #[test]
    fn an_unknown_user_looks_like_any_to_who_wants_to_pair() {
        let salts = [7; 32];
        let user = User::new("ann", "correct horse", Permissions::ALL).unwrap();
        let (recipe, secret) = User::known(Some(&user), "ann", &salts);
        assert!(recipe.hash("correct horse").unwrap() == secret);
        let (unknown, first) = User::known(None, "bob", &salts);
        let (again, second) = User::known(None, "bob", &salts);
        assert_eq!(unknown, again);
        assert!(first != second, "no password is right");
        let (other, _) = User::known(None, "carl", &salts);
        assert_ne!(unknown, other);
        let shape = |recipe: &super::Recipe| {
            let text = recipe.to_string();
            let (cost, salt) = text.split_once(' ').unwrap();
            (cost.to_owned(), salt.len())
        };
        assert_eq!(shape(&recipe), shape(&unknown));
    }

    #[test]
    fn passwords_are_readable_and_differ() {
        let (a, b) = (readable_password(), readable_password());
        assert_eq!(a.len(), 19);
        assert_ne!(a, b);
    }
}
