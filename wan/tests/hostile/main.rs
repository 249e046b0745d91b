//! Peers that want to fill this box's memory, keep it busy, or get what is not theirs: streams without end, bombs, absurd counts, replays, bases that refer to
//! themselves, demands without end, probes without end.
//!
//! For each: the memory that the victim takes meanwhile is *counted*, by an allocator that counts what this thread has, and stays below a bound that is
//! stated here; the session ends with a sentence; it is a refusal, which the box keeps for people; and the store has only what is true. (What zstd
//! holds while it unpacks, some 200 KB, is C's and not counted.) Lies by chance are in `../sim/hostile.rs` and in the fuzz targets.

#![allow(clippy::unwrap_used)] // a failed step ends the test

#[path = "../common/mod.rs"]
mod common;
mod connections;
mod floods;
mod lies;
mod memory;
mod receivers;
#[path = "../../../appliance/fuzz/sessions/mod.rs"]
mod sessions;

use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::id::StoreId;
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_wan::sync::seam::Hello;
use narrowboat_wan::sync::{Limits, Room, Session, Worker};
use narrowboat_wan::wire::{Bundle, Channel, FEATURES_KNOWN, FrameDecoder, Item, Message, Origin, Packing, Role, Stop};

use sessions::shelf::Shelf;
use sessions::side::{ROOM, Side, whole};
use sessions::stage::replication;

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
