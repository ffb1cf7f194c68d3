//! What is to be sent, what is under way, and what is taken for lost: by SACK and time, as RACK-TLP (RFC 8985), which Linux has, and
//! by timeout (RFC 6298). Pure.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use carriageway_netem::core::Moment;
use carriageway_transport::websocket::NOTSENT_LOWAT;

use super::cubic::Cubic;
use super::segment::{MSS, Segment};

/// Linux' least retransmission timeout.
const LEAST_TIMEOUT: Duration = Duration::from_millis(200);

/// Before the first round trip is known (RFC 6298).
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

/// Most doublings of the timeout.
const MOST_DOUBLINGS: u32 = 9;

/// How long a single segment's acknowledgement may wait at the other end (RFC 8985, as Linux has it).
const WORST_DELAY: Duration = LEAST_TIMEOUT;

/// Without progress for so long, the connection is given up, as the fallback asks the kernel to.
pub(super) const GIVE_UP: Duration = Duration::from_secs(15);

/// Segments behind a hole that prove a loss without waiting for reordering.
const DUPLICATES: usize = 3;

/// One direction, where it is sent.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    cubic: Cubic,
    unsent: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// Where the first unsent byte is.
    next: u64,
    flying: BTreeMap<u64, Flight>,
    trip: Option<Trip>,
    /// Of what has arrived, that which was sent last.
    latest: Option<(Moment, u64)>,
    /// Losses of what was sent before this are one.
    recovery: Option<u64>,
    /// It was a timeout: the window grows again from the least at once.
    has_timed_out: bool,
    /// The first segment that a recovery sends again, and a probe, go whatever the window says.
    may_resend: bool,
    /// When reordering is no more an excuse.
    reordering: Option<Moment>,
    last_sent: Moment,
    /// What the timeout counts from: the first flight, the last progress, or the timeout before. New segments do not put it off.
    armed: Moment,
    progress: Moment,
    is_probing: bool,
    doublings: u32,
}

/// A segment that is not acknowledged.
#[derive(Clone, Debug)]
struct Flight {
    data: Bytes,
    sent: Moment,
    is_resent: bool,
    has_arrived: bool,
    is_lost: bool,
}

/// Round trips.
#[derive(Clone, Copy, Debug)]
struct Trip {
    smoothed: Duration,
    variation: Duration,
    least: Duration,
}

impl Trip {
    fn new(first: Duration) -> Self {
        Self { smoothed: first, variation: first / 2, least: first }
    }

    fn sample(&mut self, sample: Duration) {
        let off = sample.abs_diff(self.smoothed);
        self.variation = (self.variation * 3 + off) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
        self.least = self.least.min(sample);
    }
}

impl Sender {
    pub(super) const fn new(now: Moment) -> Self {
        Self {
            cubic: Cubic::new(),
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            next: 0,
            flying: BTreeMap::new(),
            trip: None,
            latest: None,
            recovery: None,
            has_timed_out: false,
            may_resend: false,
            reordering: None,
            last_sent: now,
            armed: now,
            progress: now,
            is_probing: false,
            doublings: 0,
        }
    }

    /// Whether it takes more: as a socket with TCP_NOTSENT_LOWAT does, while little waits that was never sent.
    pub(super) const fn has_room(&self) -> bool {
        self.unsent_bytes < NOTSENT_LOWAT as usize
    }

    /// Takes what [`Self::has_room`] allowed, all of it.
    pub(super) fn write(&mut self, data: &[u8]) {
        self.unsent_bytes += data.len();
        self.unsent.push_back(Bytes::copy_from_slice(data));
    }

    /// A round trip, such as the handshake's.
    pub(super) fn round_trip(&mut self, sample: Duration) {
        match &mut self.trip {
            None => self.trip = Some(Trip::new(sample)),
            Some(trip) => trip.sample(sample),
        }
    }

    /// What to send now: where it begins and its bytes. What is lost goes first.
    pub(super) fn next(&mut self, now: Moment) -> Option<(u64, Bytes)> {
        let under_way = self.under_way();
        let room = self.cubic.window().saturating_sub(under_way);
        let lost = self.flying.iter_mut().find(|(_, flight)| flight.is_lost);
        let found = if let Some((seq, flight)) = lost {
            if flight.data.len() > room && under_way > 0 && !self.may_resend {
                return None;
            }
            self.may_resend = false;
            (flight.sent, flight.is_resent, flight.is_lost) = (now, true, false);
            (*seq, flight.data.clone())
        } else {
            if room < MSS.min(self.unsent_bytes) || self.unsent_bytes == 0 {
                return None;
            }
            let (seq, data) = (self.next, self.cut());
            self.next += data.len() as u64;
            if self.flying.is_empty() {
                (self.progress, self.armed) = (now, now);
            }
            let flight = Flight {
                data: data.clone(),
                sent: now,
                is_resent: false,
                has_arrived: false,
                is_lost: false,
            };
            self.flying.insert(seq, flight);
            (seq, data)
        };
        self.last_sent = now;
        Some(found)
    }

    /// The next full segment of what was never sent, or all of it.
    fn cut(&mut self) -> Bytes {
        let mut data = BytesMut::with_capacity(MSS.min(self.unsent_bytes));
        while data.len() < MSS
            && let Some(front) = self.unsent.front_mut()
        {
            let part = front.split_to(front.len().min(MSS - data.len()));
            data.extend_from_slice(&part);
            if front.is_empty() {
                self.unsent.pop_front();
            }
        }
        self.unsent_bytes -= data.len();
        data.freeze()
    }

    /// What a segment of the other end says.
    pub(super) fn hear(&mut self, now: Moment, segment: &Segment) {
        let was_full = self.under_way() + MSS > self.cubic.window();
        let mut arrived = Vec::new();
        let acked: Vec<_> = self.flying.range(..segment.ack).map(|(seq, _)| *seq).collect();
        let progresses = !acked.is_empty();
        for seq in acked {
            let flight = self.flying.remove(&seq).expect("it was there a moment ago");
            if !flight.has_arrived {
                arrived.push((seq, flight));
            }
        }
        for block in &segment.blocks {
            for (seq, flight) in
                self.flying.range_mut(block.clone()).filter(|(_, flight)| !flight.has_arrived)
            {
                (flight.has_arrived, flight.is_lost) = (true, false);
                arrived.push((*seq, flight.clone()));
            }
        }
        let bytes: usize = arrived.iter().map(|(_, flight)| flight.data.len()).sum();
        self.latest = self.latest.max(arrived.iter().map(|(seq, flight)| (flight.sent, *seq)).max());
        // Of what was sent twice nobody knows which has arrived; of the others the newest did not wait for a hole.
        let certain =
            arrived.iter().filter(|(_, flight)| !flight.is_resent).map(|(_, flight)| flight.sent).max();
        if let Some(sent) = certain {
            self.round_trip(now.since(sent));
        }
        if progresses {
            (self.progress, self.armed, self.is_probing, self.doublings) = (now, now, false, 0);
        }
        if self.recovery.is_some_and(|end| segment.ack >= end) {
            (self.recovery, self.has_timed_out) = (None, false);
        }
        if was_full && bytes > 0 && (self.recovery.is_none() || self.has_timed_out) {
            self.cubic.acknowledged(now, bytes, self.smoothed());
        }
        self.judge(now);
    }

    /// What was sent so long before something that has arrived must be lost.
    fn judge(&mut self, now: Moment) {
        self.reordering = None;
        let Some(latest) = self.latest else { return };
        let behind = self.flying.values().filter(|flight| flight.has_arrived).count();
        let excuse = match self.trip {
            Some(trip) if behind < DUPLICATES => trip.least / 4,
            _ => Duration::ZERO,
        };
        let patience = self.smoothed() + excuse;
        let mut has_lost = false;
        for (seq, flight) in &mut self.flying {
            if flight.has_arrived || flight.is_lost || (flight.sent, *seq) >= latest {
                continue;
            }
            let due = flight.sent + patience;
            if now >= due || behind >= DUPLICATES {
                flight.is_lost = true;
                has_lost = true;
            } else {
                self.reordering = Some(self.reordering.map_or(due, |earlier: Moment| earlier.min(due)));
            }
        }
        if has_lost && self.recovery.is_none() {
            (self.recovery, self.may_resend) = (Some(self.next), true);
            self.cubic.lost();
        }
    }

    /// When to call [`Self::time_passes`].
    pub(super) fn due(&self) -> Option<Moment> {
        if self.flying.values().all(|flight| flight.has_arrived) {
            return None;
        }
        Some(self.reordering.unwrap_or_else(|| self.probe().unwrap_or_else(|| self.timeout())))
    }

    /// When the last segment is sent again, to learn what became of the others: once, and not after losses.
    fn probe(&self) -> Option<Moment> {
        let trip =
            self.trip.filter(|_| !self.is_probing && self.recovery.is_none() && self.doublings == 0)?;
        let alone = if self.flying.len() == 1 { WORST_DELAY } else { Duration::ZERO };
        Some((self.last_sent + trip.smoothed * 2 + alone).min(self.timeout()))
    }

    fn timeout(&self) -> Moment {
        let once =
            self.trip.map_or(FIRST_TIMEOUT, |trip| trip.smoothed + (trip.variation * 4).max(LEAST_TIMEOUT));
        self.armed + once * 2_u32.pow(self.doublings.min(MOST_DOUBLINGS))
    }

    /// Does what is due.
    pub(super) fn time_passes(&mut self, now: Moment) {
        if self.due().is_none_or(|due| due > now) {
            return;
        }
        if self.reordering.is_some() {
            return self.judge(now);
        }
        if self.probe().is_some_and(|probe| probe <= now) {
            (self.is_probing, self.may_resend) = (true, true);
            if let Some((_, last)) = self.flying.iter_mut().next_back() {
                last.is_lost = !last.has_arrived;
            }
            return;
        }
        for flight in self.flying.values_mut() {
            flight.is_lost = !flight.has_arrived;
        }
        (self.recovery, self.has_timed_out) = (Some(self.next), true);
        self.cubic.timed_out();
        self.doublings += 1;
        self.armed = now;
    }

    /// Whether nothing has come of it for so long that there is no use.
    pub(super) fn is_hopeless(&self, now: Moment) -> bool {
        !self.flying.is_empty() && now.since(self.progress) >= GIVE_UP
    }

    fn under_way(&self) -> usize {
        let counts = |flight: &&Flight| !flight.has_arrived && !flight.is_lost;
        self.flying.values().filter(counts).map(|flight| flight.data.len()).sum()
    }

    fn smoothed(&self) -> Duration {
        self.trip.map_or(FIRST_TIMEOUT, |trip| trip.smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::Phase;
    use super::*;

    const TRIP: Duration = Duration::from_millis(60);
    const START: Moment = Moment::ZERO;

    fn sender(bytes: usize) -> Sender {
        let mut sender = Sender::new(START);
        sender.round_trip(TRIP);
        sender.write(&vec![7; bytes]);
        sender
    }

    fn sent(sender: &mut Sender, now: Moment) -> Vec<u64> {
        std::iter::from_fn(|| sender.next(now)).map(|(seq, _)| seq / MSS as u64).collect()
    }

    /// All before `ack` has arrived, and these behind it.
    fn said(ack: u64, behind: Option<std::ops::Range<u64>>) -> Segment {
        let whole = |block: std::ops::Range<u64>| block.start * MSS as u64..block.end * MSS as u64;
        let blocks = behind.map(whole).into_iter().collect();
        Segment { ack: ack * MSS as u64, blocks, ..Segment::empty(Phase::Open, START) }
    }

    #[test]
    fn ten_segments_go_at_once_and_acknowledgements_let_twice_as_many_follow() {
        let mut sender = sender(100 * MSS);
        assert_eq!(sent(&mut sender, START).len(), 10);
        sender.hear(START + TRIP, &said(10, None));
        assert_eq!(sent(&mut sender, START + TRIP).len(), 20);
    }

    #[test]
    fn it_takes_more_while_little_waits() {
        let mut sender = sender(10 * MSS + 100);
        assert!(!sender.has_room());
        let _gone = sent(&mut sender, START);
        assert!(sender.has_room());
        sender.write(&[7; 4_000]);
        assert!(!sender.has_room());
    }

    #[test]
    fn a_hole_with_three_behind_it_is_sent_again_once_and_costs_window_once() {
        let mut sender = sender(30 * MSS);
        let _first = sent(&mut sender, START);
        let now = START + TRIP;
        sender.hear(now, &said(0, Some(1..3)));
        assert!(sent(&mut sender, now).iter().all(|seq| *seq >= 10), "it may still come");
        sender.hear(now, &said(0, Some(1..5)));
        let window = sender.cubic.window();
        assert_eq!(sent(&mut sender, now)[0], 0);
        sender.hear(now, &said(0, Some(1..6)));
        assert!(!sent(&mut sender, now).contains(&0));
        assert_eq!(sender.cubic.window(), window);
    }

    #[test]
    fn what_is_overtaken_is_lost_after_a_quarter_of_a_round_trip() {
        let mut sender = sender(2 * MSS);
        assert_eq!(sent(&mut sender, START), [0, 1]);
        sender.hear(START + TRIP, &said(0, Some(1..2)));
        let due = sender.due().unwrap();
        assert_eq!(due, START + TRIP + TRIP / 4);
        sender.time_passes(due);
        assert_eq!(sent(&mut sender, due), [0]);
    }

    #[test]
    fn a_lost_tail_is_probed_and_then_times_out_ever_later() {
        let mut sender = sender(2 * MSS);
        let _both = sent(&mut sender, START);
        let probe = sender.due().unwrap();
        assert_eq!(probe, START + TRIP * 2);
        sender.time_passes(probe);
        assert_eq!(sent(&mut sender, probe), [1]);
        let timeout = sender.due().unwrap();
        assert_eq!(timeout, START + TRIP + LEAST_TIMEOUT);
        sender.time_passes(timeout);
        assert_eq!(sender.cubic.window(), MSS);
        assert_eq!(sent(&mut sender, timeout), [0]);
        assert_eq!(sender.due().unwrap(), timeout + (TRIP + LEAST_TIMEOUT) * 2);
        assert!(!sender.is_hopeless(timeout) && sender.is_hopeless(START + GIVE_UP));
    }

    #[test]
    fn what_was_sent_twice_tells_no_round_trip() {
        let mut sender = sender(MSS);
        let _once = sent(&mut sender, START);
        let probe = sender.due().unwrap();
        sender.time_passes(probe);
        assert_eq!(sent(&mut sender, probe), [0]);
        sender.hear(probe + TRIP / 60, &said(1, None));
        assert_eq!(sender.smoothed(), TRIP);
    }

    #[test]
    fn after_a_timeout_the_window_grows_with_every_acknowledgement() {
        let mut sender = sender(20 * MSS);
        let _gone = sent(&mut sender, START);
        sender.time_passes(sender.due().unwrap());
        let _probe = sent(&mut sender, START + TRIP * 2);
        let timeout = sender.due().unwrap();
        sender.time_passes(timeout);
        let mut rounds = Vec::new();
        for round in 1..=3 {
            let now = timeout + TRIP * round;
            rounds.push(sent(&mut sender, now).len());
            let arrived = rounds.iter().sum::<usize>() as u64;
            sender.hear(now + TRIP, &said(arrived, None));
        }
        assert_eq!(rounds, [1, 2, 4]);
    }

    #[test]
    fn what_has_arrived_needs_no_timer() {
        let mut sender = sender(MSS);
        let _one = sent(&mut sender, START);
        sender.hear(START + TRIP, &said(1, None));
        assert_eq!(sender.due(), None);
    }
}
