//! As much of a certificate as people are told: who it is for, who vouches for it, when it counts (RFC 5280, 4.1). Nothing is trusted by that.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::acme::plan::Life;

/// Tags of DER.
const SEQUENCE: u8 = 0x30;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const OBJECT: u8 = 0x06;
const BYTES: u8 = 0x04;
/// The version, extensions, and a name of a host among names, by their places.
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
/// The extension with names (2.5.29.17).
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];
/// Parts of a name that are told (2.5.4.*).
const PARTS: [(&[u8], &str); 4] =
    [(&[0x55, 4, 6], "C"), (&[0x55, 4, 10], "O"), (&[0x55, 4, 11], "OU"), (&[0x55, 4, 3], "CN")];

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Says {
    /// The names that it is for, in order.
    pub names: Vec<String>,
    /// Who vouches for it.
    pub issuer: String,
    /// When it counts.
    pub life: Life,
}

/// Reads a certificate (DER); nothing where that makes no sense.
pub(super) fn read(der: &[u8]) -> Option<Says> {
    let mut signed = Der(Der(der).of(SEQUENCE)?);
    let mut body = Der(signed.of(SEQUENCE)?);
    if body.0.first() == Some(&VERSION) {
        body.next()?;
    }
    // Its number, and how it is signed.
    body.next()?;
    body.of(SEQUENCE)?;
    let issuer = name(body.of(SEQUENCE)?);
    let mut times = Der(body.of(SEQUENCE)?);
    let (from, last) = (time(times.next()?)?, time(times.next()?)?);
    let mut names = Vec::new();
    while let Some((tag, inside)) = body.next() {
        if tag == EXTENSIONS {
            names = alternative_names(inside).unwrap_or_default();
        }
    }
    names.sort();
    // The last second counts, too (RFC 5280, 4.1.2.5).
    Some(Says { names, issuer, life: Life { from, until: last.saturating_add(1) } })
}

/// Values that stand one behind the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next one: its tag, and what is in it.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // As many bytes of length as a certificate can need.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (inside, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, inside))
    }

    /// The next one, which has this tag.
    fn of(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, inside)| inside)
    }
}

/// A name in words, as `O=Example, CN=E7`.
fn name(inside: &[u8]) -> String {
    let mut parts = Vec::new();
    let mut sets = Der(inside);
    while let Some((_, set)) = sets.next() {
        parts.extend(part(set));
    }
    parts.join(", ")
}

fn part(set: &[u8]) -> Option<String> {
    let mut pair = Der(Der(set).of(SEQUENCE)?);
    let object = pair.of(OBJECT)?;
    let (_, kind) = PARTS.iter().find(|(known, _)| *known == object)?;
    let (_, value) = pair.next()?;
    let value: String = String::from_utf8_lossy(value).chars().filter(|c| !c.is_control()).collect();
    Some(format!("{kind}={value}"))
}

/// Seconds since 1970.
fn time((tag, text): (u8, &[u8])) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    let full = match tag {
        // Two digits of the year: 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        UTC_TIME if text.as_bytes().first()? < &b'5' => format!("20{text}"),
        UTC_TIME => format!("19{text}"),
        GENERALIZED_TIME => text.to_owned(),
        _ => return None,
    };
    let at = DateTime::strptime("%Y%m%d%H%M%S", full).ok()?;
    u64::try_from(at.to_zoned(TimeZone::UTC).ok()?.timestamp().as_second()).ok()
}

fn alternative_names(inside: &[u8]) -> Option<Vec<String>> {
    let mut extensions = Der(Der(inside).of(SEQUENCE)?);
    while let Some(inside) = extensions.of(SEQUENCE) {
        let mut extension = Der(inside);
        if extension.of(OBJECT)? != ALTERNATIVE_NAMES {
            continue;
        }
        // Whether it is critical may stand between.
        let value = loop {
            let (tag, value) = extension.next()?;
            if tag == BYTES {
                break value;
            }
        };
        let (mut all, mut names) = (Der(Der(value).of(SEQUENCE)?), Vec::new());
        while let Some((tag, name)) = all.next() {
            if tag == DNS_NAME {
                names.push(String::from_utf8_lossy(name).to_ascii_lowercase());
            }
        }
        return Some(names);
    }
    None
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate() -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["Box.example.org".to_owned(), "a.example".into()]).expect("sound");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Büro\r\nKöln");
        params.distinguished_name.push(DnType::CommonName, "老师");
        params.not_before = date_time_ymd(2026, 11, 24);
        params.not_after = date_time_ymd(2061, 2, 28);
        params.self_signed(&KeyPair::generate().expect("a key")).expect("signed").der().to_vec()
    }

    #[test]
    fn it_says_who_it_is_for_who_vouches_and_until_when() {
        let says = read(&certificate()).expect("it is one");
        assert_eq!(says.names, ["a.example", "box.example.org"]);
        assert_eq!(says.issuer, "O=BüroKöln, CN=老师");
        let seconds = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_second() as u64;
        let life = Life { from: seconds("2026-11-24T00:00:00Z"), until: seconds("2061-02-28T00:00:01Z") };
        assert_eq!(says.life, life);
        assert_eq!(time((UTC_TIME, b"500101000000Z")), None, "before 1970");
        assert_eq!(time((UTC_TIME, b"491231235959Z")), Some(seconds("2049-12-31T23:59:59Z")));
    }

    #[test]
    fn damage_is_read_as_nothing_or_something_and_harms_nobody() {
        let whole = certificate();
        for length in 0..whole.len() {
            assert_eq!(read(&whole[..length]), None, "{length}");
        }
        for place in 0..whole.len() {
            for value in [0, 0x30, 0x80, 0x83, 0x84, 0xff] {
                let mut damaged = whole.clone();
                damaged[place] = value;
                let _ = read(&damaged);
            }
        }
    }
}
