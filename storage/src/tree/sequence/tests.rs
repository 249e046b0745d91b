//! Sequence trees against a `Vec<u8>`: what is spliced together equals what is cut from scratch.

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};

use super::*;
use crate::Error;
use crate::chunk::{ChunkSizes, Cut, Cutter, Ending};
use crate::name::{Kind, Name};
use crate::tree::Objects;
use crate::tree::testing::{TestObjects, cases};

fn cutters() -> [Cutter; 4] {
    let small = ChunkSizes::around(4096).unwrap();
    [
        Cutter::new(ChunkSizes::TINY),
        Cutter::new(ChunkSizes::TINY).with_boundary_every(64 << 10),
        Cutter::new(small),
        Cutter::new(small).with_boundary_every(64 << 10),
    ]
}

/// Noise, repeated bytes, and runs of zeros of awkward lengths, often at awkward places.
fn noise(rng: &mut SmallRng, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    while bytes.len() < len {
        let at = bytes.len();
        match rng.random_range(0..6u8) {
            0 => bytes.resize(at + [1, 100, 4095, 4096, 4097, 9000, 140_000][rng.random_range(0..7)], 0),
            1 => {
                bytes.resize(at + rng.random_range(1..3000), rng.random::<u8>() & 1);
            }
            _ => {
                bytes.resize(at + rng.random_range(1..20_000), 0);
                rng.fill_bytes(&mut bytes[at..]);
            }
        }
    }
    bytes.truncate(len);
    bytes
}

/// The entries of `bytes` as the rules say: cut one by one, holes joined.
fn entries_of(objects: &TestObjects, cutter: &Cutter, bytes: &[u8]) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut at, mut open_hole) = (0, false);
    while at < bytes.len() {
        let entry = match cutter.next(&bytes[at..], at as u64, open_hole, true) {
            Cut::Chunk { len, .. } if len <= INLINE_BYTES_MAX => {
                Entry::Inline(Bytes::copy_from_slice(&bytes[at..at + len]))
            }
            Cut::Chunk { len, .. } => {
                Entry::Chunk { name: objects.realm().name(Kind::Chunk, &bytes[at..at + len]), len: len as u32 }
            }
            Cut::Hole(len) => Entry::Hole(len as u64),
            Cut::NeedMore => panic!("undecided at the end"),
        };
        at += entry.len() as usize;
        open_hole = matches!(entry, Entry::Hole(_));
        match (entries.last_mut(), &entry) {
            (Some(Entry::Hole(before)), Entry::Hole(len)) => *before += len,
            _ => entries.push(entry),
        }
    }
    entries
}

fn apply<'p>(
    objects: &TestObjects,
    cutter: &Cutter,
    base: &Content,
    patches: impl IntoIterator<Item = Patch<'p>>,
    new_len: u64,
) -> (Content, SpliceStats) {
    splice(objects, cutter, &mut |chunks| objects.put_chunks(chunks), base, patches, new_len).unwrap()
}

fn whole(bytes: &[u8]) -> Option<Patch<'static>> {
    Some(Patch { offset: 0, len: bytes.len() as u64, source: Source::Bytes(Bytes::copy_from_slice(bytes)) })
}

pub(super) fn build(objects: &TestObjects, cutter: &Cutter, bytes: &[u8]) -> Content {
    apply(objects, cutter, &Content::empty(), whole(bytes), bytes.len() as u64).0
}

fn bytes_of(objects: &TestObjects, pieces: Pieces) -> Vec<u8> {
    let mut bytes = Vec::new();
    for piece in pieces {
        match piece.unwrap() {
            Piece::Chunk { name, skip, len, chunk_len } => {
                let chunk = objects.read(Kind::Chunk, &name).unwrap();
                assert_eq!(chunk.len(), chunk_len as usize);
                bytes.extend_from_slice(&chunk[skip as usize..(skip + len) as usize]);
            }
            Piece::Hole(len) => bytes.resize(bytes.len() + len as usize, 0),
            Piece::Inline(inline) => bytes.extend_from_slice(&inline),
        }
    }
    bytes
}

/// Checks a content against the bytes that it should be: entries, form, encoding, and what is read.
fn check(objects: &TestObjects, cutter: &Cutter, content: &Content, bytes: &[u8]) {
    let want = entries_of(objects, cutter, bytes);
    let got: Vec<(u64, Entry)> = entries(objects, content, 0).map(Result::unwrap).collect();
    let mut at = 0;
    for (index, (entry, want)) in got.iter().zip(&want).enumerate() {
        assert_eq!((entry.0, &entry.1), (at, want), "entry {index}");
        at += want.len();
    }
    assert_eq!(got.len(), want.len());
    assert_eq!(content, &build(objects, cutter, bytes), "not what cutting from scratch gives");
    assert_eq!(content.len(), bytes.len() as u64);
    assert_eq!(content.data_len(), want.iter().map(Entry::data_len).sum::<u64>());
    assert!(bytes_of(objects, read(objects, content, 0, u64::MAX)) == bytes);
    let encoded = content.encode();
    assert!(encoded.len() <= Content::ENCODED_BYTES_MAX);
    assert_eq!(Content::decode(&encoded.into()).as_ref(), Ok(content));
}

/// The bytes between two offsets, as far as there are any.
fn part(bytes: &[u8], from: usize, to: usize) -> &[u8] {
    &bytes[from.min(bytes.len())..to.min(bytes.len())]
}

/// One change and its bytes.
fn patch(
    rng: &mut SmallRng,
    objects: &TestObjects,
    cutter: &Cutter,
    offset: u64,
    len: usize,
) -> Vec<(Patch<'static>, Vec<u8>)> {
    let one = |bytes: Vec<u8>, source| vec![(Patch { offset, len: bytes.len() as u64, source }, bytes)];
    match rng.random_range(0..7u8) {
        0 => one(vec![0; len], Source::Hole),
        1 => one(vec![0; len], Source::Bytes(vec![0; len].into())),
        2 => {
            let bytes = noise(rng, len);
            let shared = Bytes::from(bytes.clone());
            one(bytes, Source::Later(Box::new(move |at, len| Ok(shared.slice(at as usize..at as usize + len)))))
        }
        3 => {
            // A part of a stored chunk.
            let (before, behind) = (rng.random_range(0..300), rng.random_range(0..300));
            let chunk = noise(rng, before + len.min(50_000) + behind);
            let name = objects.put(Kind::Chunk, &chunk).unwrap();
            let bytes = chunk[before..chunk.len() - behind].to_vec();
            one(bytes, Source::Chunk { name, skip: before as u32, chunk_len: chunk.len() as u32, cut: None })
        }
        4 => {
            // What ingest has cut, some of it lost again.
            let stream = noise(rng, len);
            let (mut patches, mut at, mut open_hole) = (Vec::new(), 0, false);
            while at < stream.len() {
                let start = offset + at as u64;
                let cut = cutter.next(&stream[at..], start, open_hole, true);
                let (len, source) = match cut {
                    Cut::Hole(len) => (len, Source::Hole),
                    Cut::Chunk { len, ending } => {
                        let name = objects.put(Kind::Chunk, &stream[at..at + len]).unwrap();
                        (len, Source::Chunk { name, skip: 0, chunk_len: len as u32, cut: Some(ending) })
                    }
                    Cut::NeedMore => panic!("undecided at the end"),
                };
                open_hole = matches!(cut, Cut::Hole(_));
                if rng.random_bool(0.95) {
                    patches.push((Patch { offset: start, len: len as u64, source }, stream[at..at + len].to_vec()));
                }
                at += len;
            }
            patches
        }
        _ => {
            let bytes = noise(rng, len);
            one(bytes.clone(), Source::Bytes(bytes.into()))
        }
    }
}

/// Some changes, and what they make of `bytes`.
fn change(rng: &mut SmallRng, objects: &TestObjects, cutter: &Cutter, bytes: &[u8]) -> (Vec<Patch<'static>>, Vec<u8>) {
    let mut after = bytes.to_vec();
    let new_len = match rng.random_range(0..5u8) {
        0 => rng.random_range(0..=bytes.len()),
        1 => bytes.len() + [1, 4095, 4096, 70_000][rng.random_range(0..4)],
        2 => bytes.len() + rng.random_range(0..30_000),
        _ => bytes.len(),
    };
    after.resize(new_len, 0);
    let mut patches = Vec::new();
    // Offsets are often cuts of the old content, or just beside one: that is where mistakes hide.
    let mut cuts = vec![0];
    for entry in entries_of(objects, cutter, bytes) {
        cuts.push(cuts[cuts.len() - 1] + entry.len() as usize);
    }
    let mut from = 0;
    for _ in 0..rng.random_range(0..8) {
        if from >= new_len {
            break;
        }
        let near = cuts[rng.random_range(0..cuts.len())] + rng.random_range(0..3);
        let at = match rng.random_range(0..4u8) {
            0 => near.saturating_sub(1),
            1 => near.saturating_sub([4095, 4096, 4097][rng.random_range(0..3)]),
            2 => from,
            _ => rng.random_range(from..new_len),
        };
        let at = at.clamp(from, new_len);
        let len = [1, 10, 4096, 5000, 20_000, 200_000][rng.random_range(0..6)].min(new_len - at);
        for (patch, new) in patch(rng, objects, cutter, at as u64, len) {
            let at = patch.offset as usize;
            after[at..at + new.len()].copy_from_slice(&new);
            from = at + new.len();
            patches.push(patch);
        }
    }
    (patches, after)
}

#[test]
fn a_hole_that_a_boundary_ended_goes_on_behind_it() {
    // One zero byte behind the boundary is a chunk; many are a part of the hole before it, also where that hole ends a node,
    // as the mark of one length in 64 makes it.
    let (objects, cutter) = (TestObjects::new(), Cutter::new(ChunkSizes::TINY).with_boundary_every(64 << 10));
    let mut rng = SmallRng::seed_from_u64(1);
    for data in (40_000..40_300).chain(100_000..100_300) {
        let mut bytes = vec![0; data];
        rng.fill_bytes(&mut bytes);
        bytes.resize(131_072 + 1, 0);
        let old = build(&objects, &cutter, &bytes);
        for len in [131_072 + 4095, 131_072 + 4096, 200_000] {
            bytes.resize(len, 0);
            let (grown, _) = apply(&objects, &cutter, &old, None, len as u64);
            assert_eq!(grown, build(&objects, &cutter, &bytes), "{data} bytes and zeros up to {len}");
        }
        bytes.truncate(131_072 + 1);
        let zeros = Patch { offset: 131_073, len: 10_000, source: Source::Bytes(vec![0; 10_000].into()) };
        bytes.resize(131_073 + 10_000, 0);
        let (written, _) = apply(&objects, &cutter, &old, Some(zeros), bytes.len() as u64);
        assert_eq!(written, build(&objects, &cutter, &bytes), "{data} bytes, zeros written");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(48)))]

    #[test]
    fn splicing_gives_what_cutting_from_scratch_gives(seed: u64, len in 0usize..600_000, rounds in 1usize..5) {
        let mut rng = SmallRng::seed_from_u64(seed);
        for cutter in cutters() {
            let objects = TestObjects::new();
            let mut bytes = noise(&mut rng, len);
            let mut content = build(&objects, &cutter, &bytes);
            check(&objects, &cutter, &content, &bytes);
            for _ in 0..rounds {
                let (patches, after) = change(&mut rng, &objects, &cutter, &bytes);
                content = apply(&objects, &cutter, &content, patches, after.len() as u64).0;
                bytes = after;
                check(&objects, &cutter, &content, &bytes);
            }
        }
    }

    #[test]
    fn reading_anywhere_gives_the_bytes_there(seed: u64, len in 0usize..400_000) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let bytes = noise(&mut rng, len);
        let content = build(&objects, &Cutter::new(ChunkSizes::TINY), &bytes);
        for _ in 0..40 {
            let from = rng.random_range(0..=len + 10);
            let count = rng.random_range(0..=20_000);
            let got = bytes_of(&objects, read(&objects, &content, from as u64, count as u64));
            prop_assert!(got == part(&bytes, from, from + count));
        }
    }

    #[test]
    fn differences_cover_what_differs_and_little_else(seed: u64, len in 0usize..600_000) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let cutter = Cutter::new(ChunkSizes::TINY);
        let old = noise(&mut rng, len);
        let (_, new) = change(&mut rng, &objects, &cutter, &old);
        let contents = (build(&objects, &cutter, &old), build(&objects, &cutter, &new));
        let (mut end, mut covered) = (0, 0);
        for range in diff(&objects, &contents.0, &contents.1) {
            let range = range.unwrap();
            let (from, to) = (range.start as usize, range.end as usize);
            prop_assert!(from < to && (end < from || end == 0));
            prop_assert!(part(&old, end, from) == part(&new, end, from), "a difference was missed");
            end = to;
            covered += to - from;
        }
        prop_assert!(part(&old, end, usize::MAX) == part(&new, end, usize::MAX), "a difference was missed");
        let different = old.iter().zip(&new).filter(|(one, other)| one != other).count() + old.len().abs_diff(new.len());
        // Each change reaches to the next cuts, and cutting needs a few chunks to meet old cuts again.
        prop_assert!(covered <= different + 40 * 16 * ChunkSizes::TINY.max_bytes(), "{covered} for {different}");
    }

    #[test]
    fn bytes_that_are_no_node_or_content_are_told(seed: u64, len in 1usize..100_000, harm in 0u8..4) {
        let (mut rng, objects) = (SmallRng::seed_from_u64(seed), TestObjects::new());
        let content = build(&objects, &Cutter::new(ChunkSizes::TINY), &noise(&mut rng, len));
        let mut encodings = vec![content.encode()];
        if let Some(root) = content.root() {
            encodings.push(objects.read(Kind::SequenceNode, &root).unwrap().to_vec());
        }
        for mut bytes in encodings {
            let at = rng.random_range(0..bytes.len());
            match harm {
                0 => bytes.truncate(at),
                1 => bytes[at] = rng.random(),
                2 => bytes.insert(at, rng.random()),
                _ => bytes[at.min(2)..].iter_mut().for_each(|byte| *byte = rng.random()),
            }
            let bytes = Bytes::from(bytes);
            if let Ok(content) = Content::decode(&bytes) {
                prop_assert_eq!(content.encode(), bytes.to_vec(), "two encodings of one content");
            }
            if let Ok(node) = Node::decode(&bytes) {
                prop_assert_eq!(&encode_again(&node)[12..], &bytes[12..], "two encodings of one node");
            }
        }
    }
}

fn encode_again(node: &Node) -> Vec<u8> {
    match &node.items {
        Items::Entries(entries) => format::encode_leaf(entries.len(), entries.iter()),
        Items::Children(children) => format::encode_inner(node.level, children.len(), children.iter()),
    }
}

/// A content of `len` bytes without zeros, its bytes, and where they are kept.
fn large(len: usize, cutter: &Cutter) -> (TestObjects, Vec<u8>, Content) {
    let objects = TestObjects::new();
    let mut bytes = vec![0; len];
    SmallRng::seed_from_u64(9).fill_bytes(&mut bytes);
    let content = build(&objects, cutter, &bytes);
    (objects, bytes, content)
}

#[test]
fn a_small_change_to_a_large_content_costs_its_neighbourhood_and_a_path() {
    let cutter = Cutter::new(ChunkSizes::TINY);
    let (objects, bytes, content) = large(16 << 20, &cutter);
    let root = Node::decode(&objects.read(Kind::SequenceNode, &content.root().unwrap()).unwrap()).unwrap();
    assert_eq!(root.level, 2, "the test wants a deep tree");
    let mut rng = SmallRng::seed_from_u64(2);
    for _ in 0..100 {
        objects.take_tally();
        let at = rng.random_range(0..bytes.len() - 100);
        let patch = Patch { offset: at as u64, len: 100, source: Source::Bytes(Bytes::from_static(&[7; 100])) };
        let (changed, stats) = apply(&objects, &cutter, &content, Some(patch), content.len());
        let tally = objects.take_tally();
        assert!(stats.cut_chunks <= 24 && tally.chunk_reads <= 24, "{stats:?} {tally:?}");
        assert!(tally.node_reads <= 20 && tally.node_puts <= 8, "{tally:?}");
        let differences: Vec<_> = diff(&objects, &content, &changed).map(Result::unwrap).collect();
        assert!(differences.iter().any(|range| range.contains(&(at as u64))));
        let tally = objects.take_tally();
        assert!(tally.node_reads <= 20 && tally.chunk_reads == 0, "{tally:?}");
        let count = bytes_of(&objects, read(&objects, &changed, at as u64, 100)).len();
        assert!(count == 100 && objects.take_tally().node_reads <= 6);
    }
    // Growing at the end, and cutting off there, is no dearer.
    let grown = Patch { offset: content.len(), len: 1, source: Source::Bytes(Bytes::from_static(b"!")) };
    let (grown, _) = apply(&objects, &cutter, &content, Some(grown), content.len() + 1);
    let (cut_off, _) = apply(&objects, &cutter, &grown, None, content.len());
    assert_eq!(cut_off, content);
    let tally = objects.take_tally();
    assert!(tally.node_reads <= 40 && tally.node_puts <= 16 && tally.chunk_reads <= 8, "{tally:?}");
}

#[test]
fn many_changes_in_one_splice_share_batches_and_paths() {
    let cutter = Cutter::new(ChunkSizes::TINY);
    let (objects, mut bytes, content) = large(4 << 20, &cutter);
    let patches: Vec<_> = (0..64u64)
        .map(|n| Patch { offset: n * 65_536 + 777, len: 512, source: Source::Bytes(vec![n as u8 + 1; 512].into()) })
        .collect();
    for patch in &patches {
        bytes[patch.offset as usize..][..512].fill((patch.offset / 65_536) as u8 + 1);
    }
    objects.take_tally();
    let mut batches = 0;
    let put = &mut |chunks: &[&[u8]]| {
        batches += 1;
        objects.put_chunks(chunks)
    };
    let (changed, _) = splice(&objects, &cutter, put, &content, patches, content.len()).unwrap();
    assert_eq!(batches, 1, "chunks are put in batches");
    let tally = objects.take_tally();
    assert!(tally.node_reads <= 3 * 80 && tally.chunk_reads <= 64 * 8, "{tally:?}");
    check(&objects, &cutter, &changed, &bytes);
}

#[test]
fn chunks_that_ingest_has_cut_are_not_read() {
    for cutter in cutters() {
        let objects = TestObjects::new();
        let bytes = noise(&mut SmallRng::seed_from_u64(5), 1 << 20);
        let (mut patches, mut at, mut open_hole) = (Vec::new(), 0usize, false);
        while at < bytes.len() {
            let offset = at as u64;
            let cut = cutter.next(&bytes[at..], offset, open_hole, true);
            open_hole = matches!(cut, Cut::Hole(_));
            let (len, source) = match cut {
                Cut::Hole(len) => (len, Source::Hole),
                Cut::Chunk { len, ending } => {
                    let name = objects.put(Kind::Chunk, &bytes[at..at + len]).unwrap();
                    (len, Source::Chunk { name, skip: 0, chunk_len: len as u32, cut: Some(ending) })
                }
                Cut::NeedMore => panic!("undecided at the end"),
            };
            patches.push(Patch { offset, len: len as u64, source });
            at += len;
        }
        objects.take_tally();
        let (content, stats) = apply(&objects, &cutter, &Content::empty(), patches, bytes.len() as u64);
        assert!(stats.accepted_bytes > 3 * stats.reread_bytes, "{stats:?}");
        check(&objects, &cutter, &content, &bytes);
    }
}

#[test]
fn a_chunk_claimed_to_end_by_itself_is_taken_and_others_are_read() {
    let (objects, cutter) = (TestObjects::new(), Cutter::new(ChunkSizes::TINY));
    let name = objects.put(Kind::Chunk, &[5; 1000]).unwrap();
    for (ending, accepted) in [(Some(Ending::Own), 1), (Some(Ending::Hole), 0), (Some(Ending::End), 0), (None, 0)] {
        let chunk =
            Patch { offset: 0, len: 1000, source: Source::Chunk { name, skip: 0, chunk_len: 1000, cut: ending } };
        let rest = Patch { offset: 1000, len: 1000, source: Source::Bytes(vec![6; 1000].into()) };
        let (_, stats) = apply(&objects, &cutter, &Content::empty(), [chunk, rest], 2000);
        assert_eq!(stats.accepted_chunks, accepted, "{ending:?}");
        assert_eq!(stats.reread_bytes, 1000 * (1 - accepted));
    }
}

#[test]
fn the_largest_hole_costs_nothing() {
    for cutter in cutters() {
        let objects = TestObjects::new();
        let size = 16 << 40;
        let (content, _) = apply(&objects, &cutter, &Content::empty(), None, size);
        assert_eq!(content.encode().len(), 2 + 7);
        let patch = Patch { offset: 8 << 40, len: 3, source: Source::Bytes(Bytes::from_static(b"boo")) };
        let (content, stats) = apply(&objects, &cutter, &content, Some(patch), size);
        assert_eq!((content.len(), content.root()), (size, None));
        assert!(stats.cut_chunks <= 1 && content.data_len() <= 4096, "{content:?}");
        let hole = Patch { offset: 0, len: size, source: Source::Hole };
        let (content, _) = apply(&objects, &cutter, &content, Some(hole), size);
        assert_eq!((content.data_len(), content.encode().len()), (0, 2 + 7));
        assert_eq!(apply(&objects, &cutter, &content, None, 0).0, Content::empty());
    }
}

#[test]
fn one_byte_repeated_stays_low_and_changes_well() {
    let cutter = Cutter::new(ChunkSizes::TINY);
    let objects = TestObjects::new();
    for byte in [1, 0x55, 0xFF] {
        let mut bytes = vec![byte; 6 << 20];
        let content = build(&objects, &cutter, &bytes);
        check(&objects, &cutter, &content, &bytes);
        let root = Node::decode(&objects.read(Kind::SequenceNode, &content.root().unwrap()).unwrap()).unwrap();
        assert!(root.level <= 2);
        bytes[3_000_000] = 2;
        let patch = Patch { offset: 3_000_000, len: 1, source: Source::Bytes(Bytes::from_static(&[2])) };
        let (changed, _) = apply(&objects, &cutter, &content, Some(patch), content.len());
        check(&objects, &cutter, &changed, &bytes);
    }
}

#[test]
fn patches_that_do_not_fit_are_refused() {
    let (objects, cutter) = (TestObjects::new(), Cutter::new(ChunkSizes::TINY));
    let bytes = |offset, len, real: usize| Patch { offset, len, source: Source::Bytes(vec![1; real].into()) };
    let chunk = |skip, len, chunk_len| {
        let name = Name::default();
        Patch { offset: 0, len, source: Source::Chunk { name, skip, chunk_len, cut: None } }
    };
    let refused = |patches: Vec<Patch<'static>>, new_len| {
        let put = &mut |chunks: &[&[u8]]| objects.put_chunks(chunks);
        matches!(splice(&objects, &cutter, put, &Content::empty(), patches, new_len), Err(Error::Refused(_)))
    };
    assert!(refused(vec![bytes(0, 10, 9)], 10));
    assert!(refused(vec![bytes(1, 10, 10)], 10));
    assert!(refused(vec![bytes(u64::MAX, 10, 10)], 10));
    assert!(refused(vec![bytes(5, 5, 5), bytes(9, 1, 1)], 10));
    assert!(refused(vec![bytes(5, 5, 5), bytes(0, 1, 1)], 10));
    assert!(refused(vec![chunk(5, 6, 10)], 10));
    assert!(refused(vec![chunk(0, 10, u32::MAX)], 10));
    assert!(refused(vec![], CONTENT_BYTES_MAX + 1));
    assert!(!refused(vec![bytes(5, 5, 5)], 10));
}

#[test]
fn a_chunk_of_another_length_and_a_node_of_another_sum_are_damage() {
    let cutter = Cutter::new(ChunkSizes::TINY);
    let (objects, _, content) = large(1 << 20, &cutter);
    let damaged = |result: Option<Error>| assert!(matches!(result, Some(Error::Damage(_))), "{result:?}");
    let first = entries(&objects, &content, 0).next().unwrap().unwrap().1;
    let Entry::Chunk { name, .. } = first else { panic!("noise begins with a chunk") };
    objects.corrupt(Kind::Chunk, &name, Bytes::from_static(b"short"));
    let patch = || Patch { offset: 1, len: 1, source: Source::Bytes(Bytes::from_static(b"!")) };
    let put = &mut |chunks: &[&[u8]]| objects.put_chunks(chunks);
    damaged(splice(&objects, &cutter, put, &content, Some(patch()), content.len()).err());
    let late = Patch { offset: 0, len: 9, source: Source::Later(Box::new(|_, _| Ok(Bytes::from_static(b"few")))) };
    damaged(splice(&objects, &cutter, put, &Content::empty(), Some(late), 9).err());

    let root = Node::decode(&objects.read(Kind::SequenceNode, &content.root().unwrap()).unwrap()).unwrap();
    let Items::Children(children) = root.items else { panic!("the test wants an inner root") };
    let other = objects.read(Kind::SequenceNode, &children[1].name).unwrap();
    let whole = objects.read(Kind::SequenceNode, &content.root().unwrap()).unwrap();
    for wrong in [other, whole, Bytes::from_static(b"NBsn")] {
        objects.corrupt(Kind::SequenceNode, &children[0].name, wrong);
        let mut found: Vec<_> = entries(&objects, &content, 0).collect();
        assert_eq!(found.len(), 1, "an error ends the listing");
        damaged(found.pop().and_then(Result::err));
    }
}
