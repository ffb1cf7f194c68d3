//! Server-sent events for the vehicle, POST from it: what a web application without WebSocket does. HTTP/1.1 over TLS.
//!
//! Each event has one message in base64. The vehicle posts each message by itself, at most four at once, and files by sixteen
//! pieces; with the stream of events that makes the six connections that browsers allow themselves to one host.

mod base64;

use std::convert::Infallible;

use anyhow::{Context as _, Result, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use reqwest::Client;
use tokio::task::JoinSet;

use super::common::{
    Carry, Frames, Newest, Stream, Taking, Tuning, Way, again, client, framed, hear, listen, piece_bytes,
    serve, versions,
};
use super::fleet::{Fleet, ready};
use super::{End, Facts, Reach, Subject, Work};
use crate::compare::workload::Manner;

/// POSTs of messages that may be under way at once.
const MOST_POSTS: usize = 4;

/// Pieces of a file in one POST: the way to the gateway and back is not waited for after each.
const PIECES: usize = 16;

/// The longest line of an event: a piece in base64 has less.
const LONGEST_LINE: usize = 64 * 1024;

/// What a line of an event begins with.
const DATA: &str = "data: ";

/// Server-sent events and POST.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sse;

const MANNER: Manner = Manner::AsTheyCome;

impl Subject for Sse {
    fn facts(&self) -> Facts {
        Facts {
            title: "Server-sent events and POST".into(),
            version: versions(&["axum", "hyper", "reqwest", "rustls"]),
            setup: format!(
                "HTTP/1.1, keep-alive; {}; down: an event per message, base64; up: a POST per message, four at once, and one of 16 pieces of 16 KiB",
                Tuning::NONE.words()
            ),
            manner: MANNER,
        }
    }

    fn serve(&self, ends: Vec<End>) -> Work {
        Box::pin(async move {
            let end = ends.first().context("a gateway has a vehicle")?;
            Tuning::NONE.prove("gateway", end)?;
            let (listener, tcp) = listen(end).await?;
            ready(&ends, Reach { tcp, ..Reach::default() });
            serve(listener, Tuning::NONE, Fleet::new(ends, Http::of)).await
        })
    }

    fn drive(&self, end: End, reach: Reach) -> Work {
        Box::pin(async move {
            Tuning::NONE.prove("vehicle", &end)?;
            let tls = client(&end.papers, b"http/1.1")?;
            let client = Client::builder().tls_backend_preconfigured(tls).http1_only().build()?;
            let vehicle =
                Vehicle { client, base: format!("https://{}", end.at(reach.tcp)), end: end.clone() };
            tokio::select! {
                ended = again(&end, || vehicle.events()) => ended,
                ended = vehicle.messages() => ended,
                ended = vehicle.files() => ended,
            }
        })
    }
}

/// HTTP on one connection.
#[derive(Clone)]
struct Http(Router);

impl Http {
    /// What a vehicle asks for, on any of its connections.
    fn of(end: &End) -> Self {
        let gateway = Gateway { end: end.clone(), newest: Newest::new() };
        let router = Router::new().route("/events", get(events)).route("/messages", post(messages));
        Self(router.with_state(gateway))
    }
}

impl Carry for Http {
    async fn carry(self, stream: Stream, _end: End) -> Result<()> {
        let service = TowerToHyperService::new(self.0);
        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.context("HTTP")
    }
}

#[derive(Clone)]
struct Gateway {
    end: End,
    /// The stream of events that is answered last.
    newest: Newest,
}

async fn events(State(gateway): State<Gateway>) -> impl IntoResponse {
    let taking = Taking::new(&gateway.end, Way::Everything, MANNER);
    let events = stream::unfold((taking, gateway.newest.begin()), |(mut taking, mut turn)| async {
        let message = tokio::select! {
            biased;
            () = turn.over() => return None,
            message = taking.next() => message,
        };
        let event = format!("{DATA}{}\n\n", base64::encode(&message));
        Some((Ok::<_, Infallible>(event), (taking, turn)))
    });
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")];
    (headers, Body::from_stream(events))
}

async fn messages(State(gateway): State<Gateway>, body: Body) -> StatusCode {
    let mut parts = body.into_data_stream();
    let mut frames = Frames::default();
    while let Some(part) = parts.next().await {
        // A broken connection is its other end's to notice.
        let Ok(part) = part else { return StatusCode::BAD_REQUEST };
        frames.room().extend_from_slice(&part);
        if let Err(error) = frames.hear(&gateway.end) {
            gateway.end.note(error.to_string());
            return StatusCode::BAD_REQUEST;
        }
    }
    StatusCode::NO_CONTENT
}

struct Vehicle {
    client: Client,
    base: String,
    end: End,
}

impl Vehicle {
    async fn events(&self) -> Result<()> {
        let response = self.client.get(format!("{}/events", self.base)).send().await?;
        let mut response = response.error_for_status()?;
        self.end.ready(Reach::default());
        let mut lines = Lines::default();
        while let Some(part) = response.chunk().await? {
            lines.0.extend_from_slice(&part);
            while let Some(line) = lines.take()? {
                // Between events there is an empty line.
                if let Some(data) = line.strip_prefix(DATA) {
                    hear(&self.end, &base64::decode(data).context("an event is no base64")?);
                }
            }
        }
        bail!("the stream of events has ended")
    }

    async fn messages(&self) -> Result<()> {
        let mut posts = JoinSet::new();
        loop {
            tokio::select! {
                Some(posted) = posts.join_next() => self.posted(posted.context("a POST's task")?),
                message = self.end.feed.next(), if posts.len() < MOST_POSTS => {
                    posts.spawn(self.post(framed(&message.encode())));
                }
            }
        }
    }

    async fn files(&self) -> Result<()> {
        loop {
            let first = self.end.feed.piece().await;
            let others = std::iter::from_fn(|| self.end.feed.try_piece()).take(PIECES - 1);
            let mut body = BytesMut::new();
            for piece in std::iter::once(first).chain(others) {
                body.extend_from_slice(&framed(&piece.encode_in(piece_bytes(MANNER))));
            }
            self.posted(self.post(body.freeze()).await);
        }
    }

    fn post(&self, body: Bytes) -> impl Future<Output = Result<()>> + Send + use<> {
        let request = self.client.post(format!("{}/messages", self.base)).body(body);
        async move {
            request.send().await?.error_for_status()?;
            Ok(())
        }
    }

    /// What a POST that fails has carried is lost.
    fn posted(&self, posted: Result<()>) {
        if let Err(error) = posted {
            self.end.note(format!("a POST has failed: {error:#}"));
        }
    }
}

/// What of a text has come and is no whole line yet.
#[derive(Debug, Default)]
struct Lines(BytesMut);

impl Lines {
    fn take(&mut self) -> Result<Option<String>> {
        let Some(length) = self.0.iter().position(|byte| *byte == b'\n') else {
            if self.0.len() > LONGEST_LINE {
                bail!("a line of an event has more than {LONGEST_LINE} bytes");
            }
            return Ok(None);
        };
        let line = self.0.split_to(length + 1);
        let line = std::str::from_utf8(&line[..length]).context("an event is no text")?;
        Ok(Some(line.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_whole_however_the_text_is_cut() {
        let text = b"data: a\n\ndata: bc\n\n";
        for size in [1, 2, 7, text.len()] {
            let mut lines = Lines::default();
            let mut all = Vec::new();
            for part in text.chunks(size) {
                lines.0.extend_from_slice(part);
                all.extend(std::iter::from_fn(|| lines.take().unwrap()));
            }
            assert_eq!(all, ["data: a", "", "data: bc", ""]);
        }
        let mut endless = Lines(BytesMut::from(&vec![b'a'; LONGEST_LINE + 1][..]));
        assert!(endless.take().is_err());
    }
}
