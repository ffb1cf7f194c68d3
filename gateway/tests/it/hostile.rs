//! Bad input on every port: clear refusals, and everybody else unaffected.

use std::future::poll_fn;
use std::time::Duration;

use carriageway_gateway::auth::unix_now;
use carriageway_proto::CloseCode;
use carriageway_transport::Connection;
use carriageway_transport::core::connection::{Ended, Event};
use carriageway_transport::quic::{DialError, QuicConnection};
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::{Answer, Gateway, Habit, PATIENCE, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_wrong_in_any_way_is_refused_and_told_why() {
    let gateway = Gateway::start().await;
    let other = Gateway::start().await;
    // {"alg":"none","typ":"JWT"} and {"sub":"eve","aud":"carriageway","exp":99999999999}, unsigned.
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJldmUiLCJhdWQiOiJjYXJyaWFnZXdheSIsImV4cCI6OTk5OTk5OTk5OTl9.";
    let expired = gateway.token_with(|grant| grant.exp = unix_now() - 60);
    let elsewhere = gateway.token_with(|grant| grant.aud = "another".into());
    for (token, word) in [
        (none.to_owned(), "algorithm"),
        (expired, "ended"),
        (elsewhere, "audience"),
        (other.token(), "signature"),
        ("x".repeat(7_000), "token"),
        (String::new(), "token"),
    ] {
        let request = gateway.bare(Method::GET, "/v1/vehicles").bearer_auth(&token);
        let refused = Answer::of(request.send().await.unwrap()).await;
        assert_eq!(refused.problem(), (401, "unauthorized"));
        assert!(refused.detail().contains(word), "{}", refused.detail());
        assert!(refused.headers.contains_key("www-authenticate"));
    }
    let bare = Answer::of(gateway.bare(Method::GET, "/v1/events").send().await.unwrap()).await;
    assert_eq!(bare.problem(), (401, "unauthorized"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scope_opens_its_own_class_only() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let token = gateway.token_with(|grant| grant.scope = "observe command:comfort".into());
    let request = gateway.bare(Method::POST, "/v1/vehicles/truck/commands").bearer_auth(&token);
    let request = request.header("Idempotency-Key", "k");
    let request = request.json(&json!({ "class": "body", "path": "A.B", "value": 1 }));
    let refused = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(refused.problem(), (403, "forbidden"));
    assert!(refused.detail().contains("command:body"));
    assert_eq!(vehicle.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused_unread() {
    let gateway = Gateway::start().await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let request = gateway.request(Method::POST, "/v1/vehicles/truck/commands");
    let request = request.header("Idempotency-Key", "k").header("Content-Type", "application/json");
    let refused = request.body(vec![b'x'; 10 << 20]).send().await;
    // The gateway answers and closes; a client that is still writing may see only the latter.
    if let Ok(refused) = refused {
        assert_eq!(refused.status(), 413);
    }
    let small = async || {
        let request =
            gateway.request(Method::POST, "/v1/vehicles/truck/commands").header("Idempotency-Key", "k");
        request.header("Content-Type", "application/json").body(vec![b' '; 70_000]).send().await
    };
    // For the same reason it may take some tries until one has written all before the answer.
    let mut tries = 0..100;
    let refused = loop {
        tries.next().expect("one of a hundred sees the answer");
        if let Ok(refused) = small().await
            && let Some(answer) = Answer::whole(refused).await
        {
            break answer;
        }
    };
    assert_eq!(refused.problem(), (413, "body-too-large"));
    let order = gateway.order("truck", "k", &json!({ "class": "body", "path": "A.B", "value": 1 })).await;
    assert_eq!(order.status, 200);
    assert_eq!(vehicle.executed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_answered_before_the_body_is_read_is_told_that_the_connection_ends() {
    let gateway = Gateway::start_with(|config| config.limits.request_ms = 500).await;
    let _vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let watcher = gateway.token_with(|grant| grant.scope = "observe".into());
    let commands = "/v1/vehicles/truck/commands";
    let (lease, state) = ("/v1/vehicles/truck/control-lease", "/v1/vehicles/truck/state/desired");
    let json = ("Content-Type", "application/json");
    let (post, ada) = (Method::POST, gateway.token());
    for (method, path, token, (name, value), problem) in [
        (&post, commands, "nonsense", json, (401, "unauthorized")),
        (&post, lease, &watcher, json, (403, "forbidden")),
        (&post, commands, &ada, json, (400, "missing-idempotency-key")),
        (&post, lease, &ada, ("Content-Type", "text/plain"), (415, "unsupported-media-type")),
        (&post, "/v1/vehicles/a%20b/control-lease", &ada, json, (422, "invalid-vehicle")),
        (&post, "/v1/nothing", &ada, json, (404, "not-found")),
        (&post, "/v1/vehicles", &ada, json, (405, "method-not-allowed")),
        (&Method::PATCH, state, &ada, json, (428, "missing-if-match")),
        (&Method::PATCH, state, &watcher, json, (403, "forbidden")),
    ] {
        let request = gateway.bare(method.clone(), path).bearer_auth(token).header(name, value);
        let refused = Answer::of(request.body("{}").send().await.unwrap()).await;
        assert_eq!(refused.problem(), problem);
        assert_eq!(
            refused.headers.get("connection").map(|value| value == "close"),
            Some(true),
            "{problem:?}"
        );
    }
    // Where it was read, or there is none, the connection goes on.
    for (method, path, body, status) in
        [(&post, lease, "{", 400), (&Method::PATCH, state, "{}", 428), (&Method::GET, "/v1/nothing", "", 404)]
    {
        let request = gateway.request(method.clone(), path).header(json.0, json.1);
        let read = Answer::of(request.body(body).send().await.unwrap()).await;
        assert_eq!(read.status, status);
        assert_eq!(read.headers.contains_key("connection"), status == 428, "{status}");
    }
    let mut slow = gateway.tls().await;
    let head = format!(
        "POST {lease} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ada}\r\nContent-Type: application/json\r\n\
         Content-Length: 9\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ended = tokio::time::timeout(PATIENCE, slow.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_every_port_harms_nobody() {
    let gateway = Gateway::start_with(|config| config.limits.request_ms = 1_000).await;
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    let garbage: Vec<u8> = (0..4_096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for address in [gateway.tcp, gateway.internal] {
        for _ in 0..8 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _refused = stream.write_all(&garbage).await;
            assert!(ends(&mut stream).await, "{address} lets go of garbage");
        }
        let mut silent = TcpStream::connect(gateway.internal).await.unwrap();
        silent.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n").await.unwrap();
        assert!(ends(&mut silent).await, "a head that never ends is not waited for");
    }
    let mut large = TcpStream::connect(gateway.internal).await.unwrap();
    let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let _refused = large.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _reset = large.read_to_end(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "a head beyond 8 KiB");
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for length in [1, 20, 1_200, 1_400] {
        udp.send_to(&garbage[..length], gateway.udp).await.unwrap();
    }
    let order = gateway.order("truck", "k", &json!({ "class": "body", "path": "A.B", "value": 1 })).await;
    assert_eq!(order.status, 200);
    assert_eq!(vehicle.executed(), 1);
    assert_eq!(gateway.internal("/livez").await.0, 200);
}

/// Whether the gateway ends the connection, whatever it says before.
async fn ends(stream: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_beyond_the_limit_are_let_go_and_places_come_free() {
    let gateway = Gateway::start_with(|config| config.limits.tcp_connections = 2).await;
    let first = TcpStream::connect(gateway.tcp).await.unwrap();
    let second = TcpStream::connect(gateway.tcp).await.unwrap();
    let mut third = TcpStream::connect(gateway.tcp).await.unwrap();
    assert!(ends(&mut third).await);
    drop((first, second));
    tokio::time::timeout(PATIENCE, async {
        while gateway.bare(Method::GET, "/").send().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_connects_and_says_nothing_holds_up_nobody() {
    let gateway = Gateway::start_with(|config| {
        config.limits.pending_handshakes = 6;
        // Nobody comes free by waiting.
        config.limits.handshake_ms = 600_000;
    })
    .await;
    let mut silent = gateway.silent("noisy", 6).await;
    let _truck = gateway.vehicle("truck", Habit::Obey).await;
    until_counted(&gateway, r#"stage="lobby",reason="too_many_of_one_vehicle"} 2"#).await;
    let newest = silent.pop().unwrap();
    let turned_away = tokio::time::timeout(PATIENCE, overloaded(newest)).await;
    assert!(turned_away.unwrap(), "the newest is told to come back later");

    for other in ["other-1", "other-2", "other-3"] {
        silent.extend(gateway.silent(other, 1).await);
    }
    until_counted(&gateway, r#"stage="lobby",reason="full"} 1"#).await;
    let order = gateway.order("truck", "k", &json!({ "class": "body", "path": "A.B", "value": 1 })).await;
    assert_eq!(order.status, 200);
    silent.clear();
    // Their places are free once the gateway has noticed.
    until_counted(&gateway, r#"carriageway_hellos_total{result="ended"} 6"#).await;
    let _van = gateway.vehicle("van", Habit::Obey).await;
}

async fn until_counted(gateway: &Gateway, line: &str) {
    until(async || gateway.internal("/metrics").await.1.contains(line)).await;
}

/// Whether the gateway closes the connection because it has too many.
async fn overloaded(dialed: Result<QuicConnection, DialError>) -> bool {
    let mut connection = match dialed {
        Ok(connection) => connection,
        Err(refused) => return refused.to_string().contains("overloaded"),
    };
    loop {
        match poll_fn(|context| connection.poll_event(context)).await {
            Event::Ended(Ended::ByPeer { code, .. }) => return code == CloseCode::Overloaded,
            Event::Ended(Ended::ByUs | Ended::Failed(_)) => return false,
            Event::Room(_) | Event::Frame(..) => {}
        }
    }
}
