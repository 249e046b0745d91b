//! A full disk refuses appends, never a commit, and loses nothing.

use super::odd::OddMedia;
use super::*;

fn full(error: &crate::Error) -> bool {
    matches!(error, crate::Error::Environment(Environment::Full))
}

#[test]
fn a_full_disk_refuses_what_has_no_room_and_commits_what_was_accepted() {
    let disk = SimDisk::new(1);
    let (journal, _) = open(&disk).unwrap();
    append(&journal, "there is a spare after the first commit");
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    disk.fill(0);
    let mut accepted = 1;
    let refused = loop {
        match journal.append(Timestamp(1), DATASET, 1, Bytes::new(), vec![vec![5; 900].into()]) {
            Ok(done) => {
                accepted += 1;
                journal.commit(done.lsn, NO_REFERENCES).unwrap();
            }
            Err(error) => break error,
        }
    };
    assert!(full(&refused), "{refused}");
    assert_eq!(accepted, 1 + 7 + 6, "what the open segment and the spare hold, but for what is kept back");
    assert_eq!(records(&journal, Lsn(0)).unwrap().len(), accepted);
    let removal = |len: usize| journal.append_freeing(Timestamp(1), DATASET, 2, vec![0; len].into(), Vec::new());
    assert_eq!(removal(1000).unwrap().lsn, Lsn(accepted as u64 + 1));
    assert!(full(&journal.append(Timestamp(1), DATASET, 1, Bytes::new(), Vec::new()).unwrap_err()));
    assert!(removal(500).is_ok());
    assert!(full(&removal(500).unwrap_err()), "what is kept back has an end, too");

    // Forgetting makes room, and the same journal goes on.
    journal.commit(journal.last(), NO_REFERENCES).unwrap();
    assert!(journal.trim(Lsn(9)).unwrap() > 0);
    let done = journal.append(Timestamp(1), DATASET, 1, Bytes::new(), vec![vec![6; 900].into()]).unwrap();
    journal.commit(done.lsn, NO_REFERENCES).unwrap();
    drop(journal);
    disk.power_cut();
    let (journal, recovery) = open(&disk).unwrap();
    assert!(recovery.last >= done.lsn && recovery.torn.is_none());
    assert_eq!(records(&journal, Lsn(9)).unwrap().last().map(|record| record.lsn), Some(done.lsn));
}

#[test]
fn a_journal_opens_on_a_full_disk_and_is_not_created_on_one() {
    let disk = SimDisk::new(1);
    disk.fill(1000);
    assert!(full(&open(&disk).err().unwrap()));
    disk.fill(100 << 10);
    let (journal, _) = open(&disk).unwrap();
    append(&journal, vec![3; 500]);
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    append(&journal, vec![4; 2000]);
    drop(journal);
    disk.fill(0);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!(recovery.last, Lsn(1));
    let done = append(&journal, vec![4; 2000]);
    journal.commit(done.lsn, NO_REFERENCES).unwrap();
}

#[test]
fn where_reservation_was_a_lie_the_journal_is_poisoned_and_recovers_a_prefix() {
    let disk = SimDisk::new(1);
    let thin = OddMedia { thin: true, ..OddMedia::on(&disk) };
    let (journal, _) = Journal::open(Arc::new(thin), STORE, options(64 << 10)).unwrap();
    append(&journal, "safe");
    journal.commit(Lsn(1), NO_REFERENCES).unwrap();
    disk.fill(0);
    let lost = append(&journal, vec![1; 20_000]);
    let error = journal.commit(lost.lsn, NO_REFERENCES).unwrap_err();
    assert!(matches!(error, crate::Error::Environment(Environment::Poisoned(_))), "{error}");
    assert!(journal.append(Timestamp(1), DATASET, 1, Bytes::new(), Vec::new()).is_err());
    drop(journal);
    disk.set_capacity(1 << 30);
    let (journal, recovery) = open(&disk).unwrap();
    assert_eq!(records(&journal, Lsn(0)).unwrap().len(), 1);
    assert!(recovery.torn.is_some());
}
