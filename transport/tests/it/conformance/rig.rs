//! Two peers with a session between them, over connections that can be cut and stalled.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use carriageway_proto::{Class, CloseCode, Epoch, SessionId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::{Capabilities, Channel, Ended, Event, Measured};
use carriageway_transport::link::{self, Config, Fate, Happening, Happenings, Ticket};
use carriageway_transport::{Connection, Link, lobby, memory};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// No wait in the suite takes longer than this unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Both ends of a connection, the connecting one first.
pub(crate) type Ends = (Box<dyn Connection>, Box<dyn Connection>);
/// A pair in the making.
pub(crate) type Making = Pin<Box<dyn Future<Output = Ends> + Send>>;

/// Makes connected pairs of one kind: connecting end first.
pub(crate) struct Rig {
    pub(crate) clock: BootClock,
    make: Box<dyn Fn() -> Making + Send + Sync>,
}

pub(crate) fn memory(capabilities: Capabilities) -> Rig {
    Rig::new(move || {
        Box::pin(async move {
            let (here, there, _) = memory::pair(capabilities);
            (Box::new(here) as Box<dyn Connection>, Box::new(there) as Box<dyn Connection>)
        })
    })
}

impl Rig {
    pub(crate) fn new(make: impl Fn() -> Making + Send + Sync + 'static) -> Self {
        Self { clock: BootClock::system().unwrap(), make: Box::new(make) }
    }

    /// A connected pair, and the fault that can befall it.
    pub(crate) async fn pair(&self) -> (Box<dyn Connection>, Box<dyn Connection>, Fault) {
        let (here, there) = (self.make)().await;
        let fault = Fault::default();
        (Box::new(Faulty::new(here, &fault)), Box::new(Faulty::new(there, &fault)), fault)
    }

    /// A session with one connection, established on both sides.
    pub(crate) async fn session(&self) -> World {
        self.session_with(Config::default()).await
    }

    pub(crate) async fn session_with(&self, config: Config) -> World {
        let mut tasks = JoinSet::new();
        let (near, near_happenings, driver) = link::connect(config.clone(), self.clock.clone(), Epoch::NONE);
        tasks.spawn(driver);
        let (here, there, fault) = self.pair().await;
        near.open(here, "first choice".into()).await;
        let greeted = lobby::greet(there, &self.clock, PATIENCE).await.unwrap();
        let id = SessionId::from_bytes([7; 16]);
        let (far, far_happenings, driver) =
            link::accept(config, self.clock.clone(), id, Epoch::new(1), greeted);
        tasks.spawn(driver);
        let near = Side { link: near, happenings: near_happenings };
        let far = Side { link: far, happenings: far_happenings };
        let mut world = World { near, far, fault, tasks, clock: self.clock.clone() };
        world.established(false).await;
        world
    }
}

/// Waits, within the suite's patience, until `condition` holds.
pub(crate) async fn eventually(mut condition: impl FnMut() -> bool) {
    let search = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("it holds within the suite's patience");
}

/// One side of a session.
pub(crate) struct Side {
    pub(crate) link: Link,
    pub(crate) happenings: Happenings,
}

impl Side {
    /// The next happening that `wanted` picks; others are passed over.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(Happening) -> Option<T>) -> T {
        let search = async {
            loop {
                let happening = self.happenings.recv().await.expect("the session lives");
                if let Some(found) = wanted(happening) {
                    return found;
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it happens within the suite's patience")
    }

    pub(crate) async fn message(&mut self) -> (Class, Bytes) {
        self.until(|happening| match happening {
            Happening::Message { class, payload } => Some((class, payload)),
            _ => None,
        })
        .await
    }

    /// Waits until the message is settled.
    pub(crate) async fn settled(&mut self, wanted: Ticket) -> Fate {
        self.until(|happening| match happening {
            Happening::Settled { ticket, fate } if ticket == wanted => Some(fate),
            _ => None,
        })
        .await
    }

    pub(crate) async fn ended(&mut self) -> Ended {
        self.until(|happening| match happening {
            Happening::Ended(ended) => Some(ended),
            _ => None,
        })
        .await
    }
}

/// Both sides of a session.
pub(crate) struct World {
    /// The connecting side.
    pub(crate) near: Side,
    /// The accepting side.
    pub(crate) far: Side,
    pub(crate) fault: Fault,
    pub(crate) tasks: JoinSet<()>,
    pub(crate) clock: BootClock,
}

impl World {
    /// Waits until both sides say so.
    pub(crate) async fn established(&mut self, resumed: bool) {
        for side in [&mut self.near, &mut self.far] {
            let is_resumed = side.until(|happening| match happening {
                Happening::Established { resumed, .. } => Some(resumed),
                _ => None,
            });
            assert_eq!(is_resumed.await, resumed);
        }
    }

    /// Has the near side's happenings read and forgotten from now on, as an application would that
    /// only sends.
    pub(crate) fn near_only_sends(&mut self) {
        let mut happenings = take(&mut self.near.happenings);
        self.tasks.spawn(async move { while happenings.recv().await.is_some() {} });
    }

    /// Cuts the connection and gives the session another one, which resumes it.
    pub(crate) async fn reconnect(&mut self, rig: &Rig) {
        self.fault.cut();
        self.attach(rig).await;
    }

    /// Gives the session another connection.
    pub(crate) async fn attach(&mut self, rig: &Rig) {
        let (here, there, fault) = rig.pair().await;
        self.near.link.open(here, "again".into()).await;
        let mut greeted = Box::new(lobby::greet(there, &self.clock, PATIENCE).await.unwrap());
        while let Err(again) = self.far.link.attach(*greeted) {
            greeted = again;
            tokio::task::yield_now().await;
        }
        self.fault = fault;
    }
}

/// The happenings themselves, for somebody else to read.
pub(crate) fn take(happenings: &mut Happenings) -> Happenings {
    std::mem::replace(happenings, tokio::sync::mpsc::channel(1).1)
}

/// What befalls a connection.
#[derive(Clone, Default)]
pub(crate) struct Fault(Arc<(AtomicU8, Notify)>);

const STALLED: u8 = 1;
const CUT: u8 = 2;

impl Fault {
    /// Both ends end without a word; what was under way is lost.
    pub(crate) fn cut(&self) {
        self.set(CUT);
    }

    /// Whatever is handed over from now on vanishes, as on a network that went dark.
    pub(crate) fn stall(&self) {
        self.set(STALLED);
    }

    fn set(&self, state: u8) {
        self.0.0.store(state, Ordering::SeqCst);
        self.0.1.notify_waiters();
        self.0.1.notify_one();
    }

    fn is(&self, state: u8) -> bool {
        self.0.0.load(Ordering::SeqCst) == state
    }
}

/// A connection under a fault.
struct Faulty {
    inner: Option<Box<dyn Connection>>,
    capabilities: Capabilities,
    fault: Fault,
    changed: Pin<Box<dyn Future<Output = ()> + Send>>,
    vanished: Vec<Channel>,
    is_over: bool,
}

impl Faulty {
    fn new(inner: Box<dyn Connection>, fault: &Fault) -> Self {
        let (capabilities, fault) = (inner.capabilities(), fault.clone());
        let changed = Self::change(&fault);
        Self { inner: Some(inner), capabilities, fault, changed, vanished: Vec::new(), is_over: false }
    }

    fn change(fault: &Fault) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let fault = fault.clone();
        Box::pin(async move { fault.0.1.notified().await })
    }
}

impl Connection for Faulty {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn remote(&self) -> Option<SocketAddr> {
        self.inner.as_ref().and_then(|inner| inner.remote())
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        while self.changed.as_mut().poll(context).is_ready() {
            self.changed = Self::change(&self.fault);
        }
        if self.fault.is(CUT) {
            self.inner = None;
            if self.is_over {
                return Poll::Pending;
            }
            self.is_over = true;
            return Poll::Ready(Event::Ended(Ended::Failed("cut".into())));
        }
        if let Some(channel) = self.vanished.pop() {
            return Poll::Ready(Event::Room(channel));
        }
        self.inner.as_mut().map_or(Poll::Pending, |inner| inner.poll_event(context))
    }

    fn start_send(&mut self, channel: Channel, frame: Bytes) {
        if self.fault.is(STALLED) {
            self.vanished.push(channel);
        } else if let Some(inner) = &mut self.inner {
            inner.start_send(channel, frame);
        }
    }

    fn close(&mut self, code: CloseCode, reason: &str) {
        if let Some(inner) = &mut self.inner {
            inner.close(code, reason);
        }
    }

    fn measured(&self) -> Measured {
        Measured::default()
    }
}
