//! `carriageway-gateway token`: tokens for operators.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_proto::VehicleId;
use clap::{Args, Subcommand};

use crate::auth::{Grant, mint, unix_now};

/// Tokens for operators.
#[derive(Debug, Args)]
pub struct Token {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Sign a token and print it, alone, on standard output
    New(New),
}

#[derive(Debug, Args)]
struct New {
    /// The private key that signs, PKCS#8 PEM
    #[arg(long, default_value = "certs/operator.key")]
    key: PathBuf,
    /// The operator's name, as records will show it
    #[arg(long)]
    sub: String,
    /// Space-separated: observe, command:<class>, command:*
    #[arg(long, default_value = "observe")]
    scope: String,
    /// Vehicle ids, separated by commas, or '*' for all
    #[arg(long, value_delimiter = ',', required = true, value_parser = vehicle)]
    vehicles: Vec<String>,
    /// How long it is good: a number with s, m, h or d
    #[arg(long, default_value = "12h", value_parser = duration)]
    ttl: Duration,
    /// The gateway's auth.audience
    #[arg(long, default_value = "carriageway")]
    audience: String,
    /// The gateway's auth.issuer, where it has one
    #[arg(long)]
    issuer: Option<String>,
}

impl Token {
    /// Does it and prints the token on `out`.
    pub fn run(self, out: &mut dyn Write) -> Result<ExitCode> {
        let Action::New(new) = self.action;
        let pem = fs::read_to_string(&new.key)
            .with_context(|| format!("cannot read the signing key {}", new.key.display()))?;
        let now = unix_now();
        let grant = Grant {
            sub: new.sub,
            aud: new.audience,
            iss: new.issuer,
            iat: now,
            exp: now + new.ttl.as_secs(),
            scope: new.scope,
            vehicles: new.vehicles,
        };
        writeln!(out, "{}", mint(&pem, &grant)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn vehicle(text: &str) -> Result<String, String> {
    match text {
        "*" => Ok(text.to_owned()),
        id => id.parse::<VehicleId>().map(|id| id.to_string()).map_err(|error| error.to_string()),
    }
}

/// Reads `90s`, `30m`, `12h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration; write a number above 0 with s, m, h or d, such as 12h");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let seconds: u32 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = text.trim_end_matches(unit).parse().map_err(|_| wrong())?;
    if number == 0 {
        return Err(wrong());
    }
    Ok(Duration::from_secs(u64::from(number) * u64::from(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_and_are_never_nothing() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "h", "12", "0h", "-1h", "1.5h", "12hh ", "99999999999d", "1ä"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
