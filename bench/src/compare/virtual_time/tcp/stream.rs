//! Sockets: the connection's two directions, its segments on the link, and who waits for them.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use carriageway_netem::core::{Direction, Moment};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::receiver::Receiver;
use super::segment::{Phase, Segment};
use super::sender::{GIVE_UP, Sender};
use crate::compare::virtual_time::network::{Datagram, Network, Payload};
use crate::compare::virtual_time::pilot::Pilot;

/// How long the first request of a connection waits for its answer; each further one twice as long.
const FIRST_PATIENCE: Duration = Duration::from_secs(1);

/// One end of a socket on the link; it closes when it is dropped.
struct Port {
    network: Network,
    address: SocketAddr,
    /// Which way it sends.
    direction: Direction,
}

impl Port {
    fn open(network: &Network, address: SocketAddr, direction: Direction) -> Self {
        network.open(address);
        Self { network: network.clone(), address, direction }
    }

    fn send(&self, to: SocketAddr, segment: Segment) {
        self.network
            .send(self.direction, Datagram { from: self.address, to, payload: Payload::Tcp(segment) });
    }

    async fn receive(&self) -> (SocketAddr, Segment) {
        loop {
            let datagram = poll_fn(|context| self.network.poll_receive(self.address, context)).await;
            // Nobody else sends to a port of TCP.
            if let Payload::Tcp(segment) = datagram.payload {
                return (datagram.from, segment);
            }
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.network.close(self.address);
    }
}

/// Waits for connections.
pub struct Listener {
    port: Port,
    /// Who has asked, and which port answered.
    answered: BTreeMap<SocketAddr, SocketAddr>,
}

impl Listener {
    pub(in crate::compare::virtual_time) fn open(
        network: &Network,
        address: SocketAddr,
        direction: Direction,
    ) -> Self {
        Self { port: Port::open(network, address, direction), answered: BTreeMap::new() }
    }

    /// Where it is reached.
    pub const fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// The next connection, on a port that `fresh` gives, and whose it is. Cancel safe.
    pub async fn accept(&mut self, fresh: impl Fn() -> SocketAddr) -> (Stream, SocketAddr) {
        loop {
            let (from, request) = self.port.receive().await;
            if request.phase != Phase::Syn {
                continue;
            }
            let now = self.port.network.now();
            let echo = Some(request.sent);
            if let Some(known) = self.answered.get(&from) {
                // The answer was lost, or is late: it is said again for the port that has it.
                let again = Segment { echo, ..Segment::empty(Phase::Syn, now) };
                let datagram = Datagram { from: *known, to: from, payload: Payload::Tcp(again) };
                self.port.network.send(self.port.direction, datagram);
                continue;
            }
            let port = Port::open(&self.port.network, fresh(), self.port.direction);
            self.answered.insert(from, port.address);
            port.send(from, Segment { echo, ..Segment::empty(Phase::Syn, now) });
            return (Stream::established(port, from, None), from);
        }
    }
}

/// A connection.
pub struct Stream {
    shared: Arc<Shared>,
    /// Ends with it.
    _driver: JoinSet<()>,
}

struct Shared {
    port: Port,
    remote: SocketAddr,
    state: Mutex<State>,
    /// There is something to send.
    written: Notify,
}

struct State {
    sender: Sender,
    receiver: Receiver,
    /// Why nothing more will come.
    end: Option<End>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The other end has closed.
    Closed,
    /// Nothing has come through for too long.
    TimedOut,
}

impl Stream {
    /// Connects `from` an address of this end. Fails after four requests without an answer.
    pub(in crate::compare::virtual_time) async fn connect(
        network: &Network,
        from: SocketAddr,
        direction: Direction,
        to: SocketAddr,
    ) -> io::Result<Self> {
        let port = Port::open(network, from, direction);
        let mut patience = FIRST_PATIENCE;
        for _ in 0..4 {
            port.send(to, Segment::empty(Phase::Syn, network.now()));
            // Whoever answers has opened a port for it.
            if let Ok((remote, answer)) = tokio::time::timeout(patience, port.receive()).await {
                let trip = answer.echo.map(|sent| network.now().since(sent));
                return Ok(Self::established(port, remote, trip));
            }
            patience *= 2;
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn established(port: Port, remote: SocketAddr, trip: Option<Duration>) -> Self {
        let mut sender = Sender::new(port.network.now());
        if let Some(trip) = trip {
            sender.round_trip(trip);
        }
        let state = State { sender, receiver: Receiver::default(), end: None, reader: None, writer: None };
        let shared = Arc::new(Shared { port, remote, state: Mutex::new(state), written: Notify::new() });
        let mut driver = JoinSet::new();
        driver.spawn(drive(Arc::clone(&shared)));
        Self { shared, _driver: driver }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Shared { port, remote, .. } = &*self.shared;
        port.send(*remote, Segment::empty(Phase::Fin, port.network.now()));
    }
}

/// Sends and receives what there is, until the connection has ended.
async fn drive(shared: Arc<Shared>) {
    let network = shared.port.network.clone();
    let pilot: &Pilot = network.pilot();
    loop {
        let due = shared.turn(network.now());
        let Some(due) = due else { return };
        tokio::select! {
            biased;
            (from, segment) = shared.port.receive() => shared.hear(network.now(), from, &segment),
            () = shared.written.notified() => {}
            () = pilot.sleep_until(due) => {}
        }
    }
}

impl Shared {
    /// Sends what may go; when there is next something to do, `None` once it has ended.
    fn turn(&self, now: Moment) -> Option<Moment> {
        let mut state = self.state();
        if state.end.is_none() && state.sender.is_hopeless(now) {
            state.end = Some(End::TimedOut);
        }
        if state.end.is_some() {
            state.wake_all();
            return None;
        }
        state.sender.time_passes(now);
        while let Some((seq, data)) = state.sender.next(now) {
            let mut segment = Segment { seq, data, ..Segment::empty(Phase::Open, now) };
            state.receiver.tell(&mut segment);
            self.port.send(self.remote, segment);
        }
        if state.receiver.due().is_some_and(|due| due <= now) {
            let mut segment = Segment::empty(Phase::Open, now);
            state.receiver.tell(&mut segment);
            self.port.send(self.remote, segment);
        }
        if state.sender.has_room()
            && let Some(writer) = state.writer.take()
        {
            writer.wake();
        }
        let dues = [state.receiver.due(), state.sender.due(), Some(now + GIVE_UP)];
        dues.into_iter().flatten().min()
    }

    fn hear(&self, now: Moment, from: SocketAddr, segment: &Segment) {
        // An answer to a request that was sent twice comes from the same port, and says nothing new.
        if from != self.remote || segment.phase == Phase::Syn {
            return;
        }
        let mut state = self.state();
        if segment.phase == Phase::Fin {
            state.end = Some(End::Closed);
            return;
        }
        state.sender.hear(now, segment);
        state.receiver.take(now, segment);
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of a connection panics")
    }
}

impl State {
    fn wake_all(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut state = self.shared.state();
        if let Some(data) = state.receiver.read(buffer.remaining()) {
            buffer.put_slice(&data);
            return Poll::Ready(Ok(()));
        }
        match state.end {
            Some(End::Closed) => Poll::Ready(Ok(())),
            Some(End::TimedOut) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.shared.state();
        match state.end {
            Some(End::Closed) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Some(End::TimedOut) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            None => {}
        }
        if !state.sender.has_room() {
            state.writer = Some(context.waker().clone());
            return Poll::Pending;
        }
        state.sender.write(data);
        self.shared.written.notify_one();
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use carriageway_netem::core::{Capacity, Law, Loss, Probability, Rate};
    use carriageway_netem::profile::Profile;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::super::runtime;
    use super::*;

    const DELAY: Duration = Duration::from_millis(30);

    fn address(host: u8, port: u16) -> SocketAddr {
        ([10, 0, 0, host], port).into()
    }

    /// Sends `bytes` up over both ways of `law`; what arrived, and when the last of it did.
    fn carried(law: &Law, bytes: usize) -> (Vec<u8>, Duration) {
        let pilot = Pilot::new();
        let profile = Profile { up: law.clone(), down: law.clone(), ..Profile::perfect("x") };
        runtime(&pilot).unwrap().block_on(async {
            let network = Network::new(pilot.clone(), &profile, 7);
            let mut world = JoinSet::new();
            world.spawn(pilot.clone().steer());
            world.spawn(network.clone().carry());
            let mut listener = Listener::open(&network, address(1, 443), Direction::Down);
            let there = network.clone();
            world.spawn(async move {
                let near = address(2, 5_000);
                let mut stream = Stream::connect(&there, near, Direction::Up, address(1, 443)).await.unwrap();
                let data: Vec<_> = (0..bytes).map(|byte| byte as u8).collect();
                for piece in data.chunks(1_000) {
                    stream.write_all(piece).await.unwrap();
                }
                // The word that all has come, which the test never says: until it is over.
                let _over = stream.read_u8().await;
            });
            let (mut stream, from) = listener.accept(|| address(1, 50_000)).await;
            assert_eq!(from, address(2, 5_000));
            let mut data = vec![0; bytes];
            stream.read_exact(&mut data).await.unwrap();
            (data, pilot.now().since(Moment::ZERO))
        })
    }

    fn is_whole(data: &[u8]) -> bool {
        data.iter().enumerate().all(|(place, byte)| *byte == place as u8)
    }

    #[test]
    fn bytes_arrive_in_order_at_the_rate_of_the_link() {
        let rate = Rate::from_bits_per_second(8_000_000).unwrap();
        let law = Law { delay: DELAY, capacity: Capacity::Rate(rate), ..Law::default() };
        let (data, took) = carried(&law, 2_000_000);
        assert!(is_whole(&data));
        // Two seconds at a megabyte each, with headers, the handshake and the first windows.
        assert!((2.1..2.6).contains(&took.as_secs_f64()), "{took:?}");
    }

    #[test]
    fn losses_cost_time_and_no_byte() {
        let loss = Loss::Bernoulli(Probability::new(0.05).unwrap());
        let capacity = Capacity::Rate(Rate::from_bits_per_second(8_000_000).unwrap());
        let law = Law { delay: DELAY, loss, capacity, ..Law::default() };
        let (data, took) = carried(&law, 300_000);
        assert!(is_whole(&data));
        let perfect = carried(&Law { loss: Loss::default(), ..law }, 300_000).1;
        assert!(took > perfect, "{took:?} {perfect:?}");
    }

    #[test]
    fn nobody_who_answers_is_told() {
        let law = Law { loss: Loss::Bernoulli(Probability::ONE), ..Law::default() };
        let pilot = Pilot::new();
        let profile = Profile { up: law, ..Profile::perfect("x") };
        let why = runtime(&pilot).unwrap().block_on(async {
            let network = Network::new(pilot.clone(), &profile, 7);
            let mut world = JoinSet::new();
            world.spawn(pilot.clone().steer());
            world.spawn(network.clone().carry());
            Stream::connect(&network, address(2, 5_000), Direction::Up, address(1, 443)).await.err()
        });
        assert_eq!(why.unwrap().kind(), io::ErrorKind::TimedOut);
    }
}
