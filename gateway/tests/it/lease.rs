//! Leases: taken, renewed, released, taken over, told to the vehicle and put on record.

use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::{Act, Answer, Gateway, Habit, standing, until};

const LEASE: &str = "/v1/vehicles/truck/control-lease";
const REARM: &str = "/v1/vehicles/truck/rearm";

fn take() -> Json {
    json!({ "action": "take" })
}

fn with(action: &str, token: u64) -> Json {
    json!({ "action": action, "token": token })
}

/// A gateway whose leases outlast a busy machine's pauses.
async fn patient() -> Gateway {
    Gateway::start_with(|config| config.lease.ttl_ms = 10_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_is_taken_told_renewed_and_released() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let taken = gateway.post(&ada, LEASE, &take()).await;
    assert_eq!(
        (taken.status, &taken.body["token"], &taken.body["operator"]),
        (200, &json!(1), &json!("ada"))
    );
    until(async || vehicle.seen.lock().unwrap().leases.len() == 1).await;
    let told = vehicle.seen.lock().unwrap().leases[0].clone();
    assert_eq!((told.token.number(), told.operator.as_str()), (1, "ada"));
    assert!(told.ttl <= Duration::from_secs(10) && !told.ttl.is_zero());
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.status, 200);
    let drive = gateway.get("/v1/vehicles/truck/drive").await.body;
    assert_eq!((&drive["lease"]["operator"], &drive["state"]["phase"]), (&json!("ada"), &json!("SAFE")));
    assert_eq!(drive["state"]["nonce"], "0000000000000007");
    assert_eq!(gateway.post(&ada, LEASE, &with("release", 1)).await.status, 204);
    until(async || vehicle.seen.lock().unwrap().leases.len() == 3).await;
    assert!(vehicle.seen.lock().unwrap().leases[2].ttl.is_zero(), "it has ended");
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
    assert_eq!(gateway.get("/v1/vehicles/truck/drive").await.body["lease"], Json::Null);
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_holds_it_and_force_is_on_record() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let (ada, bob) = (gateway.token(), gateway.token_with(|grant| grant.sub = "bob".into()));
    let mut events = crate::events::Events::open(&gateway, "?events=lease,drive", None).await;
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.status, 200);
    let refused = gateway.post(&bob, LEASE, &take()).await;
    assert_eq!(refused.problem(), (409, "lease-held"));
    assert!(refused.detail().contains("ada"), "{}", refused.detail());
    assert_eq!(gateway.post(&bob, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
    let forced = gateway.post(&bob, LEASE, &json!({ "action": "take", "force": true })).await;
    assert_eq!((forced.status, &forced.body["token"]), (200, &json!(2)));
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
    let mut record = Vec::new();
    while record.len() < 3 {
        let data = events.next_of("lease").await.data;
        record.push(json!([data["operator"], data["token"], data["change"], data["other"]]));
    }
    let expected = [
        json!(["ada", 1, "granted", null]),
        json!(["ada", 1, "taken_over", "bob"]),
        json!(["bob", 2, "forced", "ada"]),
    ];
    assert_eq!(record, expected);
    vehicle.act(Act::Say(standing(2, 8))).await;
    assert_eq!(events.next_of("drive").await.data["nonce"], "0000000000000008");
    let (_, metrics) = gateway.internal("/metrics").await;
    assert!(metrics.contains(r#"carriageway_lease_changes_total{change="forced"} 1"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_not_renewed_ends_by_itself() {
    let gateway = Gateway::start_with(|config| config.lease.ttl_ms = 500).await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.status, 200);
    until(async || vehicle.seen.lock().unwrap().leases.last().is_some_and(|lease| lease.ttl.is_zero())).await;
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_drive_or_what_cannot_be_driven_gets_no_lease() {
    let gateway = patient().await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.problem(), (404, "vehicle-unknown"));
    let vehicle = gateway.vehicle("truck", Habit::Obey).await;
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.problem(), (409, "drive-state-unknown"));
    let commander = gateway.token_with(|grant| grant.scope = "observe command:*".into());
    let refused = gateway.post(&commander, LEASE, &take()).await;
    assert_eq!(refused.problem(), (403, "forbidden"));
    assert!(refused.detail().contains("`drive`"), "{}", refused.detail());
    for (body, problem) in [
        (json!({ "action": "steal" }), (422, "invalid-field")),
        (json!({ "action": "take", "forse": true }), (422, "invalid-field")),
        (json!({ "action": "renew" }), (422, "invalid-token")),
        (json!({ "action": "renew", "token": 0 }), (422, "invalid-token")),
    ] {
        assert_eq!(gateway.post(&ada, LEASE, &body).await.problem(), problem, "{body}");
    }
    vehicle.act(Act::Say(standing(0, 7))).await;
    until(async || gateway.get("/v1/vehicles/truck/drive").await.body["state_current"] == true).await;
    vehicle.act(Act::Cut).await;
    gateway.until_presence("truck", "offline").await;
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.problem(), (404, "vehicle-offline"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vehicle_that_comes_back_is_told_of_the_lease_again() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.status, 200);
    until(async || vehicle.seen.lock().unwrap().leases.len() == 1).await;
    vehicle.act(Act::Move(gateway.quic("truck").await)).await;
    until(async || vehicle.seen.lock().unwrap().leases.len() == 2).await;
    let leases = vehicle.seen.lock().unwrap().leases.clone();
    assert_eq!(leases[0].token, leases[1].token);
    assert!(leases[1].ttl < leases[0].ttl, "what is left of it");
}

#[tokio::test(flavor = "multi_thread")]
async fn re_arming_reaches_the_vehicle_under_the_lease_and_with_its_nonce_only() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let wish = |nonce: &str, token: u64| json!({ "nonce": nonce, "token": token });
    let right = "0000000000000007";
    assert_eq!(gateway.post(&ada, REARM, &wish(right, 1)).await.problem(), (409, "no-lease"));
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.status, 200);
    let other = gateway.post(&ada, REARM, &wish("0000000000000008", 1)).await;
    assert_eq!(other.problem(), (409, "other-safe-state"));
    assert_eq!(gateway.post(&ada, REARM, &wish("7", 1)).await.problem(), (422, "invalid-nonce"));
    assert_eq!(gateway.post(&ada, REARM, &wish(right, 1)).await.status, 202);
    until(async || vehicle.seen.lock().unwrap().rearms.len() == 1).await;
    let rearm = vehicle.seen.lock().unwrap().rearms[0];
    assert_eq!((rearm.token.number(), rearm.nonce.get()), (1, 7));
    assert!(!rearm.ttl.is_zero() && rearm.ttl <= Duration::from_millis(500), "{:?}", rearm.ttl);
}

/// FRESH: whoever asked for it may have taken fright since.
#[tokio::test(flavor = "multi_thread")]
async fn a_re_arm_lives_from_when_it_began_to_come_in() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    assert_eq!(gateway.post(&gateway.token(), LEASE, &take()).await.status, 200);
    let wish = json!({ "nonce": "0000000000000007", "token": 1 });
    let slow = async |pause| gateway.slow(("POST", REARM), "", &wish, Duration::from_millis(pause)).await;
    let late = slow(500).await;
    assert_eq!((late.status, &late.body["type"]), (408, &json!("body-too-slow")));
    assert!(vehicle.seen.lock().unwrap().rearms.is_empty());
    // On a busy machine it may be too late all the same.
    until(async || slow(100).await.status == 202).await;
    until(async || vehicle.seen.lock().unwrap().rearms.len() == 1).await;
    let ttl = vehicle.seen.lock().unwrap().rearms[0].ttl;
    assert!(!ttl.is_zero() && ttl <= Duration::from_millis(400), "{ttl:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_a_lease_as_old_as_that_would_be_grants_nothing() {
    let gateway = Gateway::start_with(|config| config.lease.ttl_ms = 300).await;
    let _vehicle = gateway.drivable("truck").await;
    for wish in [json!({ "action": "take", "force": true }), with("renew", 1)] {
        let late = gateway.slow(("POST", LEASE), "", &wish, Duration::from_millis(300)).await;
        assert_eq!((late.status, &late.body["type"]), (408, &json!("body-too-slow")), "{wish}");
    }
    assert_eq!(gateway.get("/v1/vehicles/truck/drive").await.body["lease"], Json::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_of_another_gateway_ends_the_lease_here() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 1);
    vehicle.act(Act::Say(standing(41, 9))).await;
    until(async || gateway.post(&ada, LEASE, &with("renew", 1)).await.status == 409).await;
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 42);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_gateway_grants_higher_tokens() {
    let mut gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 1);
    drop(vehicle);
    gateway.crash_and_restart().await;
    let _vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 2, "the vehicle claims none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_was_released_stays_so_after_a_restart() {
    let mut gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 1);
    assert_eq!(gateway.post(&ada, LEASE, &with("release", 1)).await.status, 204);
    drop(vehicle);
    gateway.crash_and_restart().await;
    let _vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    assert_eq!(gateway.get("/v1/vehicles/truck/drive").await.body["lease"], Json::Null);
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 1)).await.problem(), (409, "no-lease"));
    let gear =
        json!({ "class": "drive", "path": "Vehicle.Powertrain.Transmission.SelectedGear", "value": 1 });
    assert_eq!(gateway.order("truck", "old", &gear).await.problem(), (409, "no-lease"));
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_for_leases_and_changes_of_state_count_against_the_operators_rate() {
    let gateway = Gateway::start_with(|config| {
        config.lease.ttl_ms = 10_000;
        // Nothing comes back, however slow the machine.
        (config.commands.operator_rate, config.commands.operator_burst) = (0, 3);
    })
    .await;
    let _vehicle = gateway.drivable("truck").await;
    let (ada, bob) = (gateway.token(), gateway.token_with(|grant| grant.sub = "bob".into()));
    let force = json!({ "action": "take", "force": true });
    for token in 1..=3 {
        assert_eq!(gateway.post(&ada, LEASE, &force).await.body["token"], token);
    }
    let refused = gateway.post(&ada, LEASE, &force).await;
    assert_eq!(refused.problem(), (429, "operator-rate-limited"));
    assert_eq!(refused.headers["retry-after"], "60");
    let desired = gateway.request(reqwest::Method::PATCH, "/v1/vehicles/truck/state/desired");
    let desired = desired.header("If-Match", "*").json(&json!({ "A.B": 1 }));
    let refused = Answer::of(desired.send().await.unwrap()).await;
    assert_eq!(refused.problem(), (429, "operator-rate-limited"));
    assert_eq!(gateway.post(&ada, LEASE, &with("renew", 3)).await.status, 200, "nothing costs the lease");
    assert_eq!(gateway.post(&bob, LEASE, &force).await.body["token"], 4, "others are not held up");
}

/// FENCE: a drive command is refused before anything is sent, or carries the holder's token.
#[tokio::test(flavor = "multi_thread")]
async fn drive_commands_need_the_lease_and_carry_its_token() {
    let gateway = patient().await;
    let vehicle = gateway.drivable("truck").await;
    let ada = gateway.token();
    let gear =
        json!({ "class": "drive", "path": "Vehicle.Powertrain.Transmission.SelectedGear", "value": 1 });
    assert_eq!(gateway.order("truck", "early", &gear).await.problem(), (409, "no-lease"));
    assert_eq!(gateway.post(&ada, LEASE, &take()).await.body["token"], 1);
    assert!(gateway.order("truck", "held", &gear).await.status < 300);
    until(async || vehicle.seen.lock().unwrap().commands.len() == 1).await;
    let token = vehicle.seen.lock().unwrap().commands[0].token;
    assert_eq!(token.map(carriageway_proto::Token::number), Some(1));
    assert_eq!(gateway.post(&ada, LEASE, &with("release", 1)).await.status, 204);
    assert_eq!(gateway.order("truck", "late", &gear).await.problem(), (409, "no-lease"));
    assert!(gateway.order("truck", "held", &gear).await.status < 300, "a repeat is answered from its record");
    assert_eq!(vehicle.seen.lock().unwrap().commands.len(), 1);
}
