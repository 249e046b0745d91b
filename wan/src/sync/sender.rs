//! The side that has the snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::name::Kind;

use super::choices::Choices;
use super::core::{Core, incompatible};
use super::demands::Prover;
use super::effort::{Effort, LEVEL_MIN};
use super::failure::Failure;
use super::jobs::{Job, Reply, Request};
use super::limits::Limits;
use super::packing::{Group, Loaded, Order, Parcel};
use super::possession;
use super::replication::Replication;
use super::report::Report;
use super::seam::{Hello, Mark, Ref, Stored};
use super::walk::{Astray, Question, TaskId, ToLoad, Walk};
use super::ways::{Named, Ways};
use crate::wire::{
    Ack, Answer, Ask, AskPrefixes, BASES_MAX, Begin, Bundle, Commit, FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS,
    Item, Message, Object, Offer, Origin, Packing, Published,
};

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
enum Phase {
    /// Waiting for the greeting.
    Greeting,
    /// Waiting for the answer to the offer.
    Offered,
    /// Walking the tree.
    Walking(Box<Walking>),
    /// Everything was sent; waiting for the proof.
    Committed(Box<Walking>),
}

#[derive(Debug)]
struct Walking {
    walk: Walk,
    window_bytes: u64,
    window_objects: usize,
    /// What was read and packed, and waits for room on the line.
    loaded: VecDeque<Loaded>,
    loaded_bytes: usize,
    /// Bytes that requests under way may bring.
    loading_bytes: usize,
    packing: HowToPack,
    /// Sent and not acknowledged, in order.
    outstanding: VecDeque<(TaskId, u64)>,
    outstanding_bytes: u64,
    next_seq: u64,
    /// What the receiver has acknowledged of this session, as it travelled.
    acknowledged_bytes: u64,
    /// When the first object was sent.
    shipping_since: Option<Duration>,
    now: Duration,
    expands: BTreeMap<u64, Vec<TaskId>>,
    /// What was kept since is new to the receiver.
    since: Option<Arc<Mark>>,
    /// The base's root, where what resembles is looked for in it.
    resemble: Option<Ref>,
    loads: BTreeMap<u64, Load>,
}

/// How this session packs.
#[derive(Debug)]
struct HowToPack {
    effort: Effort,
    delta: bool,
    group_bytes: usize,
    /// False where the receiver takes objects one by one only.
    bundles: bool,
    ways: Ways,
}

/// A request under way: its objects, and how many bytes it may bring.
#[derive(Debug)]
struct Load {
    tasks: Vec<TaskId>,
    charged: usize,
}

/// The sending side of one session.
#[derive(Debug)]
pub struct Sender {
    pub(super) core: Core,
    replication: Replication,
    phase: Phase,
    prover: Prover,
    jobs: u64,
}

impl Sender {
    /// Greets and offers. `hello` is of role sender.
    pub fn new(hello: Hello, replication: Replication, limits: Limits, now: Duration) -> Self {
        let mut core = Core::new(hello, limits.sane(), now);
        let mut bases = replication.bases.clone();
        bases.truncate(BASES_MAX);
        core.report.dataset = replication.snapshot.dataset;
        core.report.snapshot = replication.snapshot.snapshot;
        core.report.root_here = replication.snapshot.root;
        core.say(Message::Offer(Offer {
            snapshot: replication.snapshot.clone(),
            bases,
            window_bytes: core.limits.window_bytes,
            window_objects: core.limits.window_objects,
        }));
        Sender { core, replication, phase: Phase::Greeting, prover: Prover::default(), jobs: 0 }
    }

    pub(super) fn message(&mut self, message: Message) -> Result<(), Failure> {
        match (message, &mut self.phase) {
            (Message::Hello(hello), Phase::Greeting) => self.greeted(hello),
            (Message::Begin(begin), Phase::Offered) => self.begin(&begin),
            (Message::Published(published), Phase::Offered | Phase::Committed(_)) => self.published(&published),
            (Message::Answer(answer), Phase::Walking(walking)) => {
                answered(&mut self.core.report, &mut self.prover, walking, &answer)
            }
            (Message::Challenge(challenge), Phase::Walking(_) | Phase::Committed(_))
                if self.core.in_force(FEATURE_PROOFS) =>
            {
                let there = self.core.peer.as_ref().map_or(self.core.hello.store, |peer| peer.store);
                let dataset = self.replication.snapshot.dataset;
                self.prover.challenged(possession::key(&challenge.nonce, self.core.hello.store, there, dataset))
            }
            (Message::Prove(prove), Phase::Walking(_) | Phase::Committed(_)) => self.prover.demanded(&prove),
            (Message::ProveWays(prove), Phase::Committed(_)) => self.prover.demanded_ways(prove),
            (Message::Ack(ack), Phase::Walking(walking) | Phase::Committed(walking)) => {
                walking.acknowledged(&mut self.core.report, ack)
            }
            (Message::Stop(stop), _) => Err(Failure::Stopped(stop)),
            (message, _) => Err(super::core::misplaced(&message)),
        }
    }

    fn greeted(&mut self, hello: Hello) -> Result<(), Failure> {
        incompatible(&self.core.hello, &hello)?;
        self.core.peer = Some(hello);
        self.phase = Phase::Offered;
        Ok(())
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), Failure> {
        let base = begin.base.map(|id| {
            let offered = self.replication.bases.iter().take(BASES_MAX).find(|(offered, _)| *offered == id);
            offered
                .copied()
                .ok_or_else(|| Failure::Protocol("it builds upon a snapshot that was not offered".to_owned()))
        });
        let base = base.transpose()?;
        let Some(root) = self.replication.snapshot.root else {
            return Err(Failure::Protocol("it lacks the root of an empty map".to_owned()));
        };
        let limits = &self.core.limits;
        let window_names = begin.window_names.min(limits.window_names);
        let bytes = 1..=limits.window_bytes;
        let objects = 1..=limits.window_objects;
        if !bytes.contains(&begin.window_bytes) || !objects.contains(&begin.window_objects) {
            return Err(Failure::Protocol("its windows are not within those that were offered".to_owned()));
        }
        if window_names < Limits::NAMES_MIN {
            return Err(Failure::Protocol("its window of names is too small".to_owned()));
        }
        self.core.report.base = base.map(|(id, _)| id);
        self.core.report.nodes.offered += 1;
        let base = base.map(|(_, root)| (Kind::MapNode, root));
        let bundles = self.core.in_force(FEATURE_BUNDLES);
        let walk = Walk::new((Kind::MapNode, root), base, window_names as usize);
        let prefixes = limits.prefixes && self.core.in_force(FEATURE_PREFIXES);
        let walk = if prefixes { walk.by_prefix(window_names as usize) } else { walk };
        let shared = self.replication.shared.clone().filter(|(snapshot, _)| bundles && begin.base == Some(*snapshot));
        let since = shared.map(|(_, mark)| mark);
        self.core.report.choices = Choices {
            compression: limits.compression,
            delta: limits.delta,
            resemblance: limits.resemblance,
            bundles,
            unasked: since.is_some(),
            rate_expected: limits.rate_expected,
            ..Choices::default()
        };
        let packing = HowToPack {
            effort: Effort::new(limits.compression, limits.rate_expected),
            delta: limits.delta,
            group_bytes: limits.group_bytes,
            bundles,
            ways: Ways::default(),
        };
        let packs_against = bundles && packing.delta && packing.effort.least_for_bases().is_some();
        let resemble = base.filter(|_| packs_against && limits.resemblance);
        self.phase = Phase::Walking(Box::new(Walking {
            walk,
            window_bytes: begin.window_bytes,
            window_objects: begin.window_objects as usize,
            loaded: VecDeque::new(),
            loaded_bytes: 0,
            loading_bytes: 0,
            packing,
            outstanding: VecDeque::new(),
            outstanding_bytes: 0,
            next_seq: 0,
            acknowledged_bytes: 0,
            shipping_since: None,
            now: Duration::ZERO,
            expands: BTreeMap::new(),
            since,
            resemble,
            loads: BTreeMap::new(),
        }));
        Ok(())
    }

    fn published(&mut self, published: &Published) -> Result<(), Failure> {
        self.core.report.root_there = published.root;
        if published.root != self.replication.snapshot.root {
            return Err(Failure::Protocol("it published another root than the one that was sent".to_owned()));
        }
        self.core.succeed();
        Ok(())
    }

    pub(super) fn reply(&mut self, id: u64, reply: Reply) -> Result<(), Failure> {
        if let Reply::Proof(proof) = reply {
            return self.prover.proved(proof, &mut self.core.report);
        }
        let Phase::Walking(walking) = &mut self.phase else { return fail(reply) };
        match reply {
            Reply::Failed(error) => Err(Failure::Store(error)),
            Reply::Expanded(expansions) => {
                let nodes = walking.expands.remove(&id).unwrap_or_default();
                assert_eq!(nodes.len(), expansions.len(), "one expansion for each node");
                for (node, expansion) in nodes.into_iter().zip(expansions) {
                    self.core.report.shared += expansion.shared;
                    self.core.report.choices.resembling += expansion.resembling;
                    walking.walk.expanded(node, expansion).map_err(astray)?;
                }
                Ok(())
            }
            Reply::Packed(parcel) => {
                walking.loaded(id, parcel);
                Ok(())
            }
            _ => panic!("a reply to a job of the other side"),
        }
    }

    /// The next question, or the commit once everything was sent.
    pub(super) fn next_control(&mut self) -> Option<Message> {
        if let Some(proof) = self.prover.next_said() {
            return Some(proof);
        }
        let Phase::Walking(walking) = &mut self.phase else { return None };
        if let Some(Question { first, names, by_prefix }) = walking.walk.next_ask() {
            for (kind, _) in &names {
                self.core.report.tally(*kind).offered += 1;
            }
            let prefixes = || names.iter().map(|(_, name)| name.prefix()).collect();
            return Some(match by_prefix {
                true => Message::AskPrefixes(AskPrefixes { first, prefixes: prefixes() }),
                false => Message::Ask(Ask { first, names }),
            });
        }
        if !walking.walk.is_done() {
            return None;
        }
        let commit = Commit { objects: walking.next_seq };
        let Phase::Walking(walking) = std::mem::replace(&mut self.phase, Phase::Offered) else { return None };
        self.phase = Phase::Committed(walking);
        Some(Message::Commit(commit))
    }

    /// The next object, where the window has room.
    pub(super) fn next_data(&mut self) -> Option<Message> {
        let Phase::Walking(walking) = &mut self.phase else { return None };
        walking.now = self.core.now();
        walking.ship(&mut self.core.report)
    }

    /// The next thing to be read from the store.
    pub(super) fn next_job(&mut self) -> Option<Job> {
        if let Some(request) = self.prover.next_job(self.replication.snapshot.root) {
            self.jobs += 1;
            return Some(Job { id: self.jobs - 1, request });
        }
        let Phase::Walking(walking) = &mut self.phase else { return None };
        walking.now = self.core.now();
        let (id, read_ahead) = (self.jobs, self.core.limits.read_ahead_bytes);
        let request = walking.expand(id).or_else(|| walking.load(id, read_ahead))?;
        self.jobs += 1;
        Some(Job { id, request })
    }

    /// True while a proof is computed, which may take long.
    pub(super) fn is_at_work(&self) -> bool {
        self.prover.is_busy()
    }

    /// True while the next move is the peer's.
    pub(super) fn peer_owes(&self) -> bool {
        match &self.phase {
            _ if self.prover.is_busy() => false,
            Phase::Greeting | Phase::Offered | Phase::Committed(_) => true,
            Phase::Walking(walking) => !walking.outstanding.is_empty() || walking.walk.awaits_answers(),
        }
    }
}

fn answered(report: &mut Report, prover: &mut Prover, walking: &mut Walking, answer: &Answer) -> Result<(), Failure> {
    let answered = walking.walk.answer(answer.first, &answer.lacking).map_err(astray)?;
    for answered in &answered {
        report.tally(answered.at.0).known += u64::from(!answered.lacking);
    }
    let numbered = (answer.first..).zip(&answered).filter(|(_, answered)| !answered.lacking);
    prover.answered(numbered.map(|(number, answered)| (number, answered.at)));
    Ok(())
}

/// What a job came to that the session has no use for any more: only its failure counts.
fn fail(reply: Reply) -> Result<(), Failure> {
    match reply {
        Reply::Failed(error) => Err(Failure::Store(error)),
        _ => Ok(()),
    }
}

fn astray(astray: Astray) -> Failure {
    match astray {
        Astray::Answer => Failure::Protocol("it answers what was not asked".to_owned()),
        Astray::Depth => Failure::Store(
            narrowboat_storage::error::Refusal::Unsupported("the snapshot's tree is too deep".to_owned()).into(),
        ),
    }
}

impl Walking {
    fn expand(&mut self, id: u64) -> Option<Request> {
        if self.expands.len() >= EXPANDS_MAX {
            return None;
        }
        let batch = self.walk.next_expand()?;
        self.expands.insert(id, batch.iter().map(|(task, _, _)| *task).collect());
        let nodes = batch.into_iter().map(|(_, node, counterparts)| (node, counterparts)).collect();
        Some(Request::Expand { nodes, since: self.since.clone(), resemble: self.resemble })
    }

    fn load(&mut self, id: u64, read_ahead_bytes: usize) -> Option<Request> {
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
    fn level_needed(&self, load: &ToLoad) -> Option<i32> {
        let based = self.packing.bundles && self.packing.delta && !load.counterparts.all.is_empty();
        let unasked = (!load.was_asked).then_some(LEVEL_MIN);
        unasked.max(if based { self.packing.effort.least_for_bases() } else { None })
    }

    /// Groups travel side by side on several streams and arrive whole. So none is more than what the line has lately taken in two
    /// seconds, or nothing would arrive for long on a thin line; and none is more than a sixteenth of the window, or all would arrive
    /// at once, and the line would wait for their acknowledgement.
    fn group_bytes(&self) -> usize {
        let most = self.packing.group_bytes.min(usize::try_from(self.window_bytes / 16).unwrap_or(usize::MAX));
        let Some(shipping_since) = self.shipping_since else { return most };
        let elapsed = self.now.saturating_sub(shipping_since);
        if elapsed < RATE_AFTER {
            return most;
        }
        let in_two_seconds = u128::from(self.acknowledged_bytes) * 2000 / elapsed.as_millis().max(1);
        most.min(usize::try_from(in_two_seconds).unwrap_or(usize::MAX).max(GROUP_BYTES_LEAST))
    }

    fn loaded(&mut self, id: u64, parcel: Parcel) {
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
    fn ship(&mut self, report: &mut Report) -> Option<Message> {
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

    fn ship_object(&mut self, report: &mut Report, task: TaskId, stored: Stored) -> Option<Message> {
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

    fn ship_group(&mut self, report: &mut Report, tasks: &[TaskId], group: Group) -> Option<Message> {
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
    fn sent(&mut self, task: TaskId, len: u64) -> u64 {
        self.shipping_since.get_or_insert(self.now);
        self.outstanding.push_back((task, len));
        self.outstanding_bytes += len;
        self.next_seq += 1;
        self.next_seq - 1
    }

    fn acknowledged(&mut self, report: &mut Report, ack: Ack) -> Result<(), Failure> {
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
