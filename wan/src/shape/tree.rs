//! The tree of caps: the box, and below it every peer.
//!
//! A datagram of a peer leaves when the peer's bucket and the box's bucket both allow it, and is charged to both. Where
//! several peers wait for the box's cap, they are served by start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM '96)
//! with equal weights: who has been given more than another waiting peer gives way. Classes within a peer will hang
//! below its node and lend one another what they do not use; nothing above them changes.
//!
//! Addresses that have not proved a key yet share the node [`NodeId::STRANGERS`], with a small cap of its own, so that
//! nobody can have the line filled with answers to them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::bucket::{Bucket, Verdict};
use super::meter::Meter;
use super::rate::Rate;

/// Names a peer's node in the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u64);

impl NodeId {
    /// The node that all strangers share. Always there.
    pub const STRANGERS: NodeId = NodeId(0);
}

/// How far a waiting peer may be overtaken, in bytes: a few transmissions.
const QUANTUM_BYTES: u64 = 16 * 1024;
/// A peer that was refused waits, for the purpose of fairness, this long; then it may have lost interest.
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
    /// Start tag of the transmission served last (the virtual time of the paper).
    virtual_bytes: u64,
}

#[derive(Debug)]
struct Node {
    bucket: Bucket,
    sent: Meter,
    received: Meter,
    /// What this node has been given, in virtual bytes.
    served_bytes: u64,
    waits_since: Option<Duration>,
}

impl Node {
    fn new(limit: Option<Rate>) -> Self {
        Node {
            bucket: Bucket::new(limit),
            sent: Meter::default(),
            received: Meter::default(),
            served_bytes: 0,
            waits_since: None,
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
            virtual_bytes: 0,
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
            Some(id) => self.node(id).bucket.set_limit(now, limit),
        }
    }

    /// The cap of the box (`None`) or of one peer.
    pub fn limit(&self, of: Option<NodeId>) -> Option<Rate> {
        of.and_then(|id| self.nodes.get(&id)).map_or(&self.bucket, |node| &node.bucket).limit()
    }

    /// May a transmission of `bytes` wire bytes to this peer leave now?
    pub fn check(&mut self, now: Duration, id: NodeId, bytes: u64) -> Verdict {
        let id = self.known(id);
        let own = self.node(id).bucket.check(now, bytes);
        if own != Verdict::Now {
            self.node(id).waits_since = None;
            return own;
        }
        let line = match self.bucket.check(now, bytes) {
            Verdict::Now if self.gives_way(now, id) => Verdict::At(now + GIVE_WAY),
            verdict => verdict,
        };
        if line != Verdict::Now {
            self.node(id).waits_since.get_or_insert(now);
        }
        line
    }

    /// Charges a transmission that has left: `bytes` wire bytes in `datagrams` datagrams.
    pub fn charge(&mut self, now: Duration, id: NodeId, bytes: u64, datagrams: u64) {
        self.bucket.charge(now, bytes);
        self.sent.count(now, bytes, datagrams);
        let virtual_bytes = self.virtual_bytes;
        let node = self.node(id);
        let start = node.served_bytes.max(virtual_bytes);
        node.served_bytes = start + bytes;
        node.waits_since = None;
        node.bucket.charge(now, bytes);
        node.sent.count(now, bytes, datagrams);
        self.virtual_bytes = virtual_bytes.max(start.saturating_sub(QUANTUM_BYTES));
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

    /// The most wire bytes that one transmission should have: 2 ms of the lowest cap in force. `None` where there is
    /// no cap. One number for all peers, because the socket below is one.
    pub fn transmission_bytes_max(&self) -> Option<u64> {
        let limits = self.nodes.iter().filter(|(id, _)| **id != NodeId::STRANGERS).map(|(_, node)| &node.bucket);
        let limits = limits.chain([&self.bucket]).filter_map(Bucket::limit).filter(|limit| !limit.is_paused());
        limits.min().map(|limit| limit.bytes_in(TRANSMISSION))
    }

    /// True where another peer waits for the line, could use it now, and has been given less.
    fn gives_way(&mut self, now: Duration, id: NodeId) -> bool {
        if self.bucket.limit().is_none() {
            return false;
        }
        let virtual_bytes = self.virtual_bytes;
        let mine = self.node(id).served_bytes.max(virtual_bytes);
        self.nodes.iter_mut().any(|(other, node)| {
            let waits = node.waits_since.is_some_and(|since| now.saturating_sub(since) <= WAITS_FOR);
            *other != id
                && waits
                && node.served_bytes.max(virtual_bytes) + QUANTUM_BYTES < mine
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
mod tests {
    use super::*;

    fn rate(text: &str) -> Option<Rate> {
        Some(text.parse().expect("a rate"))
    }

    /// Every peer always wants to send; who is asked first is the same each time. Returns the bytes of each.
    fn saturate(tree: &mut Tree, peers: &[NodeId], time: Duration) -> Vec<u64> {
        let mut sent = vec![0; peers.len()];
        let mut now = Duration::ZERO;
        while now < time {
            for (index, peer) in peers.iter().enumerate() {
                while tree.check(now, *peer, 1480) == Verdict::Now {
                    tree.charge(now, *peer, 1480, 1);
                    sent[index] += 1480;
                }
            }
            now += Duration::from_millis(1);
        }
        sent
    }

    #[test]
    fn the_box_caps_the_sum_and_shares_it_equally() {
        let mut tree = Tree::new(rate("10Mbit"), rate("1Mbit"));
        let peers = [tree.add(None), tree.add(rate("100Mbit")), tree.add(None)];
        let sent = saturate(&mut tree, &peers, Duration::from_secs(10));
        let sum: u64 = sent.iter().sum();
        assert!((0.97..=1.0).contains(&(sum as f64 * 8.0 / 1e8)), "{sent:?}");
        for bytes in &sent {
            let share = *bytes as f64 / sum as f64;
            assert!((0.30..0.37).contains(&share), "{sent:?}");
        }
    }

    #[test]
    fn what_a_capped_peer_leaves_the_others_use() {
        let mut tree = Tree::new(rate("10Mbit"), rate("1Mbit"));
        let peers = [tree.add(rate("1Mbit")), tree.add(None)];
        let sent = saturate(&mut tree, &peers, Duration::from_secs(10));
        assert!((0.95..=1.0).contains(&(sent[0] as f64 * 8.0 / 1e7)), "{sent:?}");
        assert!((0.96..=1.0).contains(&(sent[1] as f64 * 8.0 / 0.9e8)), "{sent:?}");
    }

    #[test]
    fn an_idle_peer_saves_up_no_claim() {
        let mut tree = Tree::new(rate("10Mbit"), None);
        let peers = [tree.add(None), tree.add(None)];
        saturate(&mut tree, &peers[..1], Duration::from_secs(60));
        let sent = saturate(&mut tree, &peers, Duration::from_secs(61));
        let share = sent[0] as f64 / (sent[0] + sent[1]) as f64;
        assert!(share > 0.3, "a second after a minute alone: {sent:?}");
    }

    #[test]
    fn a_paused_peer_does_not_stop_the_others() {
        let mut tree = Tree::new(rate("10Mbit"), None);
        let peers = [tree.add(Some(Rate::PAUSED)), tree.add(None)];
        assert_eq!(tree.check(Duration::ZERO, peers[0], 100), Verdict::Paused);
        let sent = saturate(&mut tree, &peers, Duration::from_secs(5));
        assert_eq!(sent[0], 0);
        assert!(sent[1] > 6_000_000);
    }

    #[test]
    fn transmissions_shrink_with_the_lowest_cap() {
        let mut tree = Tree::new(None, rate("1Mbit"));
        assert_eq!(tree.transmission_bytes_max(), None);
        let peer = tree.add(rate("20Mbit"));
        assert_eq!(tree.transmission_bytes_max(), Some(5000));
        tree.set_limit(Duration::ZERO, Some(peer), Some(Rate::PAUSED));
        assert_eq!(tree.transmission_bytes_max(), None);
    }

    #[test]
    fn a_removed_peer_is_a_stranger() {
        let mut tree = Tree::new(None, Some(Rate::PAUSED));
        let peer = tree.add(None);
        assert_eq!(tree.check(Duration::ZERO, peer, 100), Verdict::Now);
        tree.remove(peer);
        assert_eq!(tree.check(Duration::ZERO, peer, 100), Verdict::Paused);
    }
}
