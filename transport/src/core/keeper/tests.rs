use super::super::session::Carrier;
use super::*;

/// A keeper in virtual time, with a network that answers as told.
struct World {
    keeper: Keeper,
    now: Moment,
    seen: Connectivity,
    connections: u32,
}

impl World {
    fn new(config: Config) -> Self {
        let seen =
            Connectivity { carrier: None, turned_away: 0, last_end: None, retry_after: None, over: None };
        let keeper = Keeper::new(config, seen.clone(), 7);
        Self { keeper, now: Moment::from_micros(1), seen, connections: 0 }
    }

    fn poll(&mut self) -> Output {
        self.keeper.poll(self.now)
    }

    /// Lets time pass until the keeper wants something.
    fn next(&mut self) -> Output {
        loop {
            match self.poll() {
                Output::Wait(Some(until)) => self.now = self.now.max(until),
                other => return other,
            }
        }
    }

    fn after(&mut self, duration: Duration) {
        self.now = self.now + duration;
    }

    fn tell(&mut self, input: Input) {
        self.keeper.handle(self.now, input);
    }

    fn carried_by(&mut self, transport: Transport) {
        self.connections += 1;
        let connection = ConnectionId(self.connections);
        self.seen.carrier = Some(Carrier { connection, transport, is_suspect: false });
        self.tell(Input::Connectivity(self.seen.clone()));
    }

    fn suspect(&mut self) {
        self.seen.carrier.as_mut().unwrap().is_suspect = true;
        self.tell(Input::Connectivity(self.seen.clone()));
    }

    fn lost(&mut self) {
        self.seen.carrier = None;
        self.tell(Input::Connectivity(self.seen.clone()));
    }

    fn on(transport: Transport) -> Self {
        let mut world = Self::new(Config::default());
        assert_eq!(world.poll(), Output::Dial(Choice::Quic));
        if transport == Transport::WebSocket {
            world.tell(Input::Failed(Choice::Quic, "blocked".into()));
            assert_eq!(world.poll(), Output::Dial(Choice::WebSocket));
            world.tell(Input::Connected(Choice::WebSocket));
        } else {
            world.tell(Input::Connected(Choice::Quic));
        }
        assert!(matches!(world.poll(), Output::Adopt(..)));
        world.carried_by(transport);
        world
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn quic_wins_within_its_head_start() {
    let mut world = World::new(Config::default());
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    world.after(ms(80));
    world.tell(Input::Connected(Choice::Quic));
    assert_eq!(world.poll(), Output::Adopt(Choice::Quic, "first choice".into()));
    world.carried_by(Transport::Quic);
    assert_eq!(world.poll(), Output::Wait(None));
}

#[test]
fn websocket_joins_after_the_head_start_and_quic_may_still_come() {
    let mut world = World::new(Config::default());
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    assert_eq!(world.poll(), Output::Wait(Some(world.now + ms(500))));
    assert_eq!(world.next(), Output::Dial(Choice::WebSocket));
    world.after(ms(300));
    world.tell(Input::Connected(Choice::WebSocket));
    let why = "fallback: no answer over QUIC within 800 ms";
    assert_eq!(world.poll(), Output::Adopt(Choice::WebSocket, why.into()));
    world.carried_by(Transport::WebSocket);
    world.tell(Input::Connected(Choice::Quic));
    let why = "QUIC answered after the fallback";
    assert_eq!(world.poll(), Output::Adopt(Choice::Quic, why.into()), "moves up");
}

#[test]
fn a_failed_quic_brings_websocket_in_at_once() {
    let mut world = World::new(Config::default());
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    world.tell(Input::Failed(Choice::Quic, "refused".into()));
    assert_eq!(world.poll(), Output::Dial(Choice::WebSocket));
    world.tell(Input::Connected(Choice::WebSocket));
    let why = "fallback: QUIC failed: refused";
    assert_eq!(world.poll(), Output::Adopt(Choice::WebSocket, why.into()));
}

#[test]
fn a_silent_quic_is_raced_without_being_given_up() {
    let mut world = World::on(Transport::Quic);
    world.suspect();
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    assert_eq!(world.poll(), Output::Dial(Choice::WebSocket), "no head start for what fell silent");
}

#[test]
fn on_websocket_it_probes_for_quic_ever_less_often() {
    let mut world = World::on(Transport::WebSocket);
    let mut gaps = Vec::new();
    for _ in 0..6 {
        let before = world.now;
        assert_eq!(world.next(), Output::Dial(Choice::Quic));
        gaps.push(world.now.since(before));
        world.tell(Input::Failed(Choice::Quic, "blocked".into()));
    }
    assert_eq!(gaps[0], Duration::from_secs(5));
    assert!(gaps[4] >= Duration::from_mins(1) && gaps[5] <= Duration::from_secs(80), "{gaps:?}");
    assert_eq!(world.next(), Output::Dial(Choice::Quic));
    world.tell(Input::Connected(Choice::Quic));
    assert_eq!(world.poll(), Output::Adopt(Choice::Quic, "QUIC works again".into()));
}

#[test]
fn retries_back_off_with_jitter_and_honour_the_peer() {
    let mut world = World::on(Transport::Quic);
    world.seen.retry_after = Some(Duration::from_secs(3));
    let lost_at = world.now;
    world.lost();
    assert_eq!(world.next(), Output::Dial(Choice::Quic));
    let wait = world.now.since(lost_at);
    assert!((ms(3_000)..=ms(3_500)).contains(&wait), "{wait:?}");
    let mut longest = Duration::ZERO;
    for _ in 0..30 {
        let began = world.now;
        world.tell(Input::Failed(Choice::Quic, "unreachable".into()));
        assert_eq!(world.next(), Output::Dial(Choice::WebSocket));
        world.tell(Input::Failed(Choice::WebSocket, "unreachable".into()));
        assert_eq!(world.next(), Output::Dial(Choice::Quic));
        longest = longest.max(world.now.since(began));
    }
    assert!(longest > Duration::from_secs(10) && longest <= Duration::from_secs(30), "{longest:?}");
}

#[test]
fn a_refusal_after_the_connection_counts_as_a_failure() {
    let mut world = World::new(Config { allowed: Allowed::QuicOnly, ..Config::default() });
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    world.tell(Input::Connected(Choice::Quic));
    assert!(matches!(world.poll(), Output::Adopt(..)));
    world.seen.turned_away = 1;
    world.tell(Input::Connectivity(world.seen.clone()));
    let before = world.now;
    assert_eq!(world.next(), Output::Dial(Choice::Quic));
    assert!(world.now > before, "after a wait");
}

#[test]
fn a_refusal_with_a_time_to_come_back_holds_for_every_transport() {
    let mut world = World::new(Config::default());
    assert_eq!(world.poll(), Output::Dial(Choice::Quic));
    world.tell(Input::Connected(Choice::Quic));
    assert!(matches!(world.poll(), Output::Adopt(..)));
    world.seen.turned_away = 1;
    world.seen.retry_after = Some(Duration::from_secs(2));
    let refused_at = world.now;
    world.tell(Input::Connectivity(world.seen.clone()));
    assert_eq!(world.next(), Output::Dial(Choice::Quic), "not WebSocket at once");
    assert!(world.now.since(refused_at) >= Duration::from_secs(2));
    let until = world.now + ms(500);
    assert_eq!(world.poll(), Output::Wait(Some(until)), "the network is as good as before: a head start");
}

#[test]
fn it_stops_with_the_session() {
    let mut world = World::on(Transport::Quic);
    world.seen.over = Some(Ended::ByUs);
    world.tell(Input::Connectivity(world.seen.clone()));
    assert_eq!(world.poll(), Output::Stop(Ended::ByUs));
}
