use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn at_least(anchored: u64, loose: u64) -> RunBytes {
    RunBytes { anchored, loose, max: u64::MAX }
}

fn memory(bytes: Vec<u8>, stamp: u64) -> Extent {
    let bytes = Bytes::from(bytes);
    Extent { len: bytes.len() as u64, place: Place::memory(bytes, stamp), journaled: false }
}

/// The bytes that the extents show over a base of 0xBB.
fn flatten(extents: &Extents, len: usize) -> Vec<u8> {
    let limit = extents.base_limit().min(len as u64) as usize;
    let mut bytes = vec![0; len];
    bytes[..limit].fill(0xBB);
    for (offset, extent) in extents.range(0, len as u64) {
        let start = offset as usize;
        let end = start + extent.len as usize;
        match extent.place {
            Place::Memory { bytes: part, .. } => bytes[start..end].copy_from_slice(&part),
            _ => bytes[start..end].fill(0),
        }
    }
    bytes
}

/// The sets of what is not journaled, and of what can still be cut, and how long that is, are what the extents themselves say.
fn assert_that_what_waits_is_known(extents: &Extents) {
    let those = |so: fn(&Extent) -> bool| -> Vec<u64> {
        extents.iter().filter(|(_, extent)| so(extent)).map(|(offset, _)| offset).collect()
    };
    assert!(extents.pending.iter().eq(&those(|extent| !extent.journaled)));
    assert!(extents.open.iter().eq(&those(Extent::is_open)));
    let open = extents.iter().filter(|(_, extent)| extent.is_open());
    assert_eq!(extents.open_bytes(), open.map(|(_, extent)| extent.len).sum::<u64>());
}

#[test]
fn random_writes_and_truncations_match_an_array() {
    for seed in 0..200 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut extents = Extents::default();
        let mut model = vec![0xBB_u8; 1000];
        for stamp in 0..60 {
            let from = rng.random_range(0..1000_usize);
            let to = rng.random_range(from..=1000.min(from + 200));
            if rng.random_bool(0.15) {
                extents.truncate(from as u64);
                model[from..].fill(0);
            } else {
                let value = rng.random_range(1..=100);
                extents.insert(from as u64, memory(vec![value; to - from], stamp));
                model[from..to].fill(value);
            }
            match rng.random_range(0..4) {
                0 => extents.set_journaled(from as u64, to as u64),
                1 => {
                    extents.set_claimed(from as u64, to as u64, &[stamp, stamp.saturating_sub(1)], rng.random_bool(0.7))
                }
                _ => {}
            }
            assert_eq!(flatten(&extents, 1000), model, "seed {seed}, step {stamp}");
            assert_that_what_waits_is_known(&extents);
        }
        let held: u64 = extents.iter().map(|(_, extent)| extent.len).sum();
        assert_eq!(extents.memory_bytes(), held + extents.map.len() as u64 * EXTENT_OVERHEAD_BYTES);
        let mut end = 0;
        for (offset, extent) in extents.iter() {
            assert!(offset >= end && extent.len > 0, "seed {seed}: overlap or empty extent at {offset}");
            end = offset + extent.len;
        }
    }
}

#[test]
fn a_run_is_found_behind_an_anchor_or_when_it_is_long() {
    let mut extents = Extents::default();
    extents.insert(100, memory(vec![1; 50], 1));
    assert!(extents.find_run(120, at_least(10, 60), 1000).is_none(), "not anchored and not long");
    let run = extents.find_run(120, at_least(10, 50), 150).expect("long enough without an anchor");
    assert_eq!((run.offset, run.len(), run.to_end), (100, 50, true));
    extents.insert(0, memory(vec![1; 100], 2));
    let run = extents.find_run(120, at_least(150, 1000), 1000).expect("both writes join");
    assert_eq!((run.offset, run.len(), run.to_end), (0, 150, false));
    assert_eq!(run.stamps, vec![2, 1]);
    extents.set_claimed(0, 120, &run.stamps, true);
    assert!(extents.find_run(50, at_least(10, 10), 1000).is_none(), "claimed already");
    let run =
        extents.find_run(149, at_least(10, 1000), 1000).expect("what was left behind the claim is anchored by it");
    assert_eq!((run.offset, run.len()), (120, 30));
    assert_eq!(extents.next_open(0), Some(120));
}

#[test]
fn a_late_cutter_does_not_undo_a_newer_write() {
    let mut extents = Extents::default();
    extents.insert(0, memory(vec![1; 100], 1));
    let stamps = [1];
    extents.set_claimed(0, 100, &stamps, true);
    extents.insert(50, memory(vec![2; 10], 2));
    let hole = || Place::Hole;
    assert!(!extents.replace_claimed(0, 60, hole(), &stamps), "the newer write lies within");
    assert!(extents.replace_claimed(0, 50, hole(), &stamps));
    assert!(extents.replace_claimed(60, 40, hole(), &stamps));
    extents.truncate(0);
    assert!(!extents.replace_claimed(0, 50, hole(), &stamps), "truncated meanwhile");
}

#[test]
fn what_is_cut_after_it_was_journaled_counts_as_journaled() {
    let mut extents = Extents::default();
    extents.insert(0, memory(vec![1; 100], 1));
    let stamps = [1];
    extents.set_claimed(0, 100, &stamps, true);
    assert_eq!(extents.pending().len(), 1);
    extents.set_journaled(0, 100);
    assert!(extents.replace_claimed(0, 100, Place::Hole, &stamps));
    assert!(!extents.has_unjournaled());
    assert!(extents.pending().is_empty());
}

/// A buffer that tells when nobody has a slice of it any more.
struct Watched(Vec<u8>, std::sync::Arc<std::sync::atomic::AtomicBool>);

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.1.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

fn watched(len: usize, stamp: u64) -> (Extent, impl Fn() -> bool) {
    let gone = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
    let bytes = Bytes::from_owner(Watched(vec![7; len], gone.clone()));
    let extent = Extent { len: len as u64, place: Place::memory(bytes, stamp), journaled: false };
    (extent, move || gone.load(std::sync::atomic::Ordering::Relaxed))
}

#[test]
fn what_is_left_of_a_write_does_not_keep_its_buffer() {
    let mut extents = Extents::default();
    let (first, gone) = watched(1000, 1);
    extents.insert(0, first);
    extents.insert(1, memory(vec![9; 1000], 2));
    assert!(gone(), "overwritten but for a byte");
    let (second, gone) = watched(1000, 3);
    extents.insert(2000, second);
    extents.truncate(2001);
    assert!(gone(), "cut off but for a byte");
    assert_eq!(flatten(&extents, 2001)[..2], [7, 9]);
    assert_eq!(flatten(&extents, 2001)[2000], 7);
}

#[test]
fn a_buffer_that_is_overwritten_piece_by_piece_is_not_copied_for_each() {
    let mut extents = Extents::default();
    extents.insert(0, memory(vec![7; 1 << 20], 1));
    let mut copies = 0;
    let mut rest = None;
    for piece in 0..256_u64 {
        extents.insert(piece * 4096, memory(vec![9; 4096], 2 + piece));
        let next = extents.range((piece + 1) * 4096, 1 << 20).next().map(|(_, extent)| match extent.place {
            Place::Memory { bytes, .. } => bytes.as_ptr_range().end,
            _ => unreachable!("only memory was put there"),
        });
        copies += u32::from(next != rest && rest.is_some());
        rest = next;
    }
    assert!(copies <= 10, "copied {copies} times");
}

#[test]
fn the_end_of_a_run_that_was_cut_does_not_keep_its_buffer() {
    let mut extents = Extents::default();
    let (write, gone) = watched(1000, 1);
    extents.insert(0, write);
    extents.set_claimed(0, 1000, &[1], true);
    extents.set_claimed(900, 1000, &[1], false);
    assert!(extents.replace_claimed(0, 500, Place::Hole, &[1]));
    assert!(extents.replace_claimed(500, 400, Place::Hole, &[1]));
    assert!(gone(), "only its last tenth is still in memory");
    assert_eq!(flatten(&extents, 1000)[900..], [7; 100]);
}

#[test]
fn a_run_ends_where_it_cannot_be_cut_any_more() {
    let mut extents = Extents::default();
    (0..10).for_each(|at| extents.insert(at, memory(vec![1], at)));
    extents.insert(20, memory(vec![1; 5], 20));
    assert_eq!((extents.open_end(0), extents.open_end(4), extents.open_end(20)), (10, 10, 25));
    extents.set_journaled(6, 7);
    assert_eq!(extents.open_end(0), 6);
}
