//! The link that the arguments describe.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use carriageway_netem::core::{Limit, Probability, Rate};
use carriageway_netem::digest::sha256;
use carriageway_netem::profile::{BUILT_IN, Profile, Scenario, Tweak, read_trace, units};
use clap::Args;
use serde_json::{Value, json};

/// What the link is like. Numbers given here replace the profile's, in both directions.
#[derive(Args)]
#[command(next_help_heading = "Link")]
pub(super) struct LinkArgs {
    /// A built-in profile (see `carriageway-netem profiles`) or the path of a .toml file
    #[arg(long, value_name = "NAME|FILE")]
    profile: Option<String>,
    /// Of a profile with several paths take only this one
    #[arg(long, value_name = "PATH")]
    pub(super) on: Option<String>,
    /// The weather: the same seed gives every transport the same losses and delays, slot by slot
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    pub(super) seed: u64,
    /// One-way delay, like 30ms: a round trip takes twice that
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    delay: Option<Duration>,
    /// Largest addition to the delay, uniform, in order
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    jitter: Option<Duration>,
    /// Independent random loss, like "1 %"
    #[arg(long, value_name = "SHARE", value_parser = units::share)]
    loss: Option<Probability>,
    /// Capacity, like 2mbit
    #[arg(long, value_name = "RATE", value_parser = units::rate, conflicts_with = "trace")]
    rate: Option<Rate>,
    /// What the queue in front of it holds, like 16KiB or "100 packets"
    #[arg(long, value_name = "SIZE", value_parser = units::limit)]
    queue: Option<Limit>,
    /// Recorded capacity in mahimahi's format: one file per direction
    #[arg(long, value_name = "UP:DOWN", value_parser = two_paths)]
    trace: Option<(PathBuf, PathBuf)>,
}

impl LinkArgs {
    /// The scenario with the changes applied to every path; a perfect link if nothing is said.
    pub(super) fn scenario(&self) -> anyhow::Result<Scenario> {
        let mut scenario = match &self.profile {
            Some(name) => Scenario::find(name)?,
            None => Scenario::new(Profile::perfect("on the spot")),
        };
        for path in &mut scenario.paths {
            path.profile = self.change(path.profile.clone())?;
        }
        let Some(wanted) = &self.on else { return Ok(scenario) };
        let names: Vec<_> = scenario.paths.iter().map(|path| path.name.as_str()).collect();
        let position = names.iter().position(|name| name == wanted);
        let path = position
            .with_context(|| format!("--on {wanted}: no such path; there is: {}", names.join(", ")))?;
        Ok(scenario.only(path))
    }

    /// For who looks at one link: there is only one path.
    pub(super) fn one_path(scenario: &Scenario) -> anyhow::Result<usize> {
        let names: Vec<_> = scenario.paths.iter().map(|path| path.name.as_str()).collect();
        anyhow::ensure!(
            names.len() == 1,
            "there are several paths; say --on with one of: {}",
            names.join(", ")
        );
        Ok(0)
    }

    /// The texts that describe the link, each with its digest: a profile's name does not tell what is in the file.
    pub(super) fn files(&self) -> Vec<Value> {
        let profile = self.profile.as_deref().into_iter().map(ToOwned::to_owned);
        let traces = self.trace.iter().flat_map(|(up, down)| [up, down]);
        profile.chain(traces.map(|path| path.display().to_string())).map(|name| digest(&name)).collect()
    }

    /// `base` with the changes applied.
    pub(super) fn change(&self, base: Profile) -> anyhow::Result<Profile> {
        let tweak = Tweak {
            delay: self.delay,
            jitter: self.jitter,
            loss: self.loss,
            rate: self.rate,
            queue: self.queue,
        };
        let mut profile = base.tweaked(&tweak);
        if let Some((up, down)) = &self.trace {
            let (up, down) = (read_trace(up).context("--trace")?, read_trace(down).context("--trace")?);
            profile = profile.with_traces(up, down);
        }
        profile.check()?;
        Ok(profile)
    }
}

/// Name and SHA-256 of a built-in profile or of a file. No digest if it can no longer be read.
pub(super) fn digest(name: &str) -> Value {
    let text = match BUILT_IN.iter().find(|built_in| built_in.name == name) {
        Some(built_in) => Some(built_in.text.as_bytes().to_vec()),
        None => std::fs::read(name).ok(),
    };
    json!({ "name": name, "sha256": text.map(|text| sha256([text])) })
}

fn two_paths(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (up, down) = text.split_once(':').ok_or("give two files, one per direction: UP:DOWN")?;
    Ok((up.into(), down.into()))
}
