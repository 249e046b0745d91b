//! Tests of the pool as a whole. Nodes here are lists of references, told apart by a salt: see [`node`].

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::container::{CONTAINERS_DIR, path};
use crate::error::{Environment, Error, Refusal};
use crate::index::{FILTER_FILE, INDEX_FILE};
use crate::media::SimDisk;

mod crash;
mod damage;
mod dense;
mod reading;
mod sketches;

const STORE: StoreId = StoreId([7; 16]);

/// What the nodes of these tests refer to: `node` in reverse.
fn references(_: Kind, content: &[u8]) -> Result<Vec<(Kind, Name)>> {
    let wrong = || Error::from(Refusal::Invalid("no node".into()));
    let body = content.strip_prefix(b"node").and_then(|rest| rest.get(8..)).ok_or_else(wrong)?;
    let reference = |bytes: &[u8]| {
        let kind = Kind::from_u8(bytes[0]).ok_or_else(wrong)?;
        Ok((kind, Name(bytes[1..].try_into().map_err(|_| wrong())?)))
    };
    body.chunks(33).map(reference).collect()
}

/// A node that refers to objects.
fn node(salt: u64, references: &[(Kind, Name)]) -> Vec<u8> {
    let mut content = b"node".to_vec();
    content.extend_from_slice(&salt.to_le_bytes());
    for (kind, name) in references {
        content.push(*kind as u8);
        content.extend_from_slice(&name.0);
    }
    content
}

/// Small containers and batches, so that a little work meets every edge.
fn options() -> PoolOptions {
    PoolOptions {
        container_bytes: 64 << 10,
        cache_bytes: 64 << 10,
        locality_bytes: 64 << 10,
        index_cache_bytes: 1 << 20,
        streams_max: 3,
        index_batch: 60,
        index_batch_max: 60,
        files_max: 4,
        ..PoolOptions::new(references)
    }
}

fn open(disk: &SimDisk) -> (Pool, PoolReport) {
    Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options()).unwrap()
}

/// Half noise, half zeros: compresses to a half.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes[..len / 2]);
    bytes
}

/// Puts chunks and nodes over them, on several streams; returns what was put.
fn fill(pool: &Pool, seed: u64, groups: u64) -> BTreeMap<Name, (Kind, Vec<u8>)> {
    let mut objects = BTreeMap::new();
    for group in 0..groups {
        let stream = StreamId(group % 5);
        let contents: Vec<_> = (0..8).map(|nth| content(seed << 32 | group << 8 | nth, 3000)).collect();
        let slices: Vec<_> = contents.iter().map(Vec::as_slice).collect();
        let puts = pool.put_batch(stream, Kind::Chunk, &slices).unwrap();
        let below: Vec<_> = puts.iter().map(|put| (Kind::Chunk, put.name)).collect();
        let leaf = node(group, &below);
        let leaf_name = pool.put(stream, Kind::SequenceNode, &leaf).unwrap().name;
        let root = node(group, &[(Kind::SequenceNode, leaf_name)]);
        let root_name = pool.put(stream, Kind::MapNode, &root).unwrap().name;
        objects.extend(puts.iter().zip(contents).map(|(put, content)| (put.name, (Kind::Chunk, content))));
        objects.insert(leaf_name, (Kind::SequenceNode, leaf));
        objects.insert(root_name, (Kind::MapNode, root));
    }
    objects
}

fn assert_all(pool: &Pool, objects: &BTreeMap<Name, (Kind, Vec<u8>)>) {
    // First, while no cache has them.
    for (kind, names, contents) in runs(objects) {
        assert_eq!(pool.read_run(kind, &names).unwrap(), contents);
    }
    for (name, (kind, content)) in objects {
        assert!(pool.contains(*kind, name).unwrap(), "{kind:?} {name} is gone");
        assert_eq!(pool.read(*kind, name).unwrap(), content[..]);
    }
}

/// The chunks below each node, as they were put and so as they lie; and all of them twice over, in the order of their names.
fn runs(objects: &BTreeMap<Name, (Kind, Vec<u8>)>) -> Vec<(Kind, Vec<Name>, Vec<Vec<u8>>)> {
    let is_chunk = |name: &Name| objects.get(name).is_some_and(|(kind, _)| *kind == Kind::Chunk);
    let below =
        objects.values().filter(|(kind, _)| kind.is_node()).map(|(kind, node)| references(*kind, node).unwrap());
    let mut runs: Vec<Vec<Name>> = below.map(|below| below.into_iter().map(|(_, name)| name).collect()).collect();
    let every: Vec<Name> = objects.keys().copied().collect();
    runs.push([&every[..], &every[..]].concat());
    let named = |mut names: Vec<Name>| {
        names.retain(is_chunk);
        let contents = names.iter().map(|name| objects[name].1.clone()).collect();
        (Kind::Chunk, names, contents)
    };
    runs.into_iter().map(named).filter(|(_, names, _)| !names.is_empty()).collect()
}

fn assert_sound(pool: &Pool) {
    let report = pool.check(true, |_| true).unwrap();
    assert_eq!(report.damage, []);
}

#[test]
fn what_is_put_is_read_before_and_after_every_step() {
    let disk = SimDisk::new(1);
    let (pool, report) = open(&disk);
    assert_eq!(report, PoolReport::default());
    let mut objects = fill(&pool, 1, 20);
    assert_all(&pool, &objects);
    pool.sync().unwrap();
    assert_all(&pool, &objects);
    pool.settle().unwrap();
    assert!(pool.stats().unwrap().indexed >= 60, "a batch was full");
    assert_all(&pool, &objects);
    objects.extend(fill(&pool, 2, 20));
    assert_all(&pool, &objects);
    pool.close().unwrap();
    let stats = pool.stats().unwrap();
    assert_eq!((stats.objects, stats.indexed, stats.recent), (400, 400, 0));
    assert_all(&pool, &objects);
    assert_sound(&pool);
    drop(pool);

    let (pool, report) = open(&disk);
    assert_eq!(report, PoolReport { containers: report.containers, ..PoolReport::default() });
    assert_all(&pool, &objects);
    let again = pool.stats().unwrap();
    assert_eq!((again.raw_bytes, again.stored_bytes, again.objects), (stats.raw_bytes, stats.stored_bytes, 400));
    assert_eq!(again.raw_bytes, objects.values().map(|(_, content)| content.len() as u64).sum::<u64>());
    assert_sound(&pool);
}

#[test]
fn equal_contents_are_stored_once() {
    let disk = SimDisk::new(2);
    let (pool, _) = open(&disk);
    let (one, two) = (content(1, 4000), content(2, 4000));
    let puts = pool.put_batch(StreamId(1), Kind::Chunk, &[&one, &two, &one]).unwrap();
    assert_eq!(puts.iter().map(|put| put.new).collect::<Vec<_>>(), [true, true, false]);
    assert_eq!((puts[0].name, puts[2].stored_bytes), (puts[2].name, 0));
    assert!(puts[0].stored_bytes > 2000 && puts[0].stored_bytes < 2300, "half of it is noise");
    for step in 0..3 {
        assert!(!pool.put(StreamId(2), Kind::Chunk, &two).unwrap().new, "step {step}");
        if step == 0 { pool.sync().unwrap() } else { pool.close().unwrap() }
    }
    // Equal bytes of another kind are another object.
    let as_node = pool.put_whole(StreamId(2), Kind::MapNode, &node(0, &[])).unwrap();
    let as_chunk = pool.put(StreamId(2), Kind::Chunk, &node(0, &[])).unwrap();
    assert!(as_node.new && as_chunk.new && as_node.name != as_chunk.name);
    assert!(!pool.contains(Kind::MapNode, &as_chunk.name).unwrap());
    assert!(pool.contains(Kind::Chunk, &puts[0].name).unwrap());
    assert!(matches!(pool.read(Kind::SequenceNode, &as_node.name), Err(Error::Damage(_))));
    let huge = vec![0; crate::container::format::OBJECT_BYTES_MAX + 1];
    assert!(matches!(pool.put(StreamId(2), Kind::Chunk, &huge), Err(Error::Refused(Refusal::Invalid(_)))));
    assert!(pool.put(StreamId(2), Kind::Chunk, &huge[1..]).unwrap().new);
    assert_eq!(pool.put(StreamId(2), Kind::Chunk, &[]).unwrap().stored_bytes, 80);
}

#[test]
fn threads_that_put_the_same_at_once_store_it_once() {
    let disk = SimDisk::new(3);
    let (pool, _) = open(&disk);
    let new: usize = std::thread::scope(|scope| {
        let put_all = |thread: u64| {
            let pool = &pool;
            move || -> usize {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(thread);
                (0..600)
                    .map(|_| {
                        let content = content(rng.random_range(0..300), 2000);
                        let put = pool.put(StreamId(thread), Kind::Chunk, &content).unwrap();
                        assert_eq!(pool.read(Kind::Chunk, &put.name).unwrap(), content);
                        if rng.random_range(0..8) == 0 {
                            pool.settle().unwrap();
                        }
                        usize::from(put.new)
                    })
                    .sum()
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(put_all(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    let distinct = (0..300)
        .filter(|seed| pool.contains(Kind::Chunk, &pool.realm().name(Kind::Chunk, &content(*seed, 2000))).unwrap())
        .count();
    assert_eq!(new, distinct, "each new content counted once");
    pool.close().unwrap();
    assert_eq!(pool.stats().unwrap().objects, distinct as u64);
    assert_sound(&pool);
}

#[test]
fn stored_objects_travel_and_forgeries_are_refused() {
    let (from, _) = open(&SimDisk::new(4));
    let (to, _) = open(&SimDisk::new(5));
    let objects = fill(&from, 9, 3);
    let mut late = Vec::new();
    for (name, (kind, content)) in &objects {
        let stored = from.read_stored(*kind, name).unwrap();
        assert!(stored.bytes.len() <= content.len());
        if kind.is_node() {
            late.push((*kind, *name, stored));
            continue;
        }
        let mut bent = stored.clone();
        bent.raw_len -= 1;
        assert!(matches!(to.put_stored(StreamId(1), *kind, name, &bent), Err(Error::Refused(_))));
        bent.raw_len = u32::MAX;
        assert!(matches!(to.put_stored(StreamId(1), *kind, name, &bent), Err(Error::Refused(_))));
        let other = Name([1; 32]);
        assert!(matches!(to.put_stored(StreamId(1), *kind, &other, &stored), Err(Error::Refused(_))));
        assert!(!to.contains(*kind, &other).unwrap() && !to.contains(*kind, name).unwrap());
        assert!(to.put_stored(StreamId(1), *kind, name, &stored).unwrap().new);
        assert!(!to.put_stored(StreamId(1), *kind, name, &stored).unwrap().new);
    }
    late.sort_by_key(|(kind, ..)| *kind);
    for (kind, name, stored) in late.iter().filter(|(kind, ..)| *kind == Kind::MapNode) {
        assert!(
            matches!(to.put_stored(StreamId(1), *kind, name, stored), Err(Error::Refused(_))),
            "its leaf is missing"
        );
    }
    for (kind, name, stored) in late.iter().rev() {
        assert!(to.put_stored(StreamId(1), *kind, name, stored).unwrap().new, "leaves before roots");
    }
    assert_all(&to, &objects);
}

#[test]
fn known_data_costs_few_probes_and_memory_stays_bounded() {
    let disk = SimDisk::new(6);
    let options = PoolOptions {
        container_bytes: 1 << 20,
        index_batch: 1,
        index_batch_max: 1,
        locality_bytes: 256 << 10,
        ..options()
    };
    let (pool, _) = Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options.clone()).unwrap();
    let contents: Vec<_> = (0..6000).map(|seed| content(seed, 1000)).collect();
    let put_all = |pool: &Pool| {
        for run in contents.chunks(64) {
            let slices: Vec<_> = run.iter().map(Vec::as_slice).collect();
            pool.put_batch(StreamId(1), Kind::Chunk, &slices).unwrap();
            pool.settle().unwrap();
        }
    };
    put_all(&pool);
    let new = pool.stats().unwrap().lookups;
    assert!(new.filter_new > 5500, "{new:?}");
    assert!(new.probes < 300, "{new:?}");
    pool.close().unwrap();
    drop(pool);

    let (pool, _) = Pool::open(Arc::new(disk), STORE, Realm::published(), options).unwrap();
    put_all(&pool);
    let stats = pool.stats().unwrap();
    assert_eq!(stats.objects, 6000);
    assert!(stats.lookups.probes < 200 && stats.lookups.locality > 5700, "{:?}", stats.lookups);
    assert!(stats.locality_bytes <= 256 << 10);
    for run in &contents {
        pool.read(Kind::Chunk, &pool.realm().name(Kind::Chunk, run)).unwrap();
    }
    assert!(pool.stats().unwrap().cache_bytes <= 64 << 10);
}

/// Asked by the first eight bytes of their names, objects are found as by the whole name, and what is new asks no disk.
#[test]
fn prefixes_find_names_and_new_ones_ask_no_disk() {
    let disk = SimDisk::new(16);
    let (pool, _) = Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options()).unwrap();
    let objects = fill(&pool, 3, 40);
    let prefixes: Vec<u64> = objects.keys().map(Name::prefix).collect();
    let expected =
        |kind| -> Vec<Option<Name>> { objects.iter().map(|(name, (of, _))| (*of == kind).then_some(*name)).collect() };
    let check = |pool: &Pool| {
        for kind in Kind::ALL {
            assert_eq!(pool.named_by_prefix(kind, &prefixes).unwrap(), expected(kind), "{kind:?}");
        }
    };
    check(&pool);
    pool.close().unwrap();
    drop(pool);
    let (pool, _) = Pool::open(Arc::new(disk), STORE, Realm::published(), options()).unwrap();
    check(&pool);
    let before = pool.stats().unwrap().lookups;
    let new: Vec<u64> = (0..2000).map(|seed| Name(*blake3::hash(&content(seed, 40)).as_bytes()).prefix()).collect();
    assert!(pool.named_by_prefix(Kind::Chunk, &new).unwrap().iter().all(Option::is_none));
    let after = pool.stats().unwrap().lookups;
    assert!(after.filter_new - before.filter_new > 1960, "{after:?}");
    assert!(after.probes - before.probes < 40, "{after:?}");
    // Two names that begin alike are nobody's.
    let (name, _) = objects.first_key_value().unwrap();
    let mut other = *name;
    other.0[31] ^= 1;
    let recent = crate::pool::recent::Recent::new();
    let at = crate::index::Location { container: ContainerId(1), offset: 32, stored_len: 9, kind: Kind::Chunk };
    for name in [*name, other] {
        recent.point(&name, at);
    }
    assert_eq!(recent.beginning_with(name.prefix()).len(), 2);
}

#[test]
fn a_full_disk_refuses_and_goes_on_once_there_is_room() {
    let disk = SimDisk::new(7);
    let (pool, _) = open(&disk);
    let mut objects = fill(&pool, 1, 10);
    pool.sync().unwrap();
    disk.fill(100 << 10);
    let mut refused = false;
    for seed in 0..2000 {
        let content = content(1 << 50 | seed, 3000);
        match pool.put(StreamId(seed % 3), Kind::Chunk, &content) {
            Ok(put) => drop(objects.insert(put.name, (Kind::Chunk, content))),
            Err(Error::Environment(Environment::Full)) => refused = true,
            Err(error) => panic!("{error}"),
        }
        if refused {
            break;
        }
    }
    assert!(refused);
    assert!(matches!(pool.sync(), Err(Error::Environment(Environment::Full))));
    assert_all(&pool, &objects);
    disk.set_capacity(1 << 40);
    pool.sync().unwrap();
    // The index finds no room either; what is in it, and what waits for it, is read on.
    disk.fill(0);
    assert!(matches!(pool.close(), Err(Error::Environment(Environment::Full))));
    assert_all(&pool, &objects);
    disk.set_capacity(1 << 40);
    objects.extend(fill(&pool, 3, 10));
    assert_all(&pool, &objects);
    pool.close().unwrap();
    assert_sound(&pool);
    drop(pool);
    assert_all(&open(&disk).0, &objects);
}

#[test]
fn a_failed_sync_poisons_writing_but_not_reading() {
    let disk = SimDisk::new(8);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 3);
    disk.fail_sync_at(disk.syncs() + 1);
    assert!(pool.sync().is_err());
    assert!(matches!(pool.sync(), Err(Error::Environment(Environment::Poisoned(_)))));
    assert!(matches!(pool.put(StreamId(0), Kind::Chunk, b"more"), Err(Error::Environment(Environment::Poisoned(_)))));
    assert_all(&pool, &objects);
}

#[test]
fn whichever_sync_of_a_checkpoint_fails_reading_goes_on() {
    for nth in 1..20 {
        let disk = SimDisk::new(nth);
        let (pool, _) = open(&disk);
        let mut objects = fill(&pool, 1, 10);
        pool.close().unwrap();
        objects.extend(fill(&pool, 2, 10));
        let before = disk.syncs();
        disk.fail_sync_at(before + nth);
        let closed = pool.close();
        assert_eq!(closed.is_err(), disk.syncs() >= before + nth, "sync {nth}: {closed:?}");
        assert_all(&pool, &objects);
        if closed.is_ok() {
            assert!(nth > 6);
            break;
        }
        drop(pool);
        let (pool, report) = open(&disk);
        assert!(report.damage.iter().all(|damage| damage.file == INDEX_FILE), "{:?}", report.damage);
        pool.check(true, |_| true).unwrap();
    }
}

#[test]
fn sync_without_news_asks_nothing_of_the_disk() {
    let disk = SimDisk::new(9);
    let (pool, _) = open(&disk);
    fill(&pool, 1, 3);
    pool.sync().unwrap();
    let syncs = disk.syncs();
    pool.sync().unwrap();
    pool.put(StreamId(0), Kind::Chunk, &content(1 << 32, 3000)).unwrap();
    pool.sync().unwrap();
    assert_eq!(disk.syncs(), syncs, "what was there already needs no sync");
}

#[test]
fn what_was_kept_after_a_mark_is_told_from_what_was_there() {
    let disk = SimDisk::new(11);
    let (pool, _) = open(&disk);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(11);
    let mut put = |pool: &Pool, count: usize| -> Vec<Name> {
        let content = |rng: &mut Xoshiro256PlusPlus| (0..3000).map(|_| rng.random()).collect::<Vec<u8>>();
        (0..count)
            .map(|nth| {
                let stream = StreamId(nth as u64 % 5);
                pool.put(stream, Kind::Chunk, &content(&mut rng)).unwrap().name
            })
            .collect()
    };
    let before = put(&pool, 100);
    let mark = pool.mark();
    let after = put(&pool, 100);
    let since = |pool: &Pool, names: &[Name]| pool.kept_since(&mark, Kind::Chunk, names).unwrap();
    assert!(since(&pool, &before).iter().all(|new| !new));
    assert!(since(&pool, &after).iter().all(|new| *new), "also in containers that were open");
    pool.close().unwrap();
    drop(pool);
    let (pool, _) = open(&disk);
    assert!(since(&pool, &before).iter().all(|new| !new));
    assert!(since(&pool, &after).iter().all(|new| *new));
    assert_eq!(since(&pool, &[Name([1; 32])]), [false], "what is not here");
}
