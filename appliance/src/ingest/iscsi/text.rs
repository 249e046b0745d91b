//! Text of logins and text requests: `key=value` pairs, each ended by a zero byte (RFC 7143 section 6).
//!
//! [`Collector`] puts together what comes in several PDUs (the C bit), within [`TEXT_BYTES_MAX`]; [`parse`] cuts it into
//! pairs within [`PAIRS_MAX`]. Nothing here knows what a key means.

use std::fmt::Write as _;

/// Most bytes of one request's text, over all PDUs that it comes in.
pub const TEXT_BYTES_MAX: usize = 16 << 10;
/// Most pairs in one request.
pub const PAIRS_MAX: usize = 128;
/// Longest key (RFC 7143 section 6.1).
pub const KEY_BYTES_MAX: usize = 63;
/// Longest value: those that are binary may be over 255 bytes (section 6.1), CHAP's by far the longest.
pub const VALUE_BYTES_MAX: usize = 4096;

/// Text that cannot be made sense of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// More than is taken.
    #[error("too much text")]
    TooLong,
    /// A pair without `=`, a key with impossible characters, or bytes that are no UTF-8.
    #[error("not key=value")]
    NotAPair,
    /// One key twice in one negotiation (section 6.2).
    #[error("a key twice")]
    Twice,
}

/// Text that comes in several PDUs.
#[derive(Debug, Default)]
pub struct Collector(Vec<u8>);

impl Collector {
    /// Takes one more piece.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), Malformed> {
        if self.0.len() + piece.len() > TEXT_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        self.0.extend_from_slice(piece);
        Ok(())
    }

    /// The pairs of all pieces; the next request begins anew.
    pub fn finish(&mut self) -> Result<Vec<(String, String)>, Malformed> {
        parse(&std::mem::take(&mut self.0))
    }
}

/// Cuts text into pairs.
pub fn parse(text: &[u8]) -> Result<Vec<(String, String)>, Malformed> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    // The last pair may lack its zero byte, and some initiators pad with more of them.
    for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
        let pair = std::str::from_utf8(pair).map_err(|_| Malformed::NotAPair)?;
        let (key, value) = pair.split_once('=').ok_or(Malformed::NotAPair)?;
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-+@_/#".contains(&byte);
        if key.is_empty() || !key.bytes().all(plain) {
            return Err(Malformed::NotAPair);
        }
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX || pairs.len() == PAIRS_MAX {
            return Err(Malformed::TooLong);
        }
        if pairs.iter().any(|(other, _)| other == key) {
            return Err(Malformed::Twice);
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

/// Text being written.
#[derive(Debug, Default)]
pub struct Writer(String);

impl Writer {
    /// Adds a pair.
    pub fn pair(&mut self, key: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{key}={value}\0");
    }

    /// The text.
    pub fn finish(self) -> Vec<u8> {
        self.0.into_bytes()
    }
}

/// A number, decimal or as hexadecimal behind `0x` (section 6.1).
pub fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16).ok(),
        None if value.bytes().all(|byte| byte.is_ascii_digit()) => value.parse().ok(),
        _ => None,
    }
}

/// A binary value: hexadecimal behind `0x` or base64 behind `0b` (section 6.1).
pub fn binary(value: &str) -> Option<Vec<u8>> {
    let (marker, rest) = value.split_at_checked(2)?;
    match marker {
        "0x" | "0X" => from_hex(rest),
        "0b" | "0B" => from_base64(rest),
        _ => None,
    }
}

/// Bytes as a hexadecimal value.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    let digits: Vec<u8> = text.bytes().map(digit).collect::<Option<_>>()?;
    // An odd number of digits stands for one with a zero in front.
    let (first, rest) = digits.split_at(digits.len() % 2);
    Some(first.iter().copied().chain(rest.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1])).collect())
}

fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut held) = (0u32, 0);
    for byte in text.bytes() {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, held) = (bits << 6 | u32::from(digit), held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
            bits &= (1 << held) - 1;
        }
    }
    (held < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_cut_and_wrong_ones_refused() {
        let pairs = parse(b"InitiatorName=iqn.a\0SessionType=Normal\0X-com.x=\0\0").unwrap();
        assert_eq!(pairs.len(), 3);
        assert_eq!(pairs[0], ("InitiatorName".into(), "iqn.a".into()));
        assert_eq!(pairs[2].1, "");
        assert_eq!(parse(b"a=1\0a=2\0"), Err(Malformed::Twice));
        assert_eq!(parse(b"nothing"), Err(Malformed::NotAPair));
        assert_eq!(parse(b"=x"), Err(Malformed::NotAPair));
        assert_eq!(parse(b"a=\xff"), Err(Malformed::NotAPair));
        assert_eq!(parse(format!("{}=1", "k".repeat(64)).as_bytes()), Err(Malformed::TooLong));
    }

    #[test]
    fn text_without_end_is_refused() {
        let mut collector = Collector::default();
        let piece = [b'a'; 8192];
        assert_eq!((collector.push(&piece), collector.push(&piece)), (Ok(()), Ok(())));
        assert_eq!(collector.push(b"a"), Err(Malformed::TooLong));
    }

    #[test]
    fn numbers_and_binary_values() {
        assert_eq!((number("262144"), number("0x40000"), number("0X1F")), (Some(262_144), Some(262_144), Some(31)));
        assert_eq!(
            (number(""), number("-1"), number("0x"), number("4294967296"), number("1~3")),
            (None, None, None, None, None)
        );
        assert_eq!(binary("0x0aFf"), Some(vec![10, 255]));
        assert_eq!(binary("0xabc"), Some(vec![0x0a, 0xbc]));
        assert_eq!(binary("0bAQIDBA=="), Some(vec![1, 2, 3, 4]));
        assert_eq!((binary("0bA"), binary("0x0g"), binary("x"), binary("12")), (None, None, None, None));
        assert_eq!(to_hex(&[1, 0xab]), "0x01ab");
    }

    proptest! {
        #[test]
        fn any_text_is_taken_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..500), text in ".{0,40}") {
            let _ = parse(&bytes);
            let _ = (number(&text), binary(&text), binary(&format!("0x{text}")), binary(&format!("0b{text}")));
        }

        #[test]
        fn binary_values_come_back(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert_eq!(binary(&to_hex(&bytes)), Some(bytes));
        }
    }
}
