//! One cap: a pacing bucket with debt, and above it two guards, over the sliding second and over the sliding 100 ms.
//!
//! The *bucket* spreads datagrams over time. Credit grows with the cap up to a burst of [`BURST`]; a datagram may leave
//! while the balance is not negative, and is charged whole, so that a balance may go into debt by one transmission and
//! the next one waits for it. Late timers lose nothing as long as they are late by less than the burst.
//!
//! A token bucket alone lets `rate + burst` through in the second after a pause. The *guard* closes that gap: it sums
//! what was charged in the last second, wherever that began, and holds back what would not fit under 63/64 of the cap. What is left
//! absorbs the jitter between this arithmetic and the wire, so that a counter in the next room, whose seconds are stretched or squeezed
//! by up to 15 ms, sees no second above the cap either. The bucket runs at the cap itself, a 64th faster than the guard
//! lets it: what a sender misses beyond its burst, because it heard of a loss or waited for a window, it makes up for within the second.
//!
//! The *short guard* does the same with the last 100 ms, so that what a pause or a late timer left over is made up for gently:
//! no 100 ms carry more than 108 % of the cap, or the cap and one datagram where a datagram is more than that (below some
//! 1.5 Mbit/s: a datagram can't be cut). What is saved up in the bucket meanwhile is not lost, and follows.
//!
//! Below some 300 kbit/s a second holds so few datagrams that it matters how long they are: [`filling`] says how long.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::rate::Rate;
use super::window::Window;

/// How long a burst may be after a pause.
pub const BURST: Duration = Duration::from_millis(16);

/// 500 slots are a second; the one more makes the guard err to the safe side.
const GUARD_SLOTS: usize = 501;
const GUARD_SLOT: Duration = Duration::from_millis(2);
/// The same of 100 ms. Finer, because the slot that errs is a larger part of the whole.
const SHORT: Duration = Duration::from_millis(100);
const SHORT_SLOTS: usize = 101;
const SHORT_SLOT: Duration = Duration::from_millis(1);
/// What 100 ms may carry, in percent of the cap: 110 are promised, the rest absorbs the jitter between here and the wire.
const SHORT_PERCENT: u64 = 108;
/// The largest datagram, with its headers.
const DATAGRAM_BYTES: u64 = 1500;
/// One that carries an acknowledgement and nothing else.
const SMALL_DATAGRAM: u64 = 72;
/// So many in a second are few: one more or less is three percent.
const FEW: u64 = 32;
/// No debt is carried for longer than this, whatever the rate was when it was made. The guard still counts it.
const DEBT_MAX: Duration = Duration::from_millis(250);
/// Credit is counted in billionths of a bit, so that nothing is ever rounded away.
const UNITS_PER_BYTE: i128 = 8_000_000_000;

/// Whether bytes may leave now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Now.
    Now,
    /// Not before this moment; ask again then.
    At(Duration),
    /// Not until the cap changes.
    Paused,
    /// Never under this cap: more bytes than a second holds. Drop them, as a full queue would.
    TooBig,
}

/// A cap and its state.
#[derive(Clone, Debug)]
pub struct Bucket {
    limit: Option<Rate>,
    balance: i128,
    updated: Duration,
    guard: Window,
    short: Window,
}

impl Bucket {
    /// A full bucket. `None` is unlimited, [`Rate::PAUSED`] lets nothing pass.
    pub fn new(limit: Option<Rate>) -> Self {
        let mut bucket = Bucket {
            limit,
            balance: 0,
            updated: Duration::ZERO,
            guard: Window::new(GUARD_SLOTS, GUARD_SLOT),
            short: Window::new(SHORT_SLOTS, SHORT_SLOT),
        };
        bucket.balance = bucket.credit_in(BURST);
        bucket
    }

    /// The cap.
    pub fn limit(&self) -> Option<Rate> {
        self.limit
    }

    /// Changes the cap from the next datagram on. What was sent in the last second goes on counting.
    pub fn set_limit(&mut self, now: Duration, limit: Option<Rate>) {
        self.refill(now);
        self.limit = limit;
        self.balance = self.balance.clamp(-self.credit_in(DEBT_MAX), self.credit_in(BURST));
    }

    /// May `bytes` leave at `now`? Changes nothing but the book-keeping of time.
    pub fn check(&mut self, now: Duration, bytes: u64) -> Verdict {
        self.refill(now);
        let Some(limit) = self.limit else { return Verdict::Now };
        if limit.is_paused() {
            return Verdict::Paused;
        }
        let Some(room_before) = second_bytes(limit).checked_sub(bytes) else { return Verdict::TooBig };
        // A transmission is never more than 100 ms hold, but for a datagram, which may always go first.
        let short_before = short_bytes(limit).saturating_sub(bytes);
        let guarded = self.guard.falls_to(now, room_before).max(self.short.falls_to(now, short_before));
        let when = self.solvent_at(limit).max(guarded);
        if when <= now { Verdict::Now } else { Verdict::At(when) }
    }

    /// Takes `bytes` that have left at `now`, allowed or not.
    pub fn charge(&mut self, now: Duration, bytes: u64) {
        self.refill(now);
        self.guard.add(now, bytes);
        self.short.add(now, bytes);
        if self.limit.is_some() {
            let floor = -self.credit_in(DEBT_MAX).max(i128::from(bytes) * UNITS_PER_BYTE);
            self.balance = (self.balance - i128::from(bytes) * UNITS_PER_BYTE).max(floor);
        }
    }

    fn refill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.updated);
        self.updated = self.updated.max(now);
        self.balance = (self.balance + self.credit_in(elapsed)).min(self.credit_in(BURST));
    }

    /// When the balance stops being negative.
    fn solvent_at(&self, limit: Rate) -> Duration {
        if self.balance >= 0 {
            return self.updated;
        }
        let per_nano = i128::from(limit.bits()).max(1);
        let nanos = (-self.balance + per_nano - 1) / per_nano;
        self.updated + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn credit_in(&self, time: Duration) -> i128 {
        i128::from(self.limit.map_or(0, Rate::bits)) * i128::from(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// The bits per second that are aimed at under a cap: 63/64 of it.
pub(crate) fn aim_bits(limit: Rate) -> u64 {
    limit.bits() - limit.bits().div_ceil(64)
}

/// What a second may carry.
fn second_bytes(limit: Rate) -> u64 {
    aim_bits(limit) / 8
}

/// The length of datagram among `lengths`, in bytes with everything that counts, that fills a second under a cap. A second holds whole
/// ones only: 7400 bytes of 1300 each are five with 900 bytes left over, of 1220 they are six with room for an acknowledgement. None
/// where no length does that, and where it matters little, as under caps above some 300 kbit/s.
pub fn filling(limit: Rate, lengths: RangeInclusive<u64>) -> Option<u64> {
    let second = second_bytes(limit);
    let room = second.checked_sub(SMALL_DATAGRAM)?;
    let count = room.div_ceil((*lengths.end()).max(1));
    let length = room.checked_div(count)?.max(*lengths.start());
    (count <= FEW && lengths.contains(&length) && count * length <= second).then_some(length)
}

/// What 100 ms may carry.
fn short_bytes(limit: Rate) -> u64 {
    let bytes = limit.bytes_in(SHORT);
    (bytes * SHORT_PERCENT / 100).max(bytes + DATAGRAM_BYTES)
}

#[cfg(test)]
#[path = "bucket_tests.rs"]
mod tests;
