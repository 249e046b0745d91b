//! A branch behind a NAT that gives it another port now and then, in simulated time: whatever address its connection has just now,
//! it is the peer's, and so is its cap.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::simulate;
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_wan::link::{Cancel, Host, Link};
use narrowboat_wan::shape::Rate;

const BRANCH: SocketAddr = common::at(1);
const HEAD: SocketAddr = common::at(2);
/// How often the NAT gives another port. Not a multiple of any time that a box looks at its connections.
const RENUMBERED: Duration = Duration::from_millis(3700);

/// The head sends to the branch, which has dialled it, under a cap, and the NAT changes ports. The most bits in any second before and
/// after it began to, and how often the head saw another address.
fn behind_a_nat(cap: Rate) -> (u64, u64, usize) {
    let world = async {
        let net = SimNet::new(3);
        net.connect(BRANCH, HEAD, Line::new(10_000_000, Duration::from_millis(40), 0.0));
        let (branch, head) = (Office::new(1), Office::new(2));
        head.pin(&branch.record(Vec::new())).unwrap();
        branch.pin(&head.record(vec![HEAD.into()])).unwrap();
        let head_link = Link::over(net.socket(HEAD), head.config(HEAD), head.clone()).unwrap();
        let _branch_link = Link::over(net.socket(BRANCH), branch.config(BRANCH), branch.clone()).unwrap();
        while head_link.peers()[0].connected_from.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        head_link.set_limit("box-1", Some(cap)).unwrap();
        let day = dataset(4, 3).0.snapshot(&head.store, 1, head.id());
        let (link, store) = (head_link.clone(), head.store.clone());
        let sending = tokio::spawn(async move {
            link.replicate("box-1", replication(&day, &[]), store, &Cancel::new(), |_| ()).await
        });
        // What connecting took is behind us.
        tokio::time::sleep(Duration::from_secs(3)).await;
        let settled = net.now();
        tokio::time::sleep(Duration::from_secs(5)).await;
        let began = net.now();
        let mut seen = std::collections::BTreeSet::new();
        for port in 1..=8 {
            net.renumber(BRANCH, 40_000 + port);
            tokio::time::sleep(RENUMBERED).await;
            seen.extend(head_link.peers()[0].connected_from);
        }
        sending.abort();
        let wire = net.wire(HEAD, BRANCH);
        let second = Duration::from_secs(1);
        let worst = |from, to| wire.worst_within(from..to, second) * 8;
        (worst(settled, began), worst(began, net.now()), seen.len())
    };
    simulate(world)
}

#[test]
fn an_address_that_changes_lifts_no_cap() {
    for text in ["64kbit", "256kbit"] {
        let cap: Rate = text.parse().unwrap();
        let (before, after, addresses) = behind_a_nat(cap);
        assert!(addresses > 4, "the head saw {addresses} addresses only");
        assert!(before > cap.bits() / 2 && before <= cap.bits(), "{before} bits in a second under {cap}");
        assert!(after > cap.bits() / 2 && after <= cap.bits(), "{after} bits in a second under {cap} behind a NAT");
    }
}
