//! Power cuts at every sync, kills, and syncs that fail: every committed record is there, and nothing that was not
//! appended.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;

use super::*;

/// What a run of the workload knows: the records it appended and are kept, and how far it may rely on them.
#[derive(Default)]
struct Model {
    records: Vec<Record>,
    committed: Lsn,
    /// What outlives the process.
    written: Lsn,
    trimmed: Lsn,
    clock: i64,
}

impl Model {
    /// Opens, checks what is there against the model, and goes on for some steps or until something fails. False where
    /// opening found a loss.
    fn live(&mut self, disk: &SimDisk, rng: &mut Xoshiro256PlusPlus, steps: u32) -> Result<(), String> {
        let (journal, _) = match open(disk) {
            Ok(opened) => opened,
            Err(_) if !disk.is_on() => return Ok(()),
            Err(error) => return Err(format!("opening: {error}")),
        };
        let found = match records(&journal, self.trimmed) {
            Ok(found) => found,
            Err(_) if !disk.is_on() => return Ok(()),
            Err(error) => return Err(format!("replaying: {error}")),
        };
        self.compare(&found)?;
        let last_committed = self.records.iter().rev().find(|record| record.lsn <= self.committed);
        if last_committed.is_some_and(|record| found.last().is_none_or(|last| last.lsn < record.lsn)) {
            return Err(format!("committed up to {}, found {:?}", self.committed, found.last().map(|last| last.lsn)));
        }
        self.records = found;
        self.committed = journal.stable();
        self.written = journal.stable();
        for _ in 0..steps {
            if self.step(&journal, rng).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn compare(&self, found: &[Record]) -> Result<(), String> {
        if found.len() > self.records.len() {
            return Err(format!("{} records found, {} appended", found.len(), self.records.len()));
        }
        match found.iter().zip(&self.records).find(|(found, appended)| found != appended) {
            Some((found, appended)) => Err(format!("found {found:?} instead of {appended:?}")),
            None => Ok(()),
        }
    }

    fn step(&mut self, journal: &Journal, rng: &mut Xoshiro256PlusPlus) -> Result<()> {
        match rng.random_range(0..20u8) {
            0..13 => {
                self.clock += rng.random_range(-1_500_000_000..3_000_000_000i64);
                match Draft::random(rng, self.clock).append(journal) {
                    Ok(record) => self.records.push(record),
                    Err(crate::Error::Refused(Refusal::Busy)) => return self.commit(journal, journal.last()),
                    Err(error) => return Err(error),
                }
            }
            13..17 => {
                let from = self.committed.0;
                let lsn = Lsn(rng.random_range(from..=journal.last().0.max(from)));
                self.commit(journal, lsn)?;
            }
            17 if self.clock % 2 == 0 => journal.vouch(NO_REFERENCES)?,
            17 => {
                journal.write_out(journal.last(), &|_| Ok(()))?;
                self.written = journal.last();
            }
            18 => {
                self.trimmed = Lsn(rng.random_range(self.trimmed.0..=self.committed.0.max(self.trimmed.0)));
                let trimmed = self.trimmed;
                self.records.retain(|record| record.lsn > trimmed);
                journal.trim(trimmed)?;
            }
            _ => {
                for record in self.records.iter().rev().take(5) {
                    if let Some(place) = &record.place {
                        assert_eq!(journal.read(place)?, record.payload);
                    }
                }
            }
        }
        Ok(())
    }

    fn commit(&mut self, journal: &Journal, lsn: Lsn) -> Result<()> {
        journal.commit(lsn, NO_REFERENCES)?;
        self.committed = self.committed.max(lsn);
        Ok(())
    }
}

/// One life, a power cut at the given sync, and two more lives with cuts of their own; a loss is an error.
fn world(seed: u64, sync: u64, spoil: impl Fn(&SimDisk)) -> Result<u64, String> {
    let disk = SimDisk::new(seed ^ sync << 32);
    spoil(&disk);
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut model = Model::default();
    disk.cut_power_at_sync(sync);
    model.live(&disk, &mut rng, 120)?;
    let syncs = disk.syncs();
    for _ in 0..2 {
        disk.power_on();
        disk.cut_power_at_sync(disk.syncs() + rng.random_range(1..20));
        model.live(&disk, &mut rng, 60)?;
    }
    disk.power_on();
    disk.cut_power_at_sync(u64::MAX);
    model.live(&disk, &mut rng, 10)?;
    for _ in 0..3 {
        // A kill: the process is gone, the disk goes on.
        model.committed = model.committed.max(model.written);
        model.live(&disk, &mut rng, 10)?;
    }
    disk.power_cut();
    model.live(&disk, &mut rng, 0)?;
    Ok(syncs)
}

#[test]
fn a_power_cut_at_every_sync_loses_nothing_that_was_committed() {
    for seed in 0..seeds(12) {
        let syncs = world(seed, u64::MAX, |_| {}).unwrap();
        assert!(syncs > 10, "the workload syncs too seldom to show anything: {syncs}");
        for sync in 1..=syncs {
            world(seed, sync, |_| {}).unwrap_or_else(|loss| panic!("seed {seed}, sync {sync}: {loss}"));
        }
    }
}

#[test]
fn what_any_thread_was_told_is_safe_survives() {
    for seed in 0..seeds(40) {
        let disk = SimDisk::new(seed);
        let (journal, _) = open(&disk).unwrap();
        disk.cut_power_at_sync(disk.syncs() + 1 + seed % 20);
        let told = |thread: u8| {
            let mut told = 0u8;
            while told < 100 {
                let head = Bytes::copy_from_slice(&[thread, told]);
                let Ok(done) = journal.append(Timestamp(1), DATASET, 1, head, vec![vec![told; 90].into()]) else {
                    break;
                };
                if journal.commit(done.lsn, NO_REFERENCES).is_err() {
                    break;
                }
                told += 1;
            }
            told
        };
        let told: Vec<u8> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(move || told(thread))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        drop(journal);
        disk.power_on();
        let (journal, _) = open(&disk).unwrap();
        let found = records(&journal, Lsn(0)).unwrap();
        for (thread, told) in told.into_iter().enumerate() {
            let kept = found.iter().filter(|record| record.head[0] == thread as u8).map(|record| record.head[1]);
            let kept: Vec<u8> = kept.collect();
            assert!(kept.len() >= told as usize && kept.iter().copied().eq(0..kept.len() as u8), "seed {seed}");
        }
    }
}

/// The canary: on a disk whose syncs do nothing the same harness must find losses.
#[test]
fn the_harness_sees_a_journal_that_does_not_sync() {
    let seen = (1..40).filter(|sync| world(1, *sync, SimDisk::ignore_syncs).is_err()).count();
    assert!(seen > 20, "only {seen} of 39 worlds showed the loss");
}

#[test]
fn a_failed_sync_poisons_and_what_recovery_then_shows_is_really_on_the_disk() {
    let mut survived = 0;
    for seed in 0..seeds(60) {
        let disk = SimDisk::new(seed);
        let (journal, _) = open(&disk).unwrap();
        let safe = append(&journal, vec![1; 700]);
        journal.commit(safe.lsn, NO_REFERENCES).unwrap();
        let lost: Vec<Appended> = (0..4).map(|i| append(&journal, vec![i; 600])).collect();
        disk.fail_sync_at(disk.syncs() + 1);
        let last = lost[3].lsn;
        for _ in 0..2 {
            let error = journal.commit(last, NO_REFERENCES).unwrap_err();
            assert!(matches!(error, crate::Error::Environment(Environment::Poisoned(_))), "{error}");
        }
        let refused = journal.append(Timestamp(2), DATASET, 1, Bytes::new(), Vec::new()).unwrap_err();
        assert!(matches!(refused, crate::Error::Environment(Environment::Poisoned(_))), "{refused}");
        assert!(journal.vouch(NO_REFERENCES).is_err());
        journal.commit(safe.lsn, NO_REFERENCES).unwrap();
        assert_eq!((journal.stable(), journal.read(&lost[0].place.unwrap()).unwrap().len()), (safe.lsn, 600));
        drop(journal);

        // The kernel still shows what was written, and thinks it clean. What is replayed now must stay.
        let (journal, _) = open(&disk).unwrap();
        let shown = records(&journal, Lsn(0)).unwrap();
        assert_eq!(shown[0].lsn, safe.lsn);
        drop(journal);
        disk.power_cut();
        let (journal, _) = open(&disk).unwrap();
        assert_eq!(records(&journal, Lsn(0)).unwrap(), shown, "seed {seed}");
        survived += shown.len() - 1;
    }
    assert!(survived > 0);
}

/// Whichever sync fails, of records, of a voucher, or of the folder when a segment gets its name.
#[test]
fn what_is_shown_after_any_failed_sync_stays() {
    for seed in 0..seeds(120) {
        let disk = SimDisk::new(seed);
        let (journal, _) = open(&disk).unwrap();
        disk.fail_sync_at(disk.syncs() + 1 + seed / 2 % 20);
        // Five of the second kind fill a segment, so that opening finds no room for a voucher.
        let (len, vouchers) = if seed % 2 == 0 { (1500, true) } else { (1464, false) };
        let again = || {
            let done = journal.append(Timestamp(1), DATASET, 1, Bytes::new(), vec![vec![1; len].into()])?;
            journal.commit(done.lsn, NO_REFERENCES)?;
            if vouchers { journal.vouch(NO_REFERENCES) } else { Ok(()) }
        };
        while again().is_ok() {}
        let stable = journal.stable();
        drop(journal);
        let (journal, recovery) = open(&disk).unwrap();
        assert!(recovery.last >= stable);
        let shown = records(&journal, Lsn(0)).unwrap();
        drop(journal);
        disk.power_cut();
        assert_eq!(records(&open(&disk).unwrap().0, Lsn(0)).unwrap(), shown, "seed {seed}");
    }
}

#[test]
fn a_panic_while_leading_poisons_and_frees_those_who_wait() {
    let (journal, _) = open(&SimDisk::new(1)).unwrap();
    let lsn = append(&journal, "x").lsn;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        journal.commit(lsn, &|| std::panic::resume_unwind(Box::new("a test's own")))
    }));
    assert!(panicked.is_err());
    assert!(matches!(journal.commit(lsn, NO_REFERENCES), Err(crate::Error::Environment(Environment::Poisoned(_)))));
}

#[test]
fn a_record_that_lacks_what_it_refers_to_ends_the_journal_unless_it_was_safe() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    for payload in ["one", "two"] {
        journal.commit(append(&journal, payload).lsn, NO_REFERENCES).unwrap();
    }
    for payload in ["three", "four", "five"] {
        append(&journal, payload);
    }
    journal.write_out(Lsn(5), &|_| Ok(())).unwrap();
    drop(journal);
    let reopened = |disk: &SimDisk, witness: Witness<'_>| {
        Journal::open_with(Arc::new(disk.clone()), STORE, options(8 << 10), witness).unwrap()
    };
    let asked = AtomicUsize::new(0);
    let all_but_the_third_asked = |kind: u8, head: &Bytes| {
        assert_eq!((kind, head.as_ref()), (1, b"head".as_ref()));
        Ok(asked.fetch_add(1, Ordering::SeqCst) != 2)
    };
    let untouched = disk.fork(1);
    let (journal, recovery) = reopened(&disk, &all_but_the_third_asked);
    let asked_in_all = asked.load(Ordering::SeqCst);
    let found = records(&journal, Lsn(0)).unwrap();
    assert_eq!((asked_in_all, found.len(), recovery.torn.is_some()), (3, 4, true), "the first two were safe");
    let on = append(&journal, "on");
    assert_eq!(on.lsn, Lsn(6), "behind the voucher");
    journal.commit(on.lsn, NO_REFERENCES).unwrap();
    drop(journal);
    let asked = AtomicUsize::new(0);
    let (journal, recovery) = reopened(&disk, &|_, _| Ok(asked.fetch_add(1, Ordering::SeqCst) == 0));
    assert_eq!((records(&journal, Lsn(0)).unwrap().len(), recovery.torn), (5, None));
    assert_eq!(asked.into_inner(), 1, "nothing vouches for the last one");

    // What is known to be safe is not asked about.
    let known = JournalOptions { known_stable: Lsn(5), ..options(8 << 10) };
    let nothing = Journal::open_with(Arc::new(untouched), STORE, known, &|_, _| Ok(false)).unwrap();
    assert_eq!(records(&nothing.0, Lsn(0)).unwrap().len(), 5);
}
