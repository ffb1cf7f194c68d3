//! What the driver sees: the gateway's last report and what became of their own wishes. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use carriageway_proto::{Controls, Token};
use serde_json::Value as Json;

/// Whole widths of the bars.
const BAR: usize = 20;

/// Everything on the dashboard.
#[derive(Clone, Debug, Default)]
pub struct Dash {
    /// The last `ControlReport`.
    pub report: Json,
    /// The driver's own lease.
    pub lease: Option<Token>,
    /// Round trip to the gateway: the last, and the longest so far.
    pub round_trip: Option<(Duration, Duration)>,
    /// Control frames sent.
    pub sent: u64,
    /// Control frames not sent, for the connection had not taken the ones before.
    pub held_back: u64,
    /// What happened last.
    pub note: String,
}

impl Dash {
    /// Takes in a round trip.
    pub fn heard(&mut self, round_trip: Duration) {
        let longest = self.round_trip.map_or(Duration::ZERO, |(_, longest)| longest);
        self.round_trip = Some((round_trip, longest.max(round_trip)));
    }

    /// `SAFE`, `ARMING`, `ARMED`, `STALE`; empty where it is unknown.
    pub fn phase(&self) -> &str {
        self.report["state"]["phase"].as_str().unwrap_or_default()
    }

    /// Whether the vehicle follows control.
    pub fn is_armed(&self) -> bool {
        matches!(self.phase(), "ARMED" | "STALE")
    }

    /// Why the vehicle stands.
    pub fn cause(&self) -> Option<&str> {
        self.report["state"]["cause"].as_str()
    }

    /// What a re-arming must name.
    pub fn nonce(&self) -> Option<&str> {
        self.report["state"]["nonce"].as_str()
    }

    /// Whether the gateway says that our lease is not the one that lives.
    pub fn has_lost_lease(&self) -> bool {
        let lives = self.report["lease"]["token"].as_u64();
        self.lease.is_some_and(|own| lives > Some(own.number()))
    }

    /// The dashboard in lines.
    pub fn lines(&self, controls: Controls) -> Vec<String> {
        let steering = f64::from(controls.steering());
        let (throttle, brake) = (f64::from(controls.throttle()), f64::from(controls.brake()));
        vec![
            format!("lease     {}", self.lease_line()),
            format!("vehicle   {}", self.vehicle_line()),
            format!("age       {}", self.age_line()),
            format!("control   {}", self.control_line()),
            self.drain_line(),
            String::new(),
            format!("steering  {} {steering:+.2}", middle_bar(steering)),
            format!("throttle  {} {throttle:.2}", bar(throttle)),
            format!("brake     {} {brake:.2}", bar(brake)),
            String::new(),
            "arrows or w a s d drive   r re-arm   t take the lease   T by force".into(),
            "SPACE emergency stop      q release and quit".into(),
            String::new(),
            self.note.clone(),
        ]
    }

    fn lease_line(&self) -> String {
        let lease = &self.report["lease"];
        let Some(holder) = lease["operator"].as_str() else { return "nobody's".into() };
        let left = lease["ends_in_ms"].as_u64().unwrap_or(0);
        match self.lease {
            Some(own) if lease["token"] == own.number() => format!("yours ({holder}), token {own}, renewed"),
            Some(_) | None => format!("of {holder}, token {}, {left} ms left", lease["token"]),
        }
    }

    fn vehicle_line(&self) -> String {
        if self.report["connected"] == false {
            return "not connected".into();
        }
        let said = match self.phase() {
            "SAFE" => "SAFE: stands, latched",
            "ARMING" => "ARMING: waits for neutral control",
            "ARMED" => "ARMED: follows control, watchdog fed",
            "STALE" => "STALE: watchdog waits, control is missing",
            _ => "has not said whether it can be driven",
        };
        self.cause().map_or(said.into(), |cause| format!("{said} ({cause})"))
    }

    fn age_line(&self) -> String {
        let millis = |time: Duration| time.as_secs_f64() * 1_000.0;
        let gateway = self.round_trip.map_or("-".into(), |(last, longest)| {
            format!("{:.1} ms, at most {:.1}", millis(last), millis(longest))
        });
        let vehicle = self.report["rtt_ms"].as_f64().map_or("-".into(), |rtt| format!("{rtt:.1} ms"));
        format!("round trip to gateway {gateway}; gateway to vehicle {vehicle}")
    }

    fn control_line(&self) -> String {
        let mut line =
            format!("sent {}, passed on {}", self.sent, self.report["relayed"].as_u64().unwrap_or(0));
        if self.held_back > 0 {
            // Writing to a string does not fail.
            let _written = write!(line, ", held back {}", self.held_back);
        }
        for (why, count) in self.report["dropped"].as_object().into_iter().flatten() {
            // Writing to a string does not fail.
            let _written = write!(line, ", {why} {count}");
        }
        line
    }

    /// Empty while the gateway stays.
    fn drain_line(&self) -> String {
        let Some(left) = self.report["drains_in_ms"].as_u64() else { return String::new() };
        let seconds = left as f64 / 1_000.0;
        format!("GATEWAY   renews no lease any more and ends in {seconds:.1} s: bring the vehicle to a stop")
    }
}

fn bar(share: f64) -> String {
    let full = (share * BAR as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full.min(BAR)), ".".repeat(BAR - full.min(BAR)))
}

/// Left of the middle or right of it.
fn middle_bar(share: f64) -> String {
    let (left, right) = (bar((-share).max(0.0)), bar(share.max(0.0)));
    let left: String = left.chars().rev().map(|c| if c == ']' { '[' } else { c }).take(BAR + 1).collect();
    format!("{left}|{}", &right[1..])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn dash() -> Dash {
        let state = json!({ "phase": "SAFE", "cause": "CONTROL_LOST", "nonce": "07" });
        let lease = json!({ "operator": "ada", "token": 5, "ends_in_ms": 1_600 });
        let report = json!({ "connected": true, "state": state, "lease": lease, "rtt_ms": 12.3, "relayed": 4,
            "dropped": { "stale": 2 } });
        Dash { report, lease: Token::granted(5), ..Dash::default() }
    }

    #[test]
    fn the_lines_say_who_drives_why_it_stands_and_how_old_everything_is() {
        let mut dash = dash();
        dash.heard(Duration::from_millis(8));
        dash.heard(Duration::from_micros(3_100));
        let text = dash.lines(Controls::new(-0.5, 0.25, 0.0).unwrap()).join("\n");
        for part in [
            "yours (ada), token 5",
            "SAFE: stands, latched (CONTROL_LOST)",
            "gateway 3.1 ms, at most 8.0",
            "vehicle 12.3 ms",
            "stale 2",
            "[..........##########|....................] -0.50",
            "[#####...............",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn another_lease_is_shown_as_anothers() {
        let other = Dash { lease: Token::granted(4), ..dash() };
        assert!(other.has_lost_lease() && other.lease_line().starts_with("of ada"));
        assert!(!dash().has_lost_lease() && !dash().is_armed());
    }

    #[test]
    fn a_gateway_on_its_way_out_says_by_when_to_stop() {
        let mut dash = dash();
        let says_so = |dash: &Dash| dash.lines(Controls::NEUTRAL).join("\n").contains("ends in 4.2 s: bring");
        assert!(!says_so(&dash));
        dash.report["drains_in_ms"] = json!(4_200);
        assert!(says_so(&dash));
    }

    #[test]
    fn nothing_known_is_said_so() {
        let text = Dash::default().lines(Controls::NEUTRAL).join("\n");
        assert!(text.contains("nobody's") && text.contains("has not said"), "{text}");
    }
}
