//! `kill -9` under load: the real program, real sockets, real files.
//!
//! A few clients change a share as fast as they can, a snapshot is taken now and then, and at a random moment the box is
//! killed; sometimes it is killed again while it recovers. Then it is started again and everything is looked at:
//!
//! * every byte whose WRITE or COMMIT was answered as stable is there, and no byte is there that nobody wrote;
//! * every answered change of the namespace is there, and the one that was under way happens once when it is repeated;
//! * calls that were answered before the kill get the same answer when they are repeated, and do nothing;
//! * the write verifier is another;
//! * snapshots are there, with the roots that they had; and `narrowboat check --deep` finds nothing.
//!
//! `NARROWBOAT_KILLS=200` kills that often (15 otherwise), `NARROWBOAT_SEED` picks another load and other moments.
//! What a kill cannot show, because the page cache survives it, `storage/tests/` shows on a disk that loses power.

mod common;
mod model;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use common::nfs::Stable;
use common::seeded::{Seeded, number};
use common::{Served, check_deep, copy_folder, data_folder};
use model::Worker;
use narrowboat::control::Request;
use narrowboat::control::reports::{Dataset, Snapshot};

/// Clients at once.
const WORKERS: u32 = 3;
/// After so many kills a new box is begun, so that young stores are met, too, and none grows without end.
const KILLS_OF_ONE_BOX: u64 = 20;
/// A box is killed at most so long after its clients began.
const LOAD_MS_MAX: u64 = 1500;

fn share(data: &Path, name: &str) {
    let request = Request::ShareCreate { name: name.into(), dedup: "inline".into() };
    common::ask::<Dataset>(data, &request).expect("a new share");
}

/// What is known of the snapshots that were answered: their roots, once they had one.
type Known = BTreeMap<String, Option<String>>;

/// Lets the workers change the share until the box is killed.
fn load(served: Served, workers: &mut [Worker], moment: Duration, snapshot: Option<(String, &mut Known)>) {
    std::thread::scope(|scope| {
        for worker in workers.iter_mut() {
            let client = served.connect();
            scope.spawn(move || worker.work(client));
        }
        match snapshot {
            Some((name, known)) => {
                std::thread::sleep(moment / 2);
                let request = Request::SnapshotCreate { dataset: "share".into(), name: Some(name) };
                let made: Snapshot = served.ask(&request).expect("a snapshot");
                known.insert(made.name, made.root);
                std::thread::sleep(moment / 2);
            }
            None => std::thread::sleep(moment),
        }
        served.kill();
    });
}

fn check_snapshots(served: &Served, known: &mut Known) -> Result<(), String> {
    let request = Request::SnapshotList { dataset: Some("share".into()) };
    let list: Vec<Snapshot> = served.ask(&request).map_err(|failed| failed.to_string())?;
    let mut there: Known = list.into_iter().map(|snapshot| (snapshot.name, snapshot.root)).collect();
    for (name, root) in known.iter_mut() {
        let now = there.remove(name).ok_or_else(|| format!("the snapshot {name} is gone"))?;
        if root.is_some() && *root != now {
            return Err(format!("the snapshot {name} had the root {root:?} and has {now:?}"));
        }
        *root = now;
    }
    Ok(())
}

/// What all kills together have met, so that nobody takes a load for one that was none.
#[derive(Debug, Default)]
struct Met {
    kills: u64,
    answered: u64,
    stable_bytes: u64,
    under_way: u64,
    repeated: u64,
    lost_unstable: u64,
}

fn kill_one_box(folder: &Path, seed: u64, kills: u64) -> Result<Met, String> {
    let mut random = Seeded::new(seed);
    let data = data_folder(folder, &format!("box-{seed}"));
    let mut served = Served::start(&data);
    share(&data, "share");
    let mut known = Known::new();
    let mut workers: Vec<Worker> = (0..WORKERS).map(|number| Worker::new(seed, number)).collect();
    let mut met = Met::default();
    for kill in 0..kills {
        let moment = Duration::from_millis(random.below(LOAD_MS_MAX));
        let snapshot = random.one_in(2).then(|| (format!("s{kill}"), &mut known));
        for worker in &mut workers {
            worker.prepare(&mut served.connect());
        }
        load(served, &mut workers, moment, snapshot);
        met.kills += 1;
        if random.one_in(4) {
            let again = Served::launch(&data);
            std::thread::sleep(Duration::from_millis(random.below(150)));
            again.kill();
            met.kills += 1;
        }
        if random.one_in(3) {
            check_deep(&data)?;
        }
        served = Served::start(&data);
        for worker in &mut workers {
            worker.verify(&mut served.connect()).map_err(|why| format!("kill {kill}, {why}\n{}", served.log()))?;
        }
        check_snapshots(&served, &mut known)?;
        check_deep(&data)?;
    }
    for worker in &workers {
        met.answered += worker.counts.answered;
        met.stable_bytes += worker.counts.stable_bytes;
        met.under_way += worker.counts.under_way;
        met.repeated += worker.counts.repeated;
        met.lost_unstable += worker.counts.lost_unstable;
    }
    // A box that was killed so often can still end in order.
    assert!(served.end_with(rustix::process::Signal::TERM).success());
    check_deep(&data)?;
    Ok(met)
}

#[test]
fn nothing_that_was_answered_as_stable_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (kills, seed) = (number("NARROWBOAT_KILLS", 15), number("NARROWBOAT_SEED", 1));
    let mut sum = Met::default();
    let mut number = 0;
    while sum.kills < kills {
        let begin = seed * 1000 + number;
        let of_this = KILLS_OF_ONE_BOX.min(kills - sum.kills);
        let met = kill_one_box(folder.path(), begin, of_this).unwrap_or_else(|why| panic!("seed {begin}: {why}"));
        std::fs::remove_dir_all(folder.path().join(format!("box-{begin}"))).expect("removed");
        sum.kills += met.kills;
        sum.answered += met.answered;
        sum.stable_bytes += met.stable_bytes;
        sum.under_way += met.under_way;
        sum.repeated += met.repeated;
        sum.lost_unstable += met.lost_unstable;
        number += 1;
    }
    println!("{sum:?}");
    assert!(sum.answered > 10 * sum.kills && sum.stable_bytes > sum.kills << 16, "a load worth the name: {sum:?}");
    assert!(sum.under_way > 0 && sum.repeated > sum.kills, "calls were cut off and repeated: {sum:?}");
}

/// The harness's eyes: a model that takes an unstable write for a stable one must be contradicted after a kill.
#[test]
fn canary_a_write_that_was_never_stable_is_seen_to_be_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "canary");
    let served = Served::start(&data);
    share(&data, "share");
    let mut worker = Worker::new(1, 0);
    let mut client = served.connect();
    worker.prepare(&mut client);
    worker.write_a_file(&mut client, "claimed", Stable::Unstable);
    worker.claim_all_is_stable();
    served.kill();
    let served = Served::start(&data);
    let seen = worker.verify(&mut served.connect());
    assert!(seen.as_ref().is_err_and(|why| why.contains("claimed")), "the loss was seen: {seen:?}");
}

/// The same for the namespace: a box that goes back to an older copy of its folder must be found out.
#[test]
fn canary_an_older_copy_of_the_folder_is_seen_to_be_older() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = data_folder(folder.path(), "canary");
    let served = Served::start(&data);
    share(&data, "share");
    let mut worker = Worker::new(2, 0);
    worker.prepare(&mut served.connect());
    served.kill();
    let copy = folder.path().join("copy");
    copy_folder(&data, &copy);
    let served = Served::start(&data);
    let mut client = served.connect();
    worker.write_a_file(&mut client, "younger", Stable::File);
    served.kill();
    let kept = Mutex::new(worker);
    let verify = |folder: &PathBuf| {
        let served = Served::start(folder);
        kept.lock().unwrap().clone().verify(&mut served.connect())
    };
    verify(&data).expect("the box itself has it");
    // The last call is not repeated towards the copy: that would make the file there.
    kept.lock().unwrap().forget_calls();
    let seen = verify(&copy);
    assert!(seen.as_ref().is_err_and(|why| why.contains("younger")), "the loss was seen: {seen:?}");
}
