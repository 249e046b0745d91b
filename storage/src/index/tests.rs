//! The index beside a map in memory: names that come, move and go, through sorted files, over crashes and damage.

use std::collections::BTreeMap;

use rand::rngs::Xoshiro256PlusPlus as StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::error::Error;
use crate::media::SimDisk;

const STORE: StoreId = StoreId([7; 16]);
const REALM: [u8; 16] = [8; 16];

fn options(fresh_max: u64) -> IndexOptions {
    IndexOptions {
        cache_bytes: 1 << 20,
        filter_bits_per_name: 10,
        filter_bytes_max: 1 << 20,
        verify_bytes_max: 64 << 20,
        fresh_max,
    }
}

fn open(disk: &SimDisk, fresh_max: u64) -> Result<Index> {
    Ok(Index::open(Arc::new(disk.clone()), STORE, &REALM, &options(fresh_max))?.0)
}

/// Names of few parts, so that each has more than one row; some begin alike.
fn name(nth: u64) -> Name {
    let mut name = *blake3::hash(&nth.to_le_bytes()).as_bytes();
    name[0] %= 5;
    if nth % 16 < 4 {
        name[1..8].copy_from_slice(&blake3::hash(&(nth / 16).to_le_bytes()).as_bytes()[..7]);
        name[0] = 3;
    }
    Name(name)
}

fn record() -> Record {
    let (class, slots) = (Class::Data, 10);
    Record { class, complete: true, dense: false, slots, raw_bytes: 1000, stored_bytes: 500, file_bytes: 700 }
}

type Model = BTreeMap<Name, Location>;

/// One batch of changes; the model after it.
fn change(index: &Index, model: &Model, rng: &mut StdRng, batch: u64) -> Result<Model> {
    let mut after = model.clone();
    if rng.random_bool(0.7) || model.is_empty() {
        let place = |rng: &mut StdRng| {
            let (container, offset) = (ContainerId(batch), 64 * rng.random_range(0..1000));
            Location { container, offset, stored_len: rng.random_range(1..5000), kind: Kind::Chunk }
        };
        let names: Model =
            (0..rng.random_range(1..120)).map(|_| (name(rng.random_range(0..600)), place(rng))).collect();
        after.extend(names.iter());
        index.insert(&[(ContainerId(batch), record())], &names.into_iter().collect::<Vec<_>>(), batch + 1)?;
    } else {
        let share = rng.random_range(0.0..1.0);
        let mut going: Vec<_> =
            model.iter().map(|(name, at)| (*name, *at)).filter(|_| rng.random_bool(share)).collect();
        let went = going.len() as u64;
        going.iter().for_each(|(name, _)| {
            after.remove(name);
        });
        // What leads elsewhere stays.
        for (name, at) in model.iter().filter(|(name, _)| after.contains_key(*name)).take(3) {
            going.push((*name, Location { offset: at.offset + 1, ..*at }));
        }
        going.sort_unstable_by_key(|(name, _)| *name);
        assert_eq!(index.remove_names(&going, &[], &[], batch + 1)?, went);
    }
    Ok(after)
}

/// Asserts that the index says what the model says, in every way that it can be asked.
fn compare(index: &Index, model: &Model) -> Result<()> {
    let all: Vec<_> = (0..620).map(name).collect();
    let wanted: Vec<_> = all.iter().map(|name| model.get(name).copied()).collect();
    assert_eq!(index.probe(&all)?, wanted);
    let mut scanned = Model::new();
    for part in 0..=255 {
        index.scan(part, |name, at| assert!(scanned.insert(*name, at.expect("sound")).is_none()))?;
    }
    assert_eq!(&scanned, model);
    assert_eq!(index.len(), model.len() as u64);
    let prefixes: Vec<_> = all.iter().map(Name::prefix).collect();
    for (prefix, found) in prefixes.iter().zip(index.probe_prefixes(&prefixes)?) {
        let wanted: Vec<_> =
            model.iter().filter(|(name, _)| name.prefix() == *prefix).take(2).map(|(name, at)| (*name, *at)).collect();
        assert_eq!(found, wanted);
    }
    assert!(model.keys().all(|name| index.filter().may_have(name.prefix())));
    Ok(())
}

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

#[test]
fn sorted_files_change_nothing_that_is_said() {
    let mut most_files = 0;
    for seed in 0..seeds(30) {
        let (mut rng, disk) = (StdRng::seed_from_u64(seed), SimDisk::new(seed));
        let fresh_max = rng.random_range(0..300);
        let mut index = open(&disk, fresh_max).unwrap();
        let mut model = Model::new();
        for batch in 0..30 {
            model = change(&index, &model, &mut rng, batch).unwrap();
            assert!(index.fresh.load(Ordering::Relaxed) <= fresh_max, "what is more than {fresh_max} has moved");
            if rng.random_bool(0.2) {
                while index.warm_filter().unwrap() {}
            }
            if rng.random_bool(0.2) {
                index.save_filter().unwrap();
                drop(index);
                index = open(&disk, fresh_max).unwrap();
            }
            compare(&index, &model).unwrap_or_else(|error| panic!("seed {seed}, batch {batch}: {error}"));
            most_files = most_files.max(index.files().all().count());
        }
        assert!(index.check().unwrap());
        assert_eq!(disk.list(SORTED_DIR).unwrap().len(), index.files().all().count(), "older files are gone");
    }
    assert!(most_files > 6, "parts have several files, {most_files} at most");
}

#[test]
fn a_power_cut_at_any_sync_leaves_the_index_before_or_after_a_batch() {
    for seed in 0..seeds(4) {
        let calm = SimDisk::new(seed);
        let (states, _) = live(&calm, seed);
        for cut in 1..=calm.syncs() {
            let disk = SimDisk::new(seed);
            disk.cut_power_at_sync(cut);
            let done = live(&disk, seed).1;
            disk.power_on();
            let index = open(&disk, 40).unwrap_or_else(|error| panic!("seed {seed}, cut {cut}: {error}"));
            let now = |state: &Model| index.len() == state.len() as u64 && compare_quietly(&index, state);
            assert!(
                states[done..states.len().min(done + 2)].iter().any(now),
                "seed {seed}, cut {cut} after batch {done}"
            );
            drop(index);
            let left = disk.list(SORTED_DIR).unwrap().len();
            let index = open(&disk, 40).unwrap();
            assert_eq!(left, index.files().all().count(), "nothing is left that nothing leads to");
        }
    }
}

/// The states after each batch, and how many batches were answered.
fn live(disk: &SimDisk, seed: u64) -> (Vec<Model>, usize) {
    let (mut rng, mut states) = (StdRng::seed_from_u64(seed), vec![Model::new()]);
    let Ok(index) = open(disk, 40) else { return (states, 0) };
    for batch in 0..8 {
        let Ok(after) = change(&index, &states[batch as usize], &mut rng, batch) else { break };
        states.push(after);
    }
    let done = states.len() - 1;
    (states, done)
}

fn compare_quietly(index: &Index, model: &Model) -> bool {
    let all: Vec<_> = (0..620).map(name).collect();
    let found = index.probe(&all).unwrap();
    all.iter().zip(found).all(|(name, found)| model.get(name).copied() == found)
}

#[test]
fn damage_of_a_sorted_file_is_told_and_never_a_wrong_answer() {
    let disk = SimDisk::new(1);
    let (mut rng, mut model) = (StdRng::seed_from_u64(1), Model::new());
    let index = open(&disk, 20).unwrap();
    for batch in 0..12 {
        model = change(&index, &model, &mut rng, batch).unwrap();
    }
    drop(index);
    let files = disk.list(SORTED_DIR).unwrap();
    assert!(files.len() > 3);
    for file in files {
        let path = format!("{SORTED_DIR}/{file}");
        let sound = disk.contents(&path).unwrap();
        for at in (0..sound.len() as u64).step_by(97) {
            disk.rot(&path, at, 0x04).unwrap();
            let quiet = IndexOptions { verify_bytes_max: 0, ..options(20) };
            let index = Index::open(Arc::new(disk.clone()), STORE, &REALM, &quiet).unwrap().0;
            match compare(&index, &model) {
                Ok(()) => panic!("{path} at {at}: not told"),
                Err(error) => assert!(matches!(&error, Error::Damage(damage) if damage.file == path), "{error}"),
            }
            drop(index);
            // What was told is remembered: the index is built anew.
            assert!(matches!(open(&disk, 20), Err(Error::Damage(_))));
            disk.remove(SUSPECT_FILE).unwrap();
            assert!(matches!(open(&disk, 20), Err(Error::Damage(_))), "a small index is verified on opening");
            disk.remove(SUSPECT_FILE).ok();
            disk.rot(&path, at, 0x04).unwrap();
        }
        disk.lose(&path).unwrap();
        assert!(matches!(open(&disk, 20), Err(Error::Damage(_))), "{path} is not there");
        disk.create(&path).unwrap().write_at(&[std::io::IoSlice::new(&sound)], 0).unwrap();
        compare(&open(&disk, 20).unwrap(), &model).unwrap();
    }
}

#[test]
fn a_full_disk_keeps_names_where_they_are() {
    let disk = SimDisk::new(3);
    let (mut rng, mut model) = (StdRng::seed_from_u64(3), Model::new());
    let index = open(&disk, 10).unwrap();
    for batch in 0..4 {
        model = change(&index, &model, &mut rng, batch).unwrap();
    }
    // Room for the database, which has its own already, and for no file.
    disk.set_capacity(disk.used() + 1000);
    let mut stayed = false;
    for batch in 4..12 {
        if let Ok(after) = change(&index, &model, &mut rng, batch) {
            model = after;
        }
        stayed |= index.fresh.load(Ordering::Relaxed) > 10;
        compare(&index, &model).unwrap();
    }
    assert!(stayed, "the disk was full");
    disk.set_capacity(u64::MAX);
    model = change(&index, &model, &mut rng, 12).unwrap();
    compare(&index, &model).unwrap();
    while index.fresh.load(Ordering::Relaxed) > 10 {
        model = change(&index, &model, &mut rng, 13).unwrap();
    }
    compare(&index, &model).unwrap();
}

#[test]
fn a_sync_that_fails_anywhere_leaves_right_answers() {
    let (mut failed, mut opened) = (0, 0);
    for seed in 0..seeds(3) {
        let quiet = SimDisk::new(seed);
        let (states, _) = live(&quiet, seed);
        for sync in 1..=quiet.syncs() {
            let disk = SimDisk::new(seed);
            disk.fail_sync_at(sync);
            let Ok(index) = open(&disk, 40) else { continue };
            let (mut rng, mut batch) = (StdRng::seed_from_u64(seed), 0);
            while batch < 8 && change(&index, &states[batch], &mut rng, batch as u64).is_ok() {
                batch += 1;
                assert!(compare_quietly(&index, &states[batch]), "seed {seed}, sync {sync}, batch {batch}");
            }
            // Of the batch that failed it can't be known whether it will be there; that it is half there would be wrong.
            let holds = |index: &Index| states[batch..].iter().take(2).any(|state| compare_quietly(index, state));
            failed += u64::from(batch < 8);
            assert!(holds(&index), "seed {seed}, sync {sync}: batch {batch} failed");
            drop(index);
            match open(&disk, 40) {
                Ok(index) => assert!(holds(&index), "seed {seed}, sync {sync}: opened again after batch {batch}"),
                Err(Error::Damage(_)) => continue,
                Err(error) => panic!("seed {seed}, sync {sync}: {error}"),
            }
            opened += 1;
        }
    }
    assert!(failed > 10 && opened > 10, "{failed} batches failed, {opened} indexes opened again");
}

#[test]
fn what_is_asked_while_names_move_and_go_is_answered_as_if_they_lay_still() {
    use std::sync::atomic::AtomicBool;
    const STAY: u64 = 400;
    const BATCH: u64 = 60;
    let (disk, place) =
        (SimDisk::new(1), |nth| Location { container: ContainerId(nth), offset: 64, stored_len: 9, kind: Kind::Chunk });
    let rows = |names: std::ops::Range<u64>| {
        let mut rows: Vec<_> = names.map(|nth| (name(nth), place(nth))).collect();
        rows.sort_unstable_by_key(|(name, _)| *name);
        rows
    };
    let index = open(&disk, 50).unwrap();
    index.insert(&[], &rows(0..STAY), 1).unwrap();
    let (gone, over) = (AtomicU64::new(STAY), AtomicBool::new(false));
    let ask = |seed| {
        let (mut rng, mut asked) = (StdRng::seed_from_u64(seed), 0u64);
        while !over.load(Ordering::Acquire) {
            let gone = gone.load(Ordering::Acquire);
            let (stays, went) = (rng.random_range(0..STAY), rng.random_range(0..gone));
            let found = index.probe(&[name(stays), name(went)]).unwrap();
            assert_eq!(found[0], Some(place(stays)), "{stays} was always there");
            assert_eq!(found[1], Some(place(went)).filter(|_| went < STAY), "{went} had gone before it was asked for");
            let alike = &index.probe_prefixes(&[name(stays).prefix()]).unwrap()[0];
            assert!(!alike.is_empty() && alike.iter().all(|(_, at)| at.container.0 < STAY), "{alike:?}");
            asked += 1;
        }
        asked
    };
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..3).map(|seed| scope.spawn(move || ask(seed))).collect();
        for nth in 0..60 {
            let batch = STAY + nth * BATCH..STAY + (nth + 1) * BATCH;
            index.insert(&[], &rows(batch.clone()), 1).unwrap();
            assert_eq!(index.remove_names(&rows(batch.clone()), &[], &[], 1).unwrap(), BATCH);
            gone.store(batch.end, Ordering::Release);
        }
        over.store(true, Ordering::Release);
        let asked: u64 = asking.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(asked > 100, "{asked} questions");
    });
}
