//! Files out of the store: what comes back is what went in, and nothing that a tree says leads out of the folder.

mod common;

use std::ffi::OsStr;
use std::fs;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use common::noise;
use narrowboat::config::Config;
use narrowboat::jobs::restore::{RestoreError, RestoreReport, restore};
use narrowboat::node::open_store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{
    Access, Attributes, Call, CallTag, Changed, Create, Credentials, DirEntry, FileTree, FileType, Listing, Made, Node,
    ReadData, SetAttributes, SetTime,
};
use narrowboat_storage::error::{Damage, Refusal, Result};
use narrowboat_storage::units::{Inode, Lsn, Space, Timestamp};

const ROOT: Inode = Inode::ROOT;

static CALLER: Credentials = Credentials::ROOT;

fn call() -> Call<'static> {
    Call { caller: &CALLER, now: Timestamp(5), tag: None }
}

/// A share with one of everything that a backup may hold.
fn one_of_everything(folder: &Path) -> (narrowboat_storage::Store, Arc<dyn FileTree>) {
    let (store, _) = open_store(folder, &Config::default()).expect("a new store");
    let share = store.create_share("office", Policy::Inline, Timestamp(1)).expect("a share");
    let tree = store.tree(share.row.id).expect("its tree");
    let plain = Create::Guarded(SetAttributes::default());
    let make = |dir, name: &[u8]| tree.create(&call(), dir, name, &plain).expect("a file").file.inode;
    let write = |file, offset, data: &[u8]| {
        tree.write(&call(), file, offset, Bytes::copy_from_slice(data)).expect("written");
    };
    let data = make(ROOT, b"data");
    write(data, 0, &noise(1, 3_000_000));
    tree.link(&call(), data, ROOT, b"data too").expect("a link");
    let sparse = make(ROOT, b"sparse");
    write(sparse, 200 << 20, b"far away");
    tree.set_attributes(&call(), sparse, &SetAttributes { size: Some(300 << 20), ..Default::default() }, None)
        .expect("longer");
    tree.make_symlink(&call(), ROOT, b"link", b"../else/where", &SetAttributes::default()).expect("a symlink");
    let mode = SetAttributes { mode: Some(0o620), ..Default::default() };
    tree.make_node(&call(), ROOT, b"pipe", Node::Fifo, &mode).expect("a fifo");
    let dir = tree.make_dir(&call(), ROOT, b"odd \xff\xfe\n name", &SetAttributes::default()).expect("a directory");
    make(dir.file.inode, b"\x80");
    let set = SetAttributes {
        mode: Some(0o4711),
        uid: Some(1234),
        gid: Some(4321),
        modified: Some(SetTime::To(Timestamp::new(1_000_000_000, 123_456_789))),
        ..Default::default()
    };
    tree.set_attributes(&call(), data, &set, None).expect("set");
    let old = SetTime::To(Timestamp::new(-5, 7));
    let set = SetAttributes { mode: Some(0o500), modified: Some(old), ..Default::default() };
    tree.set_attributes(&call(), dir.file.inode, &set, None).expect("set");
    (store, tree)
}

fn go(tree: &Arc<dyn FileTree>, path: &str, dest: &Path) -> Result<RestoreReport, RestoreError> {
    restore(tree, path, dest, None, &AtomicBool::new(false), &mut |_| {})
}

#[test]
fn everything_comes_back_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, tree) = one_of_everything(&folder.path().join("box"));
    let dest = folder.path().join("out");
    let report = go(&tree, "", &dest).expect("restored");
    assert_eq!(report.failures, Vec::<String>::new());
    assert_eq!((report.files, report.directories, report.hard_links), (5, 2, 1), "{report:?}");
    let data = fs::metadata(dest.join("data")).expect("there");
    assert!(fs::read(dest.join("data")).expect("read") == noise(1, 3_000_000));
    assert_eq!((data.ino(), data.nlink()), (fs::metadata(dest.join("data too")).expect("there").ino(), 2));
    assert_eq!(data.mode() & 0o7777, 0o4711, "set-id bits come back");
    assert_eq!((data.mtime(), data.mtime_nsec()), (1_000_000_000, 123_456_789));
    if rustix::process::geteuid().is_root() {
        assert_eq!((data.uid(), data.gid()), (1234, 4321));
    }
    let sparse = fs::metadata(dest.join("sparse")).expect("there");
    assert_eq!(sparse.len(), 300 << 20);
    assert!(sparse.blocks() * 512 < 8 << 20, "holes stay holes: {} blocks", sparse.blocks());
    assert_eq!(fs::read_link(dest.join("link")).expect("a symlink"), Path::new("../else/where"));
    let pipe = fs::metadata(dest.join("pipe")).expect("there");
    assert!(pipe.file_type().is_fifo() && pipe.mode() & 0o7777 == 0o620);
    let odd = dest.join(OsStr::from_bytes(b"odd \xff\xfe\n name"));
    let dir = fs::metadata(&odd).expect("there");
    assert_eq!((dir.mtime(), dir.mtime_nsec(), dir.mode() & 0o7777), (-5, 7, 0o500));
    assert!(odd.join(OsStr::from_bytes(b"\x80")).exists());
}

#[test]
fn holes_are_passed_over_and_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, _) = open_store(&folder.path().join("box"), &Config::default()).expect("a new store");
    let share = store.create_share("office", Policy::Inline, Timestamp(1)).expect("a share");
    let tree = store.tree(share.row.id).expect("its tree");
    let plain = Create::Guarded(SetAttributes::default());
    let file = tree.create(&call(), ROOT, b"disk.img", &plain).expect("a file").file.inode;
    let places = [4096_u64, 300 << 30, (700 << 30) + 12_345];
    for (seed, offset) in (1..).zip(places) {
        tree.write(&call(), file, offset, Bytes::from(noise(seed, 4000))).expect("written");
    }
    let whole = SetAttributes { size: Some(1 << 40), ..Default::default() };
    tree.set_attributes(&call(), file, &whole, None).expect("longer");
    for drained in [false, true] {
        if drained {
            store.drain_all(Timestamp(9)).expect("room");
        }
        let dest = folder.path().join(format!("out-{drained}"));
        let report = go(&tree, "", &dest).expect("restored");
        assert_eq!((report.logical_bytes, report.failures.len()), (1 << 40, 0));
        assert!(report.written_bytes < 1 << 20, "{} bytes", report.written_bytes);
        assert!(report.seconds < 5.0, "a TiB was read, in {} s", report.seconds);
        let restored = fs::File::open(dest.join("disk.img")).expect("there");
        let metadata = restored.metadata().expect("there");
        assert!(metadata.len() == 1 << 40 && metadata.blocks() * 512 < 1 << 20, "{metadata:?}");
        for (seed, offset) in (1..).zip(places) {
            let mut found = vec![0; 4000];
            restored.read_exact_at(&mut found, offset).expect("there");
            assert!(found == noise(seed, 4000), "at {offset}");
        }
    }
}

#[test]
fn one_path_is_restored_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, tree) = one_of_everything(&folder.path().join("box"));
    let dest = folder.path().join("deep/er/file");
    let report = go(&tree, "/data too", &dest).expect("restored");
    assert_eq!((report.files, report.directories), (1, 0));
    assert_eq!(fs::metadata(&dest).expect("there").len(), 3_000_000);
    let missing = go(&tree, "no/such", &folder.path().join("none"));
    assert!(matches!(missing, Err(RestoreError::Store(_))), "{missing:?}");
    assert!(!folder.path().join("none").exists(), "nothing was made for what is not there");
}

#[test]
fn what_is_there_is_never_written_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, tree) = one_of_everything(&folder.path().join("box"));
    let full = folder.path().join("full");
    fs::create_dir(&full).expect("made");
    fs::write(full.join("mine"), "mine").expect("written");
    std::os::unix::fs::symlink("/nonexistent", folder.path().join("dangling")).expect("made");
    for (path, dest) in [("", "full"), ("data", "full"), ("data", "full/mine"), ("", "full/mine"), ("", "dangling")] {
        let refused = go(&tree, path, &folder.path().join(dest));
        assert!(matches!(refused, Err(RestoreError::Destination(_))), "{path} to {dest}: {refused:?}");
    }
    assert_eq!(fs::read_dir(&full).expect("there").count(), 1);
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).expect("made");
    go(&tree, "", &empty).expect("an empty folder is fine");
}

#[test]
fn it_ends_early_when_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_store, tree) = one_of_everything(&folder.path().join("box"));
    let stopped = restore(&tree, "", &folder.path().join("out"), None, &AtomicBool::new(true), &mut |_| {});
    assert!(matches!(stopped, Err(RestoreError::Stopped)), "an incomplete restore is no success: {stopped:?}");
}

#[test]
fn progress_comes_to_the_total_also_over_holes() {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, tree) = one_of_everything(&folder.path().join("box"));
    let total = store.dataset_named("office").expect("there").totals.logical_bytes;
    let mut seen = Vec::new();
    let dest = folder.path().join("out");
    restore(&tree, "", &dest, Some(total), &AtomicBool::new(false), &mut |now| seen.push(now)).expect("restored");
    assert!(!seen.is_empty() && seen.is_sorted_by_key(|now| now.done));
    assert!(seen.iter().all(|now| now.total == Some(total) && now.done <= total), "{seen:?}");
}

/// A tree as a hostile peer might send it, or a damaged store: whatever entries it likes, in every directory, of such a size, and what
/// of them can't be read.
struct Faked {
    entries: Vec<(&'static [u8], FileType, u64)>,
    size: u64,
    damaged: Vec<Range<u64>>,
}

impl Faked {
    fn hostile(entries: Vec<(&'static [u8], FileType, u64)>) -> Arc<dyn FileTree> {
        Arc::new(Faked { entries, size: 4, damaged: Vec::new() })
    }

    fn attributes_of(&self, inode: u64, file_type: FileType) -> Attributes {
        let time = Timestamp(0);
        Attributes {
            inode: Inode(inode),
            file_type,
            mode: 0o700,
            links: 1,
            uid: 0,
            gid: 0,
            size: self.size,
            used: self.size,
            device: (0, 0),
            accessed: time,
            modified: time,
            changed: time,
        }
    }
}

/// Other bytes in every block, and no zero.
fn content_at(offset: u64) -> u8 {
    1 + ((offset / 4096 * 7 + offset) % 251) as u8
}

fn no<T>() -> Result<T> {
    Err(Refusal::ReadOnly.into())
}

impl FileTree for Faked {
    fn attributes(&self, inode: Inode) -> Result<Attributes> {
        Ok(self.attributes_of(inode.0, FileType::Directory))
    }
    fn read_dir(&self, _: &Credentials, dir: Inode, cookie: u64, _: usize) -> Result<Listing> {
        let behind = cookie.saturating_sub(2) as usize;
        let entry = |(index, (name, file_type, inode)): (usize, &(&'static [u8], FileType, u64))| {
            // Below the first level everything leads back, so that a loop is met, too.
            let inode = if dir == Inode::ROOT { *inode } else { *inode + 100 * (dir.0 % 2) };
            DirEntry {
                name: Bytes::from_static(name),
                cookie: 3 + index as u64,
                attributes: self.attributes_of(inode, *file_type),
            }
        };
        Ok(Listing { entries: self.entries.iter().enumerate().skip(behind).map(entry).collect(), end: true })
    }
    fn read_link(&self, _: &Credentials, _: Inode) -> Result<Bytes> {
        Ok(Bytes::from_static(b".."))
    }
    fn read(&self, _: &Credentials, inode: Inode, offset: u64, len: u32) -> Result<ReadData> {
        let end = (offset + u64::from(len)).min(self.size);
        if let Some(bad) = self.damaged.iter().find(|bad| bad.start < end && offset < bad.end) {
            return Err(Damage::new("a container", bad.start, "a chunk", "nonsense").into());
        }
        let pieces = vec![(offset..end).map(content_at).collect()];
        Ok(ReadData { pieces, end: end == self.size, attributes: self.attributes_of(inode.0, FileType::Regular) })
    }
    fn set_attributes(&self, _: &Call, _: Inode, _: &SetAttributes, _: Option<Timestamp>) -> Result<Changed> {
        no()
    }
    fn lookup(&self, _: &Credentials, _: Inode, _: &[u8]) -> Result<Attributes> {
        no()
    }
    fn access(&self, _: &Credentials, _: Inode, _: Access) -> Result<Access> {
        no()
    }
    fn write(&self, _: &Call, _: Inode, _: u64, _: Bytes) -> Result<Changed> {
        no()
    }
    fn commit(&self, _: Inode) -> Result<Changed> {
        no()
    }
    fn create(&self, _: &Call, _: Inode, _: &[u8], _: &Create) -> Result<Made> {
        no()
    }
    fn make_dir(&self, _: &Call, _: Inode, _: &[u8], _: &SetAttributes) -> Result<Made> {
        no()
    }
    fn make_symlink(&self, _: &Call, _: Inode, _: &[u8], _: &[u8], _: &SetAttributes) -> Result<Made> {
        no()
    }
    fn make_node(&self, _: &Call, _: Inode, _: &[u8], _: Node, _: &SetAttributes) -> Result<Made> {
        no()
    }
    fn remove(&self, _: &Call, _: Inode, _: &[u8]) -> Result<Changed> {
        no()
    }
    fn remove_dir(&self, _: &Call, _: Inode, _: &[u8]) -> Result<Changed> {
        no()
    }
    fn rename(&self, _: &Call, _: (Inode, &[u8]), _: (Inode, &[u8])) -> Result<(Changed, Changed)> {
        no()
    }
    fn link(&self, _: &Call, _: Inode, _: Inode, _: &[u8]) -> Result<Made> {
        no()
    }
    fn space(&self) -> Result<Space> {
        no()
    }
    fn make_stable(&self, _: Lsn) -> Result<()> {
        no()
    }
    fn write_verifier(&self) -> [u8; 8] {
        [0; 8]
    }
    fn remembered(&self, _: &CallTag) -> Option<(Inode, Lsn)> {
        None
    }
    fn read_only(&self) -> bool {
        true
    }
}

#[test]
fn a_hostile_tree_writes_nothing_outside() {
    let folder = tempfile::tempdir().expect("a folder");
    let entries: [Vec<(&'static [u8], FileType, u64)>; 7] = [
        vec![(b"..", FileType::Regular, 9)],
        vec![(b"..", FileType::Directory, 9)],
        vec![(b"../evil", FileType::Regular, 9)],
        vec![(b"/evil", FileType::Regular, 9), (b"", FileType::Regular, 8), (b".", FileType::Directory, 7)],
        vec![(b"nul\0", FileType::Regular, 9)],
        // A symlink to the folder above, and a directory of the same name that the walk would go on below.
        vec![(b"same", FileType::Symlink, 8), (b"same", FileType::Directory, 9)],
        vec![(b"same", FileType::Symlink, 8), (b"same", FileType::Regular, 9)],
    ];
    for (number, entries) in entries.into_iter().enumerate() {
        let place = folder.path().join(number.to_string());
        fs::create_dir(&place).expect("made");
        let shown = format!("{entries:?}");
        let tree = Faked::hostile(entries);
        let report = go(&tree, "", &place.join("out")).expect("the rest is restored");
        assert!(!report.failures.is_empty(), "{shown} was named");
        assert_eq!(fs::read_dir(&place).expect("there").count(), 1, "nothing beside the destination: {shown}");
    }
}

#[test]
fn a_directory_inside_itself_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let entries = vec![(&b"a"[..], FileType::Directory, 50), (&b"b"[..], FileType::Directory, 60)];
    let tree = Faked::hostile(entries);
    let report = go(&tree, "", &folder.path().join("out")).expect("it ends");
    assert!(report.failures.iter().any(|why| why.contains("loop")), "{report:?}");
    assert!(report.directories < 10, "{report:?}");
}

#[test]
fn a_large_file_comes_back_but_for_what_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let mib = |mib: u64| mib << 20;
    let size = mib(100) + 12345;
    // Within a step, over the border of two stretches, and the end; each gives up whole steps of 16 KiB, counted from the first bad one.
    let damaged = vec![mib(5) + 100..mib(5) + 101, mib(64) - 1..mib(64) + 1, size - 1..size];
    let zeros = [mib(5)..mib(5) + (16 << 10), mib(64) - (16 << 10)..mib(64) + (16 << 10), mib(100)..size];
    let entries = vec![(&b"large"[..], FileType::Regular, 9)];
    for damaged in [Vec::new(), damaged] {
        let sound = damaged.is_empty();
        let tree: Arc<dyn FileTree> = Arc::new(Faked { entries: entries.clone(), size, damaged });
        let out = folder.path().join(format!("sound-{sound}"));
        let report = go(&tree, "", &out).expect("restored");
        let missing = if sound { 0 } else { zeros.iter().map(|zeros| zeros.end - zeros.start).sum() };
        assert_eq!(report.written_bytes, size - missing);
        assert_eq!(report.logical_bytes, if sound { size } else { 0 });
        let back = fs::read(out.join("large")).expect("there");
        assert_eq!(back.len() as u64, size);
        let zero = |at: u64| !sound && zeros.iter().any(|zeros| zeros.contains(&at));
        let wrong = (0..size).find(|at| back[*at as usize] != if zero(*at) { 0 } else { content_at(*at) });
        assert_eq!(wrong, None, "the first wrong byte");
        match (sound, &report.failures[..]) {
            (true, []) => {}
            (false, [why]) => {
                let said = format!("{missing} of its {size} bytes are missing and read as zeros");
                assert!(why.contains(&said) && why.contains("expected a chunk"), "{why}");
            }
            _ => panic!("{report:?}"),
        }
    }
}
