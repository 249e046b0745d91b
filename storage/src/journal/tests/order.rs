//! Order, time, groups of commits, reading back and trimming.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use rand::SeedableRng;

use super::odd::OddMedia;
use super::*;
use crate::media::Tally;

#[test]
fn what_is_replayed_is_what_was_appended() {
    let disk = SimDisk::new(1);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut appended = Vec::new();
    let open = || Journal::open(Arc::new(disk.clone()), STORE, options(32 << 10)).unwrap();
    let (journal, recovery) = open();
    assert_eq!(recovery, Recovery { created: true, first: Lsn(1), segments: 1, ..Recovery::default() });
    for time in 0..200 {
        let record = Draft::random(&mut rng, time).append(&journal).unwrap();
        appended.push(record);
        if time % 3 == 0 {
            journal.commit(journal.last(), NO_REFERENCES).unwrap();
        }
    }
    assert_eq!(records(&journal, Lsn(0)).unwrap(), appended[..199], "the last one is not safe yet");
    journal.commit(journal.last(), NO_REFERENCES).unwrap();
    journal.verify().unwrap();
    drop(journal);
    let (journal, recovery) = open();
    assert_eq!((recovery.created, recovery.last, recovery.torn), (false, Lsn(200), None));
    assert!(recovery.segments > 2);
    for after in [0, 1, 57, 199, 200] {
        assert_eq!(records(&journal, Lsn(after)).unwrap(), appended[after as usize..]);
    }
    for record in &appended {
        if let Some(place) = &record.place {
            assert_eq!(journal.read(place).unwrap(), record.payload);
        }
    }
    let visits = journal.replay(Lsn(0), &mut |_| Err(Refusal::Busy.into()));
    assert!(visits.is_err());
}

#[test]
fn a_journal_lives_in_a_real_folder() {
    let dir = tempfile::tempdir().unwrap();
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(3);
    let mut appended = Vec::new();
    for life in 0..3 {
        let media = crate::media::FileMedia::open(dir.path()).unwrap();
        let (journal, recovery) = Journal::open(Arc::new(media), STORE, options(64 << 10)).unwrap();
        assert_eq!((recovery.created, recovery.torn), (life == 0, None));
        assert_eq!(records(&journal, Lsn(0)).unwrap(), appended);
        for time in 0..200 {
            appended.push(Draft::random(&mut rng, time).append(&journal).unwrap());
            if time % 5 == 0 {
                journal.commit(journal.last(), NO_REFERENCES).unwrap();
            }
        }
        journal.commit(journal.last(), NO_REFERENCES).unwrap();
        journal.verify().unwrap();
    }
}

#[test]
fn appending_touches_no_disk_and_the_payload_can_be_read_at_once() {
    let tally = Tally::new(Arc::new(SimDisk::new(1)));
    let (journal, _) = Journal::open(Arc::new(tally.clone()), STORE, options(1 << 20)).unwrap();
    let before = tally.total();
    let big = Bytes::from(vec![7; 100_000]);
    let done =
        journal.append(Timestamp(1), DATASET, 1, Bytes::new(), vec![big.clone(), Bytes::from_static(b"!")]).unwrap();
    assert_eq!(tally.total(), before);
    let place = done.place.unwrap();
    assert_eq!(journal.read(&place).unwrap(), [big.as_ref(), b"!"].concat());
    let alone = append(&journal, big.clone()).place.unwrap();
    assert_eq!(journal.read(&alone).unwrap().as_ptr(), big.as_ptr(), "copied");
    journal.commit(journal.last(), NO_REFERENCES).unwrap();
    let spent = tally.total() - before;
    assert_eq!((spent.writes, spent.syncs, spent.dir_syncs), (1, 1, 0));
    assert_eq!(journal.read(&place).unwrap(), [big.as_ref(), b"!"].concat());
    assert_eq!((journal.unsafe_bytes(), journal.stable()), (0, Lsn(2)));
}

#[test]
fn those_who_wait_share_one_sync() {
    const WAITING: usize = 15;
    let tally = Tally::new(Arc::new(SimDisk::new(1)));
    let (journal, _) = Journal::open(Arc::new(tally.clone()), STORE, options(1 << 20)).unwrap();
    let first = append(&journal, "first").lsn;
    let before = tally.total();
    let appended = AtomicUsize::new(0);
    let waiting = || {
        let lsn = append(&journal, "later").lsn;
        appended.fetch_add(1, Ordering::SeqCst);
        journal.commit(lsn, NO_REFERENCES).unwrap();
    };
    thread::scope(|scope| {
        let hold_until_all_wait = || {
            if appended.load(Ordering::SeqCst) > 0 {
                return Ok(()); // It is called again before the sync.
            }
            for _ in 0..WAITING {
                scope.spawn(waiting);
            }
            while appended.load(Ordering::SeqCst) < WAITING {
                thread::yield_now();
            }
            Ok(())
        };
        journal.commit(first, &hold_until_all_wait).unwrap();
    });
    let spent = tally.total() - before;
    assert_eq!(spent.writes, 2);
    assert!(spent.syncs <= 2, "the second batch is written beside the first one's sync, or before it");
    assert_eq!(records(&journal, Lsn(0)).unwrap().len(), 1 + WAITING);
}

#[test]
fn what_is_written_out_outlives_the_process_and_costs_no_sync() {
    let disk = SimDisk::new(1);
    let tally = Tally::new(Arc::new(disk.clone()));
    let (journal, _) = Journal::open(Arc::new(tally.clone()), STORE, options(8 << 10)).unwrap();
    let first = append(&journal, "kept");
    journal.commit(first.lsn, NO_REFERENCES).unwrap();
    let before = tally.total();
    let second = append(&journal, vec![2; 500]);
    let third = append(&journal, vec![3; 500]);
    for lsn in [second.lsn, third.lsn] {
        journal.write_out(lsn, &|_| Ok(())).unwrap();
    }
    let spent = tally.total() - before;
    assert_eq!((spent.writes, spent.syncs, spent.dir_syncs), (1, 0, 0));
    assert_eq!((journal.stable(), journal.unsafe_bytes() > 1000), (first.lsn, true), "a power cut may take it");
    append(&journal, "in memory alone");
    drop(journal);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!((recovery.last, recovery.torn), (third.lsn, None));
    assert_eq!(journal.read(&third.place.unwrap()).unwrap(), vec![3; 500]);
    disk.power_cut();
    drop(journal);
    let (journal, _) = open(&disk).unwrap();
    assert!(journal.last() >= third.lsn, "what recovery has found is safe");
}

#[test]
fn a_sync_does_not_hold_up_who_only_writes_out() {
    let disk = SimDisk::new(1);
    let armed = Arc::new(AtomicBool::new(false));
    let turns = Arc::new([Barrier::new(2), Barrier::new(2)]);
    let (trap, gates) = (armed.clone(), turns.clone());
    let before_sync = Arc::new(move || {
        if trap.swap(false, Ordering::SeqCst) {
            for gate in gates.iter() {
                gate.wait();
            }
        }
    });
    let media = OddMedia { before_sync, ..OddMedia::on(&disk) };
    let (journal, _) = Journal::open(Arc::new(media), STORE, options(1 << 20)).unwrap();
    let first = append(&journal, "to be synced");
    armed.store(true, Ordering::SeqCst);
    thread::scope(|scope| {
        let committed = scope.spawn(|| journal.commit(first.lsn, NO_REFERENCES));
        turns[0].wait();
        let second = append(&journal, "meanwhile");
        journal.write_out(second.lsn, &|_| Ok(())).unwrap();
        assert_eq!(journal.stable(), Lsn(0));
        turns[1].wait();
        committed.join().unwrap().unwrap();
    });
    assert_eq!(journal.stable(), first.lsn, "the sync covers what was written when it began");
    drop(journal);
    assert_eq!(records(&open(&disk).unwrap().0, Lsn(0)).unwrap().len(), 2);
}

/// Who writes out promises nothing of what his records refer to; so whoever says that they are safe, a voucher too, must see
/// to that first, for all records that his sync happens to cover.
#[test]
fn no_record_is_safe_before_what_it_refers_to() {
    let disk = SimDisk::new(1);
    let (journal, _) = Journal::open(Arc::new(disk.clone()), STORE, options(64 << 10)).unwrap();
    // What records refer to is numbered in order: so many exist, and so many are safe.
    let (exist, safe) = (AtomicU64::new(0), AtomicU64::new(0));
    let safe_first = || {
        let covered = exist.load(Ordering::SeqCst);
        thread::yield_now();
        safe.fetch_max(covered, Ordering::SeqCst);
        Ok(())
    };
    journal.commit(append(&journal, "first").lsn, &safe_first).unwrap();
    exist.store(1, Ordering::SeqCst);
    journal.vouch(&safe_first).unwrap();
    assert_eq!(safe.load(Ordering::SeqCst), 1, "a voucher's sync may cover what others have written out meanwhile");
    let referred = Mutex::new(BTreeMap::new());
    let look = || {
        let stable = journal.stable();
        let safe = safe.load(Ordering::SeqCst);
        let last = referred.lock().unwrap().range(..=stable).next_back().map(|(lsn, number)| (*lsn, *number));
        assert!(last.is_none_or(|(_, number)| number <= safe), "{last:?} is said to be safe, and {safe} are");
    };
    let write = || {
        for turn in 0..seeds(1_000) {
            let number = exist.fetch_add(1, Ordering::SeqCst) + 1;
            let mut referred = referred.lock().unwrap();
            let lsn = append(&journal, "refers").lsn;
            referred.insert(lsn, number);
            drop(referred);
            let before = |means| if means == Means::Safe { safe_first() } else { Ok(()) };
            journal.write_out(lsn, &before).unwrap();
            look();
            if turn % 3 == 0 {
                journal.commit(lsn, &safe_first).unwrap();
                assert!(safe.load(Ordering::SeqCst) >= number, "committed");
            }
        }
    };
    thread::scope(|scope| {
        let writing = scope.spawn(write);
        while !writing.is_finished() {
            journal.vouch(&safe_first).unwrap();
            look();
        }
    });
}

#[test]
fn many_threads_make_one_order() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    thread::scope(|scope| {
        for thread in 0..8u8 {
            let journal = &journal;
            scope.spawn(move || {
                for number in 0..100u8 {
                    let head = Bytes::copy_from_slice(&[thread, number]);
                    let lsn = loop {
                        match journal.append(Timestamp(1), DATASET, 1, head.clone(), vec![vec![number; 40].into()]) {
                            Ok(done) => break done.lsn,
                            Err(_busy) => journal.commit(journal.last(), NO_REFERENCES).unwrap(),
                        }
                    };
                    if number % 4 == 0 {
                        journal.commit(lsn, NO_REFERENCES).unwrap();
                        assert!(journal.stable() >= lsn);
                    }
                }
            });
        }
    });
    journal.commit(journal.last(), NO_REFERENCES).unwrap();
    drop(journal);
    let (journal, _) = open(&disk).unwrap();
    let all = records(&journal, Lsn(0)).unwrap();
    assert!(all.iter().zip(1..).all(|(record, lsn)| record.lsn == Lsn(lsn)));
    for thread in 0..8 {
        let numbers: Vec<u8> = all.iter().filter(|record| record.head[0] == thread).map(|r| r.head[1]).collect();
        assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
    }
}

#[test]
fn what_records_refer_to_comes_first_and_its_failure_harms_nothing() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    let first = append(&journal, "first");
    let refuse: &dyn Fn() -> Result<()> = &|| Err(Environment::Full.into());
    let syncs = disk.syncs();
    assert!(matches!(journal.commit(first.lsn, refuse), Err(crate::Error::Environment(Environment::Full))));
    assert_eq!((disk.syncs(), journal.stable()), (syncs, Lsn(0)));
    let second = append(&journal, "second");
    assert_eq!(journal.read(&first.place.unwrap()).unwrap(), "first");
    journal.commit(second.lsn, NO_REFERENCES).unwrap();
    drop(journal);
    let payloads: Vec<Bytes> =
        records(&open(&disk).unwrap().0, Lsn(0)).unwrap().into_iter().map(|record| record.payload).collect();
    assert_eq!(payloads, ["first", "second"]);
}

#[test]
fn time_never_runs_backwards_and_a_step_is_recorded() {
    let second = 1_000_000_000;
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    let at = |journal: &Journal, time: i64| {
        let done = journal.append(Timestamp(time), DATASET, 1, Bytes::new(), Vec::new()).unwrap();
        (done.lsn.0, done.time.0)
    };
    assert_eq!(at(&journal, 100 * second), (1, 100 * second));
    assert_eq!(at(&journal, 100 * second - 5), (2, 100 * second), "threads race");
    assert_eq!(journal.clock_stats(), ClockStats { clamped: 1, steps_back: 0 });
    assert_eq!(at(&journal, 50 * second), (4, 100 * second), "3 is the record of the step");
    assert_eq!(at(&journal, 51 * second), (5, 100 * second + second / 2), "one step, one record, and time goes on");
    assert_eq!(at(&journal, 101 * second), (6, 101 * second));
    assert_eq!(journal.clock_stats(), ClockStats { clamped: 3, steps_back: 1 });
    journal.commit(Lsn(6), NO_REFERENCES).unwrap();
    let numbers: Vec<u64> = records(&journal, Lsn(0)).unwrap().iter().map(|record| record.lsn.0).collect();
    assert_eq!(numbers, [1, 2, 4, 5, 6]);
    drop(journal);
    let (journal, _) = open(&disk).unwrap();
    let (_, time) = at(&journal, 10 * second);
    assert_eq!(time, 101 * second, "also over a restart");
    assert_eq!(journal.clock_stats().steps_back, 1);
    journal.verify().unwrap();
}

#[test]
fn trimming_removes_whole_segments_that_nobody_is_owed() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    let done: Vec<Appended> = (0..40)
        .map(|_| {
            let done = append(&journal, vec![9; 1000]);
            journal.commit(done.lsn, NO_REFERENCES).unwrap();
            done
        })
        .collect();
    let segments = journal.disk_bytes() / (8 << 10);
    assert_eq!(segments, 6, "seven records a segment");
    assert_eq!(journal.trim(Lsn(6)).unwrap(), 0);
    assert_eq!(journal.trim(Lsn(7)).unwrap(), 8 << 10);
    assert_eq!(journal.trim(Lsn(29)).unwrap(), 3 * (8 << 10));
    assert!(matches!(journal.read(&done[3].place.unwrap()), Err(crate::Error::Refused(Refusal::NotFound(_)))));
    assert!(matches!(records(&journal, Lsn(0)), Err(crate::Error::Damage(_))), "gone is not the same as empty");
    assert_eq!(records(&journal, Lsn(28)).unwrap().len(), 12);
    journal.verify().unwrap();

    // Nothing is owed: the newest segment goes, too, once it is worth it.
    assert_eq!(journal.trim(Lsn(40)).unwrap(), 2 * (8 << 10));
    assert_eq!((journal.disk_bytes(), journal.last(), journal.stable()), (8 << 10, Lsn(40), Lsn(40)));
    assert_eq!(journal.trim(Lsn(40)).unwrap(), 0);
    drop(journal);
    disk.power_cut();
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!((recovery.last, recovery.segments), (Lsn(40), 1));
    assert!(records(&journal, Lsn(40)).unwrap().is_empty());
    assert_eq!(append(&journal, "on").lsn, Lsn(41), "numbers are never used again");
    journal.commit(Lsn(41), NO_REFERENCES).unwrap();
    assert_eq!(records(&journal, Lsn(40)).unwrap().len(), 1);
}

#[test]
fn bytes_since_is_close_and_never_too_few() {
    let disk = SimDisk::new(1);
    let opened = || Journal::open(Arc::new(disk.clone()), STORE, options(1 << 20)).unwrap().0;
    let journal = opened();
    let record = format::record_bytes(4, 1000);
    for _ in 0..3000 {
        let done = append(&journal, vec![1; 1000]);
        if done.unsafe_bytes > 400_000 {
            journal.commit(done.lsn, NO_REFERENCES).unwrap();
        }
    }
    journal.commit(Lsn(3000), NO_REFERENCES).unwrap();
    let check = |journal: &Journal, slack: u64| {
        for lsn in [0, 1, 500, 1500, 2700, 2999, 3000] {
            let exact = (3000 - lsn) * record;
            let told = journal.bytes_since(Lsn(lsn));
            assert!((exact..=exact + slack).contains(&told), "behind {lsn}: {exact} exactly, {told} told");
        }
    };
    check(&journal, 65 << 10);
    assert_eq!(journal.bytes_since(Lsn(3000)), 0);
    drop(journal);
    check(&opened(), 1 << 20);
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let disk = SimDisk::new(1);
    let open = |segment_bytes| Journal::open(Arc::new(disk.clone()), STORE, options(segment_bytes));
    assert!(open(100).is_err() && open(u64::MAX).is_err());
    let (journal, _) = open(16 << 20).unwrap();
    let try_append = |kind: u8, head: usize, payload: usize| {
        journal.append(Timestamp(1), DATASET, kind, vec![0; head].into(), vec![vec![0; payload].into()])
    };
    assert!(try_append(0, 0, 0).is_err());
    assert!(try_append(1, HEAD_BYTES_MAX + 1, 0).is_err());
    assert!(try_append(1, 0, PAYLOAD_BYTES_MAX + 1).is_err());
    assert!(journal.commit(Lsn(1), NO_REFERENCES).is_err(), "not appended yet");
    assert_eq!(try_append(1, HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX).unwrap().lsn, Lsn(1));
    assert!(matches!(try_append(1, HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX), Err(crate::Error::Refused(Refusal::Busy))));
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    assert_eq!(records(&journal, Lsn(0)).unwrap()[0].payload.len(), PAYLOAD_BYTES_MAX);
    let forged = Place { segment: Lsn(1), offset: u64::MAX - 5, len: u32::MAX, crc: 0 };
    assert!(journal.read(&forged).is_err());
    assert!(journal.read(&Place { len: 100, ..forged }).is_err());
}
