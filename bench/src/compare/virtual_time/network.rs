//! The emulator's model between two ends, in virtual time.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use carriageway_netem::core::{Cause, Direction, Event, Kind, Moment, Packet, Pipe, Seed};
use carriageway_netem::json::counts_json;
use carriageway_netem::profile::{Happening, Profile};
use quinn::udp::EcnCodepoint;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::pilot::Pilot;
use super::tcp::Segment;

/// Bytes of the header of IPv4.
const IP: usize = 20;

/// Bytes of the header of UDP.
const UDP: usize = 8;

/// Datagrams that one socket holds unread: about the production sockets' 4 MiB of full ones.
const MOST_UNREAD: usize = 2_800;

/// A datagram on its way.
#[derive(Clone, Debug)]
pub(super) struct Datagram {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: Payload,
}

/// What is in it.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Udp { ecn: Option<EcnCodepoint>, bytes: Bytes },
    Tcp(Segment),
}

impl Payload {
    /// What the emulator takes it for, and its bytes on the link.
    fn kind_and_size(&self) -> (Kind, u32) {
        let (kind, size) = match self {
            Self::Udp { bytes, .. } => (Kind::Udp, IP + UDP + bytes.len()),
            Self::Tcp(segment) => (Kind::Tcp, IP + segment.len()),
        };
        (kind, u32::try_from(size).expect("a datagram has at most 64 KiB"))
    }
}

/// The link of one run. Clones are one.
#[derive(Clone, Debug)]
pub(super) struct Network(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pilot: Pilot,
    state: Mutex<State>,
    /// Something was sent, or the link has changed.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    pipes: [Pipe<Datagram>; 2],
    /// Of the devices at both ends, which a change of the link leaves as they are: up and down.
    mtu: [u32; 2],
    inboxes: BTreeMap<SocketAddr, Inbox>,
    lost: Lost,
}

/// What arrives at one socket.
#[derive(Debug, Default)]
struct Inbox {
    unread: VecDeque<Datagram>,
    reader: Option<Waker>,
}

/// What the link delivered and nobody got, and what the sender's own kernel refuses.
#[derive(Clone, Copy, Debug, Default)]
struct Lost {
    /// Larger than the sender's interface takes.
    oversized: u64,
    /// Its checksum is wrong: a bit was flipped.
    corrupt: u64,
    /// Nobody has that address.
    unreachable: u64,
    /// The socket's buffer was full.
    overrun: u64,
}

impl Network {
    /// Of this profile, which begins now. The seed is that of the testbed's first wire.
    pub(super) fn new(pilot: Pilot, profile: &Profile, seed: u64) -> Self {
        let (seed, start) = (Seed(seed).of_link(0), pilot.now());
        let pipes = Direction::BOTH
            .map(|direction| Pipe::new(profile.law(direction).clone(), seed, direction, start));
        let mtu = [profile.up.mtu, profile.down.mtu];
        let state = State { pipes, mtu, inboxes: BTreeMap::new(), lost: Lost::default() };
        Self(Arc::new(Shared { pilot, state: Mutex::new(state), changed: Notify::new() }))
    }

    /// Time since the link began.
    pub(super) fn now(&self) -> Moment {
        self.0.pilot.now()
    }

    /// Who leads its time.
    pub(super) fn pilot(&self) -> &Pilot {
        &self.0.pilot
    }

    /// A socket opens at this address.
    pub(super) fn open(&self, address: SocketAddr) {
        self.state().inboxes.insert(address, Inbox::default());
    }

    /// It closes: what comes for it later is lost.
    pub(super) fn close(&self, address: SocketAddr) {
        self.state().inboxes.remove(&address);
    }

    /// Takes a datagram for the other end.
    pub(super) fn send(&self, direction: Direction, datagram: Datagram) {
        let now = self.0.pilot.now();
        let (kind, size) = datagram.payload.kind_and_size();
        let mut state = self.state();
        // As its own kernel refuses a packet that may not be fragmented: the link never sees it.
        if size > state.mtu[direction.index()] {
            state.lost.oversized += 1;
            return;
        }
        let pipe = &mut state.pipes[direction.index()];
        // What becomes of packets is counted by the pipe.
        let _refused = pipe.push(now, Packet { size, kind, payload: datagram });
        while pipe.pop_drop(now).is_some() {}
        drop(state);
        self.0.changed.notify_one();
    }

    /// The next datagram for the socket of this address.
    pub(super) fn poll_receive(&self, address: SocketAddr, context: &mut Context<'_>) -> Poll<Datagram> {
        let mut state = self.state();
        let inbox = state.inboxes.get_mut(&address).expect("an open socket has an inbox");
        if let Some(datagram) = inbox.unread.pop_front() {
            return Poll::Ready(datagram);
        }
        inbox.reader = Some(context.waker().clone());
        Poll::Pending
    }

    /// Delivers what is due, for ever.
    pub(super) async fn carry(self) {
        loop {
            let due = self.deliver();
            tokio::select! {
                biased;
                () = self.0.changed.notified() => {}
                () = self.0.pilot.sleep_until(due) => {}
            }
        }
    }

    /// Delivers what is due; when there is next something to do.
    fn deliver(&self) -> Moment {
        let now = self.0.pilot.now();
        let mut state = self.state();
        for direction in Direction::BOTH {
            while let Some(event) = state.pipes[direction.index()].pop(now) {
                match event {
                    // The pipe has counted it.
                    Event::Dropped(_) => {}
                    Event::Delivered(delivery) if delivery.corrupt.is_some() => state.lost.corrupt += 1,
                    Event::Delivered(delivery) => {
                        for _ in 0..delivery.copies {
                            state.hand_over(&delivery.packet.payload);
                        }
                    }
                }
            }
        }
        let dues = state.pipes.iter().filter_map(Pipe::next_arrival);
        dues.min().unwrap_or(Moment::NEVER)
    }

    /// Changes the link as the testbed's director does. Only what [`is_possible`] may be asked for.
    pub(super) fn happen(&self, what: &Happening) {
        let now = self.0.pilot.now();
        let mut state = self.state();
        match what {
            Happening::Udp(policy) => {
                for pipe in &mut state.pipes {
                    pipe.set_udp(now, *policy);
                }
            }
            Happening::Capacity { up, down } => {
                for (pipe, capacity) in state.pipes.iter_mut().zip([up, down]) {
                    if let Some(capacity) = capacity {
                        pipe.set_capacity(now, capacity.clone());
                    }
                }
            }
            Happening::Rebind(_)
            | Happening::Link { .. }
            | Happening::Carrier { .. }
            | Happening::Address { .. }
            | Happening::Prefer => unreachable!("it was refused before the run"),
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// What the link did, in the shape of the testbed's report: up and down.
    pub(super) fn counts(&self) -> [Value; 2] {
        let state = self.state();
        Direction::BOTH.map(|direction| counts(&state.pipes[direction.index()]))
    }

    /// What was lost at the ends.
    pub(super) fn lost(&self) -> Value {
        let Lost { oversized, corrupt, unreachable, overrun } = self.state().lost;
        json!({ "oversized": oversized, "corrupt": corrupt, "unreachable": unreachable, "overrun": overrun })
    }

    /// Packets beyond the model's own bound, which no real link has.
    pub(super) fn overflowed(&self) -> u64 {
        self.state().pipes.iter().map(|pipe| pipe.counts().dropped_by(Cause::Overflow)).sum()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no holder of the network panics")
    }
}

impl State {
    fn hand_over(&mut self, datagram: &Datagram) {
        let Some(inbox) = self.inboxes.get_mut(&datagram.to) else {
            self.lost.unreachable += 1;
            return;
        };
        if inbox.unread.len() >= MOST_UNREAD {
            self.lost.overrun += 1;
            return;
        }
        inbox.unread.push_back(datagram.clone());
        if let Some(reader) = inbox.reader.take() {
            reader.wake();
        }
    }
}

/// Whether [`Network::happen`] can do this.
pub(super) const fn is_possible(what: &Happening) -> bool {
    match what {
        Happening::Udp(_) | Happening::Capacity { .. } => true,
        Happening::Rebind(_)
        | Happening::Link { .. }
        | Happening::Carrier { .. }
        | Happening::Address { .. }
        | Happening::Prefer => false,
    }
}

fn counts(pipe: &Pipe<Datagram>) -> Value {
    let mut json = counts_json(pipe.counts());
    json["held"] = pipe.held().into();
    json
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::IoSliceMut;
    use std::time::Duration;

    use carriageway_netem::core::{Capacity, Law, Loss, Probability, Rate};
    use quinn::AsyncUdpSocket as _;
    use quinn::udp::{RecvMeta, Transmit};
    use tokio::task::JoinSet;

    use super::super::runtime;
    use super::super::socket::Socket;
    use super::*;

    const DELAY: Duration = Duration::from_micros(20_300);

    fn address(host: u8) -> SocketAddr {
        ([10, 0, 0, host], 9).into()
    }

    /// What came at the other end, and when, of datagrams sent at once of `sizes`.
    fn sent(law: Law, sizes: &[usize], segment: Option<usize>) -> (Vec<(usize, Duration)>, Network) {
        let pilot = Pilot::new();
        let profile = Profile { up: law, ..Profile::perfect("x") };
        runtime(&pilot).unwrap().block_on(async {
            let network = Network::new(pilot.clone(), &profile, 7);
            let mut world = JoinSet::new();
            world.spawn(pilot.clone().steer());
            world.spawn(network.clone().carry());
            let near = Socket::open(network.clone(), address(1), Direction::Up);
            let far = Socket::open(network.clone(), address(2), Direction::Down);
            for size in sizes {
                let (destination, contents) = (far.local_addr().unwrap(), &vec![7; *size][..]);
                let transmit =
                    Transmit { destination, ecn: None, contents, segment_size: segment, src_ip: None };
                near.try_send(&transmit).unwrap();
            }
            let mut arrivals = Vec::new();
            while let Ok((length, from)) = tokio::time::timeout(Duration::from_secs(5), received(&far)).await
            {
                assert_eq!(from, address(1));
                arrivals.push((length, pilot.now().since(Moment::ZERO)));
            }
            (arrivals, network)
        })
    }

    async fn received(socket: &Socket) -> (usize, SocketAddr) {
        let (mut buffer, mut meta) = ([0; 2_000], [RecvMeta::default()]);
        let taken =
            poll_fn(|context| socket.poll_recv(context, &mut [IoSliceMut::new(&mut buffer)], &mut meta));
        assert_eq!(taken.await.unwrap(), 1);
        (meta[0].len, meta[0].addr)
    }

    #[test]
    fn datagrams_come_in_order_each_after_its_size_with_headers_and_the_delay() {
        let rate = Rate::from_bits_per_second(8_000_000).unwrap();
        let law = Law { delay: DELAY, capacity: Capacity::Rate(rate), ..Law::default() };
        let (arrivals, network) = sent(law, &[100, 1_200, 1], None);
        let at = |bytes: u64| DELAY + Duration::from_micros(bytes);
        assert_eq!(arrivals, [(100, at(128)), (1_200, at(128 + 1_228)), (1, at(128 + 1_228 + 29))]);
        assert_eq!(network.counts()[0]["offered_bytes"], 128 + 1_228 + 29);
    }

    #[test]
    fn what_is_handed_over_as_one_goes_as_its_segments() {
        let law = Law { delay: DELAY, ..Law::default() };
        let (arrivals, _) = sent(law, &[2_500], Some(1_200));
        assert_eq!(arrivals, [(1_200, DELAY), (1_200, DELAY), (100, DELAY)]);
    }

    #[test]
    fn loss_is_the_laws_and_what_is_too_large_for_the_device_is_none_of_it() {
        let law = Law { delay: DELAY, loss: Loss::Bernoulli(Probability::ONE), ..Law::default() };
        let (arrivals, network) = sent(law, &[100, 1_473], None);
        assert_eq!(arrivals, []);
        let up = &network.counts()[0];
        assert_eq!((&up["offered"], &up["dropped"]["loss"]), (&json!(1), &json!(1)));
        assert_eq!(network.lost()["oversized"], 1);
    }

    #[test]
    fn a_duplicate_comes_twice_and_a_broken_datagram_fails_its_checksum() {
        let law = Law { delay: DELAY, duplicate: Probability::ONE, ..Law::default() };
        let (arrivals, _) = sent(law.clone(), &[100], None);
        assert_eq!(arrivals, [(100, DELAY), (100, DELAY)]);
        let (arrivals, network) = sent(Law { corrupt: Probability::ONE, ..law }, &[100], None);
        assert_eq!((arrivals.len(), &network.lost()["corrupt"]), (0, &json!(1)));
    }
}
