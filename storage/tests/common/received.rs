//! Another box that sends its snapshots to a store, an object at a time: what the store says it has is not sent, and nodes are
//! admitted when all that they refer to is there. Where the store refuses a node, all is asked for anew, as a session does.

use std::collections::BTreeMap;
use std::sync::Arc;

use narrowboat_storage::catalogue::{DatasetKind, Policy, SnapshotRow};
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::id::{DatasetId, IdSource, SnapshotId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::StreamId;
use narrowboat_storage::store::{ReplicaSnapshot, refers_to};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store, StoreOptions};

use super::common::{commit, create, noise, read, small, write};

enum Todo {
    Ask(Kind, Name),
    Admit(Kind, Name),
}

/// A snapshot on its way.
struct Sending {
    row: SnapshotRow,
    todo: Vec<Todo>,
    bytes: Vec<u8>,
}

/// The box that sends.
pub struct Branch {
    store: Store,
    tree: Arc<dyn FileTree>,
    file: Inode,
    dataset: DatasetId,
    seed: u64,
    made: u64,
    sending: Option<Sending>,
    /// What was shown, and what it holds.
    published: BTreeMap<SnapshotId, Vec<u8>>,
    shown: u64,
    /// What the store refused last.
    refused: Option<Error>,
}

impl Branch {
    pub fn new(seed: u64) -> Branch {
        // Ids of its own: those of the store that it sends to follow from what happened there.
        let options = StoreOptions { ids: IdSource::seeded(seed ^ 1 << 50), ..small() };
        let (store, _) = Store::open(Arc::new(SimDisk::new(seed)), options).expect("an empty disk");
        let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
        let tree = store.tree(share.row.id).expect("just created");
        let file = create(&*tree, Inode::ROOT, "file", 2);
        write(&*tree, file, 0, &noise(seed, 900_000), 3);
        commit(&*tree, file).expect("a sound disk");
        let dataset = store.dataset_named("share").expect("there").row.id;
        Branch {
            store,
            tree,
            file,
            dataset,
            seed,
            made: 0,
            sending: None,
            published: BTreeMap::new(),
            shown: 0,
            refused: None,
        }
    }

    /// How many snapshots arrived.
    pub fn shown(&self) -> u64 {
        self.shown
    }

    /// Takes up to `steps` steps of sending, and begins with the next snapshot when one has arrived.
    pub fn send(&mut self, to: &Store, steps: u64, now: Timestamp) {
        for _ in 0..steps {
            match self.sending.take() {
                None => {
                    self.sending = Some(self.next());
                    to.begin_receiving(self.dataset, now).expect("a sound disk");
                    // What is old goes, so that there is something to reclaim.
                    if self.published.len() > 2
                        && let Some(oldest) = self.published.keys().next().copied()
                    {
                        to.delete_snapshot_by_id(oldest, now).expect("not held");
                        self.published.remove(&oldest);
                    }
                }
                Some(sending) => self.sending = self.step(sending, to, now),
            }
        }
    }

    /// Brings what is on its way to its end.
    pub fn finish(&mut self, to: &Store, now: Timestamp) {
        for _ in 0..20_000 {
            let Some(sending) = self.sending.take() else { return };
            self.sending = self.step(sending, to, now);
        }
        panic!("a snapshot that never arrives: {:?}", self.refused);
    }

    fn next(&mut self) -> Sending {
        self.made += 1;
        let seed = self.seed ^ self.made << 8;
        // Every third time what was there long ago comes back: a store may have it as garbage.
        let data = noise(if self.made.is_multiple_of(3) { self.seed } else { seed }, 300_000);
        write(&*self.tree, self.file, (self.made % 4) * 150_000, &data, 4);
        commit(&*self.tree, self.file).expect("a sound disk");
        let row = self.store.create_snapshot("share", &format!("s{}", self.made), Timestamp(5)).expect("room");
        self.store.seal(row.id).expect("a sound disk");
        let row = self.store.snapshot(row.id).expect("there");
        let bytes = read(&*self.tree, self.file);
        Sending { todo: Self::all(&row), row, bytes }
    }

    fn all(row: &SnapshotRow) -> Vec<Todo> {
        let root = row.sealed.and_then(|sealed| sealed.root).expect("not empty");
        vec![Todo::Ask(Kind::MapNode, root)]
    }

    fn step(&mut self, mut sending: Sending, to: &Store, now: Timestamp) -> Option<Sending> {
        let Some(todo) = sending.todo.pop() else {
            let sealed = sending.row.sealed.expect("sealed");
            let replica = ReplicaSnapshot {
                dataset: self.dataset,
                dataset_name: "branch".into(),
                kind: DatasetKind::Share,
                size: 0,
                origin: self.store.id(),
                snapshot: sending.row.id,
                name: sending.row.name.clone(),
                time: sending.row.time,
                sealed,
            };
            match to.publish(&replica, now) {
                Ok(()) => {
                    self.published.insert(sending.row.id, sending.bytes);
                    self.shown += 1;
                    return None;
                }
                Err(error @ (Error::Refused(_) | Error::Damage(_))) => {
                    self.refused = Some(error);
                    sending.todo = Self::all(&sending.row);
                }
                Err(error) => panic!("{error}"),
            }
            return Some(sending);
        };
        let (kind, name) = match todo {
            Todo::Ask(kind, name) if to.pool().contains(kind, &name).expect("readable") => return Some(sending),
            Todo::Ask(kind, name) if kind.is_node() => {
                sending.todo.push(Todo::Admit(kind, name));
                let bytes = self.store.pool().read(kind, &name).expect("its own");
                let below = refers_to(kind, &bytes).expect("a node");
                sending.todo.extend(below.into_iter().map(|(kind, name)| Todo::Ask(kind, name)));
                return Some(sending);
            }
            Todo::Ask(kind, name) | Todo::Admit(kind, name) => (kind, name),
        };
        let stored = self.store.pool().read_stored(kind, &name).expect("its own");
        match to.pool().put_stored(StreamId(9), kind, &name, &stored) {
            Ok(_) => {}
            // Something below it went meanwhile.
            Err(error @ Error::Refused(_)) => {
                self.refused = Some(error);
                sending.todo = Self::all(&sending.row);
            }
            Err(error) => panic!("{error}"),
        }
        Some(sending)
    }

    /// What was shown is whole, and reads as it was sent.
    pub fn expect_all(&self, to: &Store) {
        for (id, bytes) in &self.published {
            let tree = to.snapshot_tree(*id).expect("what was shown stays");
            assert!(read(&*tree, self.file) == *bytes, "a received snapshot has other bytes");
        }
    }
}
