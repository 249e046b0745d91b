//! More branches than a hub has places for, with sessions that last for longer than anybody should wait, in simulated time: they take
//! turns, and all get there.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::{at, simulate};
use narrowboat_lines::simnet::{Line, SimNet};
use narrowboat_wan::link::{Cancel, Host, Link};
use tokio::task::JoinSet;

const HUB: u8 = 200;
const BRANCHES: u8 = 12;

/// A hub with two places.
struct World {
    net: SimNet,
    hub: Arc<Office>,
    _hub_link: Link,
}

fn world(bits_per_second: u64) -> World {
    let net = SimNet::new(7);
    let hub = Office::new(HUB);
    for number in 1..=BRANCHES {
        net.connect(at(number), at(HUB), Line::new(bits_per_second, Duration::from_millis(80), 0.0));
        hub.pin(&Office::new(number).record(Vec::new())).unwrap();
    }
    let mut config = hub.config(at(HUB));
    config.sessions = 2;
    let hub_link = Link::over(net.socket(at(HUB)), config, hub.clone()).unwrap();
    World { net, hub, _hub_link: hub_link }
}

impl World {
    fn branch(&self, number: u8) -> (Arc<Office>, Link) {
        let branch = Office::new(number);
        branch.pin(&self.hub.record(vec![at(HUB).into()])).unwrap();
        let link = Link::over(self.net.socket(at(number)), branch.config(at(number)), branch.clone()).unwrap();
        (branch, link)
    }
}

/// Each has more to send than its line takes in a turn.
#[test]
fn twelve_branches_share_two_places_and_all_get_there() {
    simulate(async {
        let world = world(64_000);
        let mut sending = JoinSet::new();
        for number in 1..=BRANCHES {
            let (branch, link) = world.branch(number);
            sending.spawn(async move {
                let mut data = dataset(number.into(), 4).0;
                data.id = narrowboat_storage::id::DatasetId([number; 16]);
                let day = data.snapshot(&branch.store, number, branch.id());
                let (mut attempts, never) = (0, Cancel::new());
                let told = |progress: narrowboat_wan::link::Progress| attempts = progress.attempts;
                let done = link.replicate("box-200", replication(&day, &[]), branch.store.clone(), &never, told);
                let report = done.await.unwrap_or_else(|stopped| panic!("branch {number}: {stopped:?}"));
                (number, attempts, report)
            });
        }
        let mut attempts_all = 0;
        while let Some(done) = sending.join_next().await {
            let (number, attempts, report) = done.unwrap();
            assert!(report.published, "branch {number}");
            attempts_all += attempts;
        }
        assert!(attempts_all > u32::from(BRANCHES) + 4, "nobody's turn was over: {attempts_all} attempts");
        world.hub.store.check().unwrap();
    });
}

#[test]
fn who_waits_is_not_silent_and_who_gives_up_waits_no_longer() {
    simulate(async {
        let world = world(64_000);
        let mut sending = JoinSet::new();
        let gives_up = Cancel::new();
        for number in 1..=4 {
            let (branch, link) = world.branch(number);
            let cancel = if number == 3 { gives_up.clone() } else { Cancel::new() };
            sending.spawn(async move {
                let mut data = dataset(number.into(), 1).0;
                data.id = narrowboat_storage::id::DatasetId([number; 16]);
                let day = data.snapshot(&branch.store, number, branch.id());
                let mut attempts = 0;
                let told = |progress: narrowboat_wan::link::Progress| attempts = progress.attempts;
                let done = link.replicate("box-200", replication(&day, &[]), branch.store.clone(), &cancel, told).await;
                (number, attempts, done.is_ok())
            });
            // In this order.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        gives_up.cancel();
        while let Some(done) = sending.join_next().await {
            let (number, attempts, published) = done.unwrap();
            assert_eq!(published, number != 3, "branch {number}");
            assert_eq!(attempts, 1, "branch {number} waited for its place, and was not driven away");
        }
    });
}
