//! What the store's tests share: a small store on a simulated disk, and short words for what a client does.

#![allow(dead_code, reason = "each test file uses a part")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Attributes, Call, Create, Credentials, FileTree, SetAttributes};
use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::reclaim::{Reclaim, Stepped};
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{PressureOptions, Result, Store, StoreOptions};

/// Options of a store that is small enough to meet every bound soon.
pub fn small() -> StoreOptions {
    let mut options = StoreOptions { reserve_bytes: 1 << 20, quarantine: Duration::ZERO, ..StoreOptions::default() };
    options.pool.container_bytes = 256 << 10;
    options.pool.index_batch = 64;
    options.pool.index_fresh_max = 300;
    options.pool.cache_bytes = 1 << 20;
    options.journal.segment_bytes = 4 << 20;
    options.whole_journal_bytes = 4 << 20;
    options.pressure =
        PressureOptions { freeze_bytes: 1 << 20, block_bytes: 8 << 20, owed_bytes: 8 << 20, deferred_bytes: 32 << 20 };
    options
}

/// The same with a journal that is split as soon as that can be done, segment by segment.
pub fn splitting() -> StoreOptions {
    let mut options = StoreOptions { whole_journal_bytes: 0, ..small() };
    options.journal.segment_bytes = (1 << 20) + (64 << 10);
    options
}

/// Opens the store on a disk with such options.
pub fn open_splitting(disk: &SimDisk) -> Result<(Store, OpenReport)> {
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), ..splitting() };
    Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options)
}

/// Opens the store on a disk. Its ids follow from what happened to the disk so far: one seed is one world, and none comes
/// again, for a store that keeps an id syncs.
pub fn open(disk: &SimDisk) -> Result<(Store, OpenReport)> {
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), ..small() };
    Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options)
}

/// The same where what is deleted can be had back for so long.
pub fn open_keeping(disk: &SimDisk, quarantine: Duration) -> Result<(Store, OpenReport)> {
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), quarantine, ..small() };
    Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options)
}

/// A new store on a new disk, with one share.
pub fn with_share(seed: u64) -> (SimDisk, Store, Arc<dyn FileTree>) {
    let disk = SimDisk::new(seed);
    let (store, report) = open(&disk).expect("an empty disk");
    assert!(report.created);
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    (disk, store, tree)
}

/// Root.
static SUPERUSER: Credentials = Credentials::ROOT;

/// A call of root at a moment.
pub fn at(now: i64) -> Call<'static> {
    Call { caller: &SUPERUSER, now: Timestamp(now), tag: None }
}

/// Creates a file, and returns its number.
pub fn create(tree: &dyn FileTree, dir: Inode, name: &str, now: i64) -> Inode {
    let how = Create::Guarded(SetAttributes { mode: Some(0o644), ..SetAttributes::default() });
    let made = tree.create(&at(now), dir, name.as_bytes(), &how).expect("a new name");
    tree.make_stable(made.dir.lsn).expect("a sound disk");
    made.file.inode
}

/// Writes all of `data` as a client does: unstable, in pieces.
pub fn write(tree: &dyn FileTree, inode: Inode, offset: u64, data: &[u8], now: i64) {
    for (index, piece) in data.chunks(128 << 10).enumerate() {
        let offset = offset + (index * (128 << 10)) as u64;
        tree.write(&at(now), inode, offset, Bytes::copy_from_slice(piece)).expect("room");
    }
}

/// Commits a file as a client does.
pub fn commit(tree: &dyn FileTree, inode: Inode) -> Result<Attributes> {
    let changed = tree.commit(inode)?;
    tree.make_stable(changed.lsn)?;
    Ok(changed.after)
}

/// All bytes of a file.
pub fn read(tree: &dyn FileTree, inode: Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let read = tree.read(&Credentials::ROOT, inode, bytes.len() as u64, 100_000).expect("readable");
        read.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
        if read.end {
            return bytes;
        }
    }
}

/// Runs of reclaim that go on while a test does other things, some steps at a time.
#[derive(Default)]
pub struct Beside {
    run: Option<Reclaim>,
    /// Runs that came to their end.
    pub runs: u64,
    /// Nodes and chunks that they let go of.
    pub freed: u64,
}

impl Beside {
    /// Goes on by so many steps. A run that ends is followed by another one.
    pub fn step(&mut self, store: &Store, now: Timestamp, steps: u64) {
        for _ in 0..steps {
            let run = self.run.get_or_insert_with(|| store.reclaim().expect("no other run"));
            if run.step(store, now).expect("a sound disk") == Stepped::Done {
                let report = run.report();
                assert_eq!((&report.stopped, report.damage.as_slice()), (&None, &[][..]));
                self.runs += 1;
                self.freed += report.nodes_freed + report.chunks_freed;
                self.run = None;
            }
        }
    }

    /// Drops the run that is under way, as a box that ends does.
    pub fn stop(&mut self) {
        self.run = None;
    }

    /// Brings the run that is under way to its end, and another one.
    pub fn finish(&mut self, store: &Store, now: Timestamp) {
        let upto = self.runs + 2;
        while self.runs < upto {
            self.step(store, now, 1);
        }
    }
}

/// Bytes that neither compress nor repeat.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let key = blake3::hash(&seed.to_le_bytes());
    blake3::Hasher::new_keyed(key.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A share with a large file in a folder and small ones, a snapshot, and a file that came later. All is in containers.
pub fn filled() -> (SimDisk, Store, Arc<dyn FileTree>) {
    let (disk, store, tree) = with_share(5);
    let dir = tree.make_dir(&at(2), Inode::ROOT, b"folder", &Default::default()).expect("a new name").file.inode;
    let put = |dir, name: &str, data: &[u8], now| {
        let file = create(&*tree, dir, name, now);
        write(&*tree, file, 0, data, now);
        commit(&*tree, file).expect("room");
    };
    put(dir, "big", &noise(1, 900_000), 3);
    (0..20).for_each(|nth| put(Inode::ROOT, &format!("small-{nth}"), &noise(50 + nth, 5000), 3));
    let snapshot = store.create_snapshot("share", "monday", Timestamp(4)).expect("room");
    store.seal(snapshot.id).expect("room");
    put(Inode::ROOT, "later", &noise(2, 300_000), 5);
    store.close(Timestamp(6)).expect("room");
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("there");
    (disk, store, tree)
}
