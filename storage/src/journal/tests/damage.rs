//! Every harm to every file: the records come back as they were, or the damage is named, or a tail that nothing vouched
//! for is cut. Never a wrong record.

use rand::SeedableRng;

use super::*;
use crate::error::Error;

/// A disk with a journal of a few segments, and its records. With `vouched`, nothing in it is unproven.
fn disk_with_journal(vouched: bool) -> (SimDisk, Vec<Record>) {
    let disk = SimDisk::new(1);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(5);
    let (journal, _) = open(&disk).unwrap();
    let mut appended = Vec::new();
    while journal.disk_bytes() < 3 * (8 << 10) {
        for time in 0..4 {
            appended.push(Draft::random(&mut rng, time).append(&journal).unwrap());
        }
        journal.commit(journal.last(), NO_REFERENCES).unwrap();
    }
    if vouched {
        journal.vouch(NO_REFERENCES).unwrap();
    }
    drop(journal);
    disk.power_cut();
    (disk, appended)
}

/// What a reader gets: how many records, all of them right; or a named error.
fn outcome(disk: &SimDisk, appended: &[Record]) -> Result<usize> {
    let (journal, _) = open(disk)?;
    let found = records(&journal, Lsn(0))?;
    journal.verify()?;
    assert!(found.len() <= appended.len() && found == appended[..found.len()], "wrong records");
    Ok(found.len())
}

fn named(error: &Error) -> bool {
    matches!(error, Error::Damage(_) | Error::Refused(Refusal::Unsupported(_)))
}

/// Flips one bit in every byte of every file.
fn flip_everywhere(disk: &SimDisk, mut judge: impl FnMut(&str, u64, &SimDisk)) {
    for path in disk.paths() {
        let contents = disk.contents(&path).unwrap();
        for offset in (0..).zip(&contents).filter(|(at, byte)| **byte != 0 || at % 16 == 0).map(|(at, _)| at) {
            let fork = disk.fork(offset);
            fork.rot(&path, offset, 1 << (offset % 8)).unwrap();
            judge(&path, offset, &fork);
        }
    }
}

#[test]
fn with_a_voucher_at_the_end_no_flipped_bit_costs_a_record_in_silence() {
    let (disk, appended) = disk_with_journal(true);
    let (mut harmless, mut told) = (0, 0);
    flip_everywhere(&disk, |path, offset, fork| match outcome(fork, &appended) {
        Ok(found) => {
            assert_eq!(found, appended.len(), "{path} {offset}: records vanished");
            harmless += 1;
        }
        Err(error) => {
            assert!(named(&error), "{path} {offset}: {error}");
            told += 1;
        }
    });
    // Zeros behind the records of a segment, and between them, are all that may change unseen.
    assert!(told > 8_000 && harmless > 50, "{told} told, {harmless} harmless");
}

#[test]
fn without_a_voucher_only_the_last_batch_can_be_cut() {
    let (disk, appended) = disk_with_journal(false);
    let mut cut = 0;
    flip_everywhere(&disk, |path, offset, fork| match outcome(fork, &appended) {
        Ok(found) => {
            assert!(found >= appended.len() - 4, "{path} {offset}: {found} of {}", appended.len());
            cut += u32::from(found < appended.len());
        }
        Err(error) => assert!(named(&error), "{path} {offset}: {error}"),
    });
    assert!(cut > 0, "the unproven batch should be what a torn tail looks like");
}

#[test]
fn opening_leaves_a_voucher_so_the_last_batch_is_unproven_only_once() {
    let (disk, appended) = disk_with_journal(false);
    assert_eq!(outcome(&disk, &appended).unwrap(), appended.len());
    let last = appended.iter().rev().find_map(|record| record.place).unwrap();
    let before = open(&disk).unwrap().1.last;
    assert_eq!(open(&disk).unwrap().1.last, before, "one voucher is enough");
    disk.rot(&segment::path(last.segment), last.offset, 1).unwrap();
    assert!(matches!(outcome(&disk, &appended), Err(Error::Damage(_))));
}

#[test]
fn what_others_prove_to_be_safe_is_not_cut() {
    let (disk, appended) = disk_with_journal(false);
    let last = appended.last().unwrap();
    let place = appended.iter().rev().find_map(|record| record.place).unwrap();
    disk.rot(&segment::path(place.segment), place.offset, 1).unwrap();
    let with = |known_stable| {
        let options = JournalOptions { known_stable, ..options(8 << 10) };
        Journal::open(Arc::new(disk.fork(1)), STORE, options)
    };
    assert!(matches!(with(last.lsn), Err(Error::Damage(_))));
    assert!(with(Lsn(appended.len() as u64 - 4)).is_ok_and(|(_, recovery)| recovery.torn.is_some()));
}

#[test]
fn overwritten_stretches_are_told_or_harmless() {
    let (disk, appended) = disk_with_journal(true);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(9);
    let paths = disk.paths();
    for seed in 0..seeds(2000) {
        let fork = disk.fork(seed);
        let path = &paths[rng.random_range(0..paths.len())];
        let mut garbage = vec![0; rng.random_range(1..700)];
        if seed % 2 == 0 {
            rng.fill_bytes(&mut garbage);
        }
        fork.overwrite(path, rng.random_range(0..7400), &garbage).unwrap();
        match outcome(&fork, &appended) {
            // A stretch that takes the last record and its voucher is what a torn tail looks like.
            Ok(found) => assert!(found >= appended.len() - 4, "seed {seed}: {found}"),
            Err(error) => assert!(named(&error), "seed {seed}: {error}"),
        }
    }
}

#[test]
fn lost_cut_and_exchanged_segments_are_damage() {
    let (disk, appended) = disk_with_journal(true);
    let paths: Vec<String> = disk.paths().into_iter().filter(|path| path.ends_with(".journal")).collect();
    assert_eq!(paths.len(), 3);
    let damaged = |what: &str, harm: &dyn Fn(&SimDisk)| {
        let fork = disk.fork(1);
        harm(&fork);
        let outcome = outcome(&fork, &appended);
        assert!(matches!(outcome, Err(Error::Damage(_))), "{what}: {outcome:?}");
    };
    damaged("the first is lost", &|disk| disk.lose(&paths[0]).unwrap());
    damaged("one in the middle is lost", &|disk| disk.lose(&paths[1]).unwrap());
    for (index, path) in paths.iter().enumerate() {
        for len in [0, 100, 512, 513, 600, 8191] {
            damaged("cut", &|disk| disk.truncate(path, len).unwrap());
        }
        let other = disk.contents(&paths[(index + 1) % 3]).unwrap();
        damaged("exchanged", &|disk| disk.overwrite(path, 0, &other).unwrap());
        // Without any of its records the newest is like one just begun: only what others know tells.
        if index < 2 {
            let behind_header = &other[512..];
            damaged("records of another segment", &|disk| disk.overwrite(path, 512, behind_header).unwrap());
        }
    }
    let other_store = Journal::open(Arc::new(disk.fork(1)), StoreId([0; 16]), options(8 << 10));
    assert!(matches!(other_store, Err(Error::Damage(_))));
}

#[test]
fn a_place_that_cannot_be_read_is_neither_damage_nor_a_torn_tail() {
    let (disk, appended) = disk_with_journal(true);
    let newest = disk.paths().into_iter().rev().find(|path| path.ends_with(".journal")).unwrap();
    disk.fail_reads(&newest, 700..701).unwrap();
    let before = disk.contents(&newest).unwrap();
    assert!(matches!(outcome(&disk, &appended), Err(Error::Environment(Environment::Io { .. }))));
    assert_eq!(disk.contents(&newest).unwrap(), before, "nothing was cut");
}

/// A record of a tail that was cut must not come back when what went before it is appended once more, byte for byte.
#[test]
fn a_tail_that_was_cut_never_continues_the_journal() {
    let disk = SimDisk::new(1);
    let path = segment::path(Lsn(1));
    let (journal, _) = open(&disk).unwrap();
    append(&journal, "first");
    append(&journal, "second");
    journal.commit(Lsn(2), NO_REFERENCES).unwrap();
    drop(journal);
    disk.overwrite(&path, 512, &[0; 72]).unwrap();
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!((recovery.last, recovery.torn.map(|torn| torn.offset)), (Lsn(0), Some(512)));
    append(&journal, "first");
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    drop(journal);
    assert_eq!(records(&open(&disk).unwrap().0, Lsn(0)).unwrap().len(), 1);
}

/// A segment that is sound in itself, from another copy of the store that took another way, is not this journal's.
#[test]
fn a_segment_of_another_history_is_damage() {
    let history = |byte: u8| {
        let disk = SimDisk::new(1);
        let (journal, _) = open(&disk).unwrap();
        for number in 0..20 {
            append(&journal, vec![if number < 3 { byte } else { 0 }; 1000]);
            journal.commit(journal.last(), NO_REFERENCES).unwrap();
        }
        journal.vouch(NO_REFERENCES).unwrap();
        disk
    };
    let (disk, other) = (history(1), history(2));
    let paths: Vec<String> = disk.paths().into_iter().filter(|path| path.ends_with(".journal")).collect();
    assert_eq!(paths.len(), 3);
    for path in &paths[1..] {
        let mixed = disk.fork(1);
        mixed.overwrite(path, 0, &other.contents(path).unwrap()).unwrap();
        let (journal, _) = open(&mixed).unwrap();
        let found = records(&journal, Lsn(0));
        assert!(matches!(found, Err(Error::Damage(_))), "{path}");
    }
}

/// A header that is sound in itself, right behind the first record of a journal.
fn forged(salt: u64, link: u32) -> [u8; 72] {
    let header = format::RecordHeader {
        link,
        payload_len: 0,
        head_len: 0,
        kind: 1,
        lsn: Lsn(2),
        time: Timestamp(1),
        stable: Lsn(1),
        salt,
        dataset: DATASET,
        head_crc: 0,
        payload_crc: 0,
    };
    header.encode().0
}

/// The salt of the first segment of a test's journal.
fn first_salt() -> u64 {
    SegmentHeader::new(STORE, Lsn(1), Timestamp(0), 0, 8 << 10).salt
}

#[test]
fn a_record_is_taken_only_with_the_salt_and_the_link() {
    let disk = SimDisk::new(1);
    let path = segment::path(Lsn(1));
    let (journal, _) = open(&disk).unwrap();
    append(&journal, "");
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    drop(journal);
    let first = disk.contents(&path).unwrap();
    let (_, link) = format::RecordHeader::decode(&first[512..]).unwrap();
    for (salt, link, taken) in
        [(0, 0, true), (1, 0, false), (0, 1, false)].map(|(s, l, t)| (first_salt() ^ s, link ^ l, t))
    {
        let disk = disk.fork(1);
        disk.overwrite(&path, 512 + 80, &forged(salt, link)).unwrap();
        let (journal, _) = open(&disk).unwrap();
        assert_eq!(records(&journal, Lsn(0)).unwrap().len(), if taken { 2 } else { 1 });
    }
}

/// A client that writes what looks like a record cannot make a torn tail look like damage: it does not know the salt.
#[test]
fn a_payload_that_looks_like_a_record_vouches_for_nothing() {
    for (salt, taken) in [(first_salt() ^ 1, false), (first_salt(), true)] {
        let disk = SimDisk::new(1);
        let (journal, _) = open(&disk).unwrap();
        // The head is 4 bytes, so that the forgery lies where a record could begin.
        append(&journal, [&[0; 4], forged(salt, 0).as_slice()].concat());
        journal.commit(Lsn(1), NO_REFERENCES).unwrap();
        drop(journal);
        // The header of the record was torn away, its payload was not.
        disk.overwrite(&segment::path(Lsn(1)), 512, &[0; 72]).unwrap();
        assert_eq!(open(&disk).is_err(), taken);
    }
}
