//! Time that did not pass, although the clock says so: it was set forward, or nobody was there to see it pass.
//!
//! A window is as long as the time that passed, not as the clock says: else one start with a clock that is a year ahead would let go of
//! all history at once. Jumps are kept with the catalogue (`docs/formats/catalogue.md`), durably before a record has a time
//! behind one; where the disk has no room for that, with the catalogue's next change. A list that is lost or cut short lets
//! windows end earlier, and does no other harm.

use crate::units::Timestamp;

/// So much time passes at the most between two moments at which the store is told the time, while the box runs. What a clock
/// moves beyond that, in one step, is a jump.
pub(crate) const UNSEEN_NANOSECONDS_MAX: i64 = 300_000_000_000;
/// Jumps that are remembered. Beyond, the oldest is forgotten: what lies before it counts as older than it is.
const JUMPS_MAX: usize = 256;
/// The first byte of the list as it is kept.
const VERSION: u8 = 1;
const JUMP_BYTES: usize = 16;

/// A step of the clock in which no time passed that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The last time that was told before.
    pub from: Timestamp,
    /// The first one behind.
    pub to: Timestamp,
}

/// All jumps that are remembered, oldest first; none overlaps another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Jumps(Vec<Jump>);

impl Jumps {
    /// The list as it was kept. What a newer program made of it is not understood, and counts as none.
    pub fn decode(bytes: &[u8]) -> Jumps {
        let Some((&VERSION, list)) = bytes.split_first() else { return Jumps::default() };
        let mut jumps = Jumps::default();
        for entry in list.chunks_exact(JUMP_BYTES).take(JUMPS_MAX) {
            let (from, to) = entry.split_at(JUMP_BYTES / 2);
            let time = |bytes: &[u8]| Timestamp(i64::from_le_bytes(bytes.try_into().unwrap_or_default()));
            jumps.note(Jump { from: time(from), to: time(to) });
        }
        jumps
    }

    /// The list as it is kept.
    pub fn encode(&self) -> Vec<u8> {
        let times = self.0.iter().flat_map(|jump| [jump.from, jump.to]);
        std::iter::once(VERSION).chain(times.flat_map(|time| time.0.to_le_bytes())).collect()
    }

    /// Adds one behind all others. One that lies before the last, or is empty, is passed over.
    pub fn note(&mut self, jump: Jump) {
        if jump.from >= jump.to || self.0.last().is_some_and(|last| last.to > jump.from) {
            return;
        }
        if self.0.len() >= JUMPS_MAX {
            self.0.remove(0);
        }
        self.0.push(jump);
    }

    /// Forgets what lies behind `latest`: a jump whose records a power cut took has not been.
    pub fn end_at(&mut self, latest: Timestamp) {
        self.0.retain(|jump| jump.from < latest);
        self.0.iter_mut().for_each(|jump| jump.to = jump.to.min(latest));
    }

    /// The moment from which to `now` so many `nanoseconds` have passed.
    pub fn before(&self, now: Timestamp, nanoseconds: u64) -> Timestamp {
        let (mut at, mut left) = (now, nanoseconds);
        for jump in self.0.iter().rev().filter(|jump| jump.from < now) {
            let since = at.0.abs_diff(jump.to.0.min(at.0));
            if left <= since {
                break;
            }
            left -= since;
            at = jump.from;
        }
        Timestamp(at.0.saturating_sub_unsigned(left))
    }

    /// How many nanoseconds have passed from one moment to another.
    pub fn passed(&self, from: Timestamp, to: Timestamp) -> u64 {
        let within = |jump: &Jump| jump.from.max(from)..jump.to.min(to);
        let jumped = self.0.iter().map(within).filter(|range| range.start < range.end);
        let jumped: u64 = jumped.map(|range| range.end.0.abs_diff(range.start.0)).sum();
        if from < to { to.0.abs_diff(from.0).saturating_sub(jumped) } else { 0 }
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<Jump> {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jumps(list: &[(i64, i64)]) -> Jumps {
        let mut jumps = Jumps::default();
        list.iter().for_each(|(from, to)| jumps.note(Jump { from: Timestamp(*from), to: Timestamp(*to) }));
        jumps
    }

    #[test]
    fn what_passed_is_what_the_clock_says_without_the_jumps() {
        let jumps = jumps(&[(100, 1000), (1050, 5000)]);
        let before = |now, nanoseconds| jumps.before(Timestamp(now), nanoseconds).0;
        assert_eq!(before(90, 20), 70);
        assert_eq!(before(5010, 10), 5000);
        assert_eq!(before(5010, 11), 1049);
        assert_eq!(before(5010, 60), 1000);
        assert_eq!(before(5010, 61), 99);
        assert_eq!(before(500, 30), 70, "in the middle of one");
        assert_eq!(before(5010, u64::MAX), i64::MIN);
        for (from, to, passed) in
            [(0, 90, 90), (90, 1010, 20), (0, 5010, 160), (200, 900, 0), (1060, 4000, 0), (9, 3, 0)]
        {
            assert_eq!(jumps.passed(Timestamp(from), Timestamp(to)), passed, "{from} to {to}");
        }
        assert_eq!(Jumps::default().before(Timestamp(5), u64::MAX), Timestamp(i64::MIN));
        assert_eq!(Jumps::default().passed(Timestamp(i64::MIN), Timestamp(i64::MAX)), u64::MAX);
    }

    #[test]
    fn the_way_back_and_what_passed_agree() {
        let jumps = jumps(&[(-50, 3), (10, 11), (40, 90), (95, 200)]);
        for now in -60..230 {
            for nanoseconds in 0..250 {
                let from = jumps.before(Timestamp(now), nanoseconds);
                assert_eq!(jumps.passed(from, Timestamp(now)), nanoseconds, "{nanoseconds} before {now}");
            }
        }
    }

    #[test]
    fn lists_come_back_as_they_were_kept_and_are_bounded() {
        let kept = jumps(&[(-5, 7), (7, 9), (20, i64::MAX)]);
        assert_eq!(Jumps::decode(&kept.encode()), kept);
        assert_eq!(jumps(&[(1, 5), (3, 9), (6, 6), (7, 8)]), jumps(&[(1, 5), (7, 8)]), "in order and apart");
        let many: Vec<_> = (0..1000).map(|nth| (nth * 10, nth * 10 + 5)).collect();
        assert_eq!(jumps(&many), jumps(&many[1000 - JUMPS_MAX..]));
        for odd in [&[][..], &[2, 0, 0], &[1], &[1, 3, 4]] {
            assert_eq!(Jumps::decode(odd), Jumps::default());
        }
        let mut ends = kept;
        ends.end_at(Timestamp(8));
        assert_eq!(ends, jumps(&[(-5, 7), (7, 8)]));
        ends.end_at(Timestamp(-5));
        assert_eq!(ends, Jumps::default());
    }
}
