//! Operators who click, repeat themselves, change their minds, and note what they were answered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand_core::Rng;
use rand_pcg::Pcg64Mcg;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use super::between;
use super::world::wall_micros;

/// Answers take longer than this only from a gateway that is dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often an operator who got no answer asks again with the same key.
const TRIES: u32 = 12;

/// So many commands back an operator may go to repeat one.
const REPEATED: usize = 20;

/// This long after it was first asked for, a command has ended: longer than the longest ttl and what a gateway waits
/// for a vehicle's answer after it.
const ENDED: Duration = Duration::from_mins(1);

/// A gateway keeps a record at least this long after its end, and so after it was first asked for.
const KEPT: Duration = Duration::from_mins(10);

/// Longest ttl that is asked for.
const LONGEST_TTL_MS: u64 = 20_000;

/// One command, as the operator who sent it knows it.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) vehicle: String,
    pub(super) key: String,
    pub(super) class: &'static str,
    pub(super) path: &'static str,
    pub(super) value: f64,
    pub(super) ttl_ms: u64,
    pub(super) tries: Vec<Try>,
    /// The gateway's records of it in the end, or as they were last before the gateway might forget them, by id: what it
    /// was answered with and is not here is gone.
    pub(super) records: BTreeMap<String, Json>,
}

/// One request for it.
#[derive(Clone, Debug)]
pub(super) struct Try {
    /// When it was sent and when it was answered or given up, in microseconds since 1970.
    pub(super) sent: u64,
    pub(super) done: u64,
    pub(super) answer: Answer,
}

/// What came back.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// The gateway has a record of it.
    Accepted {
        /// The record's id.
        id: String,
        /// The record, as it was then.
        record: Json,
    },
    /// The gateway refused it.
    Refused {
        /// The status.
        status: u16,
    },
    /// No answer: it may have been taken or not.
    None,
}

impl Asked {
    /// What it was answered with: each record as it was then, with its id, in the order of the requests.
    pub(super) fn shown(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.tries.iter().filter_map(|one| match &one.answer {
            Answer::Accepted { id, record } => Some((id.as_str(), record)),
            Answer::Refused { .. } | Answer::None => None,
        })
    }

    /// The ids of the records that it was answered with, each once. There is one, unless a gateway has forgotten it.
    pub(super) fn ids(&self) -> BTreeSet<&str> {
        self.shown().map(|(id, _)| id).collect()
    }

    /// Whether it was first asked for longer ago than `past`.
    fn is_older_than(&self, past: Duration) -> bool {
        let past = u64::try_from(past.as_micros()).unwrap_or(u64::MAX);
        self.tries.first().is_some_and(|first| first.sent.saturating_add(past) < wall_micros())
    }

    fn body(&self) -> Json {
        json!({ "class": self.class, "path": self.path, "value": self.value, "ttl_ms": self.ttl_ms })
    }
}

/// The operators' way to the gateway.
#[derive(Clone)]
pub(super) struct Client {
    http: reqwest::Client,
    public: SocketAddr,
    internal: SocketAddr,
    token: String,
}

impl Client {
    pub(super) fn new(ca: &[u8], public: SocketAddr, internal: SocketAddr, token: String) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca)?])
            .no_proxy()
            // Well before the gateway lets go of a connection without requests.
            .pool_idle_timeout(Duration::from_millis(500))
            .timeout(PATIENCE)
            .build()
            .context("cannot make an HTTP client")?;
        Ok(Self { http, public, internal, token })
    }

    pub(super) async fn is_ready(&self) -> bool {
        let asked = self.http.get(format!("http://{}/readyz", self.internal)).send().await;
        asked.is_ok_and(|answer| answer.status() == StatusCode::OK)
    }

    pub(super) async fn is_online(&self, vehicle: &str) -> bool {
        let view = self.get(&format!("/v1/vehicles/{vehicle}")).await;
        view.is_some_and(|(_, view)| view["presence"] == "online")
    }

    async fn get(&self, path: &str) -> Option<(u16, Json)> {
        let asked =
            self.http.get(format!("https://{}{path}", self.public)).bearer_auth(&self.token).send().await;
        let answer = asked.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// Takes note of the records of a command that nobody repeats any more, for the time when the gateway has forgotten
    /// them. False where it has to be done again: the gateway did not answer, or one has not ended.
    async fn look(&self, asked: &mut Asked) -> bool {
        let ids: Vec<String> = asked.ids().into_iter().map(ToOwned::to_owned).collect();
        for id in ids {
            match self.get(&format!("/v1/commands/{id}")).await {
                Some((200, record)) if record["terminal"] == true => drop(asked.records.insert(id, record)),
                Some((404, _)) => {}
                // What never ends must not keep the others from being looked at: in the end it is asked for again.
                Some((200, _)) if asked.is_older_than(ENDED * 2) => {}
                Some(_) | None => return false,
            }
        }
        true
    }

    async fn post(&self, asked: &Asked) -> Try {
        let sent = wall_micros();
        let url = format!("https://{}/v1/vehicles/{}/commands", self.public, asked.vehicle);
        let request = self.http.request(Method::POST, url).bearer_auth(&self.token);
        let request = request.header("Idempotency-Key", &asked.key).json(&asked.body());
        let answer = match request.send().await {
            Ok(response) => answer(response).await,
            Err(_) => Answer::None,
        };
        Try { sent, done: wall_micros(), answer }
    }
}

async fn answer(response: reqwest::Response) -> Answer {
    let status = response.status();
    let Ok(body) = response.json::<Json>().await else { return Answer::None };
    match body["id"].as_str() {
        Some(id) if status.is_success() => Answer::Accepted { id: id.into(), record: body.clone() },
        Some(_) | None => Answer::Refused { status: status.as_u16() },
    }
}

/// All operators at work.
pub(super) struct Operators {
    enough: Arc<AtomicBool>,
    tasks: JoinSet<Vec<Asked>>,
}

impl Operators {
    /// Two to each vehicle, `rate` commands per second together.
    pub(super) fn start(client: &Client, vehicles: &[String], rate: u32, seed: u64) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (number, vehicle) in (0_u64..).zip(vehicles.iter().flat_map(|vehicle| [vehicle, vehicle])) {
            let chance = Pcg64Mcg::new(u128::from(seed) << 64 | u128::from(number) << 1 | 1);
            let operator =
                Operator { client: client.clone(), vehicle: vehicle.clone(), number, count: 0, chance };
            tasks.spawn(operator.work(Duration::from_secs(2) / rate, Arc::clone(&enough)));
        }
        Self { enough, tasks }
    }

    /// Lets each finish what it is about.
    pub(super) async fn stop(self) -> Vec<Asked> {
        self.enough.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

struct Operator {
    client: Client,
    vehicle: String,
    number: u64,
    count: u64,
    chance: Pcg64Mcg,
}

/// The windows that operators move: any share of them, so that every wish can have a value of its own.
const WINDOWS: [&str; 4] = [
    "Vehicle.Cabin.Door.Row1.DriverSide.Window.Position",
    "Vehicle.Cabin.Door.Row1.PassengerSide.Window.Position",
    "Vehicle.Cabin.Door.Row2.DriverSide.Window.Position",
    "Vehicle.Cabin.Door.Row2.PassengerSide.Window.Position",
];

impl Operator {
    async fn work(mut self, pause: Duration, enough: Arc<AtomicBool>) -> Vec<Asked> {
        let mut all: Vec<Asked> = Vec::new();
        let mut looked_at = 0;
        while !enough.load(Ordering::Relaxed) {
            tokio::time::sleep(pause.mul_f64(0.5 + self.share())).await;
            let is_past = all.len() > looked_at + REPEATED + 1 && all[looked_at].is_older_than(ENDED);
            if is_past && self.client.look(&mut all[looked_at]).await {
                looked_at += 1;
            }
            let again = self.chance.next_u32() as usize % all.len().clamp(1, 1_000);
            // Now and then somebody repeats an old click with its key.
            if self.chance.next_u32().is_multiple_of(10) && !all.is_empty() {
                let again = all.len() - 1 - again.min(all.len() - 1).min(REPEATED);
                let once_more = self.client.post(&all[again]).await;
                all[again].tries.push(once_more);
                continue;
            }
            let mut asked = self.wish();
            self.insist(&mut asked).await;
            all.push(asked);
        }
        all
    }

    /// A wish whose value nobody else asks for: what the vehicle does can be told apart by it.
    fn wish(&mut self) -> Asked {
        self.count += 1;
        let path = WINDOWS[self.chance.next_u32() as usize % WINDOWS.len()];
        let share = self.share();
        // Micro-steps by operator and count: two wishes never share a value.
        let mark = (self.number * 1_000_000 + self.count) as f64 * 1e-9;
        let value = (98.0 * share).floor() + mark;
        Asked {
            vehicle: self.vehicle.clone(),
            key: format!("o{}-{}", self.number, self.count),
            class: "body",
            path,
            value,
            ttl_ms: between(&mut self.chance, 300, LONGEST_TTL_MS).as_millis() as u64,
            tries: Vec::new(),
            records: BTreeMap::new(),
        }
    }

    /// Sends it until there is an answer; now and then gives up after the first silence.
    async fn insist(&mut self, asked: &mut Asked) {
        let patient = !self.chance.next_u32().is_multiple_of(8);
        for _ in 0..if patient { TRIES } else { 1 } {
            let one = self.client.post(asked).await;
            let silent = matches!(one.answer, Answer::None);
            asked.tries.push(one);
            if !silent {
                return;
            }
            tokio::time::sleep(between(&mut self.chance, 50, 400)).await;
        }
    }

    /// From 0 to 1.
    fn share(&mut self) -> f64 {
        f64::from(self.chance.next_u32()) / f64::from(u32::MAX)
    }
}

/// Asks for the end of every record that somebody was answered with, until each has one or `patience` is over.
pub(super) async fn resolve(client: &Client, asked: &mut [Asked], patience: Duration) {
    let until = wall_micros() + u64::try_from(patience.as_micros()).unwrap_or(u64::MAX);
    for one in asked {
        let ids: Vec<String> = one.ids().into_iter().map(ToOwned::to_owned).collect();
        for id in ids {
            match last_seen(client, &id, until).await {
                Some(record) => drop(one.records.insert(id, record)),
                // It may be forgotten by now: then it stands as it was when it was looked at.
                None if one.is_older_than(KEPT) => {}
                None => drop(one.records.remove(&id)),
            }
        }
    }
}

/// The record once it has ended, or as it was last seen before `until`. `None`: the gateway does not know it, or
/// never answered.
async fn last_seen(client: &Client, id: &str, until: u64) -> Option<Json> {
    let mut last = None;
    loop {
        match client.get(&format!("/v1/commands/{id}")).await {
            Some((200, record)) if record["terminal"] == true => return Some(record),
            Some((200, record)) => last = Some(record),
            Some((404, _)) => return None,
            // No word on the record: somebody who asks again may get one.
            Some(_) | None => {}
        }
        if wall_micros() >= until {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
