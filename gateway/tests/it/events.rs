//! The event stream.

use carriageway_proto::Value;
use reqwest::{Method, Response};
use serde_json::{Value as Json, json};

use crate::support::{Act, Answer, Gateway, Habit, PATIENCE};

/// A stream being read.
pub(crate) struct Events {
    response: Response,
    text: String,
}

#[derive(Debug)]
pub(crate) struct Event {
    id: String,
    name: String,
    pub(crate) data: Json,
}

impl Events {
    pub(crate) async fn open(gateway: &Gateway, query: &str, last: Option<&str>) -> Self {
        let mut request = gateway.request(Method::GET, &format!("/v1/events{query}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, text: String::new() }
    }

    async fn next(&mut self) -> Event {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(event) = parse(&block) {
                    return event;
                }
                continue;
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk()).await.unwrap();
            let chunk = chunk.unwrap().expect("the stream goes on");
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    pub(crate) async fn next_of(&mut self, name: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.name == name {
                return event;
            }
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    Some(Event {
        id: field("id:")?.into(),
        name: field("event:")?.into(),
        data: serde_json::from_str(field("data:")?).unwrap(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_tells_the_fleet_and_then_what_happens() {
    let gateway = Gateway::start().await;
    let mut events = Events::open(&gateway, "", None).await;
    let first = events.next().await;
    assert_eq!((first.name.as_str(), &first.data), ("vehicles", &json!({ "vehicles": [] })));
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let presence = events.next_of("presence").await;
    assert_eq!((&presence.data["vehicle"], &presence.data["presence"]), (&json!("truck"), &json!("online")));
    vehicle.act(Act::Signal("Vehicle.Speed", Value::Int(3))).await;
    let signals = events.next_of("signals").await;
    assert_eq!(signals.data["signals"][0]["value"], 3);
    let body = json!({ "class": "body", "path": "A.B", "value": true });
    assert_eq!(gateway.order("truck", "k", &body).await.status, 200);
    let mut phases = Vec::new();
    while phases.last() != Some(&json!("SUCCEEDED")) {
        phases.push(events.next_of("command").await.data["phase"].clone());
    }
    assert_eq!(phases[0], "CREATED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_back_gets_what_it_missed_and_no_more() {
    let gateway = Gateway::start().await;
    let _vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let body = json!({ "class": "body", "path": "A.B", "value": true });
    let mut events = Events::open(&gateway, "?events=command", None).await;
    assert_eq!(events.next().await.name, "vehicles");
    gateway.order("truck", "k-1", &body).await;
    let created = events.next().await;
    assert_eq!((&created.data["key"], &created.data["phase"]), (&json!("k-1"), &json!("CREATED")));
    drop(events);
    gateway.order("truck", "k-2", &body).await;
    let mut resumed = Events::open(&gateway, "?events=command&vehicle=truck", Some(&created.id)).await;
    let mut missed = Vec::new();
    while missed.last() != Some(&(json!("k-2"), json!("SUCCEEDED"))) {
        let event = resumed.next().await;
        assert_eq!(event.name, "command", "no reset");
        missed.push((event.data["key"].clone(), event.data["phase"].clone()));
    }
    assert_eq!(missed[0], (json!("k-1"), json!("QUEUED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_too_late_starts_over() {
    let gateway = Gateway::start_with(|config| config.limits.event_backlog = 2).await;
    let _vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let mut events = Events::open(&gateway, "?events=presence", None).await;
    let place = events.next().await.id;
    drop(events);
    gateway.order("truck", "k", &json!({ "class": "body", "path": "A.B", "value": true })).await;
    for last in [place.as_str(), "nonsense", "00000000-1"] {
        let mut late = Events::open(&gateway, "?events=presence", Some(last)).await;
        assert_eq!(late.next().await.name, "reset", "{last}");
        let fleet = late.next().await;
        assert_eq!((fleet.name.as_str(), &fleet.data["vehicles"][0]["id"]), ("vehicles", &json!("truck")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_holds_what_was_asked_for_and_granted() {
    let gateway = Gateway::start_with(|config| config.limits.event_streams = 1).await;
    for query in ["?event=x", "?events=gossip", "?vehicle=a%20b"] {
        assert_eq!(gateway.get(&format!("/v1/events{query}")).await.status, 422, "{query}");
    }
    let token = gateway.token_with(|grant| grant.vehicles = vec!["mine".into()]);
    let request = gateway.bare(Method::GET, "/v1/events").bearer_auth(&token);
    let mut events = Events { response: request.send().await.unwrap(), text: String::new() };
    assert_eq!(events.next().await.name, "vehicles");
    let full = Answer::of(gateway.request(Method::GET, "/v1/events").send().await.unwrap()).await;
    assert_eq!(full.problem(), (503, "too-many-streams"));
    let _theirs = gateway.vehicle("theirs", Habit::Obey).await;
    let _mine = gateway.vehicle("mine", Habit::Obey).await;
    assert_eq!(events.next().await.data["vehicle"], "mine", "IDENT");
}
