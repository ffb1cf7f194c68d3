//! Where an accepted connection waits until its hello says which session it belongs to.

use std::future::poll_fn;
use std::time::Duration;

use carriageway_proto::frame::Goodbye;
use carriageway_proto::{Class, CloseCode, Frame, Moment, VERSION};

use crate::Connection;
use crate::clock::BootClock;
use crate::core::Greeting;
use crate::core::connection::{Channel, Ended, Event};
use crate::core::session::version_mismatch;

/// A refused connection gets this long to take its goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// A connection whose hello was read.
pub struct Greeted {
    pub(crate) connection: Box<dyn Connection>,
    /// The hello.
    pub greeting: Greeting,
    /// Channels that announced room meanwhile.
    pub(crate) rooms: Vec<Channel>,
}

/// Why a connection got no further than the lobby. It has been closed accordingly.
#[derive(Debug, thiserror::Error)]
pub enum NotGreeted {
    /// No hello within the deadline.
    #[error("the peer said no hello within {0:?}")]
    Silent(Duration),
    /// It said something else, or nothing that can be read.
    #[error("the peer broke the protocol before its hello: {0}")]
    Violation(String),
    /// It speaks another version.
    #[error("{0}")]
    Version(String),
    /// It ended.
    #[error("the connection ended before its hello: {0}")]
    Ended(Ended),
}

/// Waits up to `deadline` for the connection's hello. On failure the connection has been closed with
/// the fitting code.
pub async fn greet(
    mut connection: Box<dyn Connection>,
    clock: &BootClock,
    deadline: Duration,
) -> Result<Greeted, NotGreeted> {
    let mut rooms = Vec::new();
    let hello = tokio::select! {
        hello = hello(&mut *connection, &mut rooms, clock) => hello,
        () = clock.sleep_until(clock.now() + deadline) => Err(NotGreeted::Silent(deadline)),
    };
    match hello {
        Ok(greeting) => Ok(Greeted { connection, greeting, rooms }),
        Err(why) => {
            if let Some(code) = why.code() {
                farewell(connection, &rooms, clock, goodbye(code, &why.to_string(), None)).await;
            }
            Err(why)
        }
    }
}

impl NotGreeted {
    /// The code that such a connection is closed with; `None` where it has ended by itself.
    pub fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Silent(_) => Some(CloseCode::HandshakeTimeout),
            Self::Violation(_) => Some(CloseCode::ProtocolViolation),
            Self::Version(_) => Some(CloseCode::VersionMismatch),
            Self::Ended(_) => None,
        }
    }
}

/// Turns a greeted connection away: says goodbye with the code, then closes it.
pub async fn refuse(
    greeted: Greeted,
    clock: &BootClock,
    code: CloseCode,
    reason: &str,
    retry_after: Option<Duration>,
) {
    farewell(greeted.connection, &greeted.rooms, clock, goodbye(code, reason, retry_after)).await;
}

fn goodbye(code: CloseCode, reason: &str, retry_after: Option<Duration>) -> Goodbye {
    let retry_after_ms = retry_after.map_or(0, |wait| u32::try_from(wait.as_millis()).unwrap_or(u32::MAX));
    Goodbye { code, reason: reason.into(), retry_after_ms }
}

async fn hello(
    connection: &mut dyn Connection,
    rooms: &mut Vec<Channel>,
    clock: &BootClock,
) -> Result<Greeting, NotGreeted> {
    loop {
        match poll_fn(|context| connection.poll_event(context)).await {
            Event::Room(channel) => rooms.push(channel),
            Event::Frame(Channel::Shared | Channel::Lane(Class::Session), bytes) => {
                return greeting(Frame::decode(bytes), clock.now());
            }
            Event::Frame(Channel::Lane(class), _) => {
                return Err(NotGreeted::Violation(format!("it used the {class} lane")));
            }
            // Unreliable and unordered: it may overtake the hello.
            Event::Frame(Channel::Datagram, _) => {}
            Event::Ended(ended) => return Err(NotGreeted::Ended(ended)),
        }
    }
}

fn greeting(
    frame: Result<(Moment, Frame), carriageway_proto::DecodeError>,
    arrived: Moment,
) -> Result<Greeting, NotGreeted> {
    match frame {
        Ok((clock, Frame::Hello(hello))) if hello.version == VERSION => {
            Ok(Greeting { hello, clock, arrived })
        }
        Ok((_, Frame::Hello(hello))) => Err(NotGreeted::Version(version_mismatch(hello.version))),
        Ok(_) => Err(NotGreeted::Violation("its first frame was no hello".into())),
        Err(error) => Err(NotGreeted::Violation(error.to_string())),
    }
}

async fn farewell(
    mut connection: Box<dyn Connection>,
    rooms: &[Channel],
    clock: &BootClock,
    goodbye: Goodbye,
) {
    let (code, reason) = (goodbye.code, goodbye.reason.clone());
    let channel = rooms.iter().find(|room| matches!(room, Channel::Shared | Channel::Lane(Class::Session)));
    if let Some(channel) = channel {
        connection.start_send(*channel, Frame::Goodbye(goodbye).encode(clock.now()));
    }
    connection.close(code, &reason);
    let ended = async { while !matches!(poll_fn(|cx| connection.poll_event(cx)).await, Event::Ended(_)) {} };
    tokio::select! {
        () = ended => {}
        () = clock.sleep_until(clock.now() + FAREWELL) => {}
    }
}
