//! When peers will have caught up, and how slowly they may: a fluid run over the calendars ahead.
//!
//! Pure functions: from what is left to send and what was said about the caps follows a moment. Bytes flow as water would: at
//! each moment peers with something left share the box's cap equally, none gets more than its own cap and its line
//! take, and what one leaves the others use ([`super::Tree`] does the same with datagrams). Both count 63/64 of a cap, which
//! is what a saturated sender reaches.
//!
//! They never claim more than follows: data that is yet to come is not known to them, and where neither a cap nor a measured line
//! bounds the flow they say that they do not know.

use narrowboat_storage::units::Timestamp;

use super::bucket::aim_bits;
use super::rate::Rate;
use super::schedule::Schedule;

/// How far ahead is looked: two years.
const HORIZON: i64 = 2 * 366 * DAY;
/// So long nothing moves where nothing ever will: two weeks, and the days at their ends, once only the week rules.
const STILL: i64 = 16 * DAY;
const DAY: i64 = 24 * 3600 * SECOND;
const SECOND: i64 = 1_000_000_000;
/// Water is counted in billionths of a bit, so that nothing is rounded away.
const UNITS_PER_BYTE: u128 = 8_000_000_000;
/// A rate that nothing bounds.
const UNBOUNDED: u64 = u64::MAX;

/// What is left to send to one peer.
#[derive(Clone, Copy, Debug)]
pub struct Load<'a> {
    /// Bytes on the wire.
    pub bytes: u64,
    /// What was said about its cap.
    pub schedule: &'a Schedule,
    /// Bits per second that its line takes at most, where that was measured.
    pub line: Option<u64>,
}

/// When a peer has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// At this moment.
    At(Timestamp),
    /// Never, at this calendar: what is left stays left.
    Never,
    /// Not before this moment, which is as far as is looked.
    After(Timestamp),
    /// From this moment on nothing bounds the flow but a line that was not measured.
    Unknown(Timestamp),
}

/// The slowest rate at which a deadline is met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowest {
    /// This one, wherever the calendars allow more.
    Rate(Rate),
    /// None: all that the calendars allow leaves so many bytes over at the deadline.
    Misses(u64),
}

/// Lets everything that is left flow from `now` on, under the caps of the box (`whole`) and of the peers. One answer a load, in
/// their order.
pub fn forecast(now: Timestamp, whole: &Schedule, loads: &[Load<'_>]) -> Vec<Arrival> {
    let schedules = || loads.iter().map(|load| load.schedule).chain([whole]);
    let repeats = schedules().filter_map(Schedule::repeats_from).max().unwrap_or(now).max(now);
    let horizon = Timestamp(now.0.saturating_add(HORIZON)).max(repeats);
    let mut flows: Vec<Flow> = loads.iter().map(|load| Flow::new(load, now)).collect();
    let mut at = now;
    while flows.iter().any(|flow| flow.arrival.is_none()) && at < horizon {
        let until = schedules().filter_map(|schedule| schedule.at(at).until).min().unwrap_or(horizon).min(horizon);
        let wishes: Vec<u64> = flows.iter().zip(loads).map(|(flow, load)| flow.wish(load, at)).collect();
        let rates = share(bits(whole.limit_at(at)), &wishes);
        let arrivals = flows.iter().zip(&rates).filter_map(|(flow, rate)| flow.nanos_at(*rate));
        let nanos = arrivals.chain([nanos_between(at, until)]).min().unwrap_or(0);
        let end = Timestamp(at.0.saturating_add(i64::try_from(nanos).unwrap_or(i64::MAX)));
        flows.iter_mut().zip(&rates).for_each(|(flow, rate)| flow.run(at, end, *rate, repeats));
        at = end;
    }
    flows.into_iter().map(|flow| flow.arrival.unwrap_or(Arrival::After(horizon))).collect()
}

/// The slowest rate at which `bytes` still flow before `deadline`, under the caps of the box and of the peer; never below
/// [`Rate::MIN`]. Other peers are not looked at: where they take of the box's cap, the next asking finds less time for what is left
/// and answers with more.
pub fn slowest(now: Timestamp, deadline: Timestamp, whole: &Schedule, own: &Schedule, bytes: u64) -> Slowest {
    let mut stretches: Vec<(u64, u128)> = Vec::new();
    let mut at = now;
    while at < deadline {
        let (outer, inner) = (whole.at(at), own.at(at));
        let end = [outer.until, inner.until].into_iter().flatten().min().unwrap_or(deadline).min(deadline);
        stretches.push((bits(outer.limit).min(bits(inner.limit)), nanos_between(at, end)));
        at = end;
    }
    stretches.sort_unstable();
    let mut left = u128::from(bytes) * UNITS_PER_BYTE;
    let mut time: u128 = stretches.iter().map(|(_, nanos)| nanos).sum();
    for (ceiling, nanos) in stretches.into_iter().filter(|(_, nanos)| *nanos > 0) {
        // All slower stretches run at their ceilings; can the rest be met with one rate that this one allows, too?
        let rate = left.div_ceil(time);
        if rate <= u128::from(ceiling) {
            return Slowest::Rate(cap_for(rate));
        }
        left = left.saturating_sub(u128::from(ceiling).saturating_mul(nanos));
        time -= nanos;
    }
    match u64::try_from(left.div_ceil(UNITS_PER_BYTE)).unwrap_or(u64::MAX) {
        0 => Slowest::Rate(Rate::MIN),
        over => Slowest::Misses(over),
    }
}

/// What is on its way to one peer.
struct Flow {
    /// Billionths of a bit.
    left: u128,
    /// When something moved last.
    moved: Timestamp,
    arrival: Option<Arrival>,
}

impl Flow {
    fn new(load: &Load<'_>, now: Timestamp) -> Flow {
        let arrival = (load.bytes == 0).then_some(Arrival::At(now));
        Flow { left: u128::from(load.bytes) * UNITS_PER_BYTE, moved: now, arrival }
    }

    /// Bits per second that it could take at a moment.
    fn wish(&self, load: &Load<'_>, at: Timestamp) -> u64 {
        match self.arrival {
            Some(_) => 0,
            None => bits(load.schedule.limit_at(at)).min(load.line.unwrap_or(UNBOUNDED)),
        }
    }

    /// How long it takes at this rate; `None` where that is no time at all, or for ever.
    fn nanos_at(&self, rate: u64) -> Option<u128> {
        (self.arrival.is_none() && rate > 0 && rate < UNBOUNDED).then(|| self.left.div_ceil(u128::from(rate)))
    }

    /// Flows for a while. `repeats`: from then on only the week rules.
    fn run(&mut self, from: Timestamp, end: Timestamp, rate: u64, repeats: Timestamp) {
        if self.arrival.is_some() {
            return;
        }
        if rate == UNBOUNDED {
            self.arrival = Some(Arrival::Unknown(from));
            return;
        }
        self.left = self.left.saturating_sub(u128::from(rate) * nanos_between(from, end));
        if self.left == 0 {
            self.arrival = Some(Arrival::At(end));
        } else if rate > 0 {
            self.moved = end;
        } else if end.0.saturating_sub(self.moved.max(repeats).0) >= STILL {
            self.arrival = Some(Arrival::Never);
        }
    }
}

/// Divides a rate equally among those who want some, and what one does not want among the others.
fn share(total: u64, wishes: &[u64]) -> Vec<u64> {
    if total == UNBOUNDED {
        return wishes.to_vec();
    }
    let mut rates = vec![0; wishes.len()];
    let mut order: Vec<usize> = (0..wishes.len()).filter(|nth| wishes[*nth] > 0).collect();
    order.sort_by_key(|nth| wishes[*nth]);
    let (mut left, mut waiting) = (total, order.len() as u64);
    for nth in order {
        rates[nth] = wishes[nth].min(left / waiting);
        left -= rates[nth];
        waiting -= 1;
    }
    rates
}

/// Bits per second that flow under a cap.
fn bits(limit: Option<Rate>) -> u64 {
    limit.map_or(UNBOUNDED, aim_bits)
}

/// The lowest cap under which so many bits per second flow.
fn cap_for(bits: u128) -> Rate {
    let cap = u64::try_from(bits * 64 / 63 + 1).unwrap_or(u64::MAX).clamp(Rate::MIN.bits(), Rate::MAX.bits());
    Rate::from_bits(cap).unwrap_or(Rate::MAX)
}

fn nanos_between(from: Timestamp, until: Timestamp) -> u128 {
    u128::try_from(i128::from(until.0) - i128::from(from.0)).unwrap_or(0)
}

#[cfg(test)]
#[path = "forecast_tests.rs"]
mod tests;
