//! QUIC between two ends: one listens and takes the newest connection, the other dials again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, Incoming, ServerConfig, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::End;
use super::super::fleet::Fleet;
use super::meeting::{Newest, again};
use super::tls::{client, server};

/// A handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The last packets may take this long.
const GOODBYE: Duration = Duration::from_millis(500);

/// Connections that may be there at once, for each vehicle, most of them on their way out.
const MOST_CONNECTIONS: usize = 64;

/// What a vehicle shows of itself, as rustls has it.
type Chain = Vec<CertificateDer<'static>>;

/// How both ends of one port are set up.
#[derive(Clone, Debug)]
pub(in crate::compare::subjects) struct Quic {
    /// The application protocol.
    pub(in crate::compare::subjects) alpn: &'static [u8],
    pub(in crate::compare::subjects) transport: Arc<TransportConfig>,
}

impl Quic {
    /// Listens on any port.
    pub(in crate::compare::subjects) fn listen(self, end: &End) -> Result<(Endpoint, u16)> {
        let crypto = QuicServerConfig::try_from(server(&end.papers, self.alpn)?)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config.transport_config(self.transport);
        let endpoint = Endpoint::server(config, end.at(0)).context("cannot listen on UDP")?;
        let port = endpoint.local_addr()?.port();
        Ok((endpoint, port))
    }

    /// The vehicle's end: carries over one connection after another until the run is over.
    pub(in crate::compare::subjects) async fn dial<F>(
        self,
        port: u16,
        end: &End,
        carry: impl Fn(Connection) -> F,
    ) -> Result<()>
    where
        F: Future<Output = Result<()>>,
    {
        let mut config =
            ClientConfig::new(Arc::new(QuicClientConfig::try_from(client(&end.papers, self.alpn)?)?));
        config.transport_config(self.transport);
        let mut endpoint = Endpoint::client(([0, 0, 0, 0], 0).into()).context("cannot open a UDP socket")?;
        endpoint.set_default_client_config(config);
        again(end, || async {
            let connecting = endpoint.connect(end.at(port), &end.host.to_string())?;
            let connection =
                timeout(HANDSHAKE, connecting).await.context("the handshake takes too long")??;
            carry(connection).await
        })
        .await?;
        close(&endpoint).await;
        Ok(())
    }
}

/// The gateway's end: carries over the newest connection of each vehicle until the run is over.
pub(in crate::compare::subjects) async fn serve<F>(
    endpoint: Endpoint,
    fleet: Fleet<Newest>,
    carry: impl Fn(Connection, End) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let end = fleet.any();
    let mut connections = JoinSet::new();
    loop {
        let incoming = tokio::select! {
            () = end.stopped() => break,
            incoming = endpoint.accept() => incoming.context("the endpoint has ended")?,
            Some(ended) = connections.join_next() => {
                // That a connection fails is the vehicle's to notice, who dials again.
                let _failed: Result<()> = ended.context("a connection's task")?;
                continue;
            }
        };
        if connections.len() >= MOST_CONNECTIONS * fleet.len() {
            incoming.refuse();
            continue;
        }
        connections.spawn(accept(incoming, fleet.clone(), carry.clone()));
    }
    close(&endpoint).await;
    Ok(())
}

async fn accept<F>(
    incoming: Incoming,
    fleet: Fleet<Newest>,
    carry: impl Fn(Connection, End) -> F,
) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    let connection = timeout(HANDSHAKE, incoming).await.context("the handshake takes too long")??;
    let chain = connection.peer_identity().and_then(|chain| chain.downcast::<Chain>().ok());
    let (end, newest) = fleet.whose(chain.as_deref().map(Vec::as_slice))?;
    newest.alone(carry(connection, end)).await
}

async fn close(endpoint: &Endpoint) {
    endpoint.close(VarInt::from_u32(0), b"the run is over");
    // Who has not heard it by then notices by itself.
    let _unheard = timeout(GOODBYE, endpoint.wait_idle()).await;
}
