//! A few numbers that chunks of much the same bytes share, wherever those bytes lie in them.
//!
//! Samples are taken where the bytes themselves say so, about one in 400 places; each of four linear orders has a
//! greatest sample, which is a *feature*. Two chunks that share most of their samples share most of their features: the chance
//! for each is the share of samples that both have (Broder, "On the resemblance and containment of documents", 1997;
//! sampling by content as Odess does, Zou et al., "The Dilemma between Deduplication and Locality: Can Both be Achieved?", FAST 2021).
//!
//! What it promises: a pure function of the bytes, the same on every machine and in every version, since it is kept. What it
//! never says: that two chunks are equal, or that anything is present. A hint, wrong at worst in what it costs.
//! `docs/formats/sketch.md` owns the constants.
//!
//! Cheap by two means: whether a place is sampled depends on four bytes and two multiplications of 16 bits, which compilers
//! make into vector instructions, and only chunks that are new to a store are sketched.

use crate::name::Kind;

/// Features of a sketch.
pub const FEATURES: usize = 4;
/// Length of a sketch on disk.
pub const SKETCH_BYTES: usize = 4 * FEATURES;

/// Bytes that a sample is made of.
const SAMPLE_BYTES: usize = 16;
/// Places that are looked at together; even, and a multiple of [`GROUP`].
const BLOCK: usize = 512;
/// Of these, places of the same parity that one test answers for.
const GROUP: usize = 32;
const TRIGGER: [u16; 2] = [0x9E37, 0x59B1];
const TRIGGER_MASK: u16 = 0xFF00;
const MIX: [u64; 2] = [0x9FB2_1C65_1E98_DF25, 0x9E37_79B9_7F4A_7C15];
const ORDERS: [u64; FEATURES] =
    [0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB, 0xD6E8_FEB8_6659_FD93];

/// The features of a chunk. All zero where it has none: it is too short, or too regular.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sketch(pub [u32; FEATURES]);

impl Sketch {
    /// No features.
    pub const NONE: Sketch = Sketch([0; FEATURES]);

    /// That of an object. Nodes have none: they resemble what lies in their place, which is found without.
    pub fn of_object(kind: Kind, content: &[u8]) -> Sketch {
        if kind.is_node() { Sketch::NONE } else { Sketch::of(content) }
    }

    /// The sketch of a chunk. Takes about 0.4 seconds of a processor for each GiB.
    pub fn of(bytes: &[u8]) -> Sketch {
        let mut best = [0; FEATURES];
        let block_bytes = BLOCK + SAMPLE_BYTES - 1;
        let mut at = 0;
        while let Some(block) = bytes.get(at..at + block_bytes) {
            sample_block(block, &mut best);
            at += BLOCK;
        }
        for sample in bytes[at..].windows(SAMPLE_BYTES).filter(|sample| triggers(sample)) {
            take(sample, &mut best);
        }
        if best == [0; FEATURES] {
            return Sketch::NONE;
        }
        // The highest bits say only that it is the greatest.
        Sketch(best.map(|greatest| ((greatest >> 24) as u32).max(1)))
    }

    /// True where there are no features.
    pub fn is_none(&self) -> bool {
        *self == Sketch::NONE
    }

    /// How many features two sketches share. None with what has none.
    pub fn shared(&self, other: &Sketch) -> usize {
        self.0.iter().zip(&other.0).filter(|(here, there)| here == there && **here != 0).count()
    }

    /// The bytes on disk.
    pub fn encode(&self) -> [u8; SKETCH_BYTES] {
        let mut bytes = [0; SKETCH_BYTES];
        for (out, feature) in bytes.chunks_exact_mut(4).zip(self.0) {
            out.copy_from_slice(&feature.to_le_bytes());
        }
        bytes
    }

    /// Reads the bytes on disk.
    pub fn decode(bytes: &[u8; SKETCH_BYTES]) -> Sketch {
        let mut features = [0; FEATURES];
        for (feature, four) in features.iter_mut().zip(bytes.chunks_exact(4)) {
            *feature = four.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte));
        }
        Sketch(features)
    }
}

fn word(bytes: &[u8]) -> u16 {
    u16::from_le_bytes([bytes[0], bytes[1]])
}

fn is_trigger(word: u16, next: u16) -> bool {
    (word.wrapping_mul(TRIGGER[0]) ^ next.wrapping_mul(TRIGGER[1])) & TRIGGER_MASK == TRIGGER_MASK
}

fn triggers(sample: &[u8]) -> bool {
    is_trigger(word(sample), word(&sample[2..]))
}

/// Takes the samples at the first [`BLOCK`] places.
fn sample_block(block: &[u8], best: &mut [u64; FEATURES]) {
    let mut hits = [0; BLOCK / 2];
    for parity in 0..2 {
        find_triggers(&block[parity..parity + BLOCK + 2], &mut hits);
        for (group, hits) in hits.chunks_exact(GROUP).enumerate() {
            if hits.iter().fold(0, |any, hit| any | hit) == 0 {
                continue;
            }
            for (nth, _) in hits.iter().enumerate().filter(|(_, hit)| **hit != 0) {
                take(&block[2 * (group * GROUP + nth) + parity..], best);
            }
        }
    }
}

/// For every other place, whether it is sampled. One plain loop over words, for the vectors' sake.
fn find_triggers(bytes: &[u8], hits: &mut [u16; BLOCK / 2]) {
    let mut words = [0; BLOCK / 2 + 1];
    words.iter_mut().zip(bytes.chunks_exact(2)).for_each(|(to, pair)| *to = word(pair));
    for ((hit, word), next) in hits.iter_mut().zip(&words).zip(&words[1..]) {
        *hit = u16::from(is_trigger(*word, *next));
    }
}

/// Takes one sample: its 16 bytes mixed, and then each order's number.
fn take(sample: &[u8], best: &mut [u64; FEATURES]) {
    let eight = |bytes: &[u8]| bytes[..8].iter().rev().fold(0, |number: u64, byte| number << 8 | u64::from(*byte));
    let mixed = (eight(sample).wrapping_mul(MIX[0]) ^ eight(&sample[8..]).rotate_left(32)).wrapping_mul(MIX[1]);
    let mixed = mixed ^ mixed >> 32;
    for (best, order) in best.iter_mut().zip(ORDERS) {
        *best = (*best).max(mixed.wrapping_mul(order));
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;

    const PAGE: &str = include_str!("../../../docs/formats/sketch.md");

    fn noise(rng: &mut SmallRng, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        bytes
    }

    /// The definition, place by place.
    fn plain(bytes: &[u8]) -> Sketch {
        let mut best = [0u64; FEATURES];
        for sample in bytes.windows(SAMPLE_BYTES) {
            let word = |at: usize| u16::from_le_bytes(sample[at..at + 2].try_into().unwrap());
            let eight = |at: usize| u64::from_le_bytes(sample[at..at + 8].try_into().unwrap());
            if (word(0).wrapping_mul(TRIGGER[0]) ^ word(2).wrapping_mul(TRIGGER[1])) >> 8 == 0xFF {
                let mixed = (eight(0).wrapping_mul(MIX[0]) ^ eight(8).rotate_left(32)).wrapping_mul(MIX[1]);
                let mixed = mixed ^ (mixed >> 32);
                for (best, order) in best.iter_mut().zip(ORDERS) {
                    *best = (*best).max(mixed.wrapping_mul(order));
                }
            }
        }
        let feature = |best: u64| ((best >> 24) as u32).max(1);
        if best == [0; FEATURES] { Sketch::NONE } else { Sketch(best.map(feature)) }
    }

    #[test]
    fn the_example_of_the_page_is_what_is_computed() {
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < 4096 {
            bytes.extend_from_slice(format!("{} narrowboats\n", bytes.len()).as_bytes());
        }
        bytes.truncate(4096);
        let shown: String =
            PAGE.split("```hex").nth(1).unwrap().split("```").next().unwrap().split_whitespace().collect();
        let found: String = Sketch::of(&bytes).encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, found);
        assert_eq!(Sketch::decode(&Sketch::of(&bytes).encode()), Sketch::of(&bytes));
    }

    #[test]
    fn blocks_give_what_the_definition_gives() {
        let mut rng = SmallRng::seed_from_u64(1);
        for len in (0..40).chain(500..560).chain([1023, 1024, 1039, 1040, 4096, 16_384, 65_536]) {
            let bytes = noise(&mut rng, len);
            assert_eq!(Sketch::of(&bytes), plain(&bytes), "{len} bytes");
        }
    }

    #[test]
    fn what_resembles_shares_features_and_what_does_not_shares_none() {
        let mut rng = SmallRng::seed_from_u64(2);
        let (mut alike, mut shifted, mut unlike) = (0, 0, 0);
        for _ in 0..200 {
            let base = noise(&mut rng, 16_384);
            let mut changed = base.clone();
            for _ in 0..8 {
                let at = rng.random_range(0..base.len() - 100);
                let with = noise(&mut rng, 100);
                changed[at..at + 100].copy_from_slice(&with);
            }
            alike += Sketch::of(&base).shared(&Sketch::of(&changed));
            let moved = [&noise(&mut rng, 777)[..], &base[..13_000]].concat();
            shifted += Sketch::of(&base).shared(&Sketch::of(&moved));
            unlike += Sketch::of(&base).shared(&Sketch::of(&noise(&mut rng, 16_384)));
        }
        // Of 800 features: 5 % of the bytes are other ones, and what is sampled near them; then a fifth is gone and a little is new.
        assert!(alike > 680, "{alike} of 800");
        assert!(shifted > 520, "{shifted} of 800");
        assert_eq!(unlike, 0);
    }

    #[test]
    fn regular_bytes_cost_no_more_and_share_nothing_by_being_short() {
        assert!(Sketch::of(&[]).is_none() && Sketch::of(&[7; 15]).is_none());
        assert!(Sketch::of(&vec![0; 65_536]).is_none());
        assert_eq!(Sketch::NONE.shared(&Sketch::NONE), 0);
        for byte in 0..=255 {
            assert_eq!(Sketch::of(&vec![byte; 5000]), plain(&vec![byte; 5000]));
        }
    }
}
