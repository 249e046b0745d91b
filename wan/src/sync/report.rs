//! What a replication moved, for people and for `--json`.

use std::collections::BTreeMap;

use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::{Kind, Name};

use super::choices::Choices;
use super::guess::Frontier;
use super::proving::Cost;

/// Counts of objects of one sort.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Named to the receiver.
    pub offered: u64,
    /// Of these, what the receiver had.
    pub known: u64,
    /// Sent.
    pub sent: u64,
}

/// What a replication moved. A session fills in what it sees; the link adds the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The dataset.
    pub dataset: DatasetId,
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The earlier snapshot that it was built upon; subtrees that both share are not even named.
    pub base: Option<SnapshotId>,
    /// Chunks.
    pub chunks: Tally,
    /// Tree nodes.
    pub nodes: Tally,
    /// Objects that the receiver has acknowledged: they survive whatever comes. Known to the sender only.
    pub kept: u64,
    /// References that were skipped because the base has them.
    pub shared: u64,
    /// Bytes of objects as sent, packed for the line, without framing.
    pub payload_bytes: u64,
    /// The same objects as they are stored, each compressed alone. Known to the sender only.
    pub stored_bytes: u64,
    /// The same before compression.
    pub raw_bytes: u64,
    /// Objects that were packed against others which lie in their place in the base.
    pub based: u64,
    /// Bytes of objects before compression, by the zstd level that they were packed at; 0 is as stored. Known to the sender
    /// only.
    pub efforts: BTreeMap<i32, u64>,
    /// What was chosen, and why.
    pub choices: Choices,
    /// What was read to prove that the sender has what was not sent, or to verify it.
    pub proved: Cost,
    /// Bytes of all frames from sender to receiver and back, prefaces not counted.
    pub framed_bytes: (u64, u64),
    /// Bytes on the wire from sender to receiver, all headers and repetitions counted. Filled in by the link.
    pub wire_bytes_forward: u64,
    /// Bytes on the wire from receiver to sender. Filled in by the link.
    pub wire_bytes_back: u64,
    /// Where it was broken off. Known to the sender only, once the session has ended.
    pub frontier: Frontier,
    /// From the greeting to the end.
    pub seconds: f64,
    /// Highest rate on the wire in any second, in bits per second. Filled in by the link.
    pub peak_bits_per_second: u64,
    /// The root at this side; none for an empty map, and before it is known.
    pub root_here: Option<Name>,
    /// The root that the other side named.
    pub root_there: Option<Name>,
    /// True once the receiver has published the snapshot with the sender's root.
    pub published: bool,
}

impl Report {
    /// Adds what another attempt at the same replication moved; what is not a count comes from the later one.
    pub(crate) fn add(&mut self, attempt: &Report) {
        for (sum, part) in [(&mut self.chunks, &attempt.chunks), (&mut self.nodes, &attempt.nodes)] {
            sum.offered += part.offered;
            sum.known += part.known;
            sum.sent += part.sent;
        }
        for (level, bytes) in &attempt.efforts {
            *self.efforts.entry(*level).or_default() += bytes;
        }
        self.choices.add(&attempt.choices);
        self.kept += attempt.kept;
        self.proved.add(attempt.proved);
        self.shared += attempt.shared;
        self.payload_bytes += attempt.payload_bytes;
        self.stored_bytes += attempt.stored_bytes;
        self.raw_bytes += attempt.raw_bytes;
        self.based += attempt.based;
        self.framed_bytes.0 += attempt.framed_bytes.0;
        self.framed_bytes.1 += attempt.framed_bytes.1;
        self.frontier.advance(&attempt.frontier);
        self.base = attempt.base.or(self.base);
        self.root_here = attempt.root_here.or(self.root_here);
        self.root_there = attempt.root_there.or(self.root_there);
        self.published |= attempt.published;
    }

    pub(super) fn tally(&mut self, kind: Kind) -> &mut Tally {
        if kind.is_node() { &mut self.nodes } else { &mut self.chunks }
    }
}
