//! Whole boxes in whole worlds, in simulated time: real endpoints over lines that lose, double, reorder, break and narrow, while
//! boxes lose their power, disks fill, caps change, and one box is older than the other until it is updated. One seed, one world. In the end roots
//! are equal, no second was above the cap that counted in it, and what was refused was refused with a sentence.
//!
//! `NARROWBOAT_SEEDS=1000` runs that many, `NARROWBOAT_SEEDS=4000..5000` these (`make worlds` runs ten thousand); `NARROWBOAT_SEED=7` runs one and tells what happens.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::office::{Office, dataset, replication};
use common::rng::Rng;
use common::{each_seed, simulate};
use narrowboat_lines::simnet::{Line, Loss, SimNet};
use narrowboat_wan::link::{Cancel, Host, Link, LinkError};
use narrowboat_wan::shape::Rate;
use narrowboat_wan::sync::{Failure, Replication};
use narrowboat_wan::wire::{FEATURE_BUNDLES, FEATURE_PREFIXES, FEATURE_PROOFS, FEATURES_KNOWN, StopCode};

const HERE: SocketAddr = common::at(1);
const THERE: SocketAddr = common::at(2);
/// However bad the world is, a snapshot is there after so long.
const AT_LAST: Duration = Duration::from_secs(3600);
/// Headers of IPv4 and UDP on the shortest datagram that every path must take (RFC 9000, section 14).
const NARROWEST: u64 = 1228;

fn seconds(rng: &mut Rng, most: u64) -> Duration {
    Duration::from_millis(rng.below(most * 1000))
}

fn line(rng: &mut Rng, now: Duration) -> Line {
    let bits = [128_000, 1_000_000, 5_000_000, 20_000_000][rng.below(4) as usize];
    let mut line = Line::new(bits, Duration::from_millis(rng.within(2, 600)), rng.below(4) as f64 / 100.0);
    if rng.one_in(3) {
        line.loss = Loss::Bursts { worsens: 0.002, recovers: 0.1, loses: 0.8 };
    }
    line.jitter = if rng.one_in(3) { Duration::from_millis(rng.below(30)) } else { Duration::ZERO };
    line.reorder = if rng.one_in(3) { 0.02 } else { 0.0 };
    line.duplicate = if rng.one_in(3) { 0.05 } else { 0.0 };
    for _ in 0..rng.below(3) {
        let begin = now + seconds(rng, 30);
        line.outages.push(begin..begin + seconds(rng, 40));
    }
    if rng.one_in(3) {
        line.holes.push((now + seconds(rng, 10), NARROWEST + rng.below(250)));
    }
    line
}

/// What a box of today or of some time ago knows: the protocol of the first day, then with bundles, then with prefixes, then with proofs.
fn features(rng: &mut Rng) -> u64 {
    let age = [0, FEATURE_BUNDLES, FEATURE_BUNDLES | FEATURE_PREFIXES];
    age.get(rng.below(9) as usize).copied().unwrap_or(FEATURES_KNOWN)
}

/// Something that happens to a world.
#[derive(Debug)]
enum Event {
    /// The box that sends loses its power.
    BranchDies,
    /// The box that receives loses its power, and so many per cent of what was not synced.
    HeadDies(u64),
    /// There is room for so many more objects at the box that receives, for so long.
    Full(usize, Duration),
    /// Another cap.
    Cap(u64),
    /// Another line.
    Line,
    /// A person cancels it, and begins it again.
    Cancelled,
}

fn event(rng: &mut Rng) -> Event {
    match rng.below(6) {
        0 => Event::BranchDies,
        1 => Event::HeadDies(rng.below(101)),
        2 => Event::Full(rng.below(40) as usize, seconds(rng, 20)),
        3 => Event::Cap(rng.within(2, 60) * 100_000),
        4 => Event::Line,
        _ => Event::Cancelled,
    }
}

/// Two boxes, the net between them, and since when which cap counts.
struct World {
    seed: u64,
    loud: bool,
    rng: Rng,
    net: SimNet,
    offices: [Arc<Office>; 2],
    links: [Link; 2],
    /// What each box knows.
    features: [u64; 2],
    /// Whether the one that receives demands proofs.
    demands: bool,
    caps: Vec<(Duration, Rate)>,
}

fn open(net: &SimNet, office: &Arc<Office>, at: SocketAddr, features: u64, demands: bool) -> Link {
    let mut config = office.config(at);
    config.features = features;
    config.require_proofs = demands && features & FEATURE_PROOFS != 0;
    config.limits.window_bytes = 256 << 10;
    config.retry_for = Duration::from_secs(120);
    Link::over(net.socket(at), config, office.clone()).unwrap()
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let net = SimNet::new(seed);
        let offices = [Office::new(1), Office::new(2)];
        net.connect(HERE, THERE, line(&mut rng, Duration::ZERO));
        offices[1].pin(&offices[0].record(Vec::new())).unwrap();
        offices[0].pin(&offices[1].record(vec![THERE.into()])).unwrap();
        let (features, demands) = ([features(&mut rng), features(&mut rng)], rng.one_in(2));
        let links =
            [open(&net, &offices[0], HERE, features[0], demands), open(&net, &offices[1], THERE, features[1], demands)];
        let loud = std::env::var_os("NARROWBOAT_SEED").is_some();
        let mut world = World { seed, loud, rng, net, offices, links, features, demands, caps: Vec::new() };
        let bits = world.rng.within(2, 60) * 100_000;
        world.cap(bits);
        world
    }

    fn tell(&self, what: &dyn std::fmt::Debug) {
        if self.loud {
            eprintln!("{:>10.3} {what:?}", self.net.now().as_secs_f64());
        }
    }

    fn cap(&mut self, bits: u64) {
        let cap = Rate::from_bits(bits).unwrap();
        self.links[0].set_limit("box-2", Some(cap)).unwrap();
        self.caps.push((self.net.now(), cap));
    }

    /// A box loses its power, and so many per cent of what was not synced, and is there again some seconds later.
    async fn dies(&mut self, which: usize, per_cent: u64) {
        let at = [HERE, THERE][which];
        let store = self.offices[which].store.clone();
        self.net.silence(at);
        store.die();
        self.links[which].shutdown().await;
        store.restart(store.unsynced() * (100 - per_cent as usize) / 100);
        tokio::time::sleep(seconds(&mut self.rng, 10)).await;
        // Now and then that is the moment at which it gets the software of today.
        if self.rng.one_in(4) {
            self.features[which] = FEATURES_KNOWN;
        }
        self.reopen(which);
    }

    fn reopen(&mut self, which: usize) {
        let at = [HERE, THERE][which];
        self.links[which] = open(&self.net, &self.offices[which], at, self.features[which], self.demands);
        if let Some((_, cap)) = self.caps.last().copied() {
            self.cap(cap.bits());
        }
    }

    /// What the box that receives would not take from so old a sender was told in a sentence; the sender is updated.
    async fn refused(&mut self, error: &LinkError, knew: u64) {
        let (code, sentence) = match error {
            LinkError::Replication(Failure::Incompatible { code, sentence }) => (*code, sentence),
            LinkError::Replication(Failure::Stopped(stop)) => (stop.code, &stop.sentence),
            _ => return,
        };
        if code == StopCode::Version {
            let demands = self.demands && self.features[1] & FEATURE_PROOFS != 0;
            assert!(demands && knew & FEATURE_PROOFS == 0, "seed {}: {sentence}", self.seed);
            assert!(sentence.contains("features"), "seed {}: {sentence}", self.seed);
            // It may have been so meanwhile.
            if self.features[0] != FEATURES_KNOWN {
                self.links[0].shutdown().await;
                self.features[0] = FEATURES_KNOWN;
                self.reopen(0);
            }
        }
    }

    async fn happens(&mut self, event: Event) {
        match event {
            Event::BranchDies => self.dies(0, 0).await,
            Event::HeadDies(per_cent) => self.dies(1, per_cent).await,
            Event::Full(more, lasts) => {
                self.offices[1].store.fill(Some(more));
                tokio::time::sleep(lasts).await;
                self.offices[1].store.fill(None);
            }
            Event::Cap(bits) => self.cap(bits),
            Event::Line => {
                let line = line(&mut self.rng, self.net.now());
                self.net.connect(HERE, THERE, line);
            }
            Event::Cancelled => {}
        }
    }

    /// Sends a snapshot, again and again, while things happen to the world, until it is there.
    async fn send(&mut self, what: &Replication) {
        let mut left = self.rng.below(5);
        while self.net.now() < AT_LAST {
            let next = if left > 0 { seconds(&mut self.rng, 6) } else { AT_LAST };
            let (cancel, knew) = (Cancel::new(), self.features[0]);
            let (link, source) = (self.links[0].clone(), self.offices[0].store.clone());
            let work = async {
                let outcome = link.replicate("box-2", what.clone(), source, &cancel, |_| ()).await;
                // Whoever tries again does not do so at once.
                if outcome.is_err() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                outcome
            };
            tokio::pin!(work);
            let outcome = tokio::select! {
                outcome = &mut work => Some(outcome),
                () = tokio::time::sleep(next) => None,
            };
            match outcome {
                Some(Ok(report)) => {
                    self.tell(&"published");
                    assert!(report.published, "seed {}", self.seed);
                    return;
                }
                Some(Err(stopped)) => {
                    self.tell(&stopped.error);
                    self.refused(&stopped.error, knew).await;
                }
                None => {
                    left = left.saturating_sub(1);
                    let event = event(&mut self.rng);
                    self.tell(&event);
                    if matches!(event, Event::Cancelled | Event::BranchDies) {
                        cancel.cancel();
                    }
                    let seed = self.seed;
                    let ended = {
                        // What is being sent goes on meanwhile.
                        let happens = self.happens(event);
                        tokio::pin!(happens);
                        let over = async { tokio::join!(&mut happens, &mut work).1 };
                        tokio::time::timeout(AT_LAST, over).await.unwrap_or_else(|_| panic!("seed {seed}"))
                    };
                    match ended {
                        Ok(report) => {
                            assert!(report.published, "seed {seed}");
                            return;
                        }
                        Err(stopped) => self.refused(&stopped.error, knew).await,
                    }
                }
            }
        }
        panic!("seed {}: it is not there after {AT_LAST:?}", self.seed);
    }

    /// No second in which one cap counted carried more than it, and 2 %.
    fn check_caps(&self) {
        let wire = self.net.wire(HERE, THERE);
        let second = Duration::from_secs(1);
        let ends = self.caps.iter().skip(1).map(|(at, _)| *at).chain([self.net.now()]);
        for ((from, cap), to) in self.caps.iter().zip(ends) {
            // The second before a change may have had more; so may what of it is left in this one.
            let worst = wire.worst_within(*from + second..to, second) * 8;
            let most = cap.bits() * 102 / 100;
            assert!(worst <= most, "seed {}: {worst} bits in a second under {cap} from {from:?} to {to:?}", self.seed);
        }
    }
}

async fn world(seed: u64) {
    let mut world = World::new(seed);
    let megabytes = world.rng.within(1, 3);
    let (mut data, mut edits, size) = dataset(seed, megabytes);
    let mut earlier = Vec::new();
    for day in 1..=2 {
        let branch = world.offices[0].clone();
        let snapshot = data.snapshot(&branch.store, day, branch.id());
        let bases: Vec<_> = earlier.iter().collect();
        let what = replication(&snapshot, &bases);
        world.send(&what).await;
        let store = &world.offices[1].store;
        store.check().unwrap_or_else(|what| panic!("seed {seed}: {what}"));
        assert_eq!(store.published(&snapshot.snapshot), Some(snapshot.clone()), "seed {seed}");
        data.edit(&mut edits, size, 5);
        earlier.push(snapshot);
    }
    world.check_caps();
    for link in &world.links {
        link.shutdown().await;
    }
}

#[test]
fn whatever_happens_roots_are_equal_in_the_end_and_caps_hold() {
    each_seed(24, |seed| simulate(world(seed)));
}
