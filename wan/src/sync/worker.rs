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
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::tree::Span;

use super::diff::{self, Counterparts, Expansion};
use super::packing::{self, Order, Parcel};
use super::resemble::{self, Resemblance};
use super::seam::{Admission, Hello, Mark, Ref, References, Sink, SnapshotOffer, Source, Stored};
use super::thrift::Thrift;
use super::ways::Known;
use crate::wire::{Bundle, OBJECT_BYTES_MAX};

/// References of nodes that are kept at hand: neighbours in the walk have the same counterparts.
const CACHED_REFS_MAX: usize = 64 << 10;

/// Where a job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Beside others, in any order.
    Read,
    /// Alone in this lane, in order.
    Write,
}

/// Something to be done with a store.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Source: what do these nodes refer to that their counterparts do not?
    Expand {
        /// Which nodes.
        nodes: Vec<(Ref, Counterparts)>,
        /// Tell what was kept since then.
        since: Option<Arc<Mark>>,
        /// Look in the base with this root for what chunks resemble.
        resemble: Option<Ref>,
    },
    /// Source: read and pack these.
    Pack(Order),
    /// Sink: may it come, what of it is here? Publishes at once where everything is.
    Accept {
        /// How the sender greeted.
        peer: Box<Hello>,
        /// The snapshot.
        snapshot: Box<SnapshotOffer>,
        /// Earlier ones.
        bases: Vec<(SnapshotId, Name)>,
    },
    /// Sink: which of these are here?
    Has(Vec<Ref>),
    /// Sink: which chunks begin like these?
    NamedByPrefix(Vec<u64>),
    /// Sink: unpack, verify and admit, in this order.
    Admit(Vec<Arrival>),
    /// Sink: make durable what was admitted.
    Sync,
    /// Sink: make everything durable, check that the root is there, and publish.
    Publish(Box<SnapshotOffer>),
}

impl Request {
    /// Where it may run.
    pub fn lane(&self) -> Lane {
        match self {
            Request::Expand { .. } | Request::Pack(_) | Request::Has(_) | Request::NamedByPrefix(_) => Lane::Read,
            Request::Accept { .. } | Request::Admit(_) | Request::Sync | Request::Publish(_) => Lane::Write,
        }
    }
}

/// What came from the sender to be admitted.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrival {
    /// One object that was asked for.
    Object(Expected, Stored),
    /// A bundle, with what is known of each of its objects.
    Bundle(Vec<Expected>, Bundle),
}

/// What is known of an object before it is unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It was asked for.
    Named(Ref),
    /// It was asked for as a chunk whose name begins so.
    Prefixed(u64),
    /// It was not; this is its kind.
    OfKind(Kind),
}

impl Expected {
    /// The kind of what is expected.
    pub fn kind(&self) -> Kind {
        match self {
            Expected::Named((kind, _)) | Expected::OfKind(kind) => *kind,
            Expected::Prefixed(_) => Kind::Chunk,
        }
    }

    /// What the bytes are that came, or why they are not what is expected. One that was named is verified later.
    fn of(&self, realm: &Realm, bytes: &[u8]) -> Result<Ref, String> {
        let name = match self {
            Expected::Named(at) => return Ok(*at),
            expected => realm.name(expected.kind(), bytes),
        };
        match self {
            Expected::Prefixed(prefix) if name.prefix() != *prefix => {
                Err(format!("a chunk arrived as {name}, which does not begin as it was asked for"))
            }
            expected => Ok((expected.kind(), name)),
        }
    }
}

/// What came of a request.
#[derive(Debug)]
pub enum Reply {
    /// One for each node.
    Expanded(Vec<Expansion>),
    /// The first so many of the objects asked for.
    Packed(Parcel),
    /// What is here of an offer.
    Accepted {
        /// True where the snapshot was published right away, because its root is here.
        published: bool,
        /// The newest base that is here.
        base: Option<SnapshotId>,
    },
    /// One for each name.
    Has(Vec<bool>),
    /// One for each prefix: the one name that begins so.
    NamedByPrefix(Vec<Option<Name>>),
    /// All were admitted.
    Admitted,
    /// All that was admitted is durable.
    Synced,
    /// The snapshot is published.
    Published,
    /// The peer may not do that.
    NotAllowed(Error),
    /// An object was not what its name says, or came before what it refers to. Those in front of it were admitted.
    WrongContent(String),
    /// The store failed.
    Failed(Error),
}

/// A request with the number that its answer is to carry.
#[derive(Debug)]
pub struct Job {
    /// The number.
    pub id: u64,
    /// The request.
    pub request: Request,
}

/// A finished job.
#[derive(Debug)]
pub struct Done {
    /// The job's number.
    pub id: u64,
    /// What came of it.
    pub reply: Reply,
}

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
    patience: Patience,
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
            patience: Patience::default(),
        }
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
                packing::pack(&**source, &order, &self.thrift).map(Reply::Packed)
            }
            (Side::Sink { sink, .. }, Request::Has(refs)) => has(&**sink, &refs).map(Reply::Has),
            (Side::Sink { sink, .. }, Request::NamedByPrefix(prefixes)) => {
                sink.named_by_prefix(&prefixes).map(Reply::NamedByPrefix)
            }
            (Side::Sink { sink, realm, .. }, Request::Admit(objects)) => self.admit(&**sink, realm, objects),
            (Side::Sink { sink, .. }, Request::Sync) => sink.sync().map(|()| Reply::Synced),
            (Side::Sink { sink, .. }, Request::Publish(snapshot)) => publish(&**sink, &snapshot),
            (Side::Sink { sink, admission, .. }, Request::Accept { peer, snapshot, bases }) => {
                match admission.admit(&peer, &snapshot) {
                    Ok(()) => self.accept(&**sink, &snapshot, &bases),
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
            resemble::improve_all(&self.resemblance, root, nodes, &mut expansions, source, &mut read)?;
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

    fn admit(&self, sink: &dyn Sink, realm: &Realm, arrivals: Vec<Arrival>) -> Result<Reply> {
        for arrival in arrivals {
            let admitted = match arrival {
                Arrival::Object(expected, stored) => self.admit_object(sink, realm, expected, stored)?,
                Arrival::Bundle(expected, bundle) => self.admit_bundle(sink, realm, &expected, &bundle)?,
            };
            if let Err(wrong) = admitted {
                return Ok(Reply::WrongContent(wrong));
            }
        }
        Ok(Reply::Admitted)
    }

    fn admit_object(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        expected: Expected,
        stored: Stored,
    ) -> Result<Result<(), String>> {
        let (kind, name) = match expected {
            Expected::Named(at) => at,
            _ => {
                let unpacked = codec::decompress(stored.codec, stored.raw_len as usize, &stored.bytes);
                match unpacked.and_then(|bytes| expected.of(realm, &bytes)) {
                    Ok(at) => at,
                    Err(wrong) => return Ok(Err(format!("an object does not unpack: {wrong}"))),
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
    ) -> Result<Result<(), String>> {
        if !sink.verifies()
            && let Err(wrong) = self.verify(sink, realm, kind, name, &stored)?
        {
            return Ok(Err(wrong));
        }
        match sink.admit(kind, name, stored) {
            Ok(()) => Ok(Ok(())),
            Err(Error::Refused(refusal)) => Ok(Err(refusal.to_string())),
            Err(error) => Err(error),
        }
    }

    fn admit_bundle(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        expected: &[Expected],
        bundle: &Bundle,
    ) -> Result<Result<(), String>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut spans = |node: &Ref| self.spans_of(node, |kind, name| sink.fetch(kind, name));
        let mut content = match packing::unpack(sink, &mut known, &mut spans, bundle)? {
            Ok(content) => content,
            Err(wrong) => return Ok(Err(wrong)),
        };
        for (item, expected) in bundle.items.iter().zip(expected) {
            // The content has the length of all its objects together.
            let object = content.split_to(item.len as usize);
            let (kind, name) = match expected.of(realm, &object) {
                Ok(at) => at,
                Err(wrong) => return Ok(Err(wrong)),
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

    fn accept(&self, sink: &dyn Sink, snapshot: &SnapshotOffer, bases: &[(SnapshotId, Name)]) -> Result<Reply> {
        let base = match sink.newest_shared(&snapshot.source, &snapshot.dataset, bases) {
            Ok(base) => base,
            Err(Error::Refused(reason)) => return Ok(Reply::NotAllowed(reason.into())),
            Err(error) => return Err(error),
        };
        let root = base.map(|(_, root)| (Kind::MapNode, root));
        self.known.lock().unwrap_or_else(PoisonError::into_inner).begin(root);
        let base = base.map(|(id, _)| id);
        // A root that is here for somebody else is no proof that this peer has what is below it: it sends the top at least.
        let whole = match &snapshot.root {
            Some(root) => sink.shows(&snapshot.dataset, root)?,
            None => true,
        };
        if whole {
            return Ok(match publish(sink, snapshot)? {
                Reply::Published => Reply::Accepted { published: true, base },
                other => other,
            });
        }
        Ok(Reply::Accepted { published: false, base })
    }

    /// Never trust: the bytes against the name, then everything that a node refers to against the store.
    fn verify(
        &self,
        sink: &dyn Sink,
        realm: &Realm,
        kind: Kind,
        name: &Name,
        stored: &Stored,
    ) -> Result<Result<(), String>> {
        let len = stored.raw_len as usize;
        if len > OBJECT_BYTES_MAX {
            return Ok(Err(format!("{kind:?} {name} is said to have {len} bytes")));
        }
        let bytes = match codec::decompress(stored.codec, len, &stored.bytes) {
            Ok(bytes) => Bytes::from(bytes),
            Err(wrong) => return Ok(Err(format!("{kind:?} {name} does not unpack: {wrong}"))),
        };
        let found = realm.name(kind, &bytes);
        if found != *name {
            return Ok(Err(format!("{kind:?} {name} arrived with the content of {found}")));
        }
        if !kind.is_node() {
            return Ok(Ok(()));
        }
        let references = match (self.references)(kind, &bytes) {
            Ok(spans) => spans.iter().map(|span| span.at).collect::<Vec<Ref>>(),
            Err(error) => return Ok(Err(format!("{kind:?} {name} is no node: {error}"))),
        };
        let present = has(sink, &references)?;
        Ok(match references.iter().zip(present).find(|(_, present)| !present) {
            Some(((below, missing), _)) => {
                Err(format!("{kind:?} {name} refers to {below:?} {missing}, which is not here"))
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

fn publish(sink: &dyn Sink, snapshot: &SnapshotOffer) -> Result<Reply> {
    sink.sync()?;
    if let Some(root) = &snapshot.root
        && has(sink, &[(Kind::MapNode, *root)])? != [true]
    {
        return Ok(Reply::WrongContent(format!("the root {root} never arrived")));
    }
    match sink.publish(snapshot) {
        Ok(()) => Ok(Reply::Published),
        Err(Error::Refused(reason)) => Ok(Reply::NotAllowed(reason.into())),
        Err(error) => Err(error),
    }
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
