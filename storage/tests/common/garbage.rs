//! What is garbage, by a walk of its own: after a run of reclaim there is none.

use std::collections::BTreeSet;

use narrowboat_storage::Store;
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::StreamId;
use narrowboat_storage::reclaim::{Reclaimed, Stepped};
use narrowboat_storage::tree::walk;
use narrowboat_storage::units::Timestamp;

/// A run that nobody disturbs.
pub fn reclaim(store: &Store) -> Reclaimed {
    let mut run = store.reclaim().expect("no other run");
    for _ in 0..100_000 {
        if run.step(store, Timestamp(1)).expect("a sound disk") == Stepped::Done {
            return run.report().clone();
        }
    }
    panic!("a run that never ends");
}

/// The nodes that can be reached, by a walk of their own, and all nodes that are present.
pub fn reached_and_present(store: &Store) -> (BTreeSet<Name>, BTreeSet<Name>) {
    let objects = store.pool().on(StreamId::MISC);
    let heads = store.datasets().expect("readable").into_iter().filter_map(|info| info.head.root);
    let snapshots = store.snapshots(None).into_iter().filter_map(|row| row.sealed.and_then(|sealed| sealed.root));
    let mut reached = BTreeSet::new();
    for root in heads.chain(snapshots) {
        walk(&objects, Kind::MapNode, &root, &mut |kind, name| Ok(kind.is_node() && reached.insert(*name)))
            .expect("every root is whole");
    }
    let mut present = BTreeSet::new();
    store.pool().for_each_slot(|_, slot| {
        if slot.kind.is_node() && store.pool().contains(slot.kind, &slot.name).expect("readable") {
            present.insert(slot.name);
        }
    });
    (reached, present)
}

/// Nothing that can be reached was lost, and a run finds nothing more that could go.
pub fn expect_all_reached(store: &Store, now: Timestamp) -> Reclaimed {
    store.close(now).expect("a sound disk");
    reclaim(store);
    store.close(now).expect("a sound disk");
    let second = reclaim(store);
    let (reached, present) = reached_and_present(store);
    assert_eq!(reached.difference(&present).count(), 0, "of {} nodes; {second:?}", reached.len());
    let mut preview = store.reclaim_preview().expect("no other run");
    while preview.step(store, now).expect("a sound disk") != Stepped::Done {}
    let report = preview.report();
    assert_eq!((report.nodes_freed, report.containers_total), (0, 0), "{report:?}");
    second
}

/// Nothing but what can be reached is left, once nobody is at it. Not for stores with a past, whose checkpoints are roots, too.
#[allow(dead_code, reason = "not every test needs it")]
pub fn expect_nothing_left(store: &Store, now: Timestamp) {
    let second = expect_all_reached(store, now);
    let (reached, present) = reached_and_present(store);
    assert_eq!(present.difference(&reached).count(), 0, "of {} nodes; {second:?}", reached.len());
}
