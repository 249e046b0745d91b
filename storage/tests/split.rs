//! The journal split off into histories: what it is, at every moment, against a log of what was done; power cuts at every sync
//! of it, harm to every file of it, full disks. `NARROWBOAT_SEEDS` gives the number of worlds.

#[path = "common/blocks.rs"]
mod blocks;
mod common;
#[path = "common/sticky.rs"]
mod sticky;

use std::collections::BTreeMap;
use std::sync::Arc;

use blocks::*;
use common::*;
use narrowboat_storage::catalogue::{Policy, Window};
use narrowboat_storage::dataset::{Credentials, FileTree, SetAttributes};
use narrowboat_storage::id::IdSource;
use narrowboat_storage::media::{Media, SimDisk};
use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Inode, Lsn, Timestamp};
use narrowboat_storage::{Error, Store, StoreOptions};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use sticky::Sticky;

const MIB: u64 = 1 << 20;
const SIZE: u64 = 2 * MIB;
/// So long and so much that nothing ends it.
const FOR_EVER: Window = Window { nanoseconds: u64::MAX / 4, bytes: u64::MAX / 4 };

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// A volume, what was done to it, and by which records.
struct Known {
    name: &'static str,
    writer: Writer,
    log: Vec<(Lsn, Patch)>,
}

impl Known {
    fn new(name: &'static str, seed: u64) -> Known {
        Known { name, writer: Writer::new(SIZE, seed), log: Vec::new() }
    }

    /// Makes a change, mostly a small one: those are what the journal has whole.
    fn change(&mut self, store: &Store, now: Timestamp) {
        let volume = device(store, self.name);
        if self.writer.roll(8) == 0 {
            let (patch, lsn) = self.writer.change(&*volume, now).expect("room");
            if lsn > Lsn(0) {
                self.log.push((lsn, patch));
            }
            return;
        }
        let len = 512 * (1 + self.writer.roll(24));
        let offset = 512 * self.writer.roll((SIZE - len) / 512);
        let data = noise(self.writer.roll(1 << 40), len as usize);
        let lsn = volume.write(now, offset, data.clone().into()).expect("room");
        let patch = Patch { ranges: vec![(offset, data.into())] };
        patch.apply(&mut self.writer.image);
        self.log.push((lsn, patch));
    }

    /// The volume behind its first `count` changes.
    fn image(&self, count: usize) -> Vec<u8> {
        let mut image = vec![0; SIZE as usize];
        self.log[..count].iter().for_each(|(_, patch)| patch.apply(&mut image));
        image
    }

    /// Compares the moment behind the change `nth` with what it must be.
    fn look(&self, store: &Store, nth: usize, what: &str) {
        let (lsn, _) = self.log[nth];
        let now = Timestamp(1);
        store.clone_at(self.name, &Moment::Lsn(lsn), "past", now).expect("within the window");
        expect(&*device(store, "past"), &self.image(nth + 1), &format!("{what}: {} at record {lsn}", self.name));
        store.delete_dataset("past", now).expect("just made");
    }

    /// Looks at so many moments, spread over all, the first and the last among them.
    fn look_at(&self, store: &Store, count: usize, what: &str) {
        let last = self.log.len() - 1;
        (0..count).for_each(|nth| self.look(store, last * nth / (count - 1), what));
    }
}

fn drain(store: &Store, now: Timestamp) {
    while store.drain_step(now).expect("room") {}
}

fn sound(store: &Store, what: &str) {
    let check = store.check(true, &mut |_| true).expect("a sound machine");
    assert!(check.is_sound(), "{what}: {:?}", check.problems);
}

fn history_files(disk: &SimDisk) -> Vec<String> {
    disk.paths().into_iter().filter(|path| path.starts_with("history/")).collect()
}

/// Two volumes with windows and a noisy one without.
fn volumes(store: &Store) {
    for name in ["first", "second", "noisy"] {
        store.create_volume(name, SIZE, Policy::Inline, Timestamp(1)).expect("room");
    }
    store.set_window("first", Some(FOR_EVER), Timestamp(1)).expect("room");
    store.set_window("second", Some(FOR_EVER), Timestamp(1)).expect("room");
}

/// Writes of nobody's interest.
fn noise_beside(store: &Store, rng: &mut Xoshiro256PlusPlus, now: Timestamp) {
    let offset = 4096 * rng.random_range(0..SIZE / 4096);
    device(store, "noisy").write(now, offset, noise(rng.random(), 4096).into()).expect("room");
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

/// A store with much to split, all of it drained, and closed without having been split.
fn ripe(seed: u64) -> (SimDisk, [Known; 2]) {
    let disk = SimDisk::new(seed);
    let store = open_splitting(&disk).expect("an empty disk").0;
    volumes(&store);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut known = [Known::new("first", seed), Known::new("second", seed + 1000)];
    for step in 0..1500 {
        let now = Timestamp(2 + step / 3);
        match step % 5 {
            0..=2 => known[0].change(&store, now),
            3 if step % 50 < 10 => known[1].change(&store, now),
            _ => noise_beside(&store, &mut rng, now),
        }
        if step % 150 == 149 {
            store.drain_all(now).expect("room");
        }
    }
    device(&store, "first").flush().expect("a sound disk");
    drop(store);
    (disk, known)
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
fn a_full_disk_splits_nothing_and_loses_nothing() {
    let (ripe, known) = ripe(5);
    let now = Timestamp(1000);
    let mut split = 0;
    for free in [0, 3_000, 20_000, 60_000, 150_000, 400_000] {
        let disk = ripe.fork(free);
        let store = open_splitting(&disk).expect("sound").0;
        disk.fill(free);
        // Windows may give way: what they still say they have is there.
        for _ in 0..5 {
            let _ = store.drain_step(now);
        }
        disk.set_capacity(1 << 40);
        for volume in &known {
            expect(&*device(&store, volume.name), &volume.writer.image, "the present");
            let first = store.timeline(volume.name).expect("there").reach.expect("a window").first;
            let last = volume.log.len() - 1;
            for nth in [0, last / 3, last / 2, last] {
                let (lsn, _) = volume.log[nth];
                match store.clone_at(volume.name, &Moment::Lsn(lsn), "past", now) {
                    Ok(_) => {
                        expect(&*device(&store, "past"), &volume.image(nth + 1), &format!("{free} bytes free"));
                        store.delete_dataset("past", now).expect("just made");
                    }
                    Err(Error::Refused(_)) => assert!(nth < last && first > Timestamp(1), "{free} bytes free: {nth}"),
                    Err(error) => panic!("{free} bytes free: {error}"),
                }
            }
        }
        drain(&store, now);
        split += store.stats().expect("measured").history_bytes;
        sound(&store, &format!("{free} bytes free"));
        drop(store);
        drop(open_splitting(&disk).expect("sound"));
    }
    assert!(split > 0, "with room again it is split");
}

/// So much of a disk stays free that windows have to make room of so many bytes.
fn fill_but(disk: &SimDisk, missing: u64) {
    let options = splitting();
    disk.fill(4 * options.reserve_bytes + 2 * options.journal.segment_bytes - missing);
}

/// What is there of a ripe store, on a disk whose history can hang.
fn open_sticky(disk: &SimDisk) -> (Sticky, Store) {
    let sticky = Sticky::in_history(disk.clone());
    let options = StoreOptions { ids: IdSource::seeded(disk.syncs()), ..splitting() };
    let media = Arc::new(sticky.clone()) as Arc<dyn Media>;
    (sticky, Store::open(media, options).expect("sound").0)
}

#[test]
fn a_full_disk_costs_no_history_while_that_makes_no_room() {
    let (disk, known) = ripe(9);
    let now = Timestamp(1000);
    let (sticky, store) = open_sticky(&disk);
    drain(&store, now);
    let bytes = || store.stats().expect("measured").history_bytes;
    let (had, files) = (bytes(), history_files(&disk).len());
    assert!(files >= 3, "{files} files");
    fill_but(&disk, 100_000);
    let (lsn, _) = known[0].log[0];
    std::thread::scope(|scope| {
        let held = sticky.stick();
        let reader = scope.spawn(|| store.clone_at("first", &Moment::Lsn(lsn), "read", now));
        sticky.wait_until_stuck();
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!((bytes(), history_files(&disk).len()), (had, files), "it is being read");
        // Not even what nobody needs any more goes from under a reader.
        store.set_window("first", None, now).expect("room");
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!(history_files(&disk).len(), files, "it is being read");
        drop(held);
        reader.join().expect("no panic").expect("its files are there");
    });
    expect(&*device(&store, "read"), &known[0].image(1), "what was read meanwhile");
    let others = known[1].log.len() - 1;
    // What was owed goes first, and is enough.
    drain(&store, now);
    assert!(history_files(&disk).len() < files, "swept");
    known[1].look(&store, others / 2, "the other one's window");
    assert!(bytes() > 0);
    // And where it is not, windows give way.
    disk.set_capacity(1 << 40);
    let had = bytes();
    fill_but(&disk, 2 * MIB);
    drain(&store, now);
    assert!(bytes() < had, "{} bytes of {had}", bytes());
}

#[test]
fn a_full_disk_costs_no_history_while_the_journal_is_being_split() {
    let (disk, known) = ripe(10);
    let now = Timestamp(1000);
    let (sticky, store) = open_sticky(&disk);
    let first = || store.timeline("first").expect("there").reach.expect("a window").first;
    let begun = first();
    // Some of it is in history already: that could go at once.
    store.drain_step(now).expect("room");
    assert!(!history_files(&disk).is_empty());
    fill_but(&disk, 100_000);
    std::thread::scope(|scope| {
        let held = sticky.stick();
        let splitter = scope.spawn(|| store.drain_step(now));
        sticky.wait_until_stuck();
        (0..30).for_each(|_| drop(store.drain_step(now)));
        assert_eq!(first(), begun, "splitting is under way");
        drop(held);
        splitter.join().expect("no panic").expect("room");
    });
    assert_eq!(first(), begun, "what could be split made room enough");
    known[0].look_at(&store, 5, "split for want of room");
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
