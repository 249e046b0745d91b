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

/// What each of so many peers was granted over ten minutes, in bits, by looks five times a second.
fn ten_minutes(whole: &str, peers: u8, uses: impl Fn(u8) -> Option<f64>) -> Vec<u64> {
    let mut receive = Receive::default();
    receive.set_whole(rate(whole));
    (0..peers).for_each(|key| receive.set_own(key, None));
    let (mut now, mut bits) = (Duration::ZERO, vec![0; usize::from(peers)]);
    while now < Duration::from_secs(600) {
        settle(&mut receive, &mut now, STEP, &uses);
        let granted: Vec<u64> = (0..peers).map(|key| receive.granted(key).map_or(0, Rate::bits)).collect();
        assert!(granted.iter().sum::<u64>() <= rate(whole).map_or(0, Rate::bits), "{granted:?} of {whole} at {now:?}");
        bits.iter_mut().zip(granted).for_each(|(sum, granted)| *sum += granted / 5);
    }
    bits
}

#[test]
fn a_line_too_thin_for_all_is_had_in_turns() {
    for (whole, peers) in [("64kbit", 3), ("32kbit", 2), ("32kbit", 5), ("100kbit", 20)] {
        let bits = ten_minutes(whole, peers, |_| Some(1.0));
        let (least, most) = (bits.iter().min().copied(), bits.iter().max().copied());
        let equal = rate(whole).map_or(0, Rate::bits) * 600 / u64::from(peers);
        assert!(least > Some(equal / 2), "{whole} for {peers}: {bits:?}, of {equal} each");
        assert!(most < least.map(|least| least * 4 / 3), "{whole} for {peers}: {bits:?}");
    }
}

#[test]
fn who_wants_nothing_has_short_turns_and_keeps_them() {
    let bits = ten_minutes("64kbit", 4, |key| Some(if key < 2 { 1.0 } else { 0.0 }));
    assert!(bits[2..].iter().all(|bits| *bits > 0), "it could never say that it wants: {bits:?}");
    assert!(bits[0] > 2 * bits[2] && bits[1] > 2 * bits[3], "who wants has more: {bits:?}");
}

#[test]
fn a_lowered_cap_takes_turns_from_the_next_look_on() {
    let (mut receive, mut now) = (Receive::default(), Duration::ZERO);
    receive.set_whole(rate("8Mbit"));
    (0..4).for_each(|key| receive.set_own(key, None));
    settle(&mut receive, &mut now, Duration::from_secs(6), |_| Some(1.0));
    receive.set_whole(rate("64kbit"));
    settle(&mut receive, &mut now, STEP, |_| Some(1.0));
    let granted: u64 = (0..4).filter_map(|key| receive.granted(key)).map(Rate::bits).sum();
    assert!(granted <= 64_000, "{granted}");
}

/// Whatever happens: what peers may send by what they have been told, now or up to a round trip ago, is within the cap.
#[test]
fn grants_together_never_exceed_the_cap() {
    let seeds: u64 = std::env::var("NARROWBOAT_SEEDS").ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    for seed in 0..seeds {
        let mut rng = SmallRng::seed_from_u64(seed);
        let whole = Rate::from_bits(if rng.random() {
            rng.random_range(500_000..50_000_000)
        } else {
            rng.random_range(32_000..300_000)
        })
        .expect("in bounds");
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
