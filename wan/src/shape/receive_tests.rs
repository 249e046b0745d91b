//! Who gets what, and that all together never get more than there is, under seeded peers that come, go and send.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

const STEP: Duration = Duration::from_millis(200);

fn rate(text: &str) -> Option<Rate> {
    Some(text.parse().expect("a rate"))
}

/// Looks for so long, with peers that use so much of what they are granted.
fn settle(receive: &mut Receive<u8>, now: &mut Duration, time: Duration, uses: impl Fn(u8) -> Option<f64>) {
    let end = *now + time;
    while *now < end {
        let before = receive.clone();
        let bits = |key| before.granted(key).map_or(5e6, |granted| granted.bits() as f64);
        receive.look(*now, |key| uses(key).map(|share| (bits(key) * share) as u64));
        *now += STEP;
    }
}

#[test]
fn without_a_cap_of_the_box_each_has_its_own() {
    let (mut receive, mut now) = (Receive::default(), Duration::ZERO);
    receive.set_own(1, rate("3Mbit"));
    receive.set_own(2, None);
    settle(&mut receive, &mut now, STEP, |_| Some(1.0));
    assert_eq!([receive.granted(1), receive.granted(2)], [rate("3Mbit"), None]);
}

#[test]
fn one_alone_has_the_whole_and_two_that_want_share_it() {
    let (mut receive, mut now) = (Receive::default(), Duration::ZERO);
    receive.set_whole(rate("8Mbit"));
    receive.set_own(1, None);
    receive.set_own(2, None);
    settle(&mut receive, &mut now, Duration::from_secs(6), |key| (key == 1).then_some(0.98));
    assert_eq!([receive.granted(1), receive.granted(2)], [rate("8Mbit"), rate("0")]);
    // The second is connected, and idle: it has a little.
    settle(&mut receive, &mut now, Duration::from_secs(6), |key| Some(if key == 1 { 0.98 } else { 0.0 }));
    assert_eq!([receive.granted(1), receive.granted(2)], [rate("7Mbit"), rate("1Mbit")]);
    settle(&mut receive, &mut now, Duration::from_secs(6), |_| Some(0.98));
    assert_eq!([receive.granted(1), receive.granted(2)], [rate("4Mbit"), rate("4Mbit")]);
    receive.set_own(2, rate("1Mbit"));
    settle(&mut receive, &mut now, Duration::from_secs(6), |_| Some(0.98));
    assert_eq!([receive.granted(1), receive.granted(2)], [rate("7Mbit"), rate("1Mbit")]);
}

#[test]
fn a_lowered_cap_counts_at_once_and_a_pause_is_one() {
    let (mut receive, mut now) = (Receive::default(), Duration::ZERO);
    receive.set_whole(rate("8Mbit"));
    receive.set_own(1, None);
    settle(&mut receive, &mut now, Duration::from_secs(6), |_| Some(1.0));
    for text in ["2Mbit", "0", "1Mbit"] {
        receive.set_whole(rate(text));
        settle(&mut receive, &mut now, STEP, |_| Some(1.0));
        assert_eq!(receive.granted(1), rate(text), "what was held is its own, so nothing stands in the way of more");
    }
}

#[test]
fn a_line_too_thin_for_all_leaves_some_out_rather_than_going_over() {
    let (mut receive, mut now) = (Receive::default(), Duration::ZERO);
    receive.set_whole(rate("64kbit"));
    (0..4).for_each(|key| receive.set_own(key, None));
    settle(&mut receive, &mut now, Duration::from_secs(12), |_| Some(1.0));
    let granted: u64 = (0..4).filter_map(|key| receive.granted(key)).map(Rate::bits).sum();
    assert!(granted <= 64_000, "{granted}");
}

/// Whatever happens: what peers may send by what they have been told, now or up to a round trip ago, is within the cap.
#[test]
fn grants_together_never_exceed_the_cap() {
    let seeds: u64 = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    for seed in 0..seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let whole = Rate::from_bits(rng.random_range(500_000..50_000_000)).expect("in bounds");
        let mut receive = Receive::default();
        receive.set_whole(Some(whole));
        let peers: Vec<u8> = (0..rng.random_range(1..6)).collect();
        for peer in &peers {
            let own = Rate::from_bits(rng.random_range(100_000..50_000_000)).ok();
            receive.set_own(*peer, own.filter(|_| rng.random()));
        }
        let mut uses: Vec<Option<f64>> = vec![None; peers.len()];
        let mut told: Vec<Vec<u64>> = vec![Vec::new(); peers.len()];
        for step in 0..300_u32 {
            if step % 10 == 0 {
                let peer = rng.random_range(0..peers.len());
                uses[peer] = [None, Some(0.0), Some(1.0)][rng.random_range(0..3_usize)];
            }
            let before = receive.clone();
            let bits = |key: u8| before.granted(key).map_or(0.0, |granted| granted.bits() as f64);
            receive.look(STEP * step, |key| uses[usize::from(key)].map(|share| (bits(key) * share) as u64));
            for (peer, told) in peers.iter().zip(&mut told) {
                told.push(receive.granted(*peer).map_or(0, Rate::bits));
            }
            // A sender's second may hold what its highest grant of the last second, and of a round trip before, allowed.
            let may: u64 = told.iter().map(|told| *told.iter().rev().take(9).max().unwrap_or(&0)).sum();
            assert!(may <= whole.bits(), "seed {seed}, step {step}: {may} of {whole}");
        }
    }
}
