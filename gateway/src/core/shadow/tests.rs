use std::time::Duration;

use carriageway_proto::{PathState, SyncStatus};
use proptest::prelude::*;

use super::*;

const BOOT: BootId = BootId::from_bytes([1; 16]);
const OTHER: BootId = BootId::from_bytes([2; 16]);
const THEIRS: Stamp = Stamp { boot: OTHER, clock: Moment::from_micros(77) };

fn at(ms: u64) -> Moment {
    Moment::from_micros(50_000_000) + Duration::from_millis(ms)
}

fn truck() -> VehicleId {
    "truck".parse().unwrap()
}

fn path(name: &str) -> SignalPath {
    name.parse().unwrap()
}

fn set(name: &str, value: i64, valid_ms: Option<u64>) -> BTreeMap<SignalPath, Edit> {
    let valid_for = valid_ms.map(Duration::from_millis);
    [(path(name), Edit::Set { value: Value::Int(value), valid_for })].into()
}

fn remove(name: &str) -> BTreeMap<SignalPath, Edit> {
    [(path(name), Edit::Remove)].into()
}

struct World {
    shadows: Shadows,
    now: u64,
    disk: Option<Desired>,
    to_keep: Vec<u64>,
    slow_disk: bool,
    sent: Vec<Desired>,
    patched: Vec<(u64, bool)>,
    changes: usize,
}

impl World {
    fn new() -> Self {
        Self::after(None, BOOT)
    }

    fn after(disk: Option<Desired>, boot: BootId) -> Self {
        let kept = disk.clone().map(|desired| (truck(), desired));
        let shadows = Shadows::new(Limits::default(), boot, kept);
        let (to_keep, sent, patched) = (vec![], vec![], vec![]);
        Self { shadows, now: 0, disk, to_keep, slow_disk: false, sent, patched, changes: 0 }
    }

    fn handle(&mut self, input: Input) {
        self.shadows.handle(at(self.now), input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.shadows.poll() {
            match output {
                Output::Keep { vehicle, desired } => {
                    let version = desired.version;
                    if self.slow_disk {
                        self.to_keep.push(version);
                    } else {
                        self.disk = Some(desired);
                        self.shadows.handle(at(self.now), Input::Kept { vehicle, version });
                    }
                }
                Output::Patched { version, kept, .. } => self.patched.push((version, kept)),
                Output::Send { vehicle } => {
                    self.sent.push(self.shadows.message(at(self.now), &vehicle, THEIRS).unwrap());
                }
                Output::Changed { .. } => self.changes += 1,
            }
        }
    }

    fn patch(&mut self, version: u64, edits: &BTreeMap<SignalPath, Edit>) -> Result<Change, PatchRefusal> {
        let condition = Condition::Versions(vec![version]);
        let patched = self.shadows.patch(at(self.now), &truck(), &condition, edits);
        self.drain();
        patched
    }

    fn comes(&mut self, epoch: u64) {
        self.handle(Input::Established { vehicle: truck(), epoch: Epoch::new(epoch) });
    }

    fn lands(&mut self, arrived: bool) {
        self.handle(Input::Settled { vehicle: truck(), arrived });
    }

    fn reports(&mut self, epoch: u64, version: u64, name: &str, status: SyncStatus, value: i64) {
        let reported = Some(Value::Int(value));
        let state =
            PathState { path: path(name), status, version, reported, reason: None, detail: String::new() };
        let (vehicle, epoch) = (truck(), Epoch::new(epoch));
        self.handle(Input::Report { vehicle, epoch, report: StateReport { version, paths: vec![state] } });
    }

    fn view(&self) -> View {
        self.shadows.view(at(self.now), &truck(), |_| None)
    }

    fn status(&self, name: &str) -> Option<SyncStatus> {
        self.view().paths.into_iter().find(|one| one.path == path(name))?.status
    }

    fn versions_sent(&self) -> Vec<u64> {
        self.sent.iter().map(|desired| desired.version).collect()
    }
}

#[test]
fn a_change_is_made_to_the_version_it_names_or_not_at_all() {
    let mut world = World::new();
    assert_eq!(world.patch(0, &set("A", 1, None)), Ok(Change::Promised(1)));
    assert_eq!(world.patch(0, &set("A", 2, None)), Err(PatchRefusal::Precondition { version: 1 }));
    assert_eq!(world.patch(1, &set("B", 2, None)), Ok(Change::Promised(2)));
    let any = world.shadows.patch(at(0), &truck(), &Condition::Any, &remove("A"));
    assert_eq!(any, Ok(Change::Promised(3)));
    world.drain();
    let view = world.view();
    assert_eq!((view.version, view.paths.len()), (3, 1));
    assert_eq!(view.paths[0].wish.as_ref().unwrap().version, 2, "of the change that made it");
    assert_eq!(world.patch(3, &remove("A")), Ok(Change::None));
}

#[test]
fn nothing_is_answered_sent_or_shown_before_it_is_on_disk() {
    let mut world = World::new();
    world.comes(1);
    world.slow_disk = true;
    world.patch(0, &set("A", 1, None)).unwrap();
    assert_eq!((world.patched.len(), world.sent.len(), world.view().version), (0, 0, 0));
    assert_eq!(world.patch(0, &set("A", 2, None)), Err(PatchRefusal::Busy));
    world.handle(Input::Kept { vehicle: truck(), version: 1 });
    assert_eq!((world.patched.clone(), world.versions_sent()), (vec![(1, true)], vec![1]));
    world.patch(1, &set("A", 2, None)).unwrap();
    world.handle(Input::NotKept { vehicle: truck(), version: 2 });
    assert_eq!((world.patched.last(), world.view().version), (Some(&(2, false)), 1));
    assert_eq!(world.patch(1, &set("A", 3, None)), Ok(Change::Promised(3)), "2 may be on disk after all");
}

#[test]
fn one_message_is_under_way_and_the_newest_follows() {
    let mut world = World::new();
    world.comes(1);
    for version in 0..4 {
        world.patch(version, &set("A", 1, Some(9_000 + version))).unwrap();
    }
    assert_eq!(world.versions_sent(), [1]);
    world.lands(true);
    assert_eq!(world.versions_sent(), [1, 4], "what came between is of no use any more");
    world.lands(true);
    world.handle(Input::Tick);
    assert_eq!(world.versions_sent(), [1, 4]);
}

#[test]
fn each_establishment_is_told_again() {
    let mut world = World::new();
    world.patch(0, &set("A", 1, None)).unwrap();
    world.comes(1);
    world.comes(1);
    assert_eq!(world.versions_sent(), [1], "the one under way comes with the session");
    world.lands(true);
    assert_eq!(world.versions_sent(), [1, 1]);
    world.handle(Input::Ended { vehicle: truck(), epoch: Epoch::new(1) });
    world.comes(2);
    assert_eq!(world.versions_sent(), [1, 1, 1]);
}

#[test]
fn a_full_lane_is_tried_again() {
    let mut world = World::new();
    world.comes(1);
    world.patch(0, &set("A", 1, None)).unwrap();
    world.handle(Input::Unsent { vehicle: truck() });
    assert_eq!(world.sent.len(), 1);
    world.handle(Input::Tick);
    assert_eq!(world.sent.len(), 2);
}

#[test]
fn a_wish_that_is_over_is_neither_sent_nor_missed() {
    let mut world = World::new();
    world.patch(0, &set("A", 1, Some(1_000))).unwrap();
    world.patch(1, &set("B", 1, None)).unwrap();
    world.now = 400;
    world.comes(1);
    assert_eq!(world.sent[0].values[0].ttl, Some(Duration::from_millis(600)), "what is left of it");
    assert_eq!((world.sent[0].values[0].stamp, world.sent[0].values[1].ttl), (THEIRS, None));
    let before = world.changes;
    world.now = 1_000;
    world.handle(Input::Tick);
    world.handle(Input::Tick);
    assert_eq!(world.changes, before + 1, "its end is told once");
    assert_eq!(world.status("A"), Some(SyncStatus::Expired));
    assert!(!world.view().paths[0].differs() && world.view().paths[1].differs());
    world.comes(2);
    assert_eq!(world.sent[1].values.len(), 1);
}

#[test]
fn what_was_reached_in_time_stays_reached() {
    let mut world = World::new();
    world.comes(1);
    world.patch(0, &set("A", 1, Some(1_000))).unwrap();
    world.reports(1, 1, "A", SyncStatus::InSync, 1);
    world.now = 2_000;
    assert_eq!(world.status("A"), Some(SyncStatus::InSync));
}

#[test]
fn after_a_restart_of_the_process_time_goes_on_and_after_a_reboot_it_is_over() {
    let mut world = World::new();
    world.patch(0, &set("A", 1, Some(1_000))).unwrap();
    world.patch(1, &set("B", 1, None)).unwrap();
    let disk = world.disk.clone();
    let mut restarted = World::after(disk.clone(), BOOT);
    restarted.now = 999;
    assert_eq!(restarted.status("A"), Some(SyncStatus::Pending));
    assert_eq!(restarted.patch(2, &set("C", 1, None)), Ok(Change::Promised(3)));
    let rebooted = World::after(disk, OTHER);
    assert_eq!(rebooted.status("A"), Some(SyncStatus::Expired), "nobody knows how long it was off");
    assert_eq!(rebooted.status("B"), Some(SyncStatus::Pending), "this one has no end");
}

#[test]
fn reports_only_rise_within_a_session_and_are_of_the_version_they_name() {
    let mut world = World::new();
    world.comes(1);
    world.patch(0, &set("A", 1, None)).unwrap();
    world.patch(1, &set("A", 2, None)).unwrap();
    world.reports(1, 1, "A", SyncStatus::InSync, 1);
    assert_eq!(world.status("A"), Some(SyncStatus::Pending), "that was the wish before");
    assert!(world.view().paths[0].differs());
    world.reports(1, 2, "A", SyncStatus::InSync, 2);
    world.reports(1, 1, "A", SyncStatus::GivenUp, 1);
    assert_eq!((world.status("A"), world.view().is_in_sync()), (Some(SyncStatus::InSync), true));
    world.reports(9, 3, "A", SyncStatus::GivenUp, 1);
    assert_eq!(world.status("A"), Some(SyncStatus::InSync), "words of another session");
}

#[test]
fn a_version_that_the_vehicle_has_seen_is_not_given_out_again() {
    let mut world = World::new();
    world.comes(1);
    world.reports(1, 41, "A", SyncStatus::InSync, 1);
    assert_eq!(world.patch(0, &set("A", 1, None)), Ok(Change::Promised(42)));
    world.comes(2);
    world.reports(2, u64::MAX, "A", SyncStatus::InSync, 1);
    assert_eq!(world.patch(42, &set("A", 2, None)), Ok(Change::Promised(43)), "no such version");
}

#[test]
fn a_newer_signal_shows_what_holds() {
    let mut world = World::new();
    world.comes(1);
    world.patch(0, &set("A", 1, None)).unwrap();
    world.now = 100;
    world.reports(1, 1, "A", SyncStatus::InSync, 1);
    let seen =
        |ms| world.shadows.view(at(200), &truck(), |_| Some((Value::Float(3.0), at(ms)))).paths[0].clone();
    assert_eq!(seen(101).reported, Some((Value::Float(3.0), at(101))));
    assert!(seen(101).differs());
    assert_eq!(seen(100).reported, Some((Value::Int(1), at(100))));
}

#[test]
fn paths_and_bytes_and_vehicles_are_bounded() {
    let mut world = World::new();
    let edit = |text: &str| Edit::Set { value: Value::Text(text.into()), valid_for: None };
    let many = |count: usize, text: &str| (0..count).map(|n| (path(&format!("P{n}")), edit(text))).collect();
    assert_eq!(world.patch(0, &many(129, "x")), Err(PatchRefusal::TooManyPaths));
    assert_eq!(world.patch(0, &many(128, &"x".repeat(512))), Err(PatchRefusal::TooLarge));
    assert!(!world.shadows.knows(&truck()), "a refusal leaves nothing behind");
    assert_eq!(world.patch(0, &many(128, "x")), Ok(Change::Promised(1)));
    assert_eq!(world.patch(1, &set("Q", 1, None)), Err(PatchRefusal::TooManyPaths));
    world.shadows = Shadows::new(Limits { vehicles: 0 }, BOOT, None);
    assert_eq!(world.patch(0, &set("A", 1, None)), Err(PatchRefusal::Full));
}

#[test]
fn what_is_forgotten_is_what_was_reported() {
    let mut world = World::new();
    world.comes(1);
    world.reports(1, 0, "A", SyncStatus::InSync, 1);
    world.shadows.forget(|_| false);
    assert!(!world.shadows.knows(&truck()));
    world.patch(0, &set("A", 1, None)).unwrap();
    world.shadows.forget(|_| false);
    assert_eq!(world.view().version, 1);
}

#[test]
fn after_the_clock_went_backwards_what_is_valid_for_a_while_is_over_also_after_a_restart() {
    let mut world = World::new();
    world.comes(1);
    world.patch(0, &set("A", 1, Some(60_000))).unwrap();
    world.patch(1, &set("B", 2, None)).unwrap();
    world.shadows.note(at(5_000));
    world.shadows.note(at(2_000));
    world.now = 5_001;
    assert_eq!(
        (world.status("A"), world.status("B")),
        (Some(SyncStatus::Expired), Some(SyncStatus::Pending))
    );
    let changes = world.changes;
    world.handle(Input::Tick);
    assert_eq!((world.changes, world.patched.len()), (changes + 1, 2), "it is told, and is no new version");
    let left: Vec<_> = world.shadows.message(at(5_001), &truck(), THEIRS).unwrap().values;
    assert_eq!(left.iter().map(|wish| wish.path.as_str()).collect::<Vec<_>>(), ["B"]);
    let mut again = World::after(world.disk.clone(), BOOT);
    again.now = 6_000;
    assert_eq!((again.status("A"), again.view().version), (Some(SyncStatus::Expired), 2));
    assert_eq!(
        world.patch(2, &set("A", 1, Some(60_000))),
        Ok(Change::Promised(3)),
        "a new wish is of a known age"
    );
    assert_eq!(world.status("A"), Some(SyncStatus::Pending));
}

#[test]
fn a_change_that_is_under_way_while_the_clock_goes_backwards_is_doubted_too() {
    let mut world = World::new();
    world.slow_disk = true;
    world.shadows.note(at(0));
    world.patch(0, &set("A", 1, Some(60_000))).unwrap();
    world.shadows.note(at(1));
    world.shadows.note(at(0));
    world.handle(Input::Tick);
    assert_eq!(world.to_keep, [1], "one write at a time");
    world.handle(Input::Kept { vehicle: truck(), version: 1 });
    assert_eq!((world.status("A"), world.patched.as_slice()), (Some(SyncStatus::Expired), &[(1, true)][..]));
    world.handle(Input::Tick);
    world.handle(Input::NotKept { vehicle: truck(), version: 1 });
    world.handle(Input::Tick);
    assert_eq!(world.to_keep, [1, 1, 1], "and again where the disk failed");
    world.handle(Input::Kept { vehicle: truck(), version: 1 });
    world.handle(Input::Tick);
    assert_eq!((world.to_keep.len(), world.patched.len(), world.view().version), (3, 1, 1));
}

proptest! {
    /// Whatever is patched, kept, lost and restarted: versions on disk rise, and no number ever stands
    /// for two states that a vehicle has seen.
    #[test]
    fn a_version_means_one_state(steps in prop::collection::vec((0_u8..6, 0_i64..4), 1..80)) {
        let mut world = World::new();
        let mut seen: BTreeMap<u64, Desired> = BTreeMap::new();
        let mut epoch = 1;
        world.comes(epoch);
        world.slow_disk = true;
        let mut pending: Option<(u64, Desired)> = None;
        for (step, value) in steps {
            match step {
                0 | 1 => {
                    let any = Condition::Any;
                    let change = world.shadows.patch(at(world.now), &truck(), &any, &set("A", value, Some(60_000)));
                    if let (Ok(Change::Promised(version)), Some(Output::Keep { desired, .. })) =
                        (change, world.shadows.poll())
                    {
                        pending = Some((version, desired));
                    }
                }
                2 => {
                    if let Some((version, desired)) = pending.take() {
                        let before = world.disk.replace(desired).map_or(0, |before| before.version);
                        prop_assert!(before < version, "versions on disk rise");
                        world.handle(Input::Kept { vehicle: truck(), version });
                    }
                }
                3 => {
                    if let Some((version, _)) = pending.take() {
                        world.handle(Input::NotKept { vehicle: truck(), version });
                    }
                }
                4 => {
                    // Killed: what was not synced is lost.
                    pending = None;
                    let (now, sent) = (world.now, std::mem::take(&mut world.sent));
                    world = World::after(world.disk.clone(), BOOT);
                    (world.now, world.slow_disk, world.sent) = (now, true, sent);
                    epoch += 1;
                    world.comes(epoch);
                }
                _ => world.lands(true),
            }
            world.now += 1;
            for desired in world.sent.drain(..) {
                let values = |one: &Desired| one.values.iter().map(|wish| (wish.path.clone(), wish.value.clone())).collect::<Vec<_>>();
                let first = seen.entry(desired.version).or_insert_with(|| desired.clone());
                prop_assert_eq!(values(first), values(&desired));
            }
        }
    }
}
