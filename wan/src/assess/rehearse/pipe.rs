//! One direction of a line that is only arithmetic: when a frame has arrived, and how many datagrams that took.

use std::time::Duration;

/// What a datagram carries of frames: 1452 bytes of UDP payload, less QUIC's short header, its tag and the head of a stream frame.
const CARRIED_BYTES: u64 = 1415;
/// Data that may wait for the line, in the four streams of a session that is not a very fast one.
const AHEAD_BYTES: u64 = 5_000_000;

/// What went over one direction of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of frames.
    pub bytes: u64,
    /// Datagrams that carry them.
    pub datagrams: u64,
}

/// See the module.
pub(super) struct Pipe {
    bytes_per_second: Option<u64>,
    one_way: Duration,
    /// When everything that was sent has left.
    free: Duration,
    /// Bytes that left one behind the other, up to `free`.
    run: u64,
    traffic: Traffic,
}

impl Pipe {
    pub fn new(bytes_per_second: Option<u64>, one_way: Duration) -> Pipe {
        Pipe { bytes_per_second, one_way, free: Duration::ZERO, run: 0, traffic: Traffic::default() }
    }

    /// Whether data may follow what waits already.
    pub fn has_room(&self, now: Duration) -> bool {
        self.free <= now + self.takes(AHEAD_BYTES)
    }

    /// When it may again.
    pub fn room_at(&self) -> Duration {
        self.free.saturating_sub(self.takes(AHEAD_BYTES))
    }

    /// Sends a frame; returns when all of it has arrived.
    pub fn send(&mut self, now: Duration, len: u64) -> Duration {
        if self.free <= now {
            self.traffic.datagrams += self.run.div_ceil(CARRIED_BYTES);
            (self.free, self.run) = (now, 0);
        }
        self.run += len;
        self.traffic.bytes += len;
        self.free += self.takes(len);
        self.free + self.one_way
    }

    fn takes(&self, len: u64) -> Duration {
        let nanos = self.bytes_per_second.map_or(0, |rate| u128::from(len) * 1_000_000_000 / u128::from(rate.max(1)));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What was sent in all.
    pub fn traffic(&self) -> Traffic {
        Traffic { datagrams: self.traffic.datagrams + self.run.div_ceil(CARRIED_BYTES), ..self.traffic }
    }
}
