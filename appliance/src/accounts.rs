//! Who may come in: users and devices, read again when another process changes them.

use crate::devices::{DEVICES_FILE, Device, Devices, LOGIN_PREFIX, PairError};
use crate::guesses::Guesses;
use crate::pairing;
use crate::permissions::{Permission, Permissions};
use crate::reply::Trouble;
use crate::session::{FAILED_LOGINS_MAX, Session};
use crate::state::{Stamp, StateDir};
use crate::users::{FIRST_USER, USERS_FILE, User, Users, readable_password};
use anyhow::Context;
use async_trait::async_trait;
use raspbox_store::By;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;
use unftp_core::auth::{
    AuthenticationError, Authenticator, Credentials, Principal, UserDetail, UserDetailError,
    UserDetailProvider,
};
use zeroize::Zeroizing;

/// Password hashes that are computed at the same time: 19 MiB each, and a Pi has few cores.
const HASHES_MAX: usize = 2;

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Which one.
    pub(crate) who: Who,
    /// The name in the journal: the user's, or the device's.
    pub(crate) by: By,
    /// What it may do.
    pub(crate) permissions: Permissions,
}

/// A user or a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Who {
    /// A person with a password; the name.
    User(String),
    /// A paired device; the id.
    Device(String),
    /// Whoever is only here to be paired ([`pairing`]).
    Stranger,
}

/// All accounts.
#[derive(Debug)]
pub(crate) struct Accounts {
    dir: StateDir,
    configured: Vec<User>,
    tables: Mutex<Tables>,
    hashing: Semaphore,
    guesses: Mutex<Guesses>,
}

#[derive(Debug)]
struct Tables {
    users: Users,
    devices: Devices,
    stamps: [Option<Stamp>; 2],
}

impl Account {
    /// What libunftp needs of whoever is here to be paired: somebody without any right.
    pub(crate) fn stranger() -> Account {
        Account {
            who: Who::Stranger,
            by: By("nobody".into()),
            permissions: Permissions::NONE,
        }
    }

    /// Refuses where the right is missing.
    pub(crate) fn need(&self, permission: Permission) -> Result<(), Trouble> {
        if self.permissions.has(permission) {
            Ok(())
        } else {
            Err(Trouble::denied())
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.by.0)
    }
}

impl UserDetail for Account {}

impl Accounts {
    /// Reads the accounts of a state directory; users of the config come before those in it.
    pub(crate) fn open(dir: StateDir, configured: Vec<User>) -> anyhow::Result<Accounts> {
        let tables = Tables {
            stamps: stamps(&dir),
            users: read(&dir, USERS_FILE)?,
            devices: read(&dir, DEVICES_FILE)?,
        };
        Ok(Accounts {
            dir,
            configured,
            tables: Mutex::new(tables),
            hashing: Semaphore::new(HASHES_MAX),
            guesses: Mutex::default(),
        })
    }

    /// Where there is no user at all, makes one and returns its name and password, which is told
    /// to nobody else.
    pub(crate) fn first_user(&self) -> anyhow::Result<Option<(&'static str, Zeroizing<String>)>> {
        if !self.configured.is_empty() || !self.tables().users.user.is_empty() {
            return Ok(None);
        }
        let password = readable_password();
        let user = User::new(FIRST_USER, &password, Permissions::ALL)?;
        self.change_users(|users| users.user.push(user))?;
        Ok(Some((FIRST_USER, password)))
    }

    /// Makes a user, or replaces the one of the same name.
    pub(crate) fn set_user(&self, user: User) -> anyhow::Result<()> {
        self.change_users(|users| {
            users.user.retain(|known| known.name != user.name);
            users.user.push(user);
        })
    }

    /// Removes a user; `false` where there is none of that name.
    pub(crate) fn remove_user(&self, name: &str) -> anyhow::Result<bool> {
        self.change_users(|users| {
            let before = users.user.len();
            users.user.retain(|user| user.name != name);
            users.user.len() < before
        })
    }

    /// All users.
    pub(crate) fn users(&self) -> Vec<User> {
        let mut users = self.configured.clone();
        users.extend(self.tables().users.user.clone());
        users
    }

    /// All devices.
    pub(crate) fn devices(&self) -> Vec<Device> {
        self.tables().devices.device.clone()
    }

    /// Pairs a device for a user, and returns it with its token.
    pub(crate) fn pair(
        &self,
        name: &str,
        user: &str,
        permissions: Permissions,
    ) -> anyhow::Result<Result<(Device, String), PairError>> {
        self.change_devices(|devices| devices.pair(name, user, permissions))
    }

    /// Removes a device.
    pub(crate) fn revoke(&self, name_or_id: &str) -> anyhow::Result<Option<Device>> {
        self.change_devices(|devices| devices.revoke(name_or_id))
    }

    /// Reads what another process changed; returns whether something did.
    pub(crate) fn refresh(&self) -> anyhow::Result<bool> {
        if self.tables().stamps == stamps(&self.dir) {
            return Ok(false);
        }
        let now = stamps(&self.dir);
        let (users, devices) = (read(&self.dir, USERS_FILE)?, read(&self.dir, DEVICES_FILE)?);
        let mut tables = self.tables();
        tables.stamps = now;
        let changed = tables.users != users || tables.devices != devices;
        (tables.users, tables.devices) = (users, devices);
        Ok(changed)
    }

    /// Whether an account that has logged in may stay: it is still there, with the same rights.
    pub(crate) fn is_valid(&self, account: &Account) -> bool {
        let permissions = match &account.who {
            Who::User(name) => self.user(name).map(|user| user.permissions),
            Who::Device(id) => self
                .tables()
                .devices
                .get(id)
                .map(|device| device.permissions),
            Who::Stranger => None,
        };
        permissions == Some(account.permissions)
    }

    /// Whether somebody's guess at a password may be looked at.
    pub(crate) fn may_guess(&self, ip: IpAddr) -> bool {
        let may = self.guesses().may(ip, Instant::now());
        if !may {
            tracing::warn!(%ip, "too many wrong passwords, not looked at");
        }
        may
    }

    /// Counts a wrong guess.
    pub(crate) fn guessed_wrong(&self, ip: IpAddr) {
        self.guesses().wrong(ip, Instant::now());
    }

    /// Notes a failed login, and returns when it may be told; too many end the session.
    pub(crate) async fn refuse(&self, session: &Session, began: Instant, what: &str) {
        let failures = session.login_failed();
        let delay = self.guesses().delay(session.peer.ip());
        tracing::warn!(session = session.id, peer = %session.peer, failures, "{what}");
        tokio::time::sleep_until((began + delay).into()).await;
        if failures >= FAILED_LOGINS_MAX {
            session.drain();
        }
    }

    /// Checks a login. Takes its time, on this thread, for a password.
    async fn verify(&self, ip: IpAddr, name: &str, secret: &str) -> Option<Account> {
        if let Some(id) = name.strip_prefix(LOGIN_PREFIX) {
            let tables = self.tables();
            let device = tables.devices.verify(id, secret)?;
            return Some(Account {
                who: Who::Device(device.id.clone()),
                by: By(device.name.clone()),
                permissions: device.permissions,
            });
        }
        if !self.may_guess(ip) {
            return None;
        }
        let user = self.user(name);
        let permit = self.hashing.acquire().await;
        // The session's own thread may block: it serves nobody else.
        let good = User::verify(user.as_ref(), secret);
        drop(permit);
        let Some(user) = user.filter(|_| good) else {
            self.guessed_wrong(ip);
            return None;
        };
        Some(Account {
            who: Who::User(user.name.clone()),
            by: By(user.name),
            permissions: user.permissions,
        })
    }

    /// The user of this name.
    pub(crate) fn user(&self, name: &str) -> Option<User> {
        let tables = self.tables();
        let mut users = self.configured.iter().chain(&tables.users.user);
        users.find(|user| user.name == name).cloned()
    }

    fn change_users<T>(&self, change: impl FnOnce(&mut Users) -> T) -> anyhow::Result<T> {
        let _lock = self.dir.lock()?;
        let mut users: Users = read(&self.dir, USERS_FILE)?;
        let result = change(&mut users);
        self.dir
            .write(USERS_FILE, toml::to_string(&users)?.as_bytes())?;
        self.tables().users = users;
        Ok(result)
    }

    fn change_devices<T>(&self, change: impl FnOnce(&mut Devices) -> T) -> anyhow::Result<T> {
        let _lock = self.dir.lock()?;
        let mut devices: Devices = read(&self.dir, DEVICES_FILE)?;
        let result = change(&mut devices);
        self.dir
            .write(DEVICES_FILE, toml::to_string(&devices)?.as_bytes())?;
        self.tables().devices = devices;
        Ok(result)
    }

    fn guesses(&self) -> MutexGuard<'_, Guesses> {
        self.guesses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stamps(dir: &StateDir) -> [Option<Stamp>; 2] {
    [dir.stamp(USERS_FILE), dir.stamp(DEVICES_FILE)]
}

fn read<T: DeserializeOwned + Serialize + Default>(
    dir: &StateDir,
    name: &str,
) -> anyhow::Result<T> {
    match dir.read(name)? {
        None => Ok(T::default()),
        Some(text) => toml::from_str(&text)
            .with_context(|| format!("cannot understand {}", dir.path(name).display())),
    }
}

/// The way in of one session.
#[derive(Debug)]
pub(crate) struct Gate {
    /// All accounts.
    pub(crate) accounts: Arc<Accounts>,
    /// Which session.
    pub(crate) session: Arc<Session>,
}

#[async_trait]
impl Authenticator for Gate {
    async fn authenticate(
        &self,
        name: &str,
        credentials: &Credentials,
    ) -> Result<Principal, AuthenticationError> {
        let principal = Principal {
            username: name.to_owned(),
        };
        if let Some(begun) = pairing::log_in(&self.session, name, credentials) {
            return begun
                .then_some(principal)
                .ok_or(AuthenticationError::BadPassword);
        }
        let secret = credentials.password.as_deref().unwrap_or_default();
        let began = Instant::now();
        let ip = self.session.peer.ip();
        let Some(account) = self.accounts.verify(ip, name, secret).await else {
            (self.accounts)
                .refuse(&self.session, began, "login failed")
                .await;
            return Err(AuthenticationError::BadPassword);
        };
        tracing::info!(session = self.session.id, peer = %self.session.peer, account = %account, "logged in");
        self.session.log_in(Arc::new(account));
        Ok(principal)
    }

    fn name(&self) -> &'static str {
        "raspbox"
    }
}

#[async_trait]
impl UserDetailProvider for Gate {
    type User = Account;

    async fn provide_user_detail(&self, _: &Principal) -> Result<Account, UserDetailError> {
        match self.session.account() {
            Some(account) => Ok(Account::clone(&account)),
            None if self.session.is_pairing() => Ok(Account::stranger()),
            None => Err(UserDetailError::new("not logged in")),
        }
    }
}
