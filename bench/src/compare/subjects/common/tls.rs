//! TLS as a peer has it by default, version 1.3 only: the gateway shows its certificate, the vehicle checks it against the
//! authority. Where a gateway has several vehicles, each shows its own, too, and is known by it.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::super::Papers;

/// The gateway's side, for this application protocol.
pub(in crate::compare::subjects) fn server(papers: &Papers, alpn: &[u8]) -> Result<ServerConfig> {
    let [chain, key] = papers.gateway();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?;
    let builder = if papers.is_of_fleet() {
        let authorities = Arc::new(authorities(papers)?);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
        builder.with_client_cert_verifier(verifier.build().context("no authority for vehicles")?)
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_single_cert(certificates(&chain)?, private_key(&key)?)?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

/// The vehicle's side.
pub(in crate::compare::subjects) fn client(papers: &Papers, alpn: &[u8]) -> Result<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(authorities(papers)?);
    let mut config = if papers.is_of_fleet() {
        let [chain, key] = papers.vehicle();
        builder.with_client_auth_cert(certificates(&chain)?, private_key(&key)?)?
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(config)
}

fn authorities(papers: &Papers) -> Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&papers.authority())? {
        authorities.add(authority)?;
    }
    Ok(authorities)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(path).with_context(|| format!("cannot read {}", path.display()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let cannot = || format!("cannot read {}", path.display());
    let certificates = CertificateDer::pem_file_iter(path).with_context(cannot)?;
    certificates.collect::<Result<_, _>>().with_context(cannot)
}
