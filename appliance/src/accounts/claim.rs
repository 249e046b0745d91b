//! The code by which whoever owns the box makes it his: shown where only he looks, typed or scanned, used once.

use serde::{Deserialize, Serialize};

/// Digits without those that are read as others (Crockford's base 32).
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Digits of a code: 80 bits.
const LENGTH: usize = 16;

/// A claim code, as in `K7QF-2M9D-XW4T-8HJC`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimCode(String);

impl ClaimCode {
    /// A new one, of random bytes.
    pub fn new(random: [u8; LENGTH]) -> ClaimCode {
        ClaimCode(random.iter().map(|byte| char::from(DIGITS[usize::from(byte % 32)])).collect())
    }

    /// True where what somebody typed is this code: in any case, with or without dashes and spaces, with O for 0 and I or L for 1. Takes
    /// as long for a wrong one as for one that is nearly right.
    pub fn is(&self, typed: &str) -> bool {
        let read = typed.chars().filter(|c| !c.is_whitespace() && !matches!(c, '-' | '\u{2010}'..='\u{2015}'));
        let read: String = read.take(LENGTH + 1).map(read_as).collect();
        // Hashes are compared in constant time.
        blake3::hash(read.as_bytes()) == blake3::hash(self.0.as_bytes())
    }

    /// In groups of four.
    pub fn shown(&self) -> String {
        let groups = self.0.as_bytes().chunks(4).map(String::from_utf8_lossy);
        groups.collect::<Vec<_>>().join("-")
    }
}

fn read_as(typed: char) -> char {
    match typed.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_people_type_it() {
        let code = ClaimCode::new([20, 1, 0, 9, 31, 32, 33, 255, 0, 0, 1, 1, 10, 11, 12, 13]);
        assert_eq!(code.shown(), "M109-Z01Z-0011-ABCD");
        for typed in
            ["M109-Z01Z-0011-ABCD", "m109z01z0011abcd", " M1O9 ZoiZ 0OlI ABCD\n", "M109\u{2011}Z01Z\u{2013}0011-abcd"]
        {
            assert!(code.is(typed), "{typed}");
        }
        for typed in ["", "M109-Z01Z-0011-ABCE", "M109-Z01Z-0011-ABC", "M109-Z01Z-0011-ABCDD", "M109-Z01Z-0011-ÀBCD"] {
            assert!(!code.is(typed), "{typed}");
        }
    }

    #[test]
    fn every_digit_is_as_likely_as_any_other() {
        let mut counts = [0; 32];
        (0..=255u8).for_each(|byte| {
            counts[DIGITS.iter().position(|d| ClaimCode::new([byte; 16]).0.as_bytes()[0] == *d).unwrap()] += 1
        });
        assert_eq!(counts, [8; 32]);
    }
}
