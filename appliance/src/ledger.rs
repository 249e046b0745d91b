//! The ledger: which snapshot of each dataset a peer has proved to have, and what this box had kept by then.
//!
//! One setting of the catalogue for each peer and dataset, `peer.PEER.has.DATASET`: the snapshot's id, and behind a blank the
//! pool's [`Mark`] of the moment when the snapshot was sealed. With it the next snapshot is sent without questions: what
//! was kept since cannot be at the peer. A replication takes the mark out when it begins, durably, and success puts the
//! next one in; so after one that broke off everything is asked for, and nothing that had arrived is sent again.

use std::sync::Arc;

use narrowboat_storage::Store;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::pool::Mark;
use narrowboat_storage::units::Timestamp;

/// What a peer has proved to have of a dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The newest snapshot.
    pub snapshot: SnapshotId,
    /// What this box had kept when that was sealed; none where something was begun since that did not come to its end.
    pub mark: Option<Mark>,
}

fn setting(peer: &str, dataset: &DatasetId) -> String {
    format!("peer.{peer}.has.{dataset}")
}

/// What a peer has proved. None also where the entry makes no sense: then everything is asked for.
pub fn proof(store: &Store, peer: &str, dataset: &DatasetId) -> Option<Proof> {
    read(std::str::from_utf8(&store.setting(&setting(peer, dataset))?).ok()?)
}

/// Notes durably what a peer has proved.
pub fn note(store: &Store, peer: &str, dataset: &DatasetId, proof: &Proof, now: Timestamp) -> Result<()> {
    store.set_setting(&setting(peer, dataset), Some(write(proof).as_bytes()), now)
}

/// Takes the mark out of the ledger, durably, for the one replication that may rely on it.
pub fn take_mark(
    store: &Store,
    peer: &str,
    dataset: &DatasetId,
    now: Timestamp,
) -> Result<Option<(SnapshotId, Arc<Mark>)>> {
    let Some(Proof { snapshot, mark: Some(mark) }) = proof(store, peer, dataset) else { return Ok(None) };
    note(store, peer, dataset, &Proof { snapshot, mark: None }, now)?;
    Ok(Some((snapshot, Arc::new(mark))))
}

/// Forgets what a peer has proved of a dataset.
pub fn forget(store: &Store, peer: &str, dataset: &DatasetId, now: Timestamp) -> Result<()> {
    let setting = setting(peer, dataset);
    if store.setting(&setting).is_some() { store.set_setting(&setting, None, now) } else { Ok(()) }
}

fn write(proof: &Proof) -> String {
    match &proof.mark {
        None => proof.snapshot.to_string(),
        Some(mark) => format!("{} {mark}", proof.snapshot),
    }
}

fn read(text: &str) -> Option<Proof> {
    let (snapshot, mark) = text.split_once(' ').map_or((text, None), |(snapshot, mark)| (snapshot, Some(mark)));
    Some(Proof { snapshot: snapshot.parse().ok()?, mark: mark.and_then(|mark| mark.parse().ok()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_are_written_and_those_of_before_too() {
        let snapshot = SnapshotId([7; 16]);
        let mark = Mark { next: 9, open: [(3, 64)].into() };
        for mark in [None, Some(mark)] {
            let proof = Proof { snapshot, mark };
            assert_eq!(read(&write(&proof)), Some(proof));
        }
        assert_eq!(read(&format!("{snapshot} nonsense")), Some(Proof { snapshot, mark: None }));
        assert_eq!(read("nonsense"), None);
    }
}
