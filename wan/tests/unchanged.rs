//! What it costs to find out that nothing changed: real stores with a share of a terabyte (all holes but for a page in each file), real links
//! and a line of 300 ms there and back, in simulated time. Every packet counts, both ways, headers and acknowledgements included.
//!
//! `cargo test -p narrowboat-wan --test unchanged -- --nocapture` prints what each of the days cost.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::boxes::Pair;
use common::simulate;
use narrowboat_lines::simnet::Line;
use narrowboat_storage::Store;
use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::dataset::{Call, Create, Credentials, SetAttributes};
use narrowboat_storage::units::{Inode, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

const ROUND_TRIP: Duration = Duration::from_millis(300);
const FILES: u64 = 1000;
const GIGABYTE: u64 = 1_000_000_000;
static ROOT: Credentials = Credentials::ROOT;

/// A share of a terabyte: files of a gigabyte, each with one page that nobody else has.
fn fill(store: &Store) {
    let mut rng = SmallRng::seed_from_u64(1);
    let share = store.create_share("archive", Policy::Inline, Timestamp(1)).unwrap();
    let tree = store.tree(share.row.id).unwrap();
    for number in 0..FILES {
        let call = Call { caller: &ROOT, now: Timestamp(2 + number as i64), tag: None };
        let how = Create::Guarded(SetAttributes { size: Some(GIGABYTE), ..SetAttributes::default() });
        let name = format!("{number:04}.img");
        let inode = tree.create(&call, Inode::ROOT, name.as_bytes(), &how).unwrap().file.inode;
        let mut page = vec![0; 4096];
        rng.fill(&mut page[..]);
        let place = rng.random_range(0..GIGABYTE - 4096);
        tree.write(&call, inode, place, Bytes::from(page)).unwrap();
    }
}

#[test]
fn an_unchanged_terabyte_costs_less_than_four_kilobytes_and_one_round_trip() {
    simulate(async {
        let mut pair = Pair::new(Line::new(20_000_000, ROUND_TRIP, 0.0), None).await;
        fill(&pair.branch.store);
        let first = pair.snapshot("archive");
        assert_eq!(first.snapshot.logical_bytes, FILES * GIGABYTE);
        let cost = pair.replicate(first.clone()).await;
        assert!(cost.bytes() > 4096 && cost.report.chunks.sent >= FILES, "{:?}", cost.report);
        // The line's largest packet has been found by then.
        tokio::time::sleep(Duration::from_secs(10)).await;
        let mut known = first;
        for day in 2..=40 {
            let mut what = pair.snapshot("archive");
            assert_eq!(what.snapshot.root, known.snapshot.root);
            // By the ledger, and where that was lost: then up to 32 earlier snapshots are offered.
            let proved = day % 2 == 0;
            if proved {
                what.shared = Some((known.snapshot.snapshot, Arc::new(known.mark.clone().unwrap())));
            }
            let cost = pair.replicate(what.clone()).await;
            let (seconds, offered) = (cost.report.seconds, what.bases.len());
            println!(
                "day {day}, {offered} earlier ones: {} bytes in {} packets, {seconds:.3} s",
                cost.bytes(),
                cost.packets.len()
            );
            assert!(cost.report.published && cost.bytes() < if proved { 2048 } else { 4096 }, "{:?}", cost.packets);
            assert!(seconds < 1.1 * ROUND_TRIP.as_secs_f64(), "{seconds} s");
            assert_eq!(
                pair.head.store.snapshot(what.snapshot.snapshot).unwrap().sealed.unwrap().root,
                what.snapshot.root
            );
            known = what;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        pair.link.shutdown().await;
    });
}
