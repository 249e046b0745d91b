//! A store's pool as [`Source`] and [`Sink`].

use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{Pool, StreamId};

use super::seam::{Sink, SnapshotOffer, Source, Stored};

impl Source for Pool {
    fn stored(&self, kind: Kind, name: &Name) -> Result<Stored> {
        self.read_stored(kind, name)
    }
    fn read(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        Pool::read(self, kind, name)
    }
}

/// The snapshots that a store shows: what a [`Sink`] needs beside objects.
pub trait Shelf: Send + Sync {
    /// See [`Sink::newest_shared`].
    fn newest_shared(&self, dataset: &DatasetId, offered: &[(SnapshotId, Name)]) -> Result<Option<(SnapshotId, Name)>>;
    /// See [`Sink::publish`].
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()>;
}

/// Objects go into a pool, on a stream of their own; snapshots onto a shelf.
pub struct PoolSink {
    pool: Pool,
    stream: StreamId,
    shelf: Arc<dyn Shelf>,
}

impl PoolSink {
    /// What arrives goes to `stream`: one for each dataset, so that its chunks lie together.
    pub fn new(pool: Pool, stream: StreamId, shelf: Arc<dyn Shelf>) -> Self {
        PoolSink { pool, stream, shelf }
    }
}

impl Sink for PoolSink {
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        self.pool.contains_batch(kind, names)
    }
    fn verifies(&self) -> bool {
        true
    }
    fn admit(&self, kind: Kind, name: &Name, object: Stored) -> Result<()> {
        self.pool.put_stored(self.stream, kind, name, &object).map(|_| ())
    }
    fn sync(&self) -> Result<()> {
        self.pool.sync()
    }
    fn newest_shared(&self, dataset: &DatasetId, offered: &[(SnapshotId, Name)]) -> Result<Option<(SnapshotId, Name)>> {
        self.shelf.newest_shared(dataset, offered)
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        self.shelf.publish(snapshot)
    }
}
