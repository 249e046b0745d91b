//! Rates in bits per second on the wire, as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use narrowboat_storage::error::Refusal;

/// Bits per second on the wire, headers included. Zero means "paused"; "unlimited" is the absence of a rate
/// (`Option<Rate>`). Multiples are decimal, as lines are sold: 1 kbit = 1000 bit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rate(u64);

impl Rate {
    /// Nothing may leave.
    pub const PAUSED: Rate = Rate(0);
    /// The lowest rate but zero, 32 kbit/s: below it a second would not hold two full datagrams and no connection
    /// would come about.
    pub const MIN: Rate = Rate(32_000);
    /// The highest, 1 Tbit/s.
    pub const MAX: Rate = Rate(1_000_000_000_000);

    /// A rate of so many bits per second: zero, or within [`Rate::MIN`] and [`Rate::MAX`].
    pub fn from_bits(bits_per_second: u64) -> Result<Rate, Refusal> {
        let rate = Rate(bits_per_second);
        if rate == Rate::PAUSED || (Rate::MIN..=Rate::MAX).contains(&rate) {
            return Ok(rate);
        }
        Err(Refusal::Invalid(format!(
            "a rate of {rate} is out of bounds: 0 pauses, else at least {} and at most {}",
            Rate::MIN,
            Rate::MAX
        )))
    }

    /// Bits per second.
    pub fn bits(self) -> u64 {
        self.0
    }

    /// How many whole bytes fit into `time` at this rate.
    pub fn bytes_in(self, time: Duration) -> u64 {
        u64::try_from(u128::from(self.0).saturating_mul(time.as_nanos()) / 8_000_000_000).unwrap_or(u64::MAX)
    }

    /// True for the rate that lets nothing pass.
    pub fn is_paused(self) -> bool {
        self == Rate::PAUSED
    }
}

impl fmt::Display for Rate {
    /// The largest unit that needs no fraction: `20Mbit`, `512kbit`, `64500bit`. [`FromStr`] reads it back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => f.write_str("0bit"),
            bits if bits % 1_000_000_000 == 0 => write!(f, "{}Gbit", bits / 1_000_000_000),
            bits if bits % 1_000_000 == 0 => write!(f, "{}Mbit", bits / 1_000_000),
            bits if bits % 1_000 == 0 => write!(f, "{}kbit", bits / 1_000),
            bits => write!(f, "{bits}bit"),
        }
    }
}

impl FromStr for Rate {
    type Err = Refusal;

    /// Reads `20Mbit`, `1.5 Mbit/s`, `512kbit`, `64000bit`, `2Gbps`, `0`. Upper and lower case are alike. Bytes
    /// (`MB`, `MiB`) are refused rather than guessed at: lines are measured in bits.
    fn from_str(text: &str) -> Result<Rate, Refusal> {
        let wrong = || {
            Refusal::Invalid(format!(
                "{text:?} is not a rate; write bits per second, such as 20Mbit, 512kbit or 1.5Gbit"
            ))
        };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        if unit.contains(['B']) {
            return Err(Refusal::Invalid(format!("{text:?} counts bytes; write bits per second, such as 20Mbit")));
        }
        let unit = unit.trim().to_ascii_lowercase();
        let stem = ["bit/s", "bits", "bps", "bit"].iter().find_map(|tail| unit.strip_suffix(tail));
        let factor: u64 = match stem {
            Some("") => 1,
            Some("k") => 1_000,
            Some("m") => 1_000_000,
            Some("g") => 1_000_000_000,
            None if unit.is_empty() && number == "0" => 1,
            _ => return Err(wrong()),
        };
        let bits = scale(number, factor).ok_or_else(wrong)?;
        Rate::from_bits(bits)
    }
}

/// `number × factor` where `number` is decimal with at most nine places; None where it is not a number, too large, or
/// leaves a fraction of a bit.
fn scale(number: &str, factor: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.len() > 9 || number.ends_with('.') {
        return None;
    }
    let units: u64 = whole.parse().ok()?;
    let places = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = part.checked_mul(factor)?;
    if part % places != 0 {
        return None;
    }
    units.checked_mul(factor)?.checked_add(part / places)
}

/// Reads a cap: a rate, or `unlimited`, or `pause` for zero.
pub fn parse_limit(text: &str) -> Result<Option<Rate>, Refusal> {
    match text.trim().to_ascii_lowercase().as_str() {
        "unlimited" | "none" => Ok(None),
        "pause" | "paused" => Ok(Some(Rate::PAUSED)),
        _ => text.parse().map(Some),
    }
}

/// Writes a cap as [`parse_limit`] reads it.
pub fn print_limit(limit: Option<Rate>) -> String {
    match limit {
        None => "unlimited".to_owned(),
        Some(Rate::PAUSED) => "pause".to_owned(),
        Some(rate) => rate.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_people_write_them() {
        let cases = [
            ("20Mbit", 20_000_000),
            ("20 mbit/s", 20_000_000),
            ("1.5Mbps", 1_500_000),
            ("512kbit", 512_000),
            ("64000bit", 64_000),
            ("2Gbits", 2_000_000_000),
            ("0", 0),
            ("0bit", 0),
        ];
        for (text, bits) in cases {
            assert_eq!(text.parse::<Rate>(), Ok(Rate(bits)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_rate_is_refused() {
        for text in
            ["", "Mbit", "20", "20MB", "20MiB/s", "-1Mbit", "1..5Mbit", "1.Mbit", "1e3kbit", "0.0000001kbit", "31kbit"]
        {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("999999999999Gbit".parse::<Rate>().is_err());
        let bytes = "20MB".parse::<Rate>().expect_err("bytes").to_string();
        assert!(bytes.contains("counts bytes"), "{bytes}");
    }

    #[test]
    fn what_is_printed_reads_back() {
        for bits in [0, 32_000, 32_001, 64_500, 512_000, 20_000_000, 1_500_000, 10_000_000_000] {
            let limit = Some(Rate::from_bits(bits).expect("in bounds"));
            assert_eq!(parse_limit(&print_limit(limit)), Ok(limit));
        }
        assert_eq!(parse_limit(&print_limit(None)), Ok(None));
    }

    #[test]
    fn bytes_follow_from_time() {
        let rate: Rate = "20Mbit".parse().expect("a rate");
        assert_eq!(rate.bytes_in(Duration::from_secs(1)), 2_500_000);
        assert_eq!(rate.bytes_in(Duration::from_millis(2)), 5_000);
        assert_eq!(Rate::MAX.bytes_in(Duration::MAX), u64::MAX);
    }
}
