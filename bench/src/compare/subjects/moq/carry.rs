//! Carries the workload over one connection, at either end.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use carriageway_netem::core::Direction;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use futures_util::stream::FuturesUnordered;
use moq_net::{Client, Error, Server, Session, Timestamp, broadcast, cache, group, origin, time, track};
use quinn::Connection;
use quinn::congestion::{Bbr, Cubic};
use tokio::sync::watch;
use tokio::time::timeout;

use super::quality::Quality;
use super::window::{Receipts, Window};
use crate::compare::subjects::common::{hear, piece_bytes};
use crate::compare::subjects::quinn::Controller;
use crate::compare::subjects::topics::{other, topics};
use crate::compare::subjects::{End, Reach};
use crate::compare::workload::{Kind, Manner, Message};

/// The library's handshake, on a connection that is there, takes a round trip.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The track of confirmations.
const GOT: &str = "got";

/// Bytes of groups that each end keeps at most, of either direction: more than is ever under way.
const CACHE: u64 = 8 * 1024 * 1024;

/// Frames of a group of a file, 1 MiB.
const GROUP: usize = 256;

/// Groups of a track that are read at the same time: one that waits for a lost packet holds up none.
const MOST_GROUPS: usize = 64;

/// Works until the connection fails.
pub(super) async fn carry(
    controller: Controller,
    sends: Direction,
    connection: Connection,
    end: End,
) -> Result<()> {
    read_back(controller, sends, &connection, &end)?;
    let (published, publishing) = origin::Producer::new(keeping());
    let (heard, hearing) = origin::Producer::new(keeping());
    let own = Own::publish(&published, end.vehicle(), sends)?;
    let transport = web_transport_quinn::Session::raw(connection);
    let meet = meet(sends, transport, &published, heard.clone());
    let (_session, driver) = timeout(HANDSHAKE, meet).await.context("the handshake takes too long")??;
    let pieces = Pieces::default();
    tokio::select! {
        ended = time::run(driver) => bail!("the session: {ended}"),
        ended = time::run(publishing) => bail!("what is published: {ended}"),
        ended = time::run(hearing) => bail!("what is heard: {ended}"),
        ended = listen(&heard, sends, &end, &pieces) => ended,
        ended = own.say(&end, &pieces) => ended,
    }
}

/// Fails where the connection does not have the congestion control that it was asked for.
fn read_back(controller: Controller, sends: Direction, connection: &Connection, end: &End) -> Result<()> {
    let state = connection.congestion_state().into_any();
    let is_it = match controller {
        Controller::Cubic => state.is::<Cubic>(),
        Controller::Bbr => state.is::<Bbr>(),
    };
    let name = controller.name();
    ensure!(is_it, "quinn was asked for {name} and has another congestion control");
    let whose = match sends {
        Direction::Down => "gateway",
        Direction::Up => "vehicle",
    };
    end.note(format!("{whose}'s QUIC: {name}"));
    Ok(())
}

/// What an origin keeps: bounded in bytes, and by the library's default in time.
fn keeping() -> origin::Config {
    let policy = cache::Config::default().with_capacity(CACHE).with_expiry(cache::DEFAULT_EXPIRY);
    let mut config = origin::Config::default();
    config.pool = cache::Pool::new(policy);
    config
}

type Driver = moq_net::Driver<web_transport_quinn::Session>;

/// The vehicle is the client.
async fn meet(
    sends: Direction,
    transport: web_transport_quinn::Session,
    published: &origin::Producer,
    heard: origin::Producer,
) -> Result<(Session, Driver)> {
    #[expect(clippy::disallowed_methods, reason = "the library's drivers go on by tokio's clock")]
    let now = tokio::time::Instant::now().into_std();
    let met = match sends {
        Direction::Up => {
            let client = Client::new().with_publisher(published).with_subscriber(heard);
            client.connect_lite(now, transport).await
        }
        Direction::Down => {
            let server = Server::new().with_publisher(published).with_subscriber(heard);
            server.accept_lite(now, transport).await
        }
    };
    met.context("the library's handshake")
}

/// The broadcast of one direction.
fn path(vehicle: &str, direction: Direction) -> String {
    topics(vehicle, direction).trim_end_matches('/').to_owned()
}

fn kinds(direction: Direction) -> impl Iterator<Item = Kind> {
    Kind::ALL.into_iter().filter(move |kind| kind.direction() == direction)
}

/// The last piece of a file that came, by number.
#[derive(Debug, Default)]
struct Pieces {
    /// Here, as it is to be confirmed.
    here: watch::Sender<Option<u32>>,
    /// There, as it was confirmed.
    there: watch::Sender<Option<u32>>,
}

/// What this end publishes.
struct Own {
    /// The tracks live no longer than it.
    _broadcast: broadcast::Producer,
    messages: BTreeMap<Kind, track::Producer>,
    file: track::Producer,
    got: track::Producer,
}

impl Own {
    fn publish(origin: &origin::Producer, vehicle: &str, sends: Direction) -> Result<Self> {
        let broadcast = origin.create_broadcast(path(vehicle, sends))?;
        let track = |name: &str, quality: Quality| {
            let info = track::Info::default().with_priority(quality.priority).with_max_age(quality.max_age);
            broadcast.create_track(name, info)
        };
        let of = |kind: Kind| track(kind.name(), Quality::of(kind));
        let live = kinds(sends).filter(|kind| !kind.is_file());
        let messages = live.map(|kind| Ok((kind, of(kind)?))).collect::<Result<_>>()?;
        let file = kinds(sends).find(|kind| kind.is_file()).context("no file goes this way")?;
        let (file, got) = (of(file)?, track(GOT, Quality::GOT)?);
        // Only now: who hears of it finds all tracks.
        broadcast.announce(origin::Route::default())?;
        Ok(Self { _broadcast: broadcast, messages, file, got })
    }

    async fn say(self, end: &End, pieces: &Pieces) -> Result<()> {
        let Self { _broadcast, messages, file, got } = self;
        tokio::select! {
            ended = say_messages(messages, end) => ended,
            ended = say_pieces(file, end, pieces.there.subscribe()) => ended,
            ended = confirm(got, pieces.here.subscribe()) => ended,
        }
    }
}

/// What waits for the way does so in the library, which drops states that are replaced.
async fn say_messages(mut tracks: BTreeMap<Kind, track::Producer>, end: &End) -> Result<()> {
    loop {
        let message = end.feed.next().await;
        let track = tracks.get_mut(&message.kind).context("a message of the other end")?;
        track.write_frame(Timestamp::now(), message.encode())?;
    }
}

async fn say_pieces(
    track: track::Producer,
    end: &End,
    mut there: watch::Receiver<Option<u32>>,
) -> Result<()> {
    let mut window = Window::default();
    let mut group = track.append_group()?;
    loop {
        while !window.has_room() {
            there.changed().await.context("nobody confirms any more")?;
            if let Some(number) = *there.borrow_and_update() {
                window.confirm(number);
            }
        }
        let piece = end.feed.piece().await;
        window.write(piece.number);
        if group.frame_count() == GROUP {
            group.finish()?;
            group = track.append_group()?;
        }
        group.write_frame(Timestamp::now(), piece.encode_in(piece_bytes(Manner::NewestFirst)))?;
    }
}

async fn confirm(mut track: track::Producer, mut here: watch::Receiver<Option<u32>>) -> Result<()> {
    loop {
        here.changed().await.context("nobody hears any more")?;
        let Some(number) = *here.borrow_and_update() else { continue };
        track.write_frame(Timestamp::now(), number.to_be_bytes().to_vec())?;
    }
}

/// Hears all tracks of the other end.
async fn listen(heard: &origin::Producer, sends: Direction, end: &End, pieces: &Pieces) -> Result<()> {
    let from = other(sends);
    let broadcast = heard.consume().routed_broadcast(path(end.vehicle(), from)).await?;
    let subscribe = |name: &'static str, quality: Quality| {
        let wishes =
            track::Subscription::default().with_priority(quality.priority).with_max_age(quality.max_age);
        broadcast.track(name).map(|track| track.subscribe(wishes))
    };
    let of = |kind: Kind| subscribe(kind.name(), Quality::of(kind));
    // All are asked for before the first has answered.
    let live: Vec<_> = kinds(from).filter(|kind| !kind.is_file()).map(of).collect::<Result<_, _>>()?;
    let file = of(kinds(from).find(|kind| kind.is_file()).context("no file comes this way")?)?;
    let got = subscribe(GOT, Quality::GOT)?;
    let (live, file, got) = tokio::try_join!(try_join_all(live), file, got)?;
    if sends == Direction::Up {
        end.ready(Reach::default());
    }
    let live = kinds(from).filter(|kind| !kind.is_file()).zip(live);
    let messages = try_join_all(live.map(|(kind, track)| hear_messages(kind, track, end)));
    tokio::select! {
        ended = messages => ended.map(drop),
        ended = hear_file(file, end, &pieces.here) => ended,
        ended = hear_confirmations(got, &pieces.there) => ended,
    }
}

/// The next group of a track.
async fn next(track: &mut track::Subscriber) -> Result<group::Consumer> {
    track.recv_group().await?.context("the other end has ended a track")
}

async fn hear_messages(kind: Kind, mut track: track::Subscriber, end: &End) -> Result<()> {
    let mut groups = FuturesUnordered::new();
    loop {
        tokio::select! {
            group = next(&mut track), if groups.len() < MOST_GROUPS => groups.push(hear_message(group?)),
            Some(message) = groups.next() => match message {
                Ok(message) => hear(end, &message),
                // One that is given up for its age was to be.
                Err(error) => if Quality::of(kind).is_lasting() {
                    end.note(format!("a group of {}: {error}", kind.name()));
                },
            },
        }
    }
}

async fn hear_message(mut group: group::Consumer) -> Result<bytes::Bytes, Error> {
    let frame = group.read_frame().await?;
    Ok(frame.map(|frame| frame.payload).unwrap_or_default())
}

/// One group after another: a file is in order.
async fn hear_file(mut track: track::Subscriber, end: &End, here: &watch::Sender<Option<u32>>) -> Result<()> {
    let mut receipts = Receipts::default();
    loop {
        let mut group = next(&mut track).await?;
        while let Some(frame) = group.read_frame().await.context("a file was cut short")? {
            hear(end, &frame.payload);
            if let Ok(piece) = Message::decode(&frame.payload)
                && receipts.take()
            {
                here.send_replace(Some(piece.number));
            }
        }
    }
}

async fn hear_confirmations(mut track: track::Subscriber, there: &watch::Sender<Option<u32>>) -> Result<()> {
    loop {
        // Where it was replaced by a newer one that one follows.
        let Ok(said) = hear_message(next(&mut track).await?).await else { continue };
        let number = said.as_ref().try_into().context("a confirmation of a wrong length")?;
        there.send_replace(Some(u32::from_be_bytes(number)));
    }
}
