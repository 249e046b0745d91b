//! How much the log says of the same thing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long the log is silent about what it has said.
pub const LOG_REST: Duration = Duration::from_secs(60);
/// Different sentences that the log says in that time.
pub const LOG_LINES: usize = 8;

/// What the log has said lately.
#[derive(Debug, Default)]
pub struct Said {
    since: Option<Instant>,
    sentences: BTreeSet<String>,
    left_out: u64,
}

impl Said {
    /// Nothing yet.
    pub const fn new() -> Said {
        Said { since: None, sentences: BTreeSet::new(), left_out: 0 }
    }

    /// Whether the log is to say this, and then how many were left out before.
    pub fn may_say(&mut self, why: &str, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now.duration_since(since) >= LOG_REST) {
            self.since = Some(now);
            self.sentences.clear();
        }
        if self.sentences.contains(why) || self.sentences.len() >= LOG_LINES {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.sentences.insert(why.to_owned());
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_says_a_little_of_each_and_how_much_it_left_out() {
        let (mut said, began) = (Said::default(), Instant::now());
        let minute = |number: u32| began + number * LOG_REST;
        assert_eq!(said.may_say("broken", minute(0)), Some(0));
        assert!((0..99).all(|_| said.may_say("broken", minute(0)).is_none()));
        assert_eq!(said.may_say("another", minute(0)), Some(99));
        assert_eq!(said.may_say("broken", minute(1)), Some(0));
        let lines = (0..1000).filter(|number| said.may_say(&number.to_string(), minute(1)).is_some()).count();
        assert_eq!(lines, LOG_LINES - 1);
        assert_eq!(said.may_say("broken", minute(2)), Some(1000 - lines as u64));
        assert!(said.sentences.len() == 1);
    }
}
