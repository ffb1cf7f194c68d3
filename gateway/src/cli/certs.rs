//! `carriageway-gateway certs`: a development authority and what it issues.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use carriageway_proto::VehicleId;
use clap::{Args, Subcommand};

use crate::auth::unix_now;
use crate::certs::Folder;

const MAX_FLEET: u32 = 100_000;

/// Certificates for development. A fleet in production brings its own authority's.
#[derive(Debug, Args)]
pub struct Certs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an authority, a server certificate, the operators' token key and a QUIC secret
    Init {
        /// The folder to fill; nothing in it is overwritten
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
        /// Another name or address the gateway is reached by, besides localhost; may be repeated
        #[arg(long, value_name = "NAME")]
        host: Vec<String>,
    },
    /// Make certificates of single vehicles
    Vehicle {
        /// 1 to 64 of A-Z a-z 0-9 _ -
        #[arg(value_name = "ID", required = true)]
        ids: Vec<VehicleId>,
        /// The folder that `certs init` filled
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
    },
    /// Make certificates for a fleet: <PREFIX>-1 to <PREFIX>-<COUNT>
    Vehicles {
        /// What the ids begin with
        prefix: String,
        /// How many
        #[arg(value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_FLEET)))]
        count: u32,
        /// The folder that `certs init` filled
        #[arg(long, default_value = "certs")]
        dir: PathBuf,
    },
}

impl Certs {
    /// Does it and says on `out` what was made.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode> {
        match self.action {
            Action::Init { dir, host } => {
                Folder::new(&dir).init(&host, unix_now())?;
                writeln!(
                    out,
                    "made a development authority, a server certificate and keys in {}",
                    dir.display()
                )?;
            }
            Action::Vehicle { ids, dir } => {
                issue(&dir, ids.clone())?;
                for id in ids {
                    writeln!(out, "made {0}/vehicles/{id}.pem and {0}/vehicles/{id}.key", dir.display())?;
                }
            }
            Action::Vehicles { prefix, count, dir } => {
                issue(&dir, fleet(&prefix, count)?)?;
                writeln!(
                    out,
                    "made certificates of {prefix}-1 to {prefix}-{count} in {}/vehicles",
                    dir.display()
                )?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn issue(dir: &Path, ids: Vec<VehicleId>) -> Result<()> {
    let folder = Folder::new(dir);
    ensure!(
        folder.path("ca.key").exists(),
        "there is no authority in {}; make one with `carriageway-gateway certs init`",
        dir.display()
    );
    Ok(folder.vehicles(ids, unix_now())?)
}

fn fleet(prefix: &str, count: u32) -> Result<Vec<VehicleId>> {
    let id = |number| {
        let id = format!("{prefix}-{number}");
        id.parse().with_context(|| format!("{id:?} cannot be a vehicle's id"))
    };
    (1..=count).map(id).collect()
}
