//! A vehicle for tests: the session's own core on one connection at a time, and a script.

use std::future::poll_fn;
use std::sync::{Arc, Mutex};

use carriageway_proto::{
    Cancel, Class, CloseCode, Command, ControlFrame, Desired, DrivePhase, DriveState, Epoch, Lease, Message,
    Moment, Outcome, Phase, Rearm, SafeCause, Token, Value,
};
use carriageway_transport::Connection;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::Session;
use carriageway_transport::core::connection::{ConnectionId, Ended, Event};
use carriageway_transport::core::session::{Config as SessionConfig, Happening, Input, Output};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::support::PATIENCE;

/// How a vehicle takes commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// RECEIVED, then SUCCEEDED.
    Obey,
    /// Journals it and says no more until told to.
    Dawdle,
}

/// What a test tells its vehicle to do.
pub(crate) enum Act {
    Signal(&'static str, Value),
    Say(Message),
    /// Lose the connection, and go on with this one.
    Move(Box<dyn Connection>),
    /// Lose the connection.
    Cut,
}

/// What a vehicle has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) commands: Vec<Command>,
    pub(crate) cancels: Vec<Cancel>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) rearms: Vec<Rearm>,
    pub(crate) desired: Vec<Desired>,
    /// Control, each with the vehicle's own clock when it came.
    pub(crate) controls: Vec<(ControlFrame, Moment)>,
    pub(crate) established: Vec<(Epoch, bool)>,
    pub(crate) ended: Option<Ended>,
    pub(crate) closed_by: Option<CloseCode>,
}

/// A vehicle: the session's core on one connection at a time.
pub(crate) struct Vehicle {
    pub(crate) seen: Arc<Mutex<Seen>>,
    acts: mpsc::Sender<Act>,
    _task: JoinSet<()>,
}

impl Vehicle {
    pub(crate) fn over(connection: Box<dyn Connection>, habit: Habit) -> Self {
        let (acts, orders) = mpsc::channel(64);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let clock = BootClock::system().unwrap();
        let session = Session::connecting(SessionConfig::default(), clock.boot(), Epoch::NONE);
        let mut driver =
            Driver { session, clock, habit, seen: Arc::clone(&seen), connection: None, id: 0, orders };
        let mut task = JoinSet::new();
        task.spawn(async move {
            driver.open(connection);
            driver.run().await;
        });
        Self { seen, acts, _task: task }
    }

    pub(crate) async fn act(&self, act: Act) {
        self.acts.send(act).await.unwrap();
    }

    pub(crate) async fn says(&self, key: &str, phase: Phase) {
        self.act(Act::Say(outcome(key, phase))).await;
    }

    pub(crate) fn executed(&self) -> usize {
        self.seen.lock().unwrap().commands.len()
    }
}

/// The words of a vehicle that stands and has seen this token.
pub(crate) fn standing(token: u64, nonce: u64) -> Message {
    let (phase, cause) = (DrivePhase::Safe, Some(SafeCause::Start));
    let nonce = std::num::NonZeroU64::new(nonce);
    Message::DriveState(DriveState { phase, cause, nonce, token: Token::granted(token) })
}

fn outcome(key: &str, phase: Phase) -> Message {
    Message::Outcome(Outcome {
        key: key.parse().unwrap(),
        phase,
        reason: None,
        detail: String::new(),
        fingerprint: None,
    })
}

struct Driver {
    session: Session,
    clock: BootClock,
    habit: Habit,
    seen: Arc<Mutex<Seen>>,
    connection: Option<Box<dyn Connection>>,
    id: u32,
    orders: mpsc::Receiver<Act>,
}

impl Driver {
    fn open(&mut self, connection: Box<dyn Connection>) {
        self.id += 1;
        let input = Input::Opened {
            connection: ConnectionId(self.id),
            capabilities: connection.capabilities(),
            why: "the test says so".into(),
        };
        self.connection = Some(connection);
        self.session.handle(self.clock.now(), input);
    }

    async fn run(&mut self) {
        loop {
            let wake = self.drain();
            if self.session.is_finished() {
                return;
            }
            let wake = wake.unwrap_or(self.clock.now() + PATIENCE);
            tokio::select! {
                event = next(&mut self.connection) => self.event(event),
                act = self.orders.recv() => match act {
                    Some(act) => self.act(act),
                    None => return,
                },
                () = self.clock.sleep_until(wake) => self.session.handle(self.clock.now(), Input::Tick),
            }
        }
    }

    fn event(&mut self, event: Event) {
        let id = ConnectionId(self.id);
        let input = match event {
            Event::Room(channel) => Input::Room(id, channel),
            Event::Frame(channel, bytes) => Input::Frame(id, channel, bytes),
            Event::Ended(ended) => {
                self.connection = None;
                Input::Ended(id, ended)
            }
        };
        self.session.handle(self.clock.now(), input);
        // Whichever came first, the goodbye or the close that follows it.
        if let Some(Ended::ByPeer { code, .. }) = self.session.connectivity(self.clock.now()).last_end {
            self.seen.lock().unwrap().closed_by.get_or_insert(code);
        }
    }

    fn act(&mut self, act: Act) {
        let now = self.clock.now();
        match act {
            Act::Signal(path, value) => {
                self.session.signal(path.parse().unwrap(), value, now);
                self.session.handle(now, Input::Tick);
            }
            Act::Say(message) => self.say(&message),
            Act::Cut => self.cut(),
            Act::Move(connection) => {
                self.cut();
                self.open(connection);
            }
        }
    }

    fn cut(&mut self) {
        if self.connection.take().is_some() {
            let ended = Input::Ended(ConnectionId(self.id), Ended::Failed("cut".into()));
            self.session.handle(self.clock.now(), ended);
        }
    }

    fn say(&mut self, message: &Message) {
        let class = match message {
            Message::Chunk(_) => Class::Bulk,
            Message::DriveState(_) => Class::Safety,
            Message::StateReport(_) => Class::Config,
            Message::Command(_)
            | Message::Outcome(_)
            | Message::Cancel(_)
            | Message::Lease(_)
            | Message::Rearm(_)
            | Message::Desired(_) => Class::Body,
        };
        self.session.send(class, message.encode(), None).unwrap();
    }

    fn drain(&mut self) -> Option<Moment> {
        loop {
            match self.session.poll(self.clock.now()) {
                Output::Transmit(_, channel, frame) => {
                    if let Some(connection) = &mut self.connection {
                        connection.start_send(channel, frame);
                    }
                }
                Output::Close(_, code, reason) => {
                    if let Some(connection) = &mut self.connection {
                        connection.close(code, &reason);
                    }
                }
                Output::Happened(happening) => self.happened(happening),
                Output::Wait(wake) => return wake,
            }
        }
    }

    fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Established { epoch, resumed, .. } => {
                self.seen.lock().unwrap().established.push((epoch, resumed));
            }
            Happening::Message { payload, .. } => {
                self.message(Message::decode(payload).unwrap());
            }
            Happening::Ended(ended) => {
                self.seen.lock().unwrap().ended = Some(ended);
            }
            Happening::Control(frame) => {
                let now = self.clock.now();
                self.seen.lock().unwrap().controls.push((frame, now));
            }
            Happening::Moved { .. }
            | Happening::Gap { .. }
            | Happening::Signals(_)
            | Happening::Settled { .. } => {}
        }
    }

    fn message(&mut self, message: Message) {
        let mut seen = self.seen.lock().unwrap();
        match message {
            Message::Command(command) => {
                drop(seen);
                self.command(command);
            }
            Message::Lease(lease) => seen.leases.push(lease),
            Message::Rearm(rearm) => seen.rearms.push(rearm),
            Message::Desired(desired) => seen.desired.push(desired),
            Message::Cancel(cancel) => seen.cancels.push(cancel),
            Message::Outcome(_) | Message::Chunk(_) | Message::DriveState(_) | Message::StateReport(_) => {}
        }
    }

    fn command(&mut self, command: Command) {
        let key = command.key.to_string();
        self.seen.lock().unwrap().commands.push(command);
        self.say(&outcome(&key, Phase::Received));
        if self.habit == Habit::Obey {
            self.say(&outcome(&key, Phase::Succeeded));
        }
    }
}

async fn next(connection: &mut Option<Box<dyn Connection>>) -> Event {
    match connection {
        Some(connection) => poll_fn(|context| connection.poll_event(context)).await,
        None => std::future::pending().await,
    }
}
