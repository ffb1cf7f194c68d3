//! `carriageway-gateway config`, and where every other command takes its configuration from.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use carriageway_transport::settings::{self, SettingsError};
use clap::{Args, Subcommand};

use crate::config;

/// Where the configuration comes from.
#[derive(Clone, Debug, Default, Args)]
pub struct Source {
    /// The configuration file, TOML; without one the defaults hold
    #[arg(long, value_name = "FILE", env = "CARRIAGEWAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// One value, over file and environment, such as listen.tcp=127.0.0.1:0; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = settings::pair)]
    pub set: Vec<(String, String)>,
}

impl Source {
    /// The configuration.
    pub fn load(self) -> Result<config::Config, SettingsError> {
        config::Config::load(self.config.as_deref(), self.set)
    }
}

/// The configuration: whether it is right, and what is in force.
#[derive(Debug, Args)]
pub struct Config {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say what is wrong with it; ends with 1 if anything is
    Check(Source),
    /// Print what is in force, defaults included, as TOML
    Show(Source),
}

impl Config {
    /// Does it and prints on `out`.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode> {
        match self.action {
            Action::Check(source) => check(&source.load()?, out),
            Action::Show(source) => {
                write!(out, "{}", toml::to_string_pretty(&source.load()?.effective())?)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

fn check(config: &config::Config, out: &mut dyn Write) -> Result<ExitCode> {
    let Err(problems) = config.check() else {
        writeln!(out, "the configuration is good")?;
        return Ok(ExitCode::SUCCESS);
    };
    problems.iter().try_for_each(|problem| writeln!(out, "{problem}"))?;
    Ok(ExitCode::FAILURE)
}
