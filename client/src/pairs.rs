//! The pairings of this workstation, as they are kept.
//!
//! Each has a folder of its own in the state directory: `pair.toml` with whom it is with and the
//! secret to come in with (for its owner's eyes only), `sync.db` ([`crate::state`]), `status.json`,
//! what the last round came to, and `lock`, held during a round.

use crate::remote::Digest256;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// One pairing of a folder.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pair {
    /// Its id, 8 hex digits; also the name of its folder.
    pub id: String,
    /// The synced folder, absolute.
    pub folder: PathBuf,
    /// This device's name, as conflict copies and the appliance say it.
    pub device: String,
    /// Whom it is with.
    pub with: With,
}

/// The other side of a pairing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum With {
    /// An appliance.
    Appliance {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// The device's account there, 8 hex digits.
        device_id: String,
        /// The device's own secret, 64 hex digits.
        token: String,
        /// The SHA-256 of the certificate that it showed when it was paired.
        fingerprint: String,
    },
    /// An ordinary FTP server.
    Server {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
        /// Account.
        user: String,
        /// The account's password: an ordinary server has nothing better to offer.
        password: String,
        /// The SHA-256 of its certificate; none for FTP without TLS.
        fingerprint: Option<String>,
        /// The folder on the server: from where the login starts, or absolute with a `/` before it.
        path: String,
        /// How long to wait between two looks, in seconds.
        poll_seconds: u64,
    },
}

/// All pairings of one state directory.
#[derive(Debug, Clone)]
pub struct Pairs {
    root: PathBuf,
}

/// Why the pairings could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PairsError {
    /// The system failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// A pairing's file isn't one.
    #[error("{}: {why}. Mend or remove it", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// There is no pairing of this folder.
    #[error("{} isn't paired. 'raspbox status' shows what is", .0.display())]
    NotPaired(PathBuf),
    /// There are no pairings at all.
    #[error("nothing is paired yet. Begin with: raspbox pair HOST")]
    Nothing,
    /// The folder, or one above or below it, is paired already.
    #[error("{} is paired already (as part of {}). One folder, one pairing: unpair that first, or choose another folder", folder.display(), with.display())]
    Overlap {
        /// The folder to pair.
        folder: PathBuf,
        /// The one that it overlaps with.
        with: PathBuf,
    },
}

impl Pairs {
    /// The pairings in this state directory, or the user's own for `None`:
    /// `$XDG_STATE_HOME/raspbox` or `~/.local/state/raspbox`.
    ///
    /// # Errors
    /// Where there is no home directory to have one.
    pub fn at(state_dir: Option<&Path>) -> io::Result<Pairs> {
        let root = match state_dir {
            Some(dir) => std::path::absolute(dir)?,
            None => std::env::var_os("XDG_STATE_HOME")
                .map(PathBuf::from)
                .filter(|dir| dir.is_absolute())
                .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
                .ok_or_else(|| io::Error::other("no home directory; give --state-dir"))?
                .join("raspbox"),
        };
        Ok(Pairs { root })
    }

    /// All of them, by folder.
    ///
    /// # Errors
    /// Where one can't be read.
    pub fn all(&self) -> Result<Vec<Pair>, PairsError> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(source) => {
                return Err(PairsError::Io {
                    path: self.root.clone(),
                    source,
                });
            }
        };
        let mut pairs = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|source| self.error(&self.root, source))?;
            let path = entry.path().join("pair.toml");
            match fs::read_to_string(&path) {
                Ok(text) => {
                    pairs.push(toml::from_str(&text).map_err(|error| PairsError::Damaged {
                        path,
                        why: error.message().to_owned(),
                    })?);
                }
                // Made and not finished, or not ours.
                Err(error) if raspbox_beneath::absent(&error) => {}
                Err(source) => return Err(PairsError::Io { path, source }),
            }
        }
        pairs.sort_by(|a: &Pair, b| a.folder.cmp(&b.folder));
        Ok(pairs)
    }

    /// The pairing of this folder (or of one that it is in), or all for `None`; never empty.
    ///
    /// # Errors
    /// Where there is none.
    pub fn chosen(&self, folder: Option<&Path>) -> Result<Vec<Pair>, PairsError> {
        let mut pairs = self.all()?;
        let Some(folder) = folder else {
            return if pairs.is_empty() {
                Err(PairsError::Nothing)
            } else {
                Ok(pairs)
            };
        };
        let absolute = absolute(folder).map_err(|source| self.error(folder, source))?;
        pairs.retain(|pair| absolute.starts_with(&pair.folder));
        if pairs.is_empty() {
            Err(PairsError::NotPaired(absolute))
        } else {
            Ok(pairs)
        }
    }

    /// Whether this folder may be paired: not where one is paired that contains it or is in it.
    ///
    /// # Errors
    /// [`PairsError::Overlap`].
    pub fn check_free(&self, folder: &Path) -> Result<(), PairsError> {
        for pair in self.all()? {
            if folder.starts_with(&pair.folder) || pair.folder.starts_with(folder) {
                return Err(PairsError::Overlap {
                    folder: folder.to_owned(),
                    with: pair.folder,
                });
            }
        }
        Ok(())
    }

    /// Keeps a new pairing.
    ///
    /// # Errors
    /// Where it can't be written.
    pub fn add(&self, pair: &Pair) -> Result<(), PairsError> {
        let dir = self.dir(pair);
        let make = || {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&dir)
        };
        make().map_err(|source| self.error(&dir, source))?;
        let text = toml::to_string(pair).expect("a pairing is plain data");
        let path = dir.join("pair.toml");
        write_whole(&path, text.as_bytes()).map_err(|source| self.error(&path, source))
    }

    /// Forgets a pairing, with everything that is known of it.
    ///
    /// # Errors
    /// Where it can't be removed.
    pub fn remove(&self, pair: &Pair) -> Result<(), PairsError> {
        let dir = self.dir(pair);
        fs::remove_dir_all(&dir).map_err(|source| self.error(&dir, source))
    }

    /// Where the state of a pairing is.
    #[must_use]
    pub fn database(&self, pair: &Pair) -> PathBuf {
        self.dir(pair).join("sync.db")
    }

    /// Where the result of the last round is.
    #[must_use]
    pub fn status_file(&self, pair: &Pair) -> PathBuf {
        self.dir(pair).join("status.json")
    }

    /// Waits until no other raspbox syncs this folder; it is locked until the file is dropped.
    ///
    /// # Errors
    /// Where the file can't be made.
    pub fn lock(&self, pair: &Pair) -> Result<File, PairsError> {
        let path = self.dir(pair).join("lock");
        let lock = || {
            let file = File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)?;
            file.lock()?;
            Ok(file)
        };
        lock().map_err(|source| self.error(&path, source))
    }

    fn dir(&self, pair: &Pair) -> PathBuf {
        self.root.join(&pair.id)
    }

    fn error(&self, path: &Path, source: io::Error) -> PairsError {
        PairsError::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl With {
    /// The other side, for a person.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            With::Appliance { host, port, .. } => format!("{host}:{port}"),
            With::Server {
                host,
                port,
                path,
                fingerprint,
                ..
            } => {
                let scheme = if fingerprint.is_some() { "ftps" } else { "ftp" };
                format!("{scheme}://{host}:{port}/{path}")
            }
        }
    }

    /// The certificate that is pinned.
    #[must_use]
    pub fn fingerprint(&self) -> Option<Digest256> {
        match self {
            With::Appliance { fingerprint, .. } => fingerprint.parse().ok(),
            With::Server { fingerprint, .. } => fingerprint.as_ref()?.parse().ok(),
        }
    }
}

impl std::fmt::Debug for Pair {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Pair({} {} with {})",
            self.id,
            self.folder.display(),
            self.with.name()
        )
    }
}

/// A path from the root, without symlinks as far as it exists.
///
/// # Errors
/// Where the current directory is gone.
pub fn absolute(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    Ok(match path.canonicalize() {
        Ok(real) => real,
        Err(_) => match (path.parent().map(Path::canonicalize), path.file_name()) {
            (Some(Ok(parent)), Some(name)) => parent.join(name),
            (Some(Ok(_) | Err(_)) | None, _) => path,
        },
    })
}

/// Writes a file for its owner alone, whole or not at all.
///
/// # Errors
/// Where the disk is full or fails; the old one is still there.
pub fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}

#[cfg(test)]
mod tests {
    use super::{Pair, Pairs, PairsError, With};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    fn pair(id: &str, folder: &str) -> Pair {
        Pair {
            id: id.into(),
            folder: folder.into(),
            device: "laptop".into(),
            with: With::Appliance {
                host: "raspbox.local".into(),
                port: 21,
                device_id: "01234567".into(),
                token: "secret".into(),
                fingerprint: "ab".repeat(32),
            },
        }
    }

    #[test]
    fn a_pairing_is_kept_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pairs = Pairs::at(Some(&dir.path().join("state"))).expect("a place");
        assert!(matches!(pairs.chosen(None), Err(PairsError::Nothing)));
        let pair = pair("1", "/home/a/box");
        pairs.add(&pair).expect("add");
        assert_eq!(pairs.all().expect("read"), std::slice::from_ref(&pair));
        let file = dir.path().join("state/1/pair.toml");
        let mode = file.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0);
        assert!(!format!("{pair:?}").contains("secret"));
        pairs.remove(&pair).expect("remove");
        assert_eq!(pairs.all().expect("read"), []);
    }

    #[test]
    fn folders_do_not_overlap() {
        let dir = tempfile::tempdir().expect("temp dir");
        let pairs = Pairs::at(Some(dir.path())).expect("a place");
        pairs.add(&pair("1", "/home/a/box")).expect("add");
        for overlapping in ["/home/a/box", "/home/a/box/sub", "/home/a"] {
            let result = pairs.check_free(Path::new(overlapping));
            assert!(
                matches!(result, Err(PairsError::Overlap { .. })),
                "{overlapping}"
            );
        }
        pairs
            .check_free(Path::new("/home/a/boxes"))
            .expect("another folder");
        assert_eq!(
            pairs
                .chosen(Some(Path::new("/home/a/box/x")))
                .expect("found")
                .len(),
            1
        );
    }
}
