//! What was on the wire with a peer, shared out among the replications that were under way: all of it, and no byte twice.
//!
//! A datagram does not say whose bytes are in it, and acknowledgements and repetitions are nobody's. So each stretch of counting is
//! split, direction by direction, by what each replication has framed and was not on the wire yet: frames wait in QUIC's buffers.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::peers::Peer;
use super::socket::{Counters, Shaper, Watch};

/// A stretch ends once all have told what they framed, or after so long.
const STRETCH: Duration = Duration::from_secs(1);

/// Bytes to a peer and from it.
pub(super) type Both = (u64, u64);

/// The replications with one peer that are under way.
#[derive(Debug, Default)]
pub(super) struct Shares {
    jobs: BTreeMap<u64, Job>,
    next: u64,
    /// What was on the wire when the present stretch began, and when that was.
    counted: Both,
    since: Duration,
}

#[derive(Debug, Default)]
struct Job {
    framed: Both,
    told: bool,
    wire: Both,
}

impl Shares {
    /// One more is under way; `counted` is what was on the wire so far.
    fn begin(&mut self, counted: Both, now: Duration) -> u64 {
        self.split(counted, now);
        self.next += 1;
        self.jobs.insert(self.next, Job::default());
        self.next
    }

    /// Learns what one has framed so far; returns its share until the present stretch began, which `ends` now, or later.
    fn tell(&mut self, id: u64, framed: Both, ends: bool, counted: Both, now: Duration) -> Both {
        if let Some(job) = self.jobs.get_mut(&id) {
            (job.framed, job.told) = (framed, true);
        }
        if ends || self.jobs.values().all(|job| job.told) || now.saturating_sub(self.since) >= STRETCH {
            self.split(counted, now);
        }
        self.jobs.get(&id).map(|job| job.wire).unwrap_or_default()
    }

    fn end(&mut self, id: u64, counted: Both, now: Duration) {
        self.split(counted, now);
        self.jobs.remove(&id);
    }

    fn split(&mut self, counted: Both, now: Duration) {
        let there = shared(counted.0.saturating_sub(self.counted.0), self.jobs.values().map(|job| job.owed().0));
        let back = shared(counted.1.saturating_sub(self.counted.1), self.jobs.values().map(|job| job.owed().1));
        for ((job, there), back) in self.jobs.values_mut().zip(there).zip(back) {
            job.wire = (job.wire.0 + there, job.wire.1 + back);
            job.told = false;
        }
        (self.counted, self.since) = (counted, now);
    }
}

impl Job {
    /// What was framed and is not on the wire yet, as far as its share tells.
    fn owed(&self) -> Both {
        (self.framed.0.saturating_sub(self.wire.0), self.framed.1.saturating_sub(self.wire.1))
    }
}

/// Parts of `whole` in proportion to `weights`; alike where these are all zero. Their sum is the whole.
fn shared(whole: u64, weights: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut weights: Vec<u64> = weights.collect();
    if weights.iter().all(|weight| *weight == 0) {
        weights.fill(1);
    }
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    let (mut passed, mut given) = (0u128, 0u64);
    weights
        .into_iter()
        .map(|weight| {
            passed += u128::from(weight);
            let upto = u64::try_from(u128::from(whole) * passed / sum.max(1)).unwrap_or(u64::MAX);
            upto - std::mem::replace(&mut given, upto)
        })
        .collect()
}

/// Counts the wire for one replication, and stops counting when dropped.
pub(super) struct Counting {
    shaper: Arc<Shaper>,
    peer: Arc<Peer>,
    began: tokio::time::Instant,
    watch: Option<Watch>,
    id: u64,
}

impl Counting {
    /// `began` is a moment that all countings of the link share.
    pub fn begin(shaper: Arc<Shaper>, peer: &Arc<Peer>, began: tokio::time::Instant) -> Self {
        let watch = Some(shaper.watch(peer.node));
        let mut counting = Counting { shaper, peer: peer.clone(), began, watch, id: 0 };
        let counted = counting.counted();
        let id = counting.shares().begin(counted, began.elapsed());
        counting.id = id;
        counting
    }

    /// This replication's share of what was on the wire, to the peer and from it, now that it has framed so much. To the byte, and
    /// until now, where it is `last`.
    pub fn share(&self, framed: Both, last: bool) -> Both {
        // Never both locks at once.
        let counted = self.counted();
        self.shares().tell(self.id, framed, last, counted, self.began.elapsed())
    }

    /// What was on the wire with the peer since it began, whoever's it is.
    pub fn seen(&self) -> Counters {
        self.watch.as_ref().map(|watch| self.shaper.seen(watch)).unwrap_or_default()
    }

    fn counted(&self) -> Both {
        let counters = self.shaper.counters(Some(self.peer.node));
        (counters.sent.bytes, counters.received.bytes)
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.peer.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        let counted = self.counted();
        self.shares().end(self.id, counted, self.began.elapsed());
        if let Some(watch) = self.watch.take() {
            self.shaper.unwatch(watch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_alone_has_all() {
        let mut shares = Shares::default();
        let id = shares.begin((1000, 50), at(0));
        assert_eq!(shares.tell(id, (100, 5), false, (1120, 57), at(200)), (120, 7));
        assert_eq!(shares.tell(id, (100, 5), false, (1121, 57), at(400)), (121, 7), "what nobody framed, too");
    }

    #[test]
    fn every_byte_is_somebody_s_and_nobody_s_twice() {
        let mut shares = Shares::default();
        let first = shares.begin((0, 0), at(0));
        shares.tell(first, (100, 0), false, (110, 10), at(100));
        let second = shares.begin((110, 10), at(100));
        assert_eq!(
            shares.tell(first, (200, 0), false, (300, 20), at(200)),
            (110, 10),
            "the other one has not told yet"
        );
        // 90 and 100 bytes were framed that were not on the wire yet; what comes back nobody framed.
        assert_eq!(shares.tell(second, (100, 0), false, (330, 31), at(210)), (116, 11));
        assert_eq!(shares.tell(first, (200, 0), false, (330, 31), at(220)), (214, 20));
        shares.end(first, (400, 31), at(230));
        // All was on the wire, so the 70 bytes of the last stretch were shared alike; the rest is the second's.
        assert_eq!(shares.tell(second, (900, 0), false, (1000, 31), at(400)), (751, 11));
    }

    #[test]
    fn who_says_nothing_holds_nobody_up() {
        let mut shares = Shares::default();
        let [silent, other] = [0, 0].map(|_| shares.begin((0, 0), at(0)));
        assert_eq!(shares.tell(other, (10, 0), false, (100, 0), at(500)), (0, 0));
        assert_eq!(shares.tell(other, (20, 0), false, (200, 0), at(1000)), (200, 0));
        assert_eq!(shares.tell(silent, (0, 0), false, (200, 0), at(1001)), (0, 0));
    }

    #[test]
    fn parts_add_up() {
        for (whole, weights) in [(10, vec![1, 1, 1]), (7, vec![0, 0]), (1 << 60, vec![1 << 60, 3, 0]), (5, vec![])] {
            let parts = shared(whole, weights.iter().copied());
            assert_eq!(parts.len(), weights.len());
            assert!(weights.is_empty() || parts.iter().sum::<u64>() == whole, "{whole} {weights:?}: {parts:?}");
        }
    }
}
