//! Probes of simulated lines whose truth is known, in simulated time: whole endpoints, quinn, caps and all.

#![allow(clippy::unwrap_used)] // a failed step ends the test

mod common;

use std::time::Duration;

use common::office::Office;
use common::simulate;
use narrowboat_lines::simnet::{Line, Loss, SimNet};
use narrowboat_wan::link::{Host, Link, Unmeasured};
use narrowboat_wan::probe::Survey;
use narrowboat_wan::shape::Rate;

/// Probes from box 1 to box 2 over these lines; with the bytes that were put into each line meanwhile.
async fn probe(seed: u64, lines: [Line; 2], cap: Option<u64>) -> (Survey, [u64; 2], Result<Survey, Unmeasured>) {
    let net = SimNet::new(seed);
    let (branch, head) = (Office::new(1), Office::new(2));
    let [here, there] = [1, 2].map(common::at);
    let ways = [(here, there), (there, here)];
    for (ends, line) in ways.into_iter().zip(lines) {
        net.set_line(ends, line);
    }
    head.pin(&branch.record(Vec::new())).unwrap();
    branch.pin(&head.record(vec![there.into()])).unwrap();
    let head_link = Link::over(net.socket(there), head.config(there), head.clone()).unwrap();
    let link = Link::over(net.socket(here), branch.config(here), branch.clone()).unwrap();
    link.set_limit("box-2", cap.map(|bits| Rate::from_bits(bits).unwrap())).unwrap();
    while link.peers()[0].connected_from.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = ways.map(|(from, to)| net.wire(from, to).bytes);
    let survey = link.probe("box-2").await.unwrap().survey.unwrap();
    let after = ways.map(|(from, to)| net.wire(from, to).bytes);
    let again = link.probe("box-2").await.unwrap().survey;
    link.shutdown().await;
    head_link.shutdown().await;
    (survey, [after[0] - before[0], after[1] - before[1]], again)
}

#[test]
fn a_probe_tells_what_the_line_is_like() {
    // (kbit/s there, kbit/s back, round trip ms, loss)
    for (up, down, milli, loss) in [
        (64, 64, 300, 0.0),
        (2_000, 2_000, 80, 0.03),
        (2_000, 16_000, 60, 0.0),
        (10_000, 10_000, 600, 0.01),
        (20_000, 20_000, 40, 0.01),
        (100_000, 100_000, 150, 0.0),
    ] {
        let line = |kbit: u64| Line::new(kbit * 1000, Duration::from_millis(milli), loss);
        let (survey, wire, again) = simulate(probe(milli, [line(up), line(down)], None));
        let trips = survey.round_trips.unwrap();
        println!("{up}/{down} kbit/s, {milli} ms, {loss}: {survey:?}, wire {wire:?}");
        for (way, kbit) in [(survey.there, up), (survey.back, down)] {
            let (bits, at_least) = way.rate().unwrap();
            let share = bits as f64 / (kbit * 1000) as f64;
            assert!((0.85..1.15).contains(&share) && !at_least, "{up}/{down}: {kbit} kbit/s, seen {bits}");
            // The interval that is told misses the line's own loss once in twenty rows, as it says. What was seen is within four and a half
            // deviations, but once in a hundred thousand.
            let (low, high) = way.loss.between();
            assert!((low..=high).contains(&way.loss.share()), "{:?}", way.loss);
            let (sent, lost) = (f64::from(way.loss.sent), f64::from(way.loss.lost));
            let deviation = (sent * loss * (1.0 - loss)).sqrt();
            assert!((lost - sent * loss).abs() <= 4.5 * deviation, "{loss} lost, {:?} seen", way.loss);
        }
        // Small packets take the line a while, too, and timers are good for a millisecond.
        let serial = 98.0 * 8.0 / up as f64 + 98.0 * 8.0 / down as f64;
        let share = trips.median.as_secs_f64() * 1000.0 / (milli as f64 + serial);
        assert!((0.95..1.05).contains(&share), "{milli} ms, {trips:?}");
        // What a queue drops was put into the line, and never came.
        assert!(survey.sent_bytes.abs_diff(wire[0]) <= 3000, "{} told, {} counted", survey.sent_bytes, wire[0]);
        assert!(survey.received_bytes <= wire[1] + 3000, "{} told, {} counted", survey.received_bytes, wire[1]);
        for (kbit, bytes) in [up, down].into_iter().zip(wire) {
            // Trains, and a row; on thin lines a few seconds of it.
            let bound = 330_000.min(kbit * 1000 / 8 * 3 + 60_000);
            assert!(bytes <= bound, "{kbit} kbit/s: {bytes} bytes, {bound} at most");
        }
        assert!(!survey.busy);
        assert!(matches!(again, Err(Unmeasured::Again(1..=10))), "{again:?}");
    }
}

#[test]
fn bursts_and_caps_are_told() {
    let mut line = Line::new(10_000_000, Duration::from_millis(50), 0.0);
    line.loss = Loss::Bursts { worsens: 0.005, recovers: 0.25, loses: 1.0 };
    let (survey, ..) = simulate(probe(5, [line.clone(), Line::new(10_000_000, Duration::from_millis(50), 0.0)], None));
    assert!(survey.there.loss.lost > 0 && survey.there.loss.mean_burst() > 1.5, "{survey:?}");
    assert_eq!(survey.back.loss.lost, 0);
    let cap = 1_000_000;
    let clean = Line::new(20_000_000, Duration::from_millis(40), 0.0);
    let (survey, ..) = simulate(probe(6, [clean.clone(), clean], Some(cap)));
    assert!(survey.there.held_by_cap() && survey.there.rate() == Some((cap, true)), "{survey:?}");
    assert!(!survey.back.held_by_cap());
}
