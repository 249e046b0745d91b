//! What a session wants of a store, and what comes of it: see [`super::Worker`].

use std::sync::Arc;

use narrowboat_storage::error::Error;
use narrowboat_storage::id::{SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name, Realm};

use super::diff::{Counterparts, Expansion};
use super::packing::{Order, Parcel};
use super::proving::{Cost, Demand, Finding};
use super::seam::{Hello, Mark, Ref, SnapshotOffer, Stored};
use crate::wire::Bundle;

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
        /// This store, where the sender is to prove to have what it does not send.
        proving: Option<StoreId>,
    },
    /// Sink: which of these are here?
    Has(Vec<Ref>),
    /// Sink: which chunks begin like these?
    NamedByPrefix(Vec<u64>),
    /// Sink: which of these are here, and what is to be proved of them?
    Find(Vec<Ref>),
    /// Sink: the same of chunks that begin like these.
    FindByPrefix(Vec<u64>),
    /// Source: compute the proof that these are here, with all that is below them.
    Prove {
        /// The session's key.
        key: [u8; 32],
        /// The number of the first.
        first: u64,
        /// The objects.
        objects: Vec<Ref>,
    },
    /// Source: the same of what lies at the ends of ways from a root.
    ProveWays {
        /// The session's key.
        key: [u8; 32],
        /// The number of the first.
        first: u64,
        /// The snapshot's root.
        root: Ref,
        /// The ways.
        ways: Vec<Vec<u32>>,
    },
    /// Sink: of all that the snapshot refers to, what did the sender neither send nor prove to have, and is not in its place in the base?
    Check(Box<SnapshotOffer>),
    /// Sink: is this the proof?
    Verify {
        /// The number of the first.
        first: u64,
        /// What is to be proved.
        demands: Vec<Demand>,
        /// What the sender said.
        digest: [u8; 32],
    },
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
            Request::Find(_)
            | Request::FindByPrefix(_)
            | Request::Prove { .. }
            | Request::ProveWays { .. }
            | Request::Verify { .. } => Lane::Read,
            Request::Check(_) => Lane::Write,
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
    pub(super) fn of(&self, realm: &Realm, bytes: &[u8]) -> Result<Ref, String> {
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
        /// What proofs are to be keyed with, where the sender is to give some.
        nonce: Option<[u8; 32]>,
    },
    /// One for each name.
    Has(Vec<bool>),
    /// One for each prefix: the one name that begins so.
    NamedByPrefix(Vec<Option<Name>>),
    /// One for each name, or prefix.
    Found(Vec<Finding>),
    /// The proof, and what it took; none where it would take too much.
    Proof(Option<([u8; 32], Cost)>),
    /// Whether the proof was right, and what that took.
    Verified(Option<Cost>),
    /// What is still to be proved, by the ways to it.
    Checked(Vec<(Vec<u32>, Demand)>),
    /// The snapshot refers to something that the sender did not show to have.
    Unproven(String),
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
    /// A node refers to what was called present in this session, and is gone.
    Gone(String),
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
