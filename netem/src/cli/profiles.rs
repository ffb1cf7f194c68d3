//! `carriageway-netem profiles`.

use carriageway_netem::profile::{BUILT_IN, Scenario};

use super::say;

/// List the links that come with the program, or show one with the source of each number; check a file and show what is in effect
#[derive(clap::Args)]
pub(super) struct Args {
    /// Show this one; save the output as a .toml file to make your own. Of a .toml file: check it
    #[arg(value_name = "NAME|FILE")]
    name: Option<String>,
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    let Some(name) = args.name else {
        for built_in in BUILT_IN {
            say(&format!("{:<16} {}", built_in.name, Scenario::find(built_in.name)?.summary))?;
        }
        return Ok(());
    };
    match BUILT_IN.iter().find(|profile| profile.name == name) {
        Some(built_in) => say(built_in.text.trim_end())?,
        None => say(Scenario::find(&name)?.to_toml().trim_end())?,
    }
    Ok(())
}
