//! How fast one token may ask: a bucket each, which fills by itself. Whoever finds it empty is told when to come again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// Requests a second, for as long as somebody likes.
pub(super) const RATE: u32 = 50;
/// Requests at once after a rest.
const BURST: f64 = 200.0;
/// Buckets that are remembered; of more, those that are fullest are forgotten, which is what a stranger's is.
const BUCKETS_MAX: usize = 4096;

/// The buckets, by the hash of their token.
#[derive(Default)]
pub(super) struct Paces(Mutex<HashMap<blake3::Hash, Bucket>>);

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn now(self, now: Instant) -> f64 {
        (self.left + now.saturating_duration_since(self.at).as_secs_f64() * f64::from(RATE)).min(BURST)
    }
}

impl Paces {
    /// Takes one request of a token; refused with the seconds after which it may come again.
    pub(super) fn take(&self, token: blake3::Hash, now: Instant) -> Result<(), u32> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS_MAX && !buckets.contains_key(&token) {
            // A full one is as good as none.
            buckets.retain(|_, bucket| bucket.now(now) < BURST);
            while buckets.len() >= BUCKETS_MAX {
                let fullest = buckets.iter().max_by(|a, b| a.1.now(now).total_cmp(&b.1.now(now)));
                let Some(fullest) = fullest.map(|(token, _)| *token) else { break };
                buckets.remove(&fullest);
            }
        }
        let left = buckets.get(&token).map_or(BURST, |bucket| bucket.now(now));
        if left < 1.0 {
            return Err(((1.0 - left) / f64::from(RATE)).ceil().max(1.0) as u32);
        }
        buckets.insert(token, Bucket { left: left - 1.0, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn whoever_asks_too_fast_waits_and_nobody_else() {
        let (paces, now) = (Paces::default(), Instant::now());
        let (one, other) = (blake3::hash(b"one"), blake3::hash(b"other"));
        let taken = (0..1000).filter(|_| paces.take(one, now).is_ok()).count();
        assert_eq!((taken, paces.take(one, now), paces.take(other, now)), (200, Err(1), Ok(())));
        let later = now + Duration::from_secs(2);
        let taken = (0..1000).filter(|_| paces.take(one, later).is_ok()).count();
        assert_eq!(taken, 100, "fifty a second");
        let rested = (0..1000).filter(|_| paces.take(one, later + Duration::from_secs(3600)).is_ok()).count();
        assert_eq!(rested, 200);
    }

    #[test]
    fn a_thousand_strangers_take_no_memory_and_give_nobody_more() {
        let (paces, now) = (Paces::default(), Instant::now());
        let one = blake3::hash(b"one");
        while paces.take(one, now).is_ok() {}
        for nth in 0..3 * BUCKETS_MAX {
            let _ = paces.take(blake3::hash(&nth.to_le_bytes()), now);
        }
        assert!(paces.0.lock().expect("nobody panicked").len() <= BUCKETS_MAX);
        assert_eq!(paces.take(one, now), Err(1), "the emptiest is remembered");
    }
}
