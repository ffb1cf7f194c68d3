//! TLS as a peer has it by default, version 1.3 only: the gateway shows its certificate, the vehicle checks it against the
//! authority.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::super::Papers;

/// The gateway's side, for this application protocol.
pub(in crate::compare::subjects) fn server(papers: &Papers, alpn: &[u8]) -> Result<ServerConfig> {
    let [chain, key] = papers.gateway();
    let key = PrivateKeyDer::from_pem_file(&key).with_context(|| format!("cannot read {}", key.display()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(certificates(&chain)?, key)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The vehicle's side.
pub(in crate::compare::subjects) fn client(papers: &Papers, alpn: &[u8]) -> Result<ClientConfig> {
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&papers.authority())? {
        authorities.add(authority)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let cannot = || format!("cannot read {}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).with_context(cannot)?;
    certificates.collect::<Result<_, _>>().with_context(cannot)
}
