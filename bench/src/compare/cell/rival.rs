//! The usual neighbour: one TCP connection with CUBIC that transfers a file of its own while the subject transfers its files, in the
//! same direction, between the same namespaces. By what is left for it, fairness is measured.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use carriageway_netem::testbed::{Namespace, SERVER};
use socket2::{Domain, SockRef, Socket, Type};

use crate::compare::subjects::use_cubic;
use crate::compare::timeline::Timeline;
use crate::compare::workload::Workload;

/// What it received is noted by the tenth of a second.
const SLOT: Duration = Duration::from_millis(100);

/// How long a call may block: then it looks at the clock.
const GLANCE: Duration = Duration::from_millis(20);

/// What is handed to the kernel, or taken from it, at once.
const CHUNK: usize = 64 * 1024;

/// A rival that is connected when its time comes, or is not.
pub(super) struct Rival {
    sender: JoinHandle<Result<()>>,
    receiver: JoinHandle<Result<Vec<u64>>>,
}

/// Listens at the gateway, before the link's time begins.
pub(super) fn listen(gateway: &Namespace) -> Result<TcpListener> {
    gateway.within(|| TcpListener::bind((SERVER, 0))).context("the rival cannot listen")
}

impl Rival {
    /// Connects as soon as files are transferred, from the vehicle as everybody does, and sends in their direction.
    pub(super) fn start(
        listener: TcpListener,
        vehicle: &Namespace,
        workload: &Workload,
        timeline: &Timeline,
    ) -> Result<Self> {
        let reach = listener.local_addr().context("the rival's port")?;
        // A socket belongs to the namespace that it was made in.
        let dialing =
            vehicle.within(|| Socket::new(Domain::IPV4, Type::STREAM, None)).context("the rival's socket")?;
        let window = workload.transfers();
        let (here, there) = ((timeline.clone(), window.clone()), (timeline.clone(), window));
        let dial = move |(timeline, window): &(Timeline, Range<Duration>)| {
            thread::sleep(timeline.until(window.start));
            dial(dialing, reach, timeline, window.end)
        };
        let answer = move |(timeline, window): &(Timeline, Range<Duration>)| {
            thread::sleep(timeline.until(window.start));
            accept(&listener, timeline, window.end)
        };
        // A log goes up, from who dials; a map comes down, from who answers.
        if workload.log {
            Self::between(
                move || dial(&here).and_then(|stream| send(stream, &here.0, here.1.end)),
                move || answer(&there).and_then(|stream| receive(stream, &there.0, &there.1)),
            )
        } else {
            Self::between(
                move || answer(&here).and_then(|stream| send(stream, &here.0, here.1.end)),
                move || dial(&there).and_then(|stream| receive(stream, &there.0, &there.1)),
            )
        }
    }

    fn between(
        send: impl FnOnce() -> Result<()> + Send + 'static,
        receive: impl FnOnce() -> Result<Vec<u64>> + Send + 'static,
    ) -> Result<Self> {
        let cannot = "cannot start a thread of the rival's";
        Ok(Self {
            sender: thread::Builder::new().name("rival-sends".into()).spawn(send).context(cannot)?,
            receiver: thread::Builder::new().name("rival-receives".into()).spawn(receive).context(cannot)?,
        })
    }

    /// Bytes that it received in each [`SLOT`] of the transfer. Returns when that is over.
    pub(super) fn received(self) -> Result<Vec<u64>> {
        let sent = self.sender.join().map_err(|_| anyhow!("the rival's sender panicked"))?;
        let received = self.receiver.join().map_err(|_| anyhow!("the rival's receiver panicked"))?;
        sent.context("the rival's sender")?;
        received.context("the rival's receiver")
    }
}

/// `None` where the link let nobody through in time.
fn dial(socket: Socket, reach: SocketAddr, timeline: &Timeline, end: Duration) -> Result<Option<TcpStream>> {
    use_cubic(&SockRef::from(&socket))?;
    let left = timeline.until(end).max(GLANCE);
    Ok(socket.connect_timeout(&reach.into(), left).is_ok().then(|| socket.into()))
}

/// The same, at the gateway.
fn accept(listener: &TcpListener, timeline: &Timeline, end: Duration) -> Result<Option<TcpStream>> {
    listener.set_nonblocking(true).context("cannot listen without waiting")?;
    while !timeline.until(end).is_zero() {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).context("cannot wait")?;
                use_cubic(&SockRef::from(&stream))?;
                return Ok(Some(stream));
            }
            Err(why) if is_a_pause(&why) => thread::sleep(GLANCE),
            Err(why) => return Err(why).context("cannot accept"),
        }
    }
    Ok(None)
}

/// Sends until the end, or until the link has cut the connection: what had arrived by then is what the rival got.
fn send(stream: Option<TcpStream>, timeline: &Timeline, end: Duration) -> Result<()> {
    let Some(mut stream) = stream else { return Ok(()) };
    stream.set_write_timeout(Some(GLANCE)).context("cannot limit a write")?;
    // What the kernel has not sent by then goes nowhere: the link belongs to the subject again.
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).context("cannot have a connection reset")?;
    let chunk = vec![0x5a; CHUNK];
    while !timeline.until(end).is_zero() {
        if stream.write(&chunk).is_err_and(|why| !is_a_pause(&why)) {
            break;
        }
    }
    Ok(())
}

fn receive(stream: Option<TcpStream>, timeline: &Timeline, window: &Range<Duration>) -> Result<Vec<u64>> {
    let mut slots = vec![0; slots(window)];
    let Some(mut stream) = stream else { return Ok(slots) };
    stream.set_read_timeout(Some(GLANCE)).context("cannot limit a read")?;
    let mut chunk = vec![0; CHUNK];
    while !timeline.until(window.end).is_zero() {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(bytes) => {
                let slot = timeline.since(window.start).as_nanos() / SLOT.as_nanos();
                // After the last one it is over.
                let Some(slot) = slots.get_mut(usize::try_from(slot).unwrap_or(usize::MAX)) else { break };
                *slot += bytes as u64;
            }
            Err(why) if is_a_pause(&why) => {}
            // The sender ends with a reset, the link with whatever it has.
            Err(_) => break,
        }
    }
    Ok(slots)
}

fn slots(window: &Range<Duration>) -> usize {
    let length = window.end.saturating_sub(window.start);
    usize::try_from(length.as_nanos().div_ceil(SLOT.as_nanos())).unwrap_or(usize::MAX)
}

fn is_a_pause(why: &io::Error) -> bool {
    matches!(why.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn connected() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (one, listener.accept().unwrap().0)
    }

    #[test]
    fn what_is_received_is_noted_when_it_is_and_the_end_ends_it() {
        let (sender, receiver) = connected();
        let timeline = Timeline::starting_now();
        let window = Duration::from_millis(200)..Duration::from_millis(500);
        let there = (timeline.clone(), window.clone());
        let sending = thread::spawn(move || {
            thread::sleep(there.0.until(there.1.start));
            send(Some(sender), &there.0, there.1.end)
        });
        let slots = receive(Some(receiver), &timeline, &window).unwrap();
        sending.join().unwrap().unwrap();
        assert_eq!(slots.len(), 3);
        assert!(slots.iter().sum::<u64>() > CHUNK as u64, "{slots:?}");
    }

    #[test]
    fn nobody_is_waited_for_beyond_the_end() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let timeline = Timeline::starting_now();
        assert!(accept(&listener, &timeline, Duration::ZERO).unwrap().is_none());
        let window = Duration::ZERO..Duration::from_secs(1);
        assert_eq!(
            receive(None, &timeline, &window).unwrap(),
            [0; 10],
            "it got nothing, which is no fault of the run's"
        );
    }

    #[test]
    fn a_connection_that_is_cut_ends_it_early_and_what_came_counts() {
        let (sender, receiver) = connected();
        let (timeline, window) = (Timeline::starting_now(), Duration::ZERO..Duration::from_mins(1));
        sender.set_nodelay(true).unwrap();
        (&sender).write_all(&[7; 1_000]).unwrap();
        drop(sender);
        assert_eq!(receive(Some(receiver), &timeline, &window).unwrap().iter().sum::<u64>(), 1_000);
        let (sender, receiver) = connected();
        drop(receiver);
        send(Some(sender), &timeline, window.end).unwrap();
        assert!(!timeline.until(window.end).is_zero(), "nobody waited for the end");
    }
}
