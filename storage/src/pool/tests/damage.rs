//! Every file, every harm: a named error or a rebuilt index, never a wrong byte.

use super::*;
use crate::container::Class;
use crate::error::Damage;

/// One way to harm a file of `len` bytes.
#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip(u64),
    Zero(u64, usize),
    Garbage(u64, usize),
    Cut(u64),
    Lose,
}

impl Harm {
    fn all(len: u64, places: u64) -> Vec<Harm> {
        let mut harms = vec![Harm::Lose, Harm::Cut(0), Harm::Cut(len - 1), Harm::Zero(0, len as usize)];
        for nth in 0..places {
            let at = len * nth / places;
            harms.extend([Harm::Flip(at), Harm::Flip(at + 13), Harm::Cut(at)]);
            harms.extend([
                Harm::Zero(at, 512.min((len - at) as usize)),
                Harm::Garbage(at, 100.min((len - at) as usize)),
            ]);
        }
        harms
    }

    fn apply(self, disk: &SimDisk, file: &str) {
        match self {
            Harm::Flip(at) => disk.rot(file, at, 1 << (at % 8)),
            Harm::Zero(at, len) => disk.overwrite(file, at, &vec![0; len]),
            Harm::Garbage(at, len) => disk.overwrite(file, at, &content(at, 2 * len)[..len]),
            Harm::Cut(len) => disk.truncate(file, len),
            Harm::Lose => disk.lose(file),
        }
        .unwrap();
    }
}

/// Every object reads right or is named damage; returns how many are not readable.
fn verify(pool: &Pool, objects: &BTreeMap<Name, (Kind, Vec<u8>)>, what: &str) -> usize {
    // Runs first, while no cache has them.
    let damaged_runs = runs(objects).into_iter().map(|(kind, names, contents)| match pool.read_run(kind, &names) {
        Ok(found) => {
            assert_eq!(found, contents, "{what}: wrong bytes of a run");
            false
        }
        Err(Error::Damage(_)) => true,
        Err(error) => panic!("{what}: {error}"),
    });
    let damaged_runs = damaged_runs.filter(|damaged| *damaged).count();
    let mut lost = 0;
    for (name, (kind, content)) in objects {
        match pool.read(*kind, name) {
            Ok(found) => assert_eq!(found, content[..], "{what}: wrong bytes"),
            Err(Error::Damage(damage)) => {
                assert!(!damage.file.is_empty(), "{what}");
                lost += 1;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
    assert!(damaged_runs == 0 || lost > 0, "{what}: a run is damaged and none of its objects is");
    lost
}

fn harm_every(places: u64, wanted: impl Fn(&str) -> bool, check: impl Fn(&str, &Pool, &PoolReport, usize)) {
    let disk = SimDisk::new(1);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 12);
    pool.close().unwrap();
    drop(pool);
    for file in disk.paths().into_iter().filter(|file| wanted(file)) {
        let len = disk.contents(&file).unwrap().len() as u64;
        for (nth, harm) in Harm::all(len, places).into_iter().enumerate() {
            let what = format!("{harm:?} of {file}");
            let disk = disk.fork(nth as u64);
            harm.apply(&disk, &file);
            let (pool, report) = open(&disk);
            let lost = verify(&pool, &objects, &what);
            check(&what, &pool, &report, lost);
        }
    }
}

#[test]
fn a_harmed_index_or_filter_is_built_anew() {
    let is_cache = |file: &str| file == INDEX_FILE || file == FILTER_FILE;
    harm_every(25, is_cache, |what, pool, _, lost| {
        assert_eq!(lost, 0, "{what}");
        assert_sound(pool);
    });
}

#[test]
fn damage_of_a_large_index_is_noticed_when_it_is_met() {
    let disk = SimDisk::new(5);
    let options = PoolOptions { index_verify_bytes_max: 0, ..options() };
    let open = |disk: &SimDisk| Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options.clone()).unwrap();
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 12);
    pool.close().unwrap();
    drop(pool);
    let len = disk.contents(INDEX_FILE).unwrap().len() as u64;
    let (mut met, mut rebuilt) = (0, 0);
    for at in (0..len).step_by(len as usize / 300) {
        let disk = disk.fork(at);
        Harm::Garbage(at, 60).apply(&disk, INDEX_FILE);
        let (pool, report) = open(&disk);
        rebuilt += u32::from(report.index_rebuilt.is_some());
        let lost = verify(&pool, &objects, &format!("garbage at {at} of the index"));
        drop(pool);
        if lost > 0 {
            met += 1;
            let (pool, report) = open(&disk);
            assert!(report.index_rebuilt.is_some(), "garbage at {at}: not remembered");
            assert_all(&pool, &objects);
            assert_sound(&pool);
        }
    }
    assert!(met > 0 && rebuilt > 0, "{met} times met in use, {rebuilt} times on opening");
}

#[test]
fn harmed_containers_are_named_and_the_rest_is_read() {
    let is_container = |file: &str| file.starts_with(CONTAINERS_DIR);
    harm_every(6, is_container, |what, pool, report, lost| {
        let found = pool.check(true, |_| true).unwrap();
        let noticed = !found.is_sound() || !report.damage.is_empty();
        assert!(noticed || lost == 0, "{what}: {lost} lost, and nobody noticed");
        assert!(lost < 120, "{what}: all lost");
        // Presence implies closure, still: what is present and sound refers to what is present.
        let dangling = |damage: &&Damage| damage.expected.ends_with("below this node");
        assert_eq!(found.damage.iter().find(dangling), None, "{what}");
    });
}

#[test]
fn containers_and_index_lost_together_leave_what_is_left() {
    let disk = SimDisk::new(2);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 12);
    pool.close().unwrap();
    drop(pool);
    for file in disk.paths().into_iter().filter(|file| file.ends_with(".data")) {
        let disk = disk.fork(1);
        disk.lose(INDEX_FILE).unwrap();
        disk.rot(&file, 100, 1).unwrap();
        let footer = disk.contents(&file).unwrap().len() as u64 - 1;
        disk.rot(&file, footer, 1).unwrap();
        let (pool, report) = open(&disk);
        assert!(report.index_rebuilt.is_some() && report.sealed == 1 && report.torn_bytes > 0);
        // One chunk is gone; so are the leaf and the root above it, whose container was sound.
        assert_eq!(verify(&pool, &objects, &file), 3);
        assert_eq!(report.not_admitted, 2, "the leaf waits for the chunk, the root for the leaf: {report:?}");
        assert_sound(&pool);
    }
}

#[test]
fn a_rebuilt_index_is_equal_to_the_lost_one() {
    let disk = SimDisk::new(3);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 30);
    pool.close().unwrap();
    let rows = |pool: &Pool| {
        let mut rows = BTreeMap::new();
        for first in 0..=255 {
            pool.0
                .index
                .scan(first, |name, place| rows.extend([(*name, place.map(|at| (at.container, at.offset)))]))
                .unwrap();
        }
        rows
    };
    let (before, containers) = (rows(&pool), pool.0.index.containers().unwrap());
    drop(pool);
    disk.lose(INDEX_FILE).unwrap();
    let (pool, report) = open(&disk);
    assert!(report.index_rebuilt.is_some());
    assert_eq!((report.replayed, report.sealed, report.not_admitted), (report.containers, 0, 0));
    pool.close().unwrap();
    assert_eq!((rows(&pool), pool.0.index.containers().unwrap()), (before, containers));
    assert_all(&pool, &objects);
}

#[test]
fn mended_objects_are_read_from_their_new_place_for_good() {
    let disk = SimDisk::new(4);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 12);
    pool.close().unwrap();
    drop(pool);
    // The third slot's payload of the first data container rots.
    let (pool, _) = open(&disk);
    let mut harmed = None;
    pool.for_each_slot(|id, slot| {
        if slot.kind == Kind::Chunk && harmed.is_none() {
            disk.rot(&path(id, Class::Data), u64::from(slot.offset) + 200, 3).unwrap();
            harmed = Some((id, *slot));
        }
    });
    let (id, slot) = harmed.unwrap();
    // Look-ups that bring its directory into memory, as a stream of known data would.
    let names: Vec<_> = objects.iter().filter(|(_, (kind, _))| *kind == Kind::Chunk).map(|(name, _)| *name).collect();
    assert!(pool.contains_batch(Kind::Chunk, &names).unwrap().iter().all(|known| *known));
    let content = &objects[&slot.name].1;
    assert!(!pool.put(StreamId(1), Kind::Chunk, content).unwrap().new, "nobody has seen it yet");
    let damage = match pool.read(Kind::Chunk, &slot.name) {
        Err(Error::Damage(damage)) => damage,
        other => panic!("{other:?}"),
    };
    assert_eq!((damage.file, damage.offset), (path(id, Class::Data), u64::from(slot.offset)));
    assert_eq!(pool.wounds().iter().map(|wound| wound.name).collect::<Vec<_>>(), [slot.name]);
    assert_eq!(pool.sound_batch(Kind::Chunk, &[slot.name]).unwrap(), [false], "a peer that asks may send it");
    assert_eq!(pool.contains_batch(Kind::Chunk, &[slot.name]).unwrap(), [true], "what names it stays whole");
    assert!(pool.put(StreamId(1), Kind::Chunk, content).unwrap().new, "stored once more");
    assert!(!pool.put(StreamId(1), Kind::Chunk, content).unwrap().new, "sound now");
    assert_eq!((pool.wounds().len(), pool.healed()), (0, 1));
    assert_all(&pool, &objects);
    pool.close().unwrap();
    assert_eq!(verify(&pool, &objects, "after settling"), 0);
    drop(pool);
    for lose_index in [false, true] {
        if lose_index {
            disk.lose(INDEX_FILE).unwrap();
        }
        let (pool, _) = open(&disk);
        assert!(pool.contains_batch(Kind::Chunk, &names).unwrap().iter().all(|known| *known));
        assert_eq!(verify(&pool, &objects, "after opening"), 0);
        assert_sound(&pool);
        pool.close().unwrap();
    }
}

type Objects = BTreeMap<Name, (Kind, Vec<u8>)>;

/// A container of two megabytes with its chunks, and the objects of a pool that has it; the index is lost.
fn one_large() -> (SimDisk, String, Objects, PoolOptions) {
    let disk = SimDisk::new(6);
    let options = PoolOptions { container_bytes: 4 << 20, ..options() };
    let (pool, _) = Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options.clone()).unwrap();
    let mut objects = BTreeMap::new();
    for nth in 0..80 {
        let content = content(nth, 50_000);
        let put = pool.put(StreamId(1), Kind::Chunk, &content).unwrap();
        objects.insert(put.name, (Kind::Chunk, content));
    }
    pool.close().unwrap();
    drop(pool);
    disk.lose(INDEX_FILE).unwrap();
    let file = disk.paths().into_iter().find(|file| file.ends_with(".data")).unwrap();
    (disk, file, objects, options)
}

/// What can't be read may be sound: where it is much, nothing is cut, nothing sealed without it, and it is there once it can be read again.
#[test]
fn what_salvaging_gave_up_reading_is_there_later() {
    let (disk, file, objects, options) = one_large();
    let len = disk.contents(&file).unwrap().len() as u64;
    let open = |disk: &SimDisk| Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options.clone()).unwrap();
    let bad = 400_000..400_000 + (300 << 10);
    for (nth, harmed) in ["end", "header", "all"].into_iter().enumerate() {
        let disk = disk.fork(nth as u64);
        match harmed {
            "end" => disk.truncate(&file, len - 1).unwrap(),
            _ => disk.rot(&file, 20, 1).unwrap(),
        }
        let bytes = disk.contents(&file).unwrap();
        disk.fail_reads(&file, if harmed == "all" { 0..len - 10_000 } else { bad.clone() }).unwrap();
        for round in 0..2 {
            let (pool, report) = open(&disk);
            let told = |damage: &Damage| damage.file == file && damage.found == "too many sectors that can't be read";
            // What a sound end told is in the index by the second time.
            assert_eq!(report.damage.iter().any(told), round == 0 || harmed == "end", "{harmed}: {report:?}");
            assert_eq!(disk.contents(&file).unwrap(), bytes, "{harmed}");
            let readable = objects.iter().filter(|(name, (kind, _))| pool.read(*kind, name).is_ok()).count();
            assert!(harmed == "all" || readable >= 10, "{harmed}: {readable}");
            pool.close().unwrap();
        }
        disk.mend_reads();
        let (pool, _) = open(&disk);
        assert_all(&pool, &objects);
        pool.close().unwrap();
        drop(pool);
        disk.lose(INDEX_FILE).unwrap();
        assert_all(&open(&disk).0, &objects);
    }
}

/// A disk that can't read for a moment while a container without a sound end is searched: nothing is lost by that.
#[test]
fn a_bad_moment_of_the_disk_loses_nothing() {
    let (disk, file, objects, options) = one_large();
    let len = disk.contents(&file).unwrap().len() as u64;
    disk.truncate(&file, len - 1).unwrap();
    let open = |disk: &SimDisk| Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options.clone()).unwrap();
    for from in (0..250).step_by(31) {
        for reads in [1, 40, 100, 400] {
            let disk = disk.fork(from);
            disk.fail_next_reads(&file, from..from + reads).unwrap();
            drop(open(&disk));
            disk.mend_reads();
            disk.lose(INDEX_FILE).ok();
            let (pool, report) = open(&disk);
            let lost = objects.iter().filter(|(name, (kind, _))| pool.read(*kind, name).is_err()).count();
            assert_eq!(lost, 0, "{reads} reads from the {from}th on failed: {report:?}");
        }
    }
}

const EIO: i32 = 5;

/// The chunks of the first container of a pool that was just opened, its file, and all objects.
fn opened_anew(seed: u64) -> (SimDisk, Pool, String, Vec<Name>, Objects) {
    let disk = SimDisk::new(seed);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 12);
    pool.close().unwrap();
    let (mut first, mut chunks) = (None, Vec::new());
    pool.for_each_slot(|id, slot| {
        if slot.kind == Kind::Chunk && *first.get_or_insert(id) == id {
            chunks.push(slot.name);
        }
    });
    drop(pool);
    let file = path(first.unwrap(), Class::Data);
    let (pool, _) = open(&disk);
    (disk, pool, file, chunks, objects)
}

/// A container that the disk can't even open is damaged like one that it can't read: what lies in it is no longer taken for known.
#[test]
fn what_can_not_be_opened_is_wounded_and_heals() {
    for scrub in [true, false] {
        let (disk, pool, file, chunks, objects) = opened_anew(8);
        disk.fail_opens(&file, EIO).unwrap();
        match scrub {
            true => assert!(!pool.scrub(None, u64::MAX).unwrap().damage.is_empty()),
            false => assert!(chunks.iter().all(|name| pool.read(Kind::Chunk, name).is_err())),
        }
        assert_eq!(pool.wounded(), chunks.len(), "scrub: {scrub}");
        for name in &chunks {
            assert!(pool.put(StreamId(1), Kind::Chunk, &objects[name].1).unwrap().new, "stored once more");
        }
        assert_eq!(pool.wounded(), 0);
        assert_all(&pool, &objects);
        pool.close().unwrap();
        drop(pool);
        // Nor does it keep a pool from opening that has to look into it.
        disk.lose(INDEX_FILE).unwrap();
        let (pool, report) = open(&disk);
        assert!(report.damage.iter().any(|damage| damage.file == file), "{report:?}");
        assert!(chunks.iter().all(|name| pool.read(Kind::Chunk, name).is_ok()));
    }
}

/// What the machine lacks for a moment (memory, open files, rights) says nothing of what lies on the disk.
#[test]
fn what_the_machine_lacks_is_no_damage() {
    const ENOMEM: i32 = 12;
    const EACCES: i32 = 13;
    const EMFILE: i32 = 24;
    for errno in [ENOMEM, EACCES, EMFILE] {
        let (disk, pool, file, chunks, objects) = opened_anew(9);
        disk.fail_opens(&file, errno).unwrap();
        let scrubbed = pool.scrub(None, u64::MAX);
        assert!(matches!(scrubbed, Err(Error::Environment(_))), "{errno}: {scrubbed:?}");
        let read = pool.read(Kind::Chunk, &chunks[0]);
        assert!(matches!(read, Err(Error::Environment(_))), "{errno}: {read:?}");
        assert_eq!((pool.wounded(), pool.worn()), (0, 0), "{errno}");
        disk.mend_reads();
        assert_all(&pool, &objects);
        assert_sound(&pool);
    }
}

#[test]
fn what_has_no_place_in_the_file_of_wounds_is_read_before_it_counts_as_known() {
    let disk = SimDisk::new(9);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 9, 4);
    pool.close().unwrap();
    let some = Damage::new("a container", 0, "a slot", "zeros");
    let name = |nth: u64| Name(*blake3::hash(&nth.to_le_bytes()).as_bytes());
    (0..10_000).for_each(|nth| pool.0.remember(Kind::Chunk, &name(nth), ContainerId(0), &some));
    pool.keep_wounds();
    drop(pool);
    let (pool, _) = open(&disk);
    assert!(!pool.owes_scrub(None), "all of them are in the file");
    (0..10_001).for_each(|nth| pool.0.remember(Kind::Chunk, &name(nth), ContainerId(0), &some));
    pool.keep_wounds();
    drop(pool);
    let (pool, _) = open(&disk);
    assert!(pool.owes_scrub(None));
    // One more than memory has room for.
    while pool.0.unread.range().end > 0 {
        let _ = pool.scrub(pool_read_up_to(&pool), 1 << 30).unwrap();
    }
    assert!(!pool.owes_scrub(None));
    (0..=100_000).for_each(|nth| pool.0.remember(Kind::Chunk, &name(nth), ContainerId(0), &some));
    assert!(pool.owes_scrub(None), "nothing is known unread from here on");
    assert_all(&pool, &objects);
}

/// Where the scrub that is owed has come to.
fn pool_read_up_to(pool: &Pool) -> Option<u64> {
    pool.0.unread.range().start.checked_sub(1)
}
