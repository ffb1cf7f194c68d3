use carriageway_proto::{DrivePhase, SafeCause};

use super::*;

fn at(ms: u64) -> Moment {
    Moment::from_micros(50_000_000) + Duration::from_millis(ms)
}

fn truck() -> VehicleId {
    "truck".parse().unwrap()
}

fn token(number: u64) -> Token {
    Token::granted(number).unwrap()
}

fn safe(seen: u64, nonce: u64) -> DriveState {
    let nonce = NonZeroU64::new(nonce);
    DriveState { phase: DrivePhase::Safe, cause: Some(SafeCause::Start), nonce, token: Token::granted(seen) }
}

/// A gateway with a disk that writes at once unless it is told to hold back.
struct World {
    leases: Leases,
    now: u64,
    told: Vec<(u64, bool)>,
    audits: Vec<(String, u64, Change)>,
    answers: Vec<Result<u64, TakeRefusal>>,
    to_keep: Vec<Token>,
    slow_disk: bool,
}

impl World {
    /// With the vehicle there, having said which token it has seen.
    fn after(kept: Option<u64>, seen: u64) -> Self {
        let mut world = Self::empty(kept);
        world.comes(1, seen);
        world
    }

    fn empty(kept: Option<u64>) -> Self {
        let leases = Leases::new(Limits::default(), kept.map(|number| (truck(), token(number))));
        let (told, audits, answers, to_keep) = (vec![], vec![], vec![], vec![]);
        Self { leases, now: 0, told, audits, answers, to_keep, slow_disk: false }
    }

    fn comes(&mut self, epoch: u64, seen: u64) {
        self.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(epoch) });
        self.says(epoch, safe(seen, 7));
    }

    fn says(&mut self, epoch: u64, state: DriveState) {
        self.handle(Input::Told { vehicle: truck(), epoch: Epoch::new(epoch), state });
    }

    fn handle(&mut self, input: Input) {
        self.leases.handle(at(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.leases.poll() {
            match output {
                Output::Keep { token, .. } if self.slow_disk => self.to_keep.push(token),
                Output::Keep { vehicle, token } => {
                    self.leases.handle(at(self.now), Input::Kept { vehicle, token });
                }
                Output::Granted { lease, .. } => self.answers.push(Ok(lease.token.number())),
                Output::NotGranted { why, .. } => self.answers.push(Err(why)),
                Output::Tell { lease, over, .. } => self.told.push((lease.token.number(), over)),
                Output::Drive { .. } => {}
                Output::Audit(audit) => {
                    self.audits.push((audit.operator, audit.token.number(), audit.change));
                }
            }
        }
    }

    fn take(&mut self, operator: &str, force: bool) -> Result<Token, TakeRefusal> {
        let taken = self.leases.take(at(self.now), &truck(), operator, force, true);
        self.drain();
        taken
    }

    fn renew(&mut self, operator: &str, number: u64) -> bool {
        let renewed = self.leases.renew(at(self.now), &truck(), operator, token(number)).is_ok();
        self.drain();
        renewed
    }

    fn drives(&self, operator: &str) -> Result<u64, NotDriving> {
        self.leases.driving(at(self.now), &truck(), operator).map(|lease| lease.token.number())
    }

    fn holder(&self) -> Option<(String, u64)> {
        let lease = self.leases.lease(at(self.now), &truck())?;
        Some((lease.operator.clone(), lease.token.number()))
    }
}

#[test]
fn a_token_is_above_the_disks_and_above_the_vehicles() {
    for (kept, seen, first) in [(None, 0, 1), (Some(4), 0, 5), (Some(4), 9, 10), (None, 9, 10)] {
        let mut world = World::after(kept, seen);
        assert_eq!(world.take("ada", false), Ok(token(first)));
        assert_eq!(world.holder(), Some(("ada".into(), first)));
    }
}

#[test]
fn nothing_is_granted_before_the_token_is_on_disk() {
    let mut world = World::after(None, 0);
    world.slow_disk = true;
    assert_eq!(world.take("ada", false), Ok(token(1)));
    assert_eq!((world.holder(), world.told.len()), (None, 0));
    assert_eq!(world.take("bob", false), Err(TakeRefusal::Held { by: "ada".into() }), "she was first");
    world.now = 700;
    world.handle(Input::Kept { vehicle: truck(), token: token(1) });
    assert_eq!(world.answers, [Ok(1)]);
    let lease = world.leases.lease(at(700), &truck()).unwrap();
    assert_eq!((lease.granted, lease.ends), (at(700), at(2_700)), "the disk's time is not the holder's");
    assert_eq!(world.told, [(1, false)]);
}

#[test]
fn a_disk_that_fails_grants_nothing_and_burns_the_token() {
    let mut world = World::after(None, 0);
    world.slow_disk = true;
    world.take("ada", false).unwrap();
    world.handle(Input::NotKept { vehicle: truck(), token: token(1) });
    assert_eq!(world.answers, [Err(TakeRefusal::NotKept)]);
    assert_eq!(world.holder(), None);
    world.slow_disk = false;
    assert_eq!(world.take("bob", false), Ok(token(2)), "the first may have reached the disk after all");
}

#[test]
fn a_lease_ends_with_its_ttl_and_not_a_moment_later() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.now = 1_500;
    assert!(world.renew("ada", 1));
    world.now = 3_499;
    assert_eq!(world.holder(), Some(("ada".into(), 1)));
    world.now = 3_500;
    assert_eq!(world.holder(), None);
    assert!(!world.renew("ada", 1), "what has ended is not renewed");
    assert_eq!(world.told, [(1, false), (1, false), (1, true)]);
    assert_eq!(world.audits.last().unwrap().2, Change::Ended(End::Expired));
    assert_eq!(world.take("bob", false), Ok(token(2)));
}

#[test]
fn only_its_holder_renews_and_releases_it_and_only_by_its_token() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    assert!(!world.renew("bob", 1) && !world.renew("ada", 2));
    assert_eq!(world.leases.release(at(0), &truck(), "bob", token(1)), Err(NoLease));
    assert_eq!(world.leases.release(at(0), &truck(), "ada", token(1)), Ok(()));
    world.drain();
    assert_eq!((world.holder(), world.told.last()), (None, Some(&(1, true))));
    assert_eq!(world.audits.last().unwrap().2, Change::Ended(End::Released));
}

#[test]
fn force_takes_over_and_both_are_on_record() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    assert_eq!(world.take("bob", false), Err(TakeRefusal::Held { by: "ada".into() }));
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Held { by: "ada".into() }), "another of hers");
    assert_eq!(world.take("bob", true), Ok(token(2)));
    assert_eq!(world.holder(), Some(("bob".into(), 2)));
    assert!(!world.renew("ada", 1));
    let over = |by: &str| Change::Ended(End::TakenOver { by: by.into() });
    assert_eq!(
        world.audits,
        [
            ("ada".into(), 1, Change::Granted { over: None }),
            ("ada".into(), 1, over("bob")),
            ("bob".into(), 2, Change::Granted { over: Some("ada".into()) }),
        ]
    );
    assert_eq!(world.told, [(1, false), (2, false)], "the newer token says it all");
}

#[test]
fn until_a_takeover_is_on_disk_the_holder_drives_on() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.slow_disk = true;
    world.take("bob", true).unwrap();
    assert!(world.renew("ada", 1));
    world.take("eve", true).unwrap();
    assert_eq!(world.answers, [Ok(1), Err(TakeRefusal::TakenOver { by: "eve".into() })]);
    world.handle(Input::Kept { vehicle: truck(), token: token(2) });
    assert_eq!(world.holder(), Some(("ada".into(), 1)), "bob's promise is worth nothing any more");
    world.handle(Input::Kept { vehicle: truck(), token: token(3) });
    assert_eq!(world.holder(), Some(("eve".into(), 3)));
}

#[test]
fn without_the_vehicles_word_in_its_present_session_there_is_no_lease() {
    let mut world = World::empty(None);
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Offline), "never here");
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(1) });
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Unheard));
    world.says(1, safe(0, 7));
    assert_eq!(world.leases.take(at(0), &truck(), "ada", false, false), Err(TakeRefusal::Offline));
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(2) });
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Unheard), "that was the session before");
    world.says(1, safe(0, 7));
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Unheard), "words of the older session");
    world.says(2, safe(0, 7));
    assert_eq!(world.take("ada", false), Ok(token(1)));
}

#[test]
fn a_lease_outlives_its_vehicles_session_by_what_is_left_of_it() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.says(1, safe(1, 7));
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(1) });
    world.now = 1_000;
    assert!(world.renew("ada", 1), "its holder does not know yet");
    assert_eq!(world.told, [(1, false)], "nobody is there to be told");
    world.comes(2, 1);
    assert_eq!(world.told, [(1, false), (1, false)]);
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(2) });
    world.now = 3_000;
    world.handle(Input::Tick);
    assert_eq!((world.holder(), world.told.len()), (None, 2));
}

#[test]
fn a_session_that_goes_on_is_told_again() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(1) });
    assert_eq!(world.told, [(1, false), (1, false)]);
}

#[test]
fn a_vehicle_that_has_seen_another_gateways_grant_ends_ours() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.says(1, safe(5, 7));
    assert_eq!(world.holder(), None);
    assert_eq!(world.audits.last().unwrap().2, Change::Ended(End::Fenced));
    assert_eq!(world.take("ada", false), Ok(token(6)));
}

/// The grant never reached the vehicle; another gateway granted the same number meanwhile.
#[test]
fn the_same_number_from_another_gateway_is_not_ours() {
    let mut world = World::after(None, 4);
    world.take("ada", false).unwrap();
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(1) });
    world.comes(3, 5);
    assert_eq!((world.holder(), world.told.len()), (None, 1));
    assert_eq!(world.take("ada", false), Ok(token(6)));
}

/// As above, and in the moment before the vehicle has said so.
#[test]
fn nobody_drives_by_a_lease_that_may_be_another_gateways() {
    let mut world = World::after(None, 4);
    world.take("ada", false).unwrap();
    assert_eq!(world.drives("ada"), Ok(5), "the vehicle had not seen this number");
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(1) });
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(3) });
    assert_eq!((world.holder(), world.drives("ada")), (Some(("ada".into(), 5)), Err(NotDriving::Unheard)));
    world.says(3, safe(4, 7));
    assert_eq!(world.drives("ada"), Ok(5), "it has been to no other gateway");
}

#[test]
fn a_lease_that_the_vehicle_has_confirmed_drives_on_in_its_next_session() {
    let mut world = World::after(None, 4);
    world.take("ada", false).unwrap();
    world.says(1, safe(5, 7));
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(1) });
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(2) });
    assert_eq!((world.drives("ada"), world.drives("bob")), (Ok(5), Err(NotDriving::NoLease)));
    world.says(2, safe(4, 7));
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(2) });
    world.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(3) });
    assert_eq!(world.drives("ada"), Err(NotDriving::Unheard), "it has forgotten what it confirmed");
}

#[test]
fn a_promise_that_the_vehicle_has_outrun_is_not_kept() {
    let mut world = World::after(None, 0);
    world.slow_disk = true;
    world.take("ada", false).unwrap();
    world.says(1, safe(1, 7));
    world.handle(Input::Kept { vehicle: truck(), token: token(1) });
    assert_eq!((world.holder(), world.answers), (None, vec![Err(TakeRefusal::Fenced)]));
}

#[test]
fn re_arming_names_the_lease_and_the_safe_state_of_now() {
    let mut world = World::after(None, 0);
    let rearm = |world: &World, who: &str, number, nonce| {
        world.leases.rearm(at(world.now), &truck(), who, (token(number), NonZeroU64::new(nonce).unwrap()))
    };
    assert_eq!(rearm(&world, "ada", 1, 7), Err(RearmRefusal::NoLease));
    world.take("ada", false).unwrap();
    assert_eq!(rearm(&world, "ada", 1, 7), Ok(()));
    assert_eq!(rearm(&world, "bob", 1, 7), Err(RearmRefusal::NoLease));
    assert_eq!(rearm(&world, "ada", 1, 8), Err(RearmRefusal::OtherNonce));
    let armed = DriveState { phase: DrivePhase::Armed, cause: None, nonce: None, token: Some(token(1)) };
    world.says(1, armed);
    assert_eq!(rearm(&world, "ada", 1, 7), Err(RearmRefusal::OtherNonce));
}

#[test]
fn tokens_are_remembered_within_a_limit_and_outlive_what_is_forgotten() {
    let mut world = World::after(None, 0);
    world.take("ada", false).unwrap();
    world.leases.forget(|_| false);
    assert_eq!(world.leases.view(at(0), &truck()).told, None);
    world.now = 5_000;
    world.comes(2, 0);
    assert_eq!(world.take("ada", false), Ok(token(2)));
    let limits = Limits { vehicles: 0, ..Limits::default() };
    world.leases = Leases::new(limits, None);
    world.comes(3, 0);
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Full));
}

#[test]
fn a_vehicle_that_claims_the_last_token_gets_no_lease() {
    let mut world = World::after(None, (1 << 62) - 1);
    assert_eq!(world.take("ada", false), Err(TakeRefusal::Full));
}
