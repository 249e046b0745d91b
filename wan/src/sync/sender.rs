//! The side that has the snapshot.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use narrowboat_storage::name::Kind;

use super::choices::Choices;
use super::core::{Core, incompatible};
use super::demands::Prover;
use super::effort::Effort;
use super::failure::Failure;
use super::guess::Frontier;
use super::jobs::{Job, Reply};
use super::lately::Lately;
use super::limits::Limits;
use super::possession;
use super::replication::Replication;
use super::report::Report;
use super::seam::{Hello, SnapshotOffer};
use super::shipping::{HowToPack, Walking};
use super::walk::{Astray, Question, Walk};
use super::ways::Ways;
use crate::wire::{
    Answer, Ask, AskPrefixes, BASES_MAX, Begin, Commit, FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS, Message,
    Offer, Published,
};

/// Bases that are offered where the receiver is known to have one: that, and some for the case that it lost it.
const BASES_UPON_SHARED: usize = 8;
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

/// The sending side of one session.
#[derive(Debug)]
pub struct Sender {
    pub(super) core: Core,
    replication: Replication,
    phase: Phase,
    prover: Prover,
    jobs: u64,
    /// Where an earlier session for the same snapshot was broken off.
    pub(super) frontier: Frontier,
    /// What went to the receiver lately, by other sessions too.
    pub(super) lately: Arc<Lately>,
}

impl Sender {
    /// Greets and offers. `hello` is of role sender.
    pub fn new(hello: Hello, replication: Replication, limits: Limits, now: Duration) -> Self {
        let mut core = Core::new(hello, limits.sane(), now);
        // Who has proved to have one of them is not asked about many others.
        let most = if replication.shared.is_some() { BASES_UPON_SHARED } else { BASES_MAX };
        let shared = replication.shared.as_ref().map(|(snapshot, _)| *snapshot);
        let place = replication.bases.iter().position(|(snapshot, _)| Some(*snapshot) == shared);
        let mut bases = replication.bases.clone();
        bases.truncate(place.map_or(BASES_MAX, |place| most.max(place + 1)).min(BASES_MAX));
        core.report.dataset = replication.snapshot.dataset;
        core.report.snapshot = replication.snapshot.snapshot;
        core.report.root_here = replication.snapshot.root;
        core.say(Message::Offer(Offer {
            snapshot: replication.snapshot.clone(),
            bases,
            window_bytes: core.limits.window_bytes,
            window_objects: core.limits.window_objects,
        }));
        Sender {
            core,
            replication,
            phase: Phase::Greeting,
            prover: Prover::default(),
            jobs: 0,
            frontier: Frontier::default(),
            lately: Arc::default(),
        }
    }

    /// Notes where it stops.
    pub(super) fn stop(&mut self) {
        if let Phase::Walking(walking) | Phase::Committed(walking) = &self.phase {
            self.core.report.frontier = walking.walk.frontier();
        }
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
        let walk = walk.guessing(limits.names_ahead, &self.frontier).beside(&self.lately);
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
            return self.prover.proved(proof, most_by_way(&self.replication.snapshot), &mut self.core.report);
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

/// What all places of a snapshot hold together at most, with 1024 bytes for each object: twice its content, 8 KiB for each file, and a gigabyte.
fn most_by_way(snapshot: &SnapshotOffer) -> u64 {
    let content = snapshot.logical_bytes.max(snapshot.size).saturating_mul(2);
    content.saturating_add(snapshot.files.saturating_mul(8192)).saturating_add(1 << 30)
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
