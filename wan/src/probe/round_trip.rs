//! Round trips from packets that are sent back.

use std::time::Duration;

/// Round trips of small packets, without what the other side held them for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundTrips {
    /// How many were seen.
    pub count: u32,
    /// The shortest.
    pub min: Duration,
    /// Half of them are shorter.
    pub median: Duration,
    /// The longest.
    pub max: Duration,
    /// By how much one differs from the next, on average (RFC 3550, 6.4.1, without its smoothing).
    pub jitter: Duration,
}

impl RoundTrips {
    /// Of these, in the order in which they were seen; None of none.
    pub fn of(seen: &[Duration]) -> Option<RoundTrips> {
        let mut sorted = seen.to_vec();
        sorted.sort_unstable();
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let median = *sorted.get(sorted.len() / 2)?;
        let steps: Duration = seen.windows(2).map(|two| two[0].abs_diff(two[1])).sum();
        let count = u32::try_from(seen.len()).unwrap_or(u32::MAX);
        let jitter = steps.checked_div(count - 1).unwrap_or_default();
        Some(RoundTrips { count, min, median, max, jitter })
    }
}
