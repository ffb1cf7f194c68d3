//! Numbers as people write them: `40ms`, `2 Mbit/s`, `64 KiB`, `5 %`. A number without a unit is refused where a unit could be
//! misread.

use std::time::Duration;

use crate::core::{Limit, Probability, Rate};

/// Longest time that is taken for meant: a day, longer than any experiment.
const LONGEST: Duration = Duration::from_hours(24);

/// `40ms`, `1.5 s`, `200us`, `2min`; at most a day.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wanted = "write a time with its unit, like `40ms`, `1.5s` or `200us`";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no time; {wanted}"))?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "min" => number * 60.0,
        _ if number == 0.0 && unit.is_empty() => 0.0,
        _ => return Err(format!("`{text}` has no known unit; {wanted}")),
    };
    let span = Duration::try_from_secs_f64(seconds).ok().filter(|span| *span <= LONGEST);
    span.ok_or_else(|| format!("`{text}` is more than a day; {wanted}"))
}

/// `2 Mbit/s`, `500kbit`, `1.2 Gbit/s`.
pub fn rate(text: &str) -> Result<Rate, String> {
    let wanted = "write a rate with its unit, like `2 Mbit/s`, `500 kbit/s` or `1 Gbit/s`";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no rate; {wanted}"))?;
    let scale = match unit.strip_suffix("/s").or_else(|| unit.strip_suffix("ps")).unwrap_or(unit) {
        "bit" => 1.0,
        "kbit" | "kb" => 1e3,
        "mbit" | "mb" => 1e6,
        "gbit" | "gb" => 1e9,
        _ => return Err(format!("`{text}` has no known unit; {wanted}")),
    };
    Rate::from_bits_per_second((number * scale) as u64)
        .ok_or_else(|| format!("`{text}` is no capacity at all; use an outage, or {wanted}"))
}

/// `64 KiB`, `150 kB`, `1.5 MB`, `1500 B`, `100 packets`.
pub fn limit(text: &str) -> Result<Limit, String> {
    let wanted = "write a size with its unit, like `64 KiB`, `150 kB` or `100 packets`";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no size; {wanted}"))?;
    let scale = match unit {
        "b" | "packet" | "packets" => 1.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "kib" => 1024.0,
        "mib" => 1024.0 * 1024.0,
        _ => return Err(format!("`{text}` has no known unit; {wanted}")),
    };
    let count = (number * scale) as u64;
    if count == 0 || (unit.starts_with('p') && number.fract() != 0.0) {
        return Err(format!("`{text}` is no whole packet or byte; {wanted}"));
    }
    Ok(if unit.starts_with('p') { Limit::Packets(count) } else { Limit::Bytes(count) })
}

/// `5 %` or `0.05`.
pub fn share(text: &str) -> Result<Probability, String> {
    let wanted = "write a share between `0 %` and `100 %`";
    let (number, unit) = split(text).ok_or_else(|| format!("`{text}` is no share; {wanted}"))?;
    let share = match unit {
        "%" => number / 100.0,
        "" => number,
        _ => return Err(format!("`{text}` has no known unit; {wanted}")),
    };
    Probability::new(share).ok_or_else(|| format!("`{text}` is out of range; {wanted}"))
}

/// The number and its unit in lower case, known units only, so that the match above can be on literals.
fn split(text: &str) -> Option<(f64, &'static str)> {
    const UNITS: [&str; 25] = [
        "", "us", "ms", "s", "min", "bit", "kbit", "mbit", "gbit", "bit/s", "kbit/s", "mbit/s", "gbit/s",
        "kbps", "mbps", "gbps", "b", "kb", "mb", "kib", "mib", "packet", "packets", "%", "?",
    ];
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let number = text[..end].parse().ok()?;
    let unit = text[end..].trim().to_ascii_lowercase();
    Some((number, UNITS.into_iter().find(|known| *known == unit).unwrap_or("?")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_units() {
        assert_eq!(duration("40ms"), Ok(Duration::from_millis(40)));
        assert_eq!(duration(" 1.5 s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(rate("2 Mbit/s").map(Rate::bits_per_second), Ok(2_000_000));
        assert_eq!(rate("500kbit").map(Rate::bits_per_second), Ok(500_000));
        assert_eq!(rate("1mbps").map(Rate::bits_per_second), Ok(1_000_000));
        assert_eq!(limit("16 KiB"), Ok(Limit::Bytes(16_384)));
        assert_eq!(limit("100 packets"), Ok(Limit::Packets(100)));
        assert_eq!(share("5 %").map(Probability::get), Ok(0.05));
    }

    #[test]
    fn what_is_no_number_says_what_to_write() {
        assert!(duration("40").unwrap_err().contains("`40ms`"));
        assert!(duration("-3ms").unwrap_err().contains("`40ms`"));
        assert!(rate("0 Mbit/s").unwrap_err().contains("outage"));
        assert!(duration("9446744073709551615s").unwrap_err().contains("more than a day"));
        assert!(limit("0 B").unwrap_err().contains("no whole packet or byte"));
        assert!(limit("0.5 packets").unwrap_err().contains("no whole packet or byte"));
        assert!(limit("64").unwrap_err().contains("`64 KiB`"));
        assert!(share("101 %").unwrap_err().contains("`100 %`"));
    }
}
