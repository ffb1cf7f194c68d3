//! Every limit of a QUIC connection, set explicitly: quinn's defaults are made for downloads.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::MAX_DATAGRAM;
use quinn::congestion::{BbrConfig, CubicConfig, NewRenoConfig};
use quinn::{
    EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TransportConfig, ValidationTokenConfig,
    VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{hkdf, hmac};

use super::watched::{Build, Watch};

const KIB: u32 = 1024;

/// The limits of one connection and of the endpoint it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes asked of the kernel for each of a UDP socket's two buffers.
    pub socket_buffer: usize,
    /// Unread bytes that one stream of the peer may send us.
    pub stream_receive_window: u32,
    /// Unread bytes that all streams of the peer may send us.
    pub receive_window: u32,
    /// Bytes of ours that may be unacknowledged.
    pub send_window: u32,
    /// Streams that the peer may have open, bidirectional ones.
    pub bidi_streams: u32,
    /// Streams that the peer may have open, unidirectional ones.
    pub uni_streams: u32,
    /// Bytes of datagrams that may wait to be sent. A few datagrams: conflation happens above.
    pub datagram_send_buffer: usize,
    /// Bytes of datagrams that may wait to be read.
    pub datagram_receive_buffer: usize,
    /// Handshakes under way on one listener, from which on new ones are refused.
    pub handshakes: usize,
    /// Handshakes under way on one listener, from which on a client must first prove its address.
    pub retry_above: usize,
    /// Silence after which each side pings.
    pub keep_alive: Duration,
    /// Silence after which a connection is over.
    pub idle: Duration,
    /// Time from the first packet to the end of the handshake.
    pub handshake: Duration,
    /// Changes of the peer's address that are followed within [`MIGRATION_WINDOW`].
    pub migrations: usize,
}

/// The time in which [`Limits::migrations`] are counted.
pub const MIGRATION_WINDOW: Duration = Duration::from_secs(10);

impl Limits {
    /// The limits of a vehicle's connection, on both sides.
    pub const VEHICLE: Self = Self {
        // A reconnect storm of thousands of handshakes overruns the kernel's default 208 KiB.
        socket_buffer: 4 * 1024 * KIB as usize,
        // Holds one frame of the largest size; with 32-byte frames, stays clear of the 1,024 spans
        // from which on quinn closes the connection.
        stream_receive_window: 64 * KIB,
        // Eight full lanes, so that no lane can use up another's window.
        receive_window: 512 * KIB,
        send_window: 1024 * KIB,
        bidi_streams: 8,
        uni_streams: 8,
        datagram_send_buffer: 4 * KIB as usize,
        datagram_receive_buffer: 64 * KIB as usize,
        handshakes: 2_048,
        retry_above: 512,
        keep_alive: Duration::from_secs(4),
        idle: Duration::from_secs(15),
        handshake: Duration::from_secs(5),
        migrations: 4,
    };
}

/// Who decides how fast a connection may send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Congestion {
    /// RFC 9438; fills the link's queue.
    #[default]
    Cubic,
    /// RFC 9002, section 7.
    NewReno,
    /// quinn's experimental BBRv1: holds its rate under random loss, overshoots at the start.
    Bbr,
}

impl Congestion {
    /// The name, as in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::NewReno => "newreno",
            Self::Bbr => "bbr",
        }
    }

    fn factory(self) -> Build {
        match self {
            Self::Cubic => Arc::new(CubicConfig::default()),
            Self::NewReno => Arc::new(NewRenoConfig::default()),
            Self::Bbr => Arc::new(BbrConfig::default()),
        }
    }
}

/// A text that names no congestion controller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no congestion controller is named {0:?}; there are cubic, newreno, bbr")]
pub struct UnknownCongestion(pub String);

impl FromStr for Congestion {
    type Err = UnknownCongestion;

    fn from_str(text: &str) -> Result<Self, UnknownCongestion> {
        [Self::Cubic, Self::NewReno, Self::Bbr]
            .into_iter()
            .find(|congestion| congestion.name() == text)
            .ok_or_else(|| UnknownCongestion(text.into()))
    }
}

/// A gateway's lasting secret. From it come the keys that make a restarted gateway recognise and
/// reset the connections of its predecessor, instead of leaving vehicles to their idle timeout.
#[derive(Clone)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The secret with these bytes. Keep them across restarts and to the gateway alone.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn key(&self, purpose: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), purpose);
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What quinn is told for each connection.
pub(super) fn transport(limits: &Limits, congestion: Congestion) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let idle = IdleTimeout::try_from(limits.idle).expect("an idle timeout of seconds fits");
    config
        .stream_receive_window(VarInt::from_u32(limits.stream_receive_window))
        .receive_window(VarInt::from_u32(limits.receive_window))
        .send_window(u64::from(limits.send_window))
        // Off, a busy stream keeps its turn and urgent ones no longer overtake it.
        .send_fairness(true)
        .max_concurrent_bidi_streams(VarInt::from_u32(limits.bidi_streams))
        .max_concurrent_uni_streams(VarInt::from_u32(limits.uni_streams))
        .datagram_send_buffer_size(limits.datagram_send_buffer)
        .datagram_receive_buffer_size(Some(limits.datagram_receive_buffer))
        .keep_alive_interval(Some(limits.keep_alive))
        .max_idle_timeout(Some(idle))
        .initial_mtu(1_200)
        .min_mtu(1_200)
        .mtu_discovery_config(Some(MtuDiscoveryConfig::default()))
        .crypto_buffer_size(16 * KIB as usize)
        .congestion_controller_factory(Arc::new(Watch(congestion.factory())));
    Arc::new(config)
}

/// What quinn is told for a gateway's endpoint.
pub(super) fn endpoint(secret: &Secret) -> EndpointConfig {
    let mut config =
        EndpointConfig::new(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &secret.key(b"stateless reset"))));
    let key = secret.key(b"connection id");
    let key = u64::from_le_bytes(*key.first_chunk().expect("a key has 32 bytes"));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
    // A restarted gateway owes each of its vehicles one reset at once. A reset is smaller than the
    // packet that asks for it, so answering often amplifies nothing.
    config.min_reset_interval(Duration::from_millis(1));
    config
}

/// What quinn is told for accepting connections.
pub(super) fn server(
    crypto: Arc<dyn quinn::crypto::ServerConfig>,
    limits: &Limits,
    congestion: Congestion,
    secret: &Secret,
) -> ServerConfig {
    let token_key = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(&secret.key(b"address token"));
    let mut config = ServerConfig::new(crypto, Arc::new(token_key));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    config
        .transport_config(transport(limits, congestion))
        .retry_token_lifetime(Duration::from_secs(10))
        // Tokens for later connections would let a client skip the proof of its address.
        .validation_token_config(tokens)
        .migration(true)
        // Not yet looked at. Beyond it quinn is silent; below it the listener refuses in words.
        .max_incoming(limits.handshakes.max(1))
        // A client's first flight before it is accepted: one certificate request's worth.
        .incoming_buffer_size(u64::from(16 * KIB))
        .incoming_buffer_size_total(u64::from(8 * 1024 * KIB));
    config
}

const _: () = assert!(MAX_DATAGRAM * 3 < Limits::VEHICLE.datagram_send_buffer);

#[cfg(test)]
mod tests {
    use super::*;

    /// quinn has no getters; its `Debug` shows what is in effect.
    #[test]
    fn quinn_holds_the_limits_of_the_table() {
        let shown = format!("{:?}", transport(&Limits::VEHICLE, Congestion::Bbr));
        for effective in [
            "stream_receive_window: 65536",
            "receive_window: 524288",
            "send_window: 1048576",
            "send_fairness: true",
            "max_concurrent_bidi_streams: 8",
            "max_concurrent_uni_streams: 8",
            "datagram_send_buffer_size: 4096",
            "datagram_receive_buffer_size: Some(65536)",
            "keep_alive_interval: Some(4s)",
            "max_idle_timeout: Some(15000)",
        ] {
            assert!(shown.contains(effective), "{effective} is not in effect: {shown}");
        }
    }

    #[test]
    fn congestion_controllers_have_names() {
        for congestion in [Congestion::Cubic, Congestion::NewReno, Congestion::Bbr] {
            assert_eq!(congestion.name().parse(), Ok(congestion));
        }
        assert!("reno".parse::<Congestion>().is_err());
    }

    #[test]
    fn a_secret_gives_each_purpose_a_key_of_its_own_and_stays_secret() {
        let secret = Secret::new([7; 32]);
        assert_eq!(secret.key(b"a"), Secret::new([7; 32]).key(b"a"));
        assert_ne!(secret.key(b"a"), secret.key(b"b"));
        assert_ne!(secret.key(b"a"), Secret::new([8; 32]).key(b"a"));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
