//! Marks: what the datagrams of a class say about themselves to routers (DSCP, RFC 2474).
//!
//! | class | mark | as RFC 4594 and RFC 8622 mean it |
//! | --- | --- | --- |
//! | control | CS2 (16) | operations, administration and management |
//! | restore | AF21 (18) | low-latency data: people wait for it |
//! | urgent | AF11 (10) | high-throughput data |
//! | normal | CS0 (0) | best effort, as if nothing were said |
//! | scavenger | LE (1) | lower effort: only what nobody else wants |
//!
//! A mark is a wish. Routers that do not know it forward it as best effort, some networks clear it, and nothing here depends on it.

use std::fmt;
use std::str::FromStr;

use narrowboat_storage::error::Refusal;

use super::class::Class;

/// A code point of six bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dscp(u8);

impl Dscp {
    /// Best effort: no mark.
    pub const NONE: Dscp = Dscp(0);

    /// A code point; `None` beyond 63.
    pub fn new(code: u8) -> Option<Dscp> {
        (code < 64).then_some(Dscp(code))
    }

    /// The six bits.
    pub fn code(self) -> u8 {
        self.0
    }

    /// The octet of the IP header (TOS, traffic class) with the two ECN bits of a packet.
    pub fn octet(self, ecn: u8) -> u8 {
        self.0 << 2 | (ecn & 3)
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            1 => f.write_str("LE"),
            44 => f.write_str("VA"),
            46 => f.write_str("EF"),
            code if code.is_multiple_of(8) => write!(f, "CS{}", code / 8),
            code if code.is_multiple_of(2) && (1..=4).contains(&(code / 8)) => {
                write!(f, "AF{}{}", code / 8, code % 8 / 2)
            }
            code => write!(f, "{code}"),
        }
    }
}

impl FromStr for Dscp {
    type Err = Refusal;

    /// Reads `CS0` to `CS7`, `AF11` to `AF43`, `EF`, `VA`, `LE`, or a number up to 63. Upper and lower case are alike.
    fn from_str(text: &str) -> Result<Dscp, Refusal> {
        let wanted = text.trim().to_ascii_uppercase();
        let named = (0..64).map(Dscp).find(|dscp| dscp.to_string() == wanted);
        let numbered = || wanted.parse().ok().and_then(Dscp::new);
        named.or_else(numbered).ok_or_else(|| {
            Refusal::Invalid(format!(
                "{text:?} is no DSCP: there are CS0 to CS7, AF11 to AF43, EF, VA, LE, and numbers up to 63"
            ))
        })
    }
}

/// The mark of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks([Dscp; Class::ALL.len()]);

impl Default for Marks {
    fn default() -> Self {
        Marks([Dscp(16), Dscp(18), Dscp(10), Dscp(0), Dscp(1)])
    }
}

impl Marks {
    /// No class is marked.
    pub const OFF: Marks = Marks([Dscp::NONE; Class::ALL.len()]);

    /// The mark of a class.
    pub fn of(&self, class: Class) -> Dscp {
        self.0[class.place()]
    }

    /// The same marks but for one class.
    #[must_use]
    pub fn with(mut self, class: Class, mark: Dscp) -> Marks {
        self.0[class.place()] = mark;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_rfcs_and_read_back() {
        for (text, code) in [("CS0", 0), ("LE", 1), ("AF11", 10), ("cs2", 16), ("AF21", 18), ("af43", 38), ("EF", 46)] {
            assert_eq!(text.parse::<Dscp>().map(Dscp::code), Ok(code), "{text}");
        }
        for code in 0..64 {
            let dscp = Dscp::new(code).expect("six bits");
            assert_eq!(dscp.to_string().parse(), Ok(dscp));
            assert_eq!(dscp.octet(2), code * 4 + 2);
        }
        for text in ["", "AF44", "AF51", "CS8", "64", "-1", "high"] {
            assert!(text.parse::<Dscp>().is_err(), "{text}");
        }
    }

    #[test]
    fn classes_are_marked_as_the_table_says() {
        let marks = Class::ALL.map(|class| Marks::default().of(class).to_string());
        assert_eq!(marks, ["CS2", "AF21", "AF11", "CS0", "LE"]);
        assert!(Class::ALL.iter().all(|class| Marks::OFF.of(*class) == Dscp::NONE));
        let one = Marks::OFF.with(Class::Scavenger, Dscp(8));
        assert_eq!((one.of(Class::Scavenger).code(), one.of(Class::Normal).code()), (8, 0));
    }
}
