//! Grants: how fast the other side may send, in the words of a stream of its own. `docs/formats/replication-protocol.md` owns the bytes.

use super::reader::WireError;
use crate::shape::Rate;

/// Length of a [`Grant`].
pub const GRANT_BYTES: usize = 8;
/// In place of a rate: no cap.
const NO_CAP: u64 = u64::MAX;

/// How fast whoever reads this may send on the wire, headers included, to whoever wrote it: `None` as fast as it likes,
/// [`Rate::PAUSED`] not at all. The last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant(pub Option<Rate>);

impl Grant {
    /// Writes the grant.
    pub fn encode(self) -> [u8; GRANT_BYTES] {
        self.0.map_or(NO_CAP, Rate::bits).to_le_bytes()
    }

    /// Reads a grant. Fails on a rate that is out of bounds.
    pub fn decode(bytes: [u8; GRANT_BYTES]) -> Result<Grant, WireError> {
        match u64::from_le_bytes(bytes) {
            NO_CAP => Ok(Grant(None)),
            bits => match Rate::from_bits(bits) {
                Ok(rate) => Ok(Grant(Some(rate))),
                Err(_) => Err(WireError::Unknown { what: "granted rate", value: bits }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_read_back_and_rates_out_of_bounds_do_not() {
        for limit in [None, Some(Rate::PAUSED), Some(Rate::MIN), Some(Rate::MAX)] {
            assert_eq!(Grant::decode(Grant(limit).encode()).expect("sound"), Grant(limit));
        }
        for bits in [1, Rate::MIN.bits() - 1, Rate::MAX.bits() + 1, NO_CAP - 1] {
            assert!(Grant::decode(bits.to_le_bytes()).is_err(), "{bits}");
        }
    }
}
