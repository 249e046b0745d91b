//! How much one session may hold and how long it waits.

use std::time::Duration;

use super::effort::Compression;
use super::walk::{AHEAD, DEPTH_MAX};
use crate::pack::GROUP_BYTES_MAX;

/// How much is packed together on a line of which nothing is known.
const UNKNOWN_GROUP_BYTES: usize = 64 << 10;
/// What a break costs at most, besides what the line takes in two round trips: sent, and not known to be safe there.
const COST_OF_BREAK: u64 = 4 << 20;
/// What a chunk has on average.
const CHUNK_BYTES: u128 = 16 << 10;
/// So many chunks are asked ahead at least, however short or thin the line.
const NAMES_AHEAD_MIN: usize = 64;

/// Bounds of one session, at either side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// No further object is sent while this many bytes of objects are sent and not yet durable at the receiver: what a
    /// break costs at most (and the rest of one object). The smaller of both sides' counts. A receiver syncs once per quarter, so a line is filled where three quarters
    /// are at least its rate times its round trip: 4 MiB are enough for 80 Mbit/s at 300 ms. At most 1 GiB.
    pub window_bytes: u64,
    /// Most objects that are sent and not yet durable.
    pub window_objects: u32,
    /// Most names that are asked and unanswered, or lacking and not sent. At least [`Limits::NAMES_MIN`].
    pub window_names: u32,
    /// Chunks that the sender means to have asked ahead, so that the line never waits for an answer: two bandwidth-delay products of them. As far as it takes that,
    /// it asks below nodes of which it does not know yet whether the receiver lacks them. 0 asks one level a round trip.
    pub names_ahead: usize,
    /// Bytes that the sender reads and packs ahead of the line.
    pub read_ahead_bytes: usize,
    /// How the sender packs objects, where the receiver understands bundles.
    pub compression: Compression,
    /// Whether the sender packs objects against those that lie in their place in the base.
    pub delta: bool,
    /// Whether the sender asks for chunks by the first eight bytes of their names, where the receiver understands that. Not after
    /// [`Failure::wants_full_names`](super::Failure::wants_full_names).
    pub prefixes: bool,
    /// Whether the sender looks for what resembles a chunk elsewhere in the base, too. Counts only with `delta`.
    pub resemblance: bool,
    /// Most bytes of objects that the sender packs together, 32 KiB to 4 MiB. More shares more; but a bundle counts only
    /// when all of it has arrived, so a thin line wants what it carries in some seconds.
    pub group_bytes: usize,
    /// What the line is expected to take, in bytes per second, if anything is known of it.
    pub rate_expected: Option<u64>,
    /// A session ends where the peer owes something and says nothing for so long. `None` waits for ever: for a driver
    /// that knows the line to be paused.
    pub patience: Option<Duration>,
}

impl Limits {
    /// The smallest window of names with which a walk can reach every depth.
    pub const NAMES_MIN: u32 = 16 * (DEPTH_MAX as u32 + 1);
    pub(super) const WINDOW_BYTES_MAX: u64 = 1 << 30;
    /// What is assumed of a line without a cap that nothing has been sent over yet: 100 Mbit/s.
    pub(crate) const UNKNOWN_BYTES_PER_SECOND: u64 = 12_500_000;

    /// These limits on a line that is expected to take `rate` bytes per second, if anything is known of it: groups of what it takes in two
    /// seconds, less with every attempt that broke, and little where nothing is known. What may be under way is what a break may cost.
    #[must_use]
    pub fn on_line(mut self, rate: Option<u64>, round_trip: Duration, broken: u32) -> Self {
        self.rate_expected = rate;
        let in_two =
            u128::from(rate.unwrap_or(Self::UNKNOWN_BYTES_PER_SECOND)) * 2 * round_trip.as_micros() / 1_000_000;
        let window = u64::try_from(in_two).unwrap_or(u64::MAX).saturating_add(COST_OF_BREAK);
        self.window_bytes = self.window_bytes.min(window);
        let chunks = usize::try_from(in_two / CHUNK_BYTES).unwrap_or(usize::MAX);
        self.names_ahead = self.names_ahead.min(chunks.max(NAMES_AHEAD_MIN));
        let group = rate.map_or(UNKNOWN_GROUP_BYTES, |rate| usize::try_from(2 * rate).unwrap_or(usize::MAX));
        self.group_bytes = self.group_bytes.min(group >> (2 * broken).min(16));
        self
    }

    pub(super) fn sane(mut self) -> Self {
        self.window_bytes = self.window_bytes.clamp(1, Self::WINDOW_BYTES_MAX);
        self.window_objects = self.window_objects.clamp(1, 1 << 20);
        self.group_bytes = self.group_bytes.clamp(32 << 10, GROUP_BYTES_MAX);
        self.names_ahead = self.names_ahead.min(AHEAD);
        self.window_names = self.window_names.clamp(Self::NAMES_MIN, 1 << 20);
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            window_bytes: 4 << 20,
            window_objects: 8192,
            window_names: (AHEAD * (DEPTH_MAX + 1)) as u32,
            names_ahead: 2048,
            read_ahead_bytes: 2 << 20,
            compression: Compression::Adaptive,
            delta: true,
            prefixes: true,
            resemblance: true,
            group_bytes: GROUP_BYTES_MAX,
            rate_expected: None,
            patience: Some(Duration::from_secs(120)),
        }
    }
}
