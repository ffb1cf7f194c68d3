//! An operator's program: sends commands over HTTP and waits for their ends.

use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;

/// Seconds that a request waits for the outcome: more than a body command lives.
const WAIT: u32 = 10;

/// What every end but success is, in milliseconds, at least: a refusal that comes at once is no quick command.
const FAILED_MS: f64 = WAIT as f64 * 1_000.0;

/// An operator at one gateway of this host.
#[derive(Clone)]
pub(crate) struct Operator {
    http: reqwest::Client,
    gateway: String,
    token: String,
}

impl Operator {
    /// An operator who trusts `authority`, in PEM, and talks to the gateway's `port`.
    pub(crate) fn new(authority: &[u8], port: u16, token: String) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(authority)?])
            .no_proxy()
            .timeout(Duration::from_secs(u64::from(WAIT) + 5))
            .build()?;
        Ok(Self { http, gateway: format!("https://127.0.0.1:{port}"), token })
    }

    /// Opens so many connections by looking at a vehicle, so that no command pays for a handshake as long as no more
    /// than these are under way at once.
    pub(crate) async fn warm_up(&self, vehicle: &str, connections: usize) -> Result<()> {
        let mut requests = JoinSet::new();
        for _ in 0..connections {
            let request = self.http.get(format!("{}/v1/vehicles/{vehicle}", self.gateway));
            requests.spawn(request.bearer_auth(&self.token).send());
        }
        while let Some(answer) = requests.join_next().await {
            answer??.error_for_status()?.bytes().await?;
        }
        Ok(())
    }

    /// Switches the lamp at `path` on. The phase that the command ended in, or what came instead.
    pub(crate) async fn switch_on(&self, vehicle: &str, key: &str, path: &str) -> String {
        let asked = async {
            let answer = self
                .http
                .post(format!("{}/v1/vehicles/{vehicle}/commands", self.gateway))
                .bearer_auth(&self.token)
                .header("Idempotency-Key", key)
                .header("Prefer", format!("wait={WAIT}"))
                .json(&serde_json::json!({ "class": "body", "path": path, "value": true }))
                .send()
                .await?;
            let status = answer.status().as_u16();
            let view: serde_json::Value = answer.json().await?;
            let said = ["phase", "type"].iter().find_map(|field| view[field].as_str());
            reqwest::Result::Ok(said.map_or_else(|| status.to_string(), str::to_owned))
        };
        asked.await.unwrap_or_else(|error| error.without_url().to_string())
    }
}

/// Milliseconds that a command counts with: not less than the wait for an outcome where its end was no success.
pub(crate) fn counted(end: &str, latency_ms: f64) -> f64 {
    if end == "SUCCEEDED" { latency_ms } else { latency_ms.max(FAILED_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_without_success_is_never_a_quick_one() {
        assert!((counted("SUCCEEDED", 3.0) - 3.0).abs() < 1e-9);
        assert!((counted("rate-limited", 3.0) - 10_000.0).abs() < 1e-9);
        assert!((counted("vehicle-offline", 12_000.0) - 12_000.0).abs() < 1e-9);
    }
}
