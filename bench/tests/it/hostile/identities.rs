//! Certificates that do not make a vehicle, and one vehicle twice.

use carriageway_gateway::auth::unix_now;
use carriageway_gateway::certs::Authority;
use carriageway_proto::{ALPN, CloseCode};
use carriageway_transport::core::connection::Ended;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::Siege;
use crate::raw::{Raw, Way, client_tls};
use crate::world::World;

/// TLS without a certificate of one's own.
pub(super) fn nobody(world: &World, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(world.folder.path("ca.pem")).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

/// How a peer with this TLS is refused, in words: at the dial, or before any welcome.
async fn refusal(world: &World, tls: rustls::ClientConfig, way: Way) -> String {
    match Raw::dial(world, tls, way).await {
        Err(why) => why,
        Ok(mut raw) => {
            raw.greet().await.expect_err("nobody is welcome without a good certificate").to_string()
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_with_exactly_one_name_of_ours_is_a_vehicle() {
    let siege = Siege::begin().await;
    let world = &siege.world;
    let ours = world.folder.authority().unwrap();
    let theirs = Authority::create(unix_now()).unwrap();
    let urn = |id: &str| format!("urn:carriageway:vehicle:{id}");
    let good_elsewhere = theirs.vehicle(&"honest-quic".parse().unwrap(), unix_now()).unwrap();
    let two_names = ours.client("a", &[urn("a"), urn("b")], unix_now()).unwrap();
    let common_name_only = ours.client("honest-quic", &[], unix_now()).unwrap();
    let other_urn = ours.client("a", &["urn:somebody:else:a".into()], unix_now()).unwrap();
    let bad_id = ours.client("a", &[urn("a/b")], unix_now()).unwrap();
    for (way, alpn) in [(Way::Quic, ALPN), (Way::WebSocket, b"http/1.1".as_slice())] {
        let none = refusal(world, nobody(world, alpn), way).await;
        let other = refusal(world, client_tls(world, &good_elsewhere, way), way).await;
        eprintln!("{way:?}: no certificate: {none}; another authority: {other}");
        for (pair, word) in
            [(&two_names, "2"), (&common_name_only, "urn:"), (&other_urn, "urn:"), (&bad_id, "")]
        {
            let why = refusal(world, client_tls(world, pair, way), way).await;
            eprintln!("{way:?}: {why}");
            let clear = match way {
                Way::Quic => why.contains(&CloseCode::Unauthorized.to_string()) && why.contains(word),
                Way::WebSocket => why.contains("401"),
            };
            assert!(clear, "{way:?}: {why}");
        }
    }
    siege.counted(r#"carriageway_handshakes{transport="quic",result="unauthorized"}"#, 4).await;
    siege.counted(r#"carriageway_handshakes{transport="quic",result="failed"}"#, 2).await;
    siege.counted(r#"carriageway_drops_total{stage="link",reason="certificate"}"#, 5).await;
    siege.counted(r#"carriageway_drops_total{stage="tcp",reason="tls_failed"}"#, 1).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_agents_with_one_certificate_do_not_fight_for_ever() {
    let mut siege = Siege::begin().await;
    siege.world.vehicle("twin", "quic").await;
    let mut newer = siege.world.agent("twin", "twin-again");
    let ended = siege.world.vehicle_ended("twin").await;
    assert!(!ended.success(), "whoever was taken over stops, and says that it is a fault: {ended}");
    assert!(siege.world.vehicle_log("twin").contains("another agent runs with the same certificate"));
    siege.world.client.until_obeys("twin").await;
    assert!(newer.is_running());
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_session_of_one_vehicle_takes_over_and_the_first_is_told_to_stop() {
    let siege = Siege::begin().await;
    let mut epoch = 0;
    for (first, second) in [(Way::Quic, Way::WebSocket), (Way::WebSocket, Way::Quic), (Way::Quic, Way::Quic)]
    {
        let mut older = Raw::vehicle(&siege.world, "twin", first).await;
        older.greet().await.unwrap();
        let mut newer = Raw::vehicle(&siege.world, "twin", second).await;
        let welcome = newer.greet().await.unwrap();
        assert!(!welcome.resumed && welcome.epoch.number() > epoch, "OWNER: {welcome:?}");
        epoch = welcome.epoch.number();
        let (goodbye, ended) = older.listen_to_the_end().await;
        let code = match (goodbye, ended) {
            (Some(goodbye), _) => goodbye.code,
            (None, Ended::ByPeer { code, .. }) => code,
            (None, other) => panic!("it ends without a word: {other}"),
        };
        assert_eq!(code, CloseCode::TakenOver);
        assert_eq!(siege.world.client.link("twin").await["epoch"], epoch);
    }
    siege.end().await;
}
