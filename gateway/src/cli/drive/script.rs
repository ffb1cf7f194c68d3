//! A drive written down: `throttle 0.3 for 2s; steer 0.2; stop`. Pure.

use std::time::Duration;

use carriageway_proto::Controls;

/// How long `stop` brakes.
const STOP: Duration = Duration::from_secs(2);

/// What is done for how long, one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Script(Vec<(Controls, Duration)>);

impl Script {
    /// Reads a script: statements with semicolons between them.
    ///
    /// `steer N` (-1 to 1), `throttle N` and `brake N` (0 to 1) hold until they are changed; with
    /// `for 2s` or `for 500ms` the script goes on after that time, else at once. `wait 1s` changes
    /// nothing. `stop` lets go of throttle and steering and brakes for two seconds.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut held = Controls::NEUTRAL;
        for statement in text.split(';').map(str::trim).filter(|statement| !statement.is_empty()) {
            let step = step(held, statement).map_err(|why| format!("{statement:?}: {why}"))?;
            held = step.0;
            steps.push(step);
        }
        if steps.is_empty() {
            return Err("a script needs a statement, such as `throttle 0.3 for 2s; stop`".into());
        }
        Ok(Self(steps))
    }

    /// The controls this long after its beginning; `None` once it is over.
    pub fn at(&self, elapsed: Duration) -> Option<Controls> {
        let mut begins = Duration::ZERO;
        for (controls, lasts) in &self.0 {
            begins += *lasts;
            if elapsed < begins {
                return Some(*controls);
            }
        }
        None
    }
}

fn step(held: Controls, statement: &str) -> Result<(Controls, Duration), String> {
    let words: Vec<_> = statement.split_ascii_whitespace().collect();
    let (steering, throttle, brake) = (held.steering(), held.throttle(), held.brake());
    let set = |name: &str, number: &str| {
        let number: f32 = number.parse().map_err(|_| format!("{number:?} is no number"))?;
        let controls = match name {
            "steer" => Controls::new(number, throttle, brake),
            "throttle" => Controls::new(steering, number, brake),
            "brake" => Controls::new(steering, throttle, number),
            _ => return Err("there are steer, throttle, brake, wait and stop".to_owned()),
        };
        controls.ok_or_else(|| format!("{number} is out of range"))
    };
    match words[..] {
        ["stop"] => Ok((Controls::new(0.0, 0.0, 1.0).unwrap_or(Controls::NEUTRAL), STOP)),
        ["wait", time] => Ok((held, duration(time)?)),
        [name, number] => Ok((set(name, number)?, Duration::ZERO)),
        [name, number, "for", time] => Ok((set(name, number)?, duration(time)?)),
        _ => Err("write such as `throttle 0.3 for 2s`, `steer -0.1`, `wait 1s` or `stop`".into()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time; write such as 2s or 500ms, at most 600s");
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let time = match unit {
        "s" => Duration::from_secs(number),
        "ms" => Duration::from_millis(number),
        _ => return Err(wrong()),
    };
    if time <= Duration::from_mins(10) { Ok(time) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_held_until_it_is_changed() {
        let script = Script::parse("throttle 0.3 for 2s; steer 0.2; wait 500ms; stop").unwrap();
        let at = |ms| script.at(Duration::from_millis(ms));
        assert_eq!(at(0), Controls::new(0.0, 0.3, 0.0));
        assert_eq!(at(1_999), Controls::new(0.0, 0.3, 0.0));
        assert_eq!(at(2_000), Controls::new(0.2, 0.3, 0.0));
        assert_eq!(at(2_500), Controls::new(0.0, 0.0, 1.0));
        assert_eq!(at(4_500), None);
    }

    #[test]
    fn every_mistake_is_named() {
        for bad in [
            "",
            ";",
            "fly 1",
            "throttle",
            "throttle x",
            "throttle 1.1",
            "steer -2",
            "wait",
            "wait 2",
            "wait 2h",
            "wait 601s",
            "throttle 0.3 for",
            "throttle 0.3 for ever",
            "stop now please",
        ] {
            let why = Script::parse(bad).unwrap_err();
            assert!(why.len() > 10, "{why}");
        }
    }
}
