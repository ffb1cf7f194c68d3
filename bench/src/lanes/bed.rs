//! The link between the two sides: namespaces where that is permitted, else a relay.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::{Builder, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use carriageway_netem::profile::{Profile, Tweak, units};
use carriageway_netem::relay::{self, Relay};
use carriageway_netem::testbed::{self, SERVER, StartError, Testbed};
use serde_json::{Value, json};

use super::{Options, Point};

/// Which side of the link.
#[derive(Clone, Copy, Debug)]
pub(super) enum Side {
    Net,
    Vehicle,
}

/// The link.
pub(super) enum Bed {
    /// Real kernels' UDP and TCP over the model.
    Testbed(Testbed),
    /// UDP over the model; TCP ends at the relay.
    Loopback { link: Box<Profile>, seed: u64, relay: Option<Relay> },
}

/// What the emulator says of a run.
pub(super) struct Account {
    pub(super) faults: Vec<String>,
    pub(super) json: Value,
}

impl Bed {
    pub(super) fn start(options: &Options, point: &Point) -> Result<Self> {
        let link = profile(options, &point.queue)?;
        if options.relay {
            return Ok(Self::Loopback { link: Box::new(link), seed: point.seed, relay: None });
        }
        match Testbed::start(testbed::Config::new(link.clone()).seed(point.seed)) {
            Ok(bed) => Ok(Self::Testbed(bed)),
            Err(StartError::Permission { .. } | StartError::NoTun) => {
                crate::say(
                    "NO TESTBED HERE: a relay stands in, and WebSocket's figures are not those of TCP on this link",
                );
                Ok(Self::Loopback { link: Box::new(link), seed: point.seed, relay: None })
            }
            Err(error @ (StartError::Plan { .. } | StartError::Log { .. } | StartError::Refused { .. })) => {
                Err(error.into())
            }
        }
    }

    /// True where TCP rides on the link itself.
    pub(super) fn is_real(&self) -> bool {
        matches!(self, Self::Testbed(_))
    }

    /// Starts a thread that lives on one side, with all that it opens.
    pub(super) fn spawn<T: Send + 'static>(
        &self,
        side: Side,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>> {
        let thread = Builder::new().name(name.into());
        let spawned = match self {
            Self::Loopback { .. } => thread.spawn(work),
            // A thread inherits the namespace of the one that starts it.
            Self::Testbed(bed) => namespace(bed, side).within(move || thread.spawn(work)),
        };
        spawned.context("cannot start a thread")
    }

    /// The gateway listens here.
    pub(super) fn listen(&self) -> SocketAddr {
        match self {
            Self::Testbed(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            Self::Loopback { .. } => (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// Where the vehicle finds the gateway: host, UDP port, TCP port.
    pub(super) fn reach(&mut self, udp: u16, tcp: u16) -> Result<(String, u16, u16)> {
        let Self::Loopback { link, seed, relay } = self else { return Ok((SERVER.to_string(), udp, tcp)) };
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let config = relay::Config::new((**link).clone())
            .seed(*seed)
            .udp(local(0), local(udp))
            .tcp(local(0), local(tcp));
        let started = Relay::start(config)?;
        let ports = (started.udp_addresses()[0].port(), started.tcp_addresses()[0].port());
        *relay = Some(started);
        Ok((Ipv4Addr::LOCALHOST.to_string(), ports.0, ports.1))
    }

    /// What happened so far.
    pub(super) fn account(&self) -> Result<Account> {
        match self {
            Self::Testbed(bed) => {
                let report = bed.report().map_err(|gone| anyhow!("the emulator has failed: {gone}"))?;
                Ok(Account { faults: report.faults().to_vec(), json: report.json().clone() })
            }
            Self::Loopback { relay, .. } => {
                let Some(relay) = relay else { return Ok(Account { faults: Vec::new(), json: Value::Null }) };
                let stats = relay.stats().map_err(|gone| anyhow!("the relay has failed: {gone}"))?;
                let (p99, worst) = (stats.lateness.quantile(0.99), stats.lateness.worst());
                let late = p99 > testbed::report::LATENESS_P99_LIMIT
                    || worst > testbed::report::LATENESS_WORST_LIMIT;
                let faults = late.then(|| format!("the relay was late: p99 {p99:?}, worst {worst:?}"));
                let json = json!({ "relay": true, "wires": [{ "up": { "delivered_bytes": stats.up.delivered_bytes } }] });
                Ok(Account { faults: faults.into_iter().collect(), json })
            }
        }
    }

    /// Ends the emulator; the sides must have ended.
    pub(super) fn stop(self) -> Result<()> {
        match self {
            Self::Testbed(bed) => Ok(bed.stop()?),
            Self::Loopback { relay, .. } => relay.map_or(Ok(()), |relay| Ok(relay.stop()?)),
        }
    }
}

impl Account {
    /// Bytes that the link has carried from the vehicle.
    pub(super) fn bytes_up(&self) -> u64 {
        self.json["wires"][0]["up"]["delivered_bytes"].as_u64().unwrap_or(0)
    }

    /// Packets from the vehicle that found the queue full.
    pub(super) fn dropped_up(&self) -> u64 {
        let dropped = self.json["wires"][0]["up"]["dropped"].as_object();
        dropped.map_or(0, |causes| causes.values().filter_map(Value::as_u64).sum())
    }
}

fn namespace(bed: &Testbed, side: Side) -> &testbed::Namespace {
    match side {
        Side::Net => bed.net(),
        Side::Vehicle => bed.vehicle(0),
    }
}

fn profile(options: &Options, queue: &str) -> Result<Profile> {
    let wrong = |why: String| anyhow!(why);
    let tweak = Tweak {
        delay: Some(units::duration(&options.delay).map_err(wrong)?),
        rate: Some(units::rate(&options.rate).map_err(wrong)?),
        queue: Some(units::limit(queue).map_err(wrong)?),
        ..Tweak::default()
    };
    Ok(Profile::perfect(&format!("{}, {} each way, queue {queue}", options.rate, options.delay))
        .tweaked(&tweak))
}
