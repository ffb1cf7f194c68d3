//! TCP with TLS on it, tuned, between two ends.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustls::pki_types::ServerName;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::super::End;
use super::super::fleet::Fleet;
use super::meeting::again;
use super::tls;

/// What a connection is carried on.
pub(in crate::compare::subjects) type Stream = TlsStream<TcpStream>;

/// Bytes not yet sent that the kernel keeps, in the best practice.
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// After this long without an acknowledgement the kernel gives a connection up, in the best practice: a NAT that forgets a
/// connection says nothing, and by default the kernel goes on for a quarter of an hour.
const GIVE_UP: Duration = Duration::from_secs(4);

/// A handshake of TCP and TLS that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Connections of one port that may be there at once, for each vehicle, most of them on their way out.
const MOST_CONNECTIONS: usize = 64;

/// Everything on the TCP ports is called this.
const ALPN: &[u8] = b"http/1.1";

/// Which of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compare::subjects) enum Congestion {
    /// Whichever the system has.
    System,
    Cubic,
    Bbr,
}

/// How a socket is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::compare::subjects) struct Tuning {
    pub(in crate::compare::subjects) congestion: Congestion,
    /// Small segments leave at once, little waits in the kernel, and a dead connection is given up.
    pub(in crate::compare::subjects) is_best: bool,
}

impl Congestion {
    /// The kernel's name for it, where one is asked for.
    pub(in crate::compare::subjects) const fn name(self) -> Option<&'static str> {
        match self {
            Self::System => None,
            Self::Cubic => Some("cubic"),
            Self::Bbr => Some("bbr"),
        }
    }
}

impl Tuning {
    /// All as it is.
    pub(in crate::compare::subjects) const NONE: Self =
        Self { congestion: Congestion::System, is_best: false };

    /// For people.
    pub(in crate::compare::subjects) fn words(self) -> String {
        let congestion = match self.congestion.name() {
            None => "the system's congestion control".to_owned(),
            Some(name) => format!("kernel {name}"),
        };
        let tuned = if self.is_best {
            "TCP_NODELAY, NOTSENT_LOWAT 16 KiB, TCP_USER_TIMEOUT 4 s"
        } else {
            "the kernel's default buffers"
        };
        format!("{congestion}, {tuned}")
    }

    /// Fails where this machine does not give what is asked for, and says whose congestion control is used at this end.
    pub(in crate::compare::subjects) fn prove(self, whose: &str, end: &End) -> Result<()> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).context("cannot open a socket")?;
        end.note(format!("{whose}'s TCP: {}", self.tune(&SockRef::from(&socket))?));
        Ok(())
    }

    /// Tunes, and returns the congestion control that the kernel answers.
    pub(in crate::compare::subjects) fn tune(self, socket: &SockRef<'_>) -> Result<String> {
        if self.is_best {
            socket.set_tcp_nodelay(true)?;
            socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
            socket.set_tcp_user_timeout(Some(GIVE_UP))?;
        }
        if let Some(name) = self.congestion.name() {
            socket.set_tcp_congestion(name.as_bytes()).with_context(|| {
                format!(
                    "the kernel does not give {name}: load its module, and run as root where it is restricted"
                )
            })?;
        }
        let answer = socket.tcp_congestion()?;
        let answer = String::from_utf8_lossy(answer.split(|byte| *byte == 0).next().unwrap_or_default());
        if self.congestion.name().is_some_and(|asked| asked != answer) {
            bail!("the kernel was asked for {:?} and answers {answer}", self.congestion);
        }
        Ok(answer.into_owned())
    }
}

/// What a subject does with one connection, at either end, until it ends.
pub(in crate::compare::subjects) trait Carry:
    Clone + Send + Sync + 'static
{
    fn carry(self, stream: Stream, end: End) -> impl Future<Output = Result<()>> + Send;
}

/// Listens on any port.
pub(in crate::compare::subjects) async fn listen(end: &End) -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind(end.at(0)).await.context("cannot listen on TCP")?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// The gateway's end of one port, for all vehicles. Returns when the run is over.
pub(in crate::compare::subjects) async fn serve<C: Carry>(
    listener: TcpListener,
    tuning: Tuning,
    fleet: Fleet<C>,
) -> Result<()> {
    let end = fleet.any();
    let acceptor = TlsAcceptor::from(Arc::new(tls::server(&end.papers, ALPN)?));
    let mut connections = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = end.stopped() => return Ok(()),
            accepted = listener.accept() => accepted.context("cannot accept")?.0,
            Some(ended) = connections.join_next() => {
                // That a connection fails is the vehicle's to notice, who dials again.
                let _failed: Result<()> = ended.context("a connection's task")?;
                continue;
            }
        };
        if connections.len() >= MOST_CONNECTIONS * fleet.len() {
            continue;
        }
        let answer = tuning.tune(&SockRef::from(&stream))?;
        end.note(format!("gateway's TCP: {answer}"));
        let (acceptor, fleet) = (acceptor.clone(), fleet.clone());
        connections.spawn(async move {
            let stream =
                timeout(HANDSHAKE, acceptor.accept(stream)).await.context("TLS takes too long")??;
            let (end, carry) = fleet.whose(stream.get_ref().1.peer_certificates())?;
            carry.carry(stream.into(), end).await
        });
    }
}

/// The vehicle's end of one port. Returns when the run is over.
pub(in crate::compare::subjects) async fn dial<C: Carry>(
    port: u16,
    tuning: Tuning,
    end: End,
    carry: C,
) -> Result<()> {
    tuning.prove("vehicle", &end)?;
    let connector = TlsConnector::from(Arc::new(tls::client(&end.papers, ALPN)?));
    let name = ServerName::from(std::net::IpAddr::from(end.host));
    again(&end, || async {
        let meet = async {
            let stream = TcpStream::connect(end.at(port)).await.context("TCP")?;
            tuning.tune(&SockRef::from(&stream))?;
            connector.connect(name.clone(), stream).await.context("TLS")
        };
        let stream = timeout(HANDSHAKE, meet).await.context("the handshake takes too long")??;
        carry.clone().carry(stream.into(), end.clone()).await
    })
    .await
}
