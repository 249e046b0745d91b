//! A dataset that is written to and can't be drained, because what lies below is damaged: its own writers learn of that, and nobody
//! else has to wait for it.

mod common;

use std::collections::BTreeMap;

use bytes::Bytes;
use common::*;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::FileTree;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Result, Store};

const ROOT: Inode = Inode::ROOT;
/// When the pump works, in every step: it learns of no time in which a dataset would be tried again.
const NOW: Timestamp = Timestamp(20);
/// Too little to be cut, and far from the next: it stays in memory until it is drained.
const PIECE_BYTES: u64 = 4096;
const STRIDE: u64 = 64 << 10;

fn write_piece(tree: &dyn FileTree, file: Inode, nth: u64) -> Result<()> {
    let data = Bytes::from(noise(nth, PIECE_BYTES as usize));
    tree.write(&at(NOW.0), file, nth * STRIDE, data).map(drop)
}

/// Harms the data of all containers; returns what they held.
fn harm_data(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let mut sound = BTreeMap::new();
    for path in disk.paths().into_iter().filter(|path| path.ends_with(".data")) {
        let bytes = disk.contents(&path).expect("a file");
        disk.overwrite(&path, bytes.len() as u64 / 4, &vec![0xA5; bytes.len() / 2]).expect("a file");
        sound.insert(path, bytes);
    }
    sound
}

/// A store with a file in a share, which was changed since, in the middle of chunks that are damaged.
fn with_damage() -> (SimDisk, BTreeMap<String, Vec<u8>>, Store, Inode) {
    let (disk, store, tree) = with_share(9);
    let file = create(&*tree, ROOT, "file", 2);
    write(&*tree, file, 0, &noise(9, 4 << 20), 3);
    commit(&*tree, file).expect("room");
    store.close(Timestamp(4)).expect("room");
    drop((store, tree));
    let sound = harm_data(&disk);
    let (store, _) = open(&disk).expect("its names are still known");
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    // To cut around these changes, the drain has to read chunks that are damaged.
    (8..24_u64).for_each(|place| write(&*tree, file, place * 131_072 + 5, b"changed", 5));
    (disk, sound, store, file)
}

/// Ends the pump, also where the test fails: its thread is waited for.
struct Ends<'a>(&'a Store);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.stop_waiting();
    }
}

#[test]
fn a_dataset_that_can_not_be_drained_refuses_its_own_writers_and_keeps_nobody_else() {
    let (disk, sound, store, _) = with_damage();
    let bounds = small().pressure;
    let damaged = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let other = store.create_share("other", Policy::Inline, NOW).expect("room");
    let other = store.tree(other.row.id).expect("open");
    let (damaged_new, other_new) = (create(&*damaged, ROOT, "new", 20), create(&*other, ROOT, "new", 20));
    let mut accepted = 0;
    std::thread::scope(|scope| {
        let _ends = Ends(&store);
        scope.spawn(|| {
            while store.wait_for_work(std::time::Duration::from_secs(1)) {
                while store.drain_step(NOW).is_ok_and(|more| more) {}
            }
        });
        // Its own writers are told: by far not all of this has room in memory.
        let refused = (0..4 * bounds.block_bytes / PIECE_BYTES).find_map(|nth| {
            accepted = nth;
            write_piece(&*damaged, damaged_new, nth).err()
        });
        let Some(Error::Damage(damage)) = &refused else { panic!("{refused:?} after {accepted} writes") };
        assert!(sound.contains_key(&damage.file), "{damage}");
        // Removing takes memory, too, until it is merged. What was accepted can be made stable, and be read.
        assert!(matches!(damaged.remove(&at(20), ROOT, b"file"), Err(Error::Damage(_))));
        commit(&*damaged, damaged_new).expect("the journal is sound");
        // Others write several times what memory may hold.
        for nth in 0..3 * bounds.block_bytes / PIECE_BYTES {
            write_piece(&*other, other_new, nth).expect("nothing of this one is damaged");
            let held = store.stats().expect("sound").overlay_bytes;
            assert!(held <= 2 * bounds.block_bytes + (1 << 20), "{held} bytes in memory after {nth} writes");
        }
    });
    // Nothing is lost by it, and it is told of until it is over.
    while store.drain_step(NOW).is_ok_and(|more| more) {}
    let before = store.stats().expect("sound").overlay_bytes;
    assert!(matches!(store.drain_step(NOW), Err(Error::Damage(_))));
    for (path, bytes) in &sound {
        disk.overwrite(path, 0, bytes).expect("a file");
    }
    assert!(matches!(store.drain_step(NOW), Err(Error::Damage(_))), "it is not tried again at once");
    assert_eq!(store.stats().expect("sound").overlay_bytes, before);
    // Then it is, and is as good as any other.
    let later = Timestamp(NOW.0 + 31_000_000_000);
    assert!(store.drain_step(later).expect("sound again"));
    store.drain_all(later).expect("sound again");
    assert_eq!(store.stats().expect("sound").overlay_bytes, 0);
    write_piece(&*damaged, damaged_new, accepted).expect("sound again");
    let held = read(&*damaged, damaged_new);
    for nth in 0..=accepted {
        let start = (nth * STRIDE) as usize;
        assert!(held[start..start + PIECE_BYTES as usize] == noise(nth, PIECE_BYTES as usize), "piece {nth}");
    }
}

#[test]
fn a_dataset_that_is_stuck_takes_one_layer_and_gives_all_of_it_back_when_it_is_deleted() {
    let (_disk, _, store, file) = with_damage();
    let bounds = small().pressure;
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    store.create_snapshot("share", "never sealed", NOW).expect("room in the journal");
    assert!(matches!(store.drain_step(NOW), Err(Error::Damage(_))));
    let refused = (0..2 * bounds.freeze_bytes / PIECE_BYTES).find(|nth| write_piece(&*tree, file, 1000 + nth).is_err());
    let accepted = refused.expect("one layer and no more") * PIECE_BYTES;
    assert!(accepted > bounds.freeze_bytes / 2 && accepted <= bounds.freeze_bytes, "{accepted} bytes");
    drop(tree);
    store.delete_dataset("share", NOW).expect("nobody needs it");
    assert_eq!(store.stats().expect("sound").overlay_bytes, 0);
    assert!(!store.drain_step(NOW).expect("nothing is damaged that is there"));
    // None of it counts, on either side.
    let other = store.create_share("other", Policy::Inline, NOW).expect("room");
    let other = store.tree(other.row.id).expect("open");
    let file = create(&*other, ROOT, "new", 20);
    (0..bounds.pace_bytes() / 2 / PIECE_BYTES).for_each(|nth| write_piece(&*other, file, nth).expect("room"));
    store.drain_all(NOW).expect("sound");
    assert_eq!(store.stats().expect("sound").overlay_bytes, 0);
}

#[test]
fn others_have_all_of_their_room_beside_one_that_is_stuck() {
    let (_disk, _, store, file) = with_damage();
    let bounds = small().pressure;
    let overlay = || store.stats().expect("sound").overlay_bytes;
    let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
    let mut filling = (1000..).take_while(|_| overlay() + 2 * PIECE_BYTES < bounds.pace_bytes());
    filling.try_for_each(|nth| write_piece(&*tree, file, nth)).expect("nobody knows of the damage yet");
    assert!(matches!(store.drain_step(NOW), Err(Error::Damage(_))));
    let stuck = overlay();
    assert!(stuck > bounds.block_bytes / 2, "{stuck} bytes can't be drained");
    let other = store.create_share("other", Policy::Inline, NOW).expect("room");
    let other = store.tree(other.row.id).expect("open");
    let file = create(&*other, ROOT, "new", 20);
    // More than there would be room for beside it, and nobody drains.
    let filling = (0..).take_while(|_| overlay() - stuck + 2 * PIECE_BYTES < bounds.pace_bytes());
    filling.for_each(|nth| write_piece(&*other, file, nth).expect("room"));
    assert!(overlay() > bounds.block_bytes, "{} bytes", overlay());
}
