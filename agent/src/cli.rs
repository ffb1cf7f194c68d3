//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use carriageway_agent::daemon::config::Config;
use carriageway_agent::daemon::fleet::Journals;
use carriageway_agent::daemon::identity::{self, Proven};
use carriageway_transport::settings;
use carriageway_transport::tls::{Authority, Pem};
use clap::{Args, Parser, Subcommand};

/// Links a vehicle with its gateway: sends its signals, carries out commands at most once and never
/// too late, and answers what became of each.
///
/// The first minute, with a gateway on this machine:
///
///   carriageway-gateway certs init                 makes ./certs: an authority and its keys
///   carriageway-gateway certs vehicle car-1        makes a vehicle's certificate; likewise car-2
///   carriageway-agent simulate --vehicles 2        drives them around the Tiergarten in Berlin
///
/// Then `carriageway-agent run --config agent.toml` for one vehicle that keeps its journal in a file.
/// Configuration comes from the file, then CARRIAGEWAY_AGENT__* variables (as in
/// CARRIAGEWAY_AGENT__GATEWAY__HOST), then flags; `config show` prints what is in force.
#[derive(Debug, Parser)]
#[command(name = "carriageway-agent", version, about, verbatim_doc_comment)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run one vehicle's agent until SIGTERM or SIGINT; a second signal ends it at once
    ///
    /// Who the vehicle is, stands in its certificate. Its journal (`journal`, a file) is what keeps a
    /// command from being executed twice across restarts, and what holds an emergency stop latched across
    /// them, until somebody with the lease re-arms. The vehicle behind it is the simulated one:
    /// a real vehicle's software implements the trait `Vehicle` of the library carriageway-agent.
    ///
    /// Driving from afar is configured so; these are the defaults:
    ///
    ///   [drive]
    ///   enabled = true          false: no re-arm leads out of the safe state
    ///   send_period_ms = 50     how often operators' programs send control
    ///   soft_limit_ms = 150     silence until the throttle is let go
    ///   watchdog_ms = 500       silence until the safe state; at least 3 send periods, at most 2000, never 0
    ///   age_limit_ms = 250      the oldest control that is followed, at most 1000
    ///   data_id = 0x43570001    what control must say that it is the control of
    #[command(verbatim_doc_comment)]
    Run(Source),
    /// Run several simulated vehicles in one process
    ///
    /// Each has a session of its own and a certificate of its own. They drive a loop of some nine
    /// kilometres, stop at red lights, and take commands such as these:
    ///
    ///   body     Vehicle.Cabin.Door.Row1.DriverSide.Window.Position    0 to 100
    ///   body     Vehicle.Cabin.Door.Row1.DriverSide.IsLocked           true, false
    ///   body     Vehicle.Body.Horn.IsActive                            true
    ///   comfort  Vehicle.Cabin.HVAC.Station.Row1.Driver.Temperature    16 to 28
    ///   config   Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit  20 to 100
    ///   drive    Vehicle.Powertrain.Transmission.SelectedGear          0, 126, 127, standing only
    ///   safety   Vehicle.Carriageway.EmergencyStop                     true; latched
    ///
    /// Each can be driven from afar: under a lease, re-armed by the nonce of its safe state. From the first
    /// re-arm on it leaves its loop and follows control; without control it brakes at 3 m/s2 and stands.
    /// The emergency stop stays latched until a re-arm, across restarts, too. Without a journal (the default
    /// here) the latch ends with this process.
    #[command(verbatim_doc_comment)]
    Simulate(Simulate),
    /// Check or show the configuration
    Config(ConfigCommand),
}

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Source {
    /// The configuration file, TOML; without one the defaults hold
    #[arg(long, value_name = "FILE", env = "CARRIAGEWAY_AGENT_CONFIG")]
    config: Option<PathBuf>,
    /// The gateway, for QUIC and WebSocket alike, such as gw.example:4433
    #[arg(long, value_name = "HOST:PORT")]
    gateway: Option<String>,
    /// One value, over file and environment, such as transport=websocket; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = settings::pair)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct Simulate {
    #[command(flatten)]
    source: Source,
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    vehicles: u16,
    /// Holds ca.pem and vehicles/<id>.pem with vehicles/<id>.key; the first N by name are taken
    #[arg(long, value_name = "DIR", default_value = "certs")]
    certs: PathBuf,
    /// Certificates by a pattern instead, such as certs/vehicles/sim-{id}.pem for 1, 2, 3 ...; keys beside them
    #[arg(long, value_name = "PATTERN")]
    identities: Option<String>,
    /// A directory for the journal, or none: then a command can be executed twice across a restart,
    /// and a restart releases an emergency stop
    #[arg(long, value_name = "none|DIR", default_value = "none")]
    journal: String,
    /// Looks at each vehicle's signals per second; 1 is enough for a thousand vehicles
    #[arg(long, value_name = "HZ")]
    signal_hz: Option<f64>,
    /// Each vehicle uploads so many MiB on the bulk lane, to see that nothing else suffers
    #[arg(long, value_name = "MIB", default_value_t = 0)]
    upload_mib: u32,
}

/// The configuration: whether it is right, and what is in force.
#[derive(Debug, Args)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what is wrong with it, files included; ends with 1 if anything is
    Check(Source),
    /// Print what is in force, defaults included, as TOML
    Show(Source),
}

/// All that is needed to begin.
pub(crate) struct Prepared {
    pub(crate) config: Config,
    pub(crate) members: Vec<Proven>,
    pub(crate) journals: Journals,
    pub(crate) upload: u64,
}

impl Source {
    fn load(&self) -> Result<Config> {
        let mut overrides = Vec::new();
        if let Some(gateway) = &self.gateway {
            let (host, port) = host_and_port(gateway)?;
            let set = |key: &str, value: &str| (key.to_owned(), value.to_owned());
            overrides.extend([
                set("gateway.host", host),
                set("gateway.udp_port", port),
                set("gateway.tcp_port", port),
            ]);
        }
        overrides.extend(self.set.iter().cloned());
        let config = Config::load(self.config.as_deref(), overrides)?;
        config.check().map_err(|problem| problem.placed(self.config.as_deref()))?;
        Ok(config)
    }

    /// One vehicle, whose journal is a file.
    pub(crate) fn prepare(&self) -> Result<Prepared> {
        let config = self.load()?;
        let members = vec![identity::read(&config.tls.cert, &config.tls.key)?];
        let journals = Journals::open(&config.journal)?;
        Ok(Prepared { config, members, journals, upload: 0 })
    }
}

impl Simulate {
    pub(crate) fn prepare(&self) -> Result<Prepared> {
        let mut config = self.source.load()?;
        if !self.source.set.iter().any(|(key, _)| key == "tls.ca") {
            config.tls.ca = self.certs.join("ca.pem");
        }
        config.signal_hz = self.signal_hz.unwrap_or(config.signal_hz);
        config.check()?;
        let count = usize::from(self.vehicles);
        let members = match &self.identities {
            Some(pattern) => identity::from_pattern(pattern, count)?,
            None => identity::from_directory(&self.certs.join("vehicles"), count)?,
        };
        let journals = match self.journal.as_str() {
            "none" => Journals::Nowhere,
            directory => {
                std::fs::create_dir_all(directory)
                    .with_context(|| format!("cannot make the journal's directory {directory}"))?;
                Journals::open(&Path::new(directory).join("simulated.db"))?
            }
        };
        let upload = u64::from(self.upload_mib) * 1024 * 1024;
        Ok(Prepared { config, members, journals, upload })
    }
}

impl ConfigCommand {
    /// Does it and prints on `out`.
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<ExitCode> {
        match self.action {
            Action::Check(source) => {
                let config = source.load()?;
                let vehicle = identity::read(&config.tls.cert, &config.tls.key)?;
                Authority::new(&Pem::read(&config.tls.ca)?)?;
                writeln!(out, "the configuration is good; this is vehicle {}", vehicle.id)?;
            }
            Action::Show(source) => write!(out, "{}", toml::to_string_pretty(&source.load()?)?)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// `host:port`, the host of an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(&str, &str)> {
    let wrong = || anyhow!("--gateway {text:?} is not HOST:PORT, such as gw.example:4433 or [::1]:4433");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    Ok((host, port))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_gateway_is_a_host_and_a_port() {
        assert_eq!(host_and_port("gw.example:4433").unwrap(), ("gw.example", "4433"));
        assert_eq!(host_and_port("[::1]:4433").unwrap(), ("::1", "4433"));
        for bad in ["gw.example", ":4433", "gw.example:", "gw.example:99999"] {
            assert!(host_and_port(bad).is_err(), "{bad:?}");
        }
    }
}
