//! Paired devices: the file `devices.toml`.
//!
//! A device logs in as `device:<id>` with a token that only it knows. The token is 256 random bits,
//! so a fast hash keeps it as safe as a slow one would, and is compared in constant time.

use crate::permissions::Permissions;
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use subtle::ConstantTimeEq;

/// The file's name in the state directory.
pub(crate) const DEVICES_FILE: &str = "devices.toml";

/// What a device's login name begins with.
pub(crate) const LOGIN_PREFIX: &str = "device:";

/// How many devices there may be.
pub(crate) const DEVICES_MAX: usize = 256;

/// The longest name, in characters.
pub(crate) const DEVICE_NAME_MAX_CHARS: usize = 64;

/// One device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Device {
    /// 8 hex digits.
    pub(crate) id: String,
    /// For people, unique.
    pub(crate) name: String,
    /// Who paired it.
    pub(crate) user: String,
    /// What it may do: what that user might when it was paired.
    pub(crate) permissions: Permissions,
    /// The BLAKE3 hash of its token, 64 hex digits.
    pub(crate) token_hash: String,
    /// When it was paired, in seconds since 1970 (by the appliance's clock, which may be wrong).
    pub(crate) created: u64,
}

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Devices {
    /// In the order in which they were paired.
    #[serde(default)]
    pub(crate) device: Vec<Device>,
}

/// Why a device can't be paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PairError {
    /// A name that can't be shown.
    #[error(
        "a device's name is 1 to {DEVICE_NAME_MAX_CHARS} characters without control characters"
    )]
    Name,
    /// [`DEVICES_MAX`] are paired.
    #[error("{DEVICES_MAX} devices are paired; revoke one with 'raspboxd device revoke'")]
    Full,
}

impl Devices {
    /// Adds a device, and returns it with its token, which is kept nowhere.
    pub(crate) fn pair(
        &mut self,
        name: &str,
        user: &str,
        permissions: Permissions,
    ) -> Result<(Device, String), PairError> {
        let name = name.trim();
        let length = name.chars().count();
        if length == 0 || length > DEVICE_NAME_MAX_CHARS || name.chars().any(char::is_control) {
            return Err(PairError::Name);
        }
        if self.device.len() >= DEVICES_MAX {
            return Err(PairError::Full);
        }
        let token = random_hex::<32>();
        let device = Device {
            id: self.free_id(),
            name: self.free_name(name),
            user: user.into(),
            permissions,
            token_hash: token_hash(&token),
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        self.device.push(device.clone());
        Ok((device, token))
    }

    /// Removes a device by its id, or by its name where no id is meant.
    pub(crate) fn revoke(&mut self, name_or_id: &str) -> Option<Device> {
        let at = (self
            .device
            .iter()
            .position(|device| device.id == name_or_id))
        .or_else(|| {
            self.device
                .iter()
                .position(|device| device.name == name_or_id)
        })?;
        Some(self.device.remove(at))
    }

    /// The device of this id.
    pub(crate) fn get(&self, id: &str) -> Option<&Device> {
        self.device.iter().find(|device| device.id == id)
    }

    /// The device that has this id and token.
    pub(crate) fn verify(&self, id: &str, token: &str) -> Option<&Device> {
        let device = self.get(id);
        // An unknown device is compared as well, with what no token hashes to.
        let stored = device.map_or("", |device| device.token_hash.as_str());
        let padded = format!("{stored:0>64}");
        let same = bool::from(padded.as_bytes().ct_eq(token_hash(token).as_bytes()));
        device.filter(|_| same)
    }

    fn free_id(&self) -> String {
        loop {
            let id = random_hex::<4>();
            if self.get(&id).is_none() {
                return id;
            }
        }
    }

    fn free_name(&self, name: &str) -> String {
        let taken = |name: &str| self.device.iter().any(|device| device.name == name);
        let numbered = (2..).map(|n| format!("{name} {n}"));
        std::iter::once(name.to_owned())
            .chain(numbered)
            .find(|name| !taken(name))
            .expect("there are fewer devices than numbers")
    }
}

fn token_hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

fn random_hex<const N: usize>() -> String {
    let mut random = [0; N];
    getrandom::fill(&mut random).expect("the kernel gives random bytes");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::{DEVICE_NAME_MAX_CHARS, DEVICES_MAX, Devices, PairError};
    use crate::permissions::Permissions;

    fn pair(devices: &mut Devices, name: &str) -> Result<(String, String), PairError> {
        let (device, token) = devices.pair(name, "ann", Permissions::ALL)?;
        Ok((device.id, token))
    }

    #[test]
    fn a_device_has_its_token_and_no_other() {
        let mut devices = Devices::default();
        let (a, token_a) = pair(&mut devices, "laptop").unwrap();
        let (b, token_b) = pair(&mut devices, "desktop").unwrap();
        assert_eq!((a.len(), token_a.len()), (8, 64));
        assert!(devices.verify(&a, &token_a).is_some());
        assert!(devices.verify(&b, &token_b).is_some());
        assert!(devices.verify(&a, &token_b).is_none());
        assert!(devices.verify(&a, "").is_none());
        assert!(devices.verify("00000000", &token_a).is_none());
        let text = toml::to_string(&devices).unwrap();
        assert!(!text.contains(&token_a), "the token is kept nowhere");
        assert_eq!(toml::from_str::<Devices>(&text).unwrap(), devices);
    }

    #[test]
    fn names_are_unique_and_can_be_shown() {
        let mut devices = Devices::default();
        for expect in ["laptop", "laptop 2", "laptop 3"] {
            pair(&mut devices, "laptop").unwrap();
            assert_eq!(devices.device.last().unwrap().name, expect);
        }
        let long = "é".repeat(DEVICE_NAME_MAX_CHARS);
        assert!(pair(&mut devices, &long).is_ok());
        assert_eq!(
            pair(&mut devices, &format!("{long}x")),
            Err(PairError::Name)
        );
        assert_eq!(pair(&mut devices, " "), Err(PairError::Name));
        assert_eq!(pair(&mut devices, "a\u{1b}[2J"), Err(PairError::Name));
    }

    #[test]
    fn a_revoked_device_is_gone() {
        let mut devices = Devices::default();
        let (a, token) = pair(&mut devices, "laptop").unwrap();
        let (b, _) = pair(&mut devices, "desktop").unwrap();
        assert_eq!(devices.revoke("laptop").unwrap().id, a);
        assert!(devices.verify(&a, &token).is_none());
        assert!(devices.revoke("laptop").is_none());
        assert_eq!(devices.revoke(&b).unwrap().name, "desktop");
    }

    #[test]
    fn there_is_a_limit() {
        let mut devices = Devices::default();
        for _ in 0..DEVICES_MAX {
            pair(&mut devices, "x").unwrap();
        }
        assert_eq!(pair(&mut devices, "x"), Err(PairError::Full));
    }
}
