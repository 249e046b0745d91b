//! The side that gets the snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::name::{Kind, Name};

use super::core::{Core, incompatible, misplaced};
use super::demands::Demands;
use super::failure::Failure;
use super::jobs::{Arrival, Expected, Job, Reply, Request};
use super::limits::Limits;
use super::questions::{Asked, Questions};
use super::seam::{Hello, SnapshotOffer};
use crate::wire::{
    Ack, Begin, Bundle, Challenge, Commit, DATA_BYTES_MAX, FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS, Message,
    Object, Offer, Origin, Published,
};

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
enum Phase {
    /// Waiting for the greeting.
    Greeting,
    /// Waiting for the offer.
    Greeted,
    /// The store is asked whether the offer is welcome, and what of it is here.
    Accepting(Box<Offer>, Turn),
    /// Objects come in.
    Receiving(Box<Receiving>),
    /// The store publishes.
    Publishing(Box<SnapshotOffer>),
}

/// Whether a phase's single job was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Due,
    Taken,
}

#[derive(Debug)]
struct Receiving {
    snapshot: SnapshotOffer,
    window: Limits,
    questions: Questions,
    demands: Demands,
    /// What came before others that precede it, by the number of its first object.
    early: BTreeMap<u64, Arrived>,
    /// What can be admitted, in order.
    due: VecDeque<Arrived>,
    /// The first object that has not arrived.
    next_seq: u64,
    /// Bytes that arrived and are not durable.
    undurable_bytes: u64,
    /// Objects and bytes that were admitted and not synced.
    unsynced: (u64, u64),
    /// The same bytes, unpacked.
    unsynced_work: u64,
    /// When the last sync began, or receiving did.
    synced_at: Duration,
    durable: u64,
    durable_said: u64,
    writing: Writing,
    checking: Checking,
    committed: Option<u64>,
}

/// What came in one message, and what it counts in the window.
#[derive(Debug)]
struct Arrived {
    objects: u64,
    bytes: u64,
    /// What it makes this side do, in bytes: what it unpacks to.
    work_bytes: u64,
    what: Arrival,
}

/// What the write lane does.
#[derive(Debug, PartialEq, Eq)]
enum Writing {
    Nothing,
    Admitting { objects: u64, bytes: u64 },
    Syncing,
}

/// Whether it was looked for what is not proved, once everything has arrived. Done where nothing was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Checking {
    Due,
    UnderWay,
    Done,
}

/// The receiving side of one session.
#[derive(Debug)]
pub struct Receiver {
    pub(super) core: Core,
    phase: Phase,
    jobs: u64,
    /// Whether the last of all jobs, the publication, was handed out.
    publishing: Turn,
}

impl Receiver {
    /// Greets. `hello` is of role receiver.
    pub fn new(hello: Hello, limits: Limits, now: Duration) -> Self {
        let core = Core::new(hello, limits.sane(), now);
        Receiver { core, phase: Phase::Greeting, jobs: 0, publishing: Turn::Due }
    }

    /// The snapshot that was offered, once it was.
    pub fn offered(&self) -> Option<&SnapshotOffer> {
        match &self.phase {
            Phase::Greeting | Phase::Greeted => None,
            Phase::Accepting(offer, _) => Some(&offer.snapshot),
            Phase::Publishing(snapshot) => Some(snapshot),
            Phase::Receiving(receiving) => Some(&receiving.snapshot),
        }
    }

    pub(super) fn message(&mut self, message: Message) -> Result<(), Failure> {
        match (message, &mut self.phase) {
            (Message::Hello(hello), Phase::Greeting) => {
                incompatible(&self.core.hello, &hello)?;
                self.core.peer = Some(hello);
                self.phase = Phase::Greeted;
                Ok(())
            }
            (Message::Offer(offer), Phase::Greeted) => {
                self.offer(offer);
                Ok(())
            }
            (Message::Ask(ask), Phase::Receiving(receiving)) => receiving.asked(ask.first, Asked::Names(ask.names)),
            (Message::AskPrefixes(ask), Phase::Receiving(receiving)) => {
                if self.core.hello.features_ignore & FEATURE_PREFIXES == 0 {
                    return Err(Failure::Protocol("it asks a box by prefix that does not know that".to_owned()));
                }
                receiving.asked(ask.first, Asked::Prefixes(ask.prefixes))
            }
            (Message::Object(object), Phase::Receiving(receiving)) => receiving.arrived(object),
            (Message::Bundle(bundle), Phase::Receiving(receiving)) => {
                if self.core.hello.features_ignore & FEATURE_BUNDLES == 0 {
                    return Err(Failure::Protocol("it sends bundles to a box that does not take them".to_owned()));
                }
                receiving.bundle_arrived(bundle)
            }
            (Message::Proof(proof), Phase::Receiving(receiving)) => receiving.demands.arrived(proof),
            (Message::Commit(commit), Phase::Receiving(receiving)) => receiving.commit(commit),
            (Message::Stop(stop), _) => Err(Failure::Stopped(stop)),
            (message, _) => Err(misplaced(&message)),
        }
    }

    fn offer(&mut self, offer: Offer) {
        self.core.report.dataset = offer.snapshot.dataset;
        self.core.report.snapshot = offer.snapshot.snapshot;
        self.core.report.root_there = offer.snapshot.root;
        self.phase = Phase::Accepting(Box::new(offer), Turn::Due);
    }

    pub(super) fn reply(&mut self, id: u64, reply: Reply) -> Result<(), Failure> {
        match (reply, &mut self.phase) {
            (Reply::Failed(error), _) => Err(Failure::Store(error)),
            (Reply::NotAllowed(reason), _) => Err(Failure::NotAllowed(reason)),
            // It may not be the sender's fault, and shows when it asks again.
            (Reply::WrongContent(what), phase) if phase.took_prefixes() => Err(Failure::FullNames(what)),
            (Reply::WrongContent(what), _) => Err(Failure::WrongContent(what)),
            (Reply::Accepted { published: true, .. }, Phase::Accepting(offer, _)) => {
                let root = offer.snapshot.root;
                self.published(root);
                Ok(())
            }
            (Reply::Unproven(what), _) => Err(Failure::Unproven(what)),
            (Reply::Accepted { published: false, base, nonce }, Phase::Accepting(..)) => {
                self.begin(base, nonce);
                Ok(())
            }
            (Reply::Has(present), Phase::Receiving(receiving)) => {
                receiving.questions.found(id, &present, &mut self.core.report);
                Ok(())
            }
            (Reply::NamedByPrefix(names), Phase::Receiving(receiving)) => {
                let present: Vec<_> = names.iter().map(Option::is_some).collect();
                receiving.questions.found(id, &present, &mut self.core.report);
                Ok(())
            }
            (Reply::Found(findings), Phase::Receiving(receiving)) => {
                receiving.questions.found_out(id, &findings, &mut self.core.report);
                Ok(())
            }
            (Reply::Verified(Some(cost)), Phase::Receiving(receiving)) => {
                receiving.demands.verified(cost, &mut self.core.report);
                Ok(())
            }
            (Reply::Verified(None), phase) => {
                let what = "its proof is wrong".to_owned();
                Err(if phase.took_prefixes() { Failure::FullNames(what) } else { Failure::NotProved(what) })
            }
            (Reply::Checked(unproven), Phase::Receiving(receiving)) => {
                receiving.checking = if unproven.is_empty() { Checking::Done } else { Checking::Due };
                receiving.demands.add_ways(unproven);
                Ok(())
            }
            (Reply::Admitted, Phase::Receiving(receiving)) => {
                receiving.admitted();
                Ok(())
            }
            (Reply::Synced, Phase::Receiving(receiving)) => {
                receiving.synced();
                Ok(())
            }
            (Reply::Published, Phase::Publishing(snapshot)) => {
                let root = snapshot.root;
                self.published(root);
                Ok(())
            }
            _ => panic!("a reply to a job that was not given"),
        }
    }

    fn begin(&mut self, base: Option<SnapshotId>, nonce: Option<[u8; 32]>) {
        let Phase::Accepting(offer, _) = std::mem::replace(&mut self.phase, Phase::Greeted) else { return };
        let mut limits = self.core.limits.clone();
        limits.window_bytes = limits.window_bytes.min(offer.window_bytes);
        limits.window_objects = limits.window_objects.min(offer.window_objects);
        self.core.report.base = base;
        self.core.report.nodes.offered += 1;
        self.core.say(Message::Begin(Begin {
            base,
            window_bytes: limits.window_bytes,
            window_objects: limits.window_objects,
            window_names: limits.window_names,
        }));
        if let Some(nonce) = nonce {
            self.core.say(Message::Challenge(Challenge { nonce }));
        }
        let receiving = Receiving::new(offer.snapshot, limits, nonce.is_some(), self.core.now());
        self.phase = Phase::Receiving(Box::new(receiving));
    }

    fn published(&mut self, root: Option<Name>) {
        self.core.report.root_here = root;
        self.core.say(Message::Published(Published { root }));
        self.core.succeed();
    }

    /// The next answer or acknowledgement.
    pub(super) fn next_control(&mut self) -> Option<Message> {
        let Phase::Receiving(receiving) = &mut self.phase else { return None };
        // What an answer calls present is proved at once, while the sender knows what it was about.
        let said = receiving.demands.next_said().or_else(|| {
            let (answer, demands) = receiving.questions.next_answer()?;
            receiving.demands.add(demands);
            Some(Message::Answer(answer))
        });
        said.or_else(|| receiving.next_ack())
    }

    /// The next thing for the store to do.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        if let Phase::Receiving(receiving) = &mut self.phase
            && receiving.is_complete()
            && receiving.checking != Checking::Done
        {
            if receiving.checking == Checking::UnderWay {
                return None;
            }
            receiving.checking = Checking::UnderWay;
            self.jobs += 1;
            return Some(Job { id: self.jobs - 1, request: Request::Check(Box::new(receiving.snapshot.clone())) });
        }
        if matches!(&self.phase, Phase::Receiving(receiving) if receiving.is_complete())
            && let Phase::Receiving(receiving) = std::mem::replace(&mut self.phase, Phase::Greeted)
        {
            self.phase = Phase::Publishing(Box::new(receiving.snapshot));
        }
        let id = self.jobs;
        let request = match &mut self.phase {
            Phase::Greeting | Phase::Greeted => return None,
            Phase::Accepting(offer, job @ Turn::Due) => {
                *job = Turn::Taken;
                let peer = Box::new(self.core.peer.clone()?);
                let proving = self.core.in_force(FEATURE_PROOFS).then_some(self.core.hello.store);
                Request::Accept {
                    peer,
                    snapshot: Box::new(offer.snapshot.clone()),
                    bases: offer.bases.clone(),
                    proving,
                }
            }
            Phase::Publishing(snapshot) if self.publishing == Turn::Due => {
                self.publishing = Turn::Taken;
                Request::Publish(snapshot.clone())
            }
            Phase::Accepting(..) | Phase::Publishing(_) => return None,
            Phase::Receiving(receiving) => {
                receiving.read(id).or_else(|| receiving.write(self.core.now(), &mut self.core.report))?
            }
        };
        self.jobs += 1;
        Some(Job { id, request })
    }

    /// When to look again, whether or not the peer says something.
    pub(super) fn sync_due(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Receiving(receiving) => receiving.sync_due(),
            _ => None,
        }
    }

    /// True while the next move is the peer's.
    pub(super) fn peer_owes(&self) -> bool {
        match &self.phase {
            Phase::Greeting | Phase::Greeted => true,
            Phase::Accepting(..) | Phase::Publishing(_) => false,
            Phase::Receiving(receiving) => {
                let idle = receiving.writing == Writing::Nothing
                    && receiving.checking != Checking::UnderWay
                    && !receiving.demands.is_busy();
                idle && (receiving.questions.is_empty() || receiving.demands.is_full())
            }
        }
    }

    /// True while this side does something that may take long.
    pub(super) fn is_at_work(&self) -> bool {
        !self.peer_owes()
    }
}

impl Phase {
    /// True where something was taken for known by the first bytes of its name.
    fn took_prefixes(&self) -> bool {
        matches!(self, Phase::Receiving(receiving) if receiving.questions.took_prefixes())
    }
}

impl Receiving {
    fn new(snapshot: SnapshotOffer, window: Limits, proving: bool, now: Duration) -> Self {
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

    fn asked(&mut self, first: u64, asked: Asked) -> Result<(), Failure> {
        if self.committed.is_some() {
            return Err(Failure::Protocol("its questions are not in order".to_owned()));
        }
        // What it has sent, and what has not arrived, is still wanted here: hence the window of objects on top.
        let max = self.window.window_names as usize + self.window.window_objects as usize;
        self.questions.asked(first, asked, max)
    }

    /// The read lane: proofs first, for what is not proved holds up further questions.
    fn read(&mut self, id: u64) -> Option<Request> {
        let proof = self.demands.next_job();
        proof.or_else(|| if self.demands.is_full() { None } else { self.questions.lookup(id) })
    }

    fn arrived(&mut self, object: Object) -> Result<(), Failure> {
        let at = self.questions.asked_for(object.ask)?;
        let bytes = object.stored.bytes.len() as u64;
        let work_bytes = object.stored.raw_len.into();
        self.keep(object.seq, Arrived { objects: 1, bytes, work_bytes, what: Arrival::Object(at, object.stored) })
    }

    fn bundle_arrived(&mut self, bundle: Bundle) -> Result<(), Failure> {
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

    fn keep(&mut self, seq: u64, arrived: Arrived) -> Result<(), Failure> {
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

    fn commit(&mut self, commit: Commit) -> Result<(), Failure> {
        let last = self.early.last_key_value();
        let highest = last.map_or(self.next_seq, |(seq, arrived)| seq + arrived.objects);
        if self.committed.is_some() || commit.objects < highest {
            return Err(Failure::Protocol("its commit does not fit what it sent".to_owned()));
        }
        self.committed = Some(commit.objects);
        Ok(())
    }

    /// The write lane: one job at a time, admitting before syncing.
    fn write(&mut self, now: Duration, report: &mut super::Report) -> Option<Request> {
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
    fn sync_due(&self) -> Option<Duration> {
        (self.unsynced.0 > 0 && self.writing == Writing::Nothing).then(|| self.synced_at + SYNC_AFTER)
    }

    fn admitted(&mut self) {
        if let Writing::Admitting { objects, bytes } = std::mem::replace(&mut self.writing, Writing::Nothing) {
            self.unsynced.0 += objects;
            self.unsynced.1 += bytes;
        }
    }

    fn synced(&mut self) {
        self.writing = Writing::Nothing;
        let (objects, bytes) = std::mem::take(&mut self.unsynced);
        self.unsynced_work = 0;
        self.durable += objects;
        self.undurable_bytes -= bytes;
    }

    fn next_ack(&mut self) -> Option<Message> {
        (self.durable > self.durable_said).then(|| {
            self.durable_said = self.durable;
            Message::Ack(Ack { objects: self.durable })
        })
    }

    /// True once everything has arrived and was admitted; publishing syncs what is left.
    fn is_complete(&self) -> bool {
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
