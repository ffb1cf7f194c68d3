//! Operators who are none, or may not, or send too much.

use carriageway_gateway::auth::unix_now;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use reqwest::Method;
use serde_json::{Value as Json, json};

use super::Siege;
use crate::world::{Answer, CHARGE_LIMIT};

const COMMANDS: &str = "/v1/vehicles/honest-quic/commands";

/// {"alg":"none","typ":"JWT"} and {"sub":"eve","aud":"carriageway","exp":99999999999}, unsigned.
const UNSIGNED: &str = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.eyJzdWIiOiJldmUiLCJhdWQiOiJjYXJyaWFnZXdheSIsImV4cCI6OTk5OTk5OTk5OTl9.";

fn wish() -> Json {
    json!({ "class": "config", "path": CHARGE_LIMIT, "value": 19, "ttl_ms": 5_000 })
}

async fn send(siege: &Siege, token: &str) -> Answer {
    let request = siege.world.client.bare(Method::POST, COMMANDS).bearer_auth(token);
    Answer::of(request.header("Idempotency-Key", "eve").json(&wish()).send().await.unwrap()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_not_good_open_nothing() {
    let siege = Siege::begin().await;
    let client = &siege.world.client;
    let claims = json!({ "sub": "eve", "aud": "carriageway", "exp": unix_now() + 600, "iat": unix_now(),
        "scope": "observe command:*", "vehicles": ["*"] });
    // The oldest trick: the public key, which everybody may know, as the shared secret of HS256.
    let public = std::fs::read(siege.world.folder.path("operator.pub")).unwrap();
    let confused =
        encode(&Header::new(Algorithm::HS256), &claims, &EncodingKey::from_secret(&public)).unwrap();
    let good = client.grant(|_| {});
    let (head, _) = good.rsplit_once('.').unwrap();
    for (token, reason) in [
        (UNSIGNED.to_owned(), "algorithm"),
        (confused, "algorithm"),
        (client.grant(|grant| grant.exp = unix_now() - 60), "expired"),
        (client.grant(|grant| grant.aud = "another".into()), "audience"),
        (format!("{head}.AAAA"), "signature"),
        ("x".repeat(5_000), "malformed"),
    ] {
        let metric = format!(r#"carriageway_drops_total{{stage="auth",reason="{reason}"}}"#);
        let before = client.metric(&metric).await;
        let refused = send(&siege, &token).await;
        assert_eq!(refused.problem(), (401, "unauthorized"), "{reason}");
        assert!(refused.headers.contains_key("www-authenticate"));
        assert_eq!(client.metric(&metric).await, before + 1, "{metric}");
    }
    for (scope, vehicles) in [("observe command:body", "*"), ("", "*"), ("command:*", "another")] {
        let token = client.grant(|grant| {
            grant.scope = scope.into();
            grant.vehicles = vec![vehicles.into()];
        });
        let refused = send(&siege, &token).await;
        assert_eq!(refused.problem(), (403, "forbidden"), "{scope}");
        assert!(refused.body["detail"].as_str().unwrap().contains("command:config"));
    }
    let count = r#"carriageway_http_requests_total{route="/v1/vehicles/{id}/commands",status="403"}"#;
    siege.counted(count, 3).await;
    assert_eq!(siege.world.executed("honest-quic", CHARGE_LIMIT, 19.0), 0);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_ten_megabytes_are_refused_and_not_kept() {
    let mut siege = Siege::begin().await;
    let token = siege.world.client.grant(|_| {});
    let before = siege.world.gateway().resident_kib();
    for number in 0..10 {
        let request = siege.world.client.bare(Method::POST, COMMANDS).bearer_auth(&token);
        let request = request.header("Idempotency-Key", "big").header("Content-Type", "application/json");
        // The gateway answers and closes; a client that is still writing may see only the latter.
        if let Ok(refused) = request.body(vec![b'['; 10 << 20]).send().await {
            assert_eq!(Answer::of(refused).await.problem(), (413, "body-too-large"), "{number}");
        }
    }
    let grown = siege.world.gateway().resident_kib().saturating_sub(before);
    assert!(grown < 50 * 1024, "a hundred megabytes were sent, {grown} KiB are kept");
    let count = r#"carriageway_http_requests_total{route="/v1/vehicles/{id}/commands",status="413"}"#;
    siege.counted(count, 10).await;
    siege.end().await;
}
