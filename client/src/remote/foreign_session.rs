//! The verbs of an ordinary FTP server, each with whatever that server offers for it.

use super::RemoteError;
use super::connection::{Connection, Endpoint, Reply, Transfer};
use super::control::{Control, Data};
use super::foreign_features::Features;
use super::listing::{self, Format, Item, Kind, ListingError};
use raspbox_protocol::{Digest, Mtime, RelPath, Version};
use std::fmt;
use std::io::Read;

/// The version of every folder on a foreign server: a folder has no content of its own.
pub(super) const FOLDER_VERSION: Version = Version(1);

/// The version of nothing.
pub(super) const ABSENT_VERSION: Version = Version(0);

/// What stands at a path on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stand {
    Absent,
    File(Stamp),
    Folder,
    Other,
}

/// What tells one state of a file from another, as far as FTP can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    pub(super) mtime: i64,
}

/// One login at a server, with what was found out about it.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    features: Features,
    /// The synced folder as an absolute path without a slash at its end; empty for `/`.
    top: String,
    how: How,
    times: Option<SetTime>,
    shows_dots: Option<bool>,
}

/// How folders are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Mlsd,
    /// `LIST -a`; whether it shows `.` and `..`, so that a listing without them is a failed one
    /// (vsftpd answers "226 Transfer done (but failed to open directory)").
    ListAll {
        dots: bool,
    },
    /// `LIST` alone.
    List,
}

/// How a file's time is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SetTime {
    Mfmt,
    Mdtm,
    Utime,
    Never,
}

impl Stamp {
    /// The version that stands for it.
    pub(super) fn version(self) -> Version {
        let digest = Digest::of(format!("{} {}", self.size, self.mtime).as_bytes());
        let bytes = digest.as_bytes()[..8].try_into().expect("eight bytes");
        Version(u64::from_le_bytes(bytes))
    }
}

impl Stand {
    pub(super) fn version(self) -> Option<Version> {
        match self {
            Stand::File(stamp) => Some(stamp.version()),
            Stand::Folder => Some(FOLDER_VERSION),
            Stand::Absent | Stand::Other => None,
        }
    }
}

impl Session {
    /// Logs in, and finds out what the server can do. `folder` is as in
    /// [`super::foreign_url::parse_url`].
    pub(super) fn open(endpoint: &Endpoint, folder: &str) -> Result<Session, RemoteError> {
        let mut connection = Connection::open_foreign(endpoint)?;
        let features = Features::ask(&mut connection)?;
        if features.utf8 {
            // Most refuse since it is on anyway.
            connection.command("OPTS UTF8 ON")?;
        }
        if features.mlst && features.mlst_facts_off {
            connection.command("OPTS MLST type;size;modify;unique;")?;
        }
        let start = if folder.starts_with('/') {
            String::new()
        } else {
            let reply = connection.command("PWD")?;
            working_folder(&reply.text)
                .ok_or_else(|| connection.nonsense(format!("PWD said '{reply}'")))?
        };
        let top = format!("{}/{folder}", start.trim_end_matches('/'));
        let top = format!("/{}", top.trim_matches('/'));
        let mut session = Session {
            connection,
            features,
            top: top.trim_end_matches('/').to_owned(),
            how: How::Mlsd,
            times: None,
            shows_dots: None,
        };
        session.check_top()?;
        session.how = session.find_how()?;
        Ok(session)
    }

    /// Whether listings show names that begin with a dot; found out by making one.
    pub(super) fn shows_dots(&mut self) -> Result<bool, RemoteError> {
        if let (How::Mlsd | How::ListAll { dots: true }, _) | (_, Some(true)) =
            (self.how, self.shows_dots)
        {
            return Ok(true);
        }
        if self.shows_dots == Some(false) {
            return Ok(false);
        }
        let name = super::foreign_temporary::new_name();
        let at = format!("{}/{name}", self.top);
        let Ok(stream) = self.store(&at)? else {
            return Ok(false);
        };
        stream.finish_upload()?;
        let listed = self.list(None)?;
        self.act("DELE", &at)?;
        let shown = listed.is_ok_and(|items| items.iter().any(|item| item.name == name));
        self.shows_dots = Some(shown);
        Ok(shown)
    }

    /// The absolute path on the server; `None` is the top.
    pub(super) fn at(&self, path: Option<&RelPath>) -> String {
        match path {
            Some(path) => format!("{}/{path}", self.top),
            None if self.top.is_empty() => "/".to_owned(),
            None => self.top.clone(),
        }
    }

    /// What is in a folder, or why that can't be known.
    pub(super) fn list(
        &mut self,
        path: Option<&RelPath>,
    ) -> Result<Result<Vec<Item>, String>, RemoteError> {
        let at = self.at(path);
        let (line, format) = match self.how {
            How::Mlsd => (format!("MLSD {at}"), Format::Facts),
            // Some servers take `*` and `[` in LIST's argument for patterns; never in CWD's.
            How::ListAll { .. } | How::List => {
                let reply = self.connection.command(&format!("CWD {at}"))?;
                if !reply.is_done() {
                    return Ok(Err(reply.to_string()));
                }
                let all = matches!(self.how, How::ListAll { .. });
                let line = if all { "LIST -a" } else { "LIST" };
                (line.to_owned(), Format::Long)
            }
        };
        let (items, has_dots) = match self.list_with(&line, format)? {
            Ok(listed) => listed,
            Err(why) => return Ok(Err(why)),
        };
        if self.how == (How::ListAll { dots: true }) && !has_dots {
            return Ok(Err("the server didn't open the folder".into()));
        }
        Ok(Ok(items))
    }

    /// What stands at a path now.
    pub(super) fn stand(&mut self, path: &RelPath) -> Result<Stand, RemoteError> {
        let at = self.at(Some(path));
        if self.features.mlst {
            let reply = self.connection.command(&format!("MLST {at}"))?;
            if !reply.is_done() {
                return self.absent_or_trouble(&reply);
            }
            match listing::mlst(&reply.text) {
                Some(Kind::File {
                    size: Some(size),
                    mtime: Some(mtime),
                }) => return Ok(Stand::File(Stamp { size, mtime })),
                Some(Kind::Folder) => return Ok(Stand::Folder),
                Some(Kind::Symlink | Kind::Other) => return Ok(Stand::Other),
                Some(Kind::File { .. }) | None => {}
            }
        }
        if self.features.size && self.features.mdtm {
            return self.stand_by_size(&at);
        }
        self.stand_by_list(path)
    }

    fn absent_or_trouble(&self, reply: &Reply) -> Result<Stand, RemoteError> {
        match reply.code {
            550 | 450 | 553 | 501 => Ok(Stand::Absent),
            _ => Err(self.connection.trouble(reply)),
        }
    }

    fn stand_by_size(&mut self, at: &str) -> Result<Stand, RemoteError> {
        let reply = self.connection.command(&format!("SIZE {at}"))?;
        if let (213, Ok(size)) = (reply.code, reply.text.parse()) {
            return Ok(match self.mtime(at)? {
                Some(mtime) => Stand::File(Stamp { size, mtime }),
                None => Stand::Other,
            });
        }
        // No size: a folder, a file that may not be read, or nothing. RNFR alone changes nothing
        // and asks no rights on the file itself.
        let reply = self.connection.command(&format!("RNFR {at}"))?;
        if reply.code != 350 {
            return self.absent_or_trouble(&reply);
        }
        let reply = self.connection.command(&format!("CWD {at}"))?;
        Ok(if reply.is_done() {
            Stand::Folder
        } else {
            Stand::Other
        })
    }

    fn stand_by_list(&mut self, path: &RelPath) -> Result<Stand, RemoteError> {
        let Ok(items) = self.list(path.parent().as_ref())? else {
            return Ok(Stand::Other);
        };
        let item = items.into_iter().find(|item| item.name == path.name());
        Ok(match item.map(|item| item.kind) {
            None => Stand::Absent,
            Some(Kind::Folder) => Stand::Folder,
            Some(Kind::File {
                size: Some(size),
                mtime: Some(mtime),
            }) => Stand::File(Stamp { size, mtime }),
            Some(Kind::File { .. } | Kind::Symlink | Kind::Other) => Stand::Other,
        })
    }

    /// What a listed file is exactly; `None` where the server doesn't tell.
    pub(super) fn stamp(
        &mut self,
        path: &RelPath,
        size: Option<u64>,
        mtime: Option<i64>,
    ) -> Result<Option<Stamp>, RemoteError> {
        // LIST's times are cut to minutes or days; MDTM's are the same as `stand` sees.
        let exact = self.how == How::Mlsd || !self.features.mdtm;
        if let (Some(size), Some(mtime), true) = (size, mtime, exact) {
            return Ok(Some(Stamp { size, mtime }));
        }
        if let (Some(size), false) = (size, exact) {
            let at = self.at(Some(path));
            return Ok(self.mtime(&at)?.map(|mtime| Stamp { size, mtime }));
        }
        Ok(match self.stand(path)? {
            Stand::File(stamp) => Some(stamp),
            Stand::Absent | Stand::Folder | Stand::Other => None,
        })
    }

    fn mtime(&mut self, at: &str) -> Result<Option<i64>, RemoteError> {
        let reply = self.connection.command(&format!("MDTM {at}"))?;
        let time = listing::time(reply.text.trim());
        Ok(time.filter(|_| reply.code == 213))
    }

    /// Begins a download.
    pub(super) fn retrieve(
        &mut self,
        at: &str,
        offset: u64,
    ) -> Result<Result<Transfer, Reply>, RemoteError> {
        self.connection.transfer(&format!("RETR {at}"), offset)
    }

    /// Begins an upload.
    pub(super) fn store(&mut self, at: &str) -> Result<Result<Transfer, Reply>, RemoteError> {
        self.connection.transfer(&format!("STOR {at}"), 0)
    }

    /// Renames; the reply of the command that decided it.
    pub(super) fn rename(&mut self, from: &str, to: &str) -> Result<Reply, RemoteError> {
        let reply = self.connection.command(&format!("RNFR {from}"))?;
        if reply.code != 350 {
            return Ok(reply);
        }
        self.connection.command(&format!("RNTO {to}"))
    }

    /// A command with a path.
    pub(super) fn act(&mut self, verb: &str, at: &str) -> Result<Reply, RemoteError> {
        self.connection.command(&format!("{verb} {at}"))
    }

    /// Sets a file's time, to the second, if the server has a way; whether it did.
    pub(super) fn set_time(&mut self, at: &str, mtime: Mtime) -> Result<bool, RemoteError> {
        let Some(text) = listing::time_text(mtime) else {
            return Ok(false);
        };
        let ways = match self.times {
            Some(way) => vec![way],
            None => vec![SetTime::Mfmt, SetTime::Mdtm, SetTime::Utime, SetTime::Never],
        };
        for way in ways {
            let line = match way {
                SetTime::Mfmt if self.features.mfmt => format!("MFMT {text} {at}"),
                // vsftpd and others take a time before the path, and set it.
                SetTime::Mdtm if self.features.mdtm => format!("MDTM {text} {at}"),
                SetTime::Utime if self.features.utime => format!("SITE UTIME {text} {at}"),
                SetTime::Mfmt | SetTime::Mdtm | SetTime::Utime => continue,
                SetTime::Never => {
                    self.times = Some(SetTime::Never);
                    return Ok(false);
                }
            };
            if self.connection.command(&line)?.is_done() {
                self.times = Some(way);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn check_top(&mut self) -> Result<(), RemoteError> {
        let top = self.at(None);
        let reply = self.connection.command(&format!("CWD {top}"))?;
        if reply.is_done() {
            return Ok(());
        }
        Err(match reply.code {
            530 => self.connection.trouble(&reply),
            _ => self.cannot_list(&reply),
        })
    }

    /// The error for a top folder that isn't there or can't be read.
    pub(super) fn cannot_list(&self, why: impl fmt::Display) -> RemoteError {
        let error = self.connection.nonsense("");
        let RemoteError::NotUnderstood { address, .. } = error else {
            return error;
        };
        let why = format!(
            "the folder {} can't be read there ({why}). Is its drive attached? A new folder has to \
             be made on the server first",
            self.at(None)
        );
        RemoteError::Refused { address, why }
    }

    fn find_how(&mut self) -> Result<How, RemoteError> {
        if self.features.mlst {
            return Ok(How::Mlsd);
        }
        let plain = self.list_with("LIST", Format::Long)?;
        let all = self.list_with("LIST -a", Format::Long)?;
        // A server that takes "-a" for a name lists nothing; what LIST shows must be there, too.
        Ok(match (plain, all) {
            (Ok((plain, _)), Ok((all, dots)))
                if (dots || !all.is_empty())
                    && plain
                        .iter()
                        .all(|item| all.iter().any(|other| other.name == item.name)) =>
            {
                How::ListAll { dots }
            }
            (Ok(_) | Err(_), _) => How::List,
        })
    }

    fn list_with(
        &mut self,
        line: &str,
        format: Format,
    ) -> Result<Result<Listed, String>, RemoteError> {
        let mut stream = match self.connection.transfer(line, 0)? {
            Ok(stream) => stream,
            Err(reply) => return Ok(Err(reply.to_string())),
        };
        let listed = match listing::read(&mut stream, format) {
            Ok(listed) => listed,
            Err(ListingError::Io(error)) => return Err(self.connection.broken(&error)),
            Err(error @ ListingError::Line(_)) => {
                // Only this folder's. What is left of it has to be read before the next command.
                std::io::copy(
                    &mut (&mut stream).take(LISTING_REST_MAX),
                    &mut std::io::sink(),
                )
                .map_err(|error| self.connection.broken(&error))?;
                stream.finish_download()?;
                return Ok(Err(error.to_string()));
            }
            Err(error @ ListingError::TooMuch(_)) => return Err(self.connection.nonsense(error)),
        };
        // Only the reply tells a listing from one that was cut.
        let reply = stream.finish_download()?;
        Ok(if reply.is_done() {
            Ok(listed)
        } else {
            Err(reply.to_string())
        })
    }
}

/// Entries, and whether `.` or `..` was among them.
type Listed = (Vec<Item>, bool);

/// How much of a listing is read on after a line that isn't understood.
const LISTING_REST_MAX: u64 = 64 << 20;

/// The folder in an answer to PWD: in quotes, quotes in it doubled (RFC 959, appendix II).
fn working_folder(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('"')?;
    let mut folder = String::new();
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '"' {
            folder.push(c);
        } else if chars.next_if_eq(&'"').is_some() {
            folder.push('"');
        } else {
            return Some(folder).filter(|folder| folder.starts_with('/'));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{Stamp, working_folder};

    #[test]
    fn folders_come_in_quotes() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(working_folder(text).as_deref(), expected, "{text}");
        };
        check("\"/\" is the current folder", Some("/"));
        check("\"/a \"\"b\"\"\" is", Some("/a \"b\""));
        check("\"relative\"", None);
        check("\"/open", None);
        check("/bare", None);
    }

    #[test]
    fn size_and_time_both_count() {
        let version = |size, mtime| Stamp { size, mtime }.version();
        assert_eq!(version(1, 2), version(1, 2));
        assert_ne!(version(1, 2), version(2, 1));
        assert_ne!(version(1, 2), version(1, 3));
        assert_ne!(version(11, 2), version(1, 12));
    }
}
