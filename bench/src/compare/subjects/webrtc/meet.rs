//! How two ends meet: over TLS on TCP, as by a service for signalling, each shows the other a card with what WebRTC's session
//! descriptions say of it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use ring::digest;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use str0m::IceCreds;
use str0m::channel::SctpInitData;
use str0m::config::{DtlsCert, Fingerprint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::super::End;
use super::super::common::{Carry, Stream, write_frame};
use super::peer::{Peer, Side};
use super::{HANDSHAKE, crypto, now, talk};

/// Bytes of a card: it has some hundred.
const LARGEST_CARD: usize = 4 * 1024;

/// Who an end is, on all its connections.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) certificate: DtlsCert,
    pub(super) fingerprint: Fingerprint,
}

impl Identity {
    /// From a chain, of which the first certificate counts, and a key. Fails also where DTLS cannot be had.
    pub(super) fn read([chain, key]: [PathBuf; 2]) -> Result<Self> {
        crypto::prove().context("dimpl does not find its cryptography sound")?;
        let cannot = |path: &PathBuf| format!("cannot read {}", path.display());
        let certificate = CertificateDer::from_pem_file(&chain).with_context(|| cannot(&chain))?.to_vec();
        let private_key = PrivateKeyDer::from_pem_file(&key).with_context(|| cannot(&key))?;
        let bytes = digest::digest(&digest::SHA256, &certificate).as_ref().to_vec();
        Ok(Self {
            fingerprint: Fingerprint { hash_func: "sha-256".into(), bytes },
            certificate: DtlsCert { certificate, private_key: private_key.secret_der().to_vec() },
        })
    }
}

/// What one end says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Card {
    ice: IceCreds,
    fingerprint: String,
    /// The chunk that would begin SCTP's handshake, in base 64.
    sctp: String,
}

/// What one end keeps while its card is shown.
#[derive(Debug)]
pub(super) struct Own {
    pub(super) ice: IceCreds,
    pub(super) sctp: SctpInitData,
}

/// What is known of the other end.
#[derive(Debug)]
pub(super) struct Other {
    pub(super) ice: IceCreds,
    pub(super) fingerprint: Fingerprint,
}

impl Own {
    /// For one connection, with the card that goes with it.
    pub(super) fn draw(identity: &Identity) -> Result<(Self, Card)> {
        let mut own = Self { ice: IceCreds::new(), sctp: SctpInitData::new() };
        let sctp = own.sctp.local_init_string().context("SCTP")?;
        let card = Card { ice: own.ice.clone(), fingerprint: identity.fingerprint.to_string(), sctp };
        Ok((own, card))
    }

    /// Takes what the other end says of itself.
    pub(super) fn take(&mut self, card: Card) -> Result<Other> {
        self.sctp.set_remote_init_string(&card.sctp).context("the other end's card: SCTP")?;
        let Ok(fingerprint) = card.fingerprint.parse() else {
            bail!("the other end's card: {:?} is no fingerprint", card.fingerprint)
        };
        Ok(Other { ice: card.ice, fingerprint })
    }
}

async fn show(stream: &mut (impl AsyncWrite + Unpin), card: &Card) -> Result<()> {
    write_frame(stream, &serde_json::to_vec(card)?).await
}

async fn look(stream: &mut (impl AsyncRead + Unpin)) -> Result<Card> {
    let length = stream.read_u32().await.context("no card comes")? as usize;
    if length > LARGEST_CARD {
        bail!("a card of {length} bytes was announced; none is as long");
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.context("a card ends early")?;
    serde_json::from_slice(&bytes).context("what came is no card")
}

/// The vehicle's part.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) identity: Arc<Identity>,
    /// Where the gateway listens on UDP: its only candidate.
    pub(super) gateway: SocketAddr,
}

impl Offer {
    async fn meet(&self, stream: &mut Stream, local: SocketAddr) -> Result<Peer> {
        let (mut own, card) = Own::draw(&self.identity)?;
        show(stream, &card).await?;
        let other = own.take(look(stream).await?)?;
        Peer::new(Side::Vehicle { gateway: self.gateway }, local, &self.identity, own, other, now())
    }
}

impl Carry for Offer {
    async fn carry(self, mut stream: Stream, end: End) -> Result<()> {
        // On all addresses: a vehicle that changes to another network goes on from there.
        let socket = UdpSocket::bind(("0.0.0.0", 0)).await.context("cannot open a UDP socket")?;
        let host = stream.get_ref().0.local_addr()?.ip();
        let local = SocketAddr::new(host, socket.local_addr()?.port());
        let met = timeout(HANDSHAKE, self.meet(&mut stream, local)).await;
        let mut peer = met.context("the meeting takes too long")??;
        drop(stream);
        talk(&mut peer, &socket, &end).await
    }
}

/// The gateway's part.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) identity: Arc<Identity>,
    /// Where it listens on UDP.
    pub(super) local: SocketAddr,
    /// Who was met goes here.
    pub(super) met: mpsc::Sender<Peer>,
}

impl Answer {
    async fn meet(&self, stream: &mut Stream) -> Result<()> {
        let (mut own, card) = Own::draw(&self.identity)?;
        let other = own.take(look(stream).await?)?;
        let peer = Peer::new(Side::Gateway, self.local, &self.identity, own, other, now())?;
        // Before the answer: what the vehicle then sends is awaited already.
        self.met.send(peer).await.context("nobody works on connections any more")?;
        show(stream, &card).await
    }
}

impl Carry for Answer {
    async fn carry(self, mut stream: Stream, _end: End) -> Result<()> {
        let met: Result<Result<()>, _> = timeout(HANDSHAKE, self.meet(&mut stream)).await;
        met.context("the meeting takes too long")?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_card_comes_as_it_was_shown_and_nothing_else_is_taken_for_one() {
        let card = Card {
            ice: IceCreds::new(),
            fingerprint: "sha-256 0A:FF".into(),
            sctp: SctpInitData::new().local_init_string().unwrap(),
        };
        let mut wire = Vec::new();
        show(&mut wire, &card).await.unwrap();
        let seen = look(&mut wire.as_slice()).await.unwrap();
        assert_eq!((&seen.ice, &seen.sctp), (&card.ice, &card.sctp));
        assert_eq!(seen.fingerprint, card.fingerprint);
        for wrong in [&wire[..wire.len() - 1], b"\0\0\0\x02{}", &[0xff; 8], b""] {
            assert!(look(&mut &*wrong).await.is_err(), "{wrong:?}");
        }
        let long = [&(LARGEST_CARD as u32 + 1).to_be_bytes(), wire.as_slice()].concat();
        let why = look(&mut long.as_slice()).await.unwrap_err().to_string();
        assert!(why.contains("announced"), "{why}");
    }

    #[test]
    fn a_card_with_nonsense_on_it_is_refused() {
        let whole = Card {
            ice: IceCreds::new(),
            fingerprint: "sha-256 0A:FF".into(),
            sctp: SctpInitData::new().local_init_string().unwrap(),
        };
        let taken = |card| Own { ice: IceCreds::new(), sctp: SctpInitData::new() }.take(card);
        assert_eq!(taken(whole.clone()).unwrap().fingerprint.bytes, [0x0a, 0xff]);
        assert!(taken(Card { fingerprint: "sha-256 XY".into(), ..whole.clone() }).is_err());
        assert!(taken(Card { sctp: "!".into(), ..whole }).is_err());
    }
}
