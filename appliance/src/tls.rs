//! The appliance's certificate, and a TLS configuration for each session.

use crate::session::Session;
use crate::state::StateDir;
use anyhow::Context;
use raspbox_protocol::Digest;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, date_time_ymd};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::Ticketer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig, SupportedCipherSuite};
use std::sync::Arc;

const CERT_FILE: &str = "tls/cert.pem";
const KEY_FILE: &str = "tls/key.pem";

/// The certificate with its key, and how to use them on this machine.
#[derive(Debug)]
pub(crate) struct Identity {
    key: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    /// The SHA-256 of the certificate (DER).
    pub(crate) fingerprint: [u8; 32],
    /// What the salts of users that don't exist are made with: they must be the same each time that
    /// somebody asks, and look like any.
    pub(crate) stranger_salts: [u8; 32],
}

impl Identity {
    /// Reads the certificate of a state directory, or makes it at first.
    ///
    /// The key is written first: a certificate whose key was lost to a power cut would lock out
    /// every client that has pinned it.
    pub(crate) fn open(dir: &StateDir) -> anyhow::Result<Identity> {
        StateDir::open(dir.path("tls"))?;
        let found = (dir.read(CERT_FILE)?, dir.read(KEY_FILE)?);
        let (cert, key) = match found {
            (Some(cert), Some(key)) => (cert, key),
            (Some(_), None) => anyhow::bail!(
                "{} is there, but its key {} isn't: put the key back, or remove the certificate \
                 (then every device has to be paired again)",
                dir.path(CERT_FILE).display(),
                dir.path(KEY_FILE).display()
            ),
            (None, _) => {
                let (cert, key) = make().context("cannot make a certificate")?;
                dir.write(KEY_FILE, key.as_bytes())?;
                dir.write(CERT_FILE, cert.as_bytes())?;
                (cert, key)
            }
        };
        let cert = CertificateDer::from_pem_slice(cert.as_bytes())
            .with_context(|| format!("{} is no certificate", dir.path(CERT_FILE).display()))?;
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
            .with_context(|| format!("{} is no key", dir.path(KEY_FILE).display()))?;
        let provider = Arc::new(provider());
        let fingerprint = fingerprint(&cert);
        let context = "raspbox pairing 2026-11: salts of users that don't exist";
        let stranger_salts = blake3::derive_key(context, key.secret_der());
        let key = CertifiedKey::from_der(vec![cert], key, &provider)
            .with_context(|| format!("cannot use {}", dir.path(CERT_FILE).display()))?;
        Ok(Identity {
            key: Arc::new(key),
            provider,
            fingerprint,
            stranger_salts,
        })
    }

    /// The fingerprint as people see it: lower-case hex digits.
    pub(crate) fn fingerprint_text(&self) -> String {
        Digest::from_bytes(self.fingerprint).to_string()
    }

    /// The TLS configuration of one session, which counts the handshakes.
    ///
    /// Its data connections can resume what the control connection agreed on, which saves both sides the
    /// dearest part of each handshake. Nobody else can: the key of the tickets is this session's.
    pub(crate) fn server_config(&self, session: &Arc<Session>) -> Arc<ServerConfig> {
        let resolver = CountingResolver {
            key: Arc::clone(&self.key),
            session: Arc::clone(session),
        };
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("ring has suites for both versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(resolver));
        config.session_storage = Arc::new(NoServerSessionStorage {});
        // Without randomness for a key there are none.
        if let Ok(tickets) = Ticketer::new() {
            let session = Arc::clone(session);
            config.ticketer = Arc::new(ControlTickets { tickets, session });
        }
        config.send_tls13_tickets = TICKETS;
        // Our order of ciphers counts: only we know whether this machine has AES instructions.
        config.ignore_client_order = true;
        Arc::new(config)
    }
}

/// How many data connections a client that uses each ticket of TLS 1.3 once can resume.
const TICKETS: usize = 4;

/// rustls asks it in each handshake, a resumed one included.
#[derive(Debug)]
struct CountingResolver {
    key: Arc<CertifiedKey>,
    session: Arc<Session>,
}

impl ResolvesServerCert for CountingResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.session.on_handshake();
        Some(Arc::clone(&self.key))
    }
}

/// Tickets that only the control connection is given.
///
/// TLS 1.3 sends them after the handshake. Whoever uploads closes its data connection without having read
/// them, and the kernel answers that with a reset, which can take the end of the upload with it.
#[derive(Debug)]
struct ControlTickets {
    tickets: Arc<dyn ProducesTickets>,
    session: Arc<Session>,
}

impl ProducesTickets for ControlTickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.tickets.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        if self.session.has_data_handshakes() {
            return None;
        }
        self.tickets.encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.tickets.decrypt(cipher)
    }
}

fn make() -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(vec!["raspbox.local".into(), "localhost".into()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "raspbox");
    // A Pi has no clock of its own: a certificate made in 1970 must be good today, and the other
    // way round. It is trusted for its fingerprint, not for its dates.
    params.not_before = date_time_ymd(1970, 1, 1);
    params.not_after = date_time_ymd(9999, 12, 31);
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// ring, with the ciphers first that this machine is fast at.
fn provider() -> CryptoProvider {
    let mut provider = rustls::crypto::ring::default_provider();
    if !has_aes() {
        // Without AES instructions (Pi 4 and older) ChaCha20 is several times as fast.
        provider
            .cipher_suites
            .sort_by_key(|suite| !is_chacha(suite));
    }
    provider
}

fn is_chacha(suite: &SupportedCipherSuite) -> bool {
    matches!(
        suite.suite(),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "aarch64", target_arch = "x86_64", target_arch = "x86")))]
fn has_aes() -> bool {
    false
}

/// The SHA-256 of these bytes.
fn fingerprint(cert: &CertificateDer<'_>) -> [u8; 32] {
    let digest = rustls::crypto::ring::default_provider()
        .cipher_suites
        .iter()
        .find_map(|suite| match suite.tls13()?.common.hash_provider {
            hash if hash.algorithm() == rustls::crypto::hash::HashAlgorithm::SHA256 => {
                Some(hash.hash(cert))
            }
            _ => None,
        })
        .expect("ring has a TLS 1.3 suite with SHA-256");
    digest.as_ref().try_into().expect("a SHA-256 is 32 bytes")
}

#[cfg(test)]
mod tests {
    use super::{CERT_FILE, Identity, KEY_FILE};
    use crate::state::StateDir;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_certificate_is_made_once_and_kept() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(temp.path().join("state")).unwrap();
        let first = Identity::open(&dir).unwrap();
        assert_eq!(first.fingerprint_text().len(), 64);
        let again = Identity::open(&dir).unwrap();
        assert_eq!(again.fingerprint, first.fingerprint);
        assert_eq!(again.stranger_salts, first.stranger_salts);
        let mode = |name| {
            std::fs::metadata(dir.path(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode(CERT_FILE), mode(KEY_FILE)), (0o600, 0o600));
        assert_eq!((mode("tls"), mode("")), (0o700, 0o700));

        std::fs::remove_file(dir.path(KEY_FILE)).unwrap();
        let error = Identity::open(&dir).unwrap_err().to_string();
        assert!(error.contains("key.pem"), "{error}");
    }

    #[test]
    fn the_fingerprint_is_that_of_sha256() {
        let hello = rustls::pki_types::CertificateDer::from(b"hello".to_vec());
        assert_eq!(
            raspbox_protocol::Digest::from_bytes(super::fingerprint(&hello)).to_string(),
            "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
        );
    }
}
