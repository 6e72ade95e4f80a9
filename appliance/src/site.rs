//! SITE commands: what FTP has no verb for. The words are parsed here into types, once.

use crate::accounts::{Account, Who};
use crate::backend::Backend;
use crate::pairing;
use crate::permissions::Permission;
use crate::reply::Trouble;
use crate::stamp::parse_stamp;
use async_trait::async_trait;
use libunftp::options::{Reply, ReplyCode, SiteCommandContext, SiteCommandHandler};
use raspbox_protocol::holds;
use raspbox_protocol::info::Info;
use raspbox_protocol::pairing::Acceptance;
use raspbox_protocol::special::{KNOWN, RequestId, UNKNOWN};
use raspbox_protocol::{Cursor, Digest, Mtime, PROTOCOL_VERSION};
use std::time::SystemTime;

/// The commands, by the word after SITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Site {
    /// `RBX …`: what our client asks for.
    Rbx,
    /// `HASH path`: the BLAKE3 hash of a file's content.
    Hash,
    /// `UTIME`, in two forms: sets a file's time of modification.
    Utime,
    /// `CHMOD mode path`: sets a file's executable bit.
    Chmod,
}

/// All of them, with their words.
pub(crate) const SITES: [(&str, Site); 4] = [
    (raspbox_protocol::special::SITE, Site::Rbx),
    ("HASH", Site::Hash),
    ("UTIME", Site::Utime),
    ("CHMOD", Site::Chmod),
];

/// What our client asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rbx<'a> {
    Version,
    Invite(&'a str),
    Pair(Acceptance, &'a str),
    Unpair,
    Info,
    Result(RequestId),
    Clock,
    Knows(Cursor),
    Holds(Vec<Digest>),
    Part(Digest),
}

#[async_trait]
impl SiteCommandHandler<Backend, Account> for Site {
    async fn handle(&self, context: &SiteCommandContext<Backend, Account>) -> Reply {
        let backend = &*context.storage;
        let Some(account) = context.user.as_ref() else {
            return Reply::new(ReplyCode::NotLoggedIn, "log in first");
        };
        backend.session.touch();
        let arguments = context.arguments.as_str();
        let answer = match self {
            Site::Rbx => rbx(backend, account, arguments).await,
            Site::Hash => hash(backend, account, arguments),
            Site::Utime => utime(backend, account, arguments),
            Site::Chmod => chmod(backend, account, arguments),
        };
        answer.unwrap_or_else(Trouble::reply)
    }
}

type Answer = Result<Reply, Trouble>;

async fn rbx(backend: &Backend, account: &Account, arguments: &str) -> Answer {
    let Some(command) = parse_rbx(arguments) else {
        return Ok(syntax(
            "RBX VERSION | INVITE <user> | PAIR <answer> <name> | UNPAIR | INFO | RESULT <id> | CLOCK | \
             KNOWS <cursor> | HOLDS <digest>… | PART <digest>",
        ));
    };
    if account.who.is_stranger() && !matches!(command, Rbx::Invite(_) | Rbx::Pair(..)) {
        return Err(Trouble::denied());
    }
    match command {
        Rbx::Invite(user) => Ok(okay(pairing::invite(backend, user)?.to_string())),
        Rbx::Pair(answer, name) => Ok(match pairing::accept(backend, &answer, name).await? {
            Some(accepted) => okay(accepted.to_string()),
            None => Reply::new(ReplyCode::NotLoggedIn, "not this user's password"),
        }),
        Rbx::Version => Ok(okay(format!("raspbox {PROTOCOL_VERSION}"))),
        Rbx::Unpair => unpair(backend, account),
        Rbx::Info => {
            account.need(Permission::List)?;
            Ok(okay(info(backend, account)?.to_line()))
        }
        Rbx::Clock => {
            account.need(Permission::List)?;
            Ok(okay(backend.drive().store()?.clock()?.to_string()))
        }
        Rbx::Result(id) => {
            account.need(Permission::List)?;
            match backend.drive().store()?.receipt(id)? {
                Some(receipt) => Ok(okay(receipt.to_string())),
                None => Err(Trouble::unavailable("no such commit")),
            }
        }
        Rbx::Knows(cursor) => {
            account.need(Permission::List)?;
            let known = backend.drive().store()?.knows(cursor)?;
            let known = if known { KNOWN } else { UNKNOWN };
            Ok(okay(known.to_owned()))
        }
        Rbx::Holds(digests) => {
            account.need(Permission::List)?;
            Ok(okay(backend.drive().store()?.holds(&digests)?.to_string()))
        }
        Rbx::Part(whole) => {
            account.need(Permission::Write)?;
            let bytes = backend.drive().store()?.part_bytes(&whole)?;
            Ok(okay(bytes.to_string()))
        }
    }
}

/// What the appliance says of itself and the drive.
pub(crate) fn info(backend: &Backend, account: &Account) -> Result<Info, Trouble> {
    let (now, writable) = (SystemTime::now().into(), account.permissions.can_write());
    Ok(backend.drive().store()?.info(now, writable)?)
}

pub(crate) fn parse_rbx(arguments: &str) -> Option<Rbx<'_>> {
    let (verb, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let rest = rest.trim();
    match verb.to_ascii_uppercase().as_str() {
        "VERSION" if rest.is_empty() => Some(Rbx::Version),
        "INVITE" if !rest.is_empty() => Some(Rbx::Invite(rest)),
        "PAIR" => {
            let (answer, name) = Acceptance::parse_with_name(rest).ok()?;
            Some(Rbx::Pair(answer, name))
        }
        "UNPAIR" if rest.is_empty() => Some(Rbx::Unpair),
        "INFO" if rest.is_empty() => Some(Rbx::Info),
        "CLOCK" if rest.is_empty() => Some(Rbx::Clock),
        "RESULT" => Some(Rbx::Result(rest.parse().ok()?)),
        "KNOWS" => Some(Rbx::Knows(rest.parse().ok()?)),
        "HOLDS" => Some(Rbx::Holds(holds::parse_line(rest)?)),
        "PART" => Some(Rbx::Part(rest.parse().ok()?)),
        _ => None,
    }
}

fn unpair(backend: &Backend, account: &Account) -> Answer {
    let Who::Device(id) = &account.who else {
        return Err(Trouble::unavailable("not a device"));
    };
    let revoked = backend.shared.accounts.revoke(id).map_err(|error| {
        tracing::error!(error = format!("{error:#}"), "cannot unpair");
        Trouble::local("cannot write the list of devices")
    })?;
    if revoked.is_none() {
        return Err(Trouble::unavailable("not paired any more"));
    }
    tracing::info!(session = backend.session.id, device = id, "unpaired");
    // This session ends with the next look at who may stay.
    Ok(okay("unpaired".into()))
}

fn hash(backend: &Backend, account: &Account, arguments: &str) -> Answer {
    account.need(Permission::List)?;
    if arguments.is_empty() {
        return Ok(syntax("HASH <path>"));
    }
    let digest = backend
        .drive()
        .store()?
        .digest(&backend.entry(arguments)?)?;
    Ok(Reply::new_with_string(
        ReplyCode::FileStatus,
        digest.to_string(),
    ))
}

fn utime(backend: &Backend, account: &Account, arguments: &str) -> Answer {
    account.need(Permission::SetTime)?;
    let Some((mtime, path)) = parse_utime(arguments) else {
        return Ok(syntax(
            "UTIME <YYYYMMDDhhmm[ss]> <path> | <path> <atime> <mtime> <ctime> UTC",
        ));
    };
    let path = backend.entry(path)?;
    backend
        .drive()
        .store()?
        .set_mtime(&path, mtime, &account.by)?;
    Ok(okay("time set".into()))
}

/// Both forms in use: pure-ftpd's `YYYYMMDDhhmm[ss] path`, and ProFTPD's
/// `path YYYYMMDDhhmmss YYYYMMDDhhmmss YYYYMMDDhhmmss UTC` (access, modification, change).
pub(crate) fn parse_utime(arguments: &str) -> Option<(Mtime, &str)> {
    parse_utime_of_three(arguments).or_else(|| {
        let (stamp, path) = arguments.split_once(' ')?;
        Some((parse_stamp(stamp)?, path)).filter(|(_, path)| !path.is_empty())
    })
}

fn parse_utime_of_three(arguments: &str) -> Option<(Mtime, &str)> {
    let mut words = arguments.strip_suffix(" UTC")?.rsplitn(4, ' ');
    let mut stamp = || parse_stamp(words.next()?);
    let (_, mtime, _) = (stamp()?, stamp()?, stamp()?);
    Some((mtime, words.next()?)).filter(|(_, path)| !path.is_empty())
}

fn chmod(backend: &Backend, account: &Account, arguments: &str) -> Answer {
    account.need(Permission::ChangeMode)?;
    let Some((executable, path)) = parse_chmod(arguments) else {
        return Ok(syntax("CHMOD <octal mode> <path>"));
    };
    let path = backend.entry(path)?;
    backend
        .drive()
        .store()?
        .set_executable(&path, executable, &account.by)?;
    Ok(okay("mode set".into()))
}

pub(crate) fn parse_chmod(arguments: &str) -> Option<(bool, &str)> {
    let (mode, path) = arguments.split_once(' ')?;
    let good = (3..=4).contains(&mode.len()) && mode.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = u32::from_str_radix(mode, 8).ok()?;
    (good && !path.is_empty()).then_some((mode & 0o100 != 0, path))
}

fn okay(text: String) -> Reply {
    Reply::new_with_string(ReplyCode::CommandOkay, text)
}

fn syntax(usage: &str) -> Reply {
    Reply::new_with_string(
        ReplyCode::ParameterSyntaxError,
        format!("use: SITE {usage}"),
    )
}

#[cfg(test)]
mod tests {
    use super::{Rbx, parse_chmod, parse_rbx, parse_utime};
    use raspbox_protocol::special::RequestId;
    use raspbox_protocol::{Digest, Mtime};

    #[test]
    fn rbx_is_parsed() {
        let id = RequestId([7; 16]);
        assert_eq!(parse_rbx("VERSION"), Some(Rbx::Version));
        assert_eq!(parse_rbx("invite Ann B."), Some(Rbx::Invite("Ann B.")));
        let answer = format!("{} {}", "41".repeat(33), "ab".repeat(32));
        assert_eq!(
            parse_rbx(&format!("pair {answer} Ann's laptop")),
            Some(Rbx::Pair(answer.parse().unwrap(), "Ann's laptop"))
        );
        assert_eq!(parse_rbx("UNPAIR"), Some(Rbx::Unpair));
        assert_eq!(parse_rbx("Info"), Some(Rbx::Info));
        assert_eq!(parse_rbx("clock"), Some(Rbx::Clock));
        assert_eq!(parse_rbx(&format!("RESULT {id}")), Some(Rbx::Result(id)));
        let digests = vec![Digest::of(b"a"), Digest::of(b"b")];
        let line = format!("HOLDS {} {}", digests[0], digests[1]);
        assert_eq!(parse_rbx(&line), Some(Rbx::Holds(digests.clone())));
        let line = format!("part {}", digests[0]);
        assert_eq!(parse_rbx(&line), Some(Rbx::Part(digests[0])));
        for bad in [
            "",
            "PAIR",
            "PAIR ",
            "PAIR Ann's laptop",
            "PAIR 12 34 laptop",
            "INVITE",
            "INVITE ",
            "UNPAIR x",
            "CLOCK x",
            "RESULT",
            "RESULT 12",
            "KNOWS",
            "KNOWS 12",
            "HOLDS",
            "HOLDS 12",
            "PART",
            "PART 12",
            "EVIL",
        ] {
            assert_eq!(parse_rbx(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn utime_has_two_forms() {
        let check = |arguments: &str, expect: Option<(i64, &str)>| {
            let expect = expect.map(|(secs, path)| (Mtime::from_parts(secs, 0), path));
            assert_eq!(parse_utime(arguments), expect, "{arguments:?}");
        };
        check("20010909014640 a b.txt", Some((1_000_000_000, "a b.txt")));
        check("200109090146 /x", Some((999_999_960, "/x")));
        let three = "20200101000000 20010909014640 20200101000000 UTC";
        let with_path = format!("a b.txt {three}");
        check(&with_path, Some((1_000_000_000, "a b.txt")));
        check(
            "20010909014640 London UTC",
            Some((1_000_000_000, "London UTC")),
        );
        for bad in [
            "",
            "x",
            "20010909014640",
            "20010909014640 ",
            "2001 x",
            "20011309014640 x",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn chmod_keeps_the_owners_x() {
        assert_eq!(parse_chmod("755 a b"), Some((true, "a b")));
        assert_eq!(parse_chmod("0644 a"), Some((false, "a")));
        assert_eq!(parse_chmod("611 a"), Some((false, "a")));
        for bad in [
            "", "755", "755 ", "7 a", "75555 a", "+x a", "888 a", "+75 a",
        ] {
            assert_eq!(parse_chmod(bad), None, "{bad:?}");
        }
    }
}
