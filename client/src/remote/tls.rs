//! TLS for self-signed servers: a certificate is trusted because it is the pinned one.
//!
//! No chain and no expiry is looked at: the appliance signs its own certificate and has no clock.
//! The handshake's signatures are checked as always, so that only the owner of the pinned
//! certificate's key gets through.

use super::Digest256;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls::{SupportedProtocolVersion, version};
use sha2::{Digest as _, Sha256};
use std::sync::{Arc, Mutex, PoisonError};

/// Which versions of TLS are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// 1.3 and 1.2.
    Both,
    /// 1.2 only. Servers that want each data connection to resume the control connection's session
    /// (vsftpd, proftpd) can be satisfied with it as often as needed; the tickets of 1.3 are used up
    /// one by one, and an upload never reads the new ones.
    Tls12,
}

/// Accepts one certificate: the pinned one, or the first one that is seen.
#[derive(Debug)]
pub struct Pin {
    provider: Arc<CryptoProvider>,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    pinned: Option<Digest256>,
    other: Option<Digest256>,
}

impl Pin {
    /// A pin to this fingerprint; `None` pins the first one seen.
    #[must_use]
    pub fn new(pinned: Option<Digest256>) -> Arc<Pin> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let seen = Seen {
            pinned,
            other: None,
        };
        Arc::new(Pin {
            provider,
            seen: Mutex::new(seen),
        })
    }

    /// The certificate that was accepted or is pinned.
    pub fn fingerprint(&self) -> Option<Digest256> {
        self.seen().pinned
    }

    /// The pinned certificate and the other one that was refused, if that happened.
    pub fn mismatch(&self) -> Option<(Digest256, Digest256)> {
        let seen = self.seen();
        seen.pinned.zip(seen.other)
    }

    /// A configuration that trusts what this pin accepts. To be kept for all of a control
    /// connection's data connections, so that they resume its session.
    ///
    /// # Panics
    /// Never: the library has ciphers for both versions.
    pub fn config(self: &Arc<Pin>, offer: Offer) -> Arc<ClientConfig> {
        let versions: &[&SupportedProtocolVersion] = match offer {
            Offer::Both => &[&version::TLS13, &version::TLS12],
            Offer::Tls12 => &[&version::TLS12],
        };
        let pin: Arc<dyn ServerCertVerifier> = self.clone();
        let config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(versions)
            .expect("ring has suites for both versions")
            .dangerous()
            .with_custom_certificate_verifier(pin)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ServerCertVerifier for Pin {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = Digest256(Sha256::digest(end_entity).into());
        let mut seen = self.seen();
        if *seen.pinned.get_or_insert(shown) == shown {
            Ok(ServerCertVerified::assertion())
        } else {
            seen.other = Some(shown);
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
