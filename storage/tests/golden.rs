//! Stores that earlier versions wrote, kept for ever: every later version opens them and finds the same bytes and roots.
//!
//! `tests/golden/vN/` is written once, by the version of the formats that it is named after, and nobody edits it later.
//! For a new version: raise `NEWEST`, run `cargo test -p narrowboat-storage --test golden -- --ignored`, and commit what it
//! wrote beside the older ones. The packing is this file's own: for each file its path, its length, and its 512-byte blocks
//! that are not zero.

mod common;

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use common::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::{Credentials, FileTree, SetAttributes};
use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Store, StoreOptions};

/// The version whose store a run of the ignored test makes.
const NEWEST: u32 = 4;
const BLOCK: usize = 512;

fn folder(version: u32) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/v{version}"))
}

fn pack(disk: &SimDisk) -> Vec<u8> {
    let mut packed = Vec::new();
    for path in disk.paths() {
        let bytes = disk.contents(&path).expect("a file");
        let blocks = || bytes.chunks(BLOCK).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0));
        packed.extend_from_slice(format!("{path}\n{} {}\n", bytes.len(), blocks().count()).as_bytes());
        for (nth, block) in blocks() {
            packed.extend_from_slice(&(nth as u32).to_le_bytes());
            packed.extend_from_slice(block);
            packed.resize(packed.len() + BLOCK - block.len(), 0);
        }
    }
    packed
}

fn line<'a>(packed: &mut &'a [u8]) -> Option<&'a str> {
    let end = packed.iter().position(|byte| *byte == b'\n')?;
    let (line, rest) = packed.split_at(end);
    *packed = &rest[1..];
    std::str::from_utf8(line).ok()
}

fn unpack(mut packed: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    while let Some(path) = line(&mut packed) {
        let (len, blocks) = line(&mut packed).and_then(|line| line.split_once(' ')).expect("a length and a count");
        if let Some((dir, _)) = path.rsplit_once('/') {
            disk.create_dir_all(dir).expect("room");
        }
        let file = disk.create(path).expect("a new name");
        for _ in 0..blocks.parse().expect("a number") {
            let (entry, rest) = packed.split_at(4 + BLOCK);
            let nth = u32::from_le_bytes(entry[..4].try_into().expect("four bytes"));
            file.write_at(&[IoSlice::new(&entry[4..])], u64::from(nth) * BLOCK as u64).expect("room");
            packed = rest;
        }
        file.set_len(len.parse().expect("a number")).expect("room");
    }
    disk
}

/// A sparse file of 1 MiB with bytes at both ends.
fn sparse() -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[..5].copy_from_slice(b"begin");
    bytes[(1 << 20) - 3..].copy_from_slice(b"end");
    bytes
}

/// What every golden store has at the moment of its snapshot "monday", and the last state of its share.
fn expected(monday: bool) -> Vec<(&'static str, Vec<u8>)> {
    let mut text = b"the same text, again and again; ".repeat(2000);
    if !monday {
        text[30_000..30_007].copy_from_slice(b"changed");
    }
    let mut files = vec![("noise", noise(1, 20_000)), ("sparse", sparse()), ("text", text), ("tiny", b"tiny".to_vec())];
    if !monday {
        files.push(("tuesday", noise(2, 5_000)));
    }
    files
}

fn compare(tree: &dyn FileTree, monday: bool) {
    let lookup = |dir, name: &str| tree.lookup(&Credentials::ROOT, dir, name.as_bytes());
    for (name, bytes) in expected(monday) {
        let inode = lookup(Inode::ROOT, name).expect("there").inode;
        assert!(read(tree, inode) == bytes, "{name}");
    }
    assert_eq!(lookup(Inode::ROOT, "tuesday").is_ok(), !monday);
    let dir = lookup(Inode::ROOT, "dir").expect("there").inode;
    assert_eq!(lookup(dir, "hard link").expect("there").inode, lookup(Inode::ROOT, "tiny").expect("there").inode);
    let link = lookup(dir, "symlink").expect("there").inode;
    assert_eq!(tree.read_link(&Credentials::ROOT, link).expect("a symlink")[..], *b"../tiny");
    let odd = lookup(dir, "mode").expect("there");
    assert_eq!((odd.mode, odd.uid, odd.gid, odd.modified), (0o4711, 7, 8, Timestamp(123_456_789)));
}

/// The volume of golden stores since version 2: at its mark, and after it was rewound there and written on.
fn volume(marked: bool) -> Vec<u8> {
    let mut bytes = vec![0; 2 << 20];
    bytes[1 << 20..][..256 << 10].copy_from_slice(&noise(3, 256 << 10));
    bytes[4096..8192].copy_from_slice(&noise(4, 4096));
    bytes[(1 << 20) + 65_536..(1 << 20) + 131_072].fill(0);
    if !marked {
        bytes[..512].fill(7);
    }
    bytes
}

/// Compares the volume, and a clone of it at its mark, on the other side of a rewind.
fn compare_volume(store: &Store) {
    let device = |name: &str| store.volume(store.dataset_named(name).expect("there").row.id).expect("a volume");
    let bytes = |name: &str| device(name).read(0, 2 << 20).expect("readable").concat();
    assert!(bytes("disk") == volume(false));
    let timeline = store.timeline("disk").expect("there");
    assert!(timeline.reach.is_some() && timeline.marks.len() == 1 && timeline.marks[0].quiet);
    let mark = Moment::Mark("quiet".into());
    store.clone_at("disk", &mark, "past", Timestamp(900)).expect("within the window");
    assert!(bytes("past") == volume(true));
    store.delete_dataset("past", Timestamp(900)).expect("just made");
}

/// Makes the volume. All but its head is in the journal's tail: writes of every kind, a mark and a rewind.
fn make_volume(store: &Store) {
    store.create_volume("disk", 2 << 20, Policy::Inline, Timestamp(10)).expect("room");
    let window = Window { nanoseconds: 1 << 60, bytes: 1 << 40 };
    store.set_window("disk", Some(window), Timestamp(10)).expect("room");
    let disk = store.volume(store.dataset_named("disk").expect("there").row.id).expect("a volume");
    let now = Timestamp(11);
    disk.write(now, 1 << 20, noise(3, 256 << 10).into()).expect("room");
    disk.write(now, 4096, noise(4, 4096).into()).expect("room");
    disk.write(now, 16_384, vec![0; 4096].into()).expect("room");
    disk.discard(now, &[(0, 512), ((1 << 20) + 65_536, 65_536)]).expect("room");
    store.mark(&["disk"], "quiet", true, Timestamp(12)).expect("room");
    disk.write(Timestamp(13), 0, noise(5, 150_000).into()).expect("room");
    store.rewind("disk", &Moment::Mark("quiet".into()), "before", Timestamp(14)).expect("room");
    disk.compare_and_write(Timestamp(15), 0, &[0; 512], vec![7; 512].into()).expect("room");
    disk.flush().expect("a sound disk");
}

/// How many blocks were written to the diary of golden stores since version 3, and after how many each it was marked.
const DIARY: (u64, u64) = (100, 20);

/// The block that a write of this number put into the diary, and where.
fn diary_block(number: u64) -> (u64, Vec<u8>) {
    (number % 25 * 4096, [number as u8, 7].repeat(2048))
}

/// Compares clones of the diary at its marks: most of its past is in its history.
fn compare_diary(store: &Store) {
    assert!(store.stats().expect("measured").history_bytes > 0);
    for count in (DIARY.1..=DIARY.0).step_by(DIARY.1 as usize) {
        let mut expected = vec![0; 1 << 20];
        for (offset, block) in (0..count).map(diary_block) {
            expected[offset as usize..][..4096].copy_from_slice(&block);
        }
        let mark = Moment::Mark(format!("m{count}"));
        let info = store.clone_at("diary", &mark, "past", Timestamp(900)).expect("within the window");
        let past = store.volume(info.row.id).expect("just made");
        assert!(past.read(0, 1 << 20).expect("readable").concat() == expected, "behind {count} writes");
        store.delete_dataset("past", Timestamp(900)).expect("just made");
    }
}

/// Makes the diary, drained and split off the journal as far as that goes.
fn make_diary(store: &Store) {
    let info = store.create_volume("diary", 1 << 20, Policy::Inline, Timestamp(6)).expect("room");
    store.set_window("diary", Some(Window { nanoseconds: 1 << 60, bytes: 1 << 40 }), Timestamp(6)).expect("room");
    let diary = store.volume(info.row.id).expect("just made");
    for number in 0..DIARY.0 {
        let (offset, block) = diary_block(number);
        diary.write(Timestamp(6), offset, block.into()).expect("room");
        let count = number + 1;
        if count % DIARY.1 == 0 {
            store.mark(&["diary"], &format!("m{count}"), true, Timestamp(6)).expect("a window");
        }
        if count % 60 == 0 || count == DIARY.0 {
            store.drain_all(Timestamp(6)).expect("room");
            while store.drain_step(Timestamp(6)).expect("room") {}
        }
    }
}

#[test]
fn stores_of_every_version_open_and_hold_what_they_held() {
    for version in 1..=NEWEST {
        let read = |name: &str| std::fs::read(folder(version).join(name)).expect("a golden store, kept for ever");
        let disk = unpack(&read("store.pack"));
        let root = String::from_utf8(read("root.txt")).expect("hex");
        for round in 0..2 {
            let (store, report) = open(&disk).expect("an old store opens");
            assert!(report.catalogue.rebuilt.is_none() && report.pool.index_rebuilt.is_none(), "{report:?}");
            assert!(round > 0 || report.replayed > 0, "it has a journal tail");
            let check = store.check(true, &mut |_| true).expect("a sound machine");
            assert!(check.is_sound(), "v{version}: {:?}", check.problems);
            compare(&*store.tree(store.dataset_named("share").expect("there").row.id).expect("open"), false);
            let monday = store.snapshot_named("share", "monday").expect("there");
            compare(&*store.snapshot_tree(monday.id).expect("sealed"), true);
            let sealed = monday.sealed.and_then(|sealed| sealed.root).expect("a root");
            assert_eq!(format!("{sealed}"), root.trim(), "v{version}: the same tree has the same root for ever");
            assert_eq!(store.setting("golden").as_deref(), Some(&b"v"[..]));
            if version >= 2 {
                compare_volume(&store);
            }
            if version >= 3 {
                compare_diary(&store);
            }
            store.close(Timestamp(1000)).expect("room");
        }
    }
}

#[test]
#[ignore = "writes the golden store of a new version; see the head of this file"]
fn make_the_newest_golden_store() {
    let to = folder(NEWEST);
    assert!(!to.exists(), "{} is there, and nobody edits it", to.display());
    let disk = SimDisk::new(1);
    let mut options = StoreOptions { ids: IdSource::seeded(1), ..splitting() };
    options.journal.segment_bytes = 128 << 10;
    let media: Arc<dyn Media> = Arc::new(disk.clone());
    let store = Store::open(media, options).expect("an empty disk").0;
    let share = store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
    let tree = store.tree(share.row.id).expect("just created");
    let root = Inode::ROOT;
    for (name, bytes) in expected(true) {
        let file = create(&*tree, root, name, 2);
        match name {
            "sparse" => {
                write(&*tree, file, 0, b"begin", 2);
                write(&*tree, file, (1 << 20) - 3, b"end", 2);
            }
            _ => write(&*tree, file, 0, &bytes, 2),
        }
        commit(&*tree, file).expect("room");
    }
    let none = SetAttributes::default();
    let dir = tree.make_dir(&at(3), root, b"dir", &none).expect("room").file.inode;
    let tiny = tree.lookup(&Credentials::ROOT, root, b"tiny").expect("there").inode;
    tree.link(&at(3), tiny, dir, b"hard link").expect("room");
    tree.make_symlink(&at(3), dir, b"symlink", b"../tiny", &none).expect("room");
    let odd = create(&*tree, dir, "mode", 3);
    let to_time = narrowboat_storage::dataset::SetTime::To(Timestamp(123_456_789));
    let set = SetAttributes { mode: Some(0o4711), uid: Some(7), gid: Some(8), modified: Some(to_time), ..none.clone() };
    tree.set_attributes(&at(4), odd, &set, None).expect("root may");
    store.set_setting("golden", Some(b"v"), Timestamp(4)).expect("room");
    let monday = store.create_snapshot("share", "monday", Timestamp(5)).expect("room");
    let sealed = store.seal(monday.id).expect("room").root.expect("a root");
    make_diary(&store);
    store.close(Timestamp(6)).expect("room");
    // The journal's tail: bytes inline, a new file, nothing drained.
    let text = tree.lookup(&Credentials::ROOT, root, b"text").expect("there").inode;
    write(&*tree, text, 30_000, b"changed", 7);
    commit(&*tree, text).expect("room");
    let file = create(&*tree, root, "tuesday", 8);
    write(&*tree, file, 0, &noise(2, 5_000), 8);
    commit(&*tree, file).expect("room");
    make_volume(&store);
    drop((store, tree));
    std::fs::create_dir_all(&to).expect("a folder");
    std::fs::write(to.join("store.pack"), pack(&disk)).expect("room");
    std::fs::write(to.join("root.txt"), format!("{sealed}\n")).expect("room");
}
