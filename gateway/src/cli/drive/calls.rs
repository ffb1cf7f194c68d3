//! What the driver asks of the HTTP API, beside the control socket.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{Method, Request, StatusCode};
use bytes::Bytes;
use carriageway_proto::{EMERGENCY_STOP, SessionId, Token};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::place::Place;

/// Longer than an answer may take to be of use: by then the lease has ended.
const DEADLINE: Duration = Duration::from_secs(2);

/// A wish.
#[derive(Clone, Debug)]
pub enum Call {
    /// The lease, by force or not.
    Take {
        /// From whoever holds it.
        force: bool,
    },
    /// The lease's whole ttl again.
    Renew(Token),
    /// The lease's end.
    Release(Token),
    /// The end of the safe state of this nonce.
    Rearm {
        /// Under this lease.
        token: Token,
        /// As the vehicle announced it.
        nonce: String,
    },
    /// The vehicle's.
    EmergencyStop,
}

/// What became of it: the gateway's answer, or why there is none.
#[derive(Debug)]
pub struct Answer {
    /// The wish.
    pub call: Call,
    /// The answer's body, or a sentence for people.
    pub outcome: Result<Json, String>,
}

/// Serves calls one after the other, on one connection for as long as that lives.
pub async fn serve(place: Place, mut calls: mpsc::Receiver<Call>, answers: mpsc::Sender<Answer>) {
    let mut line = Line { place, sender: None, connections: JoinSet::new() };
    while let Some(call) = calls.recv().await {
        let outcome = match timeout(DEADLINE, line.call(&call)).await {
            Ok(outcome) => outcome.map_err(|error| format!("{error:#}")),
            Err(_) => Err(format!("no answer within {DEADLINE:?}")),
        };
        if outcome.is_err() {
            line.sender = None;
        }
        if answers.send(Answer { call, outcome }).await.is_err() {
            return;
        }
    }
}

struct Line {
    place: Place,
    sender: Option<SendRequest<Full<Bytes>>>,
    connections: JoinSet<()>,
}

impl Line {
    async fn call(&mut self, call: &Call) -> Result<Json> {
        let (path, body) = match call {
            Call::Take { force } => ("control-lease", json!({ "action": "take", "force": force })),
            Call::Renew(token) => ("control-lease", json!({ "action": "renew", "token": token.number() })),
            Call::Release(token) => {
                ("control-lease", json!({ "action": "release", "token": token.number() }))
            }
            Call::Rearm { token, nonce } => ("rearm", json!({ "token": token.number(), "nonce": nonce })),
            Call::EmergencyStop => {
                ("commands", json!({ "class": "safety", "path": EMERGENCY_STOP, "value": true }))
            }
        };
        let path = format!("/v1/vehicles/{}/{path}", self.place.vehicle);
        let mut key = [0; 16];
        SystemRandom::new().fill(&mut key).map_err(|_| anyhow!("the kernel gives no random bytes"))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, &self.place.authority)
            .header(AUTHORIZATION, format!("Bearer {}", self.place.token))
            .header(CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", SessionId::from_bytes(key).to_string())
            .body(Full::from(body.to_string()))?;
        let response = self.line().await?.send_request(request).await.context("the connection broke")?;
        let status = response.status();
        let body = response.into_body().collect().await.context("the connection broke")?.to_bytes();
        let body: Json = serde_json::from_slice(&body).unwrap_or_default();
        accepted(status, body)
    }

    /// A connection that takes a request.
    async fn line(&mut self) -> Result<&mut SendRequest<Full<Bytes>>> {
        while self.connections.try_join_next().is_some() {}
        let is_open = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_open {
            let (sender, connection) = handshake(TokioIo::new(self.place.dial().await?)).await?;
            // What breaks it breaks the request that is on it, which is told.
            self.connections.spawn(async { drop(connection.await) });
            self.sender = Some(sender);
        }
        self.sender.as_mut().ok_or_else(|| anyhow!("no connection"))
    }
}

fn accepted(status: StatusCode, body: Json) -> Result<Json> {
    if status.is_success() {
        return Ok(body);
    }
    bail!("{}", body["detail"].as_str().unwrap_or(status.as_str()))
}
