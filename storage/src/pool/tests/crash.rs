//! Power cut at every sync of a workload: what was synced is there, what is there is whole, and work goes on.

use super::*;

/// What a workload put, and what of it was acknowledged as safe.
#[derive(Default)]
struct Ledger {
    objects: BTreeMap<Name, (Kind, Vec<u8>)>,
    safe: usize,
    order: Vec<Name>,
}

/// Puts, syncs and settles by seed until something fails or it is done.
fn work(disk: &SimDisk, seed: u64, ledger: &mut Ledger) -> Result<()> {
    let (pool, _) = Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options())?;
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut nodes: Vec<(Kind, Name)> = Vec::new();
    for step in 0..60u64 {
        let stream = StreamId(rng.random_range(0..4));
        let mut below = Vec::new();
        for _ in 0..rng.random_range(1..6) {
            let content = content(rng.random_range(0..150), rng.random_range(1..9) * 1000);
            let put = pool.put(stream, Kind::Chunk, &content)?;
            below.push((Kind::Chunk, put.name));
            ledger.add(put.name, Kind::Chunk, content);
        }
        // Now and then on top of an older node, so that closures run through several containers.
        if !nodes.is_empty() && rng.random_bool(0.5) {
            below.push(nodes[rng.random_range(0..nodes.len())]);
        }
        let content = node(step, &below);
        let put = pool.put(stream, Kind::SequenceNode, &content)?;
        ledger.add(put.name, Kind::SequenceNode, content);
        nodes.push((Kind::SequenceNode, put.name));
        match rng.random_range(0..6) {
            0 | 1 => pool.sync()?,
            2 => pool.settle()?,
            3 if rng.random_bool(0.3) => pool.close()?,
            _ => continue,
        }
        ledger.safe = ledger.order.len();
    }
    pool.close()?;
    ledger.safe = ledger.order.len();
    Ok(())
}

impl Ledger {
    fn add(&mut self, name: Name, kind: Kind, content: Vec<u8>) {
        self.objects.insert(name, (kind, content));
        self.order.push(name);
    }

    /// What was acknowledged is there; whatever is there is right, and so is everything below it.
    fn verify(&self, pool: &Pool) {
        for name in &self.order[..self.safe] {
            let (kind, content) = &self.objects[name];
            assert!(pool.contains(*kind, name).unwrap(), "{kind:?} {name} was synced and is gone");
            assert_eq!(pool.read(*kind, name).unwrap(), content[..]);
        }
        for (name, (kind, content)) in &self.objects {
            if !pool.contains(*kind, name).unwrap() {
                continue;
            }
            assert_eq!(pool.read(*kind, name).unwrap(), content[..]);
            if kind.is_node() {
                for (kind, below) in references(*kind, content).unwrap() {
                    assert!(pool.contains(kind, &below).unwrap(), "{name} is present without {below}");
                }
            }
        }
    }
}

/// Seeds to try: more with NARROWBOAT_SEEDS.
fn seeds() -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(1)
}

fn cut_and_recover(seed: u64, n: u64, lose_index: bool) {
    let disk = SimDisk::new(seed << 32 | n);
    disk.cut_power_at_sync(n);
    let mut ledger = Ledger::default();
    // The cut may meet the very last sync, that of closing the index, which nobody waits for.
    let _ = work(&disk, seed, &mut ledger);
    assert!(!disk.is_on());
    disk.power_on();
    if lose_index && disk.contents(INDEX_FILE).is_ok() {
        disk.lose(INDEX_FILE).unwrap();
    }
    let (pool, report) = open(&disk);
    assert_eq!(report.damage, [], "a crash is not damage");
    ledger.verify(&pool);
    assert_sound(&pool);
    drop(pool);
    // What recovery did survives the next cut, whatever had been synced.
    disk.power_cut();
    let (pool, report) = open(&disk);
    assert_eq!(report.damage, []);
    ledger.verify(&pool);
    drop(pool);
    let mut again = Ledger::default();
    work(&disk, seed, &mut again).unwrap();
    let (pool, _) = open(&disk);
    again.verify(&pool);
    ledger.verify(&pool);
    assert_sound(&pool);
}

#[test]
fn a_power_cut_at_any_sync_loses_nothing_that_was_safe() {
    for seed in 0..seeds() {
        let disk = SimDisk::new(seed);
        work(&disk, seed, &mut Ledger::default()).unwrap();
        for n in 1..=disk.syncs() {
            cut_and_recover(seed, n, n % 5 == 0);
        }
    }
}

#[test]
fn a_disk_that_lies_is_noticed_by_this_harness() {
    let failed = (1..30).any(|n| {
        let disk = SimDisk::new(n);
        disk.create_dir_all(&crate::container::dir(ContainerId(1))).unwrap();
        disk.ignore_syncs();
        let mut ledger = Ledger::default();
        work(&disk, 1, &mut ledger).unwrap();
        disk.power_cut();
        let found = std::panic::catch_unwind(|| ledger.verify(&open(&disk).0));
        found.is_err()
    });
    assert!(failed);
}

#[test]
fn recovery_that_is_cut_itself_recovers() {
    let seed = 11;
    let disk = SimDisk::new(seed);
    disk.cut_power_at_sync(40);
    let mut ledger = Ledger::default();
    work(&disk, seed, &mut ledger).unwrap_err();
    disk.power_on();
    let calm = disk.fork(1);
    let before = calm.syncs();
    drop(open(&calm));
    let syncs = calm.syncs() - before;
    assert!(syncs > 3);
    for n in 1..=syncs {
        let disk = disk.fork(n);
        disk.cut_power_at_sync(before + n);
        let _ = Pool::open(Arc::new(disk.clone()), STORE, Realm::published(), options());
        disk.power_on();
        let (pool, report) = open(&disk);
        assert_eq!(report.damage, [], "cut at sync {n} of opening");
        ledger.verify(&pool);
        assert_sound(&pool);
    }
}

#[test]
fn a_node_without_what_it_refers_to_is_not_admitted() {
    let disk = SimDisk::new(12);
    let (pool, _) = open(&disk);
    let missing = Name([9; 32]);
    // Only a broken caller puts a node before what it names; its crash must not make it count.
    let orphan = pool.put(StreamId(1), Kind::MapNode, &node(1, &[(Kind::Chunk, missing)])).unwrap().name;
    let above = pool.put(StreamId(2), Kind::MapNode, &node(2, &[(Kind::MapNode, orphan)])).unwrap().name;
    let whole = pool.put(StreamId(2), Kind::MapNode, &node(3, &[])).unwrap().name;
    pool.sync().unwrap();
    drop(pool);
    let (pool, report) = open(&disk);
    assert_eq!((report.sealed, report.not_admitted), (2, 2));
    assert!(!pool.contains(Kind::MapNode, &orphan).unwrap() && !pool.contains(Kind::MapNode, &above).unwrap());
    assert!(pool.contains(Kind::MapNode, &whole).unwrap());
    pool.close().unwrap();
    let report = pool.check(true, |_| true).unwrap();
    assert_eq!((report.damage, report.spare), (vec![], 2));
    drop(pool);
    // The directory of an incomplete container does not vouch for all of its slots.
    let (pool, report) = open(&disk);
    assert_eq!(report.replayed, 0);
    for _ in 0..3 {
        assert!(pool.contains(Kind::MapNode, &whole).unwrap());
        assert!(!pool.contains(Kind::MapNode, &orphan).unwrap());
    }
}

#[test]
fn torn_creations_are_removed_and_strays_are_not_touched() {
    let disk = SimDisk::new(13);
    let (pool, _) = open(&disk);
    let objects = fill(&pool, 1, 3);
    pool.close().unwrap();
    let next = pool.0.streams.next_id();
    drop(pool);
    let media: &dyn Media = &disk;
    media.create(&path(ContainerId(next), crate::container::Class::Data)).unwrap();
    let stray = format!("{CONTAINERS_DIR}/00/notes.txt");
    media.create(&stray).unwrap();
    // A container of another store, copied into this folder.
    let foreign = SimDisk::new(14);
    let (other, _) = Pool::open(Arc::new(foreign.clone()), StoreId([8; 16]), Realm::published(), options()).unwrap();
    other.put(StreamId(0), Kind::Chunk, b"not ours").unwrap();
    other.close().unwrap();
    let bytes = foreign.contents(&path(ContainerId(1), crate::container::Class::Data)).unwrap();
    let there = path(ContainerId(next + 1), crate::container::Class::Data);
    media.create(&there).unwrap();
    disk.overwrite(&there, 0, &bytes).unwrap();
    let (pool, report) = open(&disk);
    assert_eq!((report.removed, report.damage.len()), (1, 1));
    assert_eq!(report.damage[0].file, there);
    assert_all(&pool, &objects);
    assert!(!pool.contains(Kind::Chunk, &pool.realm().name(Kind::Chunk, b"not ours")).unwrap());
    assert!(disk.paths().contains(&stray) && disk.paths().contains(&there));
    assert!(pool.0.streams.next_id() >= next + 2, "ids are never given out twice");
}
