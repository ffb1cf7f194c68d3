//! Where the gateway is, and how an operator's program gets there.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, ensure};
use axum::http::Uri;
use carriageway_proto::VehicleId;
use carriageway_transport::tls::HTTP_ALPN;
use carriageway_transport::websocket;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A vehicle at a gateway, and who asks.
#[derive(Clone)]
pub struct Place {
    /// The gateway's name and port, as in its URL.
    pub authority: String,
    /// The vehicle.
    pub vehicle: VehicleId,
    /// The operator's token.
    pub token: String,
    host: String,
    port: u16,
    tls: TlsConnector,
}

impl Place {
    /// The place of `vehicle` at the gateway of `url` (`https://host:port`), whose certificate chains to
    /// the authority in the PEM file `ca`.
    pub fn new(url: &str, vehicle: VehicleId, token: &str, ca: &Path) -> Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
        ensure!(uri.scheme_str() == Some("https"), "{url:?} must begin with https://");
        let host =
            uri.host().ok_or_else(|| anyhow!("{url:?} names no host"))?.trim_matches(['[', ']']).into();
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let mut roots = RootCertStore::empty();
        let unreadable = || format!("cannot read the authority's certificate {}", ca.display());
        for certificate in CertificateDer::pem_file_iter(ca).with_context(unreadable)? {
            roots.add(certificate.with_context(unreadable)?)?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13])?;
        let mut tls = builder.with_root_certificates(roots).with_no_client_auth();
        tls.alpn_protocols = vec![HTTP_ALPN.to_vec()];
        let (port, tls) = (uri.port_u16().unwrap_or(443), TlsConnector::from(Arc::new(tls)));
        Ok(Self { authority, vehicle, token: token.trim().into(), host, port, tls })
    }

    /// A connection to the gateway.
    pub async fn dial(&self) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.host.clone())
            .with_context(|| format!("{:?} is no server's name", self.host))?;
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = tcp.with_context(|| format!("nobody answers at {}", self.authority))?;
        // Not for long can it keep control that newer control should overtake, or a peer that is gone.
        websocket::tune(&tcp)?;
        self.tls.connect(name, tcp).await.with_context(|| format!("no TLS with {}", self.authority))
    }
}
