use super::*;
use proptest::prelude::*;

const START: Moment = Moment::from_micros(1_000_000_000);

fn at(ms: u64) -> Moment {
    START + Duration::from_millis(ms)
}

fn id(n: u8) -> SessionId {
    SessionId::from_bytes([n; 16])
}

fn truck() -> VehicleId {
    "truck".parse().unwrap()
}

fn hello(session: Option<SessionId>, epoch: u64) -> Request {
    Request { version: VERSION, session, epoch: Epoch::new(epoch) }
}

fn observed(connected: bool, heard: Moment) -> Input {
    Input::Observed { vehicle: truck(), session: id(1), connected, heard: Some(heard) }
}

fn with_truck() -> Registry {
    let mut registry = Registry::new(Limits::default());
    let admission = registry.admit(at(0), &truck(), hello(None, 0), id(1));
    assert_eq!(admission, Admission::New { session: id(1), epoch: Epoch::new(1), takes_over: None });
    registry
}

fn drain(registry: &mut Registry) -> Vec<Output> {
    std::iter::from_fn(|| registry.poll()).collect()
}

fn presence(presence: Presence) -> Output {
    Output::Presence { vehicle: truck(), presence }
}

#[test]
fn a_vehicle_goes_online_stale_offline_and_back() {
    let mut registry = with_truck();
    assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
    registry.handle(at(3_001), Input::Tick);
    assert_eq!(drain(&mut registry), [presence(Presence::Stale)]);
    registry.handle(at(3_500), observed(true, at(3_400)));
    assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
    registry.handle(at(4_000), observed(false, at(3_400)));
    assert_eq!(drain(&mut registry), [presence(Presence::Offline)]);
    assert_eq!(registry.view(at(4_400), &truck()).unwrap().age, Duration::from_secs(1));
    assert_eq!(registry.admit(at(5_000), &truck(), hello(Some(id(1)), 1), id(9)), Admission::Resume(id(1)));
    assert_eq!(drain(&mut registry), [presence(Presence::Online)]);
    assert_eq!(registry.view(at(5_000), &truck()).unwrap().resumes, 1);
}

#[test]
fn a_connection_that_is_being_taken_in_does_not_flicker() {
    let mut registry = with_truck();
    drain(&mut registry);
    registry
        .handle(at(499), Input::Observed { vehicle: truck(), session: id(1), connected: false, heard: None });
    assert_eq!(drain(&mut registry), []);
    registry
        .handle(at(500), Input::Observed { vehicle: truck(), session: id(1), connected: false, heard: None });
    assert_eq!(drain(&mut registry), [presence(Presence::Offline)]);
}

#[test]
fn a_session_outlives_its_connection_by_the_resume_window_only() {
    let mut registry = with_truck();
    registry.handle(at(1_000), observed(false, at(900)));
    registry.handle(at(61_000), Input::Tick);
    assert_eq!(registry.session(&truck()), Some(id(1)));
    registry.handle(at(61_001), Input::Tick);
    assert!(drain(&mut registry).contains(&Output::End {
        vehicle: truck(),
        session: id(1),
        code: CloseCode::Dead
    }));
    assert_eq!(registry.sessions(), 0);
    let again = registry.admit(at(62_000), &truck(), hello(Some(id(1)), 1), id(2));
    assert_eq!(again, Admission::New { session: id(2), epoch: Epoch::new(2), takes_over: None });
}

#[test]
fn a_newer_session_takes_over_and_the_older_ones_end_is_no_news() {
    let mut registry = with_truck();
    let newer = registry.admit(at(10), &truck(), hello(None, 0), id(2));
    assert_eq!(newer, Admission::New { session: id(2), epoch: Epoch::new(2), takes_over: Some(id(1)) });
    drain(&mut registry);
    registry.handle(at(20), Input::Ended { vehicle: truck(), session: id(1) });
    assert_eq!(drain(&mut registry), []);
    assert_eq!(registry.sessions(), 1);
    assert_eq!(registry.session(&truck()), Some(id(2)));
}

#[test]
fn an_epoch_from_elsewhere_is_exceeded_even_when_the_session_is_known() {
    let mut registry = with_truck();
    let admission = registry.admit(at(10), &truck(), hello(Some(id(1)), 41), id(2));
    assert_eq!(admission, Admission::New { session: id(2), epoch: Epoch::new(42), takes_over: Some(id(1)) });
}

#[test]
fn a_connected_but_silent_session_is_no_zombie_for_ever() {
    let mut registry = with_truck();
    registry.handle(at(30_001), observed(true, at(0)));
    registry.handle(at(30_001), Input::Tick);
    assert!(drain(&mut registry).iter().any(|output| matches!(output, Output::End { .. })));
    assert_eq!(registry.session(&truck()), None);
}

#[test]
fn another_version_is_told_so() {
    let mut registry = Registry::new(Limits::default());
    let request = Request { version: VERSION + 1, ..hello(None, 0) };
    let refused = Admission::Refuse(CloseCode::VersionMismatch);
    assert_eq!(registry.admit(at(0), &truck(), request, id(1)), refused);
    assert!(!registry.knows(&truck()));
}

#[test]
fn beyond_the_limits_the_longest_gone_is_forgotten_or_the_newcomer_refused() {
    let mut registry = Registry::new(Limits { vehicles: 2, sessions: 2, ..Limits::default() });
    let name = |n: u8| format!("v{n}").parse::<VehicleId>().unwrap();
    for n in 1..=2 {
        registry.admit(at(u64::from(n)), &name(n), hello(None, 0), id(n));
    }
    let refused = Admission::Refuse(CloseCode::Overloaded);
    assert_eq!(registry.admit(at(3), &name(3), hello(None, 0), id(3)), refused);
    registry.handle(at(4), Input::Ended { vehicle: name(1), session: id(1) });
    assert!(matches!(registry.admit(at(5), &name(3), hello(None, 0), id(3)), Admission::New { .. }));
    assert!(!registry.knows(&name(1)));
    assert!(matches!(
        registry.admit(at(6), &name(2), hello(None, 0), id(4)),
        Admission::New { takes_over: Some(_), .. }
    ));
}

proptest! {
    /// OWNER: epochs rise strictly per vehicle, one session each, and the count of live ones is
    /// true, whatever comes.
    #[test]
    fn epochs_rise_and_counts_hold(steps in prop::collection::vec((0u8..4, 0u8..3, 0u8..8, 0u64..50), 1..200)) {
        let mut registry = Registry::new(Limits { vehicles: 3, sessions: 2, ..Limits::default() });
        let mut highest = BTreeMap::new();
        let mut now = START;
        for (n, (kind, who, session, epoch)) in steps.into_iter().enumerate() {
            now = now + Duration::from_secs(epoch);
            let vehicle: VehicleId = format!("v{who}").parse().unwrap();
            match kind {
                0 => {
                    let fresh = SessionId::from_bytes((n as u128).to_be_bytes());
                    let known = registry.session(&vehicle).filter(|_| session % 2 == 0);
                    if let Admission::New { epoch: new, .. } =
                        registry.admit(now, &vehicle, hello(known, epoch), fresh)
                    {
                        prop_assert!(new > Epoch::new(epoch));
                        prop_assert!(Some(new) > highest.insert(vehicle, new));
                    }
                }
                1 => if let Some(session) = registry.session(&vehicle) {
                    registry.handle(now, Input::Ended { vehicle, session });
                },
                2 => if let Some(held) = registry.session(&vehicle) {
                    let connected = session % 2 == 0;
                    registry.handle(now, Input::Observed { vehicle, session: held, connected, heard: Some(now) });
                },
                _ => registry.handle(now, Input::Tick),
            }
            let live = registry.views(now).filter(|(_, view)| view.session.is_some()).count();
            prop_assert_eq!(live, registry.sessions());
            prop_assert!(live <= 2 && registry.vehicles.len() <= 3);
            // A forgotten vehicle starts over: its own hello carries its epoch from there on.
            highest.retain(|id, _| registry.knows(id));
        }
    }
}
