//! FENCE against a model: a vehicle that keeps the highest token it has seen, two gateways that hold
//! its session in turn, each with a disk that loses what was not synced, and operators who take, force,
//! renew, release and steer at any time.

use std::collections::{BTreeMap, BTreeSet};

use carriageway_proto::DrivePhase;
use proptest::prelude::*;

use super::*;

const OPERATORS: [&str; 3] = ["ada", "bob", "eve"];

#[derive(Clone, Debug)]
enum Step {
    Pass(u64),
    Take {
        gateway: usize,
        who: usize,
        force: bool,
    },
    Renew {
        gateway: usize,
        who: usize,
    },
    Release {
        gateway: usize,
        who: usize,
    },
    /// The disk has synced, and says so.
    Sync(usize),
    /// The disk has written or not, and says it failed.
    Break {
        gateway: usize,
        written: bool,
    },
    Crash(usize),
    /// The vehicle opens a session here.
    Move(usize),
    /// What the gateway has sent arrives.
    Deliver,
    /// The vehicle says how it stands.
    Tell,
    Steer {
        gateway: usize,
        who: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (gateway, who) = (0_usize..2, 0_usize..3);
    let step = prop_oneof![
        3 => (0_u64..900).prop_map(Step::Pass),
        6 => (gateway.clone(), who.clone(), any::<bool>())
            .prop_map(|(gateway, who, force)| Step::Take { gateway, who, force }),
        3 => (gateway.clone(), who.clone()).prop_map(|(gateway, who)| Step::Renew { gateway, who }),
        1 => (gateway.clone(), who.clone()).prop_map(|(gateway, who)| Step::Release { gateway, who }),
        6 => gateway.clone().prop_map(Step::Sync),
        1 => (gateway.clone(), any::<bool>()).prop_map(|(gateway, written)| Step::Break { gateway, written }),
        2 => gateway.clone().prop_map(Step::Crash),
        3 => gateway.clone().prop_map(Step::Move),
        5 => Just(Step::Deliver),
        5 => Just(Step::Tell),
        8 => (gateway, who).prop_map(|(gateway, who)| Step::Steer { gateway, who }),
    ];
    prop::collection::vec(step, 1..120)
}

struct Gateway {
    leases: Leases,
    disk: Option<Token>,
    unsynced: Vec<Token>,
    /// The token that each operator believes to hold here.
    believed: BTreeMap<usize, Token>,
    granted: Vec<Token>,
}

struct Car {
    at: usize,
    epoch: u64,
    highest: Option<Token>,
    ends: Moment,
    /// Leases on their way, with the session that they are in.
    lane: VecDeque<(u64, Lease, bool)>,
}

struct Model {
    now: Moment,
    gateways: [Gateway; 2],
    car: Car,
    /// Whose each token was when it first had effect.
    effects: BTreeMap<Token, String>,
    newest_effect: Option<Token>,
    /// Tokens whose lease was given back.
    released: BTreeSet<(usize, Token)>,
}

fn truck() -> VehicleId {
    "truck".parse().unwrap()
}

impl Model {
    fn new() -> Self {
        let gateway = || Gateway {
            leases: Leases::new(Limits::default(), None),
            disk: None,
            unsynced: Vec::new(),
            believed: BTreeMap::new(),
            granted: Vec::new(),
        };
        let car = Car { at: 0, epoch: 0, highest: None, ends: Moment::ZERO, lane: VecDeque::new() };
        let now = Moment::from_micros(9_000_000);
        let gateways = [gateway(), gateway()];
        Self { now, gateways, car, effects: BTreeMap::new(), newest_effect: None, released: BTreeSet::new() }
    }

    fn act(&mut self, step: &Step) {
        let vehicle = truck();
        match *step {
            Step::Pass(ms) => self.now = self.now + Duration::from_millis(ms),
            Step::Take { gateway, who, force } => {
                let place = &mut self.gateways[gateway];
                let connected = self.car.at == gateway;
                if let Ok(token) = place.leases.take(self.now, &vehicle, OPERATORS[who], force, connected) {
                    place.believed.insert(who, token);
                }
            }
            Step::Renew { gateway, who } => {
                let place = &mut self.gateways[gateway];
                if let Some(token) = place.believed.get(&who) {
                    let _may_be_over = place.leases.renew(self.now, &vehicle, OPERATORS[who], *token);
                }
            }
            Step::Release { gateway, who } => {
                let place = &mut self.gateways[gateway];
                if let Some(token) = place.believed.get(&who) {
                    let released = place.leases.release(self.now, &vehicle, OPERATORS[who], *token);
                    self.released.extend(released.ok().map(|()| (gateway, *token)));
                }
            }
            Step::Sync(gateway) => self.sync(gateway),
            Step::Break { gateway, written } => {
                for token in std::mem::take(&mut self.gateways[gateway].unsynced) {
                    let place = &mut self.gateways[gateway];
                    place.disk = if written { place.disk.max(Some(token)) } else { place.disk };
                    place.leases.handle(self.now, Input::NotKept { vehicle: vehicle.clone(), token });
                }
            }
            Step::Crash(gateway) => self.crash(gateway),
            Step::Move(gateway) => self.travel(gateway),
            Step::Deliver => self.deliver(),
            Step::Tell => {
                let phase = DrivePhase::Safe;
                let state = DriveState { phase, cause: None, nonce: None, token: self.car.highest };
                let epoch = Epoch::new(self.car.epoch);
                self.gateways[self.car.at].leases.handle(self.now, Input::Told { vehicle, epoch, state });
            }
            Step::Steer { gateway, who } => self.steer(gateway, who),
        }
        self.drain();
    }

    fn sync(&mut self, gateway: usize) {
        for token in std::mem::take(&mut self.gateways[gateway].unsynced) {
            let place = &mut self.gateways[gateway];
            place.disk = place.disk.max(Some(token));
            place.leases.handle(self.now, Input::Kept { vehicle: truck(), token });
        }
    }

    fn crash(&mut self, gateway: usize) {
        let place = &mut self.gateways[gateway];
        place.unsynced.clear();
        let kept = place.disk.map(|token| (truck(), token));
        place.leases = Leases::new(Limits::default(), kept);
        if self.car.at == gateway {
            self.travel(gateway);
        }
    }

    fn travel(&mut self, gateway: usize) {
        self.car.at = gateway;
        self.car.epoch += 1;
        let epoch = Epoch::new(self.car.epoch);
        let input = Input::Established { vehicle: truck(), epoch };
        self.gateways[gateway].leases.handle(self.now, input);
    }

    fn deliver(&mut self) {
        while let Some((epoch, lease, over)) = self.car.lane.pop_front() {
            // OWNER: what an older session carries changes nothing.
            if epoch == self.car.epoch && Some(lease.token) >= self.car.highest {
                self.car.highest = Some(lease.token);
                self.car.ends = if over { Moment::ZERO } else { lease.ends };
            }
        }
    }

    /// An operator steers by the token they believe in, through a gateway's check and the vehicle's.
    fn steer(&mut self, gateway: usize, who: usize) {
        let place = &self.gateways[gateway];
        let Some(token) = place.believed.get(&who).copied() else { return };
        let passes =
            place.leases.driving(self.now, &truck(), OPERATORS[who]).is_ok_and(|lease| lease.token == token);
        let car = &self.car;
        if !passes || car.at != gateway || car.highest != Some(token) || self.now >= car.ends {
            return;
        }
        assert!(
            !self.released.contains(&(gateway, token)),
            "FENCE: {token} had effect after it was given back"
        );
        let first = self.effects.entry(token).or_insert_with(|| OPERATORS[who].into());
        assert_eq!(first, OPERATORS[who], "FENCE: two operators had effect under token {token}");
        assert!(self.newest_effect <= Some(token), "FENCE: an older token had effect after a newer one");
        self.newest_effect = Some(token);
    }

    fn drain(&mut self) {
        for (gateway, place) in self.gateways.iter_mut().enumerate() {
            while let Some(output) = place.leases.poll() {
                match output {
                    Output::Keep { token, .. } => place.unsynced.push(token),
                    Output::Granted { lease, .. } => {
                        let (token, newest) = (lease.token, place.granted.last());
                        assert!(newest < Some(&token), "tokens rise, also across restarts");
                        assert!(Some(token) <= place.disk, "granted before it was on disk");
                        place.granted.push(token);
                    }
                    Output::Tell { lease, over, .. } if gateway == self.car.at => {
                        self.car.lane.push_back((self.car.epoch, lease, over));
                    }
                    Output::Tell { .. }
                    | Output::NotGranted { .. }
                    | Output::Drive { .. }
                    | Output::Audit(_) => {}
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn at_most_one_operator_has_effect(steps in steps()) {
        let mut model = Model::new();
        model.travel(0);
        for step in &steps {
            model.act(step);
        }
        let distinct: BTreeSet<_> = model.gateways[0].granted.iter().collect();
        prop_assert_eq!(distinct.len(), model.gateways[0].granted.len());
    }
}

/// The property would be worth little if nobody ever got to steer.
#[test]
fn the_model_drives() {
    let mut model = Model::new();
    model.travel(0);
    let take = Step::Take { gateway: 0, who: 0, force: false };
    for step in [Step::Tell, take, Step::Sync(0), Step::Deliver, Step::Steer { gateway: 0, who: 0 }] {
        model.act(&step);
    }
    assert_eq!(model.effects.len(), 1);
}

/// Two gateways grant one number, and the vehicle comes back to the one whose grant it has not seen.
#[test]
fn one_number_of_two_gateways_drives_for_one_operator() {
    let (eve, ada) = (0, 1);
    let take = |gateway, who| Step::Take { gateway, who, force: false };
    let mut model = Model::new();
    model.travel(0);
    let both = [Step::Tell, take(0, eve), Step::Sync(0), Step::Move(1), Step::Tell, take(1, ada)];
    let seen = [Step::Move(0), Step::Tell, Step::Deliver, Step::Steer { gateway: 0, who: eve }];
    let back = [Step::Sync(1), Step::Move(1), Step::Steer { gateway: 1, who: ada }];
    for step in both.iter().chain(&seen).chain(&back) {
        model.act(step);
    }
    assert_eq!((model.effects.len(), model.gateways[1].granted.len()), (1, 1), "both were granted");
}
