//! The ledger: which snapshot of each dataset a peer has proved to have, and what this box had kept by then.
//!
//! One setting of the catalogue for each peer and dataset, `peer.PEER.has.DATASET`: the snapshot's id, its time, by which is known what is
//! newer when the snapshot itself is here no more, and the pool's [`Mark`] of the moment when the snapshot was sealed. With it the next snapshot is sent without questions: what
//! was kept since cannot be at the peer. A replication takes the mark out when it begins, durably, and success puts the
//! next one in; so after one that broke off everything is asked for, and nothing that had arrived is sent again.
//!
//! Beside it, `peer.PEER.given.DATASET` has the ids of all snapshots that are still here, or can be had back, and that the peer has acknowledged: what lies below these
//! it may have again, should its disk lose it ([`crate::heal`]).

use std::collections::BTreeSet;
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

fn prefix(peer: &str) -> String {
    format!("peer.{peer}.has.")
}

fn setting(peer: &str, dataset: &DatasetId) -> String {
    format!("{}{dataset}", prefix(peer))
}

/// Snapshots that are remembered as given, of each dataset and peer: the latest.
const GIVEN_MAX: usize = 1024;

fn given_prefix(peer: &str) -> String {
    format!("peer.{peer}.given.")
}

/// The snapshots of a dataset that a peer has acknowledged, and that are still here as far as that is known.
pub fn given(store: &Store, peer: &str, dataset: &DatasetId) -> BTreeSet<SnapshotId> {
    let kept = store.setting(&format!("{}{dataset}", given_prefix(peer)));
    let kept = kept.as_deref().and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default().split(' ');
    // The newest is in the ledger, also where an earlier version wrote that.
    kept.filter_map(|id| id.parse().ok()).chain(proof(store, peer, dataset).map(|proof| proof.snapshot)).collect()
}

/// Notes durably that a peer has acknowledged a snapshot.
fn give(store: &Store, peer: &str, dataset: &DatasetId, snapshot: SnapshotId, now: Timestamp) -> Result<()> {
    let known = given(store, peer, dataset);
    // Those that were deleted and can be had back, too: then the peer has them as before.
    let still = store.snapshots_with_deleted(Some(*dataset)).into_iter().map(|row| row.id);
    let mut ids: Vec<_> = still.filter(|id| *id == snapshot || known.contains(id)).collect();
    ids.drain(..ids.len().saturating_sub(GIVEN_MAX));
    let text = ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    store.set_setting(&format!("{}{dataset}", given_prefix(peer)), Some(text.as_bytes()), now)
}

fn entry(store: &Store, peer: &str, dataset: &DatasetId) -> Option<(Proof, Option<Timestamp>)> {
    read(std::str::from_utf8(&store.setting(&setting(peer, dataset))?).ok()?)
}

/// What a peer has proved. None also where the entry makes no sense: then everything is asked for.
pub fn proof(store: &Store, peer: &str, dataset: &DatasetId) -> Option<Proof> {
    entry(store, peer, dataset).map(|(proof, _)| proof)
}

/// The moment of the newest snapshot that a peer has proved to have, also where that is here no more. None too for an entry of an earlier version whose
/// snapshot is gone.
pub fn moment(store: &Store, peer: &str, dataset: &DatasetId) -> Option<Timestamp> {
    let (proof, time) = entry(store, peer, dataset)?;
    time.or_else(|| store.snapshot(proof.snapshot).ok().map(|row| row.time))
}

/// Notes durably what a peer has proved.
pub fn note(store: &Store, peer: &str, dataset: &DatasetId, proof: &Proof, now: Timestamp) -> Result<()> {
    let known = || entry(store, peer, dataset).filter(|(known, _)| known.snapshot == proof.snapshot)?.1;
    let time = store.snapshot(proof.snapshot).ok().map(|row| row.time).or_else(known);
    store.set_setting(&setting(peer, dataset), Some(write(proof, time).as_bytes()), now)
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

/// Puts back a mark that [`take_mark`] took, unless the ledger has something else to say by now.
pub fn give_back(
    store: &Store,
    peer: &str,
    dataset: &DatasetId,
    taken: &(SnapshotId, Arc<Mark>),
    now: Timestamp,
) -> Result<()> {
    let (snapshot, mark) = taken;
    if proof(store, peer, dataset) != Some(Proof { snapshot: *snapshot, mark: None }) {
        return Ok(());
    }
    note(store, peer, dataset, &Proof { snapshot: *snapshot, mark: Some((**mark).clone()) }, now)
}

/// Notes durably that a peer has proved to have a snapshot. One that is older than what it has proved before, as a person may send it
/// by hand, does not set the ledger back; then, and where it is the one that was known, the mark that was `taken` for it goes on counting.
pub fn advance(
    store: &Store,
    peer: &str,
    dataset: &DatasetId,
    proved: &Proof,
    taken: Option<&(SnapshotId, Arc<Mark>)>,
    now: Timestamp,
) -> Result<()> {
    give(store, peer, dataset, proved.snapshot, now)?;
    let moment = |id: SnapshotId| store.snapshot(id).ok().map(|row| row.time);
    let known = proof(store, peer, dataset).map(|known| known.snapshot);
    let newer = known.is_some_and(|known| known != proved.snapshot && moment(known) > moment(proved.snapshot));
    match taken {
        Some(taken) if newer || known == Some(proved.snapshot) => give_back(store, peer, dataset, taken, now),
        None if newer => Ok(()),
        _ => note(store, peer, dataset, proved, now),
    }
}

/// Forgets what a peer has proved of a dataset.
pub fn forget(store: &Store, peer: &str, dataset: &DatasetId, now: Timestamp) -> Result<()> {
    for setting in [setting(peer, dataset), format!("{}{dataset}", given_prefix(peer))] {
        if store.setting(&setting).is_some() {
            store.set_setting(&setting, None, now)?;
        }
    }
    Ok(())
}

/// Forgets what was noted of a dataset late: when the peer was none any more, or the dataset gone for good. One that can be had back keeps what is said
/// of it.
pub fn forget_late(store: &Store, peer: &str, is_peer: bool, dataset: &DatasetId, now: Timestamp) -> Result<()> {
    if is_peer && store.row_with_deleted(*dataset).is_some() { Ok(()) } else { forget(store, peer, dataset, now) }
}

/// Forgets all that a peer has proved.
pub fn forget_all(store: &Store, peer: &str, now: Timestamp) -> Result<()> {
    for prefix in [prefix(peer), given_prefix(peer)] {
        for (setting, _) in store.settings(&prefix) {
            // Names of peers may have dots: what goes on otherwise is another's.
            if setting.strip_prefix(&prefix).is_some_and(|rest| rest.parse::<DatasetId>().is_ok()) {
                store.set_setting(&setting, None, now)?;
            }
        }
    }
    Ok(())
}

fn write(proof: &Proof, time: Option<Timestamp>) -> String {
    let time = time.map(|time| format!(" @{}", time.0)).unwrap_or_default();
    let mark = proof.mark.as_ref().map(|mark| format!(" {mark}")).unwrap_or_default();
    format!("{}{time}{mark}", proof.snapshot)
}

/// What an entry says; those of earlier versions have no time.
fn read(text: &str) -> Option<(Proof, Option<Timestamp>)> {
    let mut parts = text.split(' ').peekable();
    let snapshot = parts.next()?.parse().ok()?;
    let time = parts.next_if(|part| part.starts_with('@')).and_then(|part| part[1..].parse().ok().map(Timestamp));
    let mark = parts.next().and_then(|mark| mark.parse().ok());
    Some((Proof { snapshot, mark }, time))
}

#[cfg(test)]
mod tests {
    use narrowboat_storage::catalogue::Policy;

    use super::*;

    fn mark(next: u64) -> Mark {
        Mark { next, open: [(3, 64)].into() }
    }

    #[test]
    fn an_older_snapshot_does_not_set_it_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = crate::node::open_store(folder.path(), &crate::config::Config::default()).expect("a store");
        let now = |second: i64| Timestamp::new(1_800_000_000 + second, 0);
        let dataset = store.create_share("office", Policy::Inline, now(0)).expect("a share").row.id;
        let take = |name, second| store.create_snapshot("office", name, now(second)).expect("taken").id;
        let (old, new) = (take("old", 1), take("new", 2));
        let says = || proof(&store, "head", &dataset);
        let proved = |snapshot, next| Proof { snapshot, mark: Some(mark(next)) };
        advance(&store, "head", &dataset, &proved(new, 7), None, now(3)).expect("noted");
        let taken = take_mark(&store, "head", &dataset, now(3)).expect("taken");
        assert_eq!(says(), Some(Proof { snapshot: new, mark: None }));
        advance(&store, "head", &dataset, &proved(old, 9), taken.as_ref(), now(4)).expect("noted");
        assert_eq!(says(), Some(proved(new, 7)), "and the next difference goes unasked");

        assert_eq!(given(&store, "head", &dataset), [old, new].into());

        // The same again is nothing new either.
        let taken = take_mark(&store, "head", &dataset, now(4)).expect("taken");
        advance(&store, "head", &dataset, &proved(new, 9), taken.as_ref(), now(4)).expect("noted");
        assert_eq!(says(), Some(proved(new, 7)));

        // One that is not here any more is no newer one; but its time is known.
        let time = store.snapshot(new).expect("there").time;
        store.discard_snapshot(new, now(5)).expect("deleted");
        let taken = take_mark(&store, "head", &dataset, now(5)).expect("taken").expect("a mark");
        give_back(&store, "head", &dataset, &taken, now(5)).expect("noted");
        assert_eq!(moment(&store, "head", &dataset), Some(time));
        advance(&store, "head", &dataset, &proved(old, 9), None, now(6)).expect("noted");
        assert_eq!(says(), Some(proved(old, 9)));
        assert_eq!(given(&store, "head", &dataset), [old].into(), "what is gone is forgotten");
        forget_all(&store, "head", now(7)).expect("forgotten");
        assert!(given(&store, "head", &dataset).is_empty() && store.settings("peer.head").is_empty());
    }

    #[test]
    fn what_can_be_had_back_is_remembered_as_given() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = crate::node::open_store(folder.path(), &crate::config::Config::default()).expect("a store");
        let now = |second: i64| Timestamp::new(1_800_000_000 + second, 0);
        let dataset = store.create_share("office", Policy::Inline, now(0)).expect("a share").row.id;
        let take = |name, second| store.create_snapshot("office", name, now(second)).expect("taken").id;
        let acknowledge = |snapshot, second| {
            let proved = Proof { snapshot, mark: Some(mark(7)) };
            advance(&store, "head", &dataset, &proved, None, now(second)).expect("noted");
        };
        let (first, second) = (take("first", 1), take("second", 2));
        acknowledge(first, 3);
        store.delete_snapshot("office", "first", now(4)).expect("deleted");
        acknowledge(second, 5);
        store.undelete_snapshot("office", "first", None, now(6)).expect("back");
        assert_eq!(given(&store, "head", &dataset), [first, second].into());

        // What is gone for good is forgotten with the next one.
        store.delete_snapshot("office", "first", now(7)).expect("deleted");
        store.empty_quarantine(&|_| true, now(8)).expect("emptied");
        acknowledge(take("third", 9), 10);
        assert!(!given(&store, "head", &dataset).contains(&first));

        // So is a whole dataset; a replication may end at any moment.
        store.delete_dataset("office", now(11)).expect("deleted");
        forget_late(&store, "head", true, &dataset, now(12)).expect("nothing to do");
        store.undelete_dataset("office", None, now(13)).expect("back");
        assert!(given(&store, "head", &dataset).contains(&second) && proof(&store, "head", &dataset).is_some());
        store.delete_dataset("office", now(14)).expect("deleted");
        store.empty_quarantine(&|_| true, now(15)).expect("emptied");
        forget_late(&store, "head", true, &dataset, now(16)).expect("noted");
        assert!(store.settings("peer.head").is_empty());
    }

    #[test]
    fn a_mark_does_not_come_back_to_a_peer_that_was_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let (store, _) = crate::node::open_store(folder.path(), &crate::config::Config::default()).expect("a store");
        let (dataset, snapshot, now) = (DatasetId([1; 16]), SnapshotId([7; 16]), Timestamp::new(1_800_000_000, 0));
        note(&store, "head", &dataset, &Proof { snapshot, mark: Some(mark(9)) }, now).expect("noted");
        let taken = take_mark(&store, "head", &dataset, now).expect("taken").expect("a mark");
        note(&store, "head.has.more", &dataset, &Proof { snapshot, mark: None }, now).expect("noted");
        forget_all(&store, "head", now).expect("forgotten");
        assert!(proof(&store, "head.has.more", &dataset).is_some(), "another peer");
        give_back(&store, "head", &dataset, &taken, now).expect("nothing to do");
        assert_eq!(proof(&store, "head", &dataset), None);
    }

    #[test]
    fn entries_are_read_as_they_are_written_and_those_of_before_too() {
        let snapshot = SnapshotId([7; 16]);
        for (mark, time) in
            [(None, None), (Some(mark(9)), None), (None, Some(Timestamp(-7))), (Some(mark(9)), Some(Timestamp(7)))]
        {
            let proof = Proof { snapshot, mark };
            assert_eq!(read(&write(&proof, time)), Some((proof, time)));
        }
        for odd in ["nonsense", "@", "@é x"] {
            assert_eq!(read(&format!("{snapshot} {odd}")), Some((Proof { snapshot, mark: None }, None)));
        }
        assert_eq!(read("nonsense"), None);
    }
}
