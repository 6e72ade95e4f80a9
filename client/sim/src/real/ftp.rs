//! An ordinary FTP client: the commands that people's programs send, and none of ours.

use crate::place::content_of;
use crate::scenario::{Edit, How};
use raspbox::remote::RemoteError;
use raspbox::remote::connection::{Connection, Endpoint, Reply};
use raspbox::remote::control::{Control, Data};
use std::io::{Read, Write};

/// Why an edit was not done.
#[derive(Debug)]
pub(super) enum Not {
    /// The server said no.
    Refused,
    /// The connection was lost, for this reason.
    Lost(String),
}

impl From<RemoteError> for Not {
    fn from(error: RemoteError) -> Not {
        Not::Lost(error.to_string())
    }
}

impl From<std::io::Error> for Not {
    fn from(error: std::io::Error) -> Not {
        Not::Lost(error.to_string())
    }
}

/// A session.
#[derive(Debug)]
pub(super) struct Ftp(Connection);

impl Ftp {
    pub(super) fn open(endpoint: &Endpoint) -> Result<Ftp, Not> {
        Ok(Ftp(Connection::open(endpoint)?))
    }

    pub(super) fn edit(&mut self, edit: &Edit) -> Result<(), Not> {
        match edit {
            Edit::Write {
                path,
                content,
                size,
                how,
            } => {
                self.make_parents(path)?;
                let verb = match how {
                    How::Append => "APPE",
                    // There is one way to send a whole file.
                    How::InPlace | How::Rename | How::KeepTime => "STOR",
                };
                self.send(&format!("{verb} /{path}"), &content_of(*content, *size))
            }
            Edit::Remove(path) => self.remove(path),
            Edit::Rename(from, to) => {
                self.make_parents(to)?;
                // Its answer is 350: go on.
                if self.0.command(&format!("RNFR /{from}"))?.code != 350 {
                    return Err(Not::Refused);
                }
                self.command(&format!("RNTO /{to}"))
            }
            Edit::MakeFolder(path) => {
                self.make_parents(path)?;
                self.command(&format!("MKD /{path}"))
            }
            Edit::Age(path, seconds) => {
                let now = raspbox_beneath::now().0 / 1_000_000_000;
                let then = jiff::Timestamp::from_second(now - seconds).expect("within some years");
                let then = then.strftime("%Y%m%d%H%M%S");
                self.command(&format!("SITE UTIME {then} /{path}"))
            }
            Edit::Executable(path, on) => {
                let mode = if *on { "755" } else { "644" };
                self.command(&format!("SITE CHMOD {mode} /{path}"))
            }
            // There is no such command.
            Edit::Symlink(..) | Edit::Restore(..) => Err(Not::Refused),
        }
    }

    fn command(&mut self, line: &str) -> Result<(), Not> {
        done(&self.0.command(line)?)
    }

    fn make_parents(&mut self, path: &str) -> Result<(), Not> {
        for (at, _) in path.match_indices('/') {
            // There already, or in the way; what comes next will tell.
            self.0.command(&format!("MKD /{}", &path[..at]))?;
        }
        Ok(())
    }

    fn send(&mut self, line: &str, content: &[u8]) -> Result<(), Not> {
        let mut transfer = self.0.transfer(line, 0)?.map_err(|_| Not::Refused)?;
        transfer.write_all(content)?;
        done(&transfer.finish_upload()?)
    }

    /// Whatever stands there, with all that is in it.
    fn remove(&mut self, path: &str) -> Result<(), Not> {
        if self.command(&format!("DELE /{path}")).is_ok() {
            return Ok(());
        }
        for name in self.names(path)? {
            self.remove(&format!("{path}/{name}"))?;
        }
        self.command(&format!("RMD /{path}"))
    }

    fn names(&mut self, path: &str) -> Result<Vec<String>, Not> {
        let mut transfer = (self.0)
            .transfer(&format!("MLSD /{path}"), 0)?
            .map_err(|_| Not::Refused)?;
        let mut listing = String::new();
        transfer.read_to_string(&mut listing)?;
        done(&transfer.finish_download()?)?;
        // RFC 3659: facts, a space, the name.
        let names = listing.lines().filter_map(|line| line.split_once(' '));
        Ok(names.map(|(_, name)| name.to_owned()).collect())
    }
}

fn done(reply: &Reply) -> Result<(), Not> {
    match reply.is_done() {
        true => Ok(()),
        false => Err(Not::Refused),
    }
}
