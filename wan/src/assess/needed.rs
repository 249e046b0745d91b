//! The slowest line that keeps a recovery point.

use std::time::Duration;

use super::line::Line;
use super::replay::{Due, replay};
use crate::shape::Rate;

/// Rates are looked at in steps of a hundredth: so many of them double one.
const STEPS_PER_DOUBLING: f64 = 70.0;

/// A recovery point, and how often it is to be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// How old what the peer has may be.
    pub age: Duration,
    /// For what share of the time, of every dataset; 1 for always.
    pub share: f64,
}

/// What a target needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Needed {
    /// A line of this rate, and not one that is a hundredth slower.
    Rate(Rate),
    /// No line does: the calendar, the plan or the data itself forbids it. The worst dataset keeps it for this share of the time however fast the line is.
    NoLine {
        /// Of the time, by the worst dataset.
        share: f64,
    },
}

/// The slowest line on which all datasets keep the target, under the calendar that is in `ceiling`.
pub fn needed(ceiling: &Line, datasets: &[Vec<Due>], target: Target) -> Needed {
    let share = |rate: Rate| kept(&ceiling.of(rate), datasets, target.age);
    let best = share(Rate::MAX);
    if best < target.share {
        return Needed::NoLine { share: best };
    }
    let (mut low, mut high) = (0, step_of(Rate::MAX));
    while low < high {
        let middle = low + (high - low) / 2;
        match share(rate_of(middle)) >= target.share {
            true => high = middle,
            false => low = middle + 1,
        }
    }
    Needed::Rate(rate_of(low))
}

/// For how much of the time the worst dataset keeps a recovery point.
pub fn kept(line: &Line, datasets: &[Vec<Due>], age: Duration) -> f64 {
    replay(line, datasets).iter().map(|replayed| replayed.kept(age)).fold(1.0, f64::min)
}

/// Rates in steps of a hundredth, from the lowest.
fn rate_of(step: u32) -> Rate {
    let bits = Rate::MIN.bits() as f64 * (f64::from(step) / STEPS_PER_DOUBLING).exp2();
    Rate::from_bits((bits.ceil() as u64).clamp(Rate::MIN.bits(), Rate::MAX.bits())).unwrap_or(Rate::MAX)
}

fn step_of(rate: Rate) -> u32 {
    ((rate.bits() as f64 / Rate::MIN.bits() as f64).log2() * STEPS_PER_DOUBLING).ceil() as u32
}

#[cfg(test)]
#[path = "needed_tests.rs"]
mod tests;
