//! Whole sessions that a hostile peer speaks to, as values: the bytes of an input decide what it says.
//!
//! Beside the *victim*, which is the product's own session with a worker and a small store, runs a *puppet*: an honest session of the other role. An
//! input decides for each step whether the victim hears the puppet's next frame as it is, damaged, twice, late or not at all, or something that the input makes up;
//! so it gets as far as proofs and publication, and lies there. What the victim says the puppet hears. Whatever comes of it, the victim's store keeps
//! only what is true: each object under its own name, complete below itself, and no snapshot without its root.
//!
//! `wan/tests/hostile.rs` counts the memory that the worst of it takes.

#![allow(dead_code, reason = "every user uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use narrowboat_storage::codec::Malformed;
use narrowboat_storage::error::{Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::tree::Span;
use narrowboat_storage::tree::node::NodeFault;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::sync::seam::{Codec, DatasetKind, Mark, Ref, SnapshotOffer, Stored};
use narrowboat_wan::sync::{
    Failure, Hello, Input, Job, Limits, Output, OwnSnapshots, Replication, Room, Session, Sink, Source, Worker,
};
use narrowboat_wan::wire::{
    Bundle, Channel, Commit, FEATURES_KNOWN, Frame, FrameDecoder, Item, Message, Origin, Packing, Role, Way,
};

const BRANCH: StoreId = StoreId([1; 16]);
const OFFICE: StoreId = StoreId([2; 16]);
const DATASET: DatasetId = DatasetId([7; 16]);
/// Steps of one input at most.
const STEPS_MAX: usize = 4000;
/// A node here is a list of these: kind and name.
const ENTRY: usize = 33;

/// A store in memory, small and quick to copy.
#[derive(Default)]
pub struct Shelf(Mutex<Kept>);

#[derive(Clone, Default)]
struct Kept {
    objects: BTreeMap<(u8, Name), Bytes>,
    published: BTreeMap<SnapshotId, SnapshotOffer>,
}

impl Shelf {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds a shelf")
    }

    fn copy(&self) -> Arc<Shelf> {
        Arc::new(Shelf(Mutex::new(self.kept().clone())))
    }

    fn put(&self, kind: Kind, bytes: &[u8]) -> Ref {
        let name = Realm::published().name(kind, bytes);
        self.kept().objects.insert((kind as u8, name), Bytes::copy_from_slice(bytes));
        (kind, name)
    }

    fn node(&self, kind: Kind, below: &[Ref]) -> Ref {
        let bytes: Vec<u8> = below.iter().flat_map(|(kind, name)| [&[*kind as u8][..], &name.0].concat()).collect();
        self.put(kind, &bytes)
    }

    fn get(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        let found = self.kept().objects.get(&(kind as u8, *name)).cloned();
        found.ok_or_else(|| Refusal::NotFound(format!("{kind:?} {name}")).into())
    }

    /// What has to hold whatever was said.
    pub fn check(&self) {
        let kept = self.kept();
        for ((kind, name), bytes) in &kept.objects {
            let kind = Kind::from_u8(*kind).expect("a kind");
            assert_eq!(Realm::published().name(kind, bytes), *name, "an object under another's name");
            if kind.is_node() {
                for span in spans(kind, bytes).expect("a node that was admitted") {
                    assert!(
                        kept.objects.contains_key(&(span.at.0 as u8, span.at.1)),
                        "a node before what it refers to"
                    );
                }
            }
        }
        for snapshot in kept.published.values() {
            let root = snapshot.root.map(|root| (Kind::MapNode as u8, root));
            assert!(root.is_none_or(|root| kept.objects.contains_key(&root)), "published without its root");
        }
    }

    /// How many objects.
    pub fn len(&self) -> usize {
        self.kept().objects.len()
    }

    /// Whether a snapshot was published.
    pub fn shows_snapshot(&self, snapshot: &SnapshotId) -> bool {
        self.kept().published.contains_key(snapshot)
    }
}

/// What a node of a shelf refers to.
pub fn spans(kind: Kind, bytes: &Bytes) -> std::result::Result<Vec<Span>, NodeFault> {
    let malformed = || NodeFault::from(Malformed { what: "node", at: 0 });
    if !kind.is_node() || !bytes.len().is_multiple_of(ENTRY) {
        return if kind.is_node() { Err(malformed()) } else { Ok(Vec::new()) };
    }
    let entry = |(from, entry): (u64, &[u8])| {
        let kind = Kind::from_u8(entry[0]).ok_or_else(malformed)?;
        let name = Name(entry[1..].try_into().map_err(|_| malformed())?);
        Ok(Span { at: (kind, name), from, len: 1 })
    };
    (0..).zip(bytes.chunks_exact(ENTRY)).map(entry).collect()
}

impl Source for Shelf {
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        let bytes = self.get(kind, name)?;
        Ok(Stored { codec: Codec::Raw, raw_len: bytes.len() as u32, bytes })
    }
    fn kept_since(&self, _: &Mark, _: Kind, names: &[Name]) -> Result<Vec<bool>> {
        Ok(vec![true; names.len()])
    }
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.get(kind, name)
    }
}

impl Sink for Shelf {
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let kept = self.kept();
        Ok(names.iter().map(|name| kept.objects.contains_key(&(kind as u8, *name))).collect())
    }
    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let kept = self.kept();
        let find = |prefix: &u64| {
            let mut found =
                kept.objects.keys().filter(|(kind, name)| *kind == Kind::Chunk as u8 && name.prefix() == *prefix);
            found.next().map(|(_, name)| *name)
        };
        Ok(prefixes.iter().map(find).collect())
    }
    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.get(kind, name)
    }
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()> {
        let unpacked =
            narrowboat_storage::container::codec::decompress(object.codec, object.raw_len as usize, &object.bytes);
        let bytes = unpacked.expect("the worker has unpacked it");
        self.kept().objects.insert((kind as u8, *name), bytes.into());
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    fn newest_shared(
        &self,
        _: &StoreId,
        _: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        let kept = self.kept();
        let here =
            |(id, root): &&(SnapshotId, Name)| kept.published.get(id).is_some_and(|known| known.root == Some(*root));
        Ok(offered.iter().find(here).copied())
    }
    fn shows(&self, _: &DatasetId, root: &Name) -> Result<bool> {
        Ok(self.kept().published.values().any(|snapshot| snapshot.root == Some(*root)))
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        match self.kept().published.insert(snapshot.snapshot, snapshot.clone()) {
            Some(known) if known != *snapshot => Err(Refusal::Exists("another snapshot".into()).into()),
            _ => Ok(()),
        }
    }
}

fn chunk(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 16) as u8 & 0x3f
    };
    (0..len).map(|_| next()).collect()
}

fn day(shelf: &Shelf, number: u8, chunks: &[Vec<u8>]) -> SnapshotOffer {
    let files: Vec<Ref> = chunks
        .chunks(4)
        .map(|file| {
            let below: Vec<Ref> = file.iter().map(|bytes| shelf.put(Kind::Chunk, bytes)).collect();
            shelf.node(Kind::SequenceNode, &below)
        })
        .collect();
    let nodes: Vec<Ref> = files.chunks(4).map(|files| shelf.node(Kind::MapNode, files)).collect();
    let (_, root) = shelf.node(Kind::MapNode, &nodes);
    SnapshotOffer {
        dataset: DATASET,
        dataset_name: "projects".into(),
        kind: DatasetKind::Share,
        size: 0,
        snapshot: SnapshotId([number; 16]),
        snapshot_name: format!("day {number}"),
        time: Timestamp(i64::from(number)),
        root: Some(root),
        logical_bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        files: files.len() as u64,
        next_inode: 100,
        source: BRANCH,
    }
}

/// Two days of a dataset; the office has the first, and some of the second from somebody else.
pub struct Stage {
    branch: Shelf,
    office: Shelf,
    first: SnapshotOffer,
    /// What is sent.
    pub second: SnapshotOffer,
}

/// The same for every input.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let (branch, office) = (Shelf::default(), Shelf::default());
        let mut chunks: Vec<Vec<u8>> = (0..40).map(|number| chunk(number + 1, 80 + 13 * number as usize)).collect();
        let first = day(&branch, 1, &chunks);
        day(&office, 1, &chunks);
        office.kept().published.insert(first.snapshot, first.clone());
        for number in [3, 7, 8, 21, 22, 23, 30] {
            chunks[number as usize] = chunk(100 + number, 300);
        }
        chunks[21][100] ^= 1;
        office.put(Kind::Chunk, &chunks[22]);
        let second = day(&branch, 2, &chunks);
        Stage { branch, office, first, second }
    })
}

/// A session with its worker, its streams, and what it has still to do.
pub struct Side {
    pub session: Session,
    worker: Worker,
    decoders: [FrameDecoder; 2],
    /// Jobs that were not run yet.
    pub jobs: VecDeque<Job>,
    /// What it has said and nobody heard.
    pub said: VecDeque<(Channel, Vec<u8>)>,
    pub now: Duration,
}

impl Side {
    pub fn new(session: Session, worker: Worker) -> Side {
        let decoders = [FrameDecoder::new(Channel::Control), FrameDecoder::new(Channel::Data)];
        Side { session, worker, decoders, jobs: VecDeque::new(), said: VecDeque::new(), now: Duration::ZERO }
    }

    /// One that sends the second day.
    pub fn sender(limits: Limits, features: u64, replication: Replication) -> Side {
        let mut hello = Hello::new(Role::Sender, Realm::published().id(), BRANCH);
        hello.features_ignore = features;
        let worker = Worker::source(stage().branch.copy(), spans);
        Side::new(Session::send(hello, replication, limits, Duration::ZERO), worker)
    }

    /// One that receives into `shelf`.
    pub fn receiver(limits: Limits, features: u64, shelf: Arc<Shelf>) -> Side {
        Self::challenging([9; 32], limits, features, shelf)
    }

    /// The same with another challenge.
    pub fn challenging(nonce: [u8; 32], limits: Limits, features: u64, shelf: Arc<Shelf>) -> Side {
        let mut hello = Hello::new(Role::Receiver, Realm::published().id(), OFFICE);
        hello.features_ignore = features;
        let worker = Worker::sink(shelf, spans, Realm::published(), Arc::new(OwnSnapshots)).with_nonce(nonce);
        Side::new(Session::receive(hello, limits, Duration::ZERO), worker)
    }

    /// Hears bytes of a stream.
    pub fn hear(&mut self, channel: Channel, mut bytes: &[u8]) {
        loop {
            match self.decoders[usize::from(channel == Channel::Data)].next(&mut bytes) {
                Ok(Some(frame)) => self.session.handle(self.now, Input::Frame(channel, frame)),
                Ok(None) => return,
                Err(error) => return self.session.handle(self.now, Input::Lost(Failure::Wire(error))),
            }
        }
    }

    /// Takes out what the session has to say, as far as there is room, and its jobs.
    pub fn pump(&mut self, room: Room) {
        while let Some(output) = self.session.poll(room) {
            match output {
                Output::Control(frame) => self.said.push_back((Channel::Control, whole(&frame))),
                Output::Data(frame) => self.said.push_back((Channel::Data, whole(&frame))),
                Output::Job(job) => self.jobs.push_back(job),
            }
            if self.said.len() > 64 {
                return;
            }
        }
    }

    /// Runs so many jobs.
    pub fn work(&mut self, count: usize) {
        for _ in 0..count {
            let Some(job) = self.jobs.pop_front() else { return };
            let done = self.worker.run(job);
            self.session.handle(self.now, Input::Done(done));
            self.pump(ROOM);
        }
    }
}

pub const ROOM: Room = Room { control: true, data: true };

/// A frame's bytes.
pub fn whole(frame: &Frame) -> Vec<u8> {
    [&frame.head[..], &frame.body[..]].concat()
}

fn limits(byte: u8) -> Limits {
    let mut limits = Limits { window_objects: [8, 64, 8192, 8192][usize::from(byte & 3)], ..Limits::default() };
    limits.window_bytes = [4 << 10, 64 << 10, 4 << 20, 4 << 20][usize::from(byte >> 2 & 3)];
    limits.prefixes = byte & 16 == 0;
    limits
}

/// Takes an input apart; zeros where it is over.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> usize {
        usize::from(self.u8()) << 8 | usize::from(self.u8())
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let (piece, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        piece.to_vec()
    }
}

/// Something that no honest peer says there, but well formed as far as it goes.
fn made_up(cursor: &mut Cursor) -> (Channel, Vec<u8>) {
    let frame = |channel, kind: u16, flags: u16, payload: &[u8], claimed: u32| {
        (channel, [&kind.to_le_bytes()[..], &flags.to_le_bytes(), &claimed.to_le_bytes(), payload].concat())
    };
    match cursor.u8() % 4 {
        0 => {
            let (kind, len) = (u16::from(cursor.u8() % 80), usize::from(cursor.u8()));
            let payload = cursor.bytes(len);
            let channel = if kind >= 64 { Channel::Data } else { Channel::Control };
            frame(channel, kind, u16::from(cursor.u8() & 1), &payload, payload.len() as u32)
        }
        1 => {
            let claimed = u32::from_le_bytes([cursor.u8(), cursor.u8(), cursor.u8(), cursor.u8()]);
            frame(if claimed & 1 == 0 { Channel::Control } else { Channel::Data }, 65, 0, &[], claimed)
        }
        2 => (Channel::Control, whole(&Message::Commit(Commit { objects: cursor.u8().into() }).encode())),
        _ => (Channel::Data, whole(&Message::Bundle(bundle(cursor)).encode())),
    }
}

/// A bundle whose content may be a bomb, packed against ways and bases as the input says.
fn bundle(cursor: &mut Cursor) -> Bundle {
    let shape = cursor.u8();
    let count = 1 + usize::from(cursor.u8() % 8);
    let origin = |cursor: &mut Cursor| match cursor.u8() {
        byte if byte & 3 == 0 => Origin::Unasked(Kind::ALL[usize::from(byte >> 2) % Kind::ALL.len()]),
        byte => Origin::Asked(u64::from(byte >> 2)),
    };
    let way = |cursor: &mut Cursor| Way { parent: (cursor.u8() % 16).into(), index: (cursor.u8() % 16).into() };
    let items: Vec<Item> = (0..count)
        .map(|_| {
            let origin = origin(cursor);
            let len = if shape & 1 == 0 { 1 + u32::from(cursor.u8()) } else { 1 + 16 * cursor.u16() as u32 };
            Item { origin, len }
        })
        .collect();
    let len: usize = items.iter().map(|item| item.len as usize).sum();
    let bases: Vec<Way> = (0..cursor.u8() % 8).map(|_| way(cursor)).collect();
    let ways: Vec<Way> =
        if bases.is_empty() { Vec::new() } else { (0..cursor.u8() % 8).map(|_| way(cursor)).collect() };
    let content = vec![shape; len];
    let packed = narrowboat_wan::pack::pack(&content, &[], 3).filter(|_| shape & 2 == 0);
    let (packing, bytes) = match packed {
        Some(mut packed) => {
            if shape & 4 != 0 {
                let at = cursor.u16() % packed.len();
                packed[at] ^= 1 << (cursor.u8() & 7);
            }
            (Packing::Zstd, packed)
        }
        None => (Packing::Raw, content),
    };
    Bundle {
        seq: cursor.u8().into(),
        items,
        forget: shape & 8 != 0,
        from_root: shape & 16 != 0,
        ways,
        bases,
        packing,
        bytes: bytes.into(),
    }
}

/// The hostile peer: what it holds back, and what it has heard the puppet say.
#[derive(Default)]
struct Tongue {
    held: Option<(Channel, Vec<u8>)>,
    past: Vec<(Channel, Vec<u8>)>,
}

impl Tongue {
    /// What the victim hears next, as the input says.
    fn says(&mut self, cursor: &mut Cursor, next: Option<(Channel, Vec<u8>)>) -> Vec<(Channel, Vec<u8>)> {
        let Some((channel, mut bytes)) = next else { return vec![made_up(cursor)] };
        if self.past.len() < 64 {
            self.past.push((channel, bytes.clone()));
        }
        let mut all: Vec<_> = self.held.take().into_iter().collect();
        match cursor.u8() {
            0..=159 => all.insert(0, (channel, bytes)),
            160..=199 => {
                for _ in 0..=cursor.u8() % 3 {
                    let at = cursor.u16() % bytes.len();
                    bytes[at] = cursor.u8();
                }
                all.push((channel, bytes));
            }
            200..=209 => {}
            210..=219 => all.extend([(channel, bytes.clone()), (channel, bytes)]),
            220..=229 => self.held = Some((channel, bytes)),
            230..=239 => {
                let again = self.past[usize::from(cursor.u8()) % self.past.len()].clone();
                all.extend([again, (channel, bytes)]);
            }
            _ => all.extend([made_up(cursor), (channel, bytes)]),
        }
        all
    }
}

/// Lets a victim and its puppet converse as the input says. How many frames the victim heard.
fn converse(victim: &mut Side, puppet: &mut Side, cursor: &mut Cursor) -> usize {
    let (mut tongue, mut heard, mut idle) = (Tongue::default(), 0, 0);
    for _ in 0..STEPS_MAX {
        victim.pump(ROOM);
        puppet.pump(ROOM);
        puppet.work(usize::MAX);
        while let Some((channel, bytes)) = victim.said.pop_front() {
            puppet.hear(channel, &bytes);
        }
        puppet.pump(ROOM);
        if victim.session.outcome().is_some() || idle > 3 {
            break;
        }
        let over = cursor.0.is_empty();
        if over && puppet.said.is_empty() && puppet.jobs.is_empty() && victim.jobs.is_empty() {
            // What waits for a moment comes to it.
            idle += 1;
            victim.now += Duration::from_secs(6);
            victim.session.handle(victim.now, Input::Time);
            continue;
        }
        // Jobs come late now and then, and time passes.
        let step = if over { 0 } else { cursor.u8() };
        if step & 3 != 3 {
            victim.work(usize::MAX);
        }
        if step & 0xf0 == 0xf0 {
            victim.now += Duration::from_secs(u64::from(step & 15));
            victim.session.handle(victim.now, Input::Time);
        }
        let next = puppet.said.pop_front();
        let says = if over { next.into_iter().collect() } else { tongue.says(cursor, next) };
        for (channel, bytes) in says {
            heard += 1;
            victim.hear(channel, &bytes);
        }
    }
    victim.work(usize::MAX);
    heard
}

/// What is replicated: the second day, upon the first one where `based`.
pub fn replication(based: bool) -> Replication {
    let Stage { first, second, .. } = stage();
    let bases = first.root.filter(|_| based).map(|root| (first.snapshot, root)).into_iter().collect();
    Replication { snapshot: second.clone(), bases, mark: None, shared: None }
}

/// What of the features a side names.
fn features(byte: u8) -> u64 {
    if byte & 0x80 == 0 { FEATURES_KNOWN } else { FEATURES_KNOWN & u64::from(byte & 7) }
}

/// The office, as it is before the second day.
pub fn office() -> Arc<Shelf> {
    stage().office.copy()
}

/// A session that receives, and a sender that lies.
pub fn receiving(input: &[u8]) -> usize {
    received(input).0
}

/// Whether what it receives is published in the end.
pub fn publishes(input: &[u8]) -> bool {
    received(input).1
}

fn received(input: &[u8]) -> (usize, bool) {
    let mut cursor = Cursor(input);
    let (how, what) = (cursor.u8(), cursor.u8());
    let shelf = office();
    let mut victim = Side::receiver(limits(how), features(what), shelf.clone());
    let mut puppet = Side::sender(limits(how >> 4), FEATURES_KNOWN, replication(how & 128 == 0));
    let heard = converse(&mut victim, &mut puppet, &mut cursor);
    drop(victim);
    shelf.check();
    (heard, shelf.shows_snapshot(&stage().second.snapshot))
}

/// A session that sends, and a receiver that lies.
pub fn sending(input: &[u8]) -> usize {
    let mut cursor = Cursor(input);
    let (how, what) = (cursor.u8(), cursor.u8());
    let mut victim = Side::sender(limits(how), features(what), replication(how & 128 == 0));
    let mut puppet = Side::receiver(limits(how >> 4), FEATURES_KNOWN, office());
    converse(&mut victim, &mut puppet, &mut cursor)
}

/// Honest to the end, with and without a base and older features; and each kind of lie early and late.
pub fn session_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (how, what) in [(10, 0), (0x8a, 0), (10, 0x80), (10, 0x81), (10, 0x83), (0, 0), (26, 0)] {
        seeds.push(vec![how, what]);
        for lie in [165, 205, 215, 225, 235, 245, 250] {
            for honest in [0, 1, 3, 6, 12] {
                let mut seed = vec![how, what];
                seed.extend(std::iter::repeat_n([0, 0], honest).flatten());
                seed.extend([0, lie, 3, 17, 4, 1, 2, 1, 9, 0, 0, 1, 0, 0, 2, 0, 1]);
                seeds.push(seed);
            }
        }
    }
    seeds
}
