//! What is old becomes dense where that pays, and is the same in every other way.

use super::*;
use crate::container::codec::Codec;

const EVERYTHING: ContainerId = ContainerId(u64::MAX);

/// Bytes of an alphabet of sixteen: LZ4 finds nothing to save, zstd a half.
fn letters(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes.iter_mut().for_each(|byte| *byte = b'a' + (*byte & 15));
    bytes
}

/// Letters and noise, each on a stream of its own, with nodes over them, in sealed containers.
fn fill_both(pool: &Pool) -> Result<BTreeMap<Name, (Kind, Vec<u8>)>> {
    let mut objects = BTreeMap::new();
    for group in 0..6 {
        for (stream, contents) in [
            (1, (0..8).map(|nth| letters(group << 8 | nth, 5000)).collect::<Vec<_>>()),
            (2, (0..8).map(|nth| content(group << 8 | nth, 5000)[..2500].to_vec()).collect()),
        ] {
            let slices: Vec<_> = contents.iter().map(Vec::as_slice).collect();
            let puts = pool.put_batch(StreamId(stream), Kind::Chunk, &slices)?;
            let below: Vec<_> = puts.iter().map(|put| (Kind::Chunk, put.name)).collect();
            let leaf = node(group << 8 | stream, &below);
            let put = pool.put(StreamId(stream), Kind::SequenceNode, &leaf)?;
            objects.insert(put.name, (Kind::SequenceNode, leaf));
            objects.extend(puts.iter().zip(contents).map(|(put, content)| (put.name, (Kind::Chunk, content))));
        }
    }
    pool.close()?;
    Ok(objects)
}

fn densify_all(pool: &Pool) -> Result<Vec<Densified>> {
    std::iter::from_fn(|| pool.densify(EVERYTHING).transpose()).collect()
}

/// A container that counts as complete is led to for every slot that it has: its directory is believed.
fn assert_complete(pool: &Pool) {
    for (id, record) in pool.0.indexed.read().unwrap().iter().filter(|(_, record)| record.complete) {
        let file = pool.0.files.open(pool.0.media.as_ref(), *id, record.class).unwrap();
        let slots = crate::container::reader::read_directory(file.as_ref(), "it", *id).unwrap().slots;
        let names: Vec<_> = slots.iter().map(|slot| slot.name).collect();
        let places = pool.0.index.probe(&names).unwrap();
        assert!(places.iter().all(|place| place.is_some_and(|place| place.container == *id)), "{id} {record:?}");
    }
}

#[test]
fn what_gains_by_it_becomes_dense_and_is_read_as_before() {
    let disk = SimDisk::new(1);
    let (pool, _) = open(&disk);
    let objects = fill_both(&pool).unwrap();
    let before = pool.stats().unwrap();
    assert_eq!(pool.densify(ContainerId(0)).unwrap(), None, "nothing is that old");
    let done = densify_all(&pool).unwrap();
    let (dense, left): (Vec<&Densified>, Vec<&Densified>) = done.iter().partition(|one| one.after_bytes.is_some());
    assert!(dense.len() >= 2 && left.len() >= 2, "{done:?}");
    assert!(dense.iter().all(|one| one.after_bytes.unwrap() < one.before_bytes * 6 / 10), "{dense:?}");
    let after = pool.stats().unwrap();
    assert_eq!((after.objects, after.raw_bytes), (before.objects, before.raw_bytes));
    let letters = objects.values().filter(|(_, content)| content.len() == 5000).count() as u64;
    assert!(after.stored_bytes < before.stored_bytes - letters * 2000, "{before:?} {after:?}");
    assert_all(&pool, &objects);
    assert_sound(&pool);
    assert_eq!(densify_all(&pool).unwrap(), [], "nothing is looked at twice");
    drop(pool);
    for lose_index in [false, true] {
        if lose_index {
            disk.lose(INDEX_FILE).unwrap();
        }
        let (pool, report) = open(&disk);
        assert_eq!(report.index_rebuilt.is_some(), lose_index);
        assert_all(&pool, &objects);
        assert_sound(&pool);
        let again = densify_all(&pool).unwrap();
        assert!(again.iter().all(|one| one.after_bytes.is_none()), "what is dense stays as it is");
        assert_eq!(again.is_empty(), !lose_index, "what gains nothing is remembered as long as the index is there");
    }
}

#[test]
fn peers_never_see_that_something_is_dense() {
    let (pool, _) = open(&SimDisk::new(2));
    let objects = fill_both(&pool).unwrap();
    densify_all(&pool).unwrap();
    let (other, _) = open(&SimDisk::new(3));
    for (name, (kind, content)) in objects.iter().filter(|(_, (kind, _))| *kind == Kind::Chunk) {
        for stored in [pool.read_stored(*kind, name).unwrap(), pool.read_stored_verified(*kind, name).unwrap()] {
            assert_ne!(stored.codec, Codec::Zstd);
            other.put_stored(StreamId(1), *kind, name, &stored).unwrap();
        }
        assert_eq!(other.read(*kind, name).unwrap(), content[..]);
    }
    let bytes = crate::container::codec::compress_densely(&[7; 900], 900).unwrap().into();
    let name = other.realm().name(Kind::Chunk, &[7; 900]);
    let foreign = Stored { codec: Codec::Zstd, raw_len: 900, bytes };
    assert!(matches!(other.put_stored(StreamId(1), Kind::Chunk, &name, &foreign), Err(Error::Refused(_))));
}

#[test]
fn a_power_cut_at_any_sync_loses_nothing_on_the_way() {
    let calm = SimDisk::new(4);
    let (pool, _) = open(&calm);
    fill_both(&pool).unwrap();
    let from = calm.syncs();
    densify_all(&pool).unwrap();
    pool.close().unwrap();
    let upto = calm.syncs();
    assert!(upto > from + 6);
    for cut in from + 1..=upto {
        for lose_index in [false, true] {
            let disk = SimDisk::new(cut);
            let (pool, _) = open(&disk);
            let objects = fill_both(&pool).unwrap();
            disk.cut_power_at_sync(cut);
            let _ = densify_all(&pool).and_then(|_| pool.close());
            drop(pool);
            disk.power_on();
            if lose_index {
                disk.lose(INDEX_FILE).unwrap();
            }
            let (pool, report) = open(&disk);
            assert_eq!(report.damage, [], "cut {cut}");
            assert_all(&pool, &objects);
            assert_complete(&pool);
            densify_all(&pool).unwrap();
            assert_all(&pool, &objects);
            assert_sound(&pool);
        }
    }
}

#[test]
fn damage_is_left_to_scrubs_and_a_full_disk_loses_nothing() {
    let disk = SimDisk::new(5);
    let (pool, _) = open(&disk);
    let objects = fill_both(&pool).unwrap();
    let first = disk.paths().into_iter().find(|path| path.ends_with(".data")).unwrap();
    disk.rot(&first, 300, 1).unwrap();
    disk.set_capacity(disk.used() + 30_000);
    let full = densify_all(&pool);
    assert!(matches!(full, Err(Error::Environment(Environment::Full))), "{full:?}");
    disk.set_capacity(u64::MAX);
    pool.close().unwrap();
    drop(pool);
    let (pool, _) = open(&disk);
    assert_complete(&pool);
    assert!(!densify_all(&pool).unwrap().is_empty());
    assert!(disk.contents(&first).is_ok(), "what is damaged is still there, to be healed");
    pool.close().unwrap();
    drop(pool);
    let (pool, _) = open(&disk);
    assert_complete(&pool);
    disk.rot(&first, 300, 1).unwrap();
    assert_all(&pool, &objects);
    assert_sound(&pool);
}
