//! What is counted and measured, for Prometheus. No label names a vehicle or an operator: every label
//! has few values, known beforehand.

use std::time::Duration;

use carriageway_proto::{Class, Phase};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Label names and values.
pub type Labels<const N: usize> = [(&'static str, &'static str); N];

/// From a loopback round trip to the longest grace, in seconds.
const LATENCIES: [f64; 15] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

type RouteLatencies = Family<[(&'static str, String); 1], Histogram, fn() -> Histogram>;
type Latencies = Family<Labels<1>, Histogram, fn() -> Histogram>;

/// Every metric of the gateway.
pub struct Metrics {
    registry: Registry,
    drops: Family<Labels<2>, Counter>,
    hellos: Family<Labels<1>, Counter>,
    /// Sessions resumed.
    pub resumes: Counter,
    /// Sessions held.
    pub sessions: Gauge,
    vehicles: Family<Labels<1>, Gauge>,
    connections: Family<Labels<1>, Gauge>,
    commands: Family<Labels<2>, Counter>,
    refusals: Family<Labels<2>, Counter>,
    outcomes: Family<Labels<1>, Counter>,
    latencies: Latencies,
    /// Command records held.
    pub records: Gauge,
    /// Commands without a terminal phase.
    pub unfinished: Gauge,
    /// Commands that wait on disk for their vehicles.
    pub queued_commands: Gauge,
    /// 1 while the store takes nothing.
    pub store_broken: Gauge,
    /// Writes of the store that failed.
    pub store_failures: Counter,
    /// Commands whose end was told and is not on disk.
    pub loose_ends: Gauge,
    store_seconds: Histogram,
    queued_frames: Family<Labels<1>, Gauge>,
    queued_bytes: Family<Labels<1>, Gauge>,
    /// Leases that live.
    pub leases: Gauge,
    lease_changes: Family<Labels<1>, Counter>,
    /// Control frames passed on to vehicles.
    pub control: Counter,
    /// Operators' control sockets open.
    pub control_sockets: Gauge,
    /// Signal values shown.
    pub signals: Counter,
    /// Bytes of files received on bulk lanes.
    pub bulk_bytes: Counter,
    /// Files received to their end on bulk lanes.
    pub bulk_files: Counter,
    http: Family<[(&'static str, String); 2], Counter>,
    http_latencies: RouteLatencies,
    /// TCP connections open.
    pub tcp_connections: Gauge,
    /// Event streams open.
    pub event_streams: Gauge,
    handshakes: Family<Labels<2>, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn latencies() -> Histogram {
    Histogram::new(LATENCIES)
}

/// Registers a default metric under a name with its help.
macro_rules! register {
    ($registry:ident, $name:literal, $help:literal) => {
        register!($registry, $name, $help, Default::default())
    };
    ($registry:ident, $name:literal, $help:literal, $metric:expr) => {{
        let metric = $metric;
        $registry.register($name, $help, Clone::clone(&metric));
        metric
    }};
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut r = Registry::with_prefix("carriageway");
        Self {
            drops: register!(r, "drops", "Things dropped, by stage and reason"),
            hellos: register!(r, "hellos", "Connections by what became of their hello"),
            resumes: register!(r, "resumes", "Sessions resumed on another connection"),
            sessions: register!(r, "sessions", "Sessions held, those that wait to be resumed included"),
            vehicles: register!(r, "vehicles", "Vehicles by presence"),
            connections: register!(r, "connections", "Connections of sessions, by transport"),
            commands: register!(r, "commands", "Phases reached by commands, by class"),
            refusals: register!(
                r,
                "command_refusals",
                "Commands refused by the gateway, by class and reason"
            ),
            outcomes: register!(r, "outcomes", "Outcomes heard from vehicles, by what they changed"),
            latencies: register!(
                r,
                "command_seconds",
                "From acceptance of a command to its terminal phase, by class",
                Family::new_with_constructor(latencies as fn() -> Histogram)
            ),
            records: register!(r, "command_records", "Command records held"),
            unfinished: register!(r, "commands_unfinished", "Commands without a terminal phase"),
            queued_commands: register!(r, "commands_queued", "Commands that wait on disk for their vehicles"),
            store_broken: register!(r, "store_broken", "1 while the store on disk takes nothing"),
            store_failures: register!(r, "store_failures", "Writes to the store that failed"),
            loose_ends: register!(
                r,
                "command_ends_not_durable",
                "Commands whose end was told and is not on disk"
            ),
            store_seconds: register!(
                r,
                "store_seconds",
                "Time to make command records durable, by group commit",
                latencies()
            ),
            queued_frames: register!(r, "queued_frames", "Frames that wait or are unacknowledged, by class"),
            queued_bytes: register!(r, "queued_bytes", "Bytes that wait or are unacknowledged, by class"),
            leases: register!(r, "leases", "Leases that live"),
            lease_changes: register!(r, "lease_changes", "Leases granted and ended, by how"),
            control: register!(r, "control_frames", "Control frames passed on to vehicles"),
            control_sockets: register!(r, "control_sockets", "Operators' control sockets open"),
            signals: register!(r, "signals", "Signal values received and shown"),
            bulk_bytes: register!(r, "bulk_bytes", "Bytes of files received on bulk lanes"),
            bulk_files: register!(r, "bulk_files", "Files received to their end on bulk lanes"),
            http: register!(r, "http_requests", "HTTP requests by route and status"),
            http_latencies: register!(
                r,
                "http_seconds",
                "Time to answer an HTTP request, by route",
                Family::new_with_constructor(latencies as fn() -> Histogram)
            ),
            tcp_connections: register!(r, "tcp_connections", "TCP connections open"),
            event_streams: register!(r, "event_streams", "Event streams open"),
            handshakes: register!(r, "handshakes", "Handshakes so far, by transport and what became of them"),
            registry: r,
        }
    }
}

impl Metrics {
    /// Counts `count` things dropped at `stage` for `reason`.
    pub fn dropped(&self, stage: &'static str, reason: &'static str, count: u64) {
        if count > 0 {
            self.drops.get_or_create(&[("stage", stage), ("reason", reason)]).inc_by(count);
        }
    }

    /// Counts a connection by what became of its hello.
    pub fn hello(&self, result: &'static str) {
        self.hellos.get_or_create(&[("result", result)]).inc();
    }

    /// Sets how many vehicles are in a state of presence.
    pub fn vehicles(&self, presence: &'static str, count: usize) {
        self.vehicles.get_or_create(&[("presence", presence)]).set(gauge(count));
    }

    /// Sets how many connections of a transport carry sessions.
    pub fn connections(&self, transport: &'static str, count: usize) {
        self.connections.get_or_create(&[("transport", transport)]).set(gauge(count));
    }

    /// Sets what waits in the lanes of a class, over all sessions.
    pub fn queued(&self, class: Class, frames: usize, bytes: usize) {
        let labels = [("class", class.name())];
        self.queued_frames.get_or_create(&labels).set(gauge(frames));
        self.queued_bytes.get_or_create(&labels).set(gauge(bytes));
    }

    /// Counts a phase that a command reached; `duration` where it is the first terminal one.
    pub fn command(&self, class: Class, phase: Phase, duration: Option<Duration>) {
        self.commands.get_or_create(&[("class", class.name()), ("phase", phase.name())]).inc();
        if let Some(duration) = duration {
            self.latencies.get_or_create(&[("class", class.name())]).observe(duration.as_secs_f64());
        }
    }

    /// Counts a command that was refused.
    pub fn refused(&self, class: Class, reason: &'static str) {
        self.refusals.get_or_create(&[("class", class.name()), ("reason", reason)]).inc();
    }

    /// Times a write to the store.
    pub fn store_written(&self, duration: Duration) {
        self.store_seconds.observe(duration.as_secs_f64());
    }

    /// Counts an outcome heard from a vehicle, by what it changed.
    pub fn outcome(&self, heard: &'static str) {
        self.outcomes.get_or_create(&[("heard", heard)]).inc();
    }

    /// Counts a lease's beginning or end.
    pub fn lease(&self, change: &'static str) {
        self.lease_changes.get_or_create(&[("change", change)]).inc();
    }

    /// Counts an HTTP request. `route` is the pattern that matched, never the path.
    pub fn http(&self, route: &str, status: u16, duration: Duration) {
        self.http.get_or_create(&[("route", route.into()), ("status", status.to_string())]).inc();
        self.http_latencies.get_or_create(&[("route", route.into())]).observe(duration.as_secs_f64());
    }

    /// Sets what became of handshakes so far.
    pub fn handshakes(&self, transport: &'static str, result: &'static str, count: u64) {
        let labels = [("transport", transport), ("result", result)];
        self.handshakes.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// All of it in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)
            .expect("writing to a string does not fail");
        text
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_what_was_counted() {
        let metrics = Metrics::new();
        metrics.dropped("receive", "gap", 3);
        metrics.command(Class::Body, Phase::Succeeded, Some(Duration::from_millis(40)));
        metrics.http("/v1/vehicles", 200, Duration::from_millis(1));
        let text = metrics.text();
        for line in [
            r#"carriageway_drops_total{stage="receive",reason="gap"} 3"#,
            r#"carriageway_commands_total{class="body",phase="SUCCEEDED"} 1"#,
            r#"carriageway_command_seconds_bucket{le="0.05",class="body"} 1"#,
            r#"carriageway_http_requests_total{route="/v1/vehicles",status="200"} 1"#,
            "# EOF",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
