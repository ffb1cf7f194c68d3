//! Certificates, and a connection in the hands of a test.

use std::collections::{BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::CloseCode;
use carriageway_transport::Connection;
use carriageway_transport::core::connection::{Channel, Ended, Event};
use carriageway_transport::tls::{Authority, Credentials, Pem};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;

/// Longest wait for anything that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate authority of a test.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn authority(&self) -> Authority {
        Authority::new(&Pem::from_text("ca.pem", self.0.pem())).unwrap()
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// PEM texts of a certificate with these subject alternative names, and of its key.
    pub(crate) fn issue_pem(&self, names: Vec<SanType>) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "urn:carriageway:vehicle:by-common-name");
        params.subject_alt_names = names;
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &*self.0).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn issue(&self, names: Vec<SanType>) -> Credentials {
        let (certificate, key) = self.issue_pem(names);
        Credentials::new(&Pem::from_text("own.pem", certificate), &Pem::from_text("own.key", key)).unwrap()
    }

    pub(crate) fn vehicle(&self, id: &str) -> Credentials {
        self.issue(vec![uri(&format!("urn:carriageway:vehicle:{id}"))])
    }

    pub(crate) fn gateway(&self) -> Credentials {
        self.issue(vec![SanType::DnsName("localhost".try_into().unwrap())])
    }
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// A client that trusts `ca` and presents nothing.
pub(crate) fn without_certificate(ca: &Ca, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// A connection, and what it has said so far.
pub(crate) struct Held {
    pub(crate) connection: Box<dyn Connection>,
    pub(crate) room: BTreeSet<Channel>,
    pub(crate) frames: VecDeque<(Channel, Bytes)>,
    pub(crate) ended: Option<Ended>,
    /// Rooms announced for each channel's frames, in order.
    pub(crate) rooms: Vec<Channel>,
}

impl Held {
    pub(crate) fn new(connection: impl Into<Box<dyn Connection>>) -> Self {
        Self {
            connection: connection.into(),
            room: BTreeSet::new(),
            frames: VecDeque::new(),
            ended: None,
            rooms: Vec::new(),
        }
    }

    /// Takes in the next event.
    pub(crate) async fn event(&mut self) {
        assert_eq!(self.ended, None, "nothing comes after the end");
        match poll_fn(|context| self.connection.poll_event(context)).await {
            Event::Room(channel) => {
                assert!(self.room.insert(channel), "room for {channel:?} was announced twice");
                self.rooms.push(channel);
            }
            Event::Frame(channel, frame) => self.frames.push_back((channel, frame)),
            Event::Ended(ended) => self.ended = Some(ended),
        }
    }

    /// Takes in events until `done`.
    pub(crate) async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let wait = async {
            while !done(self) {
                self.event().await;
            }
        };
        let came = timeout(PATIENCE, wait).await.is_ok();
        assert!(came, "waited in vain for {what}; room {:?}, ended {:?}", self.room, self.ended);
    }

    /// Sends one frame as soon as there is room.
    pub(crate) async fn send(&mut self, channel: Channel, frame: impl Into<Bytes>) {
        self.until("room", |held| held.room.contains(&channel)).await;
        self.room.remove(&channel);
        self.connection.start_send(channel, frame.into());
    }

    /// The next frame, on whatever channel.
    pub(crate) async fn frame(&mut self) -> (Channel, Bytes) {
        self.until("a frame", |held| !held.frames.is_empty()).await;
        self.frames.pop_front().unwrap()
    }

    /// Reads until the end, dropping what comes before.
    pub(crate) async fn end(&mut self) -> Ended {
        self.until("the end", |held| held.ended.is_some()).await;
        self.ended.clone().unwrap()
    }

    /// Closes, and takes in everything until the end.
    pub(crate) async fn close(&mut self, code: CloseCode, reason: &str) -> Ended {
        self.connection.close(code, reason);
        self.end().await
    }

    /// How often it is polled while nothing happens, in 300 ms.
    pub(crate) async fn polls_at_rest(&mut self) -> u32 {
        let mut polls = 0;
        let rest = poll_fn(|context| {
            polls += 1;
            self.connection.poll_event(context)
        });
        let event = timeout(Duration::from_millis(300), rest).await;
        assert!(event.is_err(), "not at rest: {event:?}");
        polls
    }
}
