//! What is known to be damaged, over restarts and kills; and an index that is built again, which brings every copy back, damaged ones as well.

mod common;

use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::container::{Class, path};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::StreamId;
use narrowboat_storage::units::Timestamp;

const INDEX: &str = "index.redb";

/// Some chunk: its name, its file and where it is there.
fn chunk(store: &Store) -> (Name, String, u64) {
    let mut found = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        if slot.kind == Kind::Chunk && slot.total_bytes() > 4000 {
            found.push((slot.name, path(id, Class::Data), u64::from(slot.offset)));
        }
    });
    found.swap_remove(3)
}

fn has_file(disk: &SimDisk) -> bool {
    disk.paths().iter().any(|path| path.starts_with("wounds"))
}

/// The box is killed, and the power with it.
fn killed(disk: &SimDisk, store: Store) -> Store {
    disk.power_cut();
    drop(store);
    disk.power_on();
    open(disk).expect("opens").0
}

#[test]
fn wounds_are_known_after_a_kill_and_forgotten_when_healed() {
    let (disk, store, _) = filled();
    let (name, file, offset) = chunk(&store);
    let content = store.pool().read(Kind::Chunk, &name).expect("sound");
    assert!(!has_file(&disk), "a sound store has none");
    disk.rot(&file, offset + 100, 4).expect("there");
    store.pool().scrub(None, u64::MAX).expect("a disk");
    let store = killed(&disk, store);
    assert_eq!((store.pool().wounded(), store.pool().is_wounded(Kind::Chunk, &name)), (1, true));
    assert_eq!(store.pool().wounds()[0].damage.file, file);

    // Healed, and killed before anybody wrote that down: the index leads to the sound copy, so it is no wound.
    assert!(store.pool().put(StreamId(9), Kind::Chunk, &content).expect("room").new);
    store.pool().sync().expect("a disk");
    assert!(has_file(&disk) && store.pool().wounded() == 0);
    let store = killed(&disk, store);
    assert_eq!((store.pool().wounded(), store.pool().read(Kind::Chunk, &name).expect("healed")), (0, content));
    store.drain_step(Timestamp(20)).expect("a disk");
    assert!(!has_file(&disk), "nothing is left to say");
}

/// What a reader met is written down by the drain, within seconds.
#[test]
fn what_a_reader_met_is_known_after_a_kill() {
    let (disk, store, _) = filled();
    let (name, file, offset) = chunk(&store);
    disk.fail_reads(&file, offset + 100..offset + 101).expect("there");
    assert!(store.pool().read(Kind::Chunk, &name).is_err());
    store.drain_step(Timestamp(20)).expect("a disk");
    let store = killed(&disk, store);
    assert!(store.pool().is_wounded(Kind::Chunk, &name));
}

/// Containers that are damaged themselves are replaced after a restart, without another scrub.
#[test]
fn worn_containers_are_known_after_a_kill() {
    let (disk, store, _) = filled();
    let (_, file, _) = chunk(&store);
    let len = disk.contents(&file).expect("there").len() as u64;
    disk.rot(&file, len - 100, 1).expect("there");
    store.pool().scrub(None, u64::MAX).expect("a disk");
    assert_eq!(store.pool().worn(), 1);
    let store = killed(&disk, store);
    assert_eq!((store.pool().worn(), store.pool().renew(9).expect("room"), store.pool().worn()), (1, 1, 0));
    store.drain_step(Timestamp(20)).expect("a disk");
    assert!(!has_file(&disk) && !disk.paths().contains(&file));
}

#[test]
fn a_damaged_file_of_wounds_is_told_and_all_is_read_again() {
    let (disk, store, _) = filled();
    let (_, file, offset) = chunk(&store);
    disk.rot(&file, offset + 100, 4).expect("there");
    store.pool().scrub(None, u64::MAX).expect("a disk");
    drop(store);
    disk.rot("wounds", 60, 1).expect("there");
    let (store, report) = open(&disk).expect("opens");
    assert!(report.pool.damage.iter().any(|damage| damage.file == "wounds"), "{report:?}");
    assert!(store.pool().owes_scrub(None));
    store.pool().scrub(None, u64::MAX).expect("a disk");
    assert_eq!((store.pool().owes_scrub(None), store.pool().wounded()), (false, 1));
}

/// An index that is built again knows a copy that rotted. Whoever brings that content, or asks for it, is not told that it is known, be it before
/// a scrub has come there.
#[test]
fn what_a_rebuild_brings_back_is_read_before_it_counts_as_known() {
    let (disk, store, _) = filled();
    let (name, file, offset) = chunk(&store);
    let content = store.pool().read(Kind::Chunk, &name).expect("sound");
    let (other, ..) = {
        let mut sound = Vec::new();
        store.pool().for_each_slot(|_, slot| sound.extend((slot.kind == Kind::Chunk).then_some((slot.name,))));
        sound.retain(|(other,)| *other != name);
        sound.swap_remove(0)
    };
    drop(store);
    disk.rot(&file, offset + 100, 4).expect("there");
    disk.lose(INDEX).expect("there");
    let (store, report) = open(&disk).expect("opens");
    assert!(report.pool.index_rebuilt.is_some());
    assert!(store.pool().contains(Kind::Chunk, &name).expect("a disk"), "the index leads to it");
    for fork in 0..3 {
        let disk = disk.fork(fork);
        let (store, _) = open(&disk).expect("opens");
        match fork {
            0 => assert_eq!(store.pool().sound_batch(Kind::Chunk, &[name, other]).expect("a disk"), [false, true]),
            1 => assert_eq!(
                store.pool().named_by_prefix(Kind::Chunk, &[name.prefix(), other.prefix()]).expect("a disk"),
                [None, Some(other)]
            ),
            _ => assert!(store.pool().put(StreamId(9), Kind::Chunk, &content).expect("room").new, "stored anew"),
        }
    }
    assert!(store.pool().put(StreamId(9), Kind::Chunk, &content).expect("room").new, "stored anew");
    assert_eq!(store.pool().read(Kind::Chunk, &name).expect("healed"), content);
}

/// That a scrub is owed is known until there was one, from the first to the last container, whenever the box is killed.
#[test]
fn a_scrub_is_owed_after_a_rebuild_whenever_the_power_goes() {
    let (disk, store, _) = filled();
    assert!(!store.pool().owes_scrub(None));
    drop(store);
    disk.lose(INDEX).expect("there");
    let mut cuts = 0;
    for sync in 1.. {
        let disk = disk.fork(sync);
        disk.cut_power_at_sync(disk.syncs() + sync);
        drop(open(&disk));
        let cut = !disk.is_on();
        cuts += u64::from(cut);
        if !cut {
            disk.power_cut();
        }
        disk.cut_power_at_sync(0);
        disk.power_on();
        let (store, report) = open(&disk).expect("opens");
        let owes = store.pool().owes_scrub(None);
        assert!(owes, "cut at sync {sync} of opening: {report:?}");
        if !cut {
            break;
        }
    }
    assert!(cuts > 3, "{cuts} cuts");

    let (mut store, _) = open(&disk).expect("opens");
    let mut upto = None;
    for step in 0.. {
        let scrubbed = store.pool().scrub(upto, 1).expect("a disk");
        upto = scrubbed.upto;
        assert_eq!(store.pool().owes_scrub(None), upto.is_some());
        assert!(upto.is_none() || !store.pool().owes_scrub(upto), "it goes on where it was");
        if upto.is_none() {
            assert!(step > 2, "in several steps");
            break;
        }
        store = killed(&disk, store);
        assert!(store.pool().owes_scrub(None) && !store.pool().owes_scrub(upto));
    }
    assert!(!has_file(&disk));
}
