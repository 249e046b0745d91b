//! A snapshot on its way from one store to another, an object at a time: what the receiver says it has is not sent, and nodes are
//! admitted when all that they refer to is there. Where the receiver refuses a node, or fails, all is asked for anew, as a session
//! does.

use std::sync::Arc;

use narrowboat_storage::catalogue::{DatasetKind, SnapshotRow};
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::id::DatasetId;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::StreamId;
use narrowboat_storage::store::{ReplicaSnapshot, refers_to};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Result, Store};

enum Todo {
    Ask(Kind, Name),
    Admit(Kind, Name),
}

/// A snapshot of a share on its way.
pub struct Sending {
    row: SnapshotRow,
    dataset: DatasetId,
    name: String,
    todo: Vec<Todo>,
    /// Held, so that nobody reclaims it under the session.
    _held: Arc<dyn FileTree>,
    /// What the receiver refused last.
    refused: Option<Error>,
}

impl Sending {
    /// Begins to send a snapshot, which is sealed for that.
    pub fn begin(from: &Store, to: &Store, snapshot: &SnapshotRow, now: Timestamp) -> Result<Sending> {
        from.seal(snapshot.id)?;
        let row = from.snapshot(snapshot.id)?;
        to.begin_receiving(row.dataset, now)?;
        let todo = all(&row);
        let name = from.dataset_row(row.dataset).map(|dataset| dataset.name).unwrap_or_default();
        Ok(Sending { dataset: row.dataset, name, todo, _held: from.snapshot_tree(row.id)?, row, refused: None })
    }

    /// The snapshot that is on its way.
    pub fn row(&self) -> &SnapshotRow {
        &self.row
    }

    /// What the receiver refused last.
    pub fn refused(&self) -> Option<&Error> {
        self.refused.as_ref()
    }

    /// One object further. True when the snapshot is shown.
    pub fn step(&mut self, from: &Store, to: &Store, now: Timestamp) -> Result<bool> {
        match self.next(from, to, now) {
            Ok(shown) => Ok(shown),
            // Something below it went meanwhile.
            Err(error @ (Error::Refused(_) | Error::Damage(_))) => {
                self.refused = Some(error);
                self.todo = all(&self.row);
                Ok(false)
            }
            Err(error) => {
                self.todo = all(&self.row);
                Err(error)
            }
        }
    }

    fn next(&mut self, from: &Store, to: &Store, now: Timestamp) -> Result<bool> {
        let Some(todo) = self.todo.pop() else {
            self.show(from, to, now)?;
            return Ok(true);
        };
        let (kind, name) = match todo {
            Todo::Ask(kind, name) if to.pool().sound_batch(kind, &[name])? == [true] => return Ok(false),
            Todo::Ask(kind, name) if kind.is_node() => {
                self.todo.push(Todo::Admit(kind, name));
                let below = refers_to(kind, &from.pool().read(kind, &name)?)?;
                self.todo.extend(below.into_iter().map(|(kind, name)| Todo::Ask(kind, name)));
                return Ok(false);
            }
            Todo::Ask(kind, name) | Todo::Admit(kind, name) => (kind, name),
        };
        let stored = from.pool().read_stored(kind, &name)?;
        to.pool().put_stored(StreamId(9), kind, &name, &stored)?;
        Ok(false)
    }

    fn show(&self, from: &Store, to: &Store, now: Timestamp) -> Result<()> {
        let replica = ReplicaSnapshot {
            dataset: self.dataset,
            dataset_name: self.name.clone(),
            kind: DatasetKind::Share,
            size: 0,
            origin: from.id(),
            snapshot: self.row.id,
            name: self.row.name.clone(),
            time: self.row.time,
            sealed: self.row.sealed.expect("sealed when it was begun"),
        };
        to.publish(&replica, now)
    }
}

/// From the root on.
fn all(row: &SnapshotRow) -> Vec<Todo> {
    let root = row.sealed.and_then(|sealed| sealed.root);
    root.map(|root| Todo::Ask(Kind::MapNode, root)).into_iter().collect()
}
