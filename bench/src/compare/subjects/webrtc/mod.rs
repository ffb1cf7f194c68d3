//! WebRTC data channels (str0m): one peer connection with a channel for states, one for commands and answers, one for pictures and
//! one for files.
//!
//! The vehicle meets the gateway over TLS on TCP (`meet`), as by a service for signalling, and offers nothing but what session
//! descriptions would say of it. The gateway has one UDP port and one candidate, its own address; the vehicle's is learned from
//! its checks. Where the vehicle changes to another network, its next check comes from there, the gateway follows it, and the
//! connection goes on. A path whose checks find no answer is given up, and the vehicle meets the gateway anew; a newer connection
//! takes the place of an older one.
//!
//! The library has neither sockets nor a clock (`peer`); its loop is here.

mod channels;
mod crypto;
mod meet;
mod peer;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use self::meet::{Answer, Identity, Offer};
use self::peer::{Peer, Step};
use super::common::{Congestion, Tuning, dial, hear, listen, piece_bytes, serve, versions};
use super::fleet::{Fleet, apart};
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::{Kind, Manner};

/// A meeting, or a handshake after it, that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Of the connections on which both ends meet.
const SIGNALLING: Tuning = Tuning { congestion: Congestion::System, is_best: true };

/// How what is due waits.
const MANNER: Manner = Manner::NewestFirst;

/// More than a datagram of this library has.
const DATAGRAM: usize = 2_000;

/// WebRTC data channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct WebRtc;

impl Subject for WebRtc {
    fn facts(&self) -> Facts {
        let setup = "one peer connection; control, telemetry and camera unordered with maxRetransmits 0, commands and answers \
                     reliable and ordered, files reliable and ordered in messages of 4 KiB; at most 8 KiB of states, 16 of \
                     commands, 48 of pictures and 64 of files unacknowledged or waiting; DTLS 1.3 with RustCrypto by a provider \
                     of our own, without SRTP; signalling by one exchange over TLS on TCP, without SDP; host candidates only, no \
                     STUN server, the gateway ICE-lite, checks every 500 ms, given up after 9 without an answer; SCTP's \
                     handshake skipped (SNAP, a draft); SCTP's congestion control and timers as the library has them, which lets \
                     nobody set them (an RTO of 3 s at first and at least 1 s); a change of address is followed without an \
                     ICE restart (a check still under way on the old path leads back for up to 500 ms), after a cut comes \
                     a new session";
        Facts {
            title: "WebRTC data channels".into(),
            version: versions(&["str0m", "dimpl", "sctp-proto"]),
            setup: setup.into(),
            manner: MANNER,
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        apart(ends, |end| Box::pin(serve_one(end)))
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(async move {
            let identity = Arc::new(Identity::read(end.papers.vehicle())?);
            end.note("TCP carries the signalling alone; SCTP has a congestion control of its own");
            let offer = Offer { identity, gateway: end.at(reach.udp) };
            dial(reach.tcp, SIGNALLING, end, offer).await
        })
    }
}

/// A gateway of one vehicle.
async fn serve_one(end: End) -> Result<()> {
    let identity = Arc::new(Identity::read(end.papers.gateway())?);
    let (listener, tcp) = listen(&end).await?;
    let socket = UdpSocket::bind(end.at(0)).await.context("cannot listen on UDP")?;
    let local = socket.local_addr()?;
    // One: the one before is taken at once.
    let (met, meetings) = mpsc::channel(1);
    end.ready(Reach { udp: local.port(), tcp, ..Reach::default() });
    let answer = Answer { identity, local, met };
    tokio::try_join!(
        serve(listener, SIGNALLING, Fleet::new(vec![end.clone()], |_| answer.clone())),
        work(&socket, meetings, &end),
    )?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "the clock that str0m and tokio's timers go by")]
fn now() -> Instant {
    Instant::now()
}

/// Works on the newest connection until the run is over.
async fn work(socket: &UdpSocket, mut meetings: mpsc::Receiver<Peer>, end: &End) -> Result<()> {
    let mut newest: Option<Peer> = None;
    loop {
        tokio::select! {
            () = end.stopped() => break,
            Some(peer) = meetings.recv() => newest = Some(peer),
            // That a connection fails is the vehicle's to notice, who dials again.
            _failed = talk_with(&mut newest, socket, end) => newest = None,
        }
    }
    if let Some(peer) = &mut newest {
        peer.close();
        // Who does not hear it notices by itself.
        let _unheard = flush(peer, socket, end).await;
    }
    Ok(())
}

/// Never returns where there is nobody.
async fn talk_with(peer: &mut Option<Peer>, socket: &UdpSocket, end: &End) -> Result<()> {
    match peer {
        Some(peer) => talk(peer, socket, end).await,
        None => std::future::pending().await,
    }
}

/// Works on one connection until it fails. Cancel safe but for a datagram, which is lost then.
async fn talk(peer: &mut Peer, socket: &UdpSocket, end: &End) -> Result<()> {
    let mut buffer = [0; DATAGRAM];
    loop {
        let wake = flush(peer, socket, end).await?;
        let has_room = |kind| peer.has_room(kind);
        tokio::select! {
            // What comes last waits while the processor is not up to the rest.
            biased;
            message = end.feed.next_of(has_room) => {
                // What is sent is stamped with the library's clock, which moves by this alone.
                peer.on_time(now())?;
                peer.say(message.kind, &message.encode())?;
            }
            () = sleep_until(wake.into()) => peer.on_time(now())?,
            received = socket.recv_from(&mut buffer) => {
                let (length, from) = received.context("cannot receive")?;
                peer.receive(now(), from, &buffer[..length])?;
            }
            piece = end.feed.piece(), if has_room(Kind::Log) => {
                peer.on_time(now())?;
                peer.say(piece.kind, &piece.encode_in(piece_bytes(MANNER)))?;
            }
        }
    }
}

/// Does what there is to be done, and returns until when there is nothing.
async fn flush(peer: &mut Peer, socket: &UdpSocket, end: &End) -> Result<Instant> {
    loop {
        match peer.poll()? {
            Step::Send(to, datagram) => {
                // What the system does not send is lost, as on the way.
                let _lost = socket.send_to(&datagram, to).await;
            }
            Step::Heard(message) => hear(end, &message),
            // At the gateway it was said when it listened.
            Step::Ready => end.ready(Reach::default()),
            Step::Wait(until) => return Ok(until),
        }
    }
}
