//! Any story, beside a model that knows only what the invariants say.
//!
//! The model sees what a vehicle, a disk and an operator see: what was dispatched, written, told. Its disk
//! loses what was not synced when the gateway dies; its vehicle acts at most once per key.

use proptest::prelude::*;

use super::*;

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Submit {
        target: u8,
        value: i64,
        class: Class,
        queue: bool,
    },
    /// The nth command under way reaches the vehicle, which acts; `heard`: and the gateway hears of it.
    Arrive {
        nth: usize,
        heard: bool,
    },
    /// The session gives it back, or loses it.
    Lose {
        nth: usize,
        sent: bool,
    },
    Cancel {
        nth: usize,
    },
    Reach(bool),
    Sync,
    /// The disk says that it failed; `written`: and may have what it was given all the same.
    Fail {
        written: bool,
    },
    Crash {
        same_boot: bool,
    },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let class = prop::sample::select(vec![Class::Body, Class::Comfort, Class::Drive, Class::Safety]);
    prop_oneof![
        6 => (0u8..3, 0i64..3, class, any::<bool>())
            .prop_map(|(target, value, class, queue)| Step::Submit { target, value, class, queue }),
        4 => (0usize..4, prop::bool::weighted(0.8)).prop_map(|(nth, heard)| Step::Arrive { nth, heard }),
        1 => (0usize..4, any::<bool>()).prop_map(|(nth, sent)| Step::Lose { nth, sent }),
        1 => (0usize..40).prop_map(|nth| Step::Cancel { nth }),
        2 => any::<bool>().prop_map(Step::Reach),
        6 => Just(Step::Sync),
        1 => any::<bool>().prop_map(|written| Step::Fail { written }),
        1 => prop::bool::weighted(0.8).prop_map(|same_boot| Step::Crash { same_boot }),
        4 => (1u64..700).prop_map(Step::Wait),
        1 => (1_000u64..20_000).prop_map(Step::Wait),
    ]
}

/// What is known of one command from outside.
#[derive(Debug)]
struct Known {
    request: Request,
    accepted_at: Moment,
    /// Told as kept on disk.
    is_durable: bool,
    /// Dispatches that no session has given back.
    flights: u32,
    /// The vehicle has acted.
    has_acted: bool,
    told: Vec<Phase>,
    crashed: bool,
}

/// How long an end waits for a disk that says nothing.
const PATIENCE: Duration = Duration::from_millis(750);

struct World {
    commands: Commands,
    now: Moment,
    reach: Reach,
    known: BTreeMap<CommandId, Known>,
    order: Vec<CommandId>,
    /// An end of theirs was told that was not on disk, for that was broken or slow or it was a stop.
    loose: BTreeSet<CommandId>,
    /// Under way to the vehicle.
    flying: Vec<CommandId>,
    /// With the boot that each was written in.
    disk: Vec<(u32, Kept)>,
    boot: u32,
    writing: Option<Write>,
    /// A write that is called failed and is on the disk all the same, if the process dies before the next one.
    ghost: Option<Write>,
    released: BTreeMap<(Class, String), Moment>,
    releases: Vec<(Class, Moment)>,
}

impl World {
    fn new() -> Self {
        Self {
            commands: commands(),
            now: START,
            reach: Reach::Connected,
            known: BTreeMap::new(),
            order: Vec::new(),
            loose: BTreeSet::new(),
            flying: Vec::new(),
            disk: Vec::new(),
            boot: 0,
            writing: None,
            ghost: None,
            released: BTreeMap::new(),
            releases: Vec::new(),
        }
    }

    fn run(&mut self, n: usize, step: Step) {
        match step {
            Step::Submit { target, value, class, queue } => {
                self.submit(n as u64, target, value, class, queue);
            }
            Step::Arrive { nth, heard } => self.arrive(nth, heard),
            Step::Lose { nth, sent } => {
                let Some(id) = self.take(nth) else { return };
                if !sent {
                    let known = self.known.get_mut(&id).unwrap();
                    known.flights -= 1;
                    // One that has ended by its time left its target to another, whose release stands.
                    if self.commands.record(id).is_some_and(|record| !record.phase().is_terminal()) {
                        self.released.remove(&(known.request.class, known.request.path.to_string()));
                    }
                }
                let fate = if sent { Delivery::LostSent } else { Delivery::LostUnsent };
                self.handle(Input::Delivery(id, fate));
            }
            Step::Cancel { nth } => {
                if let Some(id) = self.order.get(nth) {
                    self.commands.cancel(self.now, *id);
                    self.pump();
                }
            }
            Step::Reach(connected) => {
                self.reach = if connected { Reach::Connected } else { Reach::Offline };
                self.handle(Input::Reach(truck(), self.reach));
            }
            Step::Sync => self.sync(),
            Step::Fail { written } => {
                if let Some(write) = self.writing.take() {
                    self.ghost = Some(write.clone()).filter(|_| written);
                    self.handle(Input::PersistFailed(write.id));
                }
            }
            Step::Crash { same_boot } => self.crash(same_boot),
            Step::Wait(ms) => self.wait(Duration::from_millis(ms)),
        }
    }

    fn handle(&mut self, input: Input) {
        self.commands.handle(self.now, input);
        self.pump();
    }

    fn submit(&mut self, n: u64, target: u8, value: i64, class: Class, queue: bool) {
        let may_wait = queue && !matches!(class, Class::Safety | Class::Drive);
        let on_offline = if may_wait { OnOffline::Queue } else { OnOffline::Fail };
        let path = format!("Vehicle.T{target}").parse().unwrap();
        let request = Request { class, path, on_offline, ..window(&format!("k{n}"), value) };
        let is_lone = self.is_lone(&request);
        let known = Known {
            request: request.clone(),
            accepted_at: self.now,
            is_durable: false,
            flights: 0,
            has_acted: false,
            told: Vec::new(),
            crashed: false,
        };
        let arrived = self.commands.arrival(self.now);
        let submitted = self.commands.submit(self.now, arrived, id(n), request, self.reach);
        if let Submitted::Accepted { .. } = submitted {
            assert!(self.reach == Reach::Connected || may_wait, "OFFLINE");
            self.known.insert(id(n), known);
            self.order.push(id(n));
            self.pump();
            let flights = self.known[&id(n)].flights;
            assert!(!is_lone || flights == 1, "DEBOUNCE: a lone command is never held back");
        } else {
            self.pump();
        }
    }

    /// Nothing of its target is alive, its window has passed, and no rate speaks against it.
    fn is_lone(&self, request: &Request) -> bool {
        let same = |known: &Known| known.request.class == request.class && known.request.path == request.path;
        let is_told = |known: &Known| known.told.iter().any(|phase| phase.is_terminal());
        // A crash may have forgotten an end that was told.
        let is_open = |id| self.commands.record(id).is_some_and(|record| !record.phase().is_terminal());
        let is_alive = |(id, known): (&CommandId, &Known)| {
            same(known) && if known.crashed { is_open(*id) } else { !is_told(known) }
        };
        let place = (request.class, request.path.to_string());
        let window = PolicyTable::defaults()[request.class].duplicate_window;
        let is_quiet = self.released.get(&place).is_none_or(|at| self.now >= *at + window);
        let recent = self.releases.iter().filter(|(class, _)| *class == request.class).count();
        self.reach == Reach::Connected && is_quiet && recent < 15 && !self.known.iter().any(is_alive)
    }

    fn take(&mut self, nth: usize) -> Option<CommandId> {
        (nth < self.flying.len()).then(|| self.flying.remove(nth))
    }

    fn arrive(&mut self, nth: usize, heard: bool) {
        let Some(id) = self.take(nth) else { return };
        let known = self.known.get_mut(&id).unwrap();
        let is_fresh = self.now < known.accepted_at + Duration::from_millis(500);
        known.has_acted |= is_fresh;
        let says = if known.has_acted { Succeeded } else { Expired };
        for never in [Phase::Superseded, Phase::Canceled, Expired] {
            assert!(!is_fresh || !known.told.contains(&never), "ACK-TRUTH: {never} acts after all");
        }
        let (key, fingerprint) = (known.request.key.clone(), Some(known.request.fingerprint()));
        if heard {
            let outcome = Outcome { key, phase: says, reason: None, detail: String::new(), fingerprint };
            self.handle(Input::Outcome(truck(), outcome));
        }
    }

    fn sync(&mut self) {
        let Some(write) = self.writing.take() else { return };
        self.ghost = None;
        self.put(write.keeps);
        self.handle(Input::Persisted(write.id));
    }

    fn put(&mut self, keeps: Vec<Keep>) {
        for keep in keeps {
            match keep {
                Keep::Put(new) => {
                    match self.disk.iter_mut().find(|(_, old)| old.record.id == new.record.id) {
                        Some(old) => *old = (self.boot, *new),
                        None => self.disk.push((self.boot, *new)),
                    }
                }
                Keep::Forget(id) => self.disk.retain(|(_, old)| old.record.id != id),
            }
        }
    }

    /// The process dies, its sessions with it; what the disk had not synced is lost.
    fn crash(&mut self, same_boot: bool) {
        self.writing = None;
        let ghost = self.ghost.take();
        assert!(ghost.is_none() || !self.commands.is_settled(), "what was refused is not seen to be gone");
        self.put(ghost.map(|write| write.keeps).unwrap_or_default());
        self.flying.clear();
        self.released.clear();
        self.releases.clear();
        self.reach = Reach::Offline;
        self.known.values_mut().for_each(|known| known.crashed = true);
        self.commands = commands();
        self.boot += u32::from(!same_boot);
        let boot = self.boot;
        let read = |(written, kept): (u32, Kept)| {
            let Record { id, request, ttl, accepted, timeline, .. } = kept.record;
            let record = Record::restored(id, request, ttl, accepted, timeline);
            Restored { kept: Kept { record, ..kept }, is_same_boot: written == boot }
        };
        self.commands.restore(self.now, self.disk.clone().into_iter().map(read));
        for (id, known) in &self.known {
            assert!(!known.is_durable || self.commands.record(*id).is_some(), "DURABLE: {id} is gone");
        }
        self.pump();
    }

    fn wait(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(wake) = self.commands.wakes_at().filter(|wake| *wake <= end) {
            self.now = self.now.max(wake);
            self.handle(Input::Tick);
        }
        self.now = end;
    }

    fn pump(&mut self) {
        while let Some(output) = self.commands.poll() {
            match output {
                Output::Changed(change) => self.told(change),
                Output::Dispatch(id) => self.dispatched(id),
                Output::Durable(id) => self.known.get_mut(&id).unwrap().is_durable = true,
                Output::Persist(write) => assert!(self.writing.replace(write).is_none(), "one at a time"),
                Output::Cancel(_) => {}
            }
        }
    }

    fn dispatched(&mut self, id: CommandId) {
        let known = self.known.get_mut(&id).unwrap();
        assert_eq!(self.reach, Reach::Connected, "OFFLINE: nothing goes to who is not there");
        assert_eq!(known.flights, 0, "ONCE: {id} goes again though no session gave it back");
        assert!(self.now < known.accepted_at + self.commands.record(id).unwrap().ttl, "FRESH");
        assert!(!known.told.iter().any(|phase| phase.is_terminal()), "ACK-TRUTH: ended, and goes");
        known.flights = 1;
        let (class, path) = (known.request.class, known.request.path.to_string());
        if class != Class::Safety {
            self.target_is_free(id, class, &path);
            self.rate_holds(class);
        }
        self.flying.push(id);
        self.commands.handle(self.now, Input::Sent(id));
    }

    fn target_is_free(&mut self, id: CommandId, class: Class, path: &str) {
        let same = |other: &&CommandId| {
            let request = &self.known[*other].request;
            **other != id && request.class == class && request.path.to_string() == path
        };
        let is_over =
            |other: &CommandId| self.commands.record(*other).is_none_or(|r| r.phase().is_terminal());
        assert!(self.flying.iter().filter(same).all(is_over), "one in flight per target");
        let window = PolicyTable::defaults()[class].duplicate_window;
        let before = self.released.insert((class, path.into()), self.now);
        assert!(before.is_none_or(|at| self.now >= at + window), "DEBOUNCE: two within the window");
    }

    /// RATE, over every window that ends now.
    fn rate_holds(&mut self, class: Class) {
        self.releases.push((class, self.now));
        let policy = PolicyTable::defaults()[class];
        let times = self.releases.iter().filter(|(one, _)| *one == class).map(|(_, at)| *at);
        let times: Vec<_> = times.collect();
        for (place, from) in times.iter().enumerate() {
            let rate = f64::from(policy.rate_per_second.unwrap_or(0));
            let allowed = f64::from(policy.burst) + rate * self.now.since(*from).as_secs_f64();
            assert!((times.len() - place) as f64 <= allowed + 1e-6, "RATE");
        }
    }

    fn told(&mut self, Change { id, phase }: Change) {
        let known = self.known.get_mut(&id).unwrap();
        let ended: Vec<_> = known.told.iter().copied().filter(|phase| phase.is_terminal()).collect();
        if phase.is_terminal() {
            let kept = self.disk.iter().find(|(_, kept)| kept.record.id == id);
            let is_on_disk =
                |phase| kept.is_some_and(|(_, kept)| kept.record.timeline.iter().any(|s| s.phase == phase));
            let is_kept = is_on_disk(phase);
            let steps = &self.commands.record(id).unwrap().timeline;
            let known_at = steps.iter().rfind(|step| step.phase == phase).map_or(START, |step| step.at);
            let is_stop = known.request.class == Class::Safety;
            let may_be_lost = is_stop || self.commands.is_disk_broken() || self.now >= known_at + PATIENCE;
            assert!(is_kept || may_be_lost, "ACK-TRUTH: {phase} told before it was on disk");
            // What the disk did not take a crash forgets: UNKNOWN, until the vehicle speaks. But never what
            // the gateway itself decided of a command that waits on disk.
            let is_ours = ended.iter().any(|end| matches!(end, Phase::Superseded | Phase::Canceled));
            let may_wait = known.request.on_offline == OnOffline::Queue;
            let may_forget = known.crashed && self.loose.contains(&id) && !(is_ours && may_wait);
            let fits = ended.is_empty() || ended == [Unknown] || may_forget || ended.contains(&phase);
            assert!(fits, "ACK-TRUTH: {phase} after {ended:?}");
            self.loose.extend((!is_kept).then_some(id));
        }
        match phase {
            Succeeded => assert!(known.has_acted, "ACK-TRUTH: SUCCEEDED without an effect"),
            Expired | Phase::Superseded | Phase::Canceled => {
                assert!(!known.has_acted, "ACK-TRUTH: {phase}, and it had acted");
            }
            _ => {}
        }
        known.told.push(phase);
    }

    /// The faults stop: everything ends, and nothing that was accepted is left without an end.
    fn heal(&mut self) {
        self.reach = Reach::Connected;
        self.handle(Input::Reach(truck(), Reach::Connected));
        for _ in 0..200 {
            self.wait(Duration::from_secs(1));
            self.sync();
            self.arrive(0, true);
            self.handle(Input::Reach(truck(), Reach::Connected));
        }
        assert_eq!(self.commands.unfinished(), 0, "everything accepted is terminal by ttl + 10 s");
        for (id, known) in self.known.iter().filter(|(_, known)| known.is_durable) {
            // What a gateway wrote and died before it told is there to be read.
            let is_shown =
                self.commands.record(*id).is_some_and(|record| record.as_told().phase().is_terminal());
            let is_told = known.told.iter().any(|phase| phase.is_terminal());
            assert!(is_told || known.crashed && is_shown, "DURABLE: {id} has no end: {known:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 768, ..ProptestConfig::default() })]

    /// ACK-TRUTH, DEBOUNCE, RATE, DURABLE and OFFLINE at every step of any story.
    #[test]
    fn the_invariants_hold_whatever_happens(steps in prop::collection::vec(step(), 1..100)) {
        let mut world = World::new();
        for (n, step) in steps.into_iter().enumerate() {
            world.run(n, step);
        }
        world.heal();
        world.wait(Duration::from_secs(2_000));
        prop_assert!(world.commands.is_empty(), "and goes at last");
    }
}

/// Found by the stories above: a queued command that is withdrawn while the disk notes that it leaves has not left.
#[test]
fn what_is_withdrawn_on_its_way_out_keeps_nobody_waiting() {
    let submit = |target, queue| Step::Submit { target, value: 0, class: Class::Body, queue };
    let mut world = World::new();
    let story = [
        submit(0, false),
        Step::Crash { same_boot: false },
        submit(0, true),
        Step::Crash { same_boot: false },
        submit(1, true),
        Step::Reach(true),
        Step::Sync,
        Step::Cancel { nth: 2 },
        Step::Sync,
        Step::Sync,
        submit(1, false),
    ];
    for (n, step) in story.into_iter().enumerate() {
        world.run(n, step);
    }
    world.heal();
}
