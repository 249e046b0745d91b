//! Cuts bytes that arrive in pieces (one NFS write each, say) without joining them first.
//!
//! A chunk that lies within one piece is handed out as a slice of it. Only what straddles pieces is copied together,
//! at most one window at a time. Zeros that are known to be zeros (holes) are handed in by their number and cost nothing.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use super::zeros::ZERO_RUN_BYTES;
use super::{Cut, Cutter, Ending};

/// What [`Feed::next`] cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fed {
    /// A chunk.
    Chunk {
        /// Its bytes.
        bytes: Bytes,
        /// What ended it.
        ending: Ending,
    },
    /// So many bytes of a hole. Holes that follow one another directly are one hole.
    Hole(u64),
    /// Nothing more is certain before more is pushed, or [`Feed::end`] is called.
    NeedMore,
    /// Everything was handed out.
    End,
}

enum Piece {
    Bytes(Bytes),
    Zeros(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Bytes(bytes) => bytes.len() as u64,
            Piece::Zeros(count) => *count,
        }
    }
}

/// Pieces of one content, in order, on their way through a [`Cutter`].
///
/// Memory: what was pushed and not yet handed out, plus one window.
pub struct Feed {
    pieces: VecDeque<Piece>,
    /// How many bytes `pieces` hold.
    queued: u64,
    /// The first bytes of `pieces`, copied together; empty where that was not needed.
    joined: Bytes,
    at: u64,
    open_hole: bool,
    ended: bool,
}

impl Feed {
    /// Begins at the cut `at`, an offset in the content in bytes.
    pub fn new(at: u64) -> Self {
        Feed { pieces: VecDeque::new(), queued: 0, joined: Bytes::new(), at, open_hole: false, ended: false }
    }
    /// Adds what comes next.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(!self.ended, "pushed behind the end");
        if !bytes.is_empty() {
            self.queued += bytes.len() as u64;
            self.pieces.push_back(Piece::Bytes(bytes));
        }
    }
    /// Adds `count` zero bytes, which are nowhere in memory.
    pub fn push_zeros(&mut self, count: u64) {
        debug_assert!(!self.ended, "pushed behind the end");
        if count > 0 {
            self.queued += count;
            self.pieces.push_back(Piece::Zeros(count));
        }
    }
    /// Says that nothing follows.
    pub fn end(&mut self) {
        self.ended = true;
    }
    /// The cut up to which everything was handed out: an offset in the content, in bytes.
    pub fn at(&self) -> u64 {
        self.at
    }
    /// How many bytes were pushed and not yet handed out.
    pub fn queued_bytes(&self) -> u64 {
        self.queued
    }
    /// True where the last thing handed out was a hole and it may go on: whether [`Feed::at`] is a cut is not known.
    pub fn hole_is_open(&self, cutter: &Cutter) -> bool {
        let may_go_on = match self.pieces.front() {
            Some(Piece::Bytes(bytes)) => bytes.first() == Some(&0),
            Some(Piece::Zeros(_)) => true,
            None => !self.ended,
        };
        self.open_hole && may_go_on && !cutter.is_boundary(self.at)
    }
    /// Steps over `len` bytes that the caller knows to be one chunk here. Only between chunks: nothing may be queued
    /// and no hole open.
    pub fn skip_chunk(&mut self, len: u64) {
        assert!(self.queued == 0 && !self.ended, "a known chunk must begin at a cut");
        self.open_hole = false;
        self.at += len;
    }

    /// Cuts off the next chunk or part of a hole.
    pub fn next(&mut self, cutter: &Cutter) -> Fed {
        let cut = match self.pieces.front() {
            None if self.ended => return Fed::End,
            None => return Fed::NeedMore,
            Some(Piece::Zeros(count)) => self.hole_of_zeros(cutter, *count),
            Some(Piece::Bytes(front)) => {
                cutter.next(front, self.at, self.open_hole, self.ended && self.pieces.len() == 1)
            }
        };
        let cut = if cut == Cut::NeedMore { self.next_joined(cutter) } else { cut };
        match cut {
            Cut::NeedMore => Fed::NeedMore,
            Cut::Hole(len) => {
                self.advance(len as u64);
                self.open_hole = true;
                Fed::Hole(len as u64)
            }
            Cut::Chunk { len, ending } => {
                let bytes = match self.pieces.front() {
                    Some(Piece::Bytes(front)) if front.len() >= len => front.slice(..len),
                    _ => self.joined.slice(..len),
                };
                self.advance(len as u64);
                self.open_hole = false;
                Fed::Chunk { bytes, ending }
            }
        }
    }

    /// What `count` zeros in front are, where that needs no look at what follows: a hole, also of whole blocks at once.
    fn hole_of_zeros(&self, cutter: &Cutter, count: u64) -> Cut {
        let here = count.min(cutter.to_boundary(self.at));
        if here < ZERO_RUN_BYTES as u64 && (!self.open_hole || cutter.is_boundary(self.at)) {
            return Cut::NeedMore;
        }
        let beyond = count - here;
        let whole_blocks = cutter.boundary_every().map_or(0, |every| beyond - beyond % every);
        usize::try_from(here + whole_blocks).map_or(Cut::NeedMore, Cut::Hole)
    }

    /// The same decision on the first window of what is queued, copied together.
    fn next_joined(&mut self, cutter: &Cutter) -> Cut {
        let attempt = |feed: &Feed| {
            let is_end = feed.ended && feed.joined.len() as u64 == feed.queued;
            cutter.next(&feed.joined, feed.at, feed.open_hole, is_end)
        };
        let mut cut = attempt(self);
        // Where a large piece follows, only one chunk straddles: little of that piece is worth copying. Otherwise all are.
        let avg = cutter.sizes().avg_bytes() as u64;
        let front = self.pieces.front().map_or(0, Piece::len);
        let next_is_large = self.pieces.get(1).is_some_and(|next| next.len() > 2 * avg);
        let first = if next_is_large { front + 2 * avg } else { u64::MAX };
        for wanted in [first, u64::MAX] {
            let wanted = self.queued.min(cutter.window_bytes() as u64).min(wanted) as usize;
            if cut == Cut::NeedMore && self.joined.len() < wanted {
                self.join(wanted);
                cut = attempt(self);
            }
        }
        cut
    }

    /// Copies the first `wanted` bytes of what is queued together.
    fn join(&mut self, wanted: usize) {
        let mut joined = BytesMut::with_capacity(wanted);
        for piece in &self.pieces {
            let room = wanted - joined.len();
            match piece {
                Piece::Bytes(bytes) => joined.extend_from_slice(&bytes[..bytes.len().min(room)]),
                Piece::Zeros(count) => joined.resize(joined.len() + (*count).min(room as u64) as usize, 0),
            }
            if joined.len() == wanted {
                break;
            }
        }
        self.joined = joined.freeze();
    }

    /// Drops the first `len` bytes.
    fn advance(&mut self, len: u64) {
        self.at += len;
        self.queued -= len;
        let in_joined = self.joined.len().min(len as usize);
        self.joined.advance(in_joined);
        let mut left = len;
        while let Some(front) = self.pieces.front_mut().filter(|_| left > 0) {
            if front.len() <= left {
                left -= front.len();
                self.pieces.pop_front();
                continue;
            }
            match front {
                Piece::Bytes(bytes) => bytes.advance(left as usize),
                Piece::Zeros(count) => *count -= left,
            }
            left = 0;
        }
    }
}
