//! What frames take on the wire: datagrams with their headers, and the acknowledgements that they are answered with.

use super::rehearse::Rehearsed;

/// QUIC's short header with the connection's id and the packet's number (RFC 9000, section 17.3), the tag of its protection, and the head of a stream
/// frame: what a datagram has besides the bytes of frames.
const QUIC_BYTES: u64 = 32;
/// UDP payload of a datagram with nothing but acknowledgements.
const ACK_BYTES: u64 = 38;
/// Datagrams, one behind the other, that one acknowledgement answers: the tenth, and what arrives until it is sent.
const ACK_EVERY: u64 = 11;
/// UDP payload of what keeps a connection alive that has nothing to say, and of its answer: each every twelve seconds.
const ALIVE_BYTES: u64 = 40;
const ALIVE_SECONDS: u64 = 12;

/// What the path of a line is like, as far as it adds bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Path {
    /// IP and UDP in front of each datagram: 28 bytes over IPv4, 48 over IPv6; and what the line itself adds, if that is counted.
    pub header_bytes: u64,
    /// Of all datagrams, how many are lost and sent again: 0 for none, below 1.
    pub loss: f64,
}

impl Path {
    /// Over IPv4, without loss.
    pub const PLAIN: Path = Path { header_bytes: 28, loss: 0.0 };

    /// Bytes on the wire to the receiver and back that a rehearsed replication takes, from its first packet to its last.
    pub fn bytes(&self, rehearsed: &Rehearsed) -> [u64; 2] {
        let [out, back] = rehearsed.traffic;
        let alone = self.header_bytes + ACK_BYTES;
        let each = self.header_bytes + QUIC_BYTES;
        // What comes back comes one by one, and each is answered.
        let forward = out.bytes + each * out.datagrams + alone * (1 + back.datagrams);
        let backward = back.bytes + each * back.datagrams + alone * (1 + out.datagrams / ACK_EVERY);
        [self.with_loss(forward), backward]
    }

    /// Bytes that a connection takes in a second, both ways together, while there is nothing to say.
    pub fn idle_bytes_per_second(&self) -> f64 {
        2.0 * (self.header_bytes + ALIVE_BYTES) as f64 / ALIVE_SECONDS as f64
    }

    fn with_loss(&self, bytes: u64) -> u64 {
        (bytes as f64 / (1.0 - self.loss.clamp(0.0, 0.99))) as u64
    }
}
