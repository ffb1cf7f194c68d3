//! Moves values between one session and its connections. It decides nothing.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use carriageway_proto::{CloseCode, Moment};
use tokio::sync::{Notify, mpsc, watch};

use crate::Connection;
use crate::clock::BootClock;
use crate::core::connection::{ConnectionId, Event, Measured};
use crate::core::session::{Connectivity, Happening, Input, Output, Session};
use crate::lobby::Greeted;

/// Connections that may wait to be taken into a session.
pub(crate) const MAX_ARRIVING: usize = 4;

/// Happenings that the application may leave unread before its peer is no longer read.
pub(crate) const MAX_UNREAD: usize = 64;

/// After a session is over its connections get this long to end.
const FAREWELL: Duration = Duration::from_secs(2);

/// How often what the protocols below measure is noted.
const MEASURE_EVERY: Duration = Duration::from_millis(250);

/// A connection on its way into a session.
pub(crate) enum Arriving {
    /// Connecting side.
    Opened {
        /// The connection.
        connection: Box<dyn Connection>,
        /// Why this transport.
        why: String,
    },
    /// Accepting side.
    Greeted(Greeted),
}

/// What the protocol under a connection knows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Network {
    /// The peer's address.
    pub remote: Option<SocketAddr>,
    /// What is measured below.
    pub measured: Measured,
}

/// What a session's driver and its handles share.
pub(crate) struct Shared {
    session: Mutex<Session>,
    /// Something was put in from outside the driver.
    pub(crate) changed: Notify,
    pub(crate) clock: BootClock,
    pub(crate) connectivity: watch::Sender<Connectivity>,
    pub(crate) network: Mutex<Networks>,
}

/// What the protocols under a session's connections know.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    pub(crate) each: BTreeMap<ConnectionId, Network>,
    /// Datagrams dropped for their size, of connections that have ended: sent, received.
    gone: (u64, u64),
}

impl Networks {
    /// Datagrams dropped for their size over the session's life: sent, received.
    pub(crate) fn oversized(&self) -> (u64, u64) {
        self.each.values().fold(self.gone, |sum, network| add(sum, &network.measured))
    }
}

fn add((sent, received): (u64, u64), measured: &Measured) -> (u64, u64) {
    (sent + measured.oversized_sent, received + measured.oversized_received)
}

impl Shared {
    pub(crate) fn new(session: Session, clock: BootClock) -> Self {
        let (connectivity, _) = watch::channel(session.connectivity(clock.now()));
        Self {
            session: Mutex::new(session),
            changed: Notify::new(),
            clock,
            connectivity,
            network: Mutex::default(),
        }
    }

    /// The session, for a moment. A panic while it was held is a broken invariant of ours and spreads.
    pub(crate) fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().expect("no holder of the session panics")
    }
}

/// The one thing that happened next.
enum Step {
    Event(usize, Event),
    MayTell,
    NobodyListens,
    Arrived(Arriving),
    Changed,
    Due,
}

/// Drives one session until it is over.
pub(crate) struct Driver {
    shared: std::sync::Arc<Shared>,
    connections: Vec<(ConnectionId, Box<dyn Connection>)>,
    arrivals: mpsc::Receiver<Arriving>,
    happenings: mpsc::Sender<Happening>,
    /// What the application has not taken yet; while anything is here no connection is read.
    unread: VecDeque<Happening>,
    next_id: u32,
    /// Which connection is asked first, in turn.
    turn: usize,
    measured_at: Moment,
}

impl Driver {
    pub(crate) fn new(
        shared: std::sync::Arc<Shared>,
        arrivals: mpsc::Receiver<Arriving>,
        happenings: mpsc::Sender<Happening>,
    ) -> Self {
        Self {
            shared,
            connections: Vec::new(),
            arrivals,
            happenings,
            unread: VecDeque::new(),
            next_id: 0,
            turn: 0,
            measured_at: Moment::ZERO,
        }
    }

    /// Runs until the session is over, its last happening is taken and its connections are closed.
    pub(crate) async fn run(mut self) {
        let mut over_since = None;
        loop {
            let wait = self.drain();
            let is_over = self.shared.connectivity.borrow().over.is_some();
            if is_over && self.unread.is_empty() && self.connections.is_empty() {
                return;
            }
            let now = self.shared.clock.now();
            let farewell = is_over.then(|| *over_since.get_or_insert(now) + FAREWELL);
            if farewell.is_some_and(|until| now >= until) {
                return;
            }
            self.step(wait.into_iter().chain(farewell).min()).await;
        }
    }

    /// Waits for one thing and takes it in.
    async fn step(&mut self, wait: Option<Moment>) {
        match self.next_step(wait).await {
            Step::Event(index, event) => {
                self.turn = index + 1;
                self.event(index, event);
            }
            Step::MayTell => self.tell(),
            Step::NobodyListens => self.abandon(),
            Step::Arrived(arriving) => self.arrive(arriving),
            Step::Changed => {}
            Step::Due => self.input(Input::Tick),
        }
    }

    async fn next_step(&mut self, wait: Option<Moment>) -> Step {
        let shared = &self.shared;
        let timer = async {
            match wait {
                Some(moment) => shared.clock.sleep_until(moment).await,
                None => std::future::pending().await,
            }
        };
        let may_read = self.unread.is_empty();
        let (connections, turn) = (&mut self.connections, self.turn);
        tokio::select! {
            (index, event) = poll_fn(|context| next_event(connections, turn, context)), if may_read => {
                Step::Event(index, event)
            }
            // The place stays ours when the permit goes: nobody else sends.
            permit = self.happenings.reserve(), if !may_read => match permit {
                Ok(_) => Step::MayTell,
                Err(_) => Step::NobodyListens,
            },
            Some(arriving) = self.arrivals.recv() => Step::Arrived(arriving),
            () = shared.changed.notified() => Step::Changed,
            () = timer => Step::Due,
        }
    }

    /// Hands over what the application has room for.
    fn tell(&mut self) {
        while let Some(happening) = self.unread.pop_front() {
            if let Err(refused) = self.happenings.try_send(happening) {
                self.unread.push_front(refused.into_inner());
                return;
            }
        }
    }

    /// Carries out what the session wants; when it next needs the time.
    fn drain(&mut self) -> Option<Moment> {
        let now = self.shared.clock.now();
        let mut session = self.shared.session();
        let wait = loop {
            match session.poll(now) {
                Output::Transmit(id, channel, frame) => {
                    if let Some(connection) = find(&mut self.connections, id) {
                        connection.start_send(channel, frame);
                    }
                }
                Output::Close(id, code, reason) => {
                    if let Some(connection) = find(&mut self.connections, id) {
                        connection.close(code, &reason);
                    }
                }
                Output::Happened(happening) => self.unread.push_back(happening),
                Output::Wait(until) => break until,
            }
        };
        let connectivity = session.connectivity(now);
        drop(session);
        self.shared.connectivity.send_if_modified(|known| {
            let is_new = *known != connectivity;
            *known = connectivity;
            is_new
        });
        self.measure(now);
        wait
    }

    fn measure(&mut self, now: Moment) {
        if now.since(self.measured_at) < MEASURE_EVERY {
            return;
        }
        self.measured_at = now;
        let note = |(id, connection): &(ConnectionId, Box<dyn Connection>)| {
            (*id, Network { remote: connection.remote(), measured: connection.measured() })
        };
        let each = self.connections.iter().map(note).collect();
        self.shared.network.lock().expect("no holder of the figures panics").each = each;
    }

    fn event(&mut self, index: usize, event: Event) {
        let id = self.connections[index].0;
        let input = match event {
            Event::Room(channel) => Input::Room(id, channel),
            Event::Frame(channel, bytes) => Input::Frame(id, channel, bytes),
            Event::Ended(ended) => {
                let (_, connection) = self.connections.remove(index);
                let mut network = self.shared.network.lock().expect("no holder of the figures panics");
                network.each.remove(&id);
                network.gone = add(network.gone, &connection.measured());
                drop(network);
                tracing::debug!(connection = id.0, %ended, "connection ended");
                Input::Ended(id, ended)
            }
        };
        self.input(input);
    }

    fn arrive(&mut self, arriving: Arriving) {
        let id = ConnectionId(self.next_id);
        self.next_id += 1;
        let (connection, input, rooms) = match arriving {
            Arriving::Opened { connection, why } => {
                let capabilities = connection.capabilities();
                (connection, Input::Opened { connection: id, capabilities, why }, Vec::new())
            }
            Arriving::Greeted(Greeted { connection, greeting, rooms }) => {
                let capabilities = connection.capabilities();
                (connection, Input::Greeted { connection: id, capabilities, greeting }, rooms)
            }
        };
        self.connections.push((id, connection));
        self.measured_at = Moment::ZERO;
        self.input(input);
        for channel in rooms {
            self.input(Input::Room(id, channel));
        }
    }

    /// The application no longer listens: nobody would act on what comes in.
    fn abandon(&mut self) {
        self.unread.clear();
        self.shared.session().close(CloseCode::GoingAway, "the application has gone", None);
    }

    fn input(&self, input: Input) {
        let now = self.shared.clock.now();
        self.shared.session().handle(now, input);
    }
}

fn find(
    connections: &mut [(ConnectionId, Box<dyn Connection>)],
    id: ConnectionId,
) -> Option<&mut Box<dyn Connection>> {
    connections.iter_mut().find(|(each, _)| *each == id).map(|(_, connection)| connection)
}

/// The first event of any connection, asked in turn from `turn` on.
fn next_event(
    connections: &mut [(ConnectionId, Box<dyn Connection>)],
    turn: usize,
    context: &mut Context<'_>,
) -> Poll<(usize, Event)> {
    let count = connections.len();
    for offset in 0..count {
        let index = (turn + offset) % count;
        if let Poll::Ready(event) = connections[index].1.poll_event(context) {
            return Poll::Ready((index, event));
        }
    }
    Poll::Pending
}
