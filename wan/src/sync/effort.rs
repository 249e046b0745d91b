//! How hard to pack: as hard as the line is slow.
//!
//! Packing runs ahead of the line. Where packed objects wait for the line, the line is what limits, and the next group
//! is packed harder: fewer bytes. Where the line has room and waits for packing, the processor is what limits, and the
//! next group is packed less hard; at the end of that scale objects go as they are stored, which costs nothing. So the
//! effort settles where both are busy, without knowing the rate of either.

use std::fmt;
use std::str::FromStr;

use narrowboat_storage::error::Refusal;

/// zstd levels from the fastest to the hardest. Each takes about twice as long as the one before.
const LEVELS: [i32; 6] = [1, 3, 6, 9, 12, 15];
/// The least effort.
pub(super) const LEVEL_MIN: i32 = LEVELS[0];
/// The least effort that finds most of a difference: below it, zstd's tables forget the base before the content comes
/// (28 MB at level 1 where level 3 sends 1.0: `docs/decisions/0014-bundles.md`).
pub(super) const BASED_LEVEL_MIN: i32 = 3;
/// Where it begins, by the rate that the line is expected to take, in bytes per second: at least so much, this level's place.
const BEGIN: [(u64, usize); 3] = [(12_500_000, 2), (2_500_000, 3), (250_000, 4)];

/// How objects are packed for the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Chosen group by group: the hardest that the processor can do as fast as the line takes it.
    #[default]
    Adaptive,
    /// Not at all: objects travel as they are stored, one by one.
    AsStored,
    /// Always at this zstd level, 1 to 19.
    Level(i32),
}

impl FromStr for Compression {
    type Err = Refusal;

    /// "adaptive", "stored", or a zstd level from 1 to 19.
    fn from_str(text: &str) -> Result<Self, Refusal> {
        match (text, text.parse()) {
            ("adaptive", _) => Ok(Compression::Adaptive),
            ("stored", _) => Ok(Compression::AsStored),
            (_, Ok(level @ 1..=19)) => Ok(Compression::Level(level)),
            _ => {
                Err(Refusal::Invalid(format!("{text:?} is not \"adaptive\", \"stored\" or a zstd level from 1 to 19")))
            }
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Compression::Adaptive => out.write_str("adaptive"),
            Compression::AsStored => out.write_str("stored"),
            Compression::Level(level) => level.fmt(out),
        }
    }
}

/// What was seen since the last choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Nothing,
    /// Something packed waited for the line.
    LineBusy,
    /// The line waited for something to be packed.
    LineIdle,
}

/// Chooses how hard each group is packed.
#[derive(Debug)]
pub(super) struct Effort {
    compression: Compression,
    /// 0 is as stored, then the levels.
    step: usize,
    seen: Seen,
    harder: u64,
    easier: u64,
}

impl Effort {
    /// `bytes_per_second` is what the line is expected to take, if anything is known.
    pub fn new(compression: Compression, bytes_per_second: Option<u64>) -> Self {
        let rate = bytes_per_second.unwrap_or(u64::MAX);
        let step = BEGIN.iter().find(|(least, _)| rate >= *least).map_or(LEVELS.len(), |(_, step)| *step);
        Effort { compression, step, seen: Seen::Nothing, harder: 0, easier: 0 }
    }

    /// The least level that this allows for what is packed against a base; none where it is not to be packed at all.
    pub fn least_for_bases(&self) -> Option<i32> {
        match self.compression {
            Compression::Adaptive => Some(BASED_LEVEL_MIN),
            Compression::AsStored => None,
            Compression::Level(level) => Some(level),
        }
    }

    /// The line had room, nothing packed was there, and something was being packed.
    pub fn line_waits(&mut self) {
        self.seen = Seen::LineIdle;
    }

    /// Something packed waits for the line. Does not outweigh that the line waited since the last choice.
    pub fn packed_waits(&mut self) {
        if self.seen == Seen::Nothing {
            self.seen = Seen::LineBusy;
        }
    }

    /// How often it chose a harder level than before, and an easier one.
    pub fn turns(&self) -> (u64, u64) {
        (self.harder, self.easier)
    }

    /// The level for the next group; `None` for objects as they are stored.
    pub fn choose(&mut self) -> Option<i32> {
        match self.compression {
            Compression::AsStored => return None,
            Compression::Level(level) => return Some(level.clamp(1, 19)),
            Compression::Adaptive => {}
        }
        match std::mem::replace(&mut self.seen, Seen::Nothing) {
            Seen::Nothing => {}
            Seen::LineBusy => {
                self.harder += u64::from(self.step < LEVELS.len());
                self.step = (self.step + 1).min(LEVELS.len());
            }
            Seen::LineIdle => {
                self.easier += u64::from(self.step > 0);
                self.step = self.step.saturating_sub(1);
            }
        }
        self.step.checked_sub(1).map(|place| LEVELS[place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_line_is_worth_every_effort_and_a_fast_one_none() {
        let mut effort = Effort::new(Compression::Adaptive, None);
        assert_eq!(effort.choose(), Some(3), "the beginning");
        for _ in 0..10 {
            effort.packed_waits();
            effort.choose();
        }
        effort.packed_waits();
        assert_eq!(effort.choose(), Some(15));
        assert_eq!(
            Effort::new(Compression::Adaptive, Some(4000)).choose(),
            Some(15),
            "a thin line, as far as is known"
        );
        for _ in 0..10 {
            effort.line_waits();
            effort.packed_waits();
            effort.choose();
        }
        assert_eq!(effort.choose(), None, "as stored, and it stays there while nothing is seen");
        assert_eq!(effort.turns(), (4, 6));
        effort.packed_waits();
        assert_eq!(effort.choose(), Some(1));
    }

    #[test]
    fn texts_are_read_as_they_are_written() {
        for text in ["adaptive", "stored", "1", "19"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        for text in ["", "0", "20", "-1", "zstd", "Adaptive"] {
            assert!(text.parse::<Compression>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_was_set_is_not_adapted() {
        for (compression, level) in [(Compression::AsStored, None), (Compression::Level(7), Some(7))] {
            let mut effort = Effort::new(compression, None);
            effort.line_waits();
            assert_eq!(effort.choose(), level);
        }
    }
}
