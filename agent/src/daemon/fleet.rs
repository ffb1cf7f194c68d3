//! The life of agents in one process: from files to sessions, and to a clean end.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use carriageway_proto::VehicleId;
use carriageway_transport::client;
use carriageway_transport::clock::BootClock;
use carriageway_transport::core::connection::Ended;
use carriageway_transport::core::keeper::{self, Allowed};
use carriageway_transport::dialer::Network;
use carriageway_transport::quic::Limits;
use carriageway_transport::tls::{self, Authority, Pem, TlsError};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{Instrument, error, info, info_span, warn};

use super::config::{Choice, Config, Problem};
use super::identity::Proven;
use crate::agent::{self, Agent, End, Handle};
use crate::core::sim::{Simulated, road::Road};
use crate::journal::{Journal, JournalError, Keeper, Loaded, Sqlite};
use crate::upload::{Progress, UploadError};

/// Time for one dial, name resolution and handshake included.
const DIAL: Duration = Duration::from_secs(5);

/// Time between the starts of two vehicles of one process, which also spreads their looks and signals.
const STAGGER: Duration = Duration::from_millis(1);

/// Where vehicles keep their journals.
#[derive(Clone)]
pub enum Journals {
    /// Nowhere: neither ONCE nor the emergency stop's latch survives a restart of this process.
    Nowhere,
    /// In a file that they share.
    Kept(Keeper),
}

impl Journals {
    /// Opens the file.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Ok(Self::Kept(Keeper::start(Sqlite::open(path)?)?))
    }

    async fn of(&self, vehicle: &VehicleId) -> Result<(Journal, Loaded), JournalError> {
        match self {
            Self::Nowhere => Ok((Journal::volatile(), Loaded::default())),
            Self::Kept(keeper) => keeper.open(vehicle.clone()).await,
        }
    }
}

/// Why a vehicle's agent came to an end that nobody asked for.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Its journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// Its configuration was never checked, and is wrong.
    #[error(transparent)]
    Config(#[from] Problem),
    /// Its files cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The gateway refused it for good.
    #[error("the gateway will not have this vehicle: {ended}; {}", what_next(.ended))]
    Refused {
        /// Its word.
        ended: Ended,
    },
    /// The host's fault.
    #[error(
        "this host's boot clock went backwards, which it never should, so no command's age can be told any more: start \
         the agent again (a supervisor does, such as systemd with Restart=on-failure) and see to the host's clock"
    )]
    ClockWentBack,
}

fn what_next(ended: &Ended) -> &'static str {
    use carriageway_proto::CloseCode;
    match ended {
        Ended::ByPeer { code: CloseCode::TakenOver, .. } => {
            "another agent runs with the same certificate: stop one of them, or give each its own"
        }
        Ended::ByPeer { code: CloseCode::Unauthorized, .. } => {
            "its certificate must be signed by the gateway's authority and name one vehicle"
        }
        Ended::ByPeer { code: CloseCode::VersionMismatch, .. } => "update the older of the two sides",
        Ended::ByPeer { .. } | Ended::ByUs | Ended::Failed(_) => "the gateway's log says more",
    }
}

/// What all agents of this process share.
pub struct Fleet {
    config: Config,
    authority: Authority,
    clock: BootClock,
    journals: Journals,
    road: Arc<Road>,
    /// Bytes that each vehicle uploads once it runs.
    upload: u64,
}

impl Fleet {
    /// Prepares agents that reach the gateway as `config` says.
    pub fn new(config: Config, clock: BootClock, journals: Journals, upload: u64) -> Result<Self, TlsError> {
        let authority = Authority::new(&Pem::read(&config.tls.ca)?)?;
        Ok(Self { config, authority, clock, journals, road: Arc::new(Road::tiergarten()), upload })
    }

    /// Runs an agent with a simulated vehicle for each of `members` until `stop` says true, or each was refused.
    /// How many ended in an error.
    pub async fn run(self, members: Vec<Proven>, stop: watch::Receiver<bool>) -> usize {
        if matches!(self.journals, Journals::Nowhere) {
            warn!(
                "no journal is kept: a restart of this process can execute a command twice, and releases \
                 an emergency stop"
            );
        }
        let fleet = Arc::new(self);
        let mut agents = JoinSet::new();
        let mut begin_at = fleet.clock.now();
        for member in members {
            let span = info_span!("vehicle", id = %member.id);
            let (fleet, stop) = (Arc::clone(&fleet), stop.clone());
            let life = async move {
                fleet.clock.sleep_until(begin_at).await;
                Box::pin(fleet.one(member, stop)).await
            };
            agents.spawn(life.instrument(span));
            begin_at = begin_at + STAGGER;
        }
        let mut failed = 0;
        while let Some(ended) = agents.join_next().await {
            match ended {
                Ok(Ok(clean)) => failed += usize::from(!clean),
                Ok(Err(error)) => {
                    error!("{error}");
                    failed += 1;
                }
                // Nobody cancels an agent but the end of the set it is in.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        failed
    }

    /// One agent, to its end. True where nothing was left under way.
    async fn one(&self, member: Proven, stop: watch::Receiver<bool>) -> Result<bool, AgentError> {
        let seed = seed(&member.id);
        let journal = self.journals.of(&member.id).await?;
        let network = self.network(&member)?;
        let (link, happenings, session) =
            client::start(self.client(), self.clock.clone(), Box::new(network), journal.1.epoch, seed);
        let vehicle = Simulated::new(Arc::clone(&self.road), seed_of_place(&member.id), self.clock.now());
        let config = agent::Config {
            policies: self.config.policies(),
            signal_interval: self.config.signal_interval(),
            drive: self.config.drive.limits()?,
            ..agent::Config::default()
        };
        let (agent, handle) = Agent::new(config, self.clock.clone(), vehicle, journal, (link, happenings));
        let mut stopped = stop.clone();
        let told = async move {
            // An error means that nobody is left who could say it: as good as said.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        // The session outlives the agent by its goodbye; what else there is ends with them.
        let both = async { tokio::join!(agent.run(told), session).0 };
        let end = tokio::select! {
            end = both => end,
            never = upload(handle, self.upload) => match never {},
        };
        match end {
            End::Stopped { clean } => Ok(clean),
            End::Refused(ended) => Err(AgentError::Refused { ended }),
            End::ClockWentBack => Err(AgentError::ClockWentBack),
        }
    }

    fn client(&self) -> client::Config {
        let allowed = match self.config.transport {
            Choice::Auto => Allowed::Both,
            Choice::Quic => Allowed::QuicOnly,
            Choice::WebSocket => Allowed::WebSocketOnly,
        };
        let head_start = Duration::from_millis(self.config.head_start_ms.into());
        let keeper = keeper::Config { allowed, head_start, ..keeper::Config::default() };
        let mut client = client::Config { keeper, ..client::Config::default() };
        client.session.policies = self.config.policies();
        client
    }

    fn network(&self, member: &Proven) -> Result<Network, TlsError> {
        let gateway = &self.config.gateway;
        Ok(Network {
            host: gateway.host.clone(),
            udp_port: gateway.udp_port,
            tcp_port: gateway.tcp_port,
            server_name: gateway.certified_name().into(),
            bind: None,
            quic_tls: Arc::new(tls::quic_client(&self.authority, member.credentials.clone())?),
            tcp_tls: Arc::new(tls::tcp_client(&self.authority, member.credentials.clone())?),
            limits: Limits::VEHICLE,
            congestion: self.config.congestion,
            policies: self.config.policies(),
            deadline: DIAL,
            clock: self.clock.clone(),
        })
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("config", &self.config).finish_non_exhaustive()
    }
}

/// For the jitter of retries: another one for each vehicle and each start.
fn seed(id: &VehicleId) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(id)
}

/// For the place and mood of a simulated vehicle: the same at every start, so that it can be found again.
fn seed_of_place(id: &VehicleId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

/// Uploads so many bytes, from the start again where a new session began, and then waits for ever.
async fn upload(handle: Handle, bytes: u64) -> std::convert::Infallible {
    if bytes > 0 {
        while upload_once(&handle, bytes).await.is_continue() {}
    }
    std::future::pending().await
}

/// Whether to try again.
async fn upload_once(handle: &Handle, bytes: u64) -> ControlFlow<()> {
    let mut told = 0;
    let tell = |progress: Progress| {
        let tenth = progress.arrived * 10 / bytes;
        if tenth > told {
            told = tenth;
            info!(percent = tenth * 10, "uploading");
        }
    };
    match handle.upload("simulated.log", tokio::io::repeat(0x55).take(bytes), tell).await {
        Ok(arrived) => info!(bytes = arrived, "uploaded"),
        Err(UploadError::Interrupted { arrived }) => {
            warn!(arrived, "upload interrupted, starting over");
            return ControlFlow::Continue(());
        }
        Err(error @ (UploadError::BadName | UploadError::Unreadable(_) | UploadError::Ended)) => {
            warn!("upload given up: {error}");
        }
    }
    ControlFlow::Break(())
}
