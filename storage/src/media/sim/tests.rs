//! The simulated disk keeps what it must, and loses whatever else it may.

use std::collections::BTreeSet;

use super::*;

const SEEDS: u64 = 400;

fn write(file: &Arc<dyn MediaFile>, bytes: &[u8], offset: u64) {
    file.write_at(&[IoSlice::new(bytes)], offset).unwrap();
}

/// A disk with one safe file `a` of `len` bytes of value 1.
fn disk_with_file(seed: u64, len: usize) -> (SimDisk, Arc<dyn MediaFile>) {
    let disk = SimDisk::new(seed);
    let file = disk.create("a").unwrap();
    write(&file, &vec![1; len], 0);
    file.sync().unwrap();
    disk.sync_dir("").unwrap();
    (disk, file)
}

#[test]
fn unsynced_sectors_end_in_any_state_they_had_and_synced_ones_stay() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 2048);
        write(&file, &[2; 1024], 512); // sectors 1 and 2
        write(&file, &[3; 512], 512); // sector 1 again
        disk.power_cut();
        let bytes = disk.contents("a").unwrap();
        assert_eq!(bytes.len(), 2048);
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(bytes.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])), "torn inside a sector");
        assert_eq!((sectors[0], sectors[3]), (1, 1), "safe sectors were harmed");
        seen.insert((sectors[1], sectors[2]));
    }
    // Sector 1 was 1, 2, 3; sector 2 was 1, 2: all six ends occur, "later kept, earlier lost" among them.
    assert_eq!(seen, BTreeSet::from([(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (3, 2)]));
}

#[test]
fn an_unsynced_length_is_kept_or_lost_and_a_kept_cut_forgets() {
    let mut lengths = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 2048);
        file.set_len(600).unwrap();
        file.set_len(1500).unwrap();
        disk.power_cut();
        let bytes = disk.contents("a").unwrap();
        assert!(bytes[..600].iter().all(|byte| *byte == 1));
        match bytes.len() {
            600 => {}
            1500 => assert!(bytes[600..].iter().all(|byte| *byte == 0), "a cut brought bytes back"),
            2048 => assert!(bytes.iter().all(|byte| *byte == 1)),
            other => panic!("a length that never was: {other}"),
        }
        lengths.insert(bytes.len());
    }
    assert_eq!(lengths, BTreeSet::from([600, 1500, 2048]));
}

#[test]
fn names_are_kept_or_lost_and_renames_are_atomic() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let (disk, _) = disk_with_file(seed, 1);
        disk.create_dir_all("folder").unwrap();
        let new = disk.create("folder/new").unwrap();
        write(&new, &[9], 0);
        new.sync().unwrap();
        disk.rename("folder/new", "a").unwrap();
        disk.create("b").unwrap();
        disk.power_cut();
        assert_eq!(disk.list("folder").unwrap().len(), disk.paths().iter().filter(|path| path.contains('/')).count());
        let a = disk.contents("a").unwrap();
        assert!(a == [1] || a == [9], "the target of a rename vanished");
        seen.insert(disk.paths().join(" "));
    }
    assert_eq!(seen, ["a", "a b", "a b folder/new", "a folder/new"].map(String::from).into());
}

#[test]
fn what_a_folder_sync_made_safe_is_there_once() {
    for seed in 0..SEEDS {
        let disk = SimDisk::new(seed);
        disk.create_dir_all("from").unwrap();
        disk.create_dir_all("to").unwrap();
        disk.create("from/x").unwrap().sync().unwrap();
        disk.rename("from/x", "to/x").unwrap();
        disk.sync_dir("to").unwrap();
        disk.power_cut();
        assert_eq!(disk.paths(), ["to/x"]);
        disk.remove("to/x").unwrap();
        disk.sync_dir("to").unwrap();
        disk.power_cut();
        assert!(disk.paths().is_empty());
        assert!(disk.list("from").unwrap().is_empty() && disk.list("to").unwrap().is_empty());
        assert_eq!(disk.list("").unwrap(), ["from/", "to/"]);
    }
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 512);
        disk.fail_sync_at(disk.syncs() + 1);
        write(&file, &[2; 512], 0);
        assert!(file.sync().is_err());
        let mut seen = [0];
        assert_eq!(file.read_at(&mut seen, 0).unwrap(), 1);
        assert_eq!(seen, [2], "the program goes on seeing what it wrote");
        file.sync().unwrap();
        disk.power_cut();
        lost += u64::from(disk.contents("a").unwrap() == [1; 512]);
    }
    assert!(lost > SEEDS / 10 && lost < SEEDS * 9 / 10, "{lost} of {SEEDS}");
}

#[test]
fn a_planned_cut_lasts_until_power_on_and_kills_handles() {
    let mut kept = 0;
    for seed in 0..SEEDS {
        let (disk, file) = disk_with_file(seed, 512);
        disk.cut_power_at_sync(disk.syncs() + 1);
        write(&file, &[2; 512], 0);
        assert!(file.sync().is_err());
        assert!(!disk.is_on() && disk.open("a").is_err() && disk.list("").is_err() && disk.create("c").is_err());
        disk.power_on();
        assert!(file.len().is_err() && file.sync().is_err() && file.read_at(&mut [0], 0).is_err());
        disk.open("a").unwrap().sync().unwrap();
        kept += u64::from(disk.contents("a").unwrap() == [2; 512]);
    }
    assert!(kept > SEEDS / 10 && kept < SEEDS * 9 / 10, "{kept} of {SEEDS}");
}

#[test]
fn a_full_disk_takes_what_fits_and_reserved_room_is_there() {
    let (disk, file) = disk_with_file(1, 4096);
    file.reserve(4 * 4096).unwrap();
    assert_eq!((file.len().unwrap(), disk.used()), (4 * 4096, 4 * 4096));
    disk.fill(4096);
    assert_eq!(disk.space().unwrap().free_bytes, 4096);
    assert_eq!(file.reserve(6 * 4096).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 4 * 4096);
    write(&file, &[7; 3 * 4096], 4096); // reserved
    let error = file.write_at(&[IoSlice::new(&[8; 8192])], 4 * 4096).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.len().unwrap(), 5 * 4096, "what fitted was written");
    file.set_len(0).unwrap();
    assert_eq!(disk.used(), 0);
    // Removed, but open: the room comes back with the handle.
    write(&file, &[1; 4096], 0);
    disk.remove("a").unwrap();
    assert_eq!(disk.used(), 4096);
    drop(file);
    assert_eq!(disk.used(), 0);
}

#[test]
fn damage_is_done_where_it_is_asked_for() {
    let (disk, file) = disk_with_file(1, 1000);
    disk.rot("a", 10, 0x81).unwrap();
    disk.rot("a", 5000, 0xFF).unwrap();
    disk.overwrite("a", 20, &[5, 6]).unwrap();
    disk.truncate("a", 30).unwrap();
    disk.power_cut();
    let bytes = disk.contents("a").unwrap();
    assert_eq!((bytes.len(), bytes[10], bytes[11], bytes[20], bytes[21]), (30, 0x80, 1, 5, 6));
    drop(file);
    let file = disk.open("a").unwrap();
    disk.fail_reads("a", 8..9).unwrap();
    assert!(file.read_at(&mut [0; 9], 0).is_err());
    assert_eq!(file.read_at(&mut [0; 8], 0).unwrap(), 8);
    assert_eq!(file.read_at(&mut [0; 8], 9).unwrap(), 8);
    disk.lose("a").unwrap();
    disk.power_cut();
    assert!(disk.paths().is_empty());
}

#[test]
fn one_seed_is_one_world_and_a_fork_is_another() {
    let run = |seed| {
        let (disk, file) = disk_with_file(seed, 8192);
        write(&file, &[2; 8192], 0);
        let fork = disk.fork(seed + 1);
        disk.power_cut();
        fork.power_cut();
        (disk.contents("a").unwrap(), fork.contents("a").unwrap())
    };
    assert_eq!(run(5), run(5));
    assert!((0..20).any(|seed| run(seed).0 != run(seed).1));
}

#[test]
fn a_lying_disk_loses_what_it_said_was_safe() {
    let disk = SimDisk::new(3);
    disk.ignore_syncs();
    let lost = (0..50).any(|i| {
        let name = format!("f{i}");
        let file = disk.create(&name).unwrap();
        file.sync().unwrap();
        disk.sync_dir("").unwrap();
        disk.power_cut();
        disk.open(&name).is_err()
    });
    assert!(lost);
}
