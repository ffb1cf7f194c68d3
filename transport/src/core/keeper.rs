//! Keeps a session connected: when to dial what, whom to take, when to wait.
//!
//! QUIC goes first and gets a head start; then WebSocket joins the race. A silent connection is not
//! given up while its successor is dialed. A session on WebSocket keeps probing for QUIC and moves up
//! without interruption. This is the one owner of the retry sequence.

#[cfg(test)]
mod tests;

use std::time::Duration;

use carriageway_proto::Moment;
use rand_core::{Rng, SeedableRng};
use rand_pcg::Pcg32;

use super::connection::{ConnectionId, Ended, Transport};
use super::session::Connectivity;

/// What can be dialed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Choice {
    /// Preferred.
    Quic,
    /// Where UDP is blocked.
    WebSocket,
}

impl Choice {
    /// The name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Quic => "QUIC",
            Self::WebSocket => "WebSocket",
        }
    }
}

/// Which transports may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// QUIC first, WebSocket as the fallback.
    Both,
    /// QUIC or nothing.
    QuicOnly,
    /// WebSocket or nothing.
    WebSocketOnly,
}

/// The knobs of the keeper.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which transports may be used.
    pub allowed: Allowed,
    /// How long QUIC is alone in the race.
    pub head_start: Duration,
    /// After QUIC failed on this network it gets no head start for so long.
    pub remember: Duration,
    /// First and longest wait between attempts, before jitter.
    pub backoff: (Duration, Duration),
    /// First and longest wait between probes for QUIC.
    pub probe: (Duration, Duration),
    /// Time from a connection to the peer's welcome.
    pub welcome_deadline: Duration,
}

impl Default for Config {
    /// 500 ms is five cellular round trips: QUIC needs two. Probes cost a packet or three each.
    fn default() -> Self {
        Self {
            allowed: Allowed::Both,
            head_start: Duration::from_millis(500),
            remember: Duration::from_mins(1),
            backoff: (Duration::from_millis(500), Duration::from_secs(30)),
            probe: (Duration::from_secs(5), Duration::from_mins(1)),
            welcome_deadline: Duration::from_secs(5),
        }
    }
}

/// What goes in.
#[derive(Debug)]
pub enum Input {
    /// The session's connectivity as it is now.
    Connectivity(Connectivity),
    /// A dial has led to a connection.
    Connected(Choice),
    /// A dial has failed.
    Failed(Choice, String),
}

/// What comes out.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Dial, and tell what came of it.
    Dial(Choice),
    /// Give the session the connection that this dial led to, with the reason.
    Adopt(Choice, String),
    /// Drop the connection that this dial led to.
    Discard(Choice),
    /// Nothing before this moment or the next input.
    Wait(Option<Moment>),
    /// The session is over.
    Stop(Ended),
}

/// One transport's part in an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leg {
    /// Not part of it.
    Out,
    /// Starts then.
    StartsAt(Moment),
    Dialing {
        since: Moment,
    },
    /// Connected; waits for its verdict.
    Connected {
        took: Duration,
    },
    /// In the session.
    Adopted,
    Failed(String),
}

#[derive(Debug)]
struct Attempt {
    quic: Leg,
    websocket: Leg,
    /// An adopted connection waits for its welcome: until when, which one, and how many had been
    /// turned away before.
    awaiting: Option<Awaiting>,
    is_probe: bool,
}

#[derive(Debug)]
struct Awaiting {
    choice: Choice,
    until: Moment,
    turned_away: u64,
}

/// Keeps one session connected.
#[derive(Debug)]
pub struct Keeper {
    config: Config,
    chance: Pcg32,
    now_on: Connectivity,
    attempt: Option<Attempt>,
    /// No attempt before then.
    not_before: Moment,
    failures: u32,
    quic_failed: Option<(Moment, String)>,
    /// On WebSocket: when to look for QUIC next, and the wait after that.
    probe: Option<(Moment, Duration)>,
    carried_by: Option<ConnectionId>,
}

impl Keeper {
    /// A keeper of a session that has no connection yet. `seed` draws the jitter.
    pub fn new(config: Config, connectivity: Connectivity, seed: u64) -> Self {
        Self {
            config,
            chance: Pcg32::seed_from_u64(seed),
            now_on: connectivity,
            attempt: None,
            not_before: Moment::ZERO,
            failures: 0,
            quic_failed: None,
            probe: None,
            carried_by: None,
        }
    }

    /// Takes in what happened.
    pub fn handle(&mut self, now: Moment, input: Input) {
        match input {
            Input::Connectivity(connectivity) => self.connectivity(connectivity, now),
            Input::Connected(choice) => {
                if let Some(leg) = self.leg(choice)
                    && let Leg::Dialing { since } = *leg
                {
                    *leg = Leg::Connected { took: now.since(since) };
                }
            }
            Input::Failed(choice, why) => self.failed(choice, why, now),
        }
    }

    /// The next output.
    pub fn poll(&mut self, now: Moment) -> Output {
        if let Some(ended) = &self.now_on.over {
            return Output::Stop(ended.clone());
        }
        self.give_up_waiting(now);
        if self.attempt.is_none() {
            self.begin(now);
        }
        if let Some(output) = self.advance(now) {
            return output;
        }
        Output::Wait(self.next_time(now))
    }

    fn connectivity(&mut self, connectivity: Connectivity, now: Moment) {
        self.now_on = connectivity;
        let carrier = self.now_on.carrier;
        let is_new = carrier.map(|carrier| carrier.connection) != self.carried_by;
        self.carried_by = carrier.map(|carrier| carrier.connection);
        match carrier {
            Some(carrier) if is_new => self.carried(carrier.transport, now),
            None if is_new => self.lost(now),
            Some(_) | None => {}
        }
        let turned_away = self.now_on.turned_away;
        let refused = |awaiting: &Awaiting| turned_away > awaiting.turned_away;
        if let Some(choice) =
            self.awaiting().filter(|awaiting| refused(awaiting)).map(|awaiting| awaiting.choice)
        {
            self.refused(choice, now);
        }
    }

    /// A new connection carries the session.
    fn carried(&mut self, transport: Transport, now: Moment) {
        self.failures = 0;
        if let Some(attempt) = &mut self.attempt {
            attempt.awaiting = None;
        }
        let choice = if transport == Transport::WebSocket { Choice::WebSocket } else { Choice::Quic };
        match choice {
            Choice::Quic => {
                self.quic_failed = None;
                self.probe = None;
            }
            Choice::WebSocket => {
                let (first, _) = self.config.probe;
                self.probe.get_or_insert((now + first, first * 2));
            }
        }
        self.settle_attempt(now);
    }

    /// Nothing carries the session any more. Others may have lost theirs in the same moment.
    fn lost(&mut self, now: Moment) {
        let wait = self.jittered(self.config.backoff.0) + self.now_on.retry_after.unwrap_or_default();
        self.not_before = now + wait;
        // A probe under way becomes an attempt like any other.
        if let Some(attempt) = self.attempt.as_mut().filter(|attempt| attempt.is_probe) {
            attempt.is_probe = false;
            attempt.websocket = Leg::StartsAt(now + wait);
        }
    }

    fn failed(&mut self, choice: Choice, why: String, now: Moment) {
        if choice == Choice::Quic {
            self.quic_failed = Some((now, why.clone()));
        }
        if let Some(attempt) = &mut self.attempt {
            attempt.awaiting.take_if(|awaiting| awaiting.choice == choice);
        }
        if let Some(leg) = self.leg(choice) {
            *leg = Leg::Failed(why);
        }
        // The other one waits for nothing now.
        let other = if choice == Choice::Quic { Choice::WebSocket } else { Choice::Quic };
        if let Some(leg @ Leg::StartsAt(_)) = self.leg(other) {
            *leg = Leg::StartsAt(now);
        }
        self.settle_attempt(now);
    }

    /// The gateway turned a connection of ours away. Where it said when to come back, that holds for
    /// every transport, and says nothing about the network.
    fn refused(&mut self, choice: Choice, now: Moment) {
        let Some(wait) = self.now_on.retry_after.filter(|_| self.now_on.carrier.is_none()) else {
            let why = self.now_on.last_end.as_ref().map_or_else(String::new, ToString::to_string);
            return self.failed(choice, why, now);
        };
        self.attempt = None;
        self.failures += 1;
        self.not_before = now + wait + self.jittered(self.config.backoff.0);
    }

    /// An attempt ends when all its legs have.
    fn settle_attempt(&mut self, now: Moment) {
        let Some(attempt) = &self.attempt else { return };
        let is_healthy = self.now_on.carrier.is_some_and(|carrier| !carrier.is_suspect);
        let is_open = |leg: &Leg| match leg {
            Leg::Dialing { .. } | Leg::Connected { .. } => true,
            Leg::StartsAt(_) => !is_healthy,
            Leg::Out | Leg::Adopted | Leg::Failed(_) => false,
        };
        if attempt.awaiting.is_some() || is_open(&attempt.quic) || is_open(&attempt.websocket) {
            return;
        }
        let was_probe = attempt.is_probe;
        self.attempt = None;
        if is_healthy {
            return;
        }
        if !was_probe {
            self.failures += 1;
        }
        let (first, most) = self.config.backoff;
        let wait = first.saturating_mul(1 << self.failures.min(10)).min(most);
        self.not_before = now + self.jittered(wait);
    }

    /// Starts an attempt where one is due.
    fn begin(&mut self, now: Moment) {
        let is_suspect = match self.now_on.carrier {
            Some(carrier) if !carrier.is_suspect => return self.begin_probe(now),
            Some(_) => true,
            None => false,
        };
        if now < self.not_before {
            return;
        }
        let quic_is_in_doubt = self.quic_failed_lately(now) || (is_suspect && self.is_on(Transport::Quic));
        let head_start = if quic_is_in_doubt { Duration::ZERO } else { self.config.head_start };
        let (quic, websocket) = match self.config.allowed {
            Allowed::Both => (Leg::StartsAt(now), Leg::StartsAt(now + head_start)),
            Allowed::QuicOnly => (Leg::StartsAt(now), Leg::Out),
            Allowed::WebSocketOnly => (Leg::Out, Leg::StartsAt(now)),
        };
        self.attempt = Some(Attempt { quic, websocket, awaiting: None, is_probe: false });
    }

    fn begin_probe(&mut self, now: Moment) {
        let Some((at, next)) = self.probe else { return };
        if now < at || self.config.allowed != Allowed::Both || !self.is_on(Transport::WebSocket) {
            return;
        }
        let (_, most) = self.config.probe;
        let jitter = self.jittered(next / 4);
        self.probe = Some((now + next + jitter, (next * 2).min(most)));
        let quic = Leg::StartsAt(now);
        self.attempt = Some(Attempt { quic, websocket: Leg::Out, awaiting: None, is_probe: true });
    }

    /// Moves the attempt on by one step.
    fn advance(&mut self, now: Moment) -> Option<Output> {
        for choice in [Choice::Quic, Choice::WebSocket] {
            let healthy_quic = self.is_healthy_on(Transport::Quic);
            let is_awaiting = self.awaiting().is_some();
            let Some(leg) = self.leg(choice) else { continue };
            match leg {
                Leg::StartsAt(at) if *at <= now => {
                    *leg = Leg::Dialing { since: now };
                    return Some(Output::Dial(choice));
                }
                // One at a time: two hellos without a session would make two sessions.
                Leg::Connected { .. } if is_awaiting => {}
                Leg::Connected { took } => {
                    let took = *took;
                    return Some(self.judge(choice, took, healthy_quic, now));
                }
                Leg::StartsAt(_) | Leg::Out | Leg::Dialing { .. } | Leg::Adopted | Leg::Failed(_) => {}
            }
        }
        None
    }

    /// A connected leg is taken, unless the session is well served already.
    fn judge(&mut self, choice: Choice, took: Duration, healthy_quic: bool, now: Moment) -> Output {
        let is_served = match choice {
            Choice::Quic => healthy_quic,
            Choice::WebSocket => self.now_on.carrier.is_some_and(|carrier| !carrier.is_suspect),
        };
        if is_served {
            if let Some(leg) = self.leg(choice) {
                *leg = Leg::Out;
            }
            self.settle_attempt(now);
            return Output::Discard(choice);
        }
        let why = self.why(choice, took, now);
        let until = now + self.config.welcome_deadline;
        let turned_away = self.now_on.turned_away;
        if let Some(attempt) = &mut self.attempt {
            attempt.awaiting = Some(Awaiting { choice, until, turned_away });
        }
        if let Some(leg) = self.leg(choice) {
            *leg = Leg::Adopted;
        }
        Output::Adopt(choice, why)
    }

    /// Why this transport, in words that help at three in the morning.
    fn why(&self, choice: Choice, took: Duration, now: Moment) -> String {
        let is_probe = self.attempt.as_ref().is_some_and(|attempt| attempt.is_probe);
        let quic = self.attempt.as_ref().map(|attempt| &attempt.quic);
        match (choice, quic) {
            (Choice::Quic, _) if is_probe => "QUIC works again".into(),
            (Choice::Quic, _) if self.is_on(Transport::WebSocket) => {
                "QUIC answered after the fallback".into()
            }
            (Choice::Quic, _) => "first choice".into(),
            (Choice::WebSocket, _) if self.config.allowed == Allowed::WebSocketOnly => "configured".into(),
            (Choice::WebSocket, _) if self.is_on(Transport::Quic) => {
                format!("fallback: QUIC fell silent; WebSocket connected in {} ms", took.as_millis())
            }
            (Choice::WebSocket, Some(Leg::Failed(why))) => format!("fallback: QUIC failed: {why}"),
            (Choice::WebSocket, Some(Leg::Dialing { since })) => {
                format!("fallback: no answer over QUIC within {} ms", now.since(*since).as_millis())
            }
            (Choice::WebSocket, _) => "fallback: QUIC did not carry the session".into(),
        }
    }

    fn give_up_waiting(&mut self, now: Moment) {
        if let Some(choice) =
            self.awaiting().filter(|awaiting| now >= awaiting.until).map(|awaiting| awaiting.choice)
        {
            self.failed(choice, "no welcome in time".into(), now);
        }
    }

    fn next_time(&self, now: Moment) -> Option<Moment> {
        let start = |leg: &Leg| if let Leg::StartsAt(at) = leg { Some(*at) } else { None };
        match &self.attempt {
            Some(attempt) => {
                let welcome = attempt.awaiting.as_ref().map(|awaiting| awaiting.until);
                [start(&attempt.quic), start(&attempt.websocket), welcome].into_iter().flatten().min()
            }
            None => match self.now_on.carrier {
                Some(carrier) if !carrier.is_suspect => {
                    self.probe.map(|(at, _)| at).filter(|at| *at > now && self.is_on(Transport::WebSocket))
                }
                Some(_) | None => Some(self.not_before),
            },
        }
    }

    fn leg(&mut self, choice: Choice) -> Option<&mut Leg> {
        let attempt = self.attempt.as_mut()?;
        Some(match choice {
            Choice::Quic => &mut attempt.quic,
            Choice::WebSocket => &mut attempt.websocket,
        })
    }

    fn awaiting(&self) -> Option<&Awaiting> {
        self.attempt.as_ref()?.awaiting.as_ref()
    }

    fn is_on(&self, transport: Transport) -> bool {
        self.now_on.carrier.is_some_and(|carrier| carrier.transport == transport)
    }

    fn is_healthy_on(&self, transport: Transport) -> bool {
        self.is_on(transport) && self.now_on.carrier.is_some_and(|carrier| !carrier.is_suspect)
    }

    fn quic_failed_lately(&self, now: Moment) -> bool {
        self.quic_failed.as_ref().is_some_and(|(at, _)| now.since(*at) < self.config.remember)
    }

    /// Full jitter: anything from nothing to `most`.
    fn jittered(&mut self, most: Duration) -> Duration {
        most.mul_f64(f64::from(self.chance.next_u32()) / f64::from(u32::MAX))
    }
}
