//! Capacity from packet trains.
//!
//! Packets that leave together come apart on the way by what the narrowest part of the line takes for each (packet dispersion:
//! Jacobson, 1988; Dovrolis, Ramanathan, Moore, IEEE/ACM ToN 12(6), 2004). Pairs are cheap and fooled by everything; so a train is
//! made longer until it takes the line long enough that clocks and timers no longer matter, or the bytes are used up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{TRAIN_BYTES_MAX, TRAIN_PACKETS_MAX};

/// The first train.
const FIRST_PACKETS: u32 = 4;
/// Trains of one direction, at most.
const TRAINS_MAX: u32 = 7;
/// A train that took the line so long is long enough: timers are good for a millisecond.
const ENOUGH: Duration = Duration::from_millis(50);
/// What a longer one aims at.
const AIM: Duration = Duration::from_millis(80);
/// One train is at most so many times as long as the one before.
const GROWTH_MAX: u32 = 8;
/// A train that came apart by less, or with fewer packets, tells no more than that the line carries so much.
const TELLING: Duration = Duration::from_millis(8);
const TELLING_PACKETS: u32 = 3;

/// How far a train came apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispersion {
    /// Packets that arrived, each counted once.
    pub packets: u32,
    /// From the first to the last.
    pub spread: Duration,
    /// What passed while it arrived, in bits per second on the wire; 0 where all came at once.
    pub bits_per_second: u64,
}

impl Dispersion {
    /// Of a train of `sent` packets of `wire_bytes` each: number and time of each arrival, in any order. The rate is the slope of
    /// the line of least squares through (bytes, time), which the lumps that hosts make bend least.
    pub fn of(arrivals: &[(u32, Duration)], sent: u32, wire_bytes: u64) -> Dispersion {
        let mut first_of = BTreeMap::new();
        for (number, at) in arrivals.iter().filter(|(number, _)| *number < sent) {
            first_of.entry(*number).or_insert(*at);
        }
        let mut times: Vec<Duration> = first_of.values().copied().collect();
        times.sort_unstable();
        let (Some(first), Some(last)) = (times.first().copied(), times.last().copied()) else {
            return Dispersion::default();
        };
        let span = first_of.last_key_value().map_or(0, |(last, _)| *last)
            - first_of.first_key_value().map_or(0, |(first, _)| *first);
        let missing = (span as usize + 1).saturating_sub(times.len());
        // A few that are missing between others passed the narrowest part and were lost later: they took its time. Where many
        // are, they were dropped before it.
        let points: Vec<(f64, f64)> = if missing <= (times.len() / 4).max(1) {
            first_of.iter().map(|(number, at)| (f64::from(*number), at.saturating_sub(first).as_secs_f64())).collect()
        } else {
            times.iter().enumerate().map(|(place, at)| (place as f64, (*at - first).as_secs_f64())).collect()
        };
        let count = points.len() as f64;
        let middle = points.iter().map(|(place, _)| place).sum::<f64>() / count;
        let mean = points.iter().map(|(_, at)| at).sum::<f64>() / count;
        let covariance: f64 = points.iter().map(|(place, at)| (place - middle) * (at - mean)).sum();
        let variance: f64 = points.iter().map(|(place, _)| (place - middle) * (place - middle)).sum();
        let seconds_each = if variance > 0.0 { covariance / variance } else { 0.0 };
        let rate = if seconds_each > 0.0 { (wire_bytes * 8) as f64 / seconds_each } else { 0.0 };
        Dispersion { packets: times.len() as u32, spread: last - first, bits_per_second: rate as u64 }
    }
}

/// What a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// In bits per second on the wire, headers included.
    pub bits_per_second: u64,
    /// The line may carry more: the trains were too short for it.
    pub at_least: bool,
    /// Packets of the train that told it.
    pub packets: u32,
    /// How long they took.
    pub spread: Duration,
}

/// The trains of one direction: how long the next one is, and what they have told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plan {
    trains: u32,
    spent_bytes: u64,
    last_packets: u32,
    best: Dispersion,
    done: bool,
}

impl Plan {
    /// The packets of the next train, of so many wire bytes each; None where enough is known or spent.
    pub fn next(&self, wire_bytes: u64) -> Option<u32> {
        if self.done || self.trains >= TRAINS_MAX || self.best.spread >= ENOUGH {
            return None;
        }
        let left = TRAIN_BYTES_MAX.saturating_sub(self.spent_bytes) / wire_bytes.max(1);
        let left = u32::try_from(left).unwrap_or(u32::MAX).min(TRAIN_PACKETS_MAX);
        let (least, most) = match self.last_packets {
            0 => (FIRST_PACKETS, FIRST_PACKETS),
            last => (last.saturating_mul(2), last.saturating_mul(GROWTH_MAX)),
        };
        let wanted = match self.best.bits_per_second {
            0 => u64::from(most),
            bits => (u128::from(bits) * AIM.as_nanos() / 8_000_000_000 / u128::from(wire_bytes.max(1))) as u64 + 1,
        };
        let wanted = u32::try_from(wanted).unwrap_or(u32::MAX).clamp(least, most).min(left);
        // What is hardly longer than the one before tells nothing new.
        (wanted >= FIRST_PACKETS && wanted > self.last_packets).then_some(wanted)
    }

    /// A train was sent, and this came of it.
    pub fn heard(&mut self, sent: u32, wire_bytes: u64, seen: Dispersion) {
        self.trains += 1;
        self.spent_bytes = self.spent_bytes.saturating_add(u64::from(sent).saturating_mul(wire_bytes));
        if seen.packets < TELLING_PACKETS {
            // Nothing to go by; the same again.
            return;
        }
        self.last_packets = sent;
        // A queue on the way overflows: what is longer only loses more.
        self.done |= seen.packets < sent / 2;
        if seen.spread >= self.best.spread {
            self.best = seen;
        }
    }

    /// What the trains have told; None where nothing came apart.
    pub fn capacity(&self) -> Option<Capacity> {
        let Dispersion { packets, spread, bits_per_second } = self.best;
        let at_least = spread < TELLING || packets < TELLING_PACKETS;
        (bits_per_second > 0).then_some(Capacity { bits_per_second, at_least, packets, spread })
    }

    /// Wire bytes that the trains took.
    pub fn spent_bytes(&self) -> u64 {
        self.spent_bytes
    }
}
