//! Peers that want to fill this box's memory, keep it busy, or get what is not theirs: streams without end, bombs, absurd counts, replays, bases that refer to
//! themselves, demands without end, probes without end.
//!
//! For each: the memory that the victim takes meanwhile is *counted*, by an allocator that counts what this thread has, and stays below a bound that is
//! stated here; the session ends with a sentence; it is a refusal, which the box keeps for people; and the store has only what is true. (What zstd
//! holds while it unpacks, some 200 KB, is C's and not counted.) Lies by chance are in `sim/hostile.rs` and in the fuzz targets.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;
#[path = "../../appliance/fuzz/sessions.rs"]
mod sessions;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use common::office::Office;
use common::{at, simulate};
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_wan::link::identity::Identity;
use narrowboat_wan::link::tls::{Doorkeeper, Tls};
use narrowboat_wan::link::transport::transport;
use narrowboat_wan::link::{Host, Link};
use narrowboat_wan::sync::seam::{Hello, Sink, SnapshotOffer, Stored};
use narrowboat_wan::sync::{Failure, Input, Limits, OwnSnapshots, Room, Session, Worker};
use narrowboat_wan::wire::{
    Answer, Ask, AskPrefixes, Bundle, CONTROL_BYTES_MAX, Channel, Commit, DATA_BYTES_MAX, FEATURES_KNOWN, FrameDecoder,
    Item, Message, Origin, Packing, Preface, ProbeMessage, Proof, ProveWays, Role, Stop, StreamClass, Way,
};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use sessions::{ROOM, Shelf, Side, office, replication, stage, whole};

/// Counts what each thread has from the allocator, and the most that it had.
struct Counting;

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
    static MOST: Cell<i64> = const { Cell::new(0) };
}

fn note(bytes: i64) {
    // A thread that ends has nothing to be counted any more.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = MOST.try_with(|most| most.set(most.get().max(live.get())));
    });
}

// SAFETY: everything is done by the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        note(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that this thread had during `work`, beyond what it had before.
fn most<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    MOST.set(before);
    let done = work();
    (done, usize::try_from(MOST.get() - before).unwrap_or(0))
}

/// The count is no fiction.
#[test]
fn canary_what_is_allocated_is_counted() {
    let (kept, bytes) = most(|| {
        let first = vec![1_u8; 3 << 20];
        drop(vec![2_u8; 5 << 20]);
        first
    });
    assert!((8 << 20..9 << 20).contains(&bytes) && kept.len() == 3 << 20, "{bytes}");
    assert!(most(|| ()).1 == 0);
}

const NO_ROOM: Room = Room { control: false, data: false };

/// What a session says in the end, where it says something.
fn last_word(victim: &mut Side) -> Option<Stop> {
    victim.pump(ROOM);
    let stop = |(channel, bytes): (Channel, Vec<u8>)| {
        let frame = FrameDecoder::new(channel).next(&mut &bytes[..]).unwrap().unwrap();
        match Message::decode(frame).unwrap() {
            Some(Message::Stop(stop)) => Some(stop),
            _ => None,
        }
    };
    victim.said.drain(..).filter_map(stop).next_back()
}

/// It has ended in order: refused, told so in a sentence, and kept for people.
fn assert_refused(victim: &mut Side, what: &str) {
    let word = last_word(victim).unwrap_or_else(|| panic!("{what}: {:?}, and no last word", victim.session.outcome()));
    let Some(Err(failure)) = victim.session.outcome() else { panic!("{what}: {:?}", victim.session.outcome()) };
    assert!(failure.is_refusal() && !word.sentence.is_empty(), "{what}: {failure:?}");
}

fn say(victim: &mut Side, message: Message) {
    let channel = message.channel();
    victim.hear(channel, &whole(&message.encode()));
}

/// A receiver that has begun, as an honest sender of these features makes it begin.
fn begun(shelf: &Arc<Shelf>, features: u64, limits: Limits) -> Side {
    begin(Side::receiver(limits, features, shelf.clone()))
}

/// The same with a worker of its own.
fn begun_with(worker: Worker, features: u64, limits: Limits) -> Side {
    let mut hello = Hello::new(Role::Receiver, Realm::published().id(), StoreId([2; 16]));
    hello.features_ignore = features;
    begin(Side::new(Session::receive(hello, limits, Duration::ZERO), worker))
}

fn begin(mut victim: Side) -> Side {
    let generous = Limits { window_bytes: 1 << 30, window_objects: 1 << 20, ..Limits::default() };
    let mut puppet = Side::sender(generous, FEATURES_KNOWN, replication(true));
    puppet.pump(Room { control: true, data: false });
    for (channel, bytes) in puppet.said.drain(..) {
        victim.hear(channel, &bytes);
    }
    victim.pump(ROOM);
    victim.work(usize::MAX);
    victim.said.clear();
    assert!(victim.session.outcome().is_none());
    victim
}

fn name(number: u64) -> Name {
    let mut bytes = [7; 32];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    Name(bytes)
}

fn bundle(seq: u64, lens: Vec<u32>, packing: Packing, bytes: Vec<u8>) -> Bundle {
    let items = lens.into_iter().map(|len| Item { origin: Origin::Unasked(Kind::Chunk), len }).collect();
    Bundle { seq, items, forget: false, ways: vec![], from_root: false, bases: vec![], packing, bytes: bytes.into() }
}

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
    let worker = Worker::sink(Arc::new(Forgetful), sessions::spans, Realm::published(), Arc::new(OwnSnapshots));
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

/// Counts and lengths that nothing stands behind.
#[test]
fn absurd_counts_cost_what_was_sent() {
    let frame = |kind: u16, claimed: u32, payload: &[u8]| {
        [&kind.to_le_bytes()[..], &[0, 0], &claimed.to_le_bytes(), payload].concat()
    };
    let (ones, seq) = ([0xff_u8; 64], [0_u8; 8]);
    let of_bundle = |counts: [u16; 3]| {
        let counts: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        [&seq[..], &[2, 0], &counts, &ones[..]].concat()
    };
    let mut offer = vec![1; 140];
    offer.extend([1, 0, b'a', 1, 0, b'b', 0xff, 0xff]);
    let cases: Vec<(&str, Channel, Vec<u8>, bool)> = vec![
        ("a frame of four gigabytes", Channel::Data, frame(65, u32::MAX, &ones), true),
        ("a frame too long for control", Channel::Control, frame(4, CONTROL_BYTES_MAX as u32 + 1, &ones), true),
        ("a frame that never comes", Channel::Data, frame(65, DATA_BYTES_MAX as u32, &ones), false),
        ("65,535 objects", Channel::Data, frame(65, 80, &of_bundle([0xffff, 0, 0])), true),
        ("65,535 ways", Channel::Data, frame(65, 80, &of_bundle([1, 0xffff, 0])), true),
        ("65,535 bases", Channel::Data, frame(65, 80, &of_bundle([1, 0, 0xffff])), true),
        ("65,535 names", Channel::Control, frame(4, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 prefixes", Channel::Control, frame(11, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 ways to prove", Channel::Control, frame(10, 74, &[&seq[..], &[0xff, 0xff], &ones].concat()), true),
        ("65,535 bases of an offer", Channel::Control, frame(2, offer.len() as u32, &offer), true),
    ];
    for (what, channel, bytes, refused) in cases {
        let mut victim = begun(&office(), FEATURES_KNOWN, Limits::default());
        let ((), most) = most(|| {
            victim.hear(channel, &bytes);
            victim.pump(NO_ROOM);
        });
        assert!(most < 256 << 10, "{what}: {most} bytes");
        if refused {
            assert_refused(&mut victim, what);
        } else {
            assert!(victim.session.outcome().is_none(), "{what}: it is waited for");
        }
    }
}

/// Bases that refer to themselves, to nothing, and to what is below chunks; ways without end.
#[test]
fn bases_that_are_none_are_refused() {
    let packed = narrowboat_wan::pack::pack(&[5; 300], &[], 3).unwrap();
    let way = |parent, index| Way { parent, index };
    let mut deep: Vec<Way> = (0..48).map(|depth| way(depth, 0)).collect();
    let cases: [(&str, Vec<Way>, Vec<Way>); 5] = [
        ("its own way", vec![way(1, 0)], vec![way(1, 0)]),
        ("a way to come", vec![way(0, 0)], vec![way(2, 0)]),
        ("a place that is none", vec![], vec![way(0, 4_000_000_000)]),
        ("below a chunk", std::mem::take(&mut deep), vec![way(48, 0)]),
        ("no way at all", vec![], vec![way(u32::MAX, u32::MAX)]),
    ];
    for (what, ways, bases) in cases {
        let shelf = office();
        let mut victim = begun(&shelf, FEATURES_KNOWN, Limits::default());
        let ((), bytes) = most(|| {
            let message = Bundle { ways, bases, ..bundle(0, vec![300], Packing::Zstd, packed.clone()) };
            say(&mut victim, Message::Bundle(message));
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        });
        assert!(bytes < 256 << 10, "{what}: {bytes} bytes");
        assert_refused(&mut victim, what);
        shelf.check();
    }
    // More ways than there may be, told little by little, each with an honest base.
    let mut victim = begun(&office(), FEATURES_KNOWN, Limits { window_objects: 1 << 20, ..Limits::default() });
    let ((), bytes) = most(|| {
        for seq in 0.. {
            if victim.session.outcome().is_some() {
                break;
            }
            let (ways, bases) = (vec![way(0, 0); 4800], vec![way(0, 0); 100]);
            say(
                &mut victim,
                Message::Bundle(Bundle { ways, bases, ..bundle(seq, vec![300], Packing::Zstd, packed.clone()) }),
            );
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        }
    });
    // 65,536 ways of 33 bytes, and the vector that grows.
    assert!(bytes < 3 * 65_536 * 40 + (1 << 20), "{bytes} bytes");
    assert_refused(&mut victim, "ways without end");
}

/// Everything that an honest sender said in one session is said again in another: to a box with another challenge, and to the same session.
#[test]
fn what_was_said_before_is_no_proof_now() {
    let said = {
        let shelf = office();
        let mut honest = Side::receiver(Limits::default(), FEATURES_KNOWN, shelf.clone());
        let mut sender = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
        let mut said = Vec::new();
        for _ in 0..100 {
            sender.pump(ROOM);
            sender.work(usize::MAX);
            for (channel, bytes) in sender.said.drain(..) {
                honest.hear(channel, &bytes);
                said.push((channel, bytes));
            }
            honest.pump(ROOM);
            honest.work(usize::MAX);
            honest.said.drain(..).for_each(|(channel, bytes)| sender.hear(channel, &bytes));
        }
        assert!(matches!(sender.session.outcome(), Some(Ok(()))), "{:?}", sender.session.outcome());
        assert!(shelf.shows_snapshot(&stage().second.snapshot));
        said
    };
    let proofs = said.iter().filter(|(channel, bytes)| *channel == Channel::Control && bytes[0] == 14).count();
    assert!(proofs > 0, "there is something to prove");
    let shelf = office();
    let mut victim = Side::challenging([77; 32], Limits::default(), FEATURES_KNOWN, shelf.clone());
    for (channel, bytes) in &said {
        victim.hear(*channel, bytes);
        victim.pump(ROOM);
        victim.work(usize::MAX);
        victim.said.retain(|(_, bytes)| bytes[0] == 9);
    }
    // Where something was asked by prefix it may be a mistake, and is asked once more by names.
    let outcome = victim.session.outcome();
    assert!(matches!(outcome, Some(Err(Failure::NotProved(_) | Failure::FullNames(_)))), "{outcome:?}");
    assert!(!shelf.shows_snapshot(&stage().second.snapshot));
    shelf.check();
    // Anything twice in one session.
    for again in 0..said.len() {
        let shelf = office();
        let mut victim = Side::receiver(Limits::default(), FEATURES_KNOWN, shelf.clone());
        for (place, (channel, bytes)) in said.iter().enumerate() {
            let times = if place == again { 2 } else { 1 };
            for _ in 0..times {
                victim.hear(*channel, bytes);
                victim.pump(ROOM);
                victim.work(usize::MAX);
                victim.said.retain(|(_, bytes)| bytes[0] == 9);
            }
        }
        // A sign of life may come as often as it likes, and what is behind the publication is heard by nobody.
        let (_, bytes) = &said[again];
        if bytes[0] != 15 && bytes[0] != 7 {
            let outcome = victim.session.outcome();
            assert!(
                matches!(outcome, Some(Err(Failure::Protocol(_)))),
                "frame {again}, type {}: {outcome:?}",
                bytes[0]
            );
            assert!(!shelf.shows_snapshot(&stage().second.snapshot));
        }
        shelf.check();
    }
}

/// A sender that has begun, with everything called lacking that it asks.
fn sending() -> Side {
    let mut victim = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
    let mut puppet = Side::receiver(Limits::default(), FEATURES_KNOWN, office());
    for _ in 0..2 {
        victim.pump(Room { control: true, data: false });
        victim.said.drain(..).for_each(|(channel, bytes)| puppet.hear(channel, &bytes));
        puppet.pump(ROOM);
        puppet.work(usize::MAX);
        puppet.said.drain(..).for_each(|(channel, bytes)| victim.hear(channel, &bytes));
    }
    assert!(victim.session.outcome().is_none());
    victim
}

#[test]
fn a_receiver_that_lies_ends_the_session() {
    let cases: Vec<(&str, Message)> = vec![
        ("answers that nobody asked for", Message::Answer(Answer { first: 900, lacking: vec![true; 1024] })),
        ("an acknowledgement of what was not sent", Message::Ack(narrowboat_wan::wire::Ack { objects: u64::MAX })),
        ("a demand by way before the commit", Message::ProveWays(ProveWays { first: 1 << 63, ways: vec![vec![0]] })),
        ("a proof", Message::Proof(Proof { first: 1, digest: [1; 32] })),
        ("a commit", Message::Commit(Commit { objects: 1 })),
    ];
    for (what, message) in cases {
        let mut victim = sending();
        let ((), bytes) = most(|| {
            say(&mut victim, message);
            victim.pump(NO_ROOM);
            victim.work(usize::MAX);
        });
        assert!(bytes < 1 << 20, "{what}: {bytes} bytes");
        assert_refused(&mut victim, what);
    }
}

/// A receiver that demands proof of the same place for ever has the sender read what the snapshot holds some times, and no more.
#[test]
fn demands_without_end_are_answered_for_a_while() {
    for way in [vec![0], vec![0, 0], vec![0; 3]] {
        let mut victim = Side::sender(Limits::default(), FEATURES_KNOWN, replication(true));
        let mut puppet = Side::receiver(Limits::default(), FEATURES_KNOWN, office());
        // Everything but the publication.
        let mut committed = false;
        for _ in 0..100 {
            victim.pump(ROOM);
            victim.work(usize::MAX);
            committed |= victim.said.iter().any(|(channel, bytes)| *channel == Channel::Control && bytes[0] == 7);
            victim.said.drain(..).for_each(|(channel, bytes)| puppet.hear(channel, &bytes));
            if committed {
                break;
            }
            puppet.pump(ROOM);
            puppet.work(usize::MAX);
            puppet.said.drain(..).for_each(|(channel, bytes)| victim.hear(channel, &bytes));
        }
        assert!(committed && victim.session.outcome().is_none());
        let (demands, bytes) = most(|| {
            let mut demands = 0;
            while victim.session.outcome().is_none() && demands < 10_000 {
                let ways = vec![way.clone(); 1024];
                say(&mut victim, Message::ProveWays(ProveWays { first: (1 << 63) + 1024 * demands, ways }));
                // It hears nothing, and wants more and more.
                victim.pump(NO_ROOM);
                victim.work(usize::MAX);
                demands += 1;
            }
            demands
        });
        assert!(bytes < 16 << 20, "{bytes} bytes after {demands} demands");
        assert_refused(&mut victim, "demands without end");
        // Twice what it holds, and a gigabyte for whatever honest receivers may find.
        let proved = victim.session.report().proved;
        assert!(proved.bytes < (1 << 30) + (64 << 20), "{proved:?}");
    }
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

/// The seeds of the fuzz targets get as far as they are meant to: the honest ones to a publication.
#[test]
fn seeds_of_the_fuzz_targets_get_far() {
    for seed in sessions::session_seeds() {
        let heard = [sessions::receiving(&seed), sessions::sending(&seed)];
        assert!(heard.iter().all(|heard| *heard > 0), "{seed:?}: {heard:?}");
    }
    assert!(sessions::publishes(&[10, 0]) && sessions::publishes(&[0x8a, 0]) && sessions::publishes(&[10, 0x80]));
    assert!(!sessions::publishes(&[10, 0, 0, 205]));
}

/// A box that has a peer's key, and is no Narrowboat: whatever it says over its connections.
struct Fiend {
    _endpoint: Endpoint,
    connection: Connection,
}

const VICTIM: u8 = 1;
const FIEND: u8 = 2;

async fn world() -> (SimNet, Arc<Office>, Link, Fiend) {
    let net = SimNet::new(3);
    let (victim, fiend) = (Office::new(VICTIM), Office::new(FIEND));
    net.connect(at(VICTIM), at(FIEND), Line::new(50_000_000, Duration::from_millis(20), 0.0));
    victim.pin(&fiend.record(Vec::new())).unwrap();
    let link = Link::over(net.socket(at(VICTIM)), victim.config(at(VICTIM)), victim.clone()).unwrap();
    let (identity, door) = (Identity::from_seed([FIEND; 32]), Arc::new(Doorkeeper::default()));
    let there = Identity::from_seed([VICTIM; 32]).id();
    door.pin(there);
    let tls = Tls::new(&identity, door).unwrap();
    let socket = net.socket(at(FIEND));
    let endpoint =
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime)).unwrap();
    let mut config = tls.dial(there).unwrap();
    config.transport_config(Arc::new(transport()));
    let connection = endpoint.connect_with(config, at(VICTIM), "narrowboat").unwrap().await.unwrap();
    (net, victim, link, Fiend { _endpoint: endpoint, connection })
}

/// Lets simulated time pass until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..600 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{what} did not come about within a minute");
}

/// Probe after probe, several at a time, each asking for all that it may: the line is not flooded.
#[test]
fn a_peer_that_probes_for_ever_gets_one_probe_in_ten_seconds() {
    simulate(async {
        let (net, victim, _link, fiend) = world().await;
        let began = net.now();
        let before = net.wire(at(VICTIM), at(FIEND)).bytes;
        let mut session = 0;
        while net.now() - began < Duration::from_secs(61) {
            session += 1;
            let Ok(Ok((mut send, mut recv))) =
                tokio::time::timeout(Duration::from_secs(1), fiend.connection.open_bi()).await
            else {
                continue;
            };
            let preface = Preface { class: StreamClass::Probe, index: 0, session };
            send.write_all(&preface.encode()).await.unwrap();
            // All trains that there can be, and more, at once.
            for train in 1..=4 {
                let _ = send.write_all(&ProbeMessage::Send { train, size: 1140, packets: 112 }.encode()).await;
            }
            tokio::spawn(async move {
                let mut heard = [0; 4096];
                while let Ok(Some(_)) = recv.read(&mut heard).await {}
                drop(send);
            });
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let seconds = (net.now() - began).as_secs();
        let sent = net.wire(at(VICTIM), at(FIEND)).bytes - before;
        // A probe, ten seconds of rest: of each at most the bytes of its trains with headers; and what QUIC says besides.
        let probes = seconds / 10 + 1;
        let bound = probes * (256_000 * 112 / 100) + 60 * seconds * 200;
        assert!(
            session > 100 && sent < bound,
            "{sent} bytes in {seconds} s for {session} probes; {bound} are the bound"
        );
        assert!(sent > probes / 2 * 200_000, "it does answer: {sent}");
        // What goes beyond a probe is an entry, each time.
        let refused = victim.refused.lock().unwrap().clone();
        assert!((probes / 2..=probes).contains(&(refused.len() as u64)), "{refused:?}");
        assert!(refused.iter().all(|why| why.starts_with("it probed the line")), "{refused:?}");
    });
}

/// Sessions of nonsense, in both channels, and grants that are none: each ends, is told why, and is an entry.
#[test]
fn nonsense_over_a_real_connection_is_refused_and_kept() {
    simulate(async {
        let (_net, victim, _link, fiend) = world().await;
        let count = || victim.refused.lock().unwrap().len();
        for session in 0..20 {
            let before = count();
            let (mut send, mut recv) = fiend.connection.open_bi().await.unwrap();
            send.write_all(&Preface { class: StreamClass::Control, index: 0, session }.encode()).await.unwrap();
            send.write_all(&[0xee; 200]).await.unwrap();
            until("an entry", || count() == before + 1).await;
            let heard = recv.read_to_end(1 << 16).await.unwrap();
            let mut decoder = FrameDecoder::new(Channel::Control);
            let (mut rest, mut stop) = (&heard[..], None);
            while let Some(frame) = decoder.next(&mut rest).unwrap() {
                if let Some(Message::Stop(said)) = Message::decode(frame).unwrap() {
                    stop = Some(said);
                }
            }
            assert!(stop.is_some_and(|stop| stop.sentence.contains("cannot read")));
        }
        let mut grants = fiend.connection.open_uni().await.unwrap();
        grants.write_all(&Preface { class: StreamClass::Grants, index: 0, session: 0 }.encode()).await.unwrap();
        grants.write_all(&7_u64.to_le_bytes()).await.unwrap();
        until("the last entry", || count() == 21).await;
        assert!(victim.refused.lock().unwrap()[20].starts_with("it said how fast"));
    });
}
