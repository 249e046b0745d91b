//! Reclaim beside everybody else. A run is stopped between any two steps while others write, drain, snapshot, clone, delete and
//! receive; then everything that can be reached reads as a model says, and another run frees all that nothing reaches.
//! `NARROWBOAT_SEEDS` gives the number of worlds.

mod common;
#[path = "common/garbage.rs"]
mod garbage;
#[path = "common/received.rs"]
mod received;
#[path = "common/sending.rs"]
mod sending;
#[path = "common/world/mod.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use common::*;
use garbage::*;
use narrowboat_storage::Store;
use narrowboat_storage::media::SimDisk;
use narrowboat_storage::reclaim::{Reclaim, Stepped};
use narrowboat_storage::units::Timestamp;
use received::Branch;
use world::World;

fn seeds(default: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// A store that others work on while runs of reclaim go on, and a branch that sends to it.
struct Busy {
    world: World,
    branch: Branch,
    run: Option<Reclaim>,
    blind: bool,
    runs: u64,
    freed: u64,
}

impl Busy {
    fn new(seed: u64) -> Busy {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk, seed).expect("a sound disk");
        world.run(20);
        Busy { world, branch: Branch::new(seed ^ 0xB0A7), run: None, blind: false, runs: 0, freed: 0 }
    }

    /// One step of the run, of somebody else, or of some of both.
    fn go_on(&mut self) {
        match self.world.roll(10) {
            0..=4 => self.step(),
            5 => {
                let shares: Vec<String> = self.world.shares.keys().cloned().collect();
                if let Some(share) = shares.get(self.world.roll(shares.len().max(1) as u64) as usize) {
                    self.world.write_again(share).expect("a sound disk");
                }
            }
            6..=7 => {
                let steps = 1 + self.world.roll(3);
                self.world.run_on(steps);
            }
            _ => {
                let (steps, now) = (1 + self.world.roll(20), self.world.now());
                self.branch.send(self.world.store(), steps, now).expect("a sound disk");
            }
        }
    }

    fn step(&mut self) {
        let now = self.world.now();
        let store = self.world.store.as_ref().expect("open");
        if self.run.is_none() {
            let run = store.reclaim().expect("no other run");
            if self.blind {
                run.blind_the_door();
            }
            self.run = Some(run);
        }
        let Some(run) = &mut self.run else { return };
        if run.step(store, now).expect("a sound disk") == Stepped::Done {
            let report = run.report();
            assert_eq!((&report.stopped, report.damage.as_slice()), (&None, &[][..]));
            self.runs += 1;
            self.freed += report.containers_removed + report.containers_rewritten;
            self.run = None;
        }
    }

    /// Everything is as the model says, also after the run came to its end.
    fn expect_all(&mut self) {
        self.world.expect_all();
        self.branch.expect_all(self.world.store());
    }
}

/// A world with runs of reclaim in it; whatever is wrong is a panic.
fn interleave(seed: u64, blind: bool) -> Busy {
    let mut busy = Busy::new(seed);
    busy.blind = blind;
    for _ in 0..4 {
        (0..60).for_each(|_| busy.go_on());
        busy.expect_all();
    }
    while busy.run.is_some() {
        busy.step();
    }
    busy.expect_all();
    if blind {
        return busy;
    }
    let now = busy.world.now();
    busy.branch.finish(busy.world.store(), now);
    expect_nothing_left(busy.world.store(), now);
    busy.expect_all();
    busy.world.reopen();
    busy.expect_all();
    busy
}

#[test]
fn whatever_others_do_between_two_steps_nothing_is_lost_and_all_garbage_goes() {
    let (mut runs, mut freed, mut received) = (0, 0, 0);
    for seed in 0..seeds(12) {
        let outcome = catch_unwind(AssertUnwindSafe(|| interleave(seed, false)));
        let Ok(busy) = outcome else { panic!("seed {seed}: see above") };
        (runs, freed, received) = (runs + busy.runs, freed + busy.freed, received + busy.branch.shown());
    }
    assert!(runs > 3 && freed > 0 && received > 0, "{runs} runs, {freed} containers, {received} received");
}

#[test]
fn a_door_that_notes_nothing_is_found_out() {
    let seen = (0..30).filter(|seed| catch_unwind(AssertUnwindSafe(|| interleave(*seed, true))).is_err()).count();
    assert!(seen > 0, "the harness does not see what would lose data");
}

/// The power is off and on again; where the planned cut was not reached, it is now.
fn crash(disk: &SimDisk) {
    if disk.is_on() {
        disk.power_cut();
    }
    disk.cut_power_at_sync(0);
    disk.power_on();
}

/// A run, with others beside it, whose power is cut at one of its syncs. False where it had fewer.
fn cut_at(seed: u64, sync: u64) -> bool {
    let disk = SimDisk::new(seed ^ sync << 32);
    let mut world = World::new(disk.clone(), seed).expect("a sound disk");
    world.run(40);
    for _ in 0..4 {
        let _ = world.write_again("main");
        world.snapshot("main");
        let _ = world.drain();
        world.delete_snapshot();
    }
    let now = world.now();
    world.store().close(now).expect("a sound disk");
    disk.cut_power_at_sync(disk.syncs() + sync);
    let mut done = false;
    if let Ok(mut run) = world.store().reclaim() {
        for _ in 0..10_000 {
            if world.roll(4) == 0 {
                world.run_on(1);
                let _ = world.write_again("main");
            }
            let now = world.now();
            match run.step(world.store(), now) {
                Ok(Stepped::Done) => done = disk.is_on(),
                Ok(_) if disk.is_on() => continue,
                _ => {}
            }
            break;
        }
    }
    crash(&disk);
    world.reopen();
    world.run_on(5);
    world.expect_all();
    let now = world.now();
    expect_nothing_left(world.store(), now);
    world.expect_all();
    !done
}

#[test]
fn a_power_cut_at_every_sync_of_a_run_loses_nothing() {
    let mut cuts = 0;
    for seed in 0..seeds(3) {
        for sync in 1.. {
            let outcome = catch_unwind(AssertUnwindSafe(|| cut_at(seed, sync)));
            let Ok(cut) = outcome else { panic!("seed {seed}, sync {sync}: see above") };
            if !cut {
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 20, "{cuts} cuts: a run that hardly syncs proves nothing");
}

#[test]
fn a_damaged_node_keeps_everything() {
    let mut stopped = 0;
    for seed in 0..seeds(8) {
        let disk = SimDisk::new(seed);
        let mut world = World::new(disk.clone(), seed).expect("a sound disk");
        world.run(40);
        for _ in 0..3 {
            world.write_again("main").expect("a sound disk");
            world.snapshot("main");
            world.drain().expect("a sound disk");
        }
        world.delete_snapshot();
        let now = world.now();
        world.store().close(now).expect("a sound disk");
        let mut nodes = Vec::new();
        world.store().pool().for_each_slot(|id, slot| {
            if slot.kind.is_node() {
                nodes.push((format!("containers/00/{id}.node"), u64::from(slot.offset) + 80 + 10));
            }
        });
        world.store = None;
        // One that a walk comes to, whichever it is.
        let one = &nodes[world.roll(nodes.len() as u64) as usize];
        let rotten = if seed % 2 == 0 { &nodes[..] } else { std::slice::from_ref(one) };
        rotten.iter().for_each(|(path, at)| disk.rot(path, *at, 8).expect("long enough"));
        let (store, _) = open(&disk).expect("opens");
        let files = |disk: &SimDisk| disk.paths().into_iter().filter(|path| path.starts_with("containers/")).count();
        let before = files(&disk);
        let report = reclaim(&store);
        let Some(why) = &report.stopped else {
            assert!(rotten.len() == 1, "every node is damaged: {report:?}");
            continue;
        };
        assert!(why.contains("containers/") && files(&disk) >= before, "{report:?}");
        assert_eq!((report.nodes_freed, report.containers_removed, report.freed_bytes), (0, 0, 0), "{report:?}");
        stopped += 1;
    }
    assert!(stopped > 0);
}

#[test]
fn what_is_deleted_gives_its_room_back_and_the_counts_agree_with_the_disk() {
    let (disk, store, tree) = with_share(1);
    let bytes = |disk: &SimDisk| -> u64 {
        let containers = disk.paths().into_iter().filter(|path| path.starts_with("containers/"));
        containers.map(|path| disk.contents(&path).expect("a file").len() as u64).sum()
    };
    let kept = create(&*tree, narrowboat_storage::units::Inode::ROOT, "kept", 2);
    write(&*tree, kept, 0, &noise(7, 2 << 20), 3);
    commit(&*tree, kept).expect("a sound disk");
    store.close(Timestamp(4)).expect("a sound disk");
    let alone = bytes(&disk);
    let gone = create(&*tree, narrowboat_storage::units::Inode::ROOT, "gone", 5);
    write(&*tree, gone, 0, &noise(8, 16 << 20), 6);
    commit(&*tree, gone).expect("a sound disk");
    store.create_snapshot("share", "s", Timestamp(7)).expect("room");
    store.close(Timestamp(8)).expect("a sound disk");
    let removed = tree.remove(&at(9), narrowboat_storage::units::Inode::ROOT, b"gone").expect("there");
    tree.make_stable(removed.lsn).expect("a sound disk");
    // The journal names what it has until it is trimmed.
    write(&*tree, kept, 2 << 20, &vec![1; 4 << 20], 10);
    commit(&*tree, kept).expect("a sound disk");
    store.close(Timestamp(11)).expect("a sound disk");
    reclaim(&store);
    assert!(bytes(&disk) > 16 << 20, "a snapshot has it");
    store.delete_snapshot("share", "s", Timestamp(12)).expect("not held");
    let before = bytes(&disk);
    let report = reclaim(&store);
    let after = bytes(&disk);
    assert!(before - after > 15 << 20, "{before} - {after}");
    assert!(report.freed_bytes.abs_diff(before - after) < 200_000, "{report:?}: {before} - {after}");
    assert!(report.freeable_bytes.abs_diff(before - after) < 400_000, "{report:?}: {before} - {after}");
    assert!(after < alone + (1 << 20), "{after}, {alone}");
    let pool = store.stats().expect("readable").pool;
    let counted = pool.stored_bytes + 80 * pool.objects;
    assert!(counted <= after && counted * 100 >= after * 95, "{counted} of {after}");
    assert_eq!(pool.containers, disk.paths().iter().filter(|path| path.starts_with("containers/")).count() as u64);
    assert!(read(&*tree, kept)[..2 << 20] == noise(7, 2 << 20)[..]);
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}

/// Makes and deletes the same few contents again and again, so that what one lets go of another one writes.
fn churn(store: &Store, writer: u64, rounds: u64) {
    let name = format!("churn-{writer}");
    let share = store.create_share(&name, narrowboat_storage::catalogue::Policy::Inline, Timestamp(2)).expect("room");
    let tree = store.tree(share.row.id).expect("there");
    let root = narrowboat_storage::units::Inode::ROOT;
    for round in 0..rounds {
        let (label, data) = (format!("f{round}"), noise((writer + round) % 3, 700_000));
        let file = create(&*tree, root, &label, 3);
        write(&*tree, file, 0, &data, 3);
        commit(&*tree, file).expect("a sound disk");
        store.create_snapshot(&name, &label, Timestamp(4)).expect("room");
        assert!(read(&*tree, file) == data, "{name}/{label} has other bytes");
        tree.remove(&at(5), root, label.as_bytes()).expect("there");
        let row = store.snapshot_named(&name, &label).expect("there");
        let held = store.snapshot_tree(row.id).expect("can be sealed");
        store.delete_snapshot(&name, &label, Timestamp(6)).expect("not held");
        // Whoever has it open reads it on.
        assert!(read(&*held, file) == data, "{name}@{label} has other bytes");
    }
}

#[test]
fn threads_write_read_and_delete_beside_runs() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let (_disk, store, tree) = with_share(1);
    let kept = create(&*tree, narrowboat_storage::units::Inode::ROOT, "kept", 2);
    let data = noise(1, 900_000);
    write(&*tree, kept, 0, &data, 3);
    commit(&*tree, kept).expect("a sound disk");
    let volume = store.create_volume("disk", 8 << 20, narrowboat_storage::catalogue::Policy::Inline, Timestamp(1));
    let volume = store.volume(volume.expect("room").row.id).expect("there");
    let stop = AtomicBool::new(false);
    let (runs, freed) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                store.wait_for_work(std::time::Duration::from_millis(5));
                while store.drain_step(Timestamp(5)).expect("room") {}
            }
        });
        let reclaimer = scope.spawn(|| {
            let (mut runs, mut freed) = (0, 0);
            while !stop.load(Ordering::Acquire) {
                let mut run = store.reclaim().expect("no other run");
                while run.step(&store, Timestamp(5)).expect("a sound disk") != Stepped::Done {
                    std::thread::yield_now();
                }
                assert_eq!(run.report().stopped, None);
                (runs, freed) = (runs + 1, freed + run.report().freed_bytes);
            }
            (runs, freed)
        });
        let reader = scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                assert!(read(&*tree, kept) == data, "what nobody touches has other bytes");
            }
        });
        let writers: Vec<_> = (0..2)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || churn(store, writer, 12))
            })
            .collect();
        for round in 0..24 {
            let bytes = noise(round % 3, 1 << 20);
            volume.write(Timestamp(5), (round % 5) << 20, bytes.clone().into()).expect("room");
            let found: Vec<u8> = volume.read((round % 5) << 20, 1 << 20).expect("readable").concat();
            assert!(found == bytes, "round {round}: the volume has other bytes");
        }
        writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
        stop.store(true, Ordering::Release);
        reader.join().expect("no panic");
        reclaimer.join().expect("no panic")
    });
    assert!(runs > 0 && freed > 0, "{runs} runs, {freed} bytes");
    expect_nothing_left(&store, Timestamp(9));
    assert!(read(&*tree, kept) == data);
    assert!(store.check(true, &mut |_| true).expect("a sound machine").is_sound());
}
