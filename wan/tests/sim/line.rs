//! A bad line: slow, far, lossy, and cut off at any byte.
//!
//! As over QUIC, bytes of one stream arrive in order or not at all, and streams do not wait for one another: a loss is
//! a delay of one more round trip for what follows on the same stream.

use crate::common::rng::Rng;

/// Bytes of headers on every segment: IP, UDP, QUIC.
const HEADER_BYTES: u64 = 60;

/// What a line is like. Times in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub bits_per_second: u64,
    pub one_way_us: u64,
    pub jitter_us: u64,
    /// One segment in so many is lost; 0 for none.
    pub loss_one_in: u64,
    pub segment_bytes: u64,
    /// Data streams from sender to receiver.
    pub streams: usize,
}

impl Line {
    pub fn random(rng: &mut Rng) -> Self {
        Line {
            bits_per_second: [200_000, 2_000_000, 50_000_000][rng.below(3) as usize],
            one_way_us: rng.within(100, 200_000),
            jitter_us: rng.below(20_000),
            loss_one_in: [0, 3, 20, 100][rng.below(4) as usize],
            segment_bytes: rng.within(100, 4000),
            streams: rng.within(1, 6) as usize,
        }
    }
}

/// One direction of a line.
pub struct Direction {
    line: Line,
    arrivals: Vec<u64>,
    pub wire_bytes: u64,
}

impl Direction {
    pub fn new(line: Line) -> Self {
        Direction { line, arrivals: vec![0; line.streams + 1], wire_bytes: 0 }
    }

    /// Sends a segment on a stream; returns when the line is free again, and when the segment arrives.
    pub fn send(&mut self, now: u64, stream: usize, len: usize, rng: &mut Rng) -> (u64, u64) {
        let bytes = len as u64 + HEADER_BYTES;
        self.wire_bytes += bytes;
        let free = now + (bytes * 8 * 1_000_000).div_ceil(self.line.bits_per_second);
        let mut arrival = free + self.line.one_way_us + rng.below(self.line.jitter_us + 1);
        while self.line.loss_one_in > 0 && rng.one_in(self.line.loss_one_in) {
            arrival += 2 * self.line.one_way_us;
            self.wire_bytes += bytes;
        }
        let arrival = arrival.max(self.arrivals[stream]);
        self.arrivals[stream] = arrival;
        (free, arrival)
    }
}
