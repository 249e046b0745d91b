//! Who is on the other end of a link: the peer's key, where it may be reached, and the record that pins it.
//!
//! A box *is* its Ed25519 key. Names and addresses are conveniences that may change; a box with another key is another
//! box. The record is kept in the catalogue; `docs/formats/peer-record.md` owns its bytes.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use narrowboat_storage::codec::{Put, Reader};
use narrowboat_storage::error::{Damage, Error, Refusal, Result};
use narrowboat_storage::id::StoreId;
use narrowboat_storage::units::Timestamp;

use crate::shape::Rate;

/// The Ed25519 public key of a box (RFC 8032).
///
/// Displayed as a fingerprint to be compared by eye or over the telephone: 75 bits of the key's BLAKE3 hash and a check
/// symbol, `k7x2-9fqa-0c4m-tw8h`. [`PeerId::to_hex`] is the whole key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub [u8; 32]);

/// Crockford's alphabet: no i, l, o, u, so that nothing is misread.
const SYMBOLS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Symbols of the fingerprint before the check symbol.
const FINGERPRINT_LEN: usize = 15;

impl PeerId {
    /// All 64 hexadecimal digits of the key.
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Reads what [`PeerId::to_hex`] writes.
    pub fn from_hex(text: &str) -> Result<PeerId, Refusal> {
        text.parse::<narrowboat_storage::name::Name>().map(|name| PeerId(name.0))
    }

    /// Is this the fingerprint of this key? Case, spaces and dashes do not matter; the letters i, l, o are read as the
    /// digits that they look like. A mistyped symbol is told apart from another box's fingerprint.
    pub fn matches(&self, fingerprint: &str) -> Result<bool, Refusal> {
        let wrong = || Refusal::Invalid(format!("{fingerprint:?} is not a fingerprint: check it for a typing error"));
        let mut digits = Vec::with_capacity(FINGERPRINT_LEN + 1);
        for symbol in fingerprint.chars().filter(|c| !matches!(c, '-' | ' ')) {
            digits.push(digit_of(symbol).ok_or_else(wrong)?);
            if digits.len() > FINGERPRINT_LEN + 1 {
                return Err(wrong());
            }
        }
        let Some((check, digits)) = digits.split_last() else { return Err(wrong()) };
        if digits.len() != FINGERPRINT_LEN || check_digit(digits) != *check {
            return Err(wrong());
        }
        Ok(digits == self.fingerprint())
    }

    fn fingerprint(&self) -> [u8; FINGERPRINT_LEN] {
        let hash = blake3::derive_key("narrowboat 2026 v1 peer fingerprint", &self.0);
        let mut digits = [0; FINGERPRINT_LEN];
        for (index, digit) in digits.iter_mut().enumerate() {
            let bits = u16::from_be_bytes([hash[index * 5 / 8], hash[index * 5 / 8 + 1]]);
            *digit = (bits >> (11 - index * 5 % 8)) as u8 & 31;
        }
        digits
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.fingerprint();
        for (index, digit) in digits.iter().chain([&check_digit(&digits)]).enumerate() {
            if index > 0 && index % 4 == 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", char::from(SYMBOLS[usize::from(*digit)]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

fn digit_of(symbol: char) -> Option<u8> {
    let symbol = match symbol.to_ascii_lowercase() {
        'i' | 'l' => '1',
        'o' => '0',
        other => other,
    };
    SYMBOLS.iter().position(|known| char::from(*known) == symbol).map(|digit| digit as u8)
}

/// Luhn's check over the 32 symbols ("Luhn mod N"): finds every single wrong symbol and nearly every swap of neighbours.
fn check_digit(digits: &[u8]) -> u8 {
    let weighted = digits.iter().rev().enumerate().map(|(place, digit)| {
        let weight = if place % 2 == 0 { 2 } else { 1 };
        let product = u32::from(*digit) * weight;
        product / 32 + product % 32
    });
    ((32 - weighted.sum::<u32>() % 32) % 32) as u8
}

/// Where a box may be reached: `host:port`, the host a name, an IPv4 address or a bracketed IPv6 address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddress(String);

impl PeerAddress {
    /// Longest text, in bytes: a DNS name (RFC 1035, section 2.3.4), a colon, a port.
    pub const LEN_MAX: usize = 259;

    /// The text, as a resolver takes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<std::net::SocketAddr> for PeerAddress {
    fn from(address: std::net::SocketAddr) -> Self {
        PeerAddress(address.to_string())
    }
}

impl FromStr for PeerAddress {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let wrong = |why: &str| Refusal::Invalid(format!("{text:?} is not an address ({why}); write host:port"));
        if text.len() > Self::LEN_MAX {
            return Err(wrong("too long"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("no port"))?;
        if !matches!(port.parse::<u16>(), Ok(1..)) {
            return Err(wrong("the port is a number from 1 to 65535"));
        }
        let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let sound = match inner {
            Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
            None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
        };
        if sound { Ok(PeerAddress(text.to_owned())) } else { Err(wrong("no such host can be")) }
    }
}

/// What people call a box: 1 to 63 bytes, letters and digits of any script, and `-`, `_`, `.` but not at the front.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName(String);

impl PeerName {
    /// Longest name in bytes.
    pub const LEN_MAX: usize = 63;

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PeerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PeerName {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let sound = !text.is_empty()
            && text.len() <= Self::LEN_MAX
            && !text.starts_with(['-', '_', '.'])
            && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if sound {
            return Ok(PeerName(text.to_owned()));
        }
        Err(Refusal::Invalid(format!(
            "{text:?} is not a name for a box: 1 to {} bytes, letters, digits, and - _ . after the first",
            Self::LEN_MAX
        )))
    }
}

/// A pinned peer, as kept in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerRecord {
    /// What it is called here. Unique among the peers of a box.
    pub name: PeerName,
    /// Its key: the only thing that is trusted.
    pub id: PeerId,
    /// Where to dial it, best first; at most [`PeerRecord::ADDRESSES_MAX`]. None: it dials us.
    pub addresses: Vec<PeerAddress>,
    /// The realm that both boxes are in.
    pub realm: [u8; 16],
    /// The store that it keeps.
    pub store: StoreId,
    /// When it was paired.
    pub paired_at: Timestamp,
    /// The cap of what is sent to it; None is unlimited.
    pub limit: Option<Rate>,
}

const MAGIC: [u8; 4] = *b"NBPR";
const VERSION: u16 = 1;
/// What an unlimited cap looks like on disk.
const UNLIMITED: u64 = u64::MAX;
/// magic, version, zero, three feature sets
const HEADER_LEN: usize = 4 + 2 + 2 + 3 * 4;
/// Where the damage of a record is said to be.
const FILE: &str = "catalogue (peer record)";

impl PeerRecord {
    /// The most addresses of one peer.
    pub const ADDRESSES_MAX: usize = 8;

    /// Writes the record. More addresses than [`PeerRecord::ADDRESSES_MAX`] are left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(192);
        out.extend_from_slice(&MAGIC);
        out.put_u16(VERSION);
        out.put_u16(0);
        (0..3).for_each(|_| out.put_u32(0));
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&self.realm);
        out.extend_from_slice(&self.store.0);
        out.put_i64(self.paired_at.0);
        out.put_u64(self.limit.map_or(UNLIMITED, Rate::bits));
        out.put_bytes(self.name.as_str().as_bytes());
        let addresses = &self.addresses[..self.addresses.len().min(Self::ADDRESSES_MAX)];
        out.put_u32(addresses.len() as u32);
        addresses.iter().for_each(|address| out.put_bytes(address.as_str().as_bytes()));
        let check = crc32c::crc32c(&out);
        out.put_u32(check);
        out
    }

    /// Reads a record. Bytes that were not written by [`PeerRecord::encode`] are damage; a newer version or a feature
    /// that this version must not ignore is refused. Read-only features count as refusals too: a peer that can only be
    /// looked at is of no use.
    pub fn decode(bytes: &[u8]) -> Result<PeerRecord> {
        let damaged = |at: usize, expected: &str, found: String| Damage::new(FILE, at as u64, expected, found);
        let Some((body, check)) = bytes.split_last_chunk::<4>().filter(|(body, _)| body.len() >= HEADER_LEN) else {
            return Err(damaged(0, "a header and a checksum", format!("{} bytes", bytes.len())).into());
        };
        if body[..4] != MAGIC {
            return Err(damaged(0, "the magic NBPR", format!("{:02x?}", &body[..4])).into());
        }
        let found = crc32c::crc32c(body);
        if found.to_le_bytes() != *check {
            let expected = format!("checksum {:08x}", u32::from_le_bytes(*check));
            return Err(damaged(body.len(), &expected, format!("{found:08x}")).into());
        }
        let body = Bytes::copy_from_slice(body);
        let mut reader = Reader::new(&body, "peer record");
        Self::read(&mut reader).map_err(|problem| match problem {
            Problem::Refused(refusal) => Error::Refused(refusal),
            Problem::Malformed(at, what) => damaged(at, "a well-formed record", what).into(),
        })
    }

    fn read(reader: &mut Reader<'_>) -> Result<PeerRecord, Problem> {
        reader.array::<4>()?;
        let version = reader.u16()?;
        reader.u16()?;
        let [_ignore, read_only, refuse] = [reader.u32()?, reader.u32()?, reader.u32()?];
        if version != VERSION || read_only != 0 || refuse != 0 {
            let what = format!("a peer record of version {version} with features {read_only:#x}/{refuse:#x}");
            return Err(Problem::Refused(Refusal::Unsupported(format!("{what} needs a newer Narrowboat"))));
        }
        let id = PeerId(reader.array()?);
        let realm = reader.array()?;
        let store = StoreId(reader.array()?);
        let paired_at = Timestamp(reader.i64()?);
        let limit = match reader.u64()? {
            UNLIMITED => None,
            bits => Some(Rate::from_bits(bits)?),
        };
        let name = text(reader, PeerName::LEN_MAX)?.parse()?;
        let count = reader.count(4)?;
        if count > Self::ADDRESSES_MAX {
            return Err(reader.malformed().into());
        }
        let addresses =
            (0..count).map(|_| Ok(text(reader, PeerAddress::LEN_MAX)?.parse()?)).collect::<Result<_, Problem>>()?;
        if reader.left() != 0 {
            return Err(reader.malformed().into());
        }
        Ok(PeerRecord { name, id, addresses, realm, store, paired_at, limit })
    }
}

fn text(reader: &mut Reader<'_>, len_max: usize) -> Result<String, Problem> {
    let bytes = reader.bytes(len_max)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| reader.malformed().into())
}

enum Problem {
    Malformed(usize, String),
    Refused(Refusal),
}

impl From<narrowboat_storage::codec::Malformed> for Problem {
    fn from(malformed: narrowboat_storage::codec::Malformed) -> Self {
        Problem::Malformed(malformed.at, malformed.to_string())
    }
}

impl From<Refusal> for Problem {
    /// A field that its own type refuses was never written by us.
    fn from(refusal: Refusal) -> Self {
        Problem::Malformed(0, refusal.to_string())
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
