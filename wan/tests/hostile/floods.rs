//! More of something than anybody has room for, said to a receiver.

use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_wan::sync::seam::{Sink, SnapshotOffer, Stored};
use narrowboat_wan::sync::{Input, Limits, OwnSnapshots, Worker};
use narrowboat_wan::wire::{Ask, AskPrefixes, Bundle, DATA_BYTES_MAX, FEATURES_KNOWN, Item, Message, Origin, Packing};

use super::memory::most;
use super::sessions::shelf::spans;
use super::sessions::side::ROOM;
use super::sessions::stage::office;
use super::{NO_ROOM, assert_refused, begun, begun_with, bundle, name, say};

/// What the window and the one frame beyond it may occupy, with what lies around each message.
fn windows(limits: &Limits) -> usize {
    limits.window_bytes as usize + DATA_BYTES_MAX + (DATA_BYTES_MAX >> 1)
}

#[test]
fn a_stream_of_objects_without_end_fills_no_more_than_the_window() {
    // In order, and with a gap in front that never closes; the disk takes nothing meanwhile.
    for gap in [0, 1] {
        let shelf = office();
        let limits = Limits { window_objects: 1 << 20, ..Limits::default() };
        let mut victim = begun(&shelf, FEATURES_KNOWN, limits.clone());
        let (sent, bytes) = most(|| {
            let mut sent = 0;
            while victim.session.outcome().is_none() {
                let content = vec![sent as u8; 64 << 10];
                say(&mut victim, Message::Bundle(bundle(sent + gap, vec![64 << 10], Packing::Raw, content)));
                victim.pump(NO_ROOM);
                sent += 1;
            }
            sent
        });
        assert!(sent < 200, "{sent} objects of 64 KiB");
        assert!(bytes < windows(&limits), "{bytes} bytes for a window of {}", limits.window_bytes);
        assert_refused(&mut victim, "objects without end");
        shelf.check();
    }
}

/// As many of the smallest objects as there may be cost more than their bytes: what is noted of each.
#[test]
fn the_smallest_objects_cost_what_is_noted_of_each() {
    let shelf = office();
    let limits = Limits::default();
    let mut victim = begun(&shelf, FEATURES_KNOWN, limits.clone());
    let ((), bytes) = most(|| {
        for number in 0.. {
            if victim.session.outcome().is_some() {
                break;
            }
            let message = bundle(4096 * number, vec![1; 4096], Packing::Raw, vec![0; 4096]);
            say(&mut victim, Message::Bundle(message));
            victim.pump(NO_ROOM);
        }
    });
    // 24 bytes of an item and 48 of what is expected of it, each vector up to twice as long as what is in it.
    assert!(bytes < 3 * 4096 * 2 * (24 + 48) + (1 << 20), "{bytes} bytes");
    assert_refused(&mut victim, "small objects without end");
}

#[test]
fn questions_without_end_fill_no_more_than_their_window() {
    // Nobody looks them up; and they are looked up, and nobody hears the answers.
    for looked_up in [false, true] {
        for by_prefix in [false, true] {
            let shelf = office();
            let limits = Limits::default();
            let mut victim = begun(&shelf, FEATURES_KNOWN, limits.clone());
            let (asked, bytes) = most(|| {
                let mut first = 1;
                while victim.session.outcome().is_none() {
                    let count = if by_prefix { 8000 } else { 1024 };
                    let numbers = first..first + count;
                    say(
                        &mut victim,
                        match by_prefix {
                            true => Message::AskPrefixes(AskPrefixes { first, prefixes: numbers.collect() }),
                            false => Message::Ask(Ask {
                                first,
                                names: numbers.map(|number| (Kind::Chunk, name(number))).collect(),
                            }),
                        },
                    );
                    first += count;
                    victim.pump(NO_ROOM);
                    while looked_up && !victim.jobs.is_empty() {
                        let job = victim.jobs.len();
                        victim.work(job);
                        victim.said.clear();
                    }
                }
                first
            });
            let most_names = u64::from(limits.window_names) + u64::from(limits.window_objects);
            assert!(asked <= most_names + 16_001 || looked_up, "{asked} names");
            // A name, its number, what is expected of it, twice: as a question, and as what is wanted.
            let bound = (most_names as usize + 16_000) * 256 + (1 << 20);
            println!("{asked} names asked, {bytes} bytes");
            assert!(bytes < bound, "{bytes} bytes for {asked} names, {bound} are the bound");
            assert_refused(&mut victim, "questions without end");
        }
    }
}

/// A store that keeps nothing, and says that it has everything.
struct Forgetful;

impl Sink for Forgetful {
    fn has(&self, _: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Ok(vec![true; names.len()])
    }
    fn fetch(&self, kind: Kind, name: &Name) -> Result<bytes::Bytes> {
        Sink::fetch(&*office(), kind, name)
    }
    fn admit(&self, _: Kind, _: &Name, _: Stored) -> Result<()> {
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn newest_shared(
        &self,
        _: &StoreId,
        _: &DatasetId,
        _: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        Ok(None)
    }
    fn shows(&self, _: &DatasetId, _: &Name) -> Result<bool> {
        Ok(false)
    }
    fn publish(&self, _: &SnapshotOffer) -> Result<()> {
        Ok(())
    }
}

/// What a box remembers of a peer's possessions, however much that sends: some 30 MB, caches beside them included.
#[test]
fn possessions_without_end_are_forgotten() {
    let worker = Worker::sink(Arc::new(Forgetful), spans, Realm::published(), Arc::new(OwnSnapshots));
    let mut victim = begun_with(worker, FEATURES_KNOWN, Limits { window_objects: 1 << 20, ..Limits::default() });
    let ((), bytes) = most(|| {
        let mut number = 0_u64;
        for turn in 0..120 {
            let kind = [Kind::Chunk, Kind::SequenceNode, Kind::MapNode][turn % 3];
            let mut content = Vec::with_capacity(4096 * 33);
            for _ in 0..4096 {
                // A node refers to a chunk that was never sent: it stays open, which costs most.
                content.push(Kind::Chunk as u8);
                content.extend_from_slice(&name(number).0);
                number += 1;
            }
            let items = vec![Item { origin: Origin::Unasked(kind), len: 33 }; 4096];
            let message = Bundle { items, ..bundle(4096 * turn as u64, vec![], Packing::Raw, content) };
            say(&mut victim, Message::Bundle(message));
            victim.pump(ROOM);
            victim.work(usize::MAX);
            victim.said.clear();
        }
        assert!(victim.session.outcome().is_none(), "{:?}", victim.session.outcome());
    });
    println!("{bytes} bytes for 491,520 objects");
    assert!(bytes < 32_000_000, "{bytes} bytes");
}

/// Sixteen sessions at a hub, each as full as its peer can make it: of questions that wait, and of objects that wait behind a gap. What they hold besides
/// the windows of bytes that were dealt out is bounded, too.
#[test]
fn sixteen_sessions_as_full_as_can_be_fit_in_a_hub() {
    const WHOLE: u64 = 16 << 20;
    const NAMES: u64 = 128 << 10;
    let shelf = office();
    let mut victims = Vec::new();
    let mut dealt = 0;
    let ((), bytes) = most(|| {
        for _ in 0..16 {
            // As `link::places` deals windows out, and names with them.
            let window_bytes = ((8 * WHOLE - dealt) / 5).clamp(WHOLE / 16, WHOLE);
            dealt += window_bytes;
            let window_names = (NAMES * window_bytes / WHOLE) as u32;
            let limits = Limits { window_bytes, window_names, ..Limits::default() };
            let mut victim = begun(&shelf, FEATURES_KNOWN, limits.clone());
            let names = u64::from(limits.window_names) + u64::from(limits.window_objects) - 1;
            for first in (1..names - 1024).step_by(1024) {
                let names = (first..first + 1024).map(|number| (Kind::Chunk, name(number))).collect();
                say(&mut victim, Message::Ask(Ask { first, names }));
                victim.pump(NO_ROOM);
            }
            let piece = window_bytes / 64;
            for seq in 1..64 {
                let content = vec![seq as u8; piece as usize];
                say(&mut victim, Message::Bundle(bundle(seq, vec![piece as u32], Packing::Raw, content)));
                victim.pump(NO_ROOM);
            }
            assert!(victim.session.outcome().is_none(), "{:?}", victim.session.outcome());
            victims.push(victim);
        }
    });
    let besides = bytes as u64 - dealt * 63 / 64;
    println!("sixteen sessions: {dealt} bytes of windows, {besides} besides");
    assert!(dealt <= 8 * WHOLE && besides < 100 << 20, "{besides} bytes besides windows of {dealt}");
}

/// Four megabytes from some hundred bytes, as often as the window takes them: unpacked one after the other.
#[test]
fn bombs_go_off_one_by_one() {
    let shelf = office();
    let mut victim = begun(&shelf, FEATURES_KNOWN, Limits::default());
    let bomb = narrowboat_wan::pack::pack(&vec![0; 4 << 20], &[], 19).unwrap();
    assert!(bomb.len() < 1000);
    let ((), bytes) = most(|| {
        for number in 0..200 {
            say(&mut victim, Message::Bundle(bundle(number, vec![4 << 20], Packing::Zstd, bomb.clone())));
            victim.pump(NO_ROOM);
        }
        victim.work(usize::MAX);
    });
    // What it unpacks to, that packed for the disk, and the store's own copies of both.
    assert!(bytes < 5 * (4 << 20), "{bytes} bytes");
    assert!(victim.session.outcome().is_none(), "it is no lie: {:?}", victim.session.outcome());
    // One that is larger than it says, or smaller.
    for said in [1 << 20, (4 << 20) - 1] {
        let mut victim = begun(&shelf, FEATURES_KNOWN, Limits::default());
        let ((), bytes) = most(|| {
            say(&mut victim, Message::Bundle(bundle(0, vec![said], Packing::Zstd, bomb.clone())));
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        });
        assert!(bytes < said as usize + (1 << 20), "{bytes} bytes where {said} were announced");
        assert_refused(&mut victim, "a bomb");
    }
    shelf.check();
}

/// Signs of life, and time, cost nothing; and they keep a place only as long as the place's own rules say.
#[test]
fn signs_of_life_without_end_cost_nothing() {
    let mut victim = begun(&office(), FEATURES_KNOWN, Limits::default());
    let ((), bytes) = most(|| {
        for second in 0..100_000 {
            victim.now = Duration::from_secs(second);
            say(&mut victim, Message::Working);
            victim.session.handle(victim.now, Input::Time);
            victim.pump(ROOM);
            victim.said.clear();
        }
    });
    assert!(bytes < 64 << 10, "{bytes} bytes");
    assert!(victim.session.outcome().is_none());
}
