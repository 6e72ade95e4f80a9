//! libunftp's storage backend, straight over the store: rights, places, and then the work.
//!
//! It does not decorate unftp-sbe-fs: each of that one's methods would have to be replaced
//! (ARCHITECTURE.md says how).

use crate::accounts::Account;
use crate::download::{get_bytes, get_file, get_version, get_wants, history_bytes, result_bytes};
use crate::drive::slot::Seen;
use crate::feeds::{send_events, send_feed, send_tree_at};
use crate::listing::{Facts, Row, rows};
use crate::permissions::Permission;
use crate::place::{self, Place};
use crate::reply::Trouble;
use crate::session::{Session, Transfer};
use crate::shared::Shared;
use crate::site;
use crate::upload::{put_commit, put_file, put_holds, put_wants};
use crate::versions;
use async_trait::async_trait;
use raspbox_protocol::RelPath;
use raspbox_protocol::damage;
use raspbox_protocol::special::{Form, Special};
use raspbox_store::{Stat, StoreError};
use std::fmt::Debug;
use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::io::{AsyncRead, AsyncWrite};
use unftp_core::storage::{Error, FEATURE_RESTART, Fileinfo, Result, StorageBackend};

/// The store, as one session sees it.
#[derive(Debug, Clone)]
pub(crate) struct Backend {
    /// What all sessions have in common.
    pub(crate) shared: Arc<Shared>,
    /// This one.
    pub(crate) session: Arc<Session>,
}

type Answer<T> = std::result::Result<T, Trouble>;

impl Backend {
    /// The drive, as this session sees it.
    pub(crate) fn drive(&self) -> Seen<'_> {
        self.shared.slot.seen(&self.session.drive)
    }

    /// The place of a path, seen from the working directory as far as we know it.
    pub(crate) fn place(&self, path: &str) -> Answer<Place> {
        Ok(Place::resolve(&self.session.cwd(), path)?)
    }

    /// The same for a place that is neither the top nor a special file.
    pub(crate) fn entry(&self, path: &str) -> Answer<RelPath> {
        match self.place(path)? {
            Place::Entry(path) => Ok(path),
            Place::Top => Err(Trouble::unavailable("not the top folder")),
            Place::Versions(_) => Err(Trouble::denied()),
            Place::Special(_) => Err(Trouble::unavailable("not raspbox's own files")),
        }
    }

    fn place_of<P: AsRef<Path>>(&self, path: P) -> Answer<Place> {
        self.session.touch();
        // libunftp made it from a string.
        self.place(path.as_ref().to_str().unwrap_or("\u{fffd}"))
    }

    fn entry_of<P: AsRef<Path>>(&self, path: P) -> Answer<RelPath> {
        self.session.touch();
        self.entry(path.as_ref().to_str().unwrap_or("\u{fffd}"))
    }

    fn look(&self, account: &Account, place: &Place) -> Answer<Facts> {
        account.need(Permission::List)?;
        match place {
            Place::Top | Place::Entry(_) | Place::Versions(_) => Ok(Facts(self.stat(place)??)),
            Place::Special(_) => {
                account.need(Permission::Read)?;
                // Size and time mean nothing here; but it is there, and APPE to it begins at 0.
                Ok(Facts(Stat::File {
                    size_bytes: 0,
                    mtime: SystemTime::now().into(),
                    executable: false,
                }))
            }
        }
    }

    /// What stands at a place.
    fn stat(&self, place: &Place) -> Answer<std::result::Result<Stat, StoreError>> {
        let serving = self.drive().now()?;
        Ok(match place {
            Place::Top => serving.files()?.stat(None),
            Place::Entry(path) => serving.files()?.stat(Some(path)),
            Place::Versions(path) => versions::stat(&self.drive().store()?, path.as_ref()),
            Place::Special(_) => return Err(Trouble::unavailable("not a folder")),
        })
    }

    /// What is in a folder; nothing where there is no such folder.
    ///
    /// That is how vsftpd answers, and clients look with CWD or MLST before they believe it. With
    /// an error in its place, which libunftp sends only after its 150, rclone 1.60 takes a folder
    /// that it is about to make for a failure. A drive that isn't there is an error here as well.
    fn folder(&self, account: &Account, place: &Place) -> Answer<Vec<Row>> {
        account.need(Permission::List)?;
        let serving = self.drive().now()?;
        let listed = match place {
            Place::Top => serving.files()?.list(None),
            Place::Entry(path) => serving.files()?.list(Some(path)),
            Place::Versions(path) => versions::list(&self.drive().store()?, path.as_ref()),
            Place::Special(_) => return Err(Trouble::unavailable("not a folder")),
        };
        match listed {
            Ok(entries) => Ok(rows(entries)),
            Err(StoreError::NotFound(_) | StoreError::NoParent(_)) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }

    /// What LIST, NLST and STAT show: a folder's entries, or the one entry.
    fn folder_or_entry(&self, account: &Account, place: &Place) -> Answer<Vec<Row>> {
        let listed = self.folder(account, place);
        let path = match place {
            Place::Entry(path) | Place::Versions(Some(path)) => path,
            Place::Top | Place::Versions(None) | Place::Special(_) => return listed,
        };
        match self.stat(place)? {
            Ok(stat @ (Stat::File { .. } | Stat::Symlink { .. }))
                if account.permissions.has(Permission::List) =>
            {
                Ok(vec![Row {
                    path: path.name().into(),
                    metadata: Facts(stat),
                }])
            }
            Ok(_) | Err(_) => listed,
        }
    }

    async fn send<W: AsyncWrite + Unpin + Send + ?Sized>(
        &self,
        account: &Account,
        transfer: &Transfer,
        (place, position): (&Place, u64),
        output: &mut W,
    ) -> Answer<u64> {
        let (shared, session) = (&self.shared, &self.session);
        account.need(Permission::Read)?;
        let special = match place {
            Place::Top => return Err(Trouble::unavailable("a folder")),
            Place::Entry(path) => {
                return get_file(shared, session, transfer, (path, position), output).await;
            }
            Place::Versions(None) => return Err(Trouble::unavailable("a folder")),
            Place::Versions(Some(path)) => {
                return get_version(shared, session, transfer, (path, position), output).await;
            }
            Place::Special(special) => special,
        };
        account.need(Permission::List)?;
        match special {
            Special::Info => {
                let info = site::info(self, account)?.to_string();
                get_bytes(transfer, info.as_bytes(), position, output).await
            }
            Special::History(path) => {
                let history = self.drive().store()?.history(path)?;
                get_bytes(transfer, &history_bytes(history), position, output).await
            }
            Special::At(time) => send_tree_at((shared, session), transfer, *time, output).await,
            Special::Tree => Ok(send_feed((shared, session), transfer, None, true, output)
                .await?
                .1),
            Special::Changes(cursor) => {
                Ok(
                    send_feed((shared, session), transfer, Some(*cursor), true, output)
                        .await?
                        .1,
                )
            }
            Special::Events(cursor) => {
                send_events(shared, session, transfer, *cursor, output).await
            }
            Special::Result(id) => {
                let outcomes = self.drive().store()?.outcome(*id)?;
                let outcomes = outcomes.ok_or_else(|| Trouble::unavailable("no such commit"))?;
                get_bytes(transfer, &result_bytes(outcomes), position, output).await
            }
            Special::Want(id, form) => {
                let wants = session
                    .wants(*id)
                    .ok_or_else(|| Trouble::unavailable("no such list"))?;
                get_wants(shared, session, transfer, (&wants, *form), output).await
            }
            Special::Holds(id) => {
                let digests = session
                    .holds(*id)
                    .ok_or_else(|| Trouble::unavailable("no such list"))?;
                let held = self.drive().store()?.holds(&digests)?.to_string();
                get_bytes(transfer, held.as_bytes(), position, output).await
            }
            Special::Damaged => {
                let list = damage::print(&self.drive().store()?.damages()?);
                get_bytes(transfer, list.as_bytes(), position, output).await
            }
            Special::Commit(..) => Err(Trouble::unavailable("a commit can't be retrieved")),
        }
    }

    async fn take<R: AsyncRead + Unpin>(
        &self,
        account: &Account,
        transfer: &Transfer,
        (place, position): (&Place, u64),
        input: R,
    ) -> Answer<u64> {
        let (shared, session) = (&self.shared, &self.session);
        let path = match place {
            Place::Top => return Err(Trouble::unavailable("a folder")),
            Place::Entry(path) => path,
            Place::Versions(_) => return Err(Trouble::denied()),
            Place::Special(special) => {
                let special = (special, position);
                return self.take_special(account, transfer, special, input).await;
            }
        };
        let right = if position > 0 {
            Permission::Append
        } else {
            Permission::Write
        };
        account.need(right)?;
        if position == 0 && session.take_look_failed(path) {
            // libunftp begins an APPE at 0 where it couldn't look at the file, and that would
            // replace what should be appended to. Once: a STOR that is tried again goes through.
            return Err(Trouble::not_now("the file could not be looked at"));
        }
        put_file(shared, session, transfer, (path, position), account, input).await
    }

    async fn take_special<R: AsyncRead + Unpin>(
        &self,
        account: &Account,
        transfer: &Transfer,
        (special, position): (&Special, u64),
        input: R,
    ) -> Answer<u64> {
        let (shared, session) = (&self.shared, &self.session);
        if position > 0 {
            return Err(Trouble::bad_request("a request has no middle to begin at"));
        }
        match special {
            Special::Commit(id, form) => {
                put_commit(shared, session, transfer, (*id, *form), account, input).await
            }
            Special::Want(id, Form::Plain) => {
                account.need(Permission::Read)?;
                account.need(Permission::List)?;
                put_wants(session, transfer, *id, input).await
            }
            Special::Holds(id) => {
                account.need(Permission::Read)?;
                account.need(Permission::List)?;
                put_holds(session, transfer, *id, input).await
            }
            Special::Info
            | Special::Tree
            | Special::Changes(_)
            | Special::Events(_)
            | Special::Result(_)
            | Special::History(_)
            | Special::At(_)
            | Special::Want(_, Form::Zstd)
            | Special::Damaged => Err(Trouble::denied()),
        }
    }
}

#[async_trait]
impl StorageBackend<Account> for Backend {
    type Metadata = Facts;

    fn name(&self) -> &'static str {
        "raspbox"
    }

    fn supported_features(&self) -> u32 {
        // Not MD5: libunftp reads 10 MiB at a time for it without end on an error, and SITE HASH
        // is answered from the journal.
        FEATURE_RESTART
    }

    async fn metadata<P: AsRef<Path> + Send + Debug>(
        &self,
        user: &Account,
        path: P,
    ) -> Result<Facts> {
        let place = self.place_of(path)?;
        let looked = self.look(user, &place);
        let failed = match (&looked, place) {
            (Err(trouble), Place::Entry(path)) if !trouble.is_not_found() => Some(path),
            (
                Ok(_) | Err(_),
                Place::Top | Place::Entry(_) | Place::Versions(_) | Place::Special(_),
            ) => None,
        };
        // Who may not append needs no protection from a failed APPE.
        self.session
            .look_failed(failed.filter(|_| user.permissions.has(Permission::Append)));
        Ok(looked?)
    }

    async fn list<P: AsRef<Path> + Send + Debug>(
        &self,
        user: &Account,
        path: P,
    ) -> Result<Vec<Fileinfo<PathBuf, Facts>>> {
        let place = self.place_of(path)?;
        let transfer = self.session.begin(0)?;
        let rows = self.folder(user, &place)?;
        transfer.succeeded();
        Ok(rows)
    }

    async fn list_fmt<P>(&self, user: &Account, path: P) -> Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        let place = self.place_of(path)?;
        let transfer = self.session.begin(0)?;
        let rows = self.folder_or_entry(user, &place)?;
        transfer.succeeded();
        let lines = rows.iter().map(|row| format!("{row}\r\n"));
        Ok(Cursor::new(lines.collect::<String>().into_bytes()))
    }

    async fn list_vec<P>(&self, user: &Account, path: P) -> Result<Vec<String>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        // STAT answers on the control connection: no data connection to ask about.
        let place = self.place_of(path)?;
        let rows = self.folder_or_entry(user, &place)?;
        Ok(rows.iter().map(ToString::to_string).collect())
    }

    async fn nlst<P>(&self, user: &Account, path: P) -> io::Result<Cursor<Vec<u8>>>
    where
        P: AsRef<Path> + Send + Debug,
    {
        let list = || -> Answer<String> {
            let place = self.place_of(path)?;
            let transfer = self.session.begin(0)?;
            let rows = self.folder_or_entry(user, &place)?;
            transfer.succeeded();
            Ok(rows
                .iter()
                .map(|row| format!("{}\r\n", row.path.display()))
                .collect())
        };
        list()
            .map(|names| Cursor::new(names.into_bytes()))
            .map_err(io::Error::other)
    }

    async fn get_into<'a, P, W: ?Sized>(
        &self,
        user: &Account,
        path: P,
        start_pos: u64,
        output: &'a mut W,
    ) -> Result<u64>
    where
        W: AsyncWrite + Unpin + Sync + Send,
        P: AsRef<Path> + Send + Debug,
    {
        let transfer = self.session.begin(start_pos)?;
        let place = self.place_of(path)?;
        let bytes = self
            .send(user, &transfer, (&place, start_pos), output)
            .await?;
        transfer.succeeded();
        Ok(bytes)
    }

    /// Never called: only MD5 would, which is switched off, and `get_into` is our own.
    async fn get<P: AsRef<Path> + Send + Debug>(
        &self,
        _: &Account,
        _: P,
        _: u64,
    ) -> Result<Box<dyn AsyncRead + Send + Sync + Unpin>> {
        Err(Error::from(
            unftp_core::storage::ErrorKind::CommandNotImplemented,
        ))
    }

    async fn put<P: AsRef<Path> + Send + Debug, R: AsyncRead + Send + Sync + Unpin + 'static>(
        &self,
        user: &Account,
        input: R,
        path: P,
        start_pos: u64,
    ) -> Result<u64> {
        let transfer = self.session.begin(start_pos)?;
        let place = self.place_of(path)?;
        let bytes = self
            .take(user, &transfer, (&place, start_pos), input)
            .await?;
        transfer.succeeded();
        Ok(bytes)
    }

    async fn del<P: AsRef<Path> + Send + Debug>(&self, user: &Account, path: P) -> Result<()> {
        user.need(Permission::Delete)?;
        let path = self.entry_of(path)?;
        let version = self
            .drive()
            .store()?
            .delete_file(&path, &user.by)
            .map_err(Trouble::from)?;
        tracing::info!(session = self.session.id, %path, version = version.0, "deleted");
        Ok(())
    }

    async fn mkd<P: AsRef<Path> + Send + Debug>(&self, user: &Account, path: P) -> Result<()> {
        user.need(Permission::MakeFolder)?;
        let path = self.entry_of(path)?;
        self.drive()
            .store()?
            .make_folder(&path, &user.by)
            .map_err(Trouble::from)?;
        Ok(())
    }

    async fn rename<P: AsRef<Path> + Send + Debug>(
        &self,
        user: &Account,
        from: P,
        to: P,
    ) -> Result<()> {
        user.need(Permission::Rename)?;
        let (from, to) = (self.entry_of(from)?, self.entry_of(to)?);
        let version = self
            .drive()
            .store()?
            .rename(&from, &to, &user.by)
            .map_err(Trouble::from)?;
        tracing::info!(session = self.session.id, %from, %to, version = version.0, "renamed");
        Ok(())
    }

    async fn rmd<P: AsRef<Path> + Send + Debug>(&self, user: &Account, path: P) -> Result<()> {
        user.need(Permission::Delete)?;
        let path = self.entry_of(path)?;
        self.drive()
            .store()?
            .delete_folder(&path, &user.by)
            .map_err(Trouble::from)?;
        Ok(())
    }

    async fn cwd<P: AsRef<Path> + Send + Debug>(&self, user: &Account, path: P) -> Result<()> {
        user.need(Permission::Enter)?;
        // As libunftp keeps it, `..` and all, since CDUP takes off the last name of that.
        let cwd = path.as_ref().to_string_lossy().into_owned();
        if place::is_special_folder(&self.session.cwd(), &cwd) {
            self.session.set_cwd(cwd);
            return Ok(());
        }
        let place = self.place_of(&path)?;
        match (self.stat(&place)?.map_err(Trouble::from)?, &place) {
            (Stat::Folder { .. }, _) => self.session.set_cwd(cwd),
            (
                Stat::File { .. } | Stat::Symlink { .. },
                Place::Entry(path) | Place::Versions(Some(path)),
            ) => {
                return Err(Trouble::from(StoreError::NotAFolder(path.clone())).into());
            }
            (
                Stat::File { .. } | Stat::Symlink { .. },
                Place::Top | Place::Versions(None) | Place::Special(_),
            ) => {
                return Err(Trouble::local("the top is not a folder").into());
            }
        }
        Ok(())
    }
}
