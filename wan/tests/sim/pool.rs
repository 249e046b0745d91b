//! The same with real stores: pools with real trees on simulated disks, whose power is cut with the line.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::chunk::{ChunkSizes, Cutter};
use narrowboat_storage::error::{Error, Refusal, Result};
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::{Kind, Name, Realm};
use narrowboat_storage::pool::{Pool, PoolOptions, StreamId};
use narrowboat_storage::tree::sequence::{self, Content, Patch, Source};
use narrowboat_storage::tree::{map, references, walk};
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::sync::seam::SnapshotOffer;
use narrowboat_wan::sync::{PoolSink, Shelf, Worker};

use crate::line::Line;
use crate::rng::Rng;
use crate::seeds::{all_hold, seeds};
use crate::store::OwnOnly;
use crate::world::{BRANCH, HEAD_OFFICE, Script, attempt_between, replication};

const STREAM: StreamId = StreamId(5);

fn open(disk: &SimDisk, store: StoreId) -> Pool {
    let options = PoolOptions {
        container_bytes: 256 << 10,
        cache_bytes: 256 << 10,
        locality_bytes: 256 << 10,
        index_cache_bytes: 1 << 20,
        index_batch: 200,
        ..PoolOptions::new(|kind, bytes| {
            let wrong = |fault| Error::from(Refusal::Invalid(format!("{fault}")));
            references(kind, &Bytes::copy_from_slice(bytes)).map_err(wrong)
        })
    };
    Pool::open(Arc::new(disk.clone()), store, Realm::published(), options).unwrap().0
}

/// The snapshots that the head office shows. Its catalogue is durable, and has tests of its own.
#[derive(Default)]
struct Published(Mutex<BTreeMap<SnapshotId, SnapshotOffer>>);

impl Shelf for Published {
    fn newest_shared(&self, _: &DatasetId, offered: &[(SnapshotId, Name)]) -> Result<Option<(SnapshotId, Name)>> {
        let here = self.0.lock().unwrap();
        let same = |(id, root): &&(SnapshotId, Name)| here.get(id).is_some_and(|known| known.root == Some(*root));
        Ok(offered.iter().find(same).copied())
    }
    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        self.0.lock().unwrap().insert(snapshot.snapshot, snapshot.clone());
        Ok(())
    }
}

/// The branch: files as bytes, and the pool that they are kept in.
struct Branch {
    pool: Pool,
    cutter: Cutter,
    files: BTreeMap<u32, Vec<u8>>,
    root: Option<Name>,
}

impl Branch {
    fn new(rng: &mut Rng) -> Self {
        let pool = open(&SimDisk::new(rng.next()), BRANCH);
        let cutter = Cutter::new(ChunkSizes::around(4096).unwrap());
        let mut branch = Branch { pool, cutter, files: BTreeMap::new(), root: None };
        for number in 0..rng.within(1, 120) as u32 {
            let len = if rng.one_in(6) { rng.below(300_000) } else { rng.below(3000) };
            branch.write(number, rng.bytes(len as usize));
        }
        branch
    }

    fn write(&mut self, number: u32, bytes: Vec<u8>) {
        let objects = self.pool.on(STREAM);
        let mut put = |chunks: &[&[u8]]| {
            let puts = self.pool.put_batch(STREAM, Kind::Chunk, chunks)?;
            Ok(puts.into_iter().map(|put| put.name).collect())
        };
        let len = bytes.len() as u64;
        let patch = Patch { offset: 0, len, source: Source::Bytes(bytes.clone().into()) };
        let (content, _) = sequence::splice(&objects, &self.cutter, &mut put, &Content::empty(), [patch], len).unwrap();
        let edit = (number.to_be_bytes().to_vec(), Some(content.encode()));
        self.root = map::merge(&objects, self.pool.realm(), self.root.as_ref(), [edit]).unwrap();
        self.files.insert(number, bytes);
    }

    fn edit(&mut self, rng: &mut Rng) {
        for _ in 0..rng.below(5) {
            let Some((number, bytes)) = self.files.iter().nth(rng.below(self.files.len() as u64) as usize) else {
                return;
            };
            let (number, mut bytes) = (*number, bytes.clone());
            let at = rng.below(bytes.len() as u64 + 1) as usize;
            let some = rng.within(1, 500) as usize;
            let insert = rng.bytes(some);
            bytes.splice(at..at, insert);
            self.write(number, bytes);
        }
    }

    fn snapshot(&self, day: u8) -> SnapshotOffer {
        SnapshotOffer {
            dataset: DatasetId([7; 16]),
            dataset_name: "projects".to_owned(),
            kind: DatasetKind::Share,
            size: 0,
            snapshot: SnapshotId([day; 16]),
            snapshot_name: format!("day {day}"),
            time: Timestamp::new(1_800_000_000, 0),
            root: self.root,
            logical_bytes: self.files.values().map(|bytes| bytes.len() as u64).sum(),
            files: self.files.len() as u64,
            next_inode: 0,
            source: BRANCH,
        }
    }
}

/// Every file at the head office, read back through trees and chunks.
fn files_of(pool: &Pool, root: Option<&Name>) -> Result<BTreeMap<u32, Vec<u8>>> {
    let objects = pool.on(StreamId::MISC);
    let mut files = BTreeMap::new();
    for entry in map::prefix(&objects, root, b"") {
        let (key, value) = entry?;
        let content = Content::decode(&value).unwrap();
        let mut bytes = Vec::new();
        for piece in sequence::read(&objects, &content, 0, content.len()) {
            match piece? {
                sequence::Piece::Chunk { name, skip, len, .. } => {
                    let chunk = pool.read(Kind::Chunk, &name)?;
                    bytes.extend_from_slice(&chunk[skip as usize..][..len as usize]);
                }
                sequence::Piece::Inline(part) => bytes.extend_from_slice(&part),
                hole => bytes.resize(bytes.len() + hole.len() as usize, 0),
            }
        }
        files.insert(u32::from_be_bytes(key[..].try_into().unwrap()), bytes);
    }
    Ok(files)
}

/// Objects below a root that another pool lacks: how many, and their bytes as stored.
fn lacking(here: &Pool, root: Option<Name>, there: &Pool) -> (u64, u64) {
    let objects = here.on(StreamId::MISC);
    let (mut count, mut bytes, mut seen) = (0, 0, std::collections::BTreeSet::new());
    let Some(root) = root else { return (0, 0) };
    walk(&objects, Kind::MapNode, &root, &mut |kind, name| {
        let new = !there.contains(kind, name)? && seen.insert((kind, *name));
        if new {
            count += 1;
            bytes += here.read_stored(kind, name)?.bytes.len() as u64;
        }
        Ok(new)
    })
    .unwrap();
    (count, bytes)
}

fn world(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut branch = Branch::new(&mut rng);
    let disk = SimDisk::new(rng.next());
    let mut pool = open(&disk, HEAD_OFFICE);
    let shelf = Arc::new(Published::default());
    let line = Line { segment_bytes: 4000, bits_per_second: 50_000_000, ..Line::random(&mut rng) };
    let mut done: Vec<SnapshotOffer> = Vec::new();
    for day in 1..=3 {
        let snapshot = branch.snapshot(day);
        let (_, needed) = lacking(&branch.pool, snapshot.root, &pool);
        let (mut sent, mut allowed) = (0, needed);
        for number in 0.. {
            let (count, _) = lacking(&branch.pool, snapshot.root, &pool);
            let mut script = Script::honest(line, branch.pool.realm().id());
            script.limits[0].window_bytes = rng.within(4000, 200_000);
            let window = script.limits[0].window_bytes;
            if number < 5 && !rng.one_in(3) {
                script.cut_us = Some(rng.below(needed * 8 / 50 + 12 * line.one_way_us + 1));
            }
            let cut = script.cut_us.is_some();
            let sink = Arc::new(PoolSink::new(pool.clone(), STREAM, shelf.clone()));
            let reader = Worker::source(Arc::new(branch.pool.clone()), references);
            let writer = Worker::sink(sink.clone(), references, Realm::published(), Arc::new(OwnOnly));
            let ended = attempt_between(reader, writer, sink, replication(&snapshot, &done), script, rng.next())?;
            sent += ended.sender.1.payload_bytes;
            let objects = ended.sender.1.chunks.sent + ended.sender.1.nodes.sent;
            match ended.sender.0 {
                Ok(()) if objects == count => {}
                Ok(()) => return Err(format!("{objects} objects were sent, {count} were lacking")),
                Err(_) if cut => {}
                Err(failure) => return Err(format!("failed without a fault: {failure}")),
            }
            if sent > allowed {
                return Err(format!("{sent} bytes were sent, {allowed} were allowed"));
            }
            allowed += window + (64 << 10);
            if rng.one_in(2) {
                drop(pool);
                disk.power_cut();
                pool = open(&disk, HEAD_OFFICE);
            }
            if ended.sender.0.is_ok() {
                break;
            }
        }
        let published = shelf.0.lock().unwrap().get(&snapshot.snapshot).cloned().ok_or("not published")?;
        if published != snapshot {
            return Err("another snapshot was published".to_owned());
        }
        let files = files_of(&pool, published.root.as_ref()).map_err(|error| error.to_string())?;
        if files != branch.files {
            return Err(format!("day {day}: the files differ"));
        }
        done.push(snapshot);
        branch.edit(&mut rng);
    }
    let report = pool.check(true, |_| true).map_err(|error| error.to_string())?;
    if report.is_sound() { Ok(()) } else { Err(format!("{report:?}")) }
}

#[test]
fn real_stores_end_with_equal_files_through_cuts_of_line_and_power() {
    all_hold(seeds(40), world);
}
