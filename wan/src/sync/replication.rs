//! What a sending session is given to send.

use std::sync::Arc;

use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::name::Name;

use super::seam::{Mark, SnapshotOffer};

/// What is to be replicated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The snapshot.
    pub snapshot: SnapshotOffer,
    /// Earlier snapshots of the dataset that the receiver may have, the newest first; of these the first 32 are
    /// offered. Spread them out: the newest few, then ever older ones.
    pub bases: Vec<(SnapshotId, Name)>,
    /// A moment when everything of the snapshot was kept. Worth remembering once the receiver has proved to have it.
    pub mark: Option<Mark>,
    /// An earlier snapshot that the receiver has proved to have, and the mark of then: what was kept since is sent without a
    /// question, where the receiver builds upon that snapshot. Not for a second attempt, which would send again what the
    /// first has brought.
    pub shared: Option<(SnapshotId, Arc<Mark>)>,
}
