//! TLS for both transports: version 1.3 only, one crypto provider, no early data, no resumption.
//!
//! Every handshake is a full one, so that an expired certificate or a changed authority holds from
//! the next connection on, and nothing can be replayed.

use std::io;
use std::path::Path;
use std::sync::Arc;

use carriageway_proto::ALPN;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// ALPN of everything on the TCP port.
pub const HTTP_ALPN: &[u8] = b"http/1.1";

/// A PEM text and the name that errors call it by.
#[derive(Clone, Debug)]
pub struct Pem {
    name: String,
    text: Vec<u8>,
}

/// Why TLS cannot be set up. Each names the file and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("cannot read {name}: {source}; check the path and the permissions")]
    Unreadable {
        /// The file.
        name: String,
        /// The operating system's word.
        source: io::Error,
    },
    /// A file that is not PEM.
    #[error("{name} is not PEM: {why}; it must be a text with -----BEGIN ...----- lines")]
    NotPem {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// PEM without a certificate.
    #[error("{name} holds no certificate; it needs a -----BEGIN CERTIFICATE----- section")]
    NoCertificate {
        /// The file.
        name: String,
    },
    /// PEM without a private key.
    #[error("{name} holds no private key; it needs a -----BEGIN PRIVATE KEY----- section")]
    NoKey {
        /// The file.
        name: String,
    },
    /// A certificate that cannot be an authority.
    #[error("{name} holds a certificate that cannot serve as an authority: {why}")]
    BadAuthority {
        /// The file.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// A certificate and a key that do not belong together, or are of an unsupported kind.
    #[error("the certificate {certificate} does not go with the key {key}: {why}; create them together")]
    Mismatch {
        /// The certificate's file.
        certificate: String,
        /// The key's file.
        key: String,
        /// What is wrong.
        why: String,
    },
}

impl Pem {
    /// Reads a file of at most 1 MiB.
    pub fn read(path: &Path) -> Result<Self, TlsError> {
        let name = path.display().to_string();
        let unreadable = |source| TlsError::Unreadable { name: name.clone(), source };
        // More than any chain needs; keeps a mistaken path to a huge file from filling memory.
        if std::fs::metadata(path).map_err(unreadable)?.len() > 1024 * 1024 {
            return Err(unreadable(io::Error::other("larger than 1 MiB")));
        }
        let text = std::fs::read(path).map_err(unreadable)?;
        Ok(Self { name, text })
    }

    /// A text that is at hand, called `name` in errors.
    pub fn from_text(name: impl Into<String>, text: impl Into<Vec<u8>>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(&self.text)
            .collect::<Result<_, _>>()
            .map_err(|e| self.not_pem(&e))?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate { name: self.name.clone() });
        }
        Ok(certificates)
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.text).map_err(|e| match e {
            pem::Error::NoItemsFound => TlsError::NoKey { name: self.name.clone() },
            other => self.not_pem(&other),
        })
    }

    fn not_pem(&self, why: &pem::Error) -> TlsError {
        TlsError::NotPem { name: self.name.clone(), why: why.to_string() }
    }
}

/// The certificate authorities that peers must chain to.
#[derive(Clone, Debug)]
pub struct Authority(Arc<RootCertStore>);

impl Authority {
    /// Every certificate in `pem` is an authority.
    pub fn new(pem: &Pem) -> Result<Self, TlsError> {
        let mut store = RootCertStore::empty();
        for certificate in pem.certificates()? {
            store
                .add(certificate)
                .map_err(|e| TlsError::BadAuthority { name: pem.name.clone(), why: e.to_string() })?;
        }
        Ok(Self(Arc::new(store)))
    }
}

/// Our own certificate chain with its key.
#[derive(Debug)]
pub struct Credentials {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    names: (String, String),
}

impl Credentials {
    /// The chain, own certificate first, and the key of that certificate.
    pub fn new(chain: &Pem, key: &Pem) -> Result<Self, TlsError> {
        let names = (chain.name.clone(), key.name.clone());
        Ok(Self { chain: chain.certificates()?, key: key.key()?, names })
    }

    fn mismatch(&self) -> impl FnOnce(rustls::Error) -> TlsError + use<> {
        let (certificate, key) = self.names.clone();
        move |e| TlsError::Mismatch { certificate, key, why: e.to_string() }
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), names: self.names.clone() }
    }
}

/// The gateway's side of QUIC: a client certificate is mandatory, the ALPN is `carriageway/1`.
pub fn quic_server(authority: &Authority, own: Credentials) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.0.clone(), provider());
    server(verifier.build().expect("an authority holds at least one certificate"), own, ALPN)
}

/// The gateway's side of TCP: a client certificate is optional, for operators come with a token, but
/// one that is presented must chain to the authority. The ALPN is `http/1.1`.
pub fn tcp_server(authority: &Authority, own: Credentials) -> Result<ServerConfig, TlsError> {
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.0.clone(), provider());
    let verifier = verifier.allow_unauthenticated().build();
    server(verifier.expect("an authority holds at least one certificate"), own, HTTP_ALPN)
}

/// The vehicle's side of QUIC.
pub fn quic_client(authority: &Authority, own: Credentials) -> Result<ClientConfig, TlsError> {
    client(authority, own, ALPN)
}

/// The vehicle's side of TCP.
pub fn tcp_client(authority: &Authority, own: Credentials) -> Result<ClientConfig, TlsError> {
    client(authority, own, HTTP_ALPN)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn server(
    verifier: Arc<dyn ClientCertVerifier>,
    own: Credentials,
    alpn: &[u8],
) -> Result<ServerConfig, TlsError> {
    let mismatch = own.mismatch();
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring provides TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_single_cert(own.chain, own.key)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.max_early_data_size = 0;
    config.send_half_rtt_data = false;
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn client(authority: &Authority, own: Credentials, alpn: &[u8]) -> Result<ClientConfig, TlsError> {
    let mismatch = own.mismatch();
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring provides TLS 1.3")
        .with_root_certificates(authority.0.clone())
        .with_client_auth_cert(own.chain, own.key)
        .map_err(mismatch)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The chain that the peer of a TLS connection presented, its own certificate first; empty if it
/// presented none. Complete once the handshake is.
pub fn peer_chain(connection: &rustls::ServerConnection) -> Vec<CertificateDer<'static>> {
    connection.peer_certificates().unwrap_or_default().iter().map(|c| c.clone().into_owned()).collect()
}
