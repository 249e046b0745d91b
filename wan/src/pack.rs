//! Packing for the line: groups of objects as one zstd frame (RFC 8878), against bytes that both sides have.
//!
//! A group shares its vocabulary, which single objects cannot; and what resembles bytes that the receiver has (the
//! *base*) is told as references into them. The base stands in front of the content as a prefix: it is not part of the
//! frame, and without the same bytes at the other side nothing comes out that fits any name.
//!
//! Promises: [`unpack`] never writes or holds more than it was told to expect, whatever the bytes say. Never here:
//! which objects go together, what they are packed against, how hard.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, get_error_name};

/// Most bytes of objects in one group.
pub const GROUP_BYTES_MAX: usize = 4 << 20;
/// Most bytes that a group is packed against.
pub const BASE_BYTES_MAX: usize = 8 << 20;
/// The largest window that a frame may ask for, as a power of two: base and content together.
const WINDOW_LOG_MAX: u32 = 24;
/// From here on matches are also looked for with hashes of long runs, which find what lies far back in the base.
const LONG_RANGE_BYTES: usize = 1 << 20;
/// Shorter groups are not tried: the frame's header alone has some ten bytes.
const PACK_BYTES_MIN: usize = 64;

/// Packs `content` against `base` at a zstd level. `None` where that saves nothing.
pub fn pack(content: &[u8], base: &[u8], level: i32) -> Option<Vec<u8>> {
    packed_with(&mut CCtx::create(), content, base, level)
}

/// What packing takes in memory at most, besides content and base: what comes out, and zstd's tables. These have up to four bytes for each place of a
/// window and a bit, twice, and no more than the level wants.
pub(crate) fn memory(content: usize, base: usize, level: i32) -> u64 {
    let window = 1u64 << window_log(content + base);
    let tables = match level {
        ..=3 => 4 << 20,
        4..=6 => 10 << 20,
        7..=9 => 24 << 20,
        10..=12 => 56 << 20,
        13..=15 => 72 << 20,
        _ => 120 << 20,
    };
    content as u64 + (1 << 20) + (16 * window).min(tables)
}

fn packed_with<'a>(context: &mut CCtx<'a>, content: &[u8], base: &'a [u8], level: i32) -> Option<Vec<u8>> {
    if content.len() < PACK_BYTES_MIN {
        return None;
    }
    let total = content.len() + base.len();
    let parameters = [
        CParameter::CompressionLevel(level),
        CParameter::WindowLog(window_log(total)),
        CParameter::EnableLongDistanceMatching(total > LONG_RANGE_BYTES),
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ];
    parameters.into_iter().try_for_each(|parameter| context.set_parameter(parameter).map(drop)).ok()?;
    context.ref_prefix(base).ok()?;
    // What does not fit did not pay.
    let mut packed = vec![0; content.len() - 1];
    let len = context.compress2(&mut packed[..], content).ok()?;
    packed.truncate(len);
    // It may wait for a slow line, and what it is short of must not wait with it.
    packed.shrink_to_fit();
    Some(packed)
}

/// The content of exactly `len` bytes that was packed against `base`; a sentence where it is none.
pub fn unpack(packed: &[u8], base: &[u8], len: usize) -> Result<Vec<u8>, String> {
    if len > GROUP_BYTES_MAX || base.len() > BASE_BYTES_MAX {
        return Err(format!("a group of {len} bytes against {} is too large", base.len()));
    }
    let words = |code| get_error_name(code).to_owned();
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(WINDOW_LOG_MAX)).map_err(words)?;
    context.ref_prefix(base).map_err(words)?;
    let mut content = vec![0; len];
    let found = context.decompress(&mut content[..], packed).map_err(words)?;
    if found != len {
        return Err(format!("a group of {found} bytes where {len} were announced"));
    }
    Ok(content)
}

/// The smallest window that spans so many bytes, as zstd wants to be told.
fn window_log(bytes: usize) -> u32 {
    bytes.next_power_of_two().trailing_zeros().clamp(10, WINDOW_LOG_MAX)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, RngExt, SeedableRng};

    use super::*;

    fn noise(seed: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        SmallRng::seed_from_u64(seed).fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn a_page_that_changed_costs_little_more_than_the_change() {
        let base = noise(1, 1 << 20);
        let mut content = base[300_000..400_000].to_vec();
        content[50_000..50_100].copy_from_slice(&noise(2, 100));
        for level in [1, 3, 9, 19] {
            let packed = pack(&content, &base, level).unwrap();
            assert!(packed.len() < 200, "level {level}: {} bytes", packed.len());
            assert_eq!(unpack(&packed, &base, content.len()).unwrap(), content);
        }
    }

    #[test]
    fn the_far_end_of_the_largest_base_is_found() {
        let base = noise(3, BASE_BYTES_MAX);
        let content = [&base[..100_000], &base[BASE_BYTES_MAX - 100_000..], &noise(4, 1000)].concat();
        let packed = pack(&content, &base, 3).unwrap();
        assert!(packed.len() < 1500, "{} bytes", packed.len());
        assert_eq!(unpack(&packed, &base, content.len()).unwrap(), content);
    }

    #[test]
    fn packing_takes_no_more_memory_than_is_said() {
        let base = noise(8, BASE_BYTES_MAX);
        let mut most = 0.0f64;
        for level in [1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 19] {
            for (len, base_len) in
                [(1000, 0), (60_000, 0), (60_000, 200_000), (600_000, 0), (300_000, 8 << 20), (1 << 20, 0)]
            {
                let mut context = CCtx::create();
                let content = [noise(9, len / 2), vec![7; len - len / 2]].concat();
                let packed =
                    packed_with(&mut context, &content, &base[..base_len], level).map_or(0, |packed| packed.len());
                let (took, said) = ((context.sizeof() + packed) as u64, memory(len, base_len, level));
                assert!(took <= said, "level {level}, {len} against {base_len}: {took} bytes, {said} were said");
                most = most.max(took as f64 / said as f64);
            }
        }
        assert!(most > 0.6, "it says far too much: {most}");
    }

    #[test]
    fn what_does_not_pay_is_not_packed() {
        assert_eq!(pack(&noise(5, 100_000), &[], 3), None);
        assert_eq!(pack(&[7; 50], &[], 3), None);
        assert!(pack(&[7; 1000], &[], 3).is_some());
    }

    #[test]
    fn no_bytes_bring_more_than_was_announced() {
        let bomb = zstd::bulk::compress(&vec![0; 100 << 20], 19).unwrap();
        assert!(unpack(&bomb, &[], 1 << 20).is_err());
        let content = noise(6, 1000).repeat(10);
        let packed = pack(&content, &[], 3).unwrap();
        assert!(unpack(&packed, &[], content.len() - 1).is_err());
        assert!(unpack(&packed, &[], content.len() + 1).is_err());
        assert!(unpack(&packed, &[], usize::MAX).is_err());
        let mut rng = SmallRng::seed_from_u64(7);
        for _ in 0..2000 {
            let mut torn = packed.clone();
            for _ in 0..rng.random_range(1..4) {
                let at = rng.random_range(0..torn.len());
                torn[at] = rng.random();
            }
            torn.truncate(rng.random_range(0..=torn.len()));
            let _ = unpack(&torn, &content[..rng.random_range(0..500)], content.len());
        }
    }
}
