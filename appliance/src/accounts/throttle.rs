//! Who guesses waits: after a few wrong tries, and longer each time. A try counts as wrong as soon as it begins, so that many at once gain
//! nothing.

use std::collections::BTreeMap;
use std::time::Duration;

/// Without a wrong try for so long, earlier ones are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Parties that are remembered at once.
const PARTIES_MAX: usize = 4096;

/// Tries of parties, by whatever tells them apart.
#[derive(Debug)]
pub(super) struct Throttle<K> {
    free: u32,
    first: Duration,
    longest: Duration,
    tries: BTreeMap<K, Tries>,
}

#[derive(Clone, Copy, Debug)]
struct Tries {
    wrong: u32,
    last: Duration,
}

impl<K: Ord + Clone> Throttle<K> {
    /// `free` tries cost nothing; behind the next one `first` has to pass, behind each further one twice as much, up to `longest`.
    pub(super) fn new(free: u32, first: Duration, longest: Duration) -> Self {
        Throttle { free, first, longest, tries: BTreeMap::new() }
    }

    /// How long a party has to wait until it may try, at `now` of any clock that does not run backwards.
    pub(super) fn wait(&self, party: &K, now: Duration) -> Duration {
        self.tries.get(party).map_or(Duration::ZERO, |tries| (tries.last + self.pause(tries.wrong)).saturating_sub(now))
    }

    /// Counts a try, wrong until [`Throttle::right`] says otherwise.
    pub(super) fn tried(&mut self, party: &K, now: Duration) {
        self.tries.retain(|_, tries| now.saturating_sub(tries.last) < FORGOTTEN_AFTER);
        if self.tries.len() >= PARTIES_MAX && !self.tries.contains_key(party) {
            // Who has tried least has least to wait for.
            let least =
                self.tries.iter().min_by_key(|(_, tries)| (tries.wrong, tries.last)).map(|(party, _)| party.clone());
            least.and_then(|party| self.tries.remove(&party));
        }
        let tries = self.tries.entry(party.clone()).or_insert(Tries { wrong: 0, last: now });
        *tries = Tries { wrong: tries.wrong.saturating_add(1), last: now };
    }

    /// The party was right: it has nothing to wait for.
    pub(super) fn right(&mut self, party: &K) {
        self.tries.remove(party);
    }

    fn pause(&self, wrong: u32) -> Duration {
        match wrong.checked_sub(self.free + 1) {
            None => Duration::ZERO,
            Some(doublings) => {
                self.first.saturating_mul(1u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.longest)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn guessed(times: u32) -> Throttle<u8> {
        let mut throttle = Throttle::new(3, seconds(2), seconds(60));
        (0..times).for_each(|_| throttle.tried(&1, seconds(100)));
        throttle
    }

    #[test]
    fn each_wrong_try_behind_the_free_ones_costs_twice_as_much() {
        let waits: Vec<u64> = (0..12).map(|times| guessed(times).wait(&1, seconds(100)).as_secs()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(guessed(6).wait(&1, seconds(105)), seconds(3), "it passes");
        assert_eq!(guessed(6).wait(&2, seconds(100)), seconds(0), "and is nobody else's");
        assert_eq!(guessed(u16::MAX.into()).wait(&1, seconds(100)), seconds(60));
    }

    #[test]
    fn who_is_right_has_nothing_to_wait_for_and_a_day_forgets() {
        let mut throttle = guessed(9);
        throttle.right(&1);
        assert_eq!(throttle.wait(&1, seconds(100)), seconds(0));
        let mut throttle = guessed(9);
        throttle.tried(&1, seconds(100 + 24 * 3600));
        assert_eq!(throttle.wait(&1, seconds(100 + 24 * 3600)), seconds(0), "the first of a new day");
    }

    #[test]
    fn a_crowd_takes_no_more_memory_and_frees_no_guesser() {
        let mut throttle = Throttle::new(3, seconds(2), seconds(60));
        (0..9).for_each(|_| throttle.tried(&0, seconds(1)));
        (1..3 * PARTIES_MAX).for_each(|party| throttle.tried(&party, seconds(2)));
        assert_eq!(throttle.tries.len(), PARTIES_MAX);
        assert!(throttle.wait(&0, seconds(2)) > seconds(50));
    }
}
