//! Cutting against its promises: canonical, without memory, settled by a chunk's own bytes.

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;

/// One chunk (its length, and what ended it) or hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Chunk(usize, Ending),
    Hole(u64),
}

impl Part {
    fn len(self) -> u64 {
        match self {
            Part::Chunk(len, _) => len as u64,
            Part::Hole(len) => len,
        }
    }
}

fn join(parts: impl IntoIterator<Item = Part>) -> Vec<Part> {
    let mut joined: Vec<Part> = Vec::new();
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Hole(before)), Part::Hole(len)) => *before += len,
            _ => joined.push(part),
        }
    }
    joined
}

/// Cuts all of `bytes`, which lie at `at` in their content, in one go.
fn cut_whole(cutter: &Cutter, bytes: &[u8], at: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let (mut from, mut open_hole) = (0, false);
    while from < bytes.len() {
        let part = match cutter.next(&bytes[from..], at + from as u64, open_hole, true) {
            Cut::Chunk { len, ending } => Part::Chunk(len, ending),
            Cut::Hole(len) => Part::Hole(len as u64),
            Cut::NeedMore => panic!("undecided at the end"),
        };
        open_hole = matches!(part, Part::Hole(_));
        from += part.len() as usize;
        parts.push(part);
    }
    join(parts)
}

/// Cuts all of `bytes` handed in as pieces that end at `ends`; pieces of zeros go in as numbers where `virtual_zeros`.
fn cut_pieces(cutter: &Cutter, bytes: &[u8], ends: &[usize], virtual_zeros: bool) -> Vec<Part> {
    let (mut feed, mut parts, mut rebuilt) = (Feed::new(0), Vec::new(), Vec::new());
    let mut drain = |feed: &mut Feed| {
        loop {
            match feed.next(cutter) {
                Fed::Chunk { bytes, ending } => {
                    parts.push(Part::Chunk(bytes.len(), ending));
                    rebuilt.extend_from_slice(&bytes);
                }
                Fed::Hole(len) => {
                    parts.push(Part::Hole(len));
                    rebuilt.resize(rebuilt.len() + len as usize, 0);
                }
                Fed::NeedMore | Fed::End => break,
            }
        }
    };
    let mut from = 0;
    for end in ends.iter().copied().chain([bytes.len()]) {
        let end = end.clamp(from, bytes.len());
        let piece = &bytes[from..end];
        if virtual_zeros && piece.iter().all(|byte| *byte == 0) {
            feed.push_zeros(piece.len() as u64);
        } else {
            feed.push(Bytes::copy_from_slice(piece));
        }
        assert!(
            feed.queued_bytes() <= (piece.len() + cutter.window_bytes()) as u64,
            "more was held back than a window"
        );
        drain(&mut feed);
        from = end;
    }
    feed.end();
    drain(&mut feed);
    assert_eq!(feed.at(), bytes.len() as u64);
    assert!(rebuilt == bytes, "bytes changed on the way");
    join(parts)
}

fn sizes() -> ChunkSizes {
    ChunkSizes::around(4096).unwrap()
}

/// Noise, repetition and runs of zeros of awkward lengths.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let run = rng.random_range(1..12_000);
        let at = bytes.len();
        bytes.resize(at + run, 0);
        match rng.random_range(0..4) {
            0 => {}
            1 => bytes[at..].fill(rng.random()),
            _ => rng.fill_bytes(&mut bytes[at..]),
        }
        if rng.random_bool(0.2) {
            bytes.resize(bytes.len() + *[1, 4095, 4096, 4097, 70_000].get(rng.random_range(0..5)).unwrap(), 0);
        }
    }
    bytes.truncate(len);
    bytes
}

fn cutters() -> [Cutter; 2] {
    [Cutter::new(sizes()), Cutter::new(sizes()).with_boundary_every(64 << 10)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::tree::testing::cases(48)))]

    #[test]
    fn pieces_change_no_cut(seed: u64, len in 0usize..300_000, ends in prop::collection::vec(0usize..300_000, 0..40)) {
        let bytes = content(seed, len);
        let mut ends = ends;
        ends.sort_unstable();
        for cutter in cutters() {
            let whole = cut_whole(&cutter, &bytes, 0);
            prop_assert_eq!(&cut_pieces(&cutter, &bytes, &ends, false), &whole);
            prop_assert_eq!(&cut_pieces(&cutter, &bytes, &ends, true), &whole);
        }
    }

    #[test]
    fn cutting_anew_at_any_cut_gives_the_same_cuts(seed: u64, len in 0usize..200_000) {
        let bytes = content(seed, len);
        for cutter in cutters() {
            let whole = cut_whole(&cutter, &bytes, 0);
            let mut at = 0;
            for (index, part) in whole.iter().enumerate() {
                prop_assert_eq!(&cut_whole(&cutter, &bytes[at..], at as u64)[..], &whole[index..]);
                at += part.len() as usize;
            }
        }
    }

    #[test]
    fn a_settled_chunk_stays_one_whatever_follows(seed: u64, other: u64, len in 0usize..200_000) {
        let bytes = content(seed, len);
        let cutter = Cutter::new(sizes());
        let mut at = 0;
        for part in cut_whole(&cutter, &bytes, 0) {
            let end = at + part.len() as usize;
            if let Part::Chunk(len, Ending::Own) = part {
                let mut changed = bytes[at..end].to_vec();
                prop_assert_eq!(cutter.next(&changed, 0, false, false), Cut::Chunk { len, ending: Ending::Own });
                changed.extend(content(other, 9000));
                prop_assert_eq!(cutter.next(&changed, 0, false, false), Cut::Chunk { len, ending: Ending::Own });
            }
            at = end;
        }
    }

    #[test]
    fn parts_keep_their_bounds(seed: u64, len in 0usize..300_000) {
        let bytes = content(seed, len);
        for cutter in cutters() {
            let mut at = 0;
            for part in cut_whole(&cutter, &bytes, 0) {
                let end = at + part.len() as usize;
                match part {
                    Part::Hole(_) => prop_assert!(bytes[at..end].iter().all(|byte| *byte == 0)),
                    Part::Chunk(len, ending) => {
                        prop_assert!(len <= sizes().max_bytes());
                        prop_assert!(ending != Ending::Own || len > sizes().min_bytes());
                        prop_assert_eq!(zeros::first_run(&bytes[at..end]), None);
                        if let Some(every) = cutter.boundary_every() {
                            prop_assert!(at as u64 / every == (end as u64 - 1) / every, "a chunk crosses a boundary");
                        }
                    }
                }
                at = end;
            }
        }
    }
}

#[test]
fn terabytes_of_zeros_cost_nothing() {
    for cutter in cutters() {
        let mut feed = Feed::new(0);
        feed.push(Bytes::from_static(b"front"));
        feed.push_zeros(16 << 40);
        feed.push(Bytes::from_static(b"back"));
        feed.end();
        let mut parts = Vec::new();
        loop {
            match feed.next(&cutter) {
                Fed::Chunk { bytes, ending } => parts.push(Part::Chunk(bytes.len(), ending)),
                Fed::Hole(len) => parts.push(Part::Hole(len)),
                Fed::NeedMore => panic!("undecided at the end"),
                Fed::End => break,
            }
            assert!(parts.len() < 20);
        }
        let parts = join(parts);
        assert_eq!(
            parts[..2],
            [
                Part::Chunk(5, Ending::Hole),
                Part::Hole(if cutter.boundary_every().is_some() { (16 << 40) - 5 } else { 16 << 40 })
            ]
        );
    }
}

#[test]
fn one_byte_repeated_gives_chunks_of_the_largest_size() {
    let bytes = vec![0x55; 1 << 20];
    let parts = cut_whole(&Cutter::new(sizes()), &bytes, 0);
    assert_eq!(parts, vec![Part::Chunk(sizes().max_bytes(), Ending::Own); (1 << 20) / sizes().max_bytes()]);
}

#[test]
fn no_chunk_is_ended_within_zeros_by_its_own_bytes() {
    for sizes in (12..=18).map(|bits| ChunkSizes::around(1 << bits).unwrap()).chain([ChunkSizes::TINY]) {
        let cutter = Cutter::new(sizes);
        assert_eq!(cutter.next(&[0; ZERO_RUN_BYTES - 1], 0, false, false), Cut::NeedMore, "{sizes:?}");
        let end = Cut::Chunk { len: ZERO_RUN_BYTES - 1, ending: Ending::End };
        assert_eq!(cutter.next(&[0; ZERO_RUN_BYTES - 1], 0, false, true), end, "{sizes:?}");
    }
}

/// Cuts are part of what boxes agree on. If this test fails after an upgrade of the hash, stores would stop sharing
/// with what they hold already: do not change the numbers.
#[test]
fn example_of_the_page_is_what_is_cut() {
    let mut state = 1u64;
    let bytes: Vec<u8> = (0..200_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    let page = include_str!("../../../docs/formats/cutting.md");
    for avg in [8, 16, 32, 64] {
        let lens: Vec<String> = cut_whole(&Cutter::new(ChunkSizes::around(avg << 10).unwrap()), &bytes, 0)
            .into_iter()
            .map(|part| part.len().to_string())
            .collect();
        let line = format!("{avg} KiB: {}", lens.join(" "));
        assert!(page.contains(&line), "the page lacks {line:?}");
    }
}
