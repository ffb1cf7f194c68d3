//! What both daemons do alike around their work: log, listen for signals, tell systemd.

use std::error::Error;
use std::io::{self, IsTerminal as _, stderr};

use sd_notify::NotifyState;
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// What is logged, to standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Directives of tracing-subscriber's `EnvFilter`: `info`, `carriageway_transport=debug,warn`.
    pub filter: String,
    /// For people or for programs.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { filter: "info".into(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line each.
    #[default]
    Text,
    /// One JSON object each.
    Json,
}

/// A filter that is none: the configuration must change.
#[derive(Debug, thiserror::Error)]
#[error(
    "log.filter {filter:?} is not a list of directives such as info,carriageway_transport=debug: {source}"
)]
pub struct BadFilter {
    filter: String,
    source: ParseError,
}

impl Log {
    /// Whether it could be started.
    pub fn check(&self) -> Result<(), BadFilter> {
        self.filter().map(drop)
    }

    fn filter(&self) -> Result<EnvFilter, BadFilter> {
        EnvFilter::try_new(&self.filter).map_err(|source| BadFilter { filter: self.filter.clone(), source })
    }

    /// Starts logging to standard error, for the rest of the process. Call it once.
    pub fn start(&self) -> Result<(), BadFilter> {
        let filter = self.filter()?;
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(stderr)
            .with_ansi(stderr().is_terminal());
        match self.format {
            LogFormat::Text => subscriber.init(),
            LogFormat::Json => subscriber.json().init(),
        }
        Ok(())
    }
}

/// The signals that ask a daemon to end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on, within a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next one's name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells systemd, where it listens, that the daemon is ready.
pub fn ready() {
    notify(NotifyState::Ready);
}

/// Tells systemd, where it listens, that the daemon is stopping.
pub fn stopping() {
    notify(NotifyState::Stopping);
}

fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// An error and its causes, the outermost first, in one line. Our own errors quote their cause already.
pub fn said_once<'a>(chain: impl IntoIterator<Item = &'a (dyn Error + 'static)>) -> String {
    let mut line = String::new();
    for cause in chain.into_iter().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let [quoting, bare, cause] =
            ["cannot read x: no such file", "cannot read x", "no such file"].map(io::Error::other);
        assert_eq!(said_once([&quoting as &(dyn Error + 'static), &cause]), "cannot read x: no such file");
        assert_eq!(said_once([&bare as &(dyn Error + 'static), &cause]), "cannot read x: no such file");
    }
}
