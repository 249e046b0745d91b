//! Healing from a store that has the same trees: every object of every kind, whole containers, with and without an index that is built again, and
//! from somebody who has only a part, or lies.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::*;
use narrowboat_storage::container::format::{SLOT_BYTES, Slot};
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::error::Refusal;
use narrowboat_storage::heal::{Healing, Limits, Lost, Step};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{Stored, StreamId};
use narrowboat_storage::tree::{references, walk};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Result, Store};

/// Roots of all snapshots and of what is there now, the newest first.
fn roots(store: &Store) -> Vec<Name> {
    let snapshots = store.snapshots(None).into_iter().rev();
    snapshots.filter_map(|row| row.sealed.and_then(|sealed| sealed.root)).collect()
}

/// Everything that snapshots have, with where it lies. What was drained between two of them is nobody's.
fn slots(store: &Store) -> Vec<(Kind, Name, String, u64)> {
    let (objects, mut named) = (store.pool().on(StreamId::MISC), BTreeSet::new());
    for root in roots(store) {
        let visit = &mut |kind, name: &Name| Ok(named.insert((kind, *name)));
        walk(&objects, Kind::MapNode, &root, visit).expect("sound");
    }
    let mut found = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        if named.contains(&(slot.kind, slot.name)) {
            found.push((slot.kind, slot.name, path(id, Class::of(slot.kind)), u64::from(slot.offset)));
        }
    });
    found
}

/// Heals all snapshots from somebody who answers questions; returns how many questions that took.
fn heal(
    store: &Store,
    limits: Limits,
    mut answer: impl FnMut(&Name, &Lost) -> Option<Stored>,
) -> Result<(Healing, u64)> {
    let dataset = store.dataset_named("share")?.row.id;
    let (mut healing, mut asked) = (Healing::new(limits), 0);
    for root in roots(store) {
        healing.begin(store, dataset, root);
        loop {
            match healing.step(store, 10)? {
                Step::Worked => {}
                Step::Done => break,
                Step::Ask(lost) => {
                    assert!(!lost.is_empty() && lost.len() <= limits.asks);
                    for lost in lost {
                        asked += 1;
                        healing.took(store, answer(&root, &lost).as_ref())?;
                    }
                }
            }
        }
    }
    store.pool().sync()?;
    Ok((healing, asked))
}

fn from(peer: &Store) -> impl FnMut(&Name, &Lost) -> Option<Stored> + '_ {
    |root, lost| {
        let stored = peer.at_way(root, &lost.way).expect("the way leads there");
        if let Some(stored) = &stored {
            peer.pool().verified(lost.kind, &lost.name, stored).expect("and to just that");
        }
        stored
    }
}

fn assert_whole(store: &Store) {
    assert_eq!(store.pool().wounds(), []);
    assert_eq!(store.torn_snapshots().expect("a disk"), []);
    let report = store.pool().check(true, |_| true).expect("a disk");
    assert!(report.is_sound(), "{report:?}");
}

/// Everything that a share of both snapshots holds, the newest last; two disks with equal trees.
fn two() -> (SimDisk, Store, Store) {
    let (disk, store, tree) = filled();
    let snapshot = store.create_snapshot("share", "tuesday", Timestamp(9)).expect("room");
    store.seal(snapshot.id).expect("room");
    store.close(Timestamp(10)).expect("room");
    drop((store, tree));
    let (peer, _) = open(&disk.fork(1)).expect("sound");
    let (store, _) = open(&disk).expect("sound");
    (disk, store, peer)
}

#[test]
fn each_object_is_healed_by_itself() {
    let (disk, store, peer) = two();
    let slots = slots(&store);
    drop(store);
    let kinds: BTreeSet<_> = slots.iter().map(|slot| slot.0).collect();
    assert_eq!(kinds.len(), 3);
    for (nth, (kind, name, file, offset)) in slots.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        let (store, _) = open(&disk).expect("sound");
        disk.rot(file, offset + 90, 1).expect("there");
        store.pool().scrub(None, u64::MAX).expect("a disk");
        assert_eq!(store.pool().wounded(), 1, "{kind:?} {name}");
        let (healing, asked) = heal(&store, Limits::default(), from(&peer)).expect("healed");
        assert_eq!((healing.healed(), asked), (1, 1), "{kind:?} {name}");
        assert_whole(&store);
    }
}

/// A container that is gone, or rotten from end to end: what was there comes back, also where the index had to be built again without it.
#[test]
fn whole_containers_are_healed() {
    let (disk, store, peer) = two();
    let slots = slots(&store);
    let named: BTreeSet<_> = slots.iter().map(|slot| (slot.0, slot.1)).collect();
    let files: BTreeSet<_> = slots.iter().map(|slot| slot.2.clone()).collect();
    drop(store);
    for (nth, file) in files.iter().enumerate() {
        for harm in 0..3 {
            let disk = disk.fork(nth as u64);
            let mut store = open(&disk).expect("sound").0;
            match harm {
                0 | 1 => disk.lose(file).expect("there"),
                _ => slots
                    .iter()
                    .filter(|slot| slot.2 == *file)
                    .for_each(|slot| disk.rot(file, slot.3 + 90, 1).expect("there")),
            }
            if harm == 1 {
                drop(store);
                store = open(&disk).expect("it opens").0;
                assert!(!store.torn_snapshots().expect("a disk").is_empty(), "{file}");
            }
            store.pool().scrub(None, u64::MAX).expect("a disk");
            let (healing, _) = heal(&store, Limits { asks: 7, ..Limits::default() }, from(&peer)).expect("healed");
            assert!(healing.healed() > 0);
            let left = store.pool().wounds().into_iter().filter(|wound| named.contains(&(wound.kind, wound.name)));
            assert_eq!(
                (left.collect::<Vec<_>>(), store.torn_snapshots().expect("a disk")),
                (vec![], vec![]),
                "{file} {harm}"
            );
            let share = store.dataset_named("share").expect("there").row.id;
            for row in store.snapshots(Some(share)) {
                let tree = store.snapshot_tree(row.id).expect("whole");
                let theirs = peer.snapshot_tree(row.id).expect("whole");
                let all =
                    tree.read_dir(&Default::default(), narrowboat_storage::units::Inode::ROOT, 0, 1000).expect("read");
                for entry in all
                    .entries
                    .iter()
                    .filter(|entry| entry.name.starts_with(b"small") || entry.name.starts_with(b"later"))
                {
                    let inode = entry.attributes.inode;
                    assert_eq!(read(&*tree, inode), read(&*theirs, inode));
                }
            }
            // What was damaged of the container itself goes with it, where nothing that nobody needs is lost there.
            store.pool().scrub(None, u64::MAX).expect("a disk");
            if harm == 0 && store.pool().wounded() == 0 {
                assert_eq!((store.pool().worn(), store.pool().renew(9).expect("room")), (1, 1), "{file}");
                assert_whole(&store);
                assert!(!disk.paths().contains(file));
            }
            if harm == 1 {
                store.close(Timestamp(11)).expect("room");
                drop(store);
                assert_whole(&open(&disk).expect("sound").0);
            }
        }
    }
}

/// Directories rot, and objects do not: what is there is moved, and nobody has to be asked.
#[test]
fn worn_containers_are_renewed_from_what_the_index_says() {
    let (disk, store, _) = two();
    let slots = slots(&store);
    let files: BTreeSet<_> = slots.iter().map(|slot| slot.2.clone()).collect();
    for file in &files {
        let len = disk.contents(file).expect("there").len() as u64;
        disk.rot(file, len - 100, 1).expect("there");
    }
    store.pool().scrub(None, u64::MAX).expect("a disk");
    assert_eq!((store.pool().wounded(), store.pool().worn()), (0, files.len()));
    // One whose object can't be read stays until that is healed.
    let (_, _, hurt, offset) = slots.iter().find(|slot| slot.0 == Kind::Chunk).expect("a chunk");
    disk.rot(hurt, offset + 90, 1).expect("there");
    let scans = || store.stats().expect("readable").pool.lookups.scans;
    let before = scans();
    assert_eq!(store.pool().renew(usize::MAX).expect("room"), files.len() as u64 - 1);
    assert!(
        files.len() > 3 && scans() - before == 256,
        "the index is gone through once for all of them: {}",
        scans() - before
    );
    assert_eq!((store.pool().renew(9).expect("room"), store.pool().worn()), (0, 1));
    disk.rot(hurt, offset + 90, 1).expect("there");
    assert_eq!((store.pool().renew(9).expect("room"), store.pool().worn()), (1, 0));
    assert_whole(&store);
    store.close(Timestamp(11)).expect("room");
    drop(store);
    let (store, _) = open(&disk).expect("sound");
    assert_whole(&store);
    assert!(files.iter().all(|file| !disk.paths().contains(file)));
}

/// Half is not there either: the rest is healed, nothing is stored without what is below it, and a second peer brings the other half.
#[test]
fn two_that_have_a_half_each_heal_together() {
    let (disk, store, peer) = two();
    let files: BTreeSet<_> = slots(&store).into_iter().map(|slot| slot.2).collect();
    drop(store);
    for file in &files {
        disk.lose(file).expect("there");
    }
    let (store, _) = open(&disk).expect("it opens");
    let odd = |lost: &Lost| lost.name.0[0] % 2 == 1;
    let half = |wanted: bool| {
        let mut all = from(&peer);
        move |root: &Name, lost: &Lost| all(root, lost).filter(|_| lost.kind.is_node() || odd(lost) == wanted)
    };
    let (first, _) = heal(&store, Limits { asks: 3, seen: 2, ..Limits::default() }, half(true)).expect("healed");
    assert!(first.healed() > 0 && !store.torn_snapshots().expect("a disk").is_empty());
    let report = store.pool().check(true, |_| true).expect("a disk");
    assert!(report.is_sound(), "what is there is whole: {report:?}");
    heal(&store, Limits::default(), half(false)).expect("healed");
    assert_whole(&store);
}

/// What was sent is something else: the healing ends, and nothing of it is kept.
#[test]
fn lies_are_refused() {
    let (disk, store, peer) = two();
    let slots = slots(&store);
    drop(store);
    for kind in Kind::ALL {
        let disk = disk.fork(kind as u64);
        let (store, _) = open(&disk).expect("sound");
        let (_, name, file, offset) = slots.iter().find(|slot| slot.0 == kind).expect("of each kind");
        disk.rot(file, offset + 90, 1).expect("there");
        store.pool().scrub(None, u64::MAX).expect("a disk");
        let (_, other, ..) = slots.iter().find(|slot| slot.0 == kind && slot.1 != *name).expect("another");
        let lies: [Stored; 3] = [
            peer.pool().read_stored(kind, other).expect("sound"),
            Stored { raw_len: u32::MAX, ..peer.pool().read_stored(kind, name).expect("sound") },
            Stored { bytes: Bytes::new(), ..peer.pool().read_stored(kind, name).expect("sound") },
        ];
        for lie in lies {
            let outcome = heal(&store, Limits::default(), |_, _| Some(lie.clone()));
            assert!(matches!(outcome, Err(Error::Refused(Refusal::Invalid(_)))), "{kind:?}");
            assert_eq!(store.pool().wounded(), 1);
        }
        heal(&store, Limits::default(), from(&peer)).expect("an honest one");
        assert_whole(&store);
    }
}

/// Who has nothing is asked once for each, and the number of such is bounded.
#[test]
fn who_has_nothing_is_not_asked_for_ever() {
    let (disk, store, _) = two();
    let data: Vec<_> = slots(&store).into_iter().filter(|slot| slot.0 == Kind::Chunk).collect();
    for (_, _, file, offset) in &data {
        disk.rot(file, offset + 90, 1).expect("there");
    }
    store.pool().scrub(None, u64::MAX).expect("a disk");
    let wounds = store.pool().wounded() as u64;
    assert!(wounds > 30);
    let (_, asked) = heal(&store, Limits::default(), |_, _| None).expect("over");
    assert_eq!(asked, wounds);
    let (_, asked) = heal(&store, Limits { lacking: 5, asks: 1, ..Limits::default() }, |_, _| None).expect("over");
    assert_eq!(asked, 6);
}

/// Everything below the roots of all snapshots, with a way to it.
fn ways(store: &Store) -> BTreeMap<(Kind, Name), (Name, Vec<u32>)> {
    let mut found = BTreeMap::new();
    let mut open: Vec<_> = roots(store).into_iter().map(|root| (Kind::MapNode, root, root, Vec::new())).collect();
    while let Some((kind, name, root, way)) = open.pop() {
        if found.insert((kind, name), (root, way.clone())).is_none() && kind.is_node() {
            let bytes = store.pool().read(kind, &name).expect("sound");
            let below = references(kind, &bytes).expect("a node");
            open.extend(
                (0..).zip(below).map(|(place, (kind, name))| (kind, name, root, [&way[..], &[place]].concat())),
            );
        }
    }
    found
}

/// Copies whose checksums are right and whose content is not, as a bad memory makes them before they are written: who sent such a one would be taken for
/// a liar.
#[test]
fn what_its_name_alone_tells_to_be_damaged_is_not_given() {
    let (disk, store, peer) = two();
    let (slots, ways) = (slots(&store), ways(&peer));
    drop(store);
    for (nth, (kind, name, file, offset)) in slots.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        let at = usize::try_from(*offset).expect("a place");
        let bytes = disk.contents(file).expect("there").split_off(at);
        let (slot, _) = Slot::decode(file, at as u32, &bytes[..SLOT_BYTES]).expect("sound");
        let mut payload = bytes[SLOT_BYTES..][..slot.stored_len as usize].to_vec();
        payload[slot.stored_len as usize / 2] ^= 1;
        disk.overwrite(file, *offset, &[&slot.encode(&payload)[..], &payload].concat()).expect("there");
        let (store, _) = open(&disk).expect("sound as far as checksums tell");
        store.pool().read_stored(*kind, name).expect("its checksums are right");
        let (root, way) = &ways[&(*kind, *name)];
        assert_eq!(store.at_way(root, way).expect("a disk"), None, "{kind:?}");
        assert!(store.pool().is_wounded(*kind, name), "what was met is remembered");
    }
}

/// A way tells nothing but what lies below the root, and no odd one does harm.
#[test]
fn ways_that_lead_nowhere_are_refused() {
    let (_, store, _) = two();
    let root = roots(&store)[0];
    assert!(store.at_way(&root, &[]).expect("a disk").is_some());
    for way in [vec![u32::MAX], vec![0; 64], vec![0; 65], vec![1_000_000, 0]] {
        assert!(matches!(store.at_way(&root, &way), Err(Error::Refused(_))), "{way:?}");
    }
    assert_eq!(store.at_way(&Name([7; 32]), &[0]).expect("a disk"), None);
}
