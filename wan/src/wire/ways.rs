//! Ways: objects named by the places among the references of one node after the other, from the root of a tree on.

use std::ops::RangeInclusive;

use super::reader::{Reader, WireError};
use super::varint::put_varint;

/// Most places of one way.
pub const DEPTH_MAX: usize = 64;

/// A numbered list of ways: the number of the first, how many, and each as its length and its places.
pub(super) fn encode_ways(first: u64, ways: &[Vec<u32>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(10 + ways.len() * 8);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&(ways.len() as u16).to_le_bytes());
    for way in ways {
        put_varint(&mut out, way.len() as u64);
        way.iter().for_each(|place| put_varint(&mut out, (*place).into()));
    }
    out
}

/// The same, read: 1 to `ways_max` ways, each of so many places as `places` allows, and nothing behind them.
pub(super) fn decode_ways(
    mut reader: Reader,
    ways_max: usize,
    places: RangeInclusive<usize>,
) -> Result<(u64, Vec<Vec<u32>>), WireError> {
    let first = reader.u64()?;
    let count = super::question::names_count(&mut reader, ways_max)?;
    let mut ways = Vec::new();
    for _ in 0..count {
        ways.push(decode_way(&mut reader, &places)?);
    }
    reader.finish()?;
    Ok((first, ways))
}

fn decode_way(reader: &mut Reader, places: &RangeInclusive<usize>) -> Result<Vec<u32>, WireError> {
    let len = reader.varint()?;
    if !usize::try_from(len).is_ok_and(|len| places.contains(&len)) {
        return Err(WireError::TooLong { what: "way", len, max: *places.end() as u64 });
    }
    let place = |_| {
        let value = reader.varint()?;
        u32::try_from(value).map_err(|_| WireError::Unknown { what: "place in a node", value })
    };
    (0..len).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_as_many_places_as_it_may() {
        for (places, len, fits) in [
            (1..=DEPTH_MAX, 0, false),
            (0..=DEPTH_MAX, 0, true),
            (1..=DEPTH_MAX, 1, true),
            (1..=DEPTH_MAX, DEPTH_MAX, true),
            (0..=DEPTH_MAX, DEPTH_MAX + 1, false),
        ] {
            let ways = vec![vec![u32::MAX; len]; 2];
            let read = decode_ways(Reader::new("test", encode_ways(9, &ways).into()), 2, places);
            match fits {
                true => assert_eq!(read, Ok((9, ways))),
                false => assert!(matches!(read, Err(WireError::TooLong { what: "way", .. })), "{len}: {read:?}"),
            }
        }
    }
}
