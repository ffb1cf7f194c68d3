//! `carriageway-gateway token`: tokens for operators.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use carriageway_proto::VehicleId;
use clap::{Args, Subcommand};

use crate::auth::{Grant, Scopes, mint, unix_now};

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
    /// Space-separated: observe, command:<class>, command:*, drive (take the lease, steer, re-arm)
    #[arg(long, default_value = "observe", value_parser = scope)]
    scope: String,
    /// Vehicle ids, separated by commas, or '*' for all
    #[arg(long, value_delimiter = ',', required = true, value_parser = vehicle)]
    vehicles: Vec<String>,
    /// How long it is good: a number with s, m, h or d, at most 3650d
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

/// A list of scopes that each grant something.
fn scope(text: &str) -> Result<String, String> {
    let known = "observe, drive, command:* and command:<class> with safety, drive, body, comfort, config or diagnostics";
    if let Some(word) = text.split_ascii_whitespace().find(|word| !Scopes::parse(word).grant_any()) {
        return Err(format!("{word:?} is no scope; there are {known}"));
    }
    if text.trim().is_empty() {
        return Err(format!("a token without a scope is good for nothing; there are {known}"));
    }
    Ok(text.to_owned())
}

/// Longer than any key should stay in use.
const LONGEST: Duration = Duration::from_hours(3_650 * 24);

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
    let duration = Duration::from_secs(u64::from(number) * u64::from(seconds));
    if duration > LONGEST {
        return Err(format!("{text:?} is too long; a token is good for at most 3650d"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scopes_that_grant_something_are_minted() {
        for good in ["observe", "observe command:*", "command:safety command:body", "observe drive"] {
            assert_eq!(scope(good).as_deref(), Ok(good));
        }
        for bad in ["", "bogus", "observe comand:*", "command:", "command:bulk", "command:windows", "Observe"]
        {
            let why = scope(bad).unwrap_err();
            assert!(why.contains("command:*") && why.contains("observe"), "{why}");
        }
    }

    #[test]
    fn durations_have_a_unit_and_are_never_nothing() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("12h"), Ok(Duration::from_hours(12)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(168)));
        for bad in ["", "h", "12", "0h", "-1h", "1.5h", "12hh ", "99999999999d", "3651d", "1ä"] {
            assert!(duration(bad).is_err(), "{bad:?}");
        }
    }
}
