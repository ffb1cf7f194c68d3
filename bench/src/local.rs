//! A gateway and vehicles on this machine: their papers, their configuration, and the way from one to the other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_gateway::auth::{Grant, mint, unix_now};
use carriageway_gateway::certs::Folder;
use carriageway_gateway::config::Config;
use carriageway_proto::{PolicyTable, VehicleId};
use carriageway_transport::clock::BootClock;
use carriageway_transport::dialer::Network;
use carriageway_transport::quic::{Congestion, Limits};
use carriageway_transport::tls::{self, Authority, Credentials, Pem};

/// The id of vehicle `number`.
pub(crate) fn vehicle_id(number: u16) -> String {
    format!("bench-{number:05}")
}

/// Certificates for a gateway and so many vehicles in the folder `place`, and a token for everything in `scope` that
/// holds for a day.
pub(crate) fn papers(place: &Path, vehicles: u16, scope: &str) -> Result<String> {
    let folder = Folder::new(place);
    folder.init(&[Ipv4Addr::LOCALHOST.to_string()], unix_now())?;
    let ids: Vec<VehicleId> =
        (1..=vehicles).map(|number| vehicle_id(number).parse()).collect::<Result<_, _>>()?;
    folder.vehicles(ids, unix_now())?;
    let grant = Grant {
        sub: "bench".into(),
        aud: "carriageway".into(),
        iss: None,
        iat: unix_now(),
        exp: unix_now() + 24 * 3_600,
        scope: scope.into(),
        vehicles: vec!["*".into()],
    };
    Ok(mint(&fs::read_to_string(folder.path("operator.key"))?, &grant)?)
}

/// A gateway with the papers of `folder`, on free ports of loopback.
pub(crate) fn gateway_config(folder: &Path) -> Config {
    let here = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut config = Config::default();
    config.listen.udp = vec![here];
    (config.listen.tcp, config.listen.internal) = (here, here);
    config.tls.ca = folder.join("ca.pem");
    config.tls.cert = folder.join("server.pem");
    config.tls.key = folder.join("server.key");
    config.auth.public_key = folder.join("operator.pub");
    config.quic.secret = Some(folder.join("quic.secret"));
    config.store.path = folder.join("gateway.db");
    config.drain.deadline_ms = 5_000;
    config
}

/// The way of vehicle `number`, with its papers in `folder`, to the ports `udp` and `tcp` of loopback.
pub(crate) fn network(folder: &Path, number: u16, udp: u16, tcp: u16, clock: &BootClock) -> Result<Network> {
    let id = vehicle_id(number);
    let authority = Authority::new(&Pem::read(&folder.join("ca.pem"))?)?;
    let own = |kind: &str| Pem::read(&folder.join(format!("vehicles/{id}.{kind}")));
    let credentials = Credentials::new(&own("pem")?, &own("key")?).with_context(|| id.clone())?;
    Ok(Network {
        host: Ipv4Addr::LOCALHOST.to_string(),
        udp_port: udp,
        tcp_port: tcp,
        server_name: Ipv4Addr::LOCALHOST.to_string(),
        bind: None,
        quic_tls: Arc::new(tls::quic_client(&authority, credentials.clone())?),
        tcp_tls: Arc::new(tls::tcp_client(&authority, credentials)?),
        limits: Limits::VEHICLE,
        congestion: Congestion::Cubic,
        policies: PolicyTable::defaults(),
        deadline: Duration::from_secs(10),
        clock: clock.clone(),
    })
}
