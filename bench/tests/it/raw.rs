//! A peer that says on a connection whatever a test wants said.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Pair;
use carriageway_proto::frame::{Goodbye, Hello, Welcome};
use carriageway_proto::{Class, Epoch, Frame, PolicyTable, VERSION};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::{Channel, Ended, Event, Lanes};
use carriageway_transport::tls::{self, Authority, Credentials, Pem};
use carriageway_transport::{Connection, quic, websocket};

use crate::wait::PATIENCE;
use crate::world::World;

/// How to come to the gateway.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Quic,
    WebSocket,
}

/// A connection and what it has room for.
pub(crate) struct Raw {
    connection: Box<dyn Connection>,
    room: BTreeSet<Channel>,
    clock: BootClock,
}

/// TLS as `pair`, trusting the world's authority.
pub(crate) fn client_tls(world: &World, pair: &Pair, way: Way) -> rustls::ClientConfig {
    let authority = Authority::new(&Pem::read(&world.folder.path("ca.pem")).unwrap()).unwrap();
    let own = Credentials::new(
        &Pem::from_text("cert", pair.public.as_str()),
        &Pem::from_text("key", pair.private.as_str()),
    )
    .unwrap();
    match way {
        Way::Quic => tls::quic_client(&authority, own).unwrap(),
        Way::WebSocket => tls::tcp_client(&authority, own).unwrap(),
    }
}

impl Raw {
    /// As the vehicle of this name, with a certificate that is good.
    pub(crate) async fn vehicle(world: &World, id: &str, way: Way) -> Self {
        let pair = world.folder.authority().unwrap().vehicle(&id.parse().unwrap(), unix_now()).unwrap();
        Self::dial(world, client_tls(world, &pair, way), way).await.unwrap()
    }

    /// With this TLS; or why there is no connection, in words.
    pub(crate) async fn dial(world: &World, tls: rustls::ClientConfig, way: Way) -> Result<Self, String> {
        let (tls, clock) = (Arc::new(tls), BootClock::system().unwrap());
        let (remote, server_name, bind) = (world.public, "127.0.0.1".to_owned(), None);
        let connection: Box<dyn Connection> = match way {
            Way::Quic => {
                let limits = quic::Limits { handshake: PATIENCE, ..quic::Limits::VEHICLE };
                let (congestion, policies) = (quic::Congestion::Cubic, PolicyTable::defaults());
                let target = quic::Target { remote, server_name, bind, tls, limits, congestion, policies };
                Box::new(quic::dial(&target, clock.clone()).await.map_err(|error| error.to_string())?)
            }
            Way::WebSocket => {
                let target = websocket::Target { remote, server_name, bind, tls, deadline: PATIENCE };
                Box::new(websocket::dial(&target).await.map_err(|error| error.to_string())?)
            }
        };
        Ok(Self { connection, room: BTreeSet::new(), clock })
    }

    /// The channel of this lane.
    pub(crate) fn lane(&self, class: Class) -> Channel {
        match self.connection.capabilities().lanes {
            Lanes::Independent => Channel::Lane(class),
            Lanes::Shared => Channel::Shared,
        }
    }

    /// Says these bytes on this channel; or how the connection ended first.
    pub(crate) async fn say(&mut self, channel: Channel, frame: Bytes) -> Result<(), Ended> {
        while !self.room.remove(&channel) {
            self.event().await?;
        }
        self.connection.start_send(channel, frame);
        Ok(())
    }

    pub(crate) async fn say_frame(&mut self, class: Class, frame: &Frame) -> Result<(), Ended> {
        let frame = frame.encode(self.clock.now());
        self.say(self.lane(class), frame).await
    }

    /// Says signals where this connection carries them.
    pub(crate) async fn say_signals(&mut self, frame: &Frame) -> Result<(), Ended> {
        let datagrams = self.connection.capabilities().datagram.is_some();
        let channel = if datagrams { Channel::Datagram } else { self.lane(Class::Session) };
        self.say(channel, frame.encode(self.clock.now())).await
    }

    /// The next frame; or how the connection ended.
    pub(crate) async fn heard(&mut self) -> Result<Frame, Ended> {
        loop {
            if let Some(frame) = self.event().await? {
                return Ok(Frame::decode(frame).unwrap().1);
            }
        }
    }

    /// Takes in one event; its frame if it is one.
    async fn event(&mut self) -> Result<Option<Bytes>, Ended> {
        let next = poll_fn(|context| self.connection.poll_event(context));
        match tokio::time::timeout(PATIENCE, next).await.expect("the gateway says or does something") {
            Event::Room(channel) => {
                self.room.insert(channel);
                Ok(None)
            }
            Event::Frame(_, frame) => Ok(Some(frame)),
            Event::Ended(ended) => Err(ended),
        }
    }

    /// Says a good hello and gets a welcome.
    pub(crate) async fn greet(&mut self) -> Result<Welcome, Ended> {
        let hello = Hello {
            version: VERSION,
            stamp: self.clock.stamp(),
            session: None,
            epoch: Epoch::NONE,
            received: Vec::new(),
            software: "test".into(),
            reason: "the test says so".into(),
        };
        self.say_frame(Class::Session, &Frame::Hello(hello)).await?;
        loop {
            if let Frame::Welcome(welcome) = self.heard().await? {
                return Ok(welcome);
            }
        }
    }

    /// Listens to the end: the goodbye, if there was one, and how the connection ended.
    pub(crate) async fn listen_to_the_end(&mut self) -> (Option<Goodbye>, Ended) {
        let mut goodbye = None;
        loop {
            match self.heard().await {
                Ok(Frame::Goodbye(said)) => goodbye = Some(said),
                Ok(_) => {}
                Err(ended) => return (goodbye, ended),
            }
        }
    }

    /// Goes on for this long, answering nothing.
    pub(crate) async fn idle(&mut self, time: Duration) {
        let listening = async { while self.heard().await.is_ok() {} };
        // Either end will do.
        let _over = tokio::time::timeout(time, listening).await;
    }
}
