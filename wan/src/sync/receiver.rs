//! The side that gets the snapshot.

use std::time::Duration;

use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::name::Name;

use super::core::{Core, incompatible, misplaced};
use super::failure::Failure;
use super::jobs::{Job, Reply, Request};
use super::limits::Limits;
use super::questions::Asked;
use super::receiving::{Checking, Receiving, Writing};
use super::seam::{Hello, SnapshotOffer};
use crate::wire::{Begin, Challenge, FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS, Message, Offer, Published};

/// Who is to make room and has nothing to acknowledge for so long does so without.
const LEAVES_WITHIN: Duration = Duration::from_secs(60);

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

/// The receiving side of one session.
#[derive(Debug)]
pub struct Receiver {
    pub(super) core: Core,
    phase: Phase,
    jobs: u64,
    /// Whether the last of all jobs, the publication, was handed out.
    publishing: Turn,
    /// Others wait for its place.
    leaving: Option<Leaving>,
}

/// When a session that is to make room does.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    /// After an acknowledgement of more than so many objects.
    acknowledged: u64,
    /// At the latest.
    by: Duration,
}

impl Receiver {
    /// Greets. `hello` is of role receiver.
    pub fn new(hello: Hello, limits: Limits, now: Duration) -> Self {
        let core = Core::new(hello, limits.sane(), now);
        Receiver { core, phase: Phase::Greeting, jobs: 0, publishing: Turn::Due, leaving: None }
    }

    /// Others wait for its place.
    pub(super) fn make_room(&mut self) {
        let acknowledged = self.receiving().map_or(0, |receiving| receiving.durable_said);
        let by = self.core.now().saturating_add(LEAVES_WITHIN);
        self.leaving.get_or_insert(Leaving { acknowledged, by });
    }

    /// True where it makes room now: what it has got is acknowledged, or does not come.
    pub(super) fn leaves_now(&self) -> bool {
        let Some(Leaving { acknowledged, by }) = self.leaving.filter(|_| self.core.outcome.is_none()) else {
            return false;
        };
        match &self.phase {
            Phase::Publishing(_) => false,
            Phase::Receiving(receiving) if receiving.is_nearly_done() => false,
            Phase::Receiving(receiving) => {
                receiving.durable_said > acknowledged || receiving.undurable_bytes == 0 || by <= self.core.now()
            }
            Phase::Greeting | Phase::Greeted | Phase::Accepting(..) => by <= self.core.now(),
        }
    }

    /// When it makes room at the latest.
    pub(super) fn leaves_by(&self) -> Option<Duration> {
        let may = match &self.phase {
            Phase::Publishing(_) => false,
            Phase::Receiving(receiving) => !receiving.is_nearly_done(),
            _ => true,
        };
        self.leaving.filter(|_| may).map(|leaving| leaving.by)
    }

    fn receiving(&self) -> Option<&Receiving> {
        match &self.phase {
            Phase::Receiving(receiving) => Some(receiving),
            _ => None,
        }
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
            // Reclaim was faster, or damage was found: asked again, it is not present.
            (Reply::Gone(what), _) => Err(Failure::FullNames(what)),
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
