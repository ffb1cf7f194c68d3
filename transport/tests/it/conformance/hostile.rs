//! Peers that break the protocol lose their connection and nothing else.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::frame::{Ack, Hello};
use carriageway_proto::{Class, CloseCode, Epoch, Frame, SessionId, VERSION};
use carriageway_transport::Connection;
use carriageway_transport::core::connection::{Channel, Ended, Event, Lanes};
use carriageway_transport::link::{self, Config, Happening};
use carriageway_transport::lobby::{self, Greeted, NotGreeted};

use super::rig::{PATIENCE, Rig};

/// A peer that says what it wants, frame by frame.
struct Raw {
    connection: Box<dyn Connection>,
    has_room: bool,
}

impl Raw {
    fn session_channel(&self) -> Channel {
        match self.connection.capabilities().lanes {
            Lanes::Independent => Channel::Lane(Class::Session),
            Lanes::Shared => Channel::Shared,
        }
    }

    async fn event(&mut self) -> Event {
        let next = poll_fn(|context| self.connection.poll_event(context));
        tokio::time::timeout(PATIENCE, next).await.expect("an event within the suite's patience")
    }

    /// Sends bytes where hello, heartbeats and goodbye go.
    async fn say(&mut self, bytes: Bytes) {
        let channel = self.session_channel();
        while !self.has_room {
            self.has_room = self.event().await == Event::Room(channel);
        }
        self.has_room = false;
        self.connection.start_send(channel, bytes);
    }

    /// Says hello and has it read in the lobby.
    async fn greet(
        &mut self,
        there: Box<dyn Connection>,
        rig: &Rig,
        hello: Bytes,
    ) -> Result<Greeted, NotGreeted> {
        self.say(hello).await;
        let channel = self.session_channel();
        let handed_on = async {
            while !self.has_room {
                self.has_room = self.event().await == Event::Room(channel);
            }
        };
        tokio::join!(lobby::greet(there, &rig.clock, PATIENCE), handed_on).0
    }

    /// Waits for the welcome; room announced before it stays good.
    async fn welcomed(&mut self) {
        loop {
            match self.event().await {
                Event::Frame(_, bytes) => {
                    assert!(matches!(Frame::decode(bytes), Ok((_, Frame::Welcome(_)))));
                    return;
                }
                Event::Room(channel) if channel == self.session_channel() => self.has_room = true,
                Event::Room(_) => {}
                Event::Ended(ended) => panic!("{ended}"),
            }
        }
    }

    /// The frames that come in until the end, and the end.
    async fn rest(&mut self) -> (Vec<Frame>, Ended) {
        let mut frames = Vec::new();
        loop {
            match self.event().await {
                Event::Frame(_, bytes) => frames.push(Frame::decode(bytes).unwrap().1),
                Event::Room(_) => {}
                Event::Ended(ended) => return (frames, ended),
            }
        }
    }
}

fn hello(rig: &Rig, version: u32, session: Option<SessionId>) -> Bytes {
    let stamp = rig.clock.stamp();
    let (software, reason) = ("test".into(), "test".into());
    let hello =
        Hello { version, stamp, session, epoch: Epoch::new(1), received: Vec::new(), software, reason };
    Frame::Hello(hello).encode(stamp.clock)
}

/// Garbage, oversized frames and frames out of place: closed as a violation; the session resumes.
pub(super) async fn garbage_costs_the_connection_not_the_session(rig: &Rig) {
    let lane = |sequence| Frame::Lane { class: Class::Body, sequence, payload: Bytes::new() };
    let now = rig.clock.now();
    let offences = [
        Bytes::from_static(b"\xff\xff\xff not protobuf at all"),
        Bytes::from(vec![0x4a; 5_000]),
        hello(rig, VERSION, None),
        Frame::Open(Class::Body).encode(now),
        lane(5).encode(now),
        Bytes::from_static(&[]),
    ];
    let mut world = rig.session().await;
    let id = SessionId::from_bytes([7; 16]);
    for offence in offences {
        // An empty frame cannot be handed to a stream, whose lengths start at one.
        if offence.is_empty() {
            continue;
        }
        let (here, there, _fault) = rig.pair().await;
        let mut raw = Raw { connection: here, has_room: false };
        let greeted = raw.greet(there, rig, hello(rig, VERSION, Some(id))).await.unwrap();
        assert!(world.far.link.attach(greeted).is_ok());
        raw.say(offence.clone()).await;
        let (_, ended) = raw.rest().await;
        let code = match ended {
            Ended::ByPeer { code, .. } => code,
            Ended::ByUs | Ended::Failed(_) => panic!("{offence:?}: {ended}"),
        };
        assert_eq!(code, CloseCode::ProtocolViolation, "{offence:?}");
    }
    world.near.link.send(Class::Body, Bytes::from_static(b"still here"), None).unwrap();
    assert_eq!(world.far.message().await.1, "still here");
}

/// No version in common: refused in the lobby with the code that stops a peer.
pub(super) async fn another_version_is_refused(rig: &Rig) {
    let (here, there, _fault) = rig.pair().await;
    let mut raw = Raw { connection: here, has_room: false };
    raw.say(hello(rig, 99, None)).await;
    let (greeted, (frames, ended)) = tokio::join!(lobby::greet(there, &rig.clock, PATIENCE), raw.rest());
    assert!(matches!(greeted, Err(NotGreeted::Version(_))));
    let said: Vec<CloseCode> = frames
        .into_iter()
        .filter_map(|frame| if let Frame::Goodbye(goodbye) = frame { Some(goodbye.code) } else { None })
        .collect();
    assert!(said.iter().all(|code| *code == CloseCode::VersionMismatch));
    let closed = matches!(ended, Ended::ByPeer { code: CloseCode::VersionMismatch, .. });
    assert!(closed, "{ended:?}");
    assert!(!CloseCode::VersionMismatch.reconnects());
}

/// A connection that says nothing is not kept.
pub(super) async fn silence_in_the_lobby_ends(rig: &Rig) {
    let (here, there, _fault) = rig.pair().await;
    let mut raw = Raw { connection: here, has_room: false };
    let deadline = Duration::from_millis(50);
    let (greeted, (_, ended)) = tokio::join!(lobby::greet(there, &rig.clock, deadline), raw.rest());
    assert!(matches!(greeted, Err(NotGreeted::Silent(_))));
    assert!(matches!(ended, Ended::ByPeer { code: CloseCode::HandshakeTimeout, .. }), "{ended:?}");
}

/// A peer cannot settle what was never sent to it.
pub(super) async fn acks_of_the_unsent_are_refused(rig: &Rig) {
    let (here, there, _fault) = rig.pair().await;
    let mut raw = Raw { connection: here, has_room: false };
    let greeted = raw.greet(there, rig, hello(rig, VERSION, None)).await.unwrap();
    let (id, epoch) = (SessionId::from_bytes([9; 16]), Epoch::new(2));
    let (_link, mut happenings, driver) =
        link::accept(Config::default(), rig.clock.clone(), id, epoch, greeted);
    let driver = tokio::task::JoinSet::from_iter([driver]);
    raw.welcomed().await;
    let ack = Ack { received: vec![(Class::Drive, 1)], bulk_arrival: None };
    raw.say(Frame::Ack(ack).encode(rig.clock.now())).await;
    let (_, ended) = raw.rest().await;
    assert!(matches!(ended, Ended::ByPeer { code: CloseCode::ProtocolViolation, .. }), "{ended:?}");
    assert!(matches!(happenings.recv().await, Some(Happening::Established { .. })));
    drop(driver);
}
