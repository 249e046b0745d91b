//! A walk as it is carried out at the sender: what is read and packed ahead of the line, sent within the windows, and acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::effort::{Effort, LEVEL_MIN};
use super::failure::Failure;
use super::jobs::Request;
use super::packing::{Group, Loaded, Order, Parcel};
use super::report::Report;
use super::seam::{Mark, Ref, Stored};
use super::walk::{TaskId, ToLoad, Walk};
use super::ways::{Named, Ways};
use crate::wire::{Ack, Bundle, Item, Message, Object, Origin, Packing};

/// Objects in one request for them as they are stored.
const LOAD_BATCH: usize = 64;
/// Bytes after which one such request ends.
const LOAD_BYTES: usize = 512 << 10;
/// Objects in one request to pack.
const PACK_BATCH: usize = 512;
/// Requests to read and pack that are under way at a time.
const LOADS_MAX: usize = 8;
/// What a request counts in what is read ahead, at least: its first object may be larger than what it was asked for.
const LOAD_BYTES_MIN: usize = 64 << 10;
/// After so long what was acknowledged says what the line takes.
const RATE_AFTER: Duration = Duration::from_secs(5);
/// Groups are not made smaller than this: two chunks.
const GROUP_BYTES_LEAST: usize = 32 << 10;
/// Requests to expand that run at a time.
const EXPANDS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Walking {
    pub walk: Walk,
    pub window_bytes: u64,
    pub window_objects: usize,
    /// What was read and packed, and waits for room on the line.
    pub loaded: VecDeque<Loaded>,
    pub loaded_bytes: usize,
    /// Bytes that requests under way may bring.
    pub loading_bytes: usize,
    pub packing: HowToPack,
    /// Sent and not acknowledged, in order.
    pub outstanding: VecDeque<(TaskId, u64)>,
    pub outstanding_bytes: u64,
    pub next_seq: u64,
    /// What the receiver has acknowledged of this session, as it travelled.
    pub acknowledged_bytes: u64,
    /// When the first object was sent.
    pub shipping_since: Option<Duration>,
    pub now: Duration,
    pub expands: BTreeMap<u64, Vec<TaskId>>,
    /// What was kept since is new to the receiver.
    pub since: Option<Arc<Mark>>,
    /// The base's root, where what resembles is looked for in it.
    pub resemble: Option<Ref>,
    pub loads: BTreeMap<u64, Load>,
}

/// How this session packs.
#[derive(Debug)]
pub(super) struct HowToPack {
    pub effort: Effort,
    pub delta: bool,
    pub group_bytes: usize,
    /// False where the receiver takes objects one by one only.
    pub bundles: bool,
    pub ways: Ways,
}

/// A request under way: its objects, and how many bytes it may bring.
#[derive(Debug)]
pub(super) struct Load {
    pub tasks: Vec<TaskId>,
    pub charged: usize,
}

impl Walking {
    pub fn expand(&mut self, id: u64) -> Option<Request> {
        if self.expands.len() >= EXPANDS_MAX {
            return None;
        }
        let batch = self.walk.next_expand()?;
        self.expands.insert(id, batch.iter().map(|(task, _, _)| *task).collect());
        let nodes = batch.into_iter().map(|(_, node, counterparts)| (node, counterparts)).collect();
        Some(Request::Expand { nodes, since: self.since.clone(), resemble: self.resemble })
    }

    pub fn load(&mut self, id: u64, read_ahead_bytes: usize) -> Option<Request> {
        if !self.loaded.is_empty() {
            self.packing.effort.packed_waits();
        }
        if self.loaded_bytes + self.loading_bytes >= read_ahead_bytes || self.loads.len() >= LOADS_MAX {
            return None;
        }
        let first = self.walk.next_load()?;
        let level = if self.packing.bundles { self.packing.effort.choose() } else { None };
        let level = level.max(self.level_needed(&first));
        let (count_max, bytes_max) =
            if level.is_some() { (PACK_BATCH, self.group_bytes()) } else { (LOAD_BATCH, LOAD_BYTES) };
        // The receiver may hold back the acknowledgement of a quarter.
        let count_max = count_max.min(self.window_objects - self.window_objects / 4);
        let mut batch = vec![first];
        while batch.len() < count_max {
            let Some(load) = self.walk.next_load() else { break };
            if level.is_none() && self.level_needed(&load).is_some() {
                self.walk.not_loaded(&[load.task]);
                break;
            }
            batch.push(load);
        }
        let tasks = batch.iter().map(|load| load.task).collect();
        let objects = batch.into_iter().map(|load| (load.at, load.counterparts)).collect();
        let charged = bytes_max.max(LOAD_BYTES_MIN);
        self.loads.insert(id, Load { tasks, charged });
        self.loading_bytes += charged;
        let delta = self.packing.delta && self.packing.effort.least_for_bases().is_some();
        Some(Request::Pack(Order { objects, bytes_max, level, delta }))
    }

    /// The level that an object is packed at, at least. Only a bundle says what something is that was not asked for; and
    /// what differs little from the base is told in so few bytes that finding the difference pays on any line.
    pub fn level_needed(&self, load: &ToLoad) -> Option<i32> {
        let based = self.packing.bundles && self.packing.delta && !load.counterparts.all.is_empty();
        let unasked = (!load.was_asked).then_some(LEVEL_MIN);
        unasked.max(if based { self.packing.effort.least_for_bases() } else { None })
    }

    /// Groups travel side by side on several streams and arrive whole. So none is more than what the line has lately taken in two
    /// seconds, or nothing would arrive for long on a thin line; and none is more than an eighth of the window, or all would arrive
    /// at once, and the line would wait for their acknowledgement.
    pub fn group_bytes(&self) -> usize {
        let most = self.packing.group_bytes.min(usize::try_from(self.window_bytes / 8).unwrap_or(usize::MAX));
        let Some(shipping_since) = self.shipping_since else { return most };
        let elapsed = self.now.saturating_sub(shipping_since);
        if elapsed < RATE_AFTER {
            return most;
        }
        let in_two_seconds = u128::from(self.acknowledged_bytes) * 2000 / elapsed.as_millis().max(1);
        most.min(usize::try_from(in_two_seconds).unwrap_or(usize::MAX).max(GROUP_BYTES_LEAST))
    }

    pub fn loaded(&mut self, id: u64, parcel: Parcel) {
        let Some(Load { mut tasks, charged }) = self.loads.remove(&id) else { return };
        self.loading_bytes -= charged;
        let rest = tasks.split_off(parcel.objects().min(tasks.len()));
        self.walk.not_loaded(&rest);
        let loaded = match parcel {
            Parcel::Stored(objects) => {
                tasks.into_iter().zip(objects).map(|(task, stored)| Loaded::Object(task, stored)).collect()
            }
            Parcel::Group(group) => vec![Loaded::Group(tasks, group)],
        };
        for loaded in loaded {
            self.loaded_bytes += loaded.bytes();
            self.loaded.push_back(loaded);
        }
    }

    /// The next message with objects, where the window has room for it.
    pub fn ship(&mut self, report: &mut Report) -> Option<Message> {
        let Some(next) = self.loaded.front() else {
            // The line is idle where the receiver has acknowledged all that it does not hold back.
            let idle = self.acknowledged_bytes > 0 && self.outstanding_bytes <= self.window_bytes / 4;
            if !self.loads.is_empty() && idle {
                self.packing.effort.line_waits();
            }
            return None;
        };
        let objects = self.outstanding.len() + next.objects();
        let bytes = self.outstanding_bytes + next.bytes() as u64;
        // The receiver may hold back the acknowledgement of a quarter, so beyond that there is nothing to wait for.
        let full = bytes > self.window_bytes && self.outstanding_bytes > self.window_bytes / 4;
        if full || objects > self.window_objects {
            return None;
        }
        self.loaded_bytes -= next.bytes();
        (report.choices.harder, report.choices.easier) = self.packing.effort.turns();
        match self.loaded.pop_front()? {
            Loaded::Object(task, stored) => self.ship_object(report, task, stored),
            Loaded::Group(tasks, group) => self.ship_group(report, &tasks, group),
        }
    }

    pub fn ship_object(&mut self, report: &mut Report, task: TaskId, stored: Stored) -> Option<Message> {
        let (kind, ask) = self.walk.ship(task)?;
        let ask = ask?;
        let len = stored.bytes.len() as u64;
        report.tally(kind).sent += 1;
        report.payload_bytes += len;
        report.stored_bytes += len;
        report.raw_bytes += u64::from(stored.raw_len);
        *report.efforts.entry(0).or_default() += u64::from(stored.raw_len);
        let seq = self.sent(task, len);
        Some(Message::Object(Object { seq, ask, stored }))
    }

    pub fn ship_group(&mut self, report: &mut Report, tasks: &[TaskId], group: Group) -> Option<Message> {
        let mut items = Vec::with_capacity(tasks.len());
        for (task, len) in tasks.iter().zip(&group.lens) {
            let (kind, ask) = self.walk.ship(*task)?;
            report.tally(kind).sent += 1;
            items.push(Item { origin: ask.map_or(Origin::Unasked(kind), Origin::Asked), len: *len });
        }
        let Named { forget, ways, from_root, bases } = self.packing.ways.name(&group.bases);
        let (packing, bytes) = (group.packing, group.bytes);
        let bundle = Bundle { seq: self.next_seq, items, forget, ways, from_root, bases, packing, bytes };
        let (len, raw) = (bundle.wire_len(), bundle.content_len() as u64);
        // Acknowledgements come in order, so the last object may stand for all of the bytes.
        for (nth, task) in tasks.iter().enumerate() {
            self.sent(*task, if nth + 1 == tasks.len() { len } else { 0 });
        }
        report.payload_bytes += bundle.bytes.len() as u64;
        report.stored_bytes += group.stored_bytes;
        report.raw_bytes += raw;
        report.based += group.based;
        if packing == Packing::Raw {
            report.choices.incompressible_bytes += raw;
        }
        *report.efforts.entry(group.level).or_default() += raw;
        Some(Message::Bundle(bundle))
    }

    /// Notes that an object is under way, and returns its number.
    pub fn sent(&mut self, task: TaskId, len: u64) -> u64 {
        self.shipping_since.get_or_insert(self.now);
        self.outstanding.push_back((task, len));
        self.outstanding_bytes += len;
        self.next_seq += 1;
        self.next_seq - 1
    }

    pub fn acknowledged(&mut self, report: &mut Report, ack: Ack) -> Result<(), Failure> {
        let acknowledged = self.next_seq - self.outstanding.len() as u64;
        if ack.objects < acknowledged || ack.objects > self.next_seq {
            return Err(Failure::Protocol("it acknowledges what was not sent".to_owned()));
        }
        report.kept += ack.objects - acknowledged;
        for (task, len) in self.outstanding.drain(..(ack.objects - acknowledged) as usize) {
            self.outstanding_bytes -= len;
            self.acknowledged_bytes += len;
            self.walk.acknowledged(task);
        }
        Ok(())
    }
}
