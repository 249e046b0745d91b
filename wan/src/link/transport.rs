//! What quinn is told about flow control, timers and packets, with the reason for each number.

use std::sync::Arc;
use std::time::Duration;

use quinn::{AckFrequencyConfig, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::congestion::Steady;
use super::law::Laws;
use super::scavenger::Yielding;
use crate::shape::Class;

/// What one stream may have under way. quinn gives a connection up when a stream has more than 1024 gaps; on a line that
/// loses 3 % a window of 1.25 MB (about 870 datagrams) cannot have them. More rate takes more streams, not more window.
pub const STREAM_WINDOW_BYTES: u32 = 1_250_000;
/// What all streams of a connection may have under way towards us before it has proved to be a peer's: enough to pair.
const STRANGER_WINDOW_BYTES: u32 = 64_000;
/// And afterwards, at most: 32 MB are 1 Gbit/s at 250 ms.
const PEER_WINDOW_BYTES_MAX: u64 = 32_000_000;
/// And at least, however many peers there are: 20 Mbit/s at 800 ms.
const PEER_WINDOW_BYTES_MIN: u64 = 2_000_000;
/// What all peers together may have under way towards us, as long as there are not too many for the least window.
const WINDOW_BUDGET_BYTES: u64 = 128_000_000;
/// Streams that the data of one session is spread over at most: with them 1 Gbit/s at 80 ms, or 100 Mbit/s at 800 ms.
pub const STRIPES_MAX: u32 = 16;
/// Streams of control that a peer may have open at once: one a session.
pub const CONTROL_STREAMS_MAX: u32 = 8;
/// Streams of data that a peer may have open at once: no session waits for another one's.
pub const DATA_STREAMS_MAX: u32 = CONTROL_STREAMS_MAX * STRIPES_MAX;
/// A connection that is silent for longer is gone. The longest pause that a line of ours is known to take, a DSL
/// resynchronisation, takes about as long; a longer one costs one handshake and no data.
const IDLE: Duration = Duration::from_secs(30);
/// Half of what the meanest NAT forgets a UDP flow after (RFC 4787, section 4.3, asks for two minutes; 30 s are seen).
const KEEP_ALIVE: Duration = Duration::from_secs(12);
/// An acknowledgement for every tenth packet instead of every second: on an asymmetric line they are what fills the other
/// direction. Our own controller works in rounds and does not need more; a lost packet is still reported at once.
const ACK_EVERY: u32 = 9;

/// Datagrams that wait to be heard: one train of a probe ([`super::probe`]), should this box be slow.
const PROBE_BYTES: usize = 384 << 10;

/// The transport of every connection.
pub fn transport() -> TransportConfig {
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY));
    acks.reordering_threshold(VarInt::from_u32(2));
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(STRANGER_WINDOW_BYTES))
        .send_window(PEER_WINDOW_BYTES_MAX)
        .max_concurrent_uni_streams(VarInt::from_u32(DATA_STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(CONTROL_STREAMS_MAX))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(VarInt::from_u32(IDLE.as_millis() as u32).into()))
        .datagram_receive_buffer_size(Some(PROBE_BYTES))
        .ack_frequency_config(Some(acks))
        .congestion_controller_factory(Arc::new(Laws::<Steady>::default()));
    transport
}

/// The same for connections of a class: scavenger yields to everybody else on the line.
pub fn transport_of(class: Class) -> TransportConfig {
    let mut transport = transport();
    if class == Class::Scavenger {
        // Two packets, which are all that may be left, would wait for more before they are acknowledged, and look like a queue.
        let mut acks = AckFrequencyConfig::default();
        acks.ack_eliciting_threshold(VarInt::from_u32(1));
        acks.reordering_threshold(VarInt::from_u32(2));
        transport.ack_frequency_config(Some(acks)).congestion_controller_factory(Arc::new(Laws::<Yielding>::default()));
    }
    transport
}

/// Datagrams of a connection carry `first` bytes of payload from the beginning on, and never more than `most`: what fills a cap of a few
/// datagrams a second ([`super::socket::Shaper::filling_payloads`]). A longer one would leave a part of every second unused.
pub fn fill(transport: &mut TransportConfig, (first, most): (u16, u16)) {
    let mut search = MtuDiscoveryConfig::default();
    search.upper_bound(most);
    transport.initial_mtu(first).mtu_discovery_config(Some(search));
}

/// What a peer's connection may have under way towards us, where there are so many peers: bounds the memory that they can
/// occupy together below the sessions, whatever they do.
pub fn peer_window(peers: usize) -> VarInt {
    let share = WINDOW_BUDGET_BYTES / (peers.max(1) as u64);
    let window = share.clamp(PEER_WINDOW_BYTES_MIN, PEER_WINDOW_BYTES_MAX);
    VarInt::from_u64(window).unwrap_or(VarInt::from_u32(STREAM_WINDOW_BYTES))
}

/// How many streams data is spread over, so that two bandwidth-delay products fit into their windows.
pub fn stripes(bytes_per_second: u64, round_trip: Duration) -> usize {
    let bdp = u128::from(bytes_per_second) * round_trip.as_millis() / 1000;
    usize::try_from((2 * bdp).div_ceil(1_000_000)).unwrap_or(usize::MAX).clamp(4, STRIPES_MAX as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_share_the_budget() {
        let windows = [0, 1, 4, 10, 1000].map(|peers| peer_window(peers).into_inner());
        assert_eq!(windows, [32_000_000, 32_000_000, 32_000_000, 12_800_000, 2_000_000]);
    }

    #[test]
    fn stripes_hold_two_bandwidth_delay_products() {
        assert_eq!(stripes(0, Duration::ZERO), 4);
        assert_eq!(stripes(2_500_000, Duration::from_millis(100)), 4);
        assert_eq!(stripes(12_500_000, Duration::from_millis(300)), 8);
        assert_eq!(stripes(u64::MAX, Duration::from_secs(1)), 16);
    }
}
