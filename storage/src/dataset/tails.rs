//! Where writers of a volume stopped who may go on: the bytes behind the last cut.
//!
//! A sequential writer sends a long run in pieces that end anywhere. What is left behind the last cut of a piece is in the
//! journal, and here: when the next piece begins where that one ended, cutting goes on from the cut, and its first chunk
//! reaches back over these bytes. So a run is cut as if it had come in one piece.
//!
//! A pure value. Invariant: a tail's bytes are what the volume holds there now; whoever changes them says so.

use std::collections::BTreeMap;

use bytes::Bytes;

/// Writers that are remembered at once. A tail is shorter than the longest chunk, so they take 64 times that at most.
const TAILS_MAX: usize = 64;

/// Bytes from a cut up to where a writer stopped.
#[derive(Clone, Debug)]
pub(crate) struct Tail {
    /// The cut.
    pub start: u64,
    /// The bytes behind it, at least one.
    pub bytes: Bytes,
    /// Tells this tail from every other one.
    pub stamp: u64,
}

/// The tails of one volume, by where they end.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    by_end: BTreeMap<u64, Tail>,
    stamps: u64,
}

impl Tails {
    /// The tail that ends at `end`.
    pub fn at(&self, end: u64) -> Option<Tail> {
        self.by_end.get(&end).cloned()
    }

    /// True where this tail is still there: nothing has changed its bytes.
    pub fn holds(&self, end: u64, stamp: u64) -> bool {
        self.by_end.get(&end).is_some_and(|tail| tail.stamp == stamp)
    }

    /// Forgets what touches `[from, to)`, which changes, and a writer that goes on from `from`.
    pub fn changed(&mut self, from: u64, to: u64) {
        self.by_end.retain(|end, tail| *end < from || tail.start >= to);
    }

    /// Remembers that a writer stopped behind these bytes. The one that has waited longest for its writer makes room.
    pub fn leave(&mut self, start: u64, bytes: Bytes) {
        self.stamps += 1;
        self.by_end.insert(start + bytes.len() as u64, Tail { start, bytes, stamp: self.stamps });
        if self.by_end.len() > TAILS_MAX
            && let Some(end) = self.by_end.iter().min_by_key(|(_, tail)| tail.stamp).map(|(end, _)| *end)
        {
            self.by_end.remove(&end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_forgotten_by_whatever_touches_it_and_by_nothing_else() {
        let mut tails = Tails::default();
        tails.leave(100, Bytes::from_static(b"0123456789"));
        let tail = tails.at(110).expect("left there");
        tails.changed(0, 100);
        tails.changed(111, 200);
        assert!(tails.holds(110, tail.stamp));
        for (from, to) in [(0, 101), (105, 106), (109, 200), (110, 120)] {
            let mut tails = Tails::default();
            tails.leave(100, Bytes::from_static(b"0123456789"));
            tails.changed(from, to);
            assert!(tails.at(110).is_none(), "{from} {to}");
        }
    }

    #[test]
    fn as_many_writers_are_remembered_as_there_is_room_for() {
        let mut tails = Tails::default();
        for nth in 0..TAILS_MAX as u64 + 3 {
            tails.leave(nth * 100, Bytes::from_static(b"x"));
        }
        assert_eq!(tails.by_end.len(), TAILS_MAX);
        assert!(tails.at(1).is_none() && tails.at(301).is_some());
    }
}
