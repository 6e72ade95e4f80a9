//! What a server says that it can do.

use super::RemoteError;
use super::connection::Connection;
use super::control::Control;

/// What a server offers beyond RFC 959, as its `FEAT` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `MLSD` and `MLST`: listings that programs can read.
    pub mlst: bool,
    /// `MFMT`: setting a file's time.
    pub mfmt: bool,
    /// `MDTM`: a file's time to the second.
    pub mdtm: bool,
    /// `SIZE`.
    pub size: bool,
    /// `REST STREAM`: taking up a cut transfer.
    pub rest: bool,
    /// Names in UTF-8.
    pub utf8: bool,
    /// `SITE UTIME`: another way of setting a file's time.
    pub utime: bool,
    /// Whether listings must be asked to tell type, size and time.
    pub mlst_facts_off: bool,
}

impl Features {
    /// Asks a server.
    ///
    /// # Errors
    /// Where the connection is lost. A server without `FEAT` offers nothing.
    pub fn ask(connection: &mut Connection) -> Result<Features, RemoteError> {
        let reply = connection.command("FEAT")?;
        Ok(if reply.is_done() {
            Features::parse(&reply.text)
        } else {
            Features::default()
        })
    }

    /// Reads the lines of an answer to `FEAT` (RFC 2389).
    #[must_use]
    pub fn parse(text: &str) -> Features {
        let mut features = Features::default();
        for line in text.lines().filter(|line| line.starts_with(' ')) {
            let line = line.trim().to_ascii_uppercase();
            let (name, value) = line.split_once(' ').unwrap_or((&line, ""));
            match name {
                "MLST" => {
                    features.mlst = true;
                    let on = |fact: &str| value.contains(&format!("{fact}*"));
                    features.mlst_facts_off = !["TYPE", "SIZE", "MODIFY"].into_iter().all(on);
                }
                "MLSD" => features.mlst = true,
                "MFMT" => features.mfmt = true,
                "MDTM" => features.mdtm = true,
                "SIZE" => features.size = true,
                "REST" => features.rest = value.contains("STREAM"),
                "UTF8" => features.utf8 = true,
                "SITE" => features.utime = value.contains("UTIME"),
                _ => {}
            }
        }
        features
    }
}

#[cfg(test)]
mod tests {
    use super::Features;

    #[test]
    fn features_are_read() {
        let all = Features::parse(
            "211-Features:\r\n MDTM\r\n MFMT\r\n MLST type*;size*;modify*;unique;\r\n \
             REST STREAM\r\n SIZE\r\n TVFS\r\n UTF8\r\n SITE UTIME\r\n211 End",
        );
        let expected = Features {
            mlst: true,
            mfmt: true,
            mdtm: true,
            size: true,
            rest: true,
            utf8: true,
            utime: true,
            mlst_facts_off: false,
        };
        assert_eq!(all, expected);
        let off = Features::parse("211-x\r\n MLST Type;Size*;Modify*;\r\n211 End");
        assert!(off.mlst && off.mlst_facts_off && !off.size);
        assert_eq!(Features::parse("211 none"), Features::default());
    }
}
