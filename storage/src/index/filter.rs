//! The filter: which names are surely new, without a disk read.
//!
//! A blocked Bloom filter in 256 parts by the first byte of the name. Six bits in one block of 64 bytes, so a lookup
//! touches one cache line. A part is *cold* until it was filled, and answers "maybe" to everything. Parts grow one at
//! a time, filled anew from the part's range of the index, so growing never holds a second filter in memory.
//!
//! It never answers "new" for a name that was inserted. Past its bound of memory it only answers "maybe" more often.

use std::sync::{PoisonError, RwLock};

use bytes::Bytes;

use crate::codec::{Put, Reader};
use crate::id::StoreId;
use crate::index::format::{decode_filter_header, encode_filter_header};
use crate::name::Name;

/// How many parts there are: one for each value of a name's first byte.
pub const PARTS: usize = 256;
const BLOCK_BYTES: usize = 64;
const BLOCK_BITS: usize = 8 * BLOCK_BYTES;
/// A part never has fewer blocks than this, so that a small store does not grow its filter at every turn.
const BLOCKS_MIN: usize = 4;

type Block = [u64; 8];

/// What a filter knows of a part.
enum Part {
    /// Not filled yet.
    Cold,
    /// Every name of this part was inserted.
    Warm { names: u32, blocks: Vec<Block> },
}

/// Tells surely new names from those that may be known.
pub struct Filter {
    parts: Vec<RwLock<Part>>,
    bits_per_name: usize,
    part_bytes_max: usize,
}

/// Which block of a part, and which bits in it, by the first eight bytes of a name alone: so a prefix is looked up as a name
/// is. Mixed twice (SplitMix64's finalizer), because the first byte chose the part, and block and bits are to be independent.
fn place(prefix: u64, blocks: usize) -> (usize, u64) {
    let first = mix(prefix);
    let block = (u128::from(first) * blocks as u128) >> 64;
    (block as usize, mix(first))
}

fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn bits(seed: u64) -> impl Iterator<Item = (usize, u64)> {
    (0..6).map(move |nth| {
        let bit = (seed >> (9 * nth)) as usize % BLOCK_BITS;
        (bit / 64, 1 << (bit % 64))
    })
}

impl Filter {
    /// A filter whose parts are all cold. It will use at most `bytes_max`.
    pub fn new(bits_per_name: usize, bytes_max: usize) -> Filter {
        let parts = (0..PARTS).map(|_| RwLock::new(Part::Cold)).collect();
        let part_bytes_max = (bytes_max / PARTS).max(BLOCK_BYTES * BLOCKS_MIN);
        Filter { parts, bits_per_name: bits_per_name.clamp(4, 64), part_bytes_max }
    }

    /// False only where surely no name that begins so was inserted.
    pub fn may_have(&self, prefix: u64) -> bool {
        match &*self.part(prefix).read().unwrap_or_else(PoisonError::into_inner) {
            Part::Cold => true,
            Part::Warm { blocks, .. } => {
                let (block, seed) = place(prefix, blocks.len());
                bits(seed).all(|(word, bit)| blocks[block][word] & bit != 0)
            }
        }
    }

    /// Inserts names that are in the index now; cold parts ignore it, for they will be filled from there. Returns the
    /// parts that are fuller than they should be and are to be filled anew.
    pub fn insert(&self, names: impl Iterator<Item = Name>) -> Vec<usize> {
        let mut crowded = vec![false; PARTS];
        for name in names {
            let mut part = self.part(name.prefix()).write().unwrap_or_else(PoisonError::into_inner);
            if let Part::Warm { names, blocks } = &mut *part {
                insert_into(blocks, &name);
                *names += 1;
                let full = *names as usize * self.bits_per_name > blocks.len() * BLOCK_BITS;
                crowded[usize::from(name.0[0])] = full && blocks.len() * BLOCK_BYTES < self.part_bytes_max;
            }
        }
        (0..PARTS).filter(|part| crowded[*part]).collect()
    }

    /// Fills one part from all names of its range, of which there are about `expected`.
    pub fn fill(
        &self,
        part: usize,
        expected: usize,
        names: impl FnOnce(&mut dyn FnMut(&Name)) -> crate::Result<()>,
    ) -> crate::Result<()> {
        // A quarter more, so that filling anew is rare.
        let wanted = (expected + expected / 4) * self.bits_per_name;
        let blocks = (wanted / BLOCK_BITS + 1).clamp(BLOCKS_MIN, self.part_bytes_max / BLOCK_BYTES);
        let (mut blocks, mut count) = (vec![[0; 8]; blocks], 0);
        names(&mut |name| {
            insert_into(&mut blocks, name);
            count += 1;
        })?;
        *self.parts[part].write().unwrap_or_else(PoisonError::into_inner) = Part::Warm { names: count, blocks };
        Ok(())
    }

    /// The first part that is cold.
    pub fn cold(&self) -> Option<usize> {
        self.parts.iter().position(|part| matches!(*part.read().unwrap_or_else(PoisonError::into_inner), Part::Cold))
    }

    /// How many names a part holds; 0 for a cold one.
    pub fn names(&self, part: usize) -> usize {
        match &*self.parts[part].read().unwrap_or_else(PoisonError::into_inner) {
            Part::Cold => 0,
            Part::Warm { names, .. } => *names as usize,
        }
    }

    /// Memory in use, in bytes.
    pub fn bytes(&self) -> usize {
        let part_bytes = |part: &RwLock<Part>| match &*part.read().unwrap_or_else(PoisonError::into_inner) {
            Part::Cold => 0,
            Part::Warm { blocks, .. } => blocks.len() * BLOCK_BYTES,
        };
        self.parts.iter().map(part_bytes).sum()
    }

    /// The file that [`Filter::load`] reads, or nothing while a part is cold.
    pub fn save(&self, store: StoreId, generation: u64) -> Option<Vec<u8>> {
        let parts: Vec<_> = self.parts.iter().map(|part| part.read().unwrap_or_else(PoisonError::into_inner)).collect();
        let mut sizes = Vec::with_capacity(PARTS);
        for part in &parts {
            let Part::Warm { names, blocks } = &**part else { return None };
            sizes.push((*names, blocks.len() as u32));
        }
        let mut bytes = encode_filter_header(store, generation, &sizes);
        for part in &parts {
            let Part::Warm { blocks, .. } = &**part else { return None };
            blocks.iter().flatten().for_each(|word| bytes.put_u64(*word));
        }
        bytes.put_u32(crc32c::crc32c(&bytes));
        Some(bytes)
    }

    /// Takes over a saved filter. False, and nothing changed, where it is not sound or not of this generation.
    pub fn load(&self, saved: &Bytes, store: StoreId, generation: u64) -> bool {
        let Some(body) = saved.len().checked_sub(4) else { return false };
        if saved[body..] != crc32c::crc32c(&saved[..body]).to_le_bytes() {
            return false;
        }
        let body = saved.slice(..body);
        let mut reader = Reader::new(&body, "filter");
        let Ok(sizes) = decode_filter_header(&mut reader, store, generation, PARTS) else { return false };
        let mut loaded = Vec::with_capacity(PARTS);
        for (names, blocks) in sizes {
            let Some(len) = (blocks as usize).checked_mul(BLOCK_BYTES).filter(|len| *len > 0) else { return false };
            let Ok(bytes) = reader.take(len) else { return false };
            let mut words =
                bytes.chunks_exact(8).map(|word| word.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)));
            let block = |_| std::array::from_fn(|_| words.next().unwrap_or_default());
            loaded.push(Part::Warm { names, blocks: (0..blocks).map(block).collect() });
        }
        if reader.end().is_err() {
            return false;
        }
        for (part, loaded) in self.parts.iter().zip(loaded) {
            *part.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        }
        true
    }

    fn part(&self, prefix: u64) -> &RwLock<Part> {
        &self.parts[usize::from(prefix.to_le_bytes()[0])]
    }
}

fn insert_into(blocks: &mut [Block], name: &Name) {
    let (block, seed) = place(name.prefix(), blocks.len());
    bits(seed).for_each(|(word, bit)| blocks[block][word] |= bit);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> Name {
        Name(*blake3::hash(&number.to_le_bytes()).as_bytes())
    }
    fn fill_all(filter: &Filter, names: &[Name]) {
        for part in 0..PARTS {
            let of_part: Vec<_> = names.iter().filter(|name| usize::from(name.0[0]) == part).collect();
            filter
                .fill(part, of_part.len(), |visit| {
                    of_part.iter().for_each(|name| visit(name));
                    Ok(())
                })
                .unwrap();
        }
    }

    #[test]
    fn cold_parts_say_maybe_and_warm_ones_mostly_know() {
        let filter = Filter::new(10, 1 << 20);
        assert!(filter.may_have(name(1).prefix()));
        let names: Vec<_> = (0..100_000).map(name).collect();
        fill_all(&filter, &names);
        assert!(names.iter().all(|name| filter.may_have(name.prefix())), "a known name is never called new");
        let wrong = (200_000..300_000).filter(|number| filter.may_have(name(*number).prefix())).count();
        assert!(wrong < 2_000, "{wrong} of 100,000 new names taken for known ones");
        let bits = filter.bytes() * 8 / names.len();
        assert!((10..=15).contains(&bits), "{bits} bits a name");
    }

    #[test]
    fn crowded_parts_ask_to_be_filled_anew_until_memory_ends() {
        let filter = Filter::new(10, PARTS * 64 * 8);
        fill_all(&filter, &[]);
        let crowded = filter.insert((0..PARTS as u64 * 260).map(name));
        assert!(crowded.len() > 200, "{}", crowded.len());
        let names: Vec<_> = (0..PARTS as u64 * 1000).map(name).collect();
        fill_all(&filter, &names);
        assert!(filter.bytes() <= PARTS * 64 * 8);
        assert!(filter.insert(names.into_iter()).is_empty(), "at its bound it does not ask again");
    }

    #[test]
    fn a_saved_filter_is_taken_whole_or_not_at_all() {
        let filter = Filter::new(10, 1 << 20);
        assert!(filter.save(StoreId([1; 16]), 5).is_none(), "cold filters are not worth saving");
        let names: Vec<_> = (0..10_000).map(name).collect();
        fill_all(&filter, &names);
        let saved = filter.save(StoreId([1; 16]), 5).unwrap();
        let again = Filter::new(10, 1 << 20);
        let load =
            |bytes: &[u8], store, generation| again.load(&Bytes::copy_from_slice(bytes), StoreId(store), generation);
        assert!(!load(&saved, [2; 16], 5) && !load(&saved, [1; 16], 6) && !load(&saved[..saved.len() - 9], [1; 16], 5));
        for at in (0..saved.len()).step_by(saved.len() / 200) {
            let mut bent = saved.clone();
            bent[at] ^= 4;
            assert!(!load(&bent, [1; 16], 5), "bent at {at}");
        }
        assert!(again.cold().is_some());
        assert!(load(&saved, [1; 16], 5));
        assert!(again.cold().is_none() && names.iter().all(|name| again.may_have(name.prefix())));
        assert_eq!(again.save(StoreId([1; 16]), 5).unwrap(), saved);
    }
}
