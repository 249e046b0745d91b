//! Everything a session wants of a store, done where blocking is allowed.
//!
//! A session puts out [`Job`]s; the driver runs each with [`Worker::run`] on a thread that may block, and hands the
//! [`Done`] back. Jobs of [`Lane::Write`] run one after another in the order in which they came out; jobs of
//! [`Lane::Read`] may run beside them and beside one another, and may come back in any order.
//!
//! The hard checks of what a peer sent are here, because they cost processor time: an object is admitted only after
//! its bytes were unpacked within bounds, hashed, found equal to its name, and its references found present.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use narrowboat_storage::container::codec::{self, Patience};
use narrowboat_storage::error::{Error, Result};
use narrowboat_storage::id::{SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::tree::Span;

use super::budget::Budget;
use super::diff::{self, Counterparts, Expansion};
use super::jobs::{Arrival, Done, Expected, Job, Reply, Request};
use super::packing;
use super::possession::Possessions;
use super::proving::{self, Cost, Holdings};
use super::resemble::Resemblance;
use super::seam::{Admission, Mark, Ref, References, Sink, SnapshotOffer, Source, Stored};
use super::thrift::Thrift;
use super::told::Told;
use super::ways::Known;
use crate::wire::{Bundle, OBJECT_BYTES_MAX};

/// References of nodes that are kept at hand: neighbours in the walk have the same counterparts.
const CACHED_REFS_MAX: usize = 64 << 10;

/// Runs jobs against a store. Shared by threads.
pub struct Worker {
    side: Side,
    references: References,
    cache: Mutex<Cache>,
    /// Nodes of the base that the sender has numbered. Only jobs of the write lane touch it.
    known: Mutex<Known>,
    /// What chunks of the base look like.
    resemblance: Mutex<Option<Resemblance>>,
    thrift: Mutex<Thrift>,
    /// Memory for packing, which others share.
    budget: Arc<Budget>,
    patience: Patience,
    /// What the sender has shown to have. At the receiver.
    holdings: Holdings,
    /// What it was told is here. At the receiver.
    told: Told,
}

/// Why an object was not admitted.
enum Wrong {
    /// It is not what it says, or came before what it refers to.
    Content(String),
    /// It refers to what was called present, and is gone.
    Gone(String),
}

impl From<String> for Wrong {
    fn from(what: String) -> Wrong {
        Wrong::Content(what)
    }
}

enum Side {
    Source(Arc<dyn Source>),
    Sink { sink: Arc<dyn Sink>, realm: Realm, admission: Arc<dyn Admission> },
}

impl Worker {
    /// A worker for a session that sends out of `source`.
    pub fn source(source: Arc<dyn Source>, references: References) -> Self {
        Self::new(Side::Source(source), references)
    }

    /// A worker for a session that receives into `sink`, with the realm whose names are checked.
    pub fn sink(sink: Arc<dyn Sink>, references: References, realm: Realm, admission: Arc<dyn Admission>) -> Self {
        Self::new(Side::Sink { sink, realm, admission }, references)
    }

    fn new(side: Side, references: References) -> Self {
        Worker {
            side,
            references,
            cache: Mutex::default(),
            known: Mutex::default(),
            resemblance: Mutex::default(),
            thrift: Mutex::default(),
            budget: Arc::default(),
            patience: Patience::default(),
            holdings: Holdings::new(rand::random()),
            told: Told::default(),
        }
    }

    /// Shares the memory for packing with other workers.
    pub fn within(mut self, budget: Arc<Budget>) -> Self {
        self.budget = budget;
        self
    }

    /// Remembers what senders have shown to have from one session to the next.
    pub fn remembering(mut self, possessions: Arc<Possessions>) -> Self {
        self.holdings.kept = possessions;
        self
    }

    /// Proofs are keyed with this, which only tests know before.
    pub fn with_nonce(mut self, nonce: [u8; 32]) -> Self {
        self.holdings.nonce = nonce;
        self
    }

    /// No node is to be proved that takes more; its parts are asked for.
    pub fn proving_at_most(mut self, cost: Cost) -> Self {
        self.holdings.max = cost;
        self
    }

    /// Does one job. Blocks as long as the store does.
    ///
    /// # Panics
    /// Where a job of a sending session is given to the worker of a receiving one, or the other way round.
    pub fn run(&self, job: Job) -> Done {
        let reply = match (&self.side, job.request) {
            (Side::Source(source), Request::Expand { nodes, since, resemble }) => {
                self.expand(&**source, &nodes, since.as_deref(), resemble)
            }
            (Side::Source(source), Request::Pack(order)) => {
                packing::pack(&**source, &order, &self.thrift, &self.budget).map(Reply::Packed)
            }
            (Side::Sink { sink, .. }, Request::Has(refs)) => self.tell(&**sink, &refs).map(Reply::Has),
            (Side::Sink { sink, .. }, Request::NamedByPrefix(prefixes)) => {
                self.tell_by_prefix(&**sink, &prefixes).map(Reply::NamedByPrefix)
            }
            (Side::Sink { sink, realm, .. }, Request::Admit(objects)) => self.admit(&**sink, realm, objects),
            (Side::Source(source), Request::Prove { key, first, objects }) => {
                let mut read = |(kind, name): &Ref| source.read(*kind, name);
                proving::prove(&key, first, &objects, &Cost::MAX, self.references, &mut read).map(Reply::Proof)
            }
            (Side::Source(source), Request::ProveWays { key, first, root, ways }) => {
                let mut spans = |node: &Ref| self.spans_of(node, |kind, name| source.read(kind, name));
                let mut read = |(kind, name): &Ref| source.read(*kind, name);
                let proof = match proving::resolve(&root, &ways, &mut spans) {
                    Ok(Some(objects)) => proving::prove(&key, first, &objects, &Cost::MAX, self.references, &mut read),
                    Ok(None) => Ok(None),
                    Err(error) => Err(error),
                };
                proof.map(Reply::Proof)
            }
            (Side::Sink { sink, .. }, Request::Check(snapshot)) => self.check(&**sink, &snapshot),
            (Side::Sink { sink, .. }, Request::Find(refs)) => self.tell(&**sink, &refs).and_then(|present| {
                let here = refs.iter().zip(present).map(|(at, present)| present.then_some(*at)).collect();
                self.find(&**sink, here)
            }),
            (Side::Sink { sink, .. }, Request::FindByPrefix(prefixes)) => {
                self.tell_by_prefix(&**sink, &prefixes).and_then(|names| {
                    self.find(&**sink, names.into_iter().map(|name| Some((Kind::Chunk, name?))).collect())
                })
            }
            (Side::Sink { sink, .. }, Request::Verify { first, demands, digest }) => {
                let mut gone = None;
                let mut read = |at: &Ref| {
                    let read = sink.fetch(at.0, &at.1);
                    // What can't be read and is here is damage; what is not here any more was let go of.
                    if read.is_err() && has(&**sink, &[*at])? == [false] {
                        gone = Some(*at);
                    }
                    read
                };
                let verified = self.holdings.verify(first, &demands, &digest, self.references, &mut read);
                match gone {
                    Some((kind, name)) => Ok(Reply::Gone(format!("{kind:?} {name}, which was to be proved"))),
                    None => verified.map(Reply::Verified),
                }
            }
            (Side::Sink { sink, .. }, Request::Sync) => sink.sync().map(|()| Reply::Synced),
            (Side::Sink { sink, .. }, Request::Publish(snapshot)) => self.publish(&**sink, &snapshot),
            (Side::Sink { sink, admission, .. }, Request::Accept { peer, snapshot, bases, proving }) => {
                match admission.admit(&peer, &snapshot) {
                    Ok(()) => self.accept(&**sink, &snapshot, &bases, proving.map(|here| (peer.store, here))),
                    Err(reason) => Ok(Reply::NotAllowed(reason)),
                }
            }
            (Side::Source(_), _) | (Side::Sink { .. }, _) => panic!("a job of the other side"),
        };
        Done { id: job.id, reply: reply.unwrap_or_else(Reply::Failed) }
    }

    fn expand(
        &self,
        source: &dyn Source,
        nodes: &[(Ref, Counterparts)],
        since: Option<&Mark>,
        resemble: Option<Ref>,
    ) -> Result<Reply> {
        let mut read = |node: &Ref| self.spans_of(node, |kind, name| source.read(kind, name));
        let expansions = nodes.iter().map(|(node, against)| diff::expand(node, against, &mut read));
        let mut expansions = expansions.collect::<Result<Vec<_>>>()?;
        if let Some(root) = resemble {
            let mut known = self.resemblance.lock().unwrap_or_else(PoisonError::into_inner);
            if known.as_ref().is_none_or(|known| !known.is_of(&root)) {
                *known = Some(Resemblance::new(root, self.budget.hold()));
            }
            if let Some(known) = known.as_mut() {
                known.improve_all(nodes, &mut expansions, source, &mut read)?;
            }
        }
        if let Some(mark) = since {
            expansions.iter_mut().try_for_each(|expansion| tell_new(source, mark, expansion))?;
        }
        Ok(Reply::Expanded(expansions))
    }

    fn spans_of(&self, reference: &Ref, read: impl FnOnce(Kind, &Name) -> Result<Bytes>) -> Result<Arc<[Span]>> {
        if let Some(known) = self.cache().find(reference) {
            return Ok(known);
        }
        let bytes = read(reference.0, &reference.1)?;
        let spans: Arc<[Span]> =
            (self.references)(reference.0, &bytes).map_err(|fault| fault.of(reference.0, &reference.1))?.into();
        self.cache().keep(*reference, spans.clone());
        Ok(spans)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A panic of another thread leaves the cache whole: it is only ever a list of pure facts.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of these are here, for the sender to be told.
    fn tell(&self, sink: &dyn Sink, refs: &[Ref]) -> Result<Vec<bool>> {
        let present = has(sink, refs)?;
        self.told.present(refs.iter().zip(&present).filter(|(_, present)| **present).map(|(at, _)| at));
        Ok(present)
    }

    fn tell_by_prefix(&self, sink: &dyn Sink, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let names = sink.named_by_prefix(prefixes)?;
        let refs: Vec<Ref> = names.iter().flatten().map(|name| (Kind::Chunk, *name)).collect();
        self.told.present(refs.iter());
        Ok(names)
    }

    fn admit(&self, sink: &dyn Sink, realm: &Realm, arrivals: Vec<Arrival>) -> Result<Reply> {
        for arrival in arrivals {
            let admitted = match arrival {
                Arrival::Object(expected, stored) => self.admit_object(sink, realm, expected, stored)?,
                Arrival::Bundle(expected, bundle) => self.admit_bundle(sink, realm, &expected, &bundle)?,
            };
            match admitted {
                Ok(()) => {}
                Err(Wrong::Content(what)) => return Ok(Reply::WrongContent(what)),
                Err(Wrong::Gone(what)) => return Ok(Reply::Gone(what)),
            }
        }
        Ok(Reply::Admitted)
    }

    /// Admits objects as a source has them, where a rehearsal has nothing to unpack.
    pub(crate) fn admit_unpacked(&self, objects: &[Ref], source: &dyn Source) -> Reply {
        let Side::Sink { sink, realm, .. } = &self.side else { panic!("a job of the other side") };
        for (kind, name) in objects {
            let admitted =
                source.stored(*kind, name).and_then(|stored| self.admit_one(&**sink, realm, *kind, name, stored));
            match admitted {
                Ok(Ok(())) => {}
                Ok(Err(Wrong::Content(what))) => return Reply::WrongContent(what),
                Ok(Err(Wrong::Gone(what))) => return Reply::Gone(what),
                Err(error) => return Reply::Failed(error),
            }
        }
        Reply::Admitted
    }

    fn admit_object(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        expected: Expected,
        stored: Stored,
    ) -> Result<Result<(), Wrong>> {
        let (kind, name) = match expected {
            Expected::Named(at) => at,
            _ => {
                let unpacked = codec::decompress(stored.codec, stored.raw_len as usize, &stored.bytes);
                match unpacked.and_then(|bytes| expected.of(realm, &bytes)) {
                    Ok(at) => at,
                    Err(wrong) => return Ok(Err(format!("an object does not unpack: {wrong}").into())),
                }
            }
        };
        self.admit_one(sink, realm, kind, &name, stored)
    }

    fn admit_one(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        kind: Kind,
        name: &Name,
        stored: Stored,
    ) -> Result<Result<(), Wrong>> {
        if !sink.verifies()
            && let Err(wrong) = self.verify(sink, realm, kind, name, &stored)?
        {
            return Ok(Err(wrong));
        }
        let kept = stored.clone();
        match sink.admit(kind, name, stored) {
            Ok(()) => {
                self.holdings.received(&(kind, *name), &mut || self.below(kind, &kept));
                Ok(Ok(()))
            }
            // The store does not say whose fault it is.
            Err(Error::Refused(refusal)) => match self.verify(sink, realm, kind, name, &kept)? {
                Ok(()) => Ok(Err(refusal.to_string().into())),
                Err(wrong) => Ok(Err(wrong)),
            },
            Err(error) => Err(error),
        }
    }

    fn admit_bundle(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        expected: &[Expected],
        bundle: &Bundle,
    ) -> Result<Result<(), Wrong>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans = |node: &Ref| self.spans_of(node, |kind, name| sink.fetch(kind, name));
        let mut content = match packing::unpack(sink, &mut known, &mut spans, bundle)? {
            Ok(content) => content,
            Err(wrong) => return Ok(Err(wrong.into())),
        };
        for (item, expected) in bundle.items.iter().zip(expected) {
            // The content has the length of all its objects together.
            let object = content.split_to(item.len as usize);
            let (kind, name) = match expected.of(realm, &object) {
                Ok(at) => at,
                Err(wrong) => return Ok(Err(wrong.into())),
            };
            let mut stored = Vec::new();
            let codec = codec::compress(&object, &mut stored, &self.patience);
            let stored = Stored { codec, raw_len: item.len, bytes: stored.into() };
            let admitted = self.admit_one(sink, realm, kind, &name, stored)?;
            if admitted.is_err() {
                return Ok(admitted);
            }
        }
        Ok(Ok(()))
    }

    fn find(&self, sink: &dyn Sink, here: Vec<Option<Ref>>) -> Result<Reply> {
        let mut spans = |node: &Ref| self.spans_of(node, |kind, name| sink.fetch(kind, name));
        self.holdings.find(&here, &mut spans).map(Reply::Found)
    }

    fn accept(
        &self,
        sink: &dyn Sink,
        snapshot: &SnapshotOffer,
        bases: &[(SnapshotId, Name)],
        proving: Option<(StoreId, StoreId)>,
    ) -> Result<Reply> {
        let base = match sink.newest_shared(&snapshot.source, &snapshot.dataset, bases) {
            Ok(base) => base,
            Err(Error::Refused(reason)) => return Ok(Reply::NotAllowed(reason.into())),
            Err(error) => return Err(error),
        };
        let root = base.map(|(_, root)| (Kind::MapNode, root));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).begin(root);
        if base.is_some() {
            self.told.base();
        }
        let base = base.map(|(id, _)| id);
        let mut nonce = None;
        // A root that is here for somebody else is no proof that this peer has what is below it: it sends the top at least.
        let whole = match &snapshot.root {
            Some(root) => sink.shows(&snapshot.dataset, root)?,
            None => true,
        };
        if whole {
            return Ok(match self.publish(sink, snapshot)? {
                Reply::Published => Reply::Accepted { published: true, base, nonce },
                other => other,
            });
        }
        if let Some((sender, receiver)) = proving {
            self.holdings.begin(sender, receiver, snapshot.dataset, root);
            nonce = Some(self.holdings.nonce);
        }
        Ok(Reply::Accepted { published: false, base, nonce })
    }

    /// What a node that was admitted refers to.
    fn below(&self, kind: Kind, stored: &Stored) -> Vec<Ref> {
        let bytes = codec::decompress(stored.codec, stored.raw_len as usize, &stored.bytes).unwrap_or_default();
        let spans = (self.references)(kind, &Bytes::from(bytes)).unwrap_or_default();
        spans.iter().map(|span| span.at).collect()
    }

    /// Whether the root is here, and what below it is still to be proved.
    fn check(&self, sink: &dyn Sink, snapshot: &SnapshotOffer) -> Result<Reply> {
        let Some(root) = snapshot.root.map(|root| (Kind::MapNode, root)) else { return Ok(Reply::Checked(Vec::new())) };
        if has(sink, &[root])? != [true] {
            return Ok(Reply::WrongContent(format!("the root {} never arrived", root.1)));
        }
        let mut spans = |node: &Ref| self.spans_of(node, |kind, name| sink.fetch(kind, name));
        let unproven = || Reply::Unproven("it refers to much that was neither sent nor proved".to_owned());
        Ok(self.holdings.uncredited(root, &mut spans)?.map_or_else(unproven, Reply::Checked))
    }

    fn publish(&self, sink: &dyn Sink, snapshot: &SnapshotOffer) -> Result<Reply> {
        sink.sync()?;
        match self.check(sink, snapshot)? {
            Reply::Checked(unproven) if unproven.is_empty() => {}
            Reply::Checked(_) => return Ok(Reply::Unproven("not all of it was proved".to_owned())),
            other => return Ok(other),
        }
        match sink.publish(snapshot) {
            Ok(()) => Ok(Reply::Published),
            Err(Error::Refused(reason)) => Ok(Reply::NotAllowed(reason.into())),
            Err(error) => Err(error),
        }
    }

    /// Never trust: the bytes against the name, then everything that a node refers to against the store.
    fn verify(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        kind: Kind,
        name: &Name,
        stored: &Stored,
    ) -> Result<Result<(), Wrong>> {
        let len = stored.raw_len as usize;
        if len > OBJECT_BYTES_MAX {
            return Ok(Err(format!("{kind:?} {name} is said to have {len} bytes").into()));
        }
        let bytes = match codec::decompress(stored.codec, len, &stored.bytes) {
            Ok(bytes) => Bytes::from(bytes),
            Err(wrong) => return Ok(Err(format!("{kind:?} {name} does not unpack: {wrong}").into())),
        };
        let found = realm.name(kind, &bytes);
        if found != *name {
            return Ok(Err(format!("{kind:?} {name} arrived with the content of {found}").into()));
        }
        if !kind.is_node() {
            return Ok(Ok(()));
        }
        let references = match (self.references)(kind, &bytes) {
            Ok(spans) => spans.iter().map(|span| span.at).collect::<Vec<Ref>>(),
            Err(error) => return Ok(Err(format!("{kind:?} {name} is no node: {error}").into())),
        };
        let present = has(sink, &references)?;
        Ok(match references.iter().zip(present).find(|(_, present)| !present) {
            Some((below, _)) => {
                let what = format!("{kind:?} {name} refers to {:?} {}, which is not here", below.0, below.1);
                Err(if self.told.has(below) { Wrong::Gone(what) } else { Wrong::Content(what) })
            }
            None => Ok(()),
        })
    }
}

/// Tells what of an expansion was kept since `mark`.
fn tell_new(source: &dyn Source, mark: &Mark, expansion: &mut Expansion) -> Result<()> {
    for kind in Kind::ALL {
        let mut fresh: Vec<_> = expansion.fresh.iter_mut().filter(|fresh| fresh.at.0 == kind).collect();
        let names: Vec<Name> = fresh.iter().map(|fresh| fresh.at.1).collect();
        if names.is_empty() {
            continue;
        }
        for (fresh, is_new) in fresh.iter_mut().zip(source.kept_since(mark, kind, &names)?) {
            fresh.is_new = is_new;
        }
    }
    Ok(())
}

/// Presence of references of mixed kinds, in their order.
fn has(sink: &dyn Sink, references: &[Ref]) -> Result<Vec<bool>> {
    let mut present = vec![false; references.len()];
    for kind in Kind::ALL {
        let places: Vec<usize> = (0..references.len()).filter(|place| references[*place].0 == kind).collect();
        if places.is_empty() {
            continue;
        }
        let names: Vec<Name> = places.iter().map(|place| references[*place].1).collect();
        for (place, answer) in places.into_iter().zip(sink.has(kind, &names)?) {
            present[place] = answer;
        }
    }
    Ok(present)
}

/// References of nodes that were read lately; the oldest go first.
#[derive(Default)]
struct Cache {
    nodes: HashMap<Ref, Arc<[Span]>>,
    order: VecDeque<Ref>,
    refs: usize,
}

impl Cache {
    fn find(&self, node: &Ref) -> Option<Arc<[Span]>> {
        self.nodes.get(node).cloned()
    }

    fn keep(&mut self, node: Ref, references: Arc<[Span]>) {
        let refs = references.len();
        if self.nodes.insert(node, references).is_some() {
            return;
        }
        self.order.push_back(node);
        self.refs += refs;
        while self.refs > CACHED_REFS_MAX {
            let Some(oldest) = self.order.pop_front() else { break };
            self.refs -= self.nodes.remove(&oldest).map_or(0, |references| references.len());
        }
    }
}
