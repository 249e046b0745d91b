//! Wounds in every state of an object: not in the index yet, healed and not settled, in a cache, in a container that can't be opened.

mod common;

use std::ops::Range;

use common::*;
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::id::ContainerId;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::StreamId;
use narrowboat_storage::reclaim::Stepped;
use narrowboat_storage::units::{Inode, Timestamp};
use narrowboat_storage::{Error, Store};

/// What lies in a slot, in which file, and where.
type Slot = (Kind, Name, String, Range<u64>);

/// Everything in every sealed container.
fn slots(store: &Store) -> Vec<Slot> {
    let mut found = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        let file = path(id, Class::of(slot.kind));
        found.push((slot.kind, slot.name, file, u64::from(slot.offset)..u64::from(slot.offset) + slot.total_bytes()));
    });
    found
}

/// A chunk of some length.
fn chunk(store: &Store) -> Slot {
    slots(store)
        .into_iter()
        .filter(|slot| slot.0 == Kind::Chunk && slot.3.end - slot.3.start > 4000)
        .nth(3)
        .expect("sound")
}

#[test]
fn an_unreadable_header_does_not_stop_scrubs() {
    let (disk, store, _) = filled();
    let (_, _, file, _) = chunk(&store);
    drop(store);
    let (store, _) = open(&disk).expect("sound");
    disk.fail_reads(&file, 0..1).expect("sound");
    let step = store.pool().scrub(None, u64::MAX);
    assert!(step.is_ok(), "{step:?}");
}

/// A sector that can't be read, wherever it is in a container, while the index is built anew from containers, sealed or not: the box
/// starts, and all that lies elsewhere is there.
#[test]
fn a_box_starts_with_sectors_that_can_not_be_read() {
    let (disk, store, _) = filled();
    let slots = slots(&store);
    drop(store);
    disk.lose("index.redb").expect("there");
    let mut files: Vec<String> = slots.iter().map(|slot| slot.2.clone()).collect();
    files.dedup();
    for (nth, file) in files.iter().enumerate() {
        let len = disk.contents(file).expect("a file").len() as u64;
        for (place, unsealed) in (0..len).step_by(4096).flat_map(|place| [(place, false), (place, true)]) {
            let (disk, bad) = (disk.fork(nth as u64 ^ place), place..place + 4096);
            if unsealed {
                disk.truncate(file, len - 1).expect("there");
            }
            disk.fail_reads(file, bad.clone()).expect("there");
            let (store, _) = open(&disk).unwrap_or_else(|error| panic!("{file} at {place}, {unsealed}: {error}"));
            let lost = |slot: &(Kind, Name, String, Range<u64>)| {
                // Who refers to what is lost is lost with it.
                slot.0.is_node() || (slot.2 == *file && slot.3.start < bad.end && bad.start < slot.3.end)
            };
            for (kind, name, ..) in slots.iter().filter(|slot| !lost(slot)) {
                let read = store.pool().read(*kind, name);
                assert!(read.is_ok(), "{file} at {place}, {unsealed}: {kind:?} {name}: {read:?}");
            }
        }
    }
}

#[test]
fn a_truncated_container_wounds_its_objects() {
    let (disk, store, _) = filled();
    let (kind, name, file, _) = chunk(&store);
    disk.truncate(&file, 10).expect("sound");
    let step = store.pool().scrub(None, u64::MAX).expect("a disk");
    let wounded = store.pool().wounded();
    let known = store.pool().sound_batch(kind, &[name]).expect("sound");
    assert!(
        wounded > 0 && known == [false],
        "{} places damaged, {wounded} wounds, still known: {known:?}",
        step.damage.len()
    );
}

#[test]
fn an_unreadable_node_is_told() {
    let (disk, store, _) = filled();
    let nodes: Vec<_> = slots(&store).into_iter().filter(|slot| slot.0.is_node()).collect();
    drop(store);
    let mut bad = Vec::new();
    for (nth, (kind, _, file, range)) in nodes.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        let (store, _) = open(&disk).expect("sound");
        disk.fail_reads(file, range.start + 90..range.start + 91).expect("sound");
        store.pool().scrub(None, u64::MAX).expect("a disk");
        let wounds = store.pool().wounds();
        assert_eq!(wounds.len(), 1);
        if let Err(error) = store.affected(&wounds, 100) {
            bad.push(format!("{kind:?}: {error}"));
        }
    }
    assert!(bad.is_empty(), "{} of {}: {}", bad.len(), nodes.len(), bad[0]);
}

#[test]
fn a_cached_node_that_rots_is_told() {
    let (disk, store, _) = filled();
    let nodes: Vec<_> = slots(&store).into_iter().filter(|slot| slot.0.is_node()).collect();
    drop(store);
    for (nth, (kind, name, file, range)) in nodes.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        let told = |warm: bool| {
            let (store, _) = open(&disk).expect("sound");
            if warm {
                store.pool().read(*kind, name).expect("sound");
            }
            disk.rot(file, range.start + 90, 1).expect("there");
            store.pool().scrub(None, u64::MAX).expect("a disk");
            let wounds = store.pool().wounds();
            assert_eq!(wounds.len(), 1);
            let told = store.affected(&wounds, 100).expect("a disk").len();
            disk.rot(file, range.start + 90, 1).expect("there");
            told
        };
        assert_eq!(told(false), told(true), "{kind:?} {name}");
    }
}

#[test]
fn what_is_not_settled_heals_too() {
    let (disk, store, tree) = filled();
    let file = create(&*tree, Inode::ROOT, "fresh", 9);
    let _ = file;
    let content = noise(777, 20_000);
    let put = store.pool().put(StreamId(77), Kind::Chunk, &content).expect("sound");
    assert!(put.new);
    store.pool().sync().expect("sound");
    let container = disk
        .paths()
        .into_iter()
        .find(|p| {
            p.contains("containers/") && disk.contents(p).expect("sound").windows(64).any(|w| w == &content[1000..1064])
        })
        .expect("somewhere");
    let bytes = disk.contents(&container).expect("sound");
    let place = bytes.windows(64).position(|w| w == &content[1000..1064]).expect("sound") as u64;
    disk.rot(&container, place, 1).expect("sound");
    assert!(matches!(store.pool().read(Kind::Chunk, &put.name), Err(Error::Damage(_))));
    assert_eq!(store.pool().wounded(), 1);
    let again = store.pool().put(StreamId(78), Kind::Chunk, &content).expect("sound");
    let read = store.pool().read(Kind::Chunk, &put.name);
    assert!(again.new && read.is_ok(), "new {}, read {:?}", again.new, read.map(|_| ()));
}

#[test]
fn a_wounded_chunk_is_not_known_by_prefix() {
    let (disk, store, _) = filled();
    let (kind, name, file, range) = chunk(&store);
    disk.rot(&file, range.start + 100, 4).expect("sound");
    store.pool().scrub(None, u64::MAX).expect("sound");
    assert_eq!(store.pool().sound_batch(kind, &[name]).expect("sound"), [false]);
    assert_eq!(store.pool().named_by_prefix(kind, &[name.prefix()]).expect("sound"), [None]);
}

#[test]
fn what_is_healed_is_not_wounded_again_by_a_scrub() {
    let (disk, store, _) = filled();
    let (kind, name, file, range) = chunk(&store);
    let content = store.pool().read(kind, &name).expect("sound");
    disk.rot(&file, range.start + 100, 4).expect("sound");
    store.pool().scrub(None, u64::MAX).expect("sound");
    assert!(store.pool().put(StreamId(3), kind, &content).expect("sound").new);
    assert_eq!(store.pool().wounded(), 0);
    let step = store.pool().scrub(None, u64::MAX).expect("sound");
    let known = store.pool().sound_batch(kind, &[name]).expect("sound");
    let again = store.pool().put(StreamId(3), kind, &content).expect("sound").new;
    assert!(
        store.pool().wounded() == 0,
        "damage told {}, wounded {}, known {known:?}, put new {again}",
        step.damage.len(),
        store.pool().wounded()
    );
}

#[test]
fn a_heal_outlives_a_rebuild_of_the_index() {
    let (disk, store, _) = filled();
    let pool = store.pool();
    // Stream 1's container is opened first, so it has the lower number.
    pool.put(StreamId(1001), Kind::Chunk, &noise(901, 5000)).expect("sound");
    let content = noise(902, 5000);
    // Fill stream 2's container until it is sealed and settled.
    let first = pool.put(StreamId(1002), Kind::Chunk, &content).expect("sound");
    let mut nth = 10_000;
    let place = loop {
        for _ in 0..20 {
            pool.put(StreamId(1002), Kind::Chunk, &noise(nth, 60_000)).expect("sound");
            nth += 1;
        }
        pool.settle().expect("sound");
        let mut found = None;
        pool.for_each_slot(|id, slot| {
            if slot.name == first.name {
                found = Some((id, slot.offset))
            }
        });
        if let Some(found) = found {
            break found;
        }
        assert!(nth < 12_000, "never sealed");
    };
    // Names into the index.
    for _ in 0..400 {
        let c = noise(nth, 60_000);
        nth += 1;
        pool.put(StreamId(1002), Kind::Chunk, &c).expect("sound");
    }
    pool.settle().expect("sound");
    let file = path(place.0, Class::Data);
    disk.rot(&file, u64::from(place.1) + 100, 4).expect("sound");
    let damage = pool.read(Kind::Chunk, &first.name);
    assert!(damage.is_err());
    let healed = pool.put(StreamId(1001), Kind::Chunk, &content).expect("sound").new;
    assert!(healed, "not settled yet: see T5");
    store.close(Timestamp(20)).expect("sound");
    pool.read(Kind::Chunk, &first.name).expect("healed");
    let mut copies = Vec::new();
    pool.for_each_slot(|id, slot| {
        if slot.name == first.name {
            copies.push(id)
        }
    });
    drop(store);
    disk.lose("index.redb").unwrap_or_else(|_| panic!("{:?}", disk.paths()));
    let (store, _) = open(&disk).expect("opens");
    store.pool().read(Kind::Chunk, &first.name).expect("still healed");
}

#[test]
fn what_a_reader_could_not_read_is_a_wound() {
    let (disk, store, _) = filled();
    let (kind, name, file, range) = chunk(&store);
    disk.fail_reads(&file, range.start + 100..range.start + 101).expect("sound");
    assert!(store.pool().read(kind, &name).is_err());
    assert_eq!(store.pool().wounded(), 1);
}

#[test]
fn a_scrub_goes_past_what_it_cannot_open() {
    let (disk, store, tree) = filled();
    for nth in 0..30 {
        let f = create(&*tree, Inode::ROOT, &format!("more-{nth}"), 9);
        write(&*tree, f, 0, &noise(4000 + nth, 400_000), 9);
        commit(&*tree, f).expect("sound");
    }
    store.close(Timestamp(12)).expect("sound");
    drop((store, tree));
    let (store, _) = open(&disk).expect("sound");
    let first = store.pool().scrub(None, 1).expect("sound");
    let second = store.pool().scrub(first.upto, 1).expect("sound");
    let id = ContainerId(second.upto.expect("sound"));
    let file = [Class::Data, Class::Node]
        .map(|class| path(id, class))
        .into_iter()
        .find(|f| disk.paths().contains(f))
        .expect("sound");
    drop(store);
    let (store, _) = open(&disk).expect("sound");
    disk.fail_reads(&file, 0..1).expect("sound");
    let mut upto = None;
    for _ in 0..100 {
        match store.pool().scrub(upto, 1) {
            Ok(s) => {
                upto = s.upto;
                if upto.is_none() {
                    return;
                }
            }
            Err(error) => panic!("at {upto:?}: {error}"),
        }
    }
    panic!("a hundred steps, and still at {upto:?}");
}

/// What can't be read of a container that is to go ends no run: it stays, the rest goes.
#[test]
fn an_unreadable_sector_does_not_end_reclaim() {
    let (disk, store, tree) = filled();
    // All but one of the small ones goes.
    tree.remove(&at(20), Inode::ROOT, b"later").expect("sound");
    for nth in 1..20 {
        tree.remove(&at(20), Inode::ROOT, format!("small-{nth}").as_bytes()).expect("sound");
    }
    store.delete_snapshot("share", "monday", Timestamp(21)).expect("sound");
    let dir =
        tree.lookup(&narrowboat_storage::dataset::Credentials::ROOT, Inode::ROOT, b"folder").expect("sound").inode;
    tree.remove(&at(20), dir, b"big").expect("sound");
    store.close(Timestamp(22)).expect("sound");
    let containers: Vec<_> =
        disk.paths().into_iter().filter(|p| p.starts_with("containers/") && p.ends_with(".data")).collect();
    for file in &containers {
        let len = disk.contents(file).expect("sound").len() as u64;
        disk.fail_reads(file, 0..len).expect("sound");
    }
    let mut run = store.reclaim().expect("sound");
    let mut outcome = Ok(Stepped::Worked);
    for _ in 0..10_000 {
        outcome = run.step(&store, Timestamp(30));
        if !matches!(outcome, Ok(Stepped::Worked | Stepped::Waiting)) {
            break;
        }
    }
    assert!(matches!(outcome, Ok(Stepped::Done)), "{outcome:?} {:?}", run.report());
}

/// Who comes late for what was let go of finds nothing; that says nothing of the index, which would be built anew at the next start.
#[test]
fn whoever_comes_late_does_not_make_the_index_suspect() {
    let (disk, store, tree) = filled();
    let root = store.snapshots(None)[0].sealed.expect("sealed").root.expect("not empty");
    tree.remove(&at(20), Inode::ROOT, b"later").expect("there");
    store.delete_snapshot("share", "monday", Timestamp(21)).expect("there");
    store.close(Timestamp(22)).expect("room");
    let mut run = store.reclaim().expect("no other runs");
    while !matches!(run.step(&store, Timestamp(30)).expect("a disk"), Stepped::Done) {}
    assert!(run.report().nodes_freed > 0, "{:?}", run.report());
    let late = store.pool().read(Kind::MapNode, &root);
    assert!(late.is_err() || !store.pool().contains(Kind::MapNode, &root).expect("a disk"));
    assert!(!disk.paths().iter().any(|path| path.contains("suspect")), "{:?}", late.err());
}

/// A directory that comes into memory between the healing of an object and the settling of its new place must not bring the damaged
/// copy back.
#[test]
fn a_healed_object_is_found_where_it_was_healed() {
    let (disk, store, _) = filled();
    let pool = store.pool();
    let (kind, name, file, range) = chunk(&store);
    let neighbours: Vec<Name> =
        slots(&store).into_iter().filter(|slot| slot.2 == file && slot.1 != name).map(|slot| slot.1).collect();
    let stored = pool.read_stored(kind, &name).expect("sound");
    disk.rot(&file, range.start + 100, 4).expect("there");
    pool.scrub(None, u64::MAX).expect("a disk");
    pool.put_stored(StreamId(8), kind, &name, &stored).expect("room");
    // Other containers fill and are settled, while the one with the new copy is open.
    for nth in 0..300 {
        pool.put(StreamId(9), Kind::Chunk, &noise(7000 + nth, 20_000)).expect("room");
    }
    pool.settle().expect("room");
    // Somebody meets the old container again and again, until its directory is read.
    for _ in 0..20 {
        for neighbour in &neighbours {
            assert!(pool.contains(kind, neighbour).expect("a disk"));
        }
    }
    pool.close().expect("room");
    assert!(pool.read(kind, &name).is_ok(), "{:?}", pool.read(kind, &name));
    assert_eq!(pool.wounds(), []);
}
