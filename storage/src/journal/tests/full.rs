//! A full disk refuses appends, never a commit, and loses nothing.

use super::*;
use crate::media::{Media, Tally};

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

/// A medium whose reservations succeed and take nothing: thin provisioning. Its writes may fail for want of room.
struct Thin(SimDisk);

impl Media for Thin {
    fn create(&self, path: &str) -> std::io::Result<Arc<dyn crate::media::MediaFile>> {
        Ok(Arc::new(ThinFile(self.0.create(path)?)))
    }
    fn open(&self, path: &str) -> std::io::Result<Arc<dyn crate::media::MediaFile>> {
        Ok(Arc::new(ThinFile(self.0.open(path)?)))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.0.rename(from, to)
    }
    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.0.remove(path)
    }
    fn list(&self, dir: &str) -> std::io::Result<Vec<String>> {
        self.0.list(dir)
    }
    fn create_dir_all(&self, dir: &str) -> std::io::Result<()> {
        self.0.create_dir_all(dir)
    }
    fn sync_dir(&self, dir: &str) -> std::io::Result<()> {
        self.0.sync_dir(dir)
    }
    fn space(&self) -> std::io::Result<crate::units::Space> {
        self.0.space()
    }
}

struct ThinFile(Arc<dyn crate::media::MediaFile>);

impl crate::media::MediaFile for ThinFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> std::io::Result<()> {
        self.0.write_at(parts, offset)
    }
    fn sync(&self) -> std::io::Result<()> {
        self.0.sync()
    }
    fn len(&self) -> std::io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len)
    }
    fn reserve(&self, len: u64) -> std::io::Result<()> {
        self.0.set_len(len.max(self.0.len()?))
    }
}

#[test]
fn where_reservation_was_a_lie_the_journal_is_poisoned_and_recovers_a_prefix() {
    let disk = SimDisk::new(1);
    let tally = Tally::new(Arc::new(Thin(disk.clone())));
    let (journal, _) = Journal::open(Arc::new(tally), STORE, options(64 << 10)).unwrap();
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
