//! Two days of a dataset, of which the office has the first: what every conversation is about.

use std::sync::{Arc, OnceLock};

use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::Kind;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::sync::seam::{DatasetKind, Ref, SnapshotOffer};
use narrowboat_wan::sync::{Replication, Sink};

use super::shelf::Shelf;

/// Whose the dataset is.
pub const BRANCH: StoreId = StoreId([1; 16]);
/// Who receives it.
pub const OFFICE: StoreId = StoreId([2; 16]);
const DATASET: DatasetId = DatasetId([7; 16]);

fn chunk(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 16) as u8 & 0x3f
    };
    (0..len).map(|_| next()).collect()
}

fn day(shelf: &Shelf, number: u8, chunks: &[Vec<u8>]) -> SnapshotOffer {
    let files: Vec<Ref> = chunks
        .chunks(4)
        .map(|file| {
            let below: Vec<Ref> = file.iter().map(|bytes| shelf.put(Kind::Chunk, bytes)).collect();
            shelf.node(Kind::SequenceNode, &below)
        })
        .collect();
    let nodes: Vec<Ref> = files.chunks(4).map(|files| shelf.node(Kind::MapNode, files)).collect();
    let (_, root) = shelf.node(Kind::MapNode, &nodes);
    SnapshotOffer {
        dataset: DATASET,
        dataset_name: "projects".into(),
        kind: DatasetKind::Share,
        size: 0,
        snapshot: SnapshotId([number; 16]),
        snapshot_name: format!("day {number}"),
        time: Timestamp(i64::from(number)),
        root: Some(root),
        logical_bytes: chunks.iter().map(|chunk| chunk.len() as u64).sum(),
        files: files.len() as u64,
        next_inode: 100,
        source: BRANCH,
    }
}

/// Two days of a dataset; the office has the first, and some of the second from somebody else.
pub struct Stage {
    /// Has both.
    pub branch: Shelf,
    office: Shelf,
    first: SnapshotOffer,
    /// What is sent.
    pub second: SnapshotOffer,
}

/// The same for every input.
pub fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(|| {
        let (branch, office) = (Shelf::default(), Shelf::default());
        let mut chunks: Vec<Vec<u8>> = (0..40).map(|number| chunk(number + 1, 80 + 13 * number as usize)).collect();
        let first = day(&branch, 1, &chunks);
        day(&office, 1, &chunks);
        office.publish(&first).expect("nothing is shown yet");
        for number in [3, 7, 8, 21, 22, 23, 30] {
            chunks[number as usize] = chunk(100 + number, 300);
        }
        chunks[21][100] ^= 1;
        office.put(Kind::Chunk, &chunks[22]);
        let second = day(&branch, 2, &chunks);
        Stage { branch, office, first, second }
    })
}

/// What is replicated: the second day, upon the first one where `based`.
pub fn replication(based: bool) -> Replication {
    let Stage { first, second, .. } = stage();
    let bases = first.root.filter(|_| based).map(|root| (first.snapshot, root)).into_iter().collect();
    Replication { snapshot: second.clone(), bases, mark: None, shared: None }
}

/// The office, as it is before the second day.
pub fn office() -> Arc<Shelf> {
    stage().office.copy()
}
