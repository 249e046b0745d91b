//! How fast small records become safe on this machine's disk. Run with
//! `cargo test --release -p narrowboat-storage journal::tests::speed -- --ignored --nocapture`.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::media::FileMedia;

#[test]
#[ignore = "measures the machine"]
fn commits_a_second() {
    for threads in [1, 2, 4, 16, 64] {
        let dir = tempfile::tempdir_in(".").unwrap();
        let media = Arc::new(FileMedia::open(dir.path()).unwrap());
        let (journal, _) = Journal::open(media, STORE, JournalOptions::default()).unwrap();
        let end = Instant::now() + Duration::from_secs(2);
        let commit_until_end = || {
            let mut count = 0;
            while Instant::now() < end {
                let done = append(&journal, vec![1; 100]);
                journal.commit(done.lsn, NO_REFERENCES).unwrap();
                count += 1;
            }
            count
        };
        let count: u64 = thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(commit_until_end)).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).sum()
        });
        println!("{threads:3} threads: {} commits/s", count / 2);
    }
}

#[test]
#[ignore = "measures the machine"]
fn bulk_bytes_a_second() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let media = Arc::new(FileMedia::open(dir.path()).unwrap());
    let (journal, _) = Journal::open(media, STORE, JournalOptions::default()).unwrap();
    let payload = Bytes::from(vec![0x5A; 1 << 20]);
    let started = Instant::now();
    for _ in 0..1024 {
        let done = append(&journal, payload.clone());
        if done.unsafe_bytes > 16 << 20 {
            journal.commit(done.lsn, NO_REFERENCES).unwrap();
        }
    }
    journal.commit(journal.last(), NO_REFERENCES).unwrap();
    println!("1 GiB in {:?}", started.elapsed());
    let started = Instant::now();
    journal.verify().unwrap();
    println!("verified in {:?}", started.elapsed());
}
