//! Shares, guarantees and ceilings: by hand, and under seeded traffic that comes and goes.

use std::collections::VecDeque;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

/// Every peer always wants to send; who is asked first is the same each time. Returns the bytes of each.
fn saturate(tree: &mut Tree, peers: &[NodeId], time: Duration) -> Vec<u64> {
    let mut sent = vec![0; peers.len()];
    let mut now = Duration::ZERO;
    while now < time {
        for (index, peer) in peers.iter().enumerate() {
            while tree.check(now, *peer, Class::Normal, 1480) == Verdict::Now {
                tree.charge(now, *peer, Class::Normal, 1480, 1);
                sent[index] += 1480;
            }
        }
        now += Duration::from_millis(1);
    }
    sent
}

#[test]
fn the_box_caps_the_sum_and_shares_it_equally() {
    let mut tree = Tree::new(rate("10Mbit"), rate("1Mbit"));
    let peers = [tree.add(None), tree.add(rate("100Mbit")), tree.add(None)];
    let sent = saturate(&mut tree, &peers, Duration::from_secs(10));
    let sum: u64 = sent.iter().sum();
    assert!((0.97..=1.0).contains(&(sum as f64 * 8.0 / 1e8)), "{sent:?}");
    for bytes in &sent {
        let share = *bytes as f64 / sum as f64;
        assert!((0.30..0.37).contains(&share), "{sent:?}");
    }
}

#[test]
fn what_a_capped_peer_leaves_the_others_use() {
    let mut tree = Tree::new(rate("10Mbit"), rate("1Mbit"));
    let peers = [tree.add(rate("1Mbit")), tree.add(None)];
    let sent = saturate(&mut tree, &peers, Duration::from_secs(10));
    assert!((0.95..=1.0).contains(&(sent[0] as f64 * 8.0 / 1e7)), "{sent:?}");
    assert!((0.96..=1.0).contains(&(sent[1] as f64 * 8.0 / 0.9e8)), "{sent:?}");
}

#[test]
fn an_idle_peer_saves_up_no_claim() {
    let mut tree = Tree::new(rate("10Mbit"), None);
    let peers = [tree.add(None), tree.add(None)];
    saturate(&mut tree, &peers[..1], Duration::from_secs(60));
    let sent = saturate(&mut tree, &peers, Duration::from_secs(61));
    let share = sent[0] as f64 / (sent[0] + sent[1]) as f64;
    assert!(share > 0.3, "a second after a minute alone: {sent:?}");
}

#[test]
fn a_paused_peer_does_not_stop_the_others() {
    let mut tree = Tree::new(rate("10Mbit"), None);
    let peers = [tree.add(Some(Rate::PAUSED)), tree.add(None)];
    assert_eq!(tree.check(Duration::ZERO, peers[0], Class::Normal, 100), Verdict::Paused);
    let sent = saturate(&mut tree, &peers, Duration::from_secs(5));
    assert_eq!(sent[0], 0);
    assert!(sent[1] > 6_000_000);
}

#[test]
fn transmissions_shrink_with_the_lowest_cap() {
    let mut tree = Tree::new(None, rate("1Mbit"));
    assert_eq!(tree.transmission_bytes_max(), None);
    let peer = tree.add(rate("20Mbit"));
    assert_eq!(tree.transmission_bytes_max(), Some(5000));
    tree.set_limit(Duration::ZERO, Some(peer), Some(Rate::PAUSED));
    assert_eq!(tree.transmission_bytes_max(), None);
}

#[test]
fn a_removed_peer_is_a_stranger() {
    let mut tree = Tree::new(None, Some(Rate::PAUSED));
    let peer = tree.add(None);
    assert_eq!(tree.check(Duration::ZERO, peer, Class::Normal, 100), Verdict::Now);
    tree.remove(peer);
    assert_eq!(tree.check(Duration::ZERO, peer, Class::Normal, 100), Verdict::Paused);
}

#[test]
fn a_thin_line_is_shared_as_a_thick_one_is() {
    // A datagram takes 185 ms: who waits for so long has not lost interest.
    let mut world = World::new(1, rate("64kbit"), vec![(None, vec![Class::Normal]), (None, vec![Class::Normal])]);
    world.run(Duration::from_secs(120), |_, _| true);
    let (one, two) = (world.sent(0), world.sent(1));
    let share = one as f64 / (one + two) as f64;
    assert!((0.45..0.55).contains(&share), "{one} and {two}");
}

#[test]
fn classes_get_their_shares_and_lend_what_they_leave() {
    for (text, on, shares) in [
        ("10Mbit", vec![true; 5], vec![0.32, 0.48, 0.14, 0.05, 0.01]),
        ("10Mbit", vec![false, true, false, true, false], vec![0.0, 0.906, 0.0, 0.094, 0.0]),
        ("10Mbit", vec![false, false, false, true, true], vec![0.0, 0.0, 0.0, 0.833, 0.167]),
        ("10Mbit", vec![false, false, false, false, true], vec![0.0, 0.0, 0.0, 0.0, 1.0]),
        ("512kbit", vec![false, false, true, true, false], vec![0.0, 0.0, 0.737, 0.263, 0.0]),
    ] {
        // Whether the peer's cap is in the way or that of the box.
        for (whole, own) in [(rate(text), None), (None, rate(text))] {
            let mut world = World::new(2, whole, vec![(own, Class::ALL.to_vec())]);
            world.run(Duration::from_secs(60), |_, class| on[class.place()]);
            let sent: Vec<u64> = Class::ALL.iter().map(|class| world.sent_class(0, *class)).collect();
            let sum: u64 = sent.iter().sum();
            let cap = rate(text).expect("a cap").bytes_in(Duration::from_secs(60));
            assert!(sum as f64 > 0.95 * cap as f64, "{text} is used: {sum} of {cap}");
            for (sent, share) in sent.iter().zip(shares.iter()) {
                assert!(
                    (*sent as f64 / sum as f64 - share).abs() < 0.02,
                    "{text} {on:?}: {sent:?} of {sum}, not {share}"
                );
            }
        }
    }
}

#[test]
fn a_class_that_begins_is_served_at_once() {
    let mut world = World::new(3, None, vec![(rate("2Mbit"), vec![Class::Normal, Class::Restore])]);
    world.run(Duration::from_secs(30), |_, class| class == Class::Normal);
    let before = world.log.len();
    world.run(Duration::from_secs(1), |_, _| true);
    let first = world.log[before..].iter().position(|sent| sent.class == Class::Restore).expect("it is served");
    assert!(first <= 4, "after {first} transmissions of the other");
}

#[test]
fn a_ceiling_holds_also_where_there_is_more_to_borrow() {
    let mut world = World::new(4, None, vec![(rate("10Mbit"), vec![Class::Normal, Class::Scavenger])]);
    let node = world.senders[0].node;
    world.tree.set_ceiling(Duration::ZERO, node, Class::Scavenger, rate("1Mbit"));
    world.run(Duration::from_secs(20), |_, class| class == Class::Scavenger);
    let alone = world.sent(0) as f64 * 8.0 / 20e6;
    assert!((0.95..=1.0).contains(&alone), "{alone}");
    assert!(world.worst_second(|sent| sent.class == Class::Scavenger) <= 125_000);
    let before = world.sent(0);
    world.run(Duration::from_secs(20), |_, _| true);
    let both = (world.sent(0) - before) as f64 * 8.0 / 200e6;
    assert!(both > 0.95, "what stays under its ceiling leaves the rest to the other: {both}");
}

/// Seeded worlds: a box, peers and their classes, which want to send or not, with timers that are late.
#[test]
fn caps_guarantees_and_loans_hold_in_every_world() {
    let seeds: u64 = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(40);
    for seed in 0..seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let bits = |rng: &mut SmallRng| Rate::from_bits(rng.random_range(300_000..8_000_000)).ok();
        let whole = if rng.random_range(0..4) == 0 { None } else { bits(&mut rng) };
        let peers: Vec<_> = (0..rng.random_range(1..4))
            .map(|_| {
                let own = if whole.is_some() && rng.random() { None } else { bits(&mut rng) };
                (own, Class::ALL.into_iter().filter(|_| rng.random_range(0..3) > 0).collect::<Vec<_>>())
            })
            .collect();
        let mut world = World::new(seed, whole, peers.clone());
        let time = Duration::from_secs(20);
        // One class of each peer never stops wanting; the others come and go by the second.
        let steady: Vec<Option<Class>> = peers.iter().map(|(_, classes)| classes.last().copied()).collect();
        let mood: Vec<u64> = (0..64).map(|_| rng.random()).collect();
        world.run_timed(time, |now, peer, class| {
            steady[peer] == Some(class)
                || mood[(now.as_secs() as usize * 7 + peer * 5 + class.place()) % 64].is_multiple_of(2)
        });
        if let Some(whole) = whole {
            let worst = world.worst_second(|_| true);
            assert!(
                worst <= whole.bytes_in(Duration::from_secs(1)),
                "seed {seed}: {worst} bytes in a second under {whole}"
            );
        }
        let limits: Vec<Option<Rate>> = peers.iter().map(|(own, _)| *own).collect();
        for (peer, own) in limits.iter().enumerate() {
            let worst = world.worst_second(|sent| sent.peer == peer);
            assert!(
                own.is_none_or(|own| worst <= own.bytes_in(Duration::from_secs(1))),
                "seed {seed}: {worst} under {own:?}"
            );
        }
        let wanting: Vec<usize> = (0..peers.len()).filter(|peer| steady[*peer].is_some()).collect();
        let own_sum: u64 = wanting.iter().map(|peer| limits[*peer].map_or(u64::MAX / 8, Rate::bits)).sum();
        let bound = whole.map_or(own_sum, |whole| whole.bits().min(own_sum));
        if !wanting.is_empty() {
            let used =
                world.log.iter().map(|sent| sent.bytes).sum::<u64>() as f64 * 8.0 / time.as_secs_f64() / bound as f64;
            assert!(
                used > 0.93,
                "seed {seed}: {used:.3} of what the caps allow was used, though somebody always wanted"
            );
        }
        for peer in wanting {
            let class = steady[peer].expect("it wants");
            let (own, all) = (world.sent_class(peer, class), world.sent(peer));
            let due = all * class.share_percent() / 100;
            // A few transmissions of the others, and one of its own, may be under way at the end.
            assert!(own + 64 * 1024 >= due, "seed {seed}: {class} got {own} of {all} bytes, and {due} are its share");
            assert!(own > 0, "seed {seed}: {class} starves");
            assert!(world.longest_gap(peer, class) < Duration::from_secs(12), "seed {seed}: {class} waited too long");
        }
    }
}

/// A transmission that left.
#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Duration,
    peer: usize,
    class: Class,
    bytes: u64,
}

/// One class of one peer: a connection with its timer.
struct Sender {
    peer: usize,
    node: NodeId,
    class: Class,
    /// When it asks next.
    asks: Duration,
}

/// Connections that ask, wait as they are told, and are late.
struct World {
    tree: Tree,
    rng: SmallRng,
    now: Duration,
    senders: Vec<Sender>,
    log: Vec<Sent>,
}

impl World {
    /// Peers with their caps and the classes that they have connections of.
    fn new(seed: u64, whole: Option<Rate>, peers: Vec<(Option<Rate>, Vec<Class>)>) -> World {
        let mut tree = Tree::new(whole, None);
        let mut senders = Vec::new();
        for (peer, (own, classes)) in peers.into_iter().enumerate() {
            let node = tree.add(own);
            senders.extend(classes.into_iter().map(|class| Sender { peer, node, class, asks: Duration::ZERO }));
        }
        World { tree, rng: SmallRng::seed_from_u64(seed), now: Duration::ZERO, senders, log: Vec::new() }
    }

    fn run(&mut self, time: Duration, wants: impl Fn(usize, Class) -> bool) {
        self.run_timed(time, |_, peer, class| wants(peer, class));
    }

    /// Each sender that wants asks when its timer says so, up to 1.5 ms late, sends as long as it may, and waits as it is told.
    fn run_timed(&mut self, time: Duration, wants: impl Fn(Duration, usize, Class) -> bool) {
        let end = self.now + time;
        self.senders.iter_mut().for_each(|sender| sender.asks = self.now);
        while let Some(next) = (0..self.senders.len()).min_by_key(|nth| self.senders[*nth].asks) {
            let (node, peer, class, asks) = {
                let sender = &self.senders[next];
                (sender.node, sender.peer, sender.class, sender.asks)
            };
            if asks >= end {
                break;
            }
            self.now = self.now.max(asks);
            let late = Duration::from_micros(self.rng.random_range(1..1500));
            if !wants(self.now, peer, class) {
                self.senders[next].asks = self.now + Duration::from_millis(20);
                continue;
            }
            let bytes = if self.rng.random_range(0..8) == 0 { self.rng.random_range(60..1480) } else { 1480 };
            self.senders[next].asks = match self.tree.check(self.now, node, class, bytes) {
                Verdict::Now => {
                    self.tree.charge(self.now, node, class, bytes, 1);
                    self.log.push(Sent { at: self.now, peer, class, bytes });
                    self.now
                }
                Verdict::At(when) => {
                    assert!(when > self.now, "a verdict that says wait names a later time");
                    when + late
                }
                verdict => panic!("{verdict:?}"),
            };
        }
        self.now = end;
    }

    fn sum(&self, counts: impl Fn(&Sent) -> bool) -> u64 {
        self.log.iter().filter(|sent| counts(sent)).map(|sent| sent.bytes).sum()
    }

    fn sent(&self, peer: usize) -> u64 {
        self.sum(|sent| sent.peer == peer)
    }

    fn sent_class(&self, peer: usize, class: Class) -> u64 {
        let sum = self.sum(|sent| sent.peer == peer && sent.class == class);
        let node = self.senders.iter().find(|sender| sender.peer == peer).map(|sender| sender.node);
        assert_eq!(node.map(|node| self.tree.sent_by_class(node)[class.place()]), Some(sum));
        sum
    }

    fn worst_second(&self, counts: impl Fn(&Sent) -> bool) -> u64 {
        let (mut worst, mut sum, mut window) = (0, 0, VecDeque::new());
        for sent in self.log.iter().filter(|sent| counts(sent)) {
            sum += sent.bytes;
            window.push_back(*sent);
            while let Some(first) = window.front().filter(|first| first.at + Duration::from_secs(1) <= sent.at) {
                sum -= first.bytes;
                window.pop_front();
            }
            worst = worst.max(sum);
        }
        worst
    }

    fn longest_gap(&self, peer: usize, class: Class) -> Duration {
        let times = self.log.iter().filter(|sent| sent.peer == peer && sent.class == class).map(|sent| sent.at);
        let times: Vec<Duration> = times.chain([self.now]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(self.now)
    }
}
