//! The processes of a run: those on the network's side, then those in the vehicles.

use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::clock;
use carriageway_netem::core::Moment;
use carriageway_netem::testbed::{Prepared, SERVER, vehicle_address};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::child::{self, Child, Gate};
use super::keeper::Keeper;
use super::{Args, note};

/// All processes, and who keeps them.
pub(super) struct Crew {
    keeper: Keeper,
    /// Some child has ended.
    news: Signal,
    net_side: Vec<Server>,
    vehicles: Vec<Child>,
}

/// A command on the network's side.
struct Server {
    command: String,
    process: Child,
    /// Its exit code and when it ended after the start, if it did while the run went on.
    ended: Option<(u8, Duration)>,
}

/// What became of a command on the network's side.
pub(super) struct Ended {
    command: String,
    ended: Option<(u8, Duration)>,
}

impl Ended {
    /// For the report.
    pub(super) fn json(&self) -> Value {
        let Self { command, ended } = self;
        json!({
            "command": command,
            "exit_code": ended.map(|(code, _)| code),
            "ended_us": ended.map(|(_, at)| at.as_micros() as u64),
        })
    }

    /// Why the run cannot be trusted on its account.
    pub(super) fn fault(&self) -> Option<String> {
        let (code, at) = self.ended.filter(|(code, _)| *code != 0)?;
        Some(format!("--net-side {} ended with {code}, {at:?} after the start", self.command))
    }
}

impl Crew {
    /// Nobody yet. To be called within a runtime.
    pub(super) fn new() -> anyhow::Result<Self> {
        let news = signal(SignalKind::child())?;
        Ok(Self { keeper: Keeper::start()?, news, net_side: Vec::new(), vehicles: Vec::new() })
    }

    /// Starts the network's side, waits until it listens, and puts the vehicles' commands behind a gate.
    pub(super) async fn gather(&mut self, args: &Args, bed: &Prepared) -> anyhow::Result<Gate> {
        for command in &args.net_side {
            let words = ["sh".into(), "-c".into(), OsString::from(command)];
            let process =
                self.start(bed, None, None, &words).with_context(|| format!("--net-side {command}"))?;
            self.net_side.push(Server { command: command.clone(), process, ended: None });
        }
        let mut servers: Vec<_> = self.net_side.iter_mut().map(|server| &mut server.process).collect();
        for port in &args.wait_for {
            child::listening(bed.net(), *port, &mut servers).await?;
        }
        let gate = Gate::new()?;
        for number in 0..args.vehicles {
            let process = self.start(bed, Some(number), Some(&gate), &args.command);
            self.vehicles.push(process.with_context(|| args.command[0].display().to_string())?);
        }
        Ok(gate)
    }

    /// Starts a command in a vehicle, or on the network's side. A lone vehicle may read from the terminal.
    fn start(
        &self,
        bed: &Prepared,
        vehicle: Option<usize>,
        gate: Option<&Gate>,
        command: &[OsString],
    ) -> anyhow::Result<Child> {
        let side = vehicle.map_or(bed.net(), |number| bed.vehicle(number));
        let stdin =
            if vehicle.is_some() && bed.config().vehicles == 1 { Stdio::inherit() } else { Stdio::null() };
        let vehicle = vehicle.unwrap_or(0);
        let paths: Vec<_> = bed.config().scenario.paths.iter().map(|path| path.name.as_str()).collect();
        let environment = [
            ("NETEM_SERVER", SERVER.to_string()),
            ("NETEM_VEHICLE", vehicle_address(vehicle, 0).to_string()),
            ("NETEM_VEHICLE_ID", format!("vehicle-{}", vehicle + 1)),
            ("NETEM_PATHS", paths.join(" ")),
            ("NETEM_SEED", bed.config().seed.0.to_string()),
        ];
        child::start(side, self.keeper.home()?, gate, command, &environment, stdin)
    }

    /// Waits until all vehicles' commands have ended; gives the exit code of the first that failed. Says so when one of the
    /// network's side fails meanwhile.
    pub(super) async fn drive(&mut self, start: Moment) -> anyhow::Result<u8> {
        let Self { news, net_side, vehicles, .. } = self;
        let watching = async {
            loop {
                for server in net_side.iter_mut() {
                    server.look(start);
                }
                if news.recv().await.is_none() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::select! {
            code = all_end(vehicles) => code,
            () = watching => Ok(0),
        }
    }

    /// Ends all processes and tells what became of the network's side.
    pub(super) async fn end(self) -> Vec<Ended> {
        let Self { keeper, mut net_side, mut vehicles, .. } = self;
        let servers = net_side.iter_mut().map(|server| &mut server.process);
        keeper.end(vehicles.iter_mut().chain(servers)).await;
        net_side.into_iter().map(|Server { command, ended, .. }| Ended { command, ended }).collect()
    }
}

impl Server {
    /// Notices when it has ended.
    fn look(&mut self, start: Moment) {
        let Self { command, process, ended } = self;
        if ended.is_some() {
            return;
        }
        // An error means that nobody knows; the run's own end will tell.
        if let Ok(Some(status)) = process.try_wait() {
            let code = child::code(status);
            *ended = Some((code, clock::now().since(start)));
            if code != 0 {
                note(&format!("--net-side {command} has ended with {code}"));
            }
        }
    }
}

async fn all_end(children: &mut [Child]) -> anyhow::Result<u8> {
    let mut first_failure = 0;
    for child in children {
        let code = child::code(child.wait().await?);
        first_failure = if first_failure == 0 { code } else { first_failure };
    }
    Ok(first_failure)
}
