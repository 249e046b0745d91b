//! The journal against a plain list of what was appended.

mod crash;
mod damage;
mod full;
mod odd;
mod order;
mod speed;

use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt};

use super::*;
use crate::media::SimDisk;

const STORE: StoreId = StoreId(*b"the test's store");
const DATASET: DatasetId = DatasetId(*b"the test's data.");
const NO_REFERENCES: &dyn Fn() -> Result<()> = &|| Ok(());

/// How many seeds a test tries: as many as it says, or more by environment.
fn seeds(usual: u64) -> u64 {
    std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

fn options(segment_bytes: u64) -> JournalOptions {
    JournalOptions { segment_bytes, ..JournalOptions::default() }
}

fn open(disk: &SimDisk) -> Result<(Journal, Recovery)> {
    Journal::open(Arc::new(disk.clone()), STORE, options(8 << 10))
}

fn append(journal: &Journal, payload: impl Into<Bytes>) -> Appended {
    journal.append(Timestamp(1), DATASET, 1, Bytes::from_static(b"head"), vec![payload.into()]).unwrap()
}

fn records(journal: &Journal, after: Lsn) -> Result<Vec<Record>> {
    let mut records = Vec::new();
    journal.replay(after, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    Ok(records)
}

/// What a test appends, so that it can say what must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Draft {
    time: Timestamp,
    kind: u8,
    head: Bytes,
    payload: Vec<Bytes>,
}

impl Draft {
    fn random(rng: &mut Xoshiro256PlusPlus, time: i64) -> Draft {
        let head_len = rng.random_range(0..60);
        let payload = match rng.random_range(0..8u8) {
            0..3 => Vec::new(),
            3..6 => vec![bytes(rng, 300)],
            6 => vec![bytes(rng, 1400), Bytes::new(), bytes(rng, 40)],
            _ => vec![bytes(rng, 3000)],
        };
        Draft { time: Timestamp(time), kind: rng.random_range(1..=255), head: bytes(rng, head_len), payload }
    }

    fn append(&self, journal: &Journal) -> Result<Record> {
        let done = journal.append(self.time, DATASET, self.kind, self.head.clone(), self.payload.clone())?;
        Ok(Record {
            lsn: done.lsn,
            time: done.time,
            dataset: DATASET,
            kind: self.kind,
            head: self.head.clone(),
            payload: self.payload.concat().into(),
            place: done.place,
        })
    }
}

fn bytes(rng: &mut Xoshiro256PlusPlus, len_max: usize) -> Bytes {
    let mut bytes = vec![0; rng.random_range(0..=len_max)];
    rng.fill_bytes(&mut bytes);
    bytes.into()
}
