//! One end of one connection, without sockets and without a clock of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use str0m::channel::ChannelId;
use str0m::config::DtlsVersion;
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, IceConnectionState, Input, Output, Rtc, RtcConfig};

use super::channels::{Lane, MOST_IN_ALL};
use super::meet::{Identity, Other, Own};
use super::{HANDSHAKE, crypto};
use crate::compare::workload::Kind;

/// How often the path is checked. So long, at most, the gateway goes on sending to where the vehicle was; libwebrtc checks a
/// path as often while it is not sure of it (480 ms). Nine checks without an answer, somewhat less than five seconds, end the
/// connection: as long as TCP is given in the best practice.
const CHECK: Duration = Duration::from_millis(500);

/// A vehicle that moves more often than this is met anew.
const MOST_MOVES: u16 = 100;

/// Whose end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// Controls ICE, and begins DTLS.
    Vehicle { gateway: SocketAddr },
    /// Has an address that everybody knows, and only answers checks (ICE-lite).
    Gateway,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Send this datagram there.
    Send(SocketAddr, Vec<u8>),
    /// The other end has said this.
    Heard(Vec<u8>),
    /// All channels can be written to from now on.
    Ready,
    /// Nothing until then, or until something comes.
    Wait(Instant),
}

/// Whether a channel can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// It is not open yet.
    Shut,
    Some,
    /// Not until enough of it has been acknowledged.
    None,
}

#[derive(Debug)]
struct Channel {
    id: ChannelId,
    room: Room,
}

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// To be over by then.
    Handshake {
        until: Instant,
    },
    Connected,
}

/// One end.
#[derive(Debug)]
pub(super) struct Peer {
    /// Boxed, for it has kilobytes.
    rtc: Box<Rtc>,
    side: Side,
    /// Our only candidate.
    local: SocketAddr,
    phase: Phase,
    /// In the order of the lanes.
    channels: Vec<Channel>,
    /// Where the vehicle was last seen, at the gateway.
    seen: Option<Candidate>,
    moves: u16,
}

impl Peer {
    /// Begins, with what both ends have said of themselves.
    pub(super) fn new(
        side: Side,
        local: SocketAddr,
        identity: &Identity,
        own: Own,
        other: Other,
        now: Instant,
    ) -> Result<Self> {
        let mut rtc = Box::new(config(side, identity, &own).build(now));
        let is_vehicle = side != Side::Gateway;
        rtc.add_local_candidate(Candidate::host(local, "udp").context("our own address")?);
        let mut direct = rtc.direct_api();
        direct.set_remote_ice_credentials(other.ice);
        direct.set_remote_fingerprint(other.fingerprint);
        direct.set_ice_controlling(is_vehicle);
        direct.start_dtls(is_vehicle)?;
        direct.start_sctp_with_snap(is_vehicle, own.sctp)?;
        let channel =
            |lane: Lane| Channel { id: direct.create_data_channel(lane.config()), room: Room::Shut };
        let channels = Lane::ALL.map(channel).into();
        if let Side::Vehicle { gateway } = side {
            rtc.add_remote_candidate(Candidate::host(gateway, "udp").context("the gateway's address")?);
        }
        let phase = Phase::Handshake { until: now + HANDSHAKE };
        Ok(Self { rtc, side, local, phase, channels, seen: None, moves: 0 })
    }

    /// The next to be done; [`Step::Wait`] last. To be asked after each call of another function. Fails where the connection
    /// has ended.
    pub(super) fn poll(&mut self) -> Result<Step> {
        loop {
            match self.rtc.poll_output()? {
                Output::Transmit(packet) => {
                    return Ok(Step::Send(packet.destination, packet.contents.into()));
                }
                Output::Timeout(at) => return Ok(Step::Wait(self.no_later(at))),
                Output::Event(event) => {
                    if let Some(step) = self.on_event(event)? {
                        return Ok(step);
                    }
                }
            }
        }
    }

    fn no_later(&self, at: Instant) -> Instant {
        match self.phase {
            Phase::Handshake { until } => at.min(until),
            Phase::Connected => at,
        }
    }

    fn on_event(&mut self, event: Event) -> Result<Option<Step>> {
        match event {
            Event::Connected => {
                self.phase = Phase::Connected;
                return Ok(self.is_ready().then_some(Step::Ready));
            }
            Event::ChannelOpen(id, _) => {
                self.open(id);
                return Ok(self.is_ready().then_some(Step::Ready));
            }
            Event::ChannelData(data) => return Ok(Some(Step::Heard(data.data))),
            Event::ChannelBufferedAmountLow(id) => {
                self.channels
                    .iter_mut()
                    .filter(|channel| channel.id == id)
                    .for_each(|channel| channel.room = Room::Some);
            }
            Event::ChannelClose(_) => bail!("the other end has closed a channel"),
            Event::Closed => bail!("the other end has closed the connection"),
            Event::IceConnectionStateChange(IceConnectionState::Disconnected) => {
                bail!("checks of the path find no answer")
            }
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, id: ChannelId) {
        let Some(place) = self.channels.iter().position(|channel| channel.id == id) else { return };
        self.channels[place].room = Room::Some;
        if let Some(mut channel) = self.rtc.channel(id) {
            channel.set_buffered_amount_low_threshold(Lane::ALL[place].most());
        }
    }

    fn is_ready(&self) -> bool {
        self.phase == Phase::Connected && self.channels.iter().all(|channel| channel.room != Room::Shut)
    }

    /// Whether a message of this kind can be said now.
    pub(super) fn has_room(&self, kind: Kind) -> bool {
        self.is_ready() && self.channels[Lane::of(kind).index()].room == Room::Some
    }

    /// Says a message, for which there must be room.
    pub(super) fn say(&mut self, kind: Kind, message: &[u8]) -> Result<()> {
        let lane = Lane::of(kind);
        let channel = &mut self.channels[lane.index()];
        let mut writer = self.rtc.channel(channel.id).context("a channel is gone")?;
        let is_taken = writer.write(true, message)?;
        assert!(is_taken, "all lanes together hold less than the library takes");
        if writer.buffered_amount() > lane.most() {
            channel.room = Room::None;
        }
        Ok(())
    }

    /// Time has come to this.
    pub(super) fn on_time(&mut self, now: Instant) -> Result<()> {
        if let Phase::Handshake { until } = self.phase
            && now >= until
        {
            bail!("the handshake takes too long");
        }
        Ok(self.rtc.handle_input(Input::Timeout(now))?)
    }

    /// A datagram came. What is neither ours nor sound is let go.
    pub(super) fn receive(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Result<()> {
        let Ok(received) = Receive::new(Protocol::Udp, source, self.local, datagram) else { return Ok(()) };
        let input = Input::Receive(now, received);
        // From a new address this is so of nothing but checks that the other end has signed.
        if self.rtc.accepts(&input) {
            self.follow(source)?;
        } else if self.phase != Phase::Connected {
            return Ok(());
        }
        // DTLS finds by itself what is not the other end's.
        Ok(self.rtc.handle_input(input)?)
    }

    /// The vehicle is there now. Of two pairs of candidates str0m would use the one with the higher priority, and know of the
    /// other's end only 15 s after it.
    fn follow(&mut self, source: SocketAddr) -> Result<()> {
        if self.side != Side::Gateway || self.seen.as_ref().is_some_and(|seen| seen.addr() == source) {
            return Ok(());
        }
        self.moves += 1;
        if self.moves > MOST_MOVES {
            bail!("the vehicle moves for ever");
        }
        // The vehicle's address as seen from here. What it has at its own end the library only compares: another one each time,
        // or it would not know an address that comes back from the one it had to forget.
        let own = SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.moves));
        let there = Candidate::server_reflexive(source, own, "udp").context("the vehicle's address")?;
        if let Some(before) = self.seen.replace(there.clone()) {
            self.rtc.direct_api().invalidate_candidate(&before);
        }
        self.rtc.add_remote_candidate(there);
        Ok(())
    }

    /// Says goodbye; what is still to be sent comes from [`poll`](Self::poll).
    pub(super) fn close(&mut self) {
        // A connection that cannot be closed has ended.
        let _ended = self.rtc.close();
    }
}

fn config(side: Side, identity: &Identity, own: &Own) -> RtcConfig {
    let mut config = RtcConfig::new()
        .set_crypto_provider(Arc::new(crypto::provider()))
        .set_dtls_cert(identity.certificate.clone())
        .set_dtls_version(DtlsVersion::Dtls13)
        .set_local_ice_credentials(own.ice.clone())
        .set_ice_lite(side == Side::Gateway)
        .set_sctp_max_buffered_amount(MOST_IN_ALL)
        .clear_codecs();
    config.set_max_stun_rto(CHECK);
    config
}
