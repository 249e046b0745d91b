//! What the protocol needs of a store: [`Source`] where a snapshot is, [`Sink`] where it goes.
//!
//! All calls block and may come from any thread. Only [`super::Worker`] makes them.

use bytes::Bytes;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::tree::Span;
use narrowboat_storage::tree::node::NodeFault;

pub use crate::wire::{Hello, Ref, SnapshotOffer};
pub use narrowboat_storage::catalogue::DatasetKind;
pub use narrowboat_storage::chunk::Sketch;
pub use narrowboat_storage::container::codec::Codec;
pub use narrowboat_storage::pool::{Mark, Stored};

/// What a node refers to, in the node's order, repetitions included, with the places. Called for nodes only. Fails where
/// the bytes are no node of that kind, whatever they are: they may come from a hostile peer. The real ones:
/// [`narrowboat_storage::tree::spans`].
pub type References = fn(Kind, &Bytes) -> Result<Vec<Span>, NodeFault>;

/// A store that has the snapshot. Whatever the snapshot's root and the bases' roots refer to stays present until the
/// session ends.
pub trait Source: Send + Sync {
    /// An object as it is kept, its checksum verified.
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored>;
    /// Which of these objects were surely first kept after `mark`, in their order. True where it is not so costs their
    /// bytes on the line; false costs a question.
    fn kept_since(&self, mark: &Mark, kind: Kind, names: &[Name]) -> Result<Vec<bool>>;
    /// The bytes of an object, verified against its name.
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes>;
    /// The sketches of chunks, in the order of their names; [`Sketch::NONE`] where one has none or is not here. Cheap: no
    /// content is read. A store that keeps none finds nothing that resembles.
    fn sketches(&self, names: &[Name]) -> Result<Vec<Sketch>> {
        Ok(vec![Sketch::NONE; names.len()])
    }
}

/// A store that gets the snapshot.
pub trait Sink: Send + Sync {
    /// Which of these are present, and so everything below them. What is answered with true stays present until the
    /// session ends.
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>>;
    /// The names of the chunks that begin with these prefixes ([`Name::prefix`]), in their order: none where there is none, or
    /// where more than one is seen. What is answered with a name stays present until the session ends.
    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        Ok(vec![None; prefixes.len()])
    }
    /// True where [`Sink::admit`] itself refuses what does not fit its name and nodes whose references are not present.
    /// The worker verifies for those that do not.
    fn verifies(&self) -> bool {
        false
    }
    /// The bytes of an object that is present, verified against its name.
    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes>;
    /// Keeps an object. Admitting one that is present already is fine. Not durable before [`Sink::sync`]. A refusal means
    /// that the object is not what its name says, or came before what it refers to.
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()>;
    /// Makes everything that was admitted durable. After a power cut, what was admitted and not synced may be gone;
    /// but never is a node present without what it refers to.
    fn sync(&self) -> Result<()>;
    /// The first of `offered` whose root is present as that of a snapshot of this dataset, which is then kept until the
    /// session ends.
    /// Refused where the dataset is here and is no replica of `source`: else a peer could have what others sent told
    /// as its base.
    fn newest_shared(
        &self,
        source: &StoreId,
        dataset: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>>;
    /// True where a snapshot of this dataset is here with this root.
    fn shows(&self, dataset: &DatasetId, root: &Name) -> Result<bool>;
    /// Shows the snapshot, durably: whole or not at all. Its root is present and synced. Publishing the same again is
    /// fine; refused where the id stands for another snapshot, or where the dataset is not a replica.
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()>;
}

/// Decides what a peer may publish here. Refusals go to the peer as a sentence, so they say nothing secret.
pub trait Admission: Send + Sync {
    /// Allows or refuses one snapshot of the store that greeted with `peer`.
    fn admit(&self, peer: &Hello, snapshot: &SnapshotOffer) -> Result<()>;
}
