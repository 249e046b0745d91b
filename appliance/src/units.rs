//! Sizes, rates and times as people write and read them.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp as Instant;
use narrowboat_storage::units::Timestamp;
use serde::{Deserialize, Deserializer};

/// Bytes, written as in "64MiB", "10GB" or "4096".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 11] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("PiB", 1 << 50),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no size: write it as in 4096, 64MiB or 10GB");
        let digits = text.trim();
        let (number, factor) = SIZE_UNITS
            .iter()
            .find_map(|(unit, factor)| digits.strip_suffix(unit).map(|number| (number.trim(), *factor)))
            .unwrap_or((digits, 1));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(factor).map(ByteSize).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 1024.0 && unit < UNITS.len() - 1 {
            value /= 1024.0;
            unit += 1;
        }
        match unit {
            0 => write!(f, "{} B", self.0),
            _ if value < 10.0 => write!(f, "{value:.2} {}", UNITS[unit]),
            _ => write!(f, "{value:.1} {}", UNITS[unit]),
        }
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Number(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Number(bytes) => Ok(ByteSize(bytes)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

/// A moment in RFC 3339, in UTC, to the millisecond.
pub fn rfc3339(time: Timestamp) -> String {
    match Instant::from_nanosecond(i128::from(time.0)) {
        Ok(instant) => format!("{instant:.3}"),
        Err(_) => "out of range".to_owned(),
    }
}

/// The moment that an RFC 3339 text names; `None` where it is none.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let instant: Instant = text.parse().ok()?;
    i64::try_from(instant.as_nanosecond()).ok().map(Timestamp)
}

/// A moment in RFC 3339 as the clock on the wall of a time zone shows it, to the minute; as it is where the zone is not known here.
pub fn local_time(rfc3339: &str, zone: Option<&str>) -> String {
    let there = || {
        let instant: Instant = rfc3339.parse().ok()?;
        let zone = zone.map_or_else(|| Ok(jiff::tz::TimeZone::system()), jiff::tz::TimeZone::get).ok()?;
        Some(instant.to_zoned(zone).strftime("%a %Y-%m-%d %H:%M").to_string())
    };
    there().unwrap_or_else(|| rfc3339.to_owned())
}

/// A length of time as people write it: "90s", "15min", "24h", "7d". In seconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 7] =
        [("min", 60), ("days", 86_400), ("day", 86_400), ("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let wrong = || format!("{text:?} is no length of time: write it as in 90s, 15min, 24h or 7d");
    let (number, factor) = UNITS
        .iter()
        .find_map(|(unit, factor)| text.trim().strip_suffix(unit).map(|number| (number.trim(), *factor)))
        .ok_or_else(wrong)?;
    number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).ok_or_else(wrong)
}

/// A length of time as people say it: "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h".
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let pair = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match whole {
        0..60 if seconds < 10.0 => format!("{:.1} s", seconds.max(0.0)),
        0..60 => format!("{whole} s"),
        60..3600 => pair(whole / 60, "min", whole % 60, "s"),
        3600..86400 => pair(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => pair(whole / 86400, "d", whole % 86400 / 3600, "h"),
    }
}

/// A rate in bits per second as people say it.
pub fn bit_rate(bits_per_second: f64) -> String {
    match bits_per_second {
        rate if rate >= 1e9 => format!("{:.2} Gbit/s", rate / 1e9),
        rate if rate >= 1e6 => format!("{:.2} Mbit/s", rate / 1e6),
        rate if rate >= 1e3 => format!("{:.1} kbit/s", rate / 1e3),
        rate => format!("{rate:.0} bit/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("4096", 4096), ("64MiB", 64 << 20), ("10 GB", 10_000_000_000), ("7B", 7)] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1.5GiB", "99999999999TiB", "1 parsec"] {
            assert!(wrong.parse::<ByteSize>().is_err(), "{wrong}");
        }
        assert_eq!(ByteSize(1536).to_string(), "1.50 KiB");
        assert_eq!(ByteSize(700 << 20).to_string(), "700.0 MiB");
    }

    #[test]
    fn times_and_rates_are_written_for_people() {
        assert_eq!(rfc3339(Timestamp::new(0, 1_000_000)), "1970-01-01T00:00:00.001Z");
        assert_eq!(duration(0.25), "0.2 s");
        assert_eq!(duration(200.0), "3 min 20 s");
        assert_eq!(duration(90_000.0), "1 d 1 h");
        assert_eq!(bit_rate(49_870_000.0), "49.87 Mbit/s");
    }
}
