//! Other people's FTP servers, started for a test on a free loopback port over a folder of its own
//! and ended with it.
//!
//! A server that isn't installed is passed over, loudly; where `CI` is `true`, the test fails instead.
//! `.ci/install` installs them all.

// Each test crate uses another part of it.
#![allow(dead_code, unreachable_pub)]

use raspbox::remote::connection::{Endpoint, Tls};
use raspbox::remote::foreign::Foreign;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a server may take to start, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(120);

const LOOPBACK: &str = "127.0.0.1";

/// A server to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Pyftpdlib,
    PyftpdlibTls,
    /// Without MLSD, MLST and MFMT.
    PyftpdlibOld,
    /// Doesn't rename onto a name that is taken.
    PyftpdlibNoOverwrite,
    Vsftpd,
    /// Wants the TLS session of the control connection on each data connection.
    VsftpdTls,
    PureFtpd,
    PureFtpdTls,
    /// Only compared with: `client/bench/install` gets it.
    Proftpd,
    ProftpdTls,
}

/// All that are tested with.
pub const ALL: [Kind; 8] = [
    Kind::Pyftpdlib,
    Kind::PyftpdlibTls,
    Kind::PyftpdlibOld,
    Kind::PyftpdlibNoOverwrite,
    Kind::Vsftpd,
    Kind::VsftpdTls,
    Kind::PureFtpd,
    Kind::PureFtpdTls,
];

/// A running server. Ends when it is dropped.
pub struct Peer {
    pub kind: Kind,
    /// The folder that is synced, as this machine sees it.
    pub folder: PathBuf,
    pub endpoint: Endpoint,
    /// The same folder as the server's clients name it, relative to the login.
    pub base: &'static str,
    child: Child,
    // Removed last.
    _dir: TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Peer {
    /// Ends the server, by the id of the process that was started.
    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The process that was started; some servers start others.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn foreign(&self) -> Foreign {
        Foreign::new(self.endpoint.clone(), self.base)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes a file behind the server's back, readable and writable for it.
    pub fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).expect("written");
        self.give(&self.path(name), 0o644);
    }

    pub fn mkdir(&self, name: &str) {
        fs::create_dir(self.path(name)).expect("made");
        self.give(&self.path(name), 0o755);
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The names in the synced folder, also those that are never shown.
    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.folder).expect("readable");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<String> = entries
            .map(|entry| name(entry).to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    fn give(&self, path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("own files");
        if let Some(owner) = owner(self.kind) {
            chown(path, Some(owner), Some(owner)).expect("this server's test runs as root");
        }
    }
}

/// Starts one; `None` where it isn't installed and may be passed over.
pub fn start(kind: Kind) -> Option<Peer> {
    start_with(kind, &[])
}

/// As [`start`], on another address of this machine; pure-ftpd only.
pub fn start_at(kind: Kind, host: &str) -> Option<Peer> {
    start_as(kind, host, &[])
}

/// As [`start`], with further words for `ftpd.py`.
pub fn start_with(kind: Kind, words: &[&str]) -> Option<Peer> {
    start_as(kind, LOOPBACK, words)
}

fn start_as(kind: Kind, host: &str, words: &[&str]) -> Option<Peer> {
    if !installed(kind) {
        return None;
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("own folder");
    let folder = dir.path().join("data");
    fs::create_dir(&folder).expect("made");
    if let Some(owner) = owner(kind) {
        chown(&folder, Some(owner), Some(owner)).expect("this server's test runs as root");
    }
    let tls = matches!(
        kind,
        Kind::PyftpdlibTls | Kind::VsftpdTls | Kind::PureFtpdTls | Kind::ProftpdTls
    );
    let certificate = tls.then(|| certificate(dir.path()));
    let certificate = certificate.as_deref();
    let (child, port, user, secret, base) = match kind {
        Kind::Pyftpdlib | Kind::PyftpdlibTls | Kind::PyftpdlibOld | Kind::PyftpdlibNoOverwrite => {
            let (child, port) = pyftpdlib(kind, dir.path(), certificate, words);
            (child, port, "me", "secret", "data")
        }
        Kind::Vsftpd | Kind::VsftpdTls => {
            let (child, port) = vsftpd(dir.path(), certificate);
            (child, port, "anonymous", "x", "data")
        }
        Kind::PureFtpd | Kind::PureFtpdTls => {
            let (child, port) = pure_ftpd(dir.path(), host, certificate);
            (child, port, "me", "secret", "data")
        }
        Kind::Proftpd | Kind::ProftpdTls => {
            let (child, port) = proftpd(dir.path(), certificate);
            (child, port, "me", "secret", "data")
        }
    };
    let tls = if tls { Tls::FirstUse } else { Tls::Off };
    Some(Peer {
        kind,
        folder,
        endpoint: Endpoint {
            host: host.into(),
            port,
            user: user.into(),
            secret: secret.into(),
            tls,
        },
        base,
        child,
        _dir: dir,
    })
}

/// Waits for something, with a deadline instead of a guess.
pub fn wait_for(what: &str, max: Duration, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + max;
    while !is_so() {
        assert!(Instant::now() < until, "{what}: not within {max:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn owner(kind: Kind) -> Option<u32> {
    match kind {
        Kind::Pyftpdlib | Kind::PyftpdlibTls | Kind::PyftpdlibOld | Kind::PyftpdlibNoOverwrite => {
            None
        }
        // Both servers give up root for these.
        Kind::Vsftpd | Kind::VsftpdTls => {
            let user = nix::unistd::User::from_name(VSFTPD_USER).expect("readable accounts");
            Some(user.expect("the package's user").uid.as_raw())
        }
        Kind::PureFtpd | Kind::PureFtpdTls | Kind::Proftpd | Kind::ProftpdTls => Some(65534),
    }
}

fn installed(kind: Kind) -> bool {
    let (found, what) = match kind {
        Kind::Pyftpdlib | Kind::PyftpdlibTls | Kind::PyftpdlibOld | Kind::PyftpdlibNoOverwrite => {
            (python().is_some(), "pyftpdlib")
        }
        Kind::Vsftpd | Kind::VsftpdTls => (program("vsftpd").is_some(), "vsftpd"),
        Kind::PureFtpd | Kind::PureFtpdTls => (program("pure-ftpd").is_some(), "pure-ftpd"),
        Kind::Proftpd | Kind::ProftpdTls => (program("proftpd").is_some(), "proftpd"),
    };
    let how = format!("{what} is not installed: run .ci/install as root, and the tests too");
    assert!(
        found || std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "{how}"
    );
    if !found {
        // Past the capture of cargo test.
        let line = format!("\nSKIPPED a test with another's FTP server: {how}\n");
        std::io::stderr().write_all(line.as_bytes()).expect("told");
    }
    found
}

/// A program where `.ci/install` and Debian put it, free of links.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), own_programs()])
        .find_map(|folder| folder.join(name).canonicalize().ok())
}

fn own_programs() -> PathBuf {
    // Of this package, or of `try` below it.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = package
        .ancestors()
        .find(|up| up.join("Cargo.lock").exists());
    workspace.unwrap_or(package).join("target/peers/bin")
}

/// The first Python that has pyftpdlib. Not free of links: one in a virtual environment is its name.
fn python() -> Option<PathBuf> {
    let pythons = [own_programs().join("python3-peers"), "python3".into()];
    pythons.into_iter().find(|python| {
        Command::new(python)
            .args(["-c", "import pyftpdlib, OpenSSL"])
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

/// A self-signed certificate with its key, in one file.
fn certificate(dir: &Path) -> PathBuf {
    let (key, cert) = (dir.join("key.pem"), dir.join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "3650"])
        .args(["-subj", "/CN=peer", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .output()
        .expect("openssl is installed: apt-get install openssl");
    assert!(made.status.success(), "openssl: {made:?}");
    let both = dir.join("both.pem");
    let content = [fs::read(&key), fs::read(&cert)].map(|part| part.expect("made"));
    fs::write(&both, content.concat()).expect("written");
    both
}

fn pyftpdlib(kind: Kind, dir: &Path, certificate: Option<&Path>, words: &[&str]) -> (Child, u16) {
    let mut command = Command::new(python().expect("looked for before"));
    command.args(["-c", include_str!("ftpd.py")]);
    command.arg(dir).args(words);
    if let Some(certificate) = certificate {
        command.arg(format!("tls={}", certificate.display()));
    }
    match kind {
        Kind::PyftpdlibOld => {
            command.arg("old");
        }
        Kind::PyftpdlibNoOverwrite => {
            command.arg("no-overwrite");
        }
        _ => {}
    }
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(log(dir))
        .spawn()
        .expect("python3 starts");
    let mut port = String::new();
    let out = child.stdout.take().expect("piped");
    BufReader::new(out).read_line(&mut port).expect("readable");
    let port = port.trim().parse();
    (child, port.unwrap_or_else(|_| panic!("{}", said(dir))))
}

/// Whom its anonymous logins run as. It must have a home; `apt-get install vsftpd` makes `ftp`.
const VSFTPD_USER: &str = "ftp";

fn vsftpd(dir: &Path, certificate: Option<&Path>) -> (Child, u16) {
    let empty = dir.join("empty");
    fs::create_dir(&empty).expect("made");
    listening(dir, LOOPBACK, |port| {
        let mut config = format!(
            "listen=YES\nlisten_address=127.0.0.1\nlisten_port={port}\nbackground=NO\n\
             anonymous_enable=YES\nlocal_enable=NO\nno_anon_password=NO\nftp_username={}\n\
             anon_root={}\nsecure_chroot_dir={}\nwrite_enable=YES\nanon_upload_enable=YES\n\
             anon_mkdir_write_enable=YES\nanon_other_write_enable=YES\nanon_umask=022\n\
             anon_world_readable_only=NO\nxferlog_enable=NO\nseccomp_sandbox=NO\nisolate=NO\n\
             isolate_network=NO\n",
            VSFTPD_USER,
            dir.display(),
            empty.display(),
        );
        if let Some(certificate) = certificate {
            let certificate = certificate.display();
            config += &format!(
                "ssl_enable=YES\nallow_anon_ssl=YES\nforce_anon_logins_ssl=YES\n\
                 force_anon_data_ssl=YES\nrequire_ssl_reuse=YES\nssl_ciphers=HIGH\n\
                 rsa_cert_file={certificate}\nrsa_private_key_file={certificate}\n"
            );
        }
        let path = dir.join("vsftpd.conf");
        fs::write(&path, config).expect("written");
        let mut command = Command::new(program("vsftpd").expect("looked for before"));
        command.arg(path);
        command
    })
}

fn pure_ftpd(dir: &Path, host: &str, certificate: Option<&Path>) -> (Child, u16) {
    // In usr/sbin, be that the system's or that of an unpacked package.
    let server = program("pure-ftpd").expect("looked for before");
    let pure_pw = server.with_file_name("../bin/pure-pw");
    let (passwords, database) = (dir.join("passwords"), dir.join("passwords.pdb"));
    // pure-pw itself makes hashes that cost each login two seconds.
    let entry = format!(
        "me:{}:65534:65534::{}/./::::::::::::\n",
        hash_of_secret(),
        dir.display()
    );
    fs::write(&passwords, entry).expect("written");
    let made = Command::new(pure_pw)
        .arg("mkdb")
        .arg(&database)
        .arg("-f")
        .arg(&passwords)
        .status();
    assert!(made.expect("pure-pw starts").success(), "pure-pw failed");
    listening(dir, host, |port| {
        let mut command = Command::new(&server);
        command
            .args(["-4", "-H", "-E", "-u", "1", "-U", "133:022", "-S"])
            .arg(format!("{host},{port}"))
            .arg("-l")
            .arg(format!("puredb:{}", database.display()))
            .arg("-g")
            .arg(dir.join("pid"))
            // It takes 50 otherwise.
            .args(["-c", "300"]);
        if let Some(certificate) = certificate {
            command.arg("-Y").arg("2").arg("-2").arg(certificate);
        }
        command
    })
}

fn proftpd(dir: &Path, certificate: Option<&Path>) -> (Child, u16) {
    let server = program("proftpd").expect("looked for before");
    // The script that starts it is in peers/bin, and what was unpacked in peers/proftpd.
    let modules = server.with_file_name("../proftpd/usr/lib/proftpd");
    let passwords = dir.join("passwords");
    let entry = format!(
        "me:{}:65534:65534::{}:/bin/sh\n",
        hash_of_secret(),
        dir.display()
    );
    fs::write(&passwords, entry).expect("written");
    fs::set_permissions(&passwords, fs::Permissions::from_mode(0o600)).expect("own file");
    listening(dir, LOOPBACK, |port| {
        let mut config = format!(
            "ServerType standalone\nServerName peer\nDefaultAddress 127.0.0.1\nPort {port}\nUseIPv6 off\n\
             User nobody\nGroup nogroup\nModulePath {}\nLoadModule mod_tls.c\nAuthOrder mod_auth_file.c\n\
             AuthUserFile {}\nRequireValidShell off\nWtmpLog off\nUseReverseDNS off\nPidFile {}\n\
             ScoreboardFile none\nSystemLog {}\nTransferLog none\nAllowOverwrite on\nUmask 022\n\
             MaxInstances none\n",
            modules.display(),
            passwords.display(),
            dir.join("pid").display(),
            dir.join("log").display(),
        );
        if let Some(certificate) = certificate {
            let certificate = certificate.display();
            config += &format!(
                "TLSEngine on\nTLSRequired on\nTLSOptions NoSessionReuseRequired\n\
                 TLSECCertificateFile {certificate}\nTLSECCertificateKeyFile {certificate}\n"
            );
        }
        let path = dir.join("proftpd.conf");
        fs::write(&path, config).expect("written");
        let mut command = Command::new(&server);
        command.args(["-n", "-q", "-c"]).arg(path);
        command
    })
}

/// As crypt(3) keeps passwords.
fn hash_of_secret() -> String {
    let hash = Command::new("openssl")
        .args(["passwd", "-5", "secret"])
        .output()
        .expect("openssl is installed: apt-get install openssl");
    let hash = String::from_utf8(hash.stdout).expect("text");
    hash.trim().to_owned()
}

/// Whether a server says hello at this port.
fn greets(host: &str, port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect((host, port)) else {
        return false;
    };
    let patience = stream.set_read_timeout(Some(Duration::from_secs(10)));
    patience.is_ok() && std::io::Read::read_exact(&mut stream, &mut [0; 3]).is_ok()
}

/// Starts a server that takes its port from outside: a free one, and another if somebody was
/// faster.
fn listening(dir: &Path, host: &str, command: impl Fn(u16) -> Command) -> (Child, u16) {
    for _ in 0..5 {
        let free = TcpListener::bind((host, 0)).expect("a free port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let mut child = command(port)
            .stdout(log(dir))
            .stderr(log(dir))
            .spawn()
            .expect("it starts");
        let mut ended = false;
        wait_for("the server's start", START_MAX, || {
            let greets = greets(host, port);
            // Where somebody else took the port meanwhile, it is theirs that greets, and ours ends.
            ended = child.try_wait().expect("a child").is_some();
            ended || greets
        });
        if !ended {
            return (child, port);
        }
    }
    panic!("no server came up: {}", said(dir));
}

fn log(dir: &Path) -> fs::File {
    let path = dir.join("log");
    let file = fs::File::options().create(true).append(true).open(path);
    file.expect("own file")
}

fn said(dir: &Path) -> String {
    fs::read_to_string(dir.join("log")).unwrap_or_default()
}
