//! Scrubs: a piece at a time, all of it once; what is damaged is found, named by file, and healed by whoever brings it again.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;

use common::*;
use narrowboat_storage::Store;
use narrowboat_storage::affected::Affected;
use narrowboat_storage::name::Kind;
use narrowboat_storage::pool::Scrubbed;
use narrowboat_storage::units::{Inode, Timestamp};

const BIG: usize = 900_000;

/// A whole scrub in steps of so many bytes.
fn scrub(store: &Store, step: u64, mut between: impl FnMut()) -> Vec<Scrubbed> {
    let mut steps = vec![store.pool().scrub(None, step).expect("a disk")];
    while let Some(upto) = steps.last().and_then(|step| step.upto) {
        between();
        steps.push(store.pool().scrub(Some(upto), step).expect("a disk"));
    }
    steps
}

fn sum(steps: &[Scrubbed], of: impl Fn(&Scrubbed) -> u64) -> u64 {
    steps.iter().map(of).sum()
}

/// Where the chunks of a kind of content lie: the container's file and the slots' bytes.
fn chunks(store: &Store) -> Vec<(String, Range<u64>)> {
    let mut found = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        if slot.kind == Kind::Chunk {
            let file = narrowboat_storage::container::path(id, narrowboat_storage::container::Class::Data);
            found.push((file, u64::from(slot.offset)..u64::from(slot.offset) + slot.total_bytes()));
        }
    });
    found
}

#[test]
fn every_container_is_read_once_however_small_the_steps() {
    let (_disk, store, tree) = filled();
    let whole = scrub(&store, u64::MAX, || {});
    assert_eq!((whole.len(), whole[0].left, sum(&whole, |step| step.damage.len() as u64)), (1, 0, 0));
    for step in [1, 300_000] {
        let mut new = 0;
        let steps = scrub(&store, step, || {
            new += 1;
            let file = create(&*tree, Inode::ROOT, &format!("meanwhile-{step}-{new}"), 9);
            write(&*tree, file, 0, &noise(1, 3000), 9);
        });
        assert!(steps.len() > 2 && steps.windows(2).all(|pair| pair[1].left < pair[0].left), "{steps:?}");
        let totals = |steps: &[Scrubbed]| {
            (sum(steps, |step| step.containers), sum(steps, |step| step.objects), sum(steps, |step| step.bytes))
        };
        assert_eq!(totals(&steps), totals(&whole));
    }
}

/// Damage to each chunk in turn, by a bit that flips or by a sector that can't be read: found, named by path in the snapshot and in
/// the present, and healed by the same bytes once they come again.
#[test]
fn what_rots_is_found_named_and_healed() {
    let (disk, store, _) = filled();
    let slots = chunks(&store);
    assert!(slots.len() > 40);
    drop(store);
    let mut hit: BTreeMap<String, u32> = BTreeMap::new();
    for (nth, (file, slot)) in slots.iter().enumerate().step_by(5) {
        let disk = disk.fork(nth as u64);
        let unreadable = nth % 2 == 0;
        let (store, _) = open(&disk).expect("sound");
        match unreadable {
            true => disk.fail_reads(file, slot.start + 100..slot.start + 101).expect("there"),
            false => disk.rot(file, slot.start + 100, 4).expect("there"),
        }
        let steps = scrub(&store, 300_000, || {});
        let found: Vec<_> = steps.iter().flat_map(|step| &step.damage).collect();
        assert_eq!(found.iter().map(|damage| (&damage.file, damage.offset)).collect::<Vec<_>>(), [(file, slot.start)]);
        let wounds = store.pool().wounds();
        assert_eq!(wounds.len(), 1);

        let affected = store.affected(&wounds, 100).expect("a disk");
        let places: Vec<_> = affected.iter().map(|one| (one.snapshot.as_deref(), path(one))).collect();
        let file_hit = path(&affected[0]);
        match file_hit.as_str() {
            "later" => assert_eq!(places, [(None, "later".to_owned())]),
            other => assert_eq!(places, [(Some("monday"), other.to_owned()), (None, other.to_owned())]),
        }
        assert!(
            affected.iter().all(|one| one.range == affected[0].range && one.bytes == one.range.end - one.range.start)
        );
        *hit.entry(file_hit.clone()).or_default() += 1;

        // The same bytes again, in another file: the old one can be read, too.
        let data = match file_hit.as_str() {
            "folder/big" => noise(1, BIG),
            "later" => noise(2, 300_000),
            small => noise(50 + small["small-".len()..].parse::<u64>().expect("a number"), 5000),
        };
        let tree = store.tree(store.dataset_named("share").expect("there").row.id).expect("there");
        let again = create(&*tree, Inode::ROOT, "again", 10);
        write(&*tree, again, 0, &data, 10);
        commit(&*tree, again).expect("room");
        store.drain_all(Timestamp(11)).expect("room");
        assert_eq!((store.pool().wounds().len(), store.pool().healed()), (0, 1), "{file_hit}");
        store.close(Timestamp(12)).expect("room");
        drop((store, tree));
        let (store, _) = open(&disk).expect("sound");
        let check = store.check(true, &mut |_| true).expect("a disk");
        assert!(check.is_sound(), "{file_hit}: {:?}", check.problems);
        assert_eq!(sum(&scrub(&store, u64::MAX, || {}), |step| step.damage.len() as u64), 0);
        assert!(store.affected(&store.pool().wounds(), 9).expect("a disk").is_empty());
    }
    assert!(hit.keys().any(|file| file.starts_with("small")) && hit["folder/big"] > 2, "{hit:?}");
}

fn path(affected: &Affected) -> String {
    affected.path.as_ref().map_or_else(|| "?".into(), |path| String::from_utf8_lossy(path).into_owned())
}

#[test]
fn a_node_that_rots_is_told_as_what_it_stands_for() {
    let (disk, store, _) = filled();
    let mut nodes = Vec::new();
    store.pool().for_each_slot(|id, slot| {
        if slot.kind.is_node() {
            let file = narrowboat_storage::container::path(id, narrowboat_storage::container::Class::Node);
            nodes.push((slot.kind, file, u64::from(slot.offset)));
        }
    });
    drop(store);
    let (mut contents, mut trees) = (0, 0);
    for (nth, (kind, file, offset)) in nodes.iter().enumerate() {
        let disk = disk.fork(nth as u64);
        let (store, _) = open(&disk).expect("sound");
        disk.rot(file, offset + 90, 1).expect("there");
        scrub(&store, u64::MAX, || {});
        let wounds = store.pool().wounds();
        assert_eq!(wounds.iter().map(|wound| wound.kind).collect::<Vec<_>>(), [*kind]);
        let affected = store.affected(&wounds, 100).expect("a disk");
        match kind {
            Kind::SequenceNode => {
                contents += 1;
                assert!(affected.iter().all(|one| one.bytes > 0 && one.path.is_some()), "{affected:?}");
            }
            _ => {
                trees += affected.len();
                assert!(affected.iter().all(|one| one.path.is_none()), "{affected:?}");
            }
        }
    }
    assert!(contents > 0 && trees > 0);
}
