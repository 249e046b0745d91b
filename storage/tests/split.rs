//! The journal split off into histories: what it is, at every moment, against a log of what was done; power cuts at every sync
//! of it, harm to every file of it. `NARROWBOAT_SEEDS` gives the number of worlds.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/known.rs"]
mod known;

use std::collections::BTreeMap;

use blocks::*;
use common::*;
use known::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::{Credentials, FileTree, SetAttributes};
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use narrowboat_storage::{Error, Store};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

#[test]
fn moments_in_a_history_hold_exactly_the_writes_up_to_them() {
    for seed in 0..seeds(4) {
        let disk = SimDisk::new(seed);
        let mut store = open_splitting(&disk).expect("an empty disk").0;
        volumes(&store);
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut known = [Known::new("first", seed), Known::new("second", seed + 1000)];
        let mut now = Timestamp(2);
        for round in 0..6 {
            for _ in 0..400 {
                now.0 += rng.random_range(0..3);
                match rng.random_range(0..10) {
                    0..=3 => known[0].change(&store, now),
                    4 if round % 2 == 0 => known[1].change(&store, now),
                    _ => noise_beside(&store, &mut rng, now),
                }
                match rng.random_range(0..60) {
                    0 => store.drain_all(now).expect("room"),
                    1 => drain(&store, now),
                    2 => drop(store.create_snapshot("first", &format!("s{round}-{}", now.0), now)),
                    _ => {}
                }
            }
            store.drain_all(now).expect("room");
            drain(&store, now);
            if round == 3 {
                // Back to the middle: what was undone stays in the past.
                let nth = known[0].log.len() / 2;
                let moment = Moment::Lsn(known[0].log[nth].0);
                store.rewind("first", &moment, "before", now).expect("within the window");
                let image = known[0].image(nth + 1);
                let whole = Patch { ranges: vec![(0, image.clone().into())] };
                expect(&*device(&store, "first"), &image, "rewound");
                known[0].writer.image = image;
                let lsn = Lsn(store.mark(&["first"], "rewound", true, now).expect("a window").lsn.0 - 1);
                known[0].log.push((lsn, whole));
            }
            if round % 2 == 1 {
                device(&store, "first").flush().expect("a sound disk");
                drop(store);
                disk.power_cut();
                disk.power_on();
                store = open_splitting(&disk).expect("sound").0;
            }
            let mut reclaim = Beside::default();
            reclaim.finish(&store, store.time());
            for volume in known.iter().filter(|volume| !volume.log.is_empty()) {
                expect(&*device(&store, volume.name), &volume.writer.image, "the present");
                for _ in 0..4 {
                    let nth = rng.random_range(0..volume.log.len());
                    volume.look(&store, nth, &format!("seed {seed}, round {round}"));
                }
            }
        }
        known.iter().for_each(|volume| volume.look_at(&store, 6, &format!("seed {seed}")));
        let stats = store.stats().expect("measured");
        assert!(stats.history_bytes > MIB / 4, "seed {seed}: {} bytes of history", stats.history_bytes);
        assert!(stats.journal_bytes <= 3 * MIB, "seed {seed}: {} bytes of journal", stats.journal_bytes);
        let reach = store.timeline("first").expect("there").reach.expect("a window");
        assert!(reach.history_bytes > 0 && reach.history_bytes <= reach.journal_bytes, "{reach:?}");
        sound(&store, &format!("seed {seed}"));
    }
}

/// Names, sizes and bytes in the root of a share.
fn listing(tree: &dyn FileTree) -> BTreeMap<String, Vec<u8>> {
    let entries = tree.read_dir(&Credentials::ROOT, Inode::ROOT, 2, 1000).expect("readable").entries;
    entries
        .into_iter()
        .map(|entry| (String::from_utf8_lossy(&entry.name).into_owned(), read(tree, entry.attributes.inode)))
        .collect()
}

#[test]
fn shares_come_back_from_their_history() {
    for seed in 0..seeds(2) {
        let disk = SimDisk::new(seed);
        let mut store = open_splitting(&disk).expect("an empty disk").0;
        store.create_share("share", Policy::Inline, Timestamp(1)).expect("room");
        store.set_window("share", Some(FOR_EVER), Timestamp(1)).expect("room");
        let share = |store: &Store| store.tree(store.dataset_named("share").expect("there").row.id).expect("open");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut log: Vec<(i64, BTreeMap<_, _>)> = Vec::new();
        for now in 10..260 {
            let tree = share(&store);
            let name = format!("f{}", rng.random_range(0..9));
            let found = tree.lookup(&Credentials::ROOT, Inode::ROOT, name.as_bytes()).ok();
            match (rng.random_range(0..8), found) {
                (0, Some(_)) => drop(tree.remove(&at(now), Inode::ROOT, name.as_bytes()).expect("there")),
                (1, Some(_)) => {
                    let other = format!("f{}", rng.random_range(0..9));
                    drop(tree.rename(&at(now), (Inode::ROOT, name.as_bytes()), (Inode::ROOT, other.as_bytes())));
                }
                (2, Some(file)) => {
                    let set = SetAttributes { size: Some(rng.random_range(0..90_000)), ..SetAttributes::default() };
                    tree.set_attributes(&at(now), file.inode, &set, None).expect("root may");
                }
                (_, found) => {
                    let inode = found.map_or_else(|| create(&*tree, Inode::ROOT, &name, now), |file| file.inode);
                    // Short enough to go into the journal as it is.
                    let len = [100, 9000, 50_000][rng.random_range(0..3)];
                    write(&*tree, inode, rng.random_range(0..4) * 7000, &noise(rng.random(), len), now);
                    commit(&*tree, inode).expect("room");
                }
            }
            log.push((now, listing(&*tree)));
            drop(tree);
            if rng.random_range(0..12) == 0 {
                store.drain_all(Timestamp(now)).expect("room");
                drain(&store, Timestamp(now));
            }
            if now % 100 == 0 {
                drop(store);
                disk.power_cut();
                disk.power_on();
                store = open_splitting(&disk).expect("sound").0;
                // What was answered last is not stable yet.
                let found = listing(&*share(&store));
                let left = log.iter().rposition(|(_, listing)| *listing == found).expect("order is kept");
                log.truncate(left + 1);
            }
        }
        let now = Timestamp(260);
        for nth in (0..log.len()).step_by(9) {
            let (time, expected) = &log[nth];
            store.clone_at("share", &Moment::Time(Timestamp(*time)), "past", now).expect("within");
            let past = store.tree(store.dataset_named("past").expect("there").row.id).expect("open");
            assert!(listing(&*past) == *expected, "seed {seed}, at {time}");
            drop(past);
            store.delete_dataset("past", now).expect("just made");
        }
        assert!(!history_files(&disk).is_empty() && store.stats().expect("measured").journal_bytes <= 3 * MIB);
        sound(&store, &format!("seed {seed}"));
    }
}

#[test]
fn a_power_cut_at_every_sync_of_a_split_costs_nothing() {
    for seed in 0..seeds(1) {
        let (ripe, known) = ripe(seed);
        let now = Timestamp(1000);
        let syncs = {
            let disk = ripe.fork(seed);
            let store = open_splitting(&disk).expect("sound").0;
            let before = disk.syncs();
            drain(&store, now);
            assert!(history_files(&disk).len() >= 2, "both have a history");
            disk.syncs() - before
        };
        assert!(syncs > 20, "{syncs} syncs");
        for sync in 1..=syncs {
            let what = format!("seed {seed}, sync {sync}");
            let disk = ripe.fork(seed ^ sync << 32);
            let store = open_splitting(&disk).expect("sound").0;
            disk.cut_power_at_sync(disk.syncs() + sync);
            while store.drain_step(now).is_ok_and(|more| more) {}
            drop(store);
            if disk.is_on() {
                disk.power_cut();
            }
            disk.cut_power_at_sync(0);
            disk.power_on();
            let store = open_splitting(&disk).expect("opens");
            assert!(store.1.set_aside.is_empty(), "{what}");
            let store = store.0;
            for volume in &known {
                expect(&*device(&store, volume.name), &volume.writer.image, &what);
                volume.look_at(&store, 2, &what);
            }
            if sync % 4 == 0 {
                sound(&store, &what);
            }
            // And it is done again.
            drain(&store, now);
            let volume = &known[sync as usize % 2];
            volume.look(&store, sync as usize * 31 % volume.log.len(), &what);
            assert!(store.stats().expect("measured").journal_bytes <= 3 * MIB, "{what}");
        }
    }
}

#[test]
fn a_sync_that_fails_while_splitting_costs_nothing() {
    let (ripe, known) = ripe(7);
    let now = Timestamp(1000);
    for sync in 1..30 {
        let disk = ripe.fork(sync);
        let store = open_splitting(&disk).expect("sound").0;
        disk.fail_sync_at(disk.syncs() + sync);
        while store.drain_step(now).is_ok_and(|more| more) {}
        drop(store);
        disk.power_cut();
        disk.power_on();
        let store = open_splitting(&disk).expect("opens").0;
        drain(&store, now);
        known.iter().for_each(|volume| volume.look_at(&store, 3, &format!("failed sync {sync}")));
        sound(&store, &format!("failed sync {sync}"));
    }
}

#[test]
fn a_damaged_history_costs_the_moments_that_need_it_and_nothing_else() {
    let (disk, known) = ripe(3);
    let now = Timestamp(1000);
    let store = open_splitting(&disk).expect("sound").0;
    drain(&store, now);
    drop(store);
    let files = history_files(&disk);
    let mut harms = 0;
    for path in &files {
        let len = disk.contents(path).expect("there").len() as u64;
        let places = (0..6).map(|nth| (len - 1) * nth / 5).map(Some).chain([None]);
        for place in places {
            let disk = disk.fork(5);
            match place {
                Some(at) => disk.rot(path, at, 1 << (at % 8)).expect("a file"),
                None => disk.lose(path).expect("a file"),
            }
            let (store, report) = open_splitting(&disk).expect("opens, whatever became of the past");
            assert!(report.set_aside.is_empty(), "the present needs no history");
            let check = store.check(false, &mut |_| true).expect("a sound machine");
            assert!(
                check.problems.iter().any(|problem| problem.contains(path.as_str())),
                "{place:?}: {:?}",
                check.problems
            );
            let mut lost = 0;
            for volume in &known {
                expect(&*device(&store, volume.name), &volume.writer.image, "the present");
                for nth in (0..volume.log.len()).step_by(149) {
                    let (lsn, _) = volume.log[nth];
                    match store.clone_at(volume.name, &Moment::Lsn(lsn), "past", now) {
                        Ok(_) => {
                            expect(&*device(&store, "past"), &volume.image(nth + 1), "never a wrong byte");
                            store.delete_dataset("past", now).expect("just made");
                        }
                        Err(Error::Damage(damage)) => {
                            assert_eq!(damage.file, *path, "{damage}");
                            lost += 1;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                let last = volume.log.len() - 1;
                volume.look(&store, last, "the newest moment is in the journal");
            }
            harms += lost;
            // The window goes on, beside what is damaged.
            let mut more = Known::new("first", 99);
            more.writer.image = known[0].writer.image.clone();
            let (whole, mut at) = (known[0].writer.image.clone(), Timestamp(1001));
            for _ in 0..400 {
                at.0 += 1;
                more.change(&store, at);
            }
            store.drain_all(at).expect("room");
            drain(&store, at);
            let (lsn, _) = more.log[200];
            store.clone_at("first", &Moment::Lsn(lsn), "past", at).expect("later moments need nothing of it");
            let mut image = whole;
            more.log[..=200].iter().for_each(|(_, patch)| patch.apply(&mut image));
            expect(&*device(&store, "past"), &image, "later moments");
        }
    }
    assert!(harms > files.len(), "{harms} moments were lost");
}

#[test]
fn a_damaged_segment_stays_whole_and_stands_in_nobodys_way() {
    let (disk, known) = ripe(4);
    let now = Timestamp(1000);
    let oldest = disk.paths().into_iter().find(|path| path.ends_with(".journal")).expect("a journal");
    disk.rot(&oldest, 400_000, 1).expect("a file");
    let store = open_splitting(&disk).expect("what is drained is not replayed").0;
    drain(&store, now);
    assert!(disk.paths().contains(&oldest), "it is all that there is of these moments");
    let problem = store.split_problem().expect("it says so");
    assert!(problem.contains(&oldest), "{problem}");
    let last = known[0].log.len() - 1;
    expect(&*device(&store, "first"), &known[0].writer.image, "the present");
    known[0].look(&store, last, "later moments");
    let check = store.check(false, &mut |_| true).expect("a sound machine");
    assert!(check.problems.iter().any(|problem| problem.contains(&oldest)), "{:?}", check.problems);
    device(&store, "noisy").write(now, 0, noise(1, 4096).into()).expect("writing goes on");
    // Nobody needs it any more.
    for name in ["first", "second"] {
        store.set_window(name, None, now).expect("room");
    }
    store.close(now).expect("room");
    assert!(!disk.paths().contains(&oldest));
    assert_eq!(store.split_problem(), None);
}

#[test]
fn a_split_that_fails_is_told_of_and_tried_again() {
    let (ripe, known) = ripe(11);
    let now = Timestamp(1000);
    for sync in 1..=3 {
        let disk = ripe.fork(sync);
        let store = open_splitting(&disk).expect("sound").0;
        let journal = || store.stats().expect("measured").journal_bytes;
        let whole = journal();
        disk.fail_sync_at(disk.syncs() + sync);
        drain(&store, now);
        let problem = store.split_problem().expect("a sync of history failed");
        assert!(problem.contains("history"), "{problem}");
        drain(&store, Timestamp(now.0 + 59_000_000_000));
        assert!(journal() == whole && store.split_problem().is_some(), "too early");
        drain(&store, Timestamp(now.0 + 60_000_000_000));
        assert_eq!(store.split_problem(), None);
        assert!(journal() <= 3 * MIB && journal() < whole, "{} of {whole} bytes", journal());
        known[0].look_at(&store, 3, "split again");
    }
}

#[test]
fn a_long_window_does_not_keep_what_others_write() {
    let disk = SimDisk::new(1);
    let store = open_splitting(&disk).expect("an empty disk").0;
    volumes(&store);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut known = Known::new("first", 1);
    for step in 0..6000 {
        let now = Timestamp(2 + step);
        if step % 100 == 0 {
            known.change(&store, now);
        }
        noise_beside(&store, &mut rng, now);
        if step % 400 == 0 {
            store.drain_all(now).expect("room");
            drain(&store, now);
        }
    }
    let stats = store.stats().expect("measured");
    assert!(stats.journal_bytes <= 4 * MIB, "{} bytes of journal", stats.journal_bytes);
    assert!(stats.history_bytes <= 2 * MIB, "{} bytes of history", stats.history_bytes);
    let reach = |name: &str| store.timeline(name).expect("there").reach.expect("a window");
    // What a window costs is what it keeps, not what others wrote.
    assert!(reach("first").journal_bytes <= 2 * MIB, "{:?}", reach("first"));
    assert!(reach("second").journal_bytes <= MIB && reach("second").history_bytes == 0, "{:?}", reach("second"));
    known.look_at(&store, 5, "beside a noisy neighbour");
}

#[test]
fn history_goes_with_its_window_and_with_its_dataset() {
    let (disk, known) = ripe(6);
    let now = Timestamp(1000);
    let store = open_splitting(&disk).expect("sound").0;
    drain(&store, now);
    let id = |name: &str| store.dataset_named(name).expect("there").row.id.to_string();
    let files = |id: &str| history_files(&disk).iter().filter(|path| path.contains(id)).count();
    let (first, second) = (id("first"), id("second"));
    assert!(files(&first) > 1 && files(&second) > 0, "{:?}", history_files(&disk));
    // A shorter one: its older files go, and what it says is there is.
    let before = store.timeline("first").expect("there").reach.expect("a window");
    let bytes = before.journal_bytes / 2;
    store.set_window("first", Some(Window { bytes, ..FOR_EVER }), now).expect("room");
    let had = files(&first);
    drain(&store, now);
    let reach = store.timeline("first").expect("there").reach.expect("a window");
    assert!(files(&first) < had && reach.journal_bytes <= bytes && reach.first > before.first, "{reach:?}");
    let volume = &known[0];
    volume.look(&store, volume.log.len() - 1, "a shorter window");
    store.clone_at("first", &Moment::Time(reach.first), "past", now).expect("within");
    store.delete_dataset("past", now).expect("just made");
    assert!(store.clone_at("first", &Moment::Time(Timestamp(reach.first.0 - 1)), "older", now).is_err());
    store.set_window("first", None, now).expect("room");
    assert_eq!(files(&first), 0);
    known[1].look_at(&store, 4, "another one's window");
    store.delete_dataset("second", now).expect("room");
    assert_eq!(history_files(&disk), Vec::<String>::new());
    assert_eq!(store.stats().expect("measured").history_bytes, 0);
    sound(&store, "without history");
}

#[test]
fn the_catalogue_built_again_knows_the_history() {
    let (disk, known) = ripe(8);
    let now = Timestamp(1000);
    let store = open_splitting(&disk).expect("sound").0;
    drain(&store, now);
    drop(store);
    disk.lose("catalogue.redb").expect("a file");
    let (store, report) = open_splitting(&disk).expect("built again");
    assert!(report.catalogue.rebuilt.is_some());
    known.iter().for_each(|volume| volume.look_at(&store, 6, "built again"));
    sound(&store, "built again");
}
