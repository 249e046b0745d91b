//! The same with real stores on simulated disks: a share is written at the branch, and read back from the head office's
//! replica, through cuts of the line and of the head office's power.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Call, Create, Credentials, FileTree, SetAttributes};
use narrowboat_storage::id::SnapshotId;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::name::Kind;
use narrowboat_storage::pool::{Pool, StreamId};
use narrowboat_storage::reclaim::Stepped;
use narrowboat_storage::tree::{spans, walk};
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{PressureOptions, Store, StoreOptions};
use narrowboat_wan::sync::seam::Hello;
use narrowboat_wan::sync::{Failure, OwnSnapshots, Replication, StoreSink, Worker};
use narrowboat_wan::wire::Role;

use crate::common::rng::Rng;
use crate::common::seeds;
use crate::line::Line;
use crate::seeds::all_hold;
use crate::world::{Ended, Script, attempt_between};

static ROOT: Credentials = Credentials::ROOT;

pub fn open(disk: &SimDisk) -> Arc<Store> {
    let mut options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
    options.pool.container_bytes = 256 << 10;
    options.pool.index_batch = 64;
    options.pool.cache_bytes = 1 << 20;
    options.journal.segment_bytes = 4 << 20;
    options.pressure =
        PressureOptions { freeze_bytes: 1 << 20, block_bytes: 8 << 20, owed_bytes: 8 << 20, deferred_bytes: 32 << 20 };
    Arc::new(Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options).unwrap().0)
}

/// A store with one share, and what is in it.
pub struct Branch {
    pub store: Arc<Store>,
    share: Arc<dyn FileTree>,
    files: BTreeMap<String, (Inode, Vec<u8>)>,
    now: i64,
}

impl Branch {
    fn new(rng: &mut Rng) -> Self {
        let disk = SimDisk::new(rng.next());
        Branch::on(rng, &disk)
    }

    pub fn on(rng: &mut Rng, disk: &SimDisk) -> Self {
        let store = open(disk);
        let share = store.create_share("projects", Policy::Inline, Timestamp(1)).unwrap();
        let share = store.tree(share.row.id).unwrap();
        let mut branch = Branch { store, share, files: BTreeMap::new(), now: 1 };
        for number in 0..rng.below(60) {
            let len = if rng.one_in(6) { rng.below(300_000) } else { rng.below(6000) };
            branch.create(&format!("file {number}"), rng.bytes(len as usize));
        }
        branch
    }

    fn call(&mut self) -> Call<'static> {
        self.now += 1;
        Call { caller: &ROOT, now: Timestamp(self.now), tag: None }
    }

    fn create(&mut self, name: &str, bytes: Vec<u8>) {
        let how = Create::Guarded(SetAttributes::default());
        let call = self.call();
        let inode = self.share.create(&call, Inode::ROOT, name.as_bytes(), &how).unwrap().file.inode;
        self.files.insert(name.to_owned(), (inode, Vec::new()));
        self.write(name, 0, &bytes);
    }

    fn write(&mut self, name: &str, offset: usize, bytes: &[u8]) {
        let call = self.call();
        let (inode, content) = self.files.get_mut(name).unwrap();
        self.share.write(&call, *inode, offset as u64, Bytes::copy_from_slice(bytes)).unwrap();
        content.resize(content.len().max(offset + bytes.len()), 0);
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    pub fn edit(&mut self, rng: &mut Rng) {
        for number in 0..rng.below(6) {
            let place = rng.below(self.files.len() as u64) as usize;
            let Some((name, (_, content))) = self.files.iter().nth(place) else { return };
            let (name, len) = (name.clone(), content.len());
            match rng.below(4) {
                0 => {
                    let call = self.call();
                    self.share.remove(&call, Inode::ROOT, name.as_bytes()).unwrap();
                    self.files.remove(&name);
                }
                1 => self.create(&format!("new {} {number}", self.now), rng.bytes(5000)),
                _ => {
                    let some = rng.within(1, 3000) as usize;
                    self.write(&name, rng.below(len as u64 + 1) as usize, &rng.bytes(some));
                }
            }
        }
    }

    pub fn snapshot(&mut self, day: u8) -> Replication {
        self.now += 1;
        let row = self.store.create_snapshot("projects", &format!("day {day}"), Timestamp(self.now)).unwrap();
        Replication::of(&self.store, row.id).unwrap()
    }
}

pub fn contents(tree: &dyn FileTree) -> BTreeMap<String, Vec<u8>> {
    let listing = tree.read_dir(&ROOT, Inode::ROOT, 0, 10_000).unwrap();
    assert!(listing.end);
    let mut files = BTreeMap::new();
    for entry in listing.entries.iter().filter(|entry| entry.cookie > 2) {
        let mut bytes = Vec::new();
        loop {
            let read = tree.read(&ROOT, entry.attributes.inode, bytes.len() as u64, 1 << 20).unwrap();
            read.pieces.iter().for_each(|piece| bytes.extend_from_slice(piece));
            if read.end {
                break;
            }
        }
        files.insert(String::from_utf8(entry.name.to_vec()).unwrap(), bytes);
    }
    files
}

/// Objects below a root that another pool lacks: how many, and their bytes as stored.
fn lacking(here: &Pool, what: &Replication, there: &Pool) -> (u64, u64) {
    let objects = here.on(StreamId::MISC);
    let (mut count, mut bytes, mut seen) = (0, 0, std::collections::BTreeSet::new());
    let Some(root) = what.snapshot.root else { return (0, 0) };
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

/// Whether a snapshot of the replica has this root.
fn shows(there: &Store, what: &Replication) -> bool {
    let snapshots = there.snapshots(Some(what.snapshot.dataset));
    snapshots.iter().any(|row| row.sealed.is_some_and(|sealed| sealed.root == what.snapshot.root))
}

pub fn attempt(
    branch: &Branch,
    there: &Arc<Store>,
    what: &Replication,
    script: Script,
    seed: u64,
) -> Result<Ended, String> {
    let sink = Arc::new(StoreSink::new(there.clone(), "branch/", Arc::new(|| Timestamp(1_000_000))));
    let reader = Worker::source(Arc::new(branch.store.pool().clone()), spans);
    let writer = Worker::sink(sink.clone(), spans, there.realm().clone(), Arc::new(OwnSnapshots));
    attempt_between(reader, writer, sink, what.clone(), script, seed)
}

pub fn script(line: Line, here: &Store, there: &Store) -> Script<'static> {
    let realm = here.realm().id();
    let hellos = [Hello::new(Role::Sender, realm, here.id()), Hello::new(Role::Receiver, realm, there.id())];
    Script { hellos, ..Script::honest(line, realm) }
}

/// Replicates through faults. Returns the store at the head office, which may have been opened again.
fn replicate(
    rng: &mut Rng,
    line: Line,
    branch: &Branch,
    disk: &SimDisk,
    mut there: Arc<Store>,
    what: &Replication,
) -> Result<Arc<Store>, String> {
    let here = branch.store.pool();
    let (_, needed) = lacking(here, what, there.pool());
    let (mut sent, mut allowed) = (0, needed);
    for number in 0.. {
        let (mut count, _) = lacking(here, what, there.pool());
        // A root that is here, and of no snapshot of this replica, may be somebody else's: the top is sent in any case.
        if count == 0 && !shows(&there, what) {
            count = 1;
        }
        let mut script = script(line, &branch.store, &there);
        script.limits[0].window_bytes = rng.within(4000, 200_000);
        let window = script.limits[0].window_bytes;
        if number < 5 && !rng.one_in(3) {
            script.cut_us = Some(rng.below(needed * 8_000_000 / line.bits_per_second + 12 * line.one_way_us + 1));
        }
        let cut = script.cut_us.is_some();
        let ended = attempt(branch, &there, what, script, rng.next())?;
        // As they are stored, which is how what is needed is counted: packed, a single small object may take more, for a frame of zstd
        // begins with nine bytes that a block of LZ4 does not have.
        sent += ended.sender.1.stored_bytes;
        let objects = ended.sender.1.chunks.sent + ended.sender.1.nodes.sent;
        if sent > allowed {
            return Err(format!("{sent} bytes were sent, {allowed} were allowed"));
        }
        if rng.one_in(2) {
            drop(there);
            disk.power_cut();
            there = open(disk);
        }
        match ended.sender.0 {
            // A root that is here and not shown proves nothing about the branch: the top is sent in any case.
            Ok(()) if objects == count || count == 0 && objects == 1 => return Ok(there),
            Ok(()) => return Err(format!("{objects} objects were sent, {count} were lacking")),
            Err(_) if cut => {}
            Err(failure) => return Err(format!("failed without a fault: {failure}")),
        }
        // A break costs at most the window that was under way, and the rest of one object.
        allowed += window + (64 << 10);
    }
    Ok(there)
}

fn world(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut branch = Branch::new(&mut rng);
    let disk = SimDisk::new(rng.next());
    let mut there = open(&disk);
    let line = Line { segment_bytes: 4000, bits_per_second: 50_000_000, ..Line::random(&mut rng) };
    let mut days: Vec<(SnapshotId, BTreeMap<String, Vec<u8>>)> = Vec::new();
    for day in 1..=3 {
        let what = branch.snapshot(day);
        there = replicate(&mut rng, line, &branch, &disk, there, &what)?;
        let sealed = there.snapshot(what.snapshot.snapshot).map_err(|error| error.to_string())?.sealed;
        if sealed.map(|sealed| sealed.root) != Some(what.snapshot.root) {
            return Err(format!("day {day}: the roots differ"));
        }
        let files = branch.files.iter().map(|(name, (_, bytes))| (name.clone(), bytes.clone()));
        days.push((what.snapshot.snapshot, files.collect()));
        branch.edit(&mut rng);
    }
    // Every day is there, as it was, at the place where people look.
    for (day, files) in &days {
        if contents(&*there.snapshot_tree(*day).map_err(|error| error.to_string())?) != *files {
            return Err(format!("snapshot {day}: the files differ"));
        }
    }
    let replica = there.dataset_named("branch/projects").map_err(|error| error.to_string())?;
    let newest = contents(&*there.tree(replica.row.id).map_err(|error| error.to_string())?);
    if Some(&newest) != days.last().map(|(_, files)| files) {
        return Err("the replica does not show its newest snapshot".to_owned());
    }
    let report = there.pool().check(true, |_| true).map_err(|error| error.to_string())?;
    if report.is_sound() { Ok(()) } else { Err(format!("{report:?}")) }
}

#[test]
fn real_stores_end_with_equal_files_through_cuts_of_line_and_power() {
    all_hold(seeds(30), world);
}

/// A volume goes over as a share does, and each of its snapshots with the size that it had then.
#[test]
fn a_volume_that_grows_ends_with_equal_bytes() {
    const MIB: usize = 1 << 20;
    let mut rng = Rng::new(78);
    let mut branch = Branch::new(&mut rng);
    let id = branch.store.create_volume("disk", 4 << 20, Policy::Inline, Timestamp(1)).unwrap().row.id;
    let disk = branch.store.volume(id).unwrap();
    let there = open(&SimDisk::new(8));
    let mut image = vec![0; 4 * MIB];
    let mut days = Vec::new();
    for day in 1..=3 {
        branch.now += 10;
        for _ in 0..20 {
            let (offset, len) = (rng.below(3 << 20) as usize, rng.within(1, 300_000) as usize);
            let bytes = rng.bytes(len);
            image[offset..offset + len].copy_from_slice(&bytes);
            disk.write(Timestamp(branch.now), offset as u64, bytes.into()).unwrap();
        }
        let row = branch.store.create_snapshot("disk", &format!("day {day}"), Timestamp(branch.now)).unwrap();
        days.push((row.id, image.clone()));
        image.resize(image.len() + MIB, 0);
        branch.store.resize_volume("disk", image.len() as u64, Timestamp(branch.now)).unwrap();
        let what = Replication::of(&branch.store, row.id).unwrap();
        let line = Line { segment_bytes: 4000, jitter_us: 0, loss_one_in: 0, ..Line::random(&mut rng) };
        attempt(&branch, &there, &what, script(line, &branch.store, &there), 1).unwrap().sender.0.unwrap();
    }
    for (day, image) in &days {
        let device = there.snapshot_volume(*day).unwrap();
        assert_eq!(device.size_bytes(), image.len() as u64);
        assert!(device.read(0, image.len() as u64).unwrap().concat() == *image);
    }
    let shown = there.volume(there.dataset_named("branch/disk").unwrap().row.id).unwrap();
    assert_eq!((shown.size_bytes(), shown.read_only()), (6 << 20, true));
}

/// One megabyte of real files, then a day on which one file changes by a few bytes.
#[test]
fn a_small_change_of_a_real_share_costs_little() {
    let mut rng = Rng::new(77);
    let mut branch = Branch::new(&mut rng);
    for number in 0..400 {
        branch.create(&format!("document {number}"), rng.bytes(2500 + number * 10));
    }
    branch.create("database", rng.bytes(5_000_000));
    let disk = SimDisk::new(7);
    let there = open(&disk);
    let line = Line { segment_bytes: 1400, jitter_us: 0, loss_one_in: 0, ..Line::random(&mut rng) };
    let first = branch.snapshot(1);
    attempt(&branch, &there, &first, script(line, &branch.store, &there), 1).unwrap().sender.0.unwrap();
    branch.write("database", 2_500_000, b"changed");
    let second = branch.snapshot(2);
    assert_eq!(second.bases.len(), 1);
    let ended = attempt(&branch, &there, &second, script(line, &branch.store, &there), 2).unwrap();
    ended.sender.0.unwrap();
    let report = ended.sender.1;
    assert_eq!(report.base, Some(first.snapshot.snapshot));
    assert!(report.chunks.sent <= 3 && report.nodes.sent <= 8, "{report:?}");
    assert!(report.chunks.offered + report.nodes.offered <= 30, "{report:?}");
    // Nothing changed: a few hundred bytes.
    let third = branch.snapshot(3);
    let ended = attempt(&branch, &there, &third, script(line, &branch.store, &there), 3).unwrap();
    ended.sender.0.unwrap();
    let wire: u64 = ended.wire_bytes.iter().sum();
    assert!(wire < 4096, "{wire} bytes for an unchanged snapshot");
    assert!(there.snapshot(third.snapshot.snapshot).is_ok());
}

/// The head office has a file in what it deleted, and says so; before the node that refers to it arrives, a run of reclaim lets go of it. That
/// is nobody's fault: the session is to ask again, and then gets there.
#[test]
fn what_reclaim_takes_after_the_answer_is_asked_for_again() {
    let mut rng = Rng::new(79);
    let mut branch = Branch::new(&mut rng);
    branch.create("known", rng.bytes(400_000));
    let there = open(&SimDisk::new(9));
    let line = Line { segment_bytes: 4000, jitter_us: 0, loss_one_in: 0, ..Line::random(&mut rng) };
    let first = branch.snapshot(1);
    attempt(&branch, &there, &first, script(line, &branch.store, &there), 1).unwrap().sender.0.unwrap();
    there.discard_dataset("branch/projects", Timestamp(2_000_000)).unwrap();
    branch.create("new", rng.bytes(300_000));
    let second = Replication { bases: Vec::new(), ..branch.snapshot(2) };
    let mut told = false;
    let mut tamper = |side, frame: narrowboat_wan::wire::Frame| {
        let bytes = [&frame.head[..], &frame.body[..]].concat();
        // An answer, whose bits are clear for what is present.
        let bits = bytes.get(18..).filter(|_| side == crate::world::Side::Receiver && bytes[0] == 5);
        if !told
            && bits.is_some_and(|bits| {
                bits[0] & 1 == 0 || bits.len() > 1 && bits[..bits.len() - 1].iter().any(|bits| *bits != 255)
            })
        {
            told = true;
            let mut run = there.reclaim().unwrap();
            while run.step(&there, Timestamp(3_000_000)).unwrap() != Stepped::Done {}
        }
        vec![bytes]
    };
    let ended = attempt(
        &branch,
        &there,
        &second,
        Script { tamper: Some(&mut tamper), ..script(line, &branch.store, &there) },
        2,
    );
    let failure = ended.unwrap().receiver.0.expect_err("what it was told is gone");
    assert!(matches!(failure, Failure::FullNames(_)) && !failure.is_refusal(), "{failure:?}");
    let mut again = script(line, &branch.store, &there);
    again.limits.iter_mut().for_each(|limits| limits.prefixes = false);
    attempt(&branch, &there, &second, again, 3).unwrap().sender.0.unwrap();
    let files = branch.files.iter().map(|(name, (_, bytes))| (name.clone(), bytes.clone())).collect();
    assert_eq!(contents(&*there.snapshot_tree(second.snapshot.snapshot).unwrap()), files);
    assert!(there.pool().check(true, |_| true).unwrap().is_sound());
}
