//! `ftp://user@host:port/path`, as people write it.

use super::connection::{Endpoint, Tls};

/// The port of FTP where none is given.
const PORT: u16 = 21;

/// Why a text is no address of an FTP server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Not one of the two schemes.
    #[error("an FTP server is given as ftp://user@host:port/path, or ftps://… with TLS")]
    Scheme,
    /// A password in it.
    #[error(
        "leave the password out of the address: it would stay in the shell's history and show in \
         the list of processes. It is asked for, or read with --password-stdin"
    )]
    Password,
    /// No user.
    #[error("the address has no user: ftp://user@host/path ('anonymous' for none)")]
    User,
    /// The host isn't one.
    #[error("the address has no host, or not a good one")]
    Host,
    /// The port isn't one.
    #[error("the port is a number from 1 to 65535")]
    Port,
    /// A bad `%xx`, or one that makes a control character.
    #[error("the address has a bad %-code, or a control character")]
    Escape,
    /// `.` or `..` as a folder.
    #[error("the path has '.' or '..' in it")]
    Dots,
}

/// Takes an address apart into where to connect (the secret still empty) and the folder there.
///
/// As in RFC 1738, the folder is relative to the one in which the login starts; one that begins
/// with `%2F` is absolute. `ftps` is explicit TLS; the certificate is pinned at first use.
///
/// # Errors
/// See [`UrlError`].
pub fn parse_url(url: &str) -> Result<(Endpoint, String), UrlError> {
    let (tls, rest) = match url.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ftp") => (Tls::Off, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("ftps") => (Tls::FirstUse, rest),
        _ => return Err(UrlError::Scheme),
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (user, place) = authority.rsplit_once('@').ok_or(UrlError::User)?;
    if user.contains(':') {
        return Err(UrlError::Password);
    }
    let user = decode(user)?;
    if user.is_empty() {
        return Err(UrlError::User);
    }
    let (host, port) = match place.strip_prefix('[') {
        Some(place) => place.split_once(']').ok_or(UrlError::Host)?,
        None => place.split_at(place.find(':').unwrap_or(place.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| UrlError::Port)?,
        None if port.is_empty() => PORT,
        None => return Err(UrlError::Port),
    };
    if host.is_empty() || host.contains(|c: char| c.is_control() || c.is_whitespace()) {
        return Err(UrlError::Host);
    }
    if port == 0 {
        return Err(UrlError::Port);
    }
    let path = decode(path)?;
    let absolute = path.starts_with('/');
    let names: Vec<&str> = path.split('/').filter(|name| !name.is_empty()).collect();
    if names.iter().any(|&name| name == "." || name == "..") {
        return Err(UrlError::Dots);
    }
    let folder = format!("{}{}", if absolute { "/" } else { "" }, names.join("/"));
    let endpoint = Endpoint {
        host: host.to_owned(),
        port,
        user,
        secret: String::new(),
        tls,
    };
    Ok((endpoint, folder))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(UrlError::Escape)?;
        let digits = std::str::from_utf8(digits).map_err(|_| UrlError::Escape)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(UrlError::Escape);
        }
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| UrlError::Escape)?);
        rest = after;
    }
    let text = String::from_utf8(bytes).map_err(|_| UrlError::Escape)?;
    if text.chars().any(char::is_control) {
        return Err(UrlError::Escape);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::{Tls, UrlError, parse_url};

    #[test]
    fn addresses_are_taken_apart() {
        let check = |url: &str, tls, user: &str, host: &str, port, folder: &str| {
            let (endpoint, found) = parse_url(url).expect(url);
            assert_eq!(
                (endpoint.tls, endpoint.user.as_str(), endpoint.host.as_str()),
                (tls, user, host),
                "{url}"
            );
            assert_eq!((endpoint.port, found.as_str()), (port, folder), "{url}");
        };
        check("ftp://me@nas", Tls::Off, "me", "nas", 21, "");
        check("FTPS://me@nas:2121/", Tls::FirstUse, "me", "nas", 2121, "");
        check("ftp://a%40b@h/x/y%20z/", Tls::Off, "a@b", "h", 21, "x/y z");
        check("ftp://a@b@h//x", Tls::Off, "a@b", "h", 21, "/x");
        check("ftp://me@h/%2Fsrv//x", Tls::Off, "me", "h", 21, "/srv/x");
        check("ftp://me@[::1]:21/x", Tls::Off, "me", "::1", 21, "x");
    }

    #[test]
    fn what_is_wrong_is_said() {
        let check = |url: &str, expected| assert_eq!(parse_url(url).err(), Some(expected), "{url}");
        check("http://me@h", UrlError::Scheme);
        check("me@h", UrlError::Scheme);
        check("ftp://me:secret@h/", UrlError::Password);
        check("ftp://h/", UrlError::User);
        check("ftp://@h/", UrlError::User);
        check("ftp://me@/", UrlError::Host);
        check("ftp://me@[::1/", UrlError::Host);
        check("ftp://me@h:0", UrlError::Port);
        check("ftp://me@h:x", UrlError::Port);
        check("ftp://me@h:70000", UrlError::Port);
        check("ftp://me@[::1]21", UrlError::Port);
        check("ftp://me@h/%0d%0aDELE", UrlError::Escape);
        check("ftp://me@h/%zz", UrlError::Escape);
        check("ftp://me@h/%+1", UrlError::Escape);
        check("ftp://me@h/a/../b", UrlError::Dots);
        check("ftp://me@h/a/%2e%2e/b", UrlError::Dots);
    }
}
