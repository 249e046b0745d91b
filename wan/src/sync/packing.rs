//! The sender's packing and the receiver's unpacking of bundles, where blocking is allowed.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use narrowboat_storage::container::codec::{self, Codec};
use narrowboat_storage::error::{Damage, Error, Result};
use narrowboat_storage::tree::Span;

use super::budget::Budget;
use super::diff::{Counterpart, Counterparts};
use super::seam::{Ref, Sink, Source, Stored};
use super::thrift::{Thrift, Turn};
use super::walk::TaskId;
use super::ways::Known;
use crate::pack::{self, BASE_BYTES_MAX};
use crate::wire::{BASES_OF_BUNDLE_MAX, Bundle, Packing};

/// Most bytes of a group that is packed against a base: matches are found and told more cheaply where both are near.
const BASED_GROUP_BYTES: usize = 1 << 20;
/// Contents of at least this length that did not compress when they were stored are not tried again.
const TRIED_BYTES_MIN: usize = 4096;

/// What is to be read and packed.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    /// Which objects, in this order, and what each may be packed against.
    pub objects: Vec<(Ref, Counterparts)>,
    /// Stop after so many bytes; the first object is taken in any case.
    pub bytes_max: usize,
    /// The zstd level; none for objects as they are stored.
    pub level: Option<i32>,
    /// Whether to pack against counterparts.
    pub delta: bool,
}

/// The first so many of the objects of an order, ready for the line.
#[derive(Debug)]
pub enum Parcel {
    /// One by one, as they are stored.
    Stored(Vec<Stored>),
    /// Together.
    Group(Group),
}

/// Objects that were packed together.
#[derive(Debug)]
pub struct Group {
    /// The length of each.
    pub lens: Vec<u32>,
    /// What they take as stored.
    pub stored_bytes: u64,
    /// What they were packed against, in this order.
    pub bases: Vec<Arc<Counterpart>>,
    /// How many of them have counterparts among the bases.
    pub based: u64,
    /// The zstd level.
    pub level: i32,
    /// How the bytes are packed.
    pub packing: Packing,
    /// All of them.
    pub bytes: Bytes,
}

impl Parcel {
    /// How many of the order's objects are in it.
    pub fn objects(&self) -> usize {
        match self {
            Parcel::Stored(objects) => objects.len(),
            Parcel::Group(group) => group.lens.len(),
        }
    }
}

/// What is ready for the line.
#[derive(Debug)]
pub(super) enum Loaded {
    Object(TaskId, Stored),
    Group(Vec<TaskId>, Group),
}

impl Loaded {
    /// How many objects.
    pub fn objects(&self) -> usize {
        match self {
            Loaded::Object(..) => 1,
            Loaded::Group(tasks, _) => tasks.len(),
        }
    }

    /// What it takes as it travels, framing left out.
    pub fn bytes(&self) -> usize {
        match self {
            Loaded::Object(_, stored) => stored.bytes.len(),
            Loaded::Group(_, group) => group.bytes.len(),
        }
    }
}

/// What carrying out an order takes in memory at most.
fn memory(order: &Order) -> u64 {
    let has_bases = order.delta && order.objects.iter().any(|(_, counterparts)| !counterparts.all.is_empty());
    let base = if has_bases { BASE_BYTES_MAX } else { 0 };
    // The first object may be larger than what was asked for.
    let content = order.bytes_max.max(pack::GROUP_BYTES_MAX / 64);
    let packing = order.level.map_or(0, |level| pack::memory(content, base, level));
    (content + base) as u64 + packing
}

/// Reads and packs, once the budget has room for it.
pub(super) fn pack(source: &dyn Source, order: &Order, thrift: &Mutex<Thrift>, budget: &Budget) -> Result<Parcel> {
    let _taken = budget.take(memory(order));
    match order.level {
        None => load(source, order).map(Parcel::Stored),
        Some(level) => group(source, order, level, thrift).map(Parcel::Group),
    }
}

fn load(source: &dyn Source, order: &Order) -> Result<Vec<Stored>> {
    let mut loaded = Vec::new();
    let mut bytes = 0;
    for ((kind, name), _) in &order.objects {
        if bytes >= order.bytes_max && !loaded.is_empty() {
            break;
        }
        let stored = source.stored(*kind, name)?;
        bytes += stored.bytes.len();
        loaded.push(stored);
    }
    Ok(loaded)
}

fn group(source: &dyn Source, order: &Order, level: i32, thrift: &Mutex<Thrift>) -> Result<Group> {
    let thrift = || thrift.lock().unwrap_or_else(PoisonError::into_inner);
    let has_bases = order.delta && order.objects.iter().any(|(_, counterparts)| !counterparts.all.is_empty());
    let turn = if has_bases { thrift().turn() } else { Turn::Without };
    let mut content: Vec<u8> = Vec::new();
    let mut bases = Bases::default();
    let mut group = Group {
        lens: Vec::new(),
        stored_bytes: 0,
        bases: Vec::new(),
        based: 0,
        level,
        packing: Packing::Raw,
        bytes: Bytes::new(),
    };
    let mut worth_trying = false;
    for (at, counterparts) in &order.objects {
        let stored = source.stored(at.0, &at.1)?;
        let max = if bases.all.is_empty() { order.bytes_max } else { order.bytes_max.min(BASED_GROUP_BYTES) };
        if !content.is_empty() && content.len() + stored.raw_len as usize > max {
            break;
        }
        if turn != Turn::Without {
            group.based += u64::from(bases.add(source, counterparts)?);
        }
        worth_trying |= stored.codec != Codec::Raw || stored.bytes.len() < TRIED_BYTES_MIN;
        group.lens.push(stored.raw_len);
        group.stored_bytes += stored.bytes.len() as u64;
        unpack_onto(&mut content, at, &stored)?;
    }
    let alone = || if worth_trying { pack::pack(&content, &[], level) } else { None };
    let packed = if bases.all.is_empty() { alone() } else { pack::pack(&content, &bases.bytes, level) };
    let packed = if turn == Turn::Compare {
        let len = |packed: &Option<Vec<u8>>| packed.as_ref().map_or(content.len(), Vec::len);
        let alone = alone();
        if thrift().learn(len(&packed), len(&alone)) {
            packed
        } else {
            bases = Bases::default();
            group.based = 0;
            alone
        }
    } else {
        packed
    };
    match packed {
        Some(packed) => {
            group.packing = Packing::Zstd;
            group.bases = bases.all;
            group.bytes = packed.into();
        }
        None => {
            group.based = 0;
            group.bytes = content.into();
        }
    }
    Ok(group)
}

fn unpack_onto(content: &mut Vec<u8>, at: &Ref, stored: &Stored) -> Result<()> {
    match stored.codec {
        Codec::Raw => content.extend_from_slice(&stored.bytes),
        codec => {
            let unpacked = codec::decompress(codec, stored.raw_len as usize, &stored.bytes);
            let broken = |wrong| Damage::new(format!("{:?} {}", at.0, at.1), 0, "an object that unpacks", wrong);
            content.extend_from_slice(&unpacked.map_err(broken)?);
        }
    }
    Ok(())
}

/// What a group is packed against: each base once, in the order in which they are needed.
#[derive(Default)]
struct Bases {
    all: Vec<Arc<Counterpart>>,
    seen: HashSet<Ref>,
    bytes: Vec<u8>,
}

impl Bases {
    /// Adds those of one object, as far as there is room. True where it has any.
    fn add(&mut self, source: &dyn Source, counterparts: &Counterparts) -> Result<bool> {
        let mut any = false;
        for counterpart in counterparts.all.iter() {
            if self.seen.contains(&counterpart.at) {
                any = true;
                continue;
            }
            // The root has no place but the first.
            if self.all.len() >= BASES_OF_BUNDLE_MAX || counterpart.way.is_none() && !self.all.is_empty() {
                continue;
            }
            let bytes = match source.read(counterpart.at.0, &counterpart.at.1) {
                Ok(bytes) => bytes,
                // The new snapshot does not need it, and now of all times it has to get away.
                Err(error @ (Error::Damage(_) | Error::Refused(_))) => {
                    tracing::warn!(%error, "what an object was to be packed against cannot be read");
                    continue;
                }
                Err(error) => return Err(error),
            };
            if self.bytes.len() + bytes.len() > BASE_BYTES_MAX {
                continue;
            }
            any = true;
            self.seen.insert(counterpart.at);
            self.all.push(counterpart.clone());
            self.bytes.extend_from_slice(&bytes);
        }
        Ok(any)
    }
}

/// The content of a bundle, unpacked against what it says. `spans` reads those of a node that is present. The inner
/// error is the peer's fault, told in a sentence.
pub(super) fn unpack(
    sink: &dyn Sink,
    known: &mut Known,
    spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
    bundle: &Bundle,
) -> Result<Result<Bytes, String>> {
    let base = match base_of(sink, known, spans, bundle)? {
        Ok(base) => base,
        Err(wrong) => return Ok(Err(wrong)),
    };
    Ok(match bundle.packing {
        Packing::Raw => Ok(bundle.bytes.clone()),
        Packing::Zstd => pack::unpack(&bundle.bytes, &base, bundle.content_len())
            .map(Bytes::from)
            .map_err(|wrong| format!("a bundle does not unpack: {wrong}")),
    })
}

/// Takes the new ways, and reads all bases.
fn base_of(
    sink: &dyn Sink,
    known: &mut Known,
    spans: &mut dyn FnMut(&Ref) -> Result<Arc<[Span]>>,
    bundle: &Bundle,
) -> Result<Result<Vec<u8>, String>> {
    let mut step = |known: &Known, parent: u32, index: u32| -> Result<Result<Ref, String>> {
        let node = match known.node(parent) {
            Ok(node) if node.0.is_node() => node,
            Ok(_) => return Ok(Err("it names something below a chunk".to_owned())),
            Err(wrong) => return Ok(Err(wrong)),
        };
        let found = spans(&node)?.get(index as usize).map(|span| span.at);
        Ok(found.ok_or_else(|| format!("it names place {index} of a node that has no such place")))
    };
    if bundle.forget {
        known.forget();
    }
    for way in &bundle.ways {
        let learnt = step(known, way.parent, way.index)?.and_then(|node| known.learn(node));
        if let Err(wrong) = learnt {
            return Ok(Err(wrong));
        }
    }
    let mut all = Vec::new();
    if bundle.from_root {
        match known.root() {
            Ok(root) => all.push(root),
            Err(wrong) => return Ok(Err(wrong)),
        }
    }
    for base in &bundle.bases {
        match step(known, base.parent, base.index)? {
            Ok(base) => all.push(base),
            Err(wrong) => return Ok(Err(wrong)),
        }
    }
    let mut bytes = Vec::new();
    for (kind, name) in all {
        let base = sink.fetch(kind, &name)?;
        if bytes.len() + base.len() > BASE_BYTES_MAX {
            return Ok(Err("it packs against more than there may be".to_owned()));
        }
        bytes.extend_from_slice(&base);
    }
    Ok(Ok(bytes))
}
