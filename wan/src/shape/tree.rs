//! The tree of caps: the box, below it every peer, below each peer the classes of what is sent to it.
//!
//! A datagram leaves when the buckets of its class, of its peer and of the box all allow it, and is charged to all of them. Who
//! goes first is decided by start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96), on both levels as in its section on
//! hierarchical sharing: among peers that wait for the box's cap with equal weights, among classes that wait for their
//! peer's turn with the weights of [`Class::share_percent`]. Whoever has been given more than its share gives way to whoever waits;
//! where nobody waits nobody gives way, so what one does not use is lent to the others, and an idle one saves up no claim.
//!
//! A class may have a ceiling, a cap of its own that it never exceeds, whatever there is to borrow.
//!
//! Addresses that have not proved a key yet share the node [`NodeId::STRANGERS`], with a small cap of its own, so that
//! nobody can have the line filled with answers to them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::{Bucket, Verdict};
use super::class::Class;
use super::meter::Meter;
use super::rate::Rate;

/// Names a peer's node in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node that all strangers share. Always there.
    pub const STRANGERS: NodeId = NodeId(0);
}

/// How far who waits may be overtaken, in bytes of one that has the whole: a few transmissions.
const QUANTUM_BYTES: u64 = 16 * 1024;
/// Who was refused waits, for the purpose of fairness, until so long after the moment that it was told to ask again; then it may
/// have lost interest.
const WAITS_FOR: Duration = Duration::from_millis(50);
/// When to ask again after having given way.
const GIVE_WAY: Duration = Duration::from_millis(1);
/// The longest transmission under a cap: 2 ms of it. Longer ones would make bursts of what the kernel sends at once.
const TRANSMISSION: Duration = Duration::from_millis(2);

/// The caps of the box and of its peers, with what was on the wire under each.
#[derive(Debug)]
pub struct Tree {
    bucket: Bucket,
    sent: Meter,
    received: Meter,
    nodes: BTreeMap<NodeId, Node>,
    next_node: u64,
    /// Among the peers.
    clock: VirtualClock,
}

#[derive(Debug)]
struct Node {
    /// The cap that this side has set, and what the peer grants: the bucket has the lower.
    own: Option<Rate>,
    granted: Option<Rate>,
    bucket: Bucket,
    sent: Meter,
    received: Meter,
    turn: Turn,
    classes: [Below; Class::ALL.len()],
    /// Among its classes.
    clock: VirtualClock,
}

/// A class of a peer.
#[derive(Debug, Default)]
struct Below {
    ceiling: Option<Bucket>,
    turn: Turn,
    sent_bytes: u64,
}

/// The virtual time of the paper: the start tag of what was served last, less what may be overtaken.
#[derive(Clone, Copy, Debug, Default)]
struct VirtualClock(u64);

/// What one of several that share has been given, and whether it waits for more.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// In bytes by weight: what it would have been given with the whole.
    served: u64,
    waits_until: Option<Duration>,
}

impl Turn {
    /// The tag with which its next bytes start.
    fn start(&self, clock: VirtualClock) -> u64 {
        self.served.max(clock.0)
    }

    fn waits(&self, now: Duration) -> bool {
        self.waits_until.is_some_and(|until| now <= until)
    }

    /// It was refused, and will ask again.
    fn wait(&mut self, now: Duration, verdict: Verdict) {
        self.waits_until = match verdict {
            Verdict::At(when) => Some(when.max(now) + WAITS_FOR),
            _ => None,
        };
    }

    /// True where it should let the other go first.
    fn yields_to(&self, other: &Turn, clock: VirtualClock) -> bool {
        other.start(clock) + QUANTUM_BYTES < self.start(clock)
    }

    /// It was served.
    fn serve(&mut self, clock: &mut VirtualClock, bytes: u64, weight_percent: u64) {
        let start = self.start(*clock);
        self.served = start.saturating_add(bytes.saturating_mul(100) / weight_percent.max(1));
        self.waits_until = None;
        clock.0 = clock.0.max(start.saturating_sub(QUANTUM_BYTES));
    }
}

impl Below {
    fn allows(&mut self, now: Duration, bytes: u64) -> Verdict {
        self.ceiling.as_mut().map_or(Verdict::Now, |ceiling| ceiling.check(now, bytes))
    }
}

impl Node {
    fn new(limit: Option<Rate>) -> Self {
        Node {
            own: limit,
            granted: None,
            bucket: Bucket::new(limit),
            sent: Meter::default(),
            received: Meter::default(),
            turn: Turn::default(),
            classes: Default::default(),
            clock: VirtualClock::default(),
        }
    }

    fn settle(&mut self, now: Duration) {
        // Without data, but for a trickle: what keeps a connection alive.
        let granted = self.granted.map(|granted| if granted.is_paused() { Rate::MIN } else { granted });
        let limit = [self.own, granted].into_iter().flatten().min();
        if limit != self.bucket.limit() {
            self.bucket.set_limit(now, limit);
        }
    }

    /// May this class go, as far as its ceiling, the peer's cap and the other classes are concerned?
    fn check(&mut self, now: Duration, class: Class, bytes: u64) -> Verdict {
        let below = &mut self.classes[class.place()];
        let own = below.allows(now, bytes);
        if own != Verdict::Now {
            // It waits for itself, and nobody has to make room.
            below.turn.waits_until = None;
            return own;
        }
        let verdict = match self.bucket.check(now, bytes) {
            Verdict::Now if self.gives_way(now, class) => Verdict::At(now + GIVE_WAY),
            verdict => verdict,
        };
        if verdict != Verdict::Now {
            self.classes[class.place()].turn.wait(now, verdict);
        }
        verdict
    }

    /// True where another class waits, could go now, and has been given less of its share.
    fn gives_way(&mut self, now: Duration, class: Class) -> bool {
        let (mine, clock) = (self.classes[class.place()].turn, self.clock);
        self.classes.iter_mut().enumerate().any(|(place, other)| {
            place != class.place()
                && other.turn.waits(now)
                && mine.yields_to(&other.turn, clock)
                && other.allows(now, 0) == Verdict::Now
        })
    }

    fn charge(&mut self, now: Duration, class: Class, bytes: u64, datagrams: u64) {
        self.bucket.charge(now, bytes);
        self.sent.count(now, bytes, datagrams);
        let below = &mut self.classes[class.place()];
        below.turn.serve(&mut self.clock, bytes, class.share_percent());
        below.sent_bytes += bytes;
        if let Some(ceiling) = &mut below.ceiling {
            ceiling.charge(now, bytes);
        }
    }
}

impl Tree {
    /// A tree with the box's cap and the strangers' cap.
    pub fn new(limit: Option<Rate>, strangers: Option<Rate>) -> Self {
        Tree {
            bucket: Bucket::new(limit),
            sent: Meter::default(),
            received: Meter::default(),
            nodes: BTreeMap::from([(NodeId::STRANGERS, Node::new(strangers))]),
            next_node: 1,
            clock: VirtualClock::default(),
        }
    }

    /// Adds a peer with its cap.
    pub fn add(&mut self, limit: Option<Rate>) -> NodeId {
        let id = NodeId(self.next_node);
        self.next_node += 1;
        self.nodes.insert(id, Node::new(limit));
        id
    }

    /// Forgets a peer. What still arrives for it counts as a stranger's.
    pub fn remove(&mut self, id: NodeId) {
        if id != NodeId::STRANGERS {
            self.nodes.remove(&id);
        }
    }

    /// Changes the cap of the box (`None`) or of one peer, from the next datagram on.
    pub fn set_limit(&mut self, now: Duration, of: Option<NodeId>, limit: Option<Rate>) {
        match of {
            None => self.bucket.set_limit(now, limit),
            Some(id) => {
                let node = self.node(id);
                node.own = limit;
                node.settle(now);
            }
        }
    }

    /// Changes what a peer grants: below its cap this counts, too, from the next datagram on.
    pub fn set_granted(&mut self, now: Duration, id: NodeId, granted: Option<Rate>) {
        if id != NodeId::STRANGERS && self.nodes.contains_key(&id) {
            let node = self.node(id);
            node.granted = granted;
            node.settle(now);
        }
    }

    /// What a peer grants.
    pub fn granted(&self, id: NodeId) -> Option<Rate> {
        self.nodes.get(&id).and_then(|node| node.granted)
    }

    /// The cap of the box (`None`) or of one peer: the lower of what this side has set and what the peer grants. Where the peer
    /// grants nothing, acknowledgements and what keeps a connection alive may leave all the same, at [`Rate::MIN`].
    pub fn limit(&self, of: Option<NodeId>) -> Option<Rate> {
        match of.and_then(|id| self.nodes.get(&id)) {
            Some(node) => [node.own, node.granted].into_iter().flatten().min(),
            None => self.bucket.limit(),
        }
    }

    /// The cap of the box (`None`) or of one peer that this side has set.
    pub fn own_limit(&self, of: Option<NodeId>) -> Option<Rate> {
        of.and_then(|id| self.nodes.get(&id)).map_or(self.bucket.limit(), |node| node.own)
    }

    /// Sets what a class of a peer never exceeds, whatever there is to borrow; `None` for no ceiling. Counts from the next datagram on.
    pub fn set_ceiling(&mut self, now: Duration, id: NodeId, class: Class, ceiling: Option<Rate>) {
        let below = &mut self.node(id).classes[class.place()];
        match (&mut below.ceiling, ceiling) {
            (Some(bucket), Some(limit)) => bucket.set_limit(now, Some(limit)),
            (bucket, limit) => *bucket = limit.map(|limit| Bucket::new(Some(limit))),
        }
    }

    /// May a transmission of `bytes` wire bytes of this class to this peer leave now?
    pub fn check(&mut self, now: Duration, id: NodeId, class: Class, bytes: u64) -> Verdict {
        let id = self.known(id);
        let own = self.node(id).check(now, class, bytes);
        if own != Verdict::Now {
            let node = self.node(id);
            // Where its own cap is in the way, nobody has to make room; where another class of it goes first, that one may wait.
            if node.bucket.check(now, bytes) != Verdict::Now {
                node.turn.waits_until = None;
            }
            return own;
        }
        let line = match self.bucket.check(now, bytes) {
            Verdict::Now if self.gives_way(now, id) => Verdict::At(now + GIVE_WAY),
            verdict => verdict,
        };
        if line != Verdict::Now {
            let node = self.node(id);
            node.turn.wait(now, line);
            node.classes[class.place()].turn.wait(now, line);
        }
        line
    }

    /// Charges a transmission that has left: `bytes` wire bytes in `datagrams` datagrams.
    pub fn charge(&mut self, now: Duration, id: NodeId, class: Class, bytes: u64, datagrams: u64) {
        self.bucket.charge(now, bytes);
        self.sent.count(now, bytes, datagrams);
        let mut clock = self.clock;
        let node = self.node(id);
        node.charge(now, class, bytes, datagrams);
        node.turn.serve(&mut clock, bytes, 100);
        self.clock = clock;
    }

    /// Moves what was charged to the strangers over to the peer that they turned out to be. The peer's bucket takes it
    /// as a debt, so that connecting is under the peer's cap like everything else.
    pub fn recognise(&mut self, now: Duration, id: NodeId, sent: (u64, u64), received: (u64, u64)) {
        let node = self.node(id);
        node.bucket.charge(now, sent.0);
        node.sent.count(now, sent.0, sent.1);
        node.received.count(now, received.0, received.1);
    }

    /// Counts what arrived: `bytes` wire bytes in `datagrams` datagrams.
    pub fn count_received(&mut self, now: Duration, id: NodeId, bytes: u64, datagrams: u64) {
        self.received.count(now, bytes, datagrams);
        self.node(id).received.count(now, bytes, datagrams);
    }

    /// The meters (sent, received) of the box (`None`) or of one peer.
    pub fn meters(&mut self, of: Option<NodeId>) -> (&mut Meter, &mut Meter) {
        match of {
            None => (&mut self.sent, &mut self.received),
            Some(id) => {
                let node = self.node(id);
                (&mut node.sent, &mut node.received)
            }
        }
    }

    /// What each class of a peer has sent, in wire bytes, in the order of [`Class::ALL`].
    pub fn sent_by_class(&self, id: NodeId) -> [u64; Class::ALL.len()] {
        let node = self.nodes.get(&self.known(id));
        node.map_or([0; Class::ALL.len()], |node| node.classes.each_ref().map(|below| below.sent_bytes))
    }

    /// The most wire bytes that one transmission should have: 2 ms of the lowest cap in force, ceilings included. `None` where there
    /// is no cap. One number for all peers, because the socket below is one.
    pub fn transmission_bytes_max(&self) -> Option<u64> {
        let peers = || self.nodes.iter().filter(|(id, _)| **id != NodeId::STRANGERS).map(|(_, node)| node);
        let ceilings = peers().flat_map(|node| node.classes.iter().filter_map(|below| below.ceiling.as_ref()));
        let buckets = peers().map(|node| &node.bucket).chain([&self.bucket]).chain(ceilings);
        let limits = buckets.filter_map(Bucket::limit).filter(|limit| !limit.is_paused());
        limits.min().map(|limit| limit.bytes_in(TRANSMISSION))
    }

    /// True where another peer waits for the line, could use it now, and has been given less.
    fn gives_way(&mut self, now: Duration, id: NodeId) -> bool {
        if self.bucket.limit().is_none() {
            return false;
        }
        let clock = self.clock;
        let mine = self.node(id).turn;
        self.nodes.iter_mut().any(|(other, node)| {
            *other != id
                && node.turn.waits(now)
                && mine.yields_to(&node.turn, clock)
                && node.bucket.check(now, 0) == Verdict::Now
        })
    }

    fn known(&self, id: NodeId) -> NodeId {
        if self.nodes.contains_key(&id) { id } else { NodeId::STRANGERS }
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        let id = self.known(id);
        // The strangers' node is made with the tree and never removed; the entry is one for the type system.
        self.nodes.entry(id).or_insert_with(|| Node::new(Some(Rate::PAUSED)))
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
