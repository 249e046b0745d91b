//! Probes: the datagrams that measure a line, and what is said about them on a stream of their own.
//! `docs/formats/replication-protocol.md` ("Probes") owns the bytes.

use std::time::Duration;

use bytes::Bytes;

use super::reader::{Reader, WireError};
use crate::probe::{Dispersion, Loss};
use crate::shape::Rate;

/// Length of a [`ProbeMessage`].
pub const PROBE_MESSAGE_BYTES: usize = 32;
/// Length of a [`ProbeMark`], the first bytes of a datagram of a probe.
pub const PROBE_MARK_BYTES: usize = 32;
const MARK_MAGIC: [u8; 4] = *b"NBpr";
/// In place of a rate: no cap.
const NO_CAP: u64 = u64::MAX;
/// In place of a number: none.
const NO_NUMBER: u32 = u32::MAX;

/// What two boxes say about a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMessage {
    /// Answerer: go on; this is the cap of what I send you.
    Ready(Option<Rate>),
    /// Answerer: not now; so many seconds later.
    Wait(u16),
    /// Either: I have sent a train (0: the row) of so many packets.
    Sent {
        /// Which train.
        train: u8,
        /// Its packets.
        packets: u32,
    },
    /// Answerer: this came of your train.
    Heard {
        /// Which train.
        train: u8,
        /// How it came apart.
        seen: Dispersion,
    },
    /// Asker: send me a train.
    Send {
        /// Which train.
        train: u8,
        /// Payload of each datagram in bytes.
        size: u16,
        /// Its packets.
        packets: u32,
    },
    /// Asker: I send a row; send one, too.
    Row {
        /// Payload of each datagram in bytes.
        size: u16,
        /// Its packets.
        packets: u32,
        /// From one to the next.
        interval: Duration,
    },
    /// Answerer: this was lost of your row.
    Lost(Loss),
}

impl ProbeMessage {
    /// Writes the message.
    pub fn encode(&self) -> [u8; PROBE_MESSAGE_BYTES] {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (kind, train, size, packets, words) = match *self {
            ProbeMessage::Ready(cap) => (1, 0, 0, 0, [cap.map_or(NO_CAP, Rate::bits), 0, 0]),
            ProbeMessage::Wait(seconds) => (2, 0, seconds, 0, [0; 3]),
            ProbeMessage::Sent { train, packets } => (3, train, 0, packets, [0; 3]),
            ProbeMessage::Heard { train, seen } => {
                (4, train, 0, seen.packets, [seen.bits_per_second, micros(seen.spread), 0])
            }
            ProbeMessage::Send { train, size, packets } => (5, train, size, packets, [0; 3]),
            ProbeMessage::Row { size, packets, interval } => (6, 0, size, packets, [micros(interval), 0, 0]),
            ProbeMessage::Lost(loss) => (7, 0, 0, loss.sent, [loss.lost, loss.bursts, loss.longest].map(u64::from)),
        };
        let mut bytes = [0; PROBE_MESSAGE_BYTES];
        (bytes[0], bytes[1]) = (kind, train);
        bytes[2..4].copy_from_slice(&u16::to_le_bytes(size));
        bytes[4..8].copy_from_slice(&u32::to_le_bytes(packets));
        for (slot, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads a message. Fails on a kind that is unknown, and on numbers that cannot be.
    pub fn decode(bytes: &[u8; PROBE_MESSAGE_BYTES]) -> Result<ProbeMessage, WireError> {
        let mut reader = Reader::new("message of a probe", Bytes::copy_from_slice(bytes));
        let (kind, train, size, packets) = (reader.u8()?, reader.u8()?, reader.u16()?, reader.u32()?);
        let words = [reader.u64()?, reader.u64()?, reader.u64()?];
        let unknown = |what, value| WireError::Unknown { what, value };
        let small = |value: u64| u32::try_from(value).map_err(|_| unknown("number of packets", value));
        Ok(match kind {
            1 if words[0] == NO_CAP => ProbeMessage::Ready(None),
            1 => ProbeMessage::Ready(Some(Rate::from_bits(words[0]).map_err(|_| unknown("cap", words[0]))?)),
            2 => ProbeMessage::Wait(size),
            3 => ProbeMessage::Sent { train, packets },
            4 => {
                let (bits_per_second, spread) = (words[0], Duration::from_micros(words[1]));
                ProbeMessage::Heard { train, seen: Dispersion { packets, spread, bits_per_second } }
            }
            5 => ProbeMessage::Send { train, size, packets },
            6 => ProbeMessage::Row { size, packets, interval: Duration::from_micros(words[0]) },
            7 => {
                let [lost, bursts, longest] = [small(words[0])?, small(words[1])?, small(words[2])?];
                let loss = Loss { sent: packets, lost, bursts, longest };
                if !loss.is_sound() {
                    return Err(unknown("loss", words[0]));
                }
                ProbeMessage::Lost(loss)
            }
            kind => return Err(unknown("message of a probe", kind.into())),
        })
    }
}

/// The first bytes of a datagram of a probe; zeros follow up to its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeMark {
    /// Sent by the side that asked.
    pub by_asker: bool,
    /// Which train; 0 is the row.
    pub train: u8,
    /// The session of the preface.
    pub session: u64,
    /// Place in the train or row.
    pub number: u32,
    /// Of the row: the number that came last from the other side, and how long ago.
    pub echo: Option<(u32, Duration)>,
}

impl ProbeMark {
    /// Writes the mark.
    pub fn encode(&self) -> [u8; PROBE_MARK_BYTES] {
        let (echo, held) = self.echo.unwrap_or((NO_NUMBER, Duration::ZERO));
        let held = u32::try_from(held.as_micros()).unwrap_or(u32::MAX);
        let mut bytes = [0; PROBE_MARK_BYTES];
        bytes[..4].copy_from_slice(&MARK_MAGIC);
        (bytes[4], bytes[5]) = (u8::from(self.by_asker), self.train);
        bytes[8..16].copy_from_slice(&self.session.to_le_bytes());
        for (slot, word) in bytes[16..28].chunks_exact_mut(4).zip([self.number, echo, held]) {
            slot.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Reads the mark of a datagram. Fails on one that is too short or none of a probe.
    pub fn decode(datagram: &Bytes) -> Result<ProbeMark, WireError> {
        let mut reader = Reader::new("mark of a probe", datagram.clone());
        if reader.array()? != MARK_MAGIC {
            return Err(WireError::Magic("datagram"));
        }
        let (by_asker, train, _) = (reader.flag("side of a probe")?, reader.u8()?, reader.u16()?);
        let (session, number, echo, held) = (reader.u64()?, reader.u32()?, reader.u32()?, reader.u32()?);
        reader.u32()?;
        let echo = (echo != NO_NUMBER).then_some((echo, Duration::from_micros(held.into())));
        Ok(ProbeMark { by_asker, train, session, number, echo })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/formats/replication-protocol.md");

    /// The hex of a block of the page.
    fn block(name: &str) -> Vec<u8> {
        let start = PAGE.find(&format!("```hex {name}\n")).expect("the page has it");
        let text = PAGE[start..].lines().skip(1).take_while(|line| *line != "```").collect::<String>();
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex");
        (0..text.len()).step_by(2).map(pair).collect()
    }

    fn messages() -> Vec<ProbeMessage> {
        let seen = Dispersion { packets: 7, spread: Duration::from_micros(83_000), bits_per_second: 1_000_000 };
        vec![
            ProbeMessage::Ready(Rate::from_bits(2_000_000).ok()),
            ProbeMessage::Sent { train: 1, packets: 8 },
            ProbeMessage::Heard { train: 1, seen },
            ProbeMessage::Send { train: 1, size: 1400, packets: 4 },
            ProbeMessage::Row { size: 40, packets: 500, interval: Duration::from_millis(10) },
            ProbeMessage::Lost(Loss { sent: 500, lost: 3, bursts: 2, longest: 2 }),
            ProbeMessage::Wait(9),
            ProbeMessage::Ready(None),
        ]
    }

    #[test]
    fn the_example_of_the_page_reads_back() {
        let bytes = block("probe");
        let read: Vec<_> = bytes
            .chunks(PROBE_MESSAGE_BYTES)
            .map(|one| ProbeMessage::decode(one.try_into().expect("32 bytes")).expect("sound"))
            .collect();
        assert_eq!(read, messages());
        assert_eq!(messages().iter().flat_map(ProbeMessage::encode).collect::<Vec<_>>(), bytes);
        let echo = Some((16, Duration::from_millis(3)));
        let mark = ProbeMark { by_asker: true, train: 0, session: 5, number: 17, echo };
        assert_eq!(ProbeMark::decode(&block("mark").into()), Ok(mark));
        assert_eq!(mark.encode(), block("mark")[..]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let refused = |change: fn(&mut [u8; 32])| {
            messages()
                .iter()
                .filter(|message| {
                    let mut bytes = message.encode();
                    change(&mut bytes);
                    ProbeMessage::decode(&bytes).is_err()
                })
                .count()
        };
        assert_eq!(refused(|bytes| bytes[0] = 0), 8);
        assert_eq!(refused(|bytes| bytes[0] = 8), 8);
        // More lost than sent.
        assert_eq!(
            refused(|bytes| if bytes[0] == 7 {
                bytes[9] = 9
            }),
            1
        );
        // A cap that is none.
        assert_eq!(
            refused(|bytes| if bytes[0] == 1 {
                bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0])
            }),
            2
        );
        for short in 0..PROBE_MARK_BYTES {
            let mark = ProbeMark { by_asker: false, train: 1, session: 5, number: 17, echo: None };
            let bytes = Bytes::copy_from_slice(&mark.encode());
            assert_eq!(ProbeMark::decode(&bytes), Ok(mark));
            assert!(ProbeMark::decode(&bytes.slice(..short)).is_err());
        }
    }
}
