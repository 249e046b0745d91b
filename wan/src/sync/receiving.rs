//! Objects as they come in at the receiver: held to their windows, put in order, admitted, synced, acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use narrowboat_storage::name::Kind;

use super::demands::Demands;
use super::failure::Failure;
use super::jobs::{Arrival, Expected, Request};
use super::limits::Limits;
use super::questions::{Asked, Questions};
use super::seam::SnapshotOffer;
use crate::wire::{Ack, Bundle, Commit, DATA_BYTES_MAX, Message, Object, Origin};

/// Objects in one request to admit.
const ADMIT_OBJECTS: u64 = 256;
/// Bytes after which one request to admit ends.
const ADMIT_BYTES: u64 = 1 << 20;
/// Bytes of unpacked objects after which one request to admit ends.
const ADMIT_WORK_BYTES: u64 = 16 << 20;
/// Bytes on the line that are not left without a sync, however large the window: with what arrives during a sync it is what a cut
/// costs, which may be 4 MiB and two round trips.
const SYNC_BYTES_MAX: u64 = 2 << 20;
/// Bytes of unpacked objects that are not left without a sync, however few they were on the line.
const SYNC_WORK_BYTES: u64 = 64 << 20;
/// What was admitted is not left without a sync for longer.
const SYNC_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Receiving {
    pub snapshot: SnapshotOffer,
    pub window: Limits,
    pub questions: Questions,
    pub demands: Demands,
    /// What came before others that precede it, by the number of its first object.
    pub early: BTreeMap<u64, Arrived>,
    /// What can be admitted, in order.
    pub due: VecDeque<Arrived>,
    /// The first object that has not arrived.
    pub next_seq: u64,
    /// Bytes that arrived and are not durable.
    pub undurable_bytes: u64,
    /// Objects and bytes that were admitted and not synced.
    pub unsynced: (u64, u64),
    /// The same bytes, unpacked.
    pub unsynced_work: u64,
    /// When the last sync began, or receiving did.
    pub synced_at: Duration,
    pub durable: u64,
    pub durable_said: u64,
    pub writing: Writing,
    pub checking: Checking,
    pub committed: Option<u64>,
}

/// What came in one message, and what it counts in the window.
#[derive(Debug)]
pub(super) struct Arrived {
    pub objects: u64,
    pub bytes: u64,
    /// What it makes this side do, in bytes: what it unpacks to.
    pub work_bytes: u64,
    pub what: Arrival,
}

/// What the write lane does.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Writing {
    Nothing,
    Admitting { objects: u64, bytes: u64 },
    Syncing,
}

/// Whether it was looked for what is not proved, once everything has arrived. Done where nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checking {
    Due,
    UnderWay,
    Done,
}

impl Receiving {
    pub fn new(snapshot: SnapshotOffer, window: Limits, proving: bool, now: Duration) -> Self {
        let root = snapshot.root.unwrap_or_default();
        Receiving {
            snapshot,
            window,
            questions: Questions::new(Expected::Named((Kind::MapNode, root)), proving),
            demands: Demands::default(),
            early: BTreeMap::new(),
            due: VecDeque::new(),
            next_seq: 0,
            undurable_bytes: 0,
            unsynced: (0, 0),
            unsynced_work: 0,
            synced_at: now,
            durable: 0,
            durable_said: 0,
            writing: Writing::Nothing,
            checking: if proving { Checking::Due } else { Checking::Done },
            committed: None,
        }
    }

    pub fn asked(&mut self, first: u64, asked: Asked) -> Result<(), Failure> {
        if self.committed.is_some() {
            return Err(Failure::Protocol("its questions are not in order".to_owned()));
        }
        // What it has sent, and what has not arrived, is still wanted here: hence the window of objects on top.
        let max = self.window.window_names as usize + self.window.window_objects as usize;
        self.questions.asked(first, asked, max)
    }

    /// The read lane: proofs first, for what is not proved holds up further questions.
    pub fn read(&mut self, id: u64) -> Option<Request> {
        let proof = self.demands.next_job();
        proof.or_else(|| if self.demands.is_full() { None } else { self.questions.lookup(id) })
    }

    pub fn arrived(&mut self, object: Object) -> Result<(), Failure> {
        let at = self.questions.asked_for(object.ask)?;
        let bytes = object.stored.bytes.len() as u64;
        let work_bytes = object.stored.raw_len.into();
        self.keep(object.seq, Arrived { objects: 1, bytes, work_bytes, what: Arrival::Object(at, object.stored) })
    }

    pub fn bundle_arrived(&mut self, bundle: Bundle) -> Result<(), Failure> {
        let expected = |receiving: &mut Self, origin| match origin {
            Origin::Asked(number) => receiving.questions.asked_for(number),
            Origin::Unasked(kind) => Ok(Expected::OfKind(kind)),
        };
        let expected: Vec<_> =
            bundle.items.iter().map(|item| expected(self, item.origin)).collect::<Result<_, Failure>>()?;
        let (seq, objects, bytes) = (bundle.seq, bundle.items.len() as u64, bundle.wire_len());
        let work_bytes = bundle.content_len() as u64;
        self.keep(seq, Arrived { objects, bytes, work_bytes, what: Arrival::Bundle(expected, bundle) })
    }

    pub fn keep(&mut self, seq: u64, arrived: Arrived) -> Result<(), Failure> {
        let protocol = |what: &str| Err(Failure::Protocol(what.to_owned()));
        // The last message may reach beyond the window, and on another stream arrive before those in front of it.
        if self.undurable_bytes + arrived.bytes > self.window.window_bytes + DATA_BYTES_MAX as u64 {
            return protocol("it sends more bytes than its window allows");
        }
        let Some(end) = seq.checked_add(arrived.objects) else { return protocol("its objects are numbered wrongly") };
        if end > self.durable + u64::from(self.window.window_objects) {
            return protocol("it sends more objects than its window allows");
        }
        if seq < self.next_seq || self.committed.is_some_and(|objects| end > objects) {
            return protocol("its objects are numbered wrongly");
        }
        let before = self.early.range(..end).next_back();
        if before.is_some_and(|(first, before)| first + before.objects > seq) {
            return protocol("two of its objects have the same number");
        }
        self.undurable_bytes += arrived.bytes;
        self.early.insert(seq, arrived);
        while let Some(arrived) = self.early.remove(&self.next_seq) {
            self.next_seq += arrived.objects;
            self.due.push_back(arrived);
        }
        Ok(())
    }

    pub fn commit(&mut self, commit: Commit) -> Result<(), Failure> {
        let last = self.early.last_key_value();
        let highest = last.map_or(self.next_seq, |(seq, arrived)| seq + arrived.objects);
        if self.committed.is_some() || commit.objects < highest {
            return Err(Failure::Protocol("its commit does not fit what it sent".to_owned()));
        }
        self.committed = Some(commit.objects);
        Ok(())
    }

    /// The write lane: one job at a time, admitting before syncing.
    pub fn write(&mut self, now: Duration, report: &mut super::Report) -> Option<Request> {
        if self.writing != Writing::Nothing {
            return None;
        }
        let quarter = ((self.window.window_bytes / 4).min(SYNC_BYTES_MAX), u64::from(self.window.window_objects) / 4);
        let much = self.unsynced.1 > quarter.0 || self.unsynced.0 > quarter.1 || self.unsynced_work > SYNC_WORK_BYTES;
        if much || self.sync_due().is_some_and(|due| due <= now) {
            self.synced_at = now;
            self.writing = Writing::Syncing;
            return Some(Request::Sync);
        }
        let (mut batch, mut objects, mut bytes, mut work) = (Vec::new(), 0, 0, 0);
        while objects < ADMIT_OBJECTS && bytes < ADMIT_BYTES && work < ADMIT_WORK_BYTES {
            let Some(arrived) = self.due.pop_front() else { break };
            objects += arrived.objects;
            bytes += arrived.bytes;
            work += arrived.work_bytes;
            tally(report, &arrived);
            batch.push(arrived.what);
        }
        if batch.is_empty() {
            return None;
        }
        self.unsynced_work += work;
        self.writing = Writing::Admitting { objects, bytes };
        Some(Request::Admit(batch))
    }

    /// When what was admitted is synced though it is little, so that the sender hears of it on a thin line.
    pub fn sync_due(&self) -> Option<Duration> {
        (self.unsynced.0 > 0 && self.writing == Writing::Nothing).then(|| self.synced_at + SYNC_AFTER)
    }

    pub fn admitted(&mut self) {
        if let Writing::Admitting { objects, bytes } = std::mem::replace(&mut self.writing, Writing::Nothing) {
            self.unsynced.0 += objects;
            self.unsynced.1 += bytes;
        }
    }

    pub fn synced(&mut self) {
        self.writing = Writing::Nothing;
        let (objects, bytes) = std::mem::take(&mut self.unsynced);
        self.unsynced_work = 0;
        self.durable += objects;
        self.undurable_bytes -= bytes;
    }

    pub fn next_ack(&mut self) -> Option<Message> {
        (self.durable > self.durable_said).then(|| {
            self.durable_said = self.durable;
            Message::Ack(Ack { objects: self.durable })
        })
    }

    /// True once everything has arrived: what is left is this side's work.
    pub fn is_nearly_done(&self) -> bool {
        self.committed == Some(self.next_seq) && self.demands.is_settled()
    }

    /// True once everything has arrived and was admitted; publishing syncs what is left.
    pub fn is_complete(&self) -> bool {
        let admitted = self.committed == Some(self.durable + self.unsynced.0) && self.writing == Writing::Nothing;
        admitted && self.demands.is_settled()
    }
}

/// Counts what is about to be admitted.
fn tally(report: &mut super::Report, arrived: &Arrived) {
    match &arrived.what {
        Arrival::Object(at, stored) => {
            report.payload_bytes += stored.bytes.len() as u64;
            report.tally(at.kind()).sent += 1;
            report.raw_bytes += u64::from(stored.raw_len);
        }
        Arrival::Bundle(expected, bundle) => {
            for expected in expected {
                report.tally(expected.kind()).sent += 1;
            }
            report.payload_bytes += bundle.bytes.len() as u64;
            report.raw_bytes += bundle.content_len() as u64;
        }
    }
}
