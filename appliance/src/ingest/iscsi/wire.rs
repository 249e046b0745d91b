//! Protocol data units on the wire (RFC 7143 section 11).
//!
//! A PDU is a header of 48 bytes, optional further headers, an optional data segment padded to four bytes, and a CRC32C
//! of each where that was negotiated. Numbers are big-endian, as RFC 7143 wants them; the digests alone lie with their
//! least significant byte first (RFC 7143 section 13.1).
//!
//! [`Pdu`] is what came in, already cut out of the stream by `framing`; its data segment is shared, not copied. [`Frame`]
//! is what goes out: its data is a list of slices that storage handed over.
//!
//! Nothing here decides anything: fields are read and written.

use bytes::{BufMut, Bytes, BytesMut};

/// Length of a basic header segment.
pub const BHS_BYTES: usize = 48;
/// Longest additional header segments: a count of four-byte words in one byte.
pub const AHS_BYTES_MAX: usize = 255 * 4;
/// Length of a digest.
pub const DIGEST_BYTES: usize = 4;
/// The tag that names no task.
pub const NO_TAG: u32 = 0xffff_ffff;
/// Longest command descriptor block that is taken: those of service actions of variable length are at most this long.
pub const CDB_BYTES_MAX: usize = 260;

/// Operation codes (RFC 7143 section 11.2.1.2).
pub mod opcode {
    /// NOP-Out: a ping, or the answer to one.
    pub const NOP_OUT: u8 = 0x00;
    /// SCSI Command.
    pub const COMMAND: u8 = 0x01;
    /// Task management function request.
    pub const TASK_REQUEST: u8 = 0x02;
    /// Login request.
    pub const LOGIN_REQUEST: u8 = 0x03;
    /// Text request.
    pub const TEXT_REQUEST: u8 = 0x04;
    /// SCSI Data-Out: data of a write.
    pub const DATA_OUT: u8 = 0x05;
    /// Logout request.
    pub const LOGOUT_REQUEST: u8 = 0x06;
    /// Selective negative acknowledgement; only for error recovery levels above 0.
    pub const SNACK: u8 = 0x10;
    /// NOP-In: a ping, or the answer to one.
    pub const NOP_IN: u8 = 0x20;
    /// SCSI Response.
    pub const RESPONSE: u8 = 0x21;
    /// Task management function response.
    pub const TASK_RESPONSE: u8 = 0x22;
    /// Login response.
    pub const LOGIN_RESPONSE: u8 = 0x23;
    /// Text response.
    pub const TEXT_RESPONSE: u8 = 0x24;
    /// SCSI Data-In: data of a read.
    pub const DATA_IN: u8 = 0x25;
    /// Logout response.
    pub const LOGOUT_RESPONSE: u8 = 0x26;
    /// Ready to transfer: asks for data of a write.
    pub const R2T: u8 = 0x31;
    /// Asynchronous message.
    pub const ASYNC: u8 = 0x32;
    /// Reject.
    pub const REJECT: u8 = 0x3f;
}

/// Why a PDU is rejected (RFC 7143 section 11.17.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectReason {
    /// The data segment's digest is wrong.
    DataDigest = 0x02,
    /// Only levels above 0 have it.
    SnackUnsupported = 0x03,
    /// A PDU that may not come now.
    ProtocolError = 0x04,
    /// An operation that this target does not know.
    CommandNotSupported = 0x05,
    /// More immediate commands than are taken at once.
    TooManyImmediate = 0x06,
    /// A field has an impossible value.
    InvalidField = 0x09,
    /// A continuation that is forgotten.
    NegotiationReset = 0x0b,
}

/// A basic header segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bhs(pub [u8; BHS_BYTES]);

impl std::fmt::Debug for Bhs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bhs(opcode {:#04x}, flags {:#04x}, tag {:#x})", self.opcode(), self.0[1], self.task_tag())
    }
}

impl Bhs {
    /// A header of zeros but for its operation and flags.
    pub fn new(opcode: u8, flags: u8) -> Self {
        let mut bytes = [0; BHS_BYTES];
        (bytes[0], bytes[1]) = (opcode, flags);
        Bhs(bytes)
    }

    /// Which operation it is.
    pub fn opcode(&self) -> u8 {
        self.0[0] & 0x3f
    }

    /// True for requests that are delivered outside the order of command numbers.
    pub fn is_immediate(&self) -> bool {
        self.0[0] & 0x40 != 0
    }

    /// The flag that most operations have: this is the last PDU of its sequence.
    pub fn is_final(&self) -> bool {
        self.0[1] & 0x80 != 0
    }

    /// Bytes of additional header segments: at most [`AHS_BYTES_MAX`].
    pub fn ahs_bytes(&self) -> usize {
        usize::from(self.0[4]) * 4
    }

    /// Bytes of the data segment without padding: less than 16 MiB.
    pub fn data_bytes(&self) -> usize {
        u32::from_be_bytes([0, self.0[5], self.0[6], self.0[7]]) as usize
    }

    /// The logical unit number, as its eight bytes.
    pub fn lun(&self) -> [u8; 8] {
        self.bytes::<8>(8)
    }

    /// The initiator's name for the task.
    pub fn task_tag(&self) -> u32 {
        self.word(16)
    }

    /// The big-endian number of four bytes at `at`, which is at most 44.
    pub fn word(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes::<4>(at))
    }

    /// The big-endian number of two bytes at `at`, which is at most 46.
    pub fn half(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes::<2>(at))
    }

    /// `N` bytes at `at`; beyond the end they are zeros.
    pub fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    /// Sets the number of four bytes at `at`.
    pub fn with_word(self, at: usize, value: u32) -> Self {
        self.with_bytes(at, &value.to_be_bytes())
    }

    /// Sets one byte.
    pub fn with_byte(self, at: usize, value: u8) -> Self {
        self.with_bytes(at, &[value])
    }

    /// Sets bytes from `at` on; what would lie beyond the end is left out.
    pub fn with_bytes(mut self, at: usize, value: &[u8]) -> Self {
        if let Some(place) = self.0.get_mut(at..at + value.len()) {
            place.copy_from_slice(value);
        }
        self
    }
}

/// A PDU that came in. Its digests were checked and are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pdu {
    /// The header.
    pub bhs: Bhs,
    /// Additional header segments.
    pub ahs: Bytes,
    /// The data segment without its padding.
    pub data: Bytes,
}

/// What a SCSI Command asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// The task's name.
    pub tag: u32,
    /// To which logical unit.
    pub lun: [u8; 8],
    /// No unsolicited Data-Out follows.
    pub is_final: bool,
    /// The initiator expects data.
    pub reads: bool,
    /// The initiator has data.
    pub writes: bool,
    /// Task attribute (RFC 7143 section 11.3.1): 0 untagged, 1 simple, 2 ordered, 3 head of queue, 4 ACA.
    pub attribute: u8,
    /// How many bytes the initiator expects to move.
    pub expected_bytes: u32,
    /// The command descriptor block, 16 bytes or more.
    pub cdb: Bytes,
}

impl Command {
    /// Reads a command's header; `None` where its additional headers are impossible.
    pub fn decode(pdu: &Pdu) -> Option<Command> {
        let flags = pdu.bhs.0[1];
        let mut cdb = BytesMut::with_capacity(16);
        cdb.put_slice(&pdu.bhs.bytes::<16>(32));
        let mut ahs = &pdu.ahs[..];
        while let [high, low, kind, _, ..] = *ahs {
            // The length counts what is behind the type, one reserved byte included.
            let len = usize::from(u16::from_be_bytes([high, low]));
            let body = ahs.get(4..3 + len)?;
            if kind & 0x3f == 1 {
                cdb.put_slice(body);
            }
            ahs = ahs.get((3 + len).next_multiple_of(4)..)?;
        }
        (ahs.is_empty() && cdb.len() <= CDB_BYTES_MAX).then(|| Command {
            tag: pdu.bhs.task_tag(),
            lun: pdu.bhs.lun(),
            is_final: flags & 0x80 != 0,
            reads: flags & 0x40 != 0,
            writes: flags & 0x20 != 0,
            attribute: flags & 0x07,
            expected_bytes: pdu.bhs.word(20),
            cdb: cdb.freeze(),
        })
    }
}

/// A PDU that goes out. Sequence numbers are set when it is queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header, without the data segment's length.
    pub bhs: Bhs,
    /// The data segment, as slices.
    pub data: Vec<Bytes>,
}

impl Frame {
    /// A PDU without data.
    pub fn new(bhs: Bhs) -> Self {
        Frame { bhs, data: Vec::new() }
    }

    /// A PDU with data.
    pub fn with_data(bhs: Bhs, data: Bytes) -> Self {
        Frame { bhs, data: if data.is_empty() { Vec::new() } else { vec![data] } }
    }
}

/// Which digests a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digests {
    /// CRC32C behind each header.
    pub header: bool,
    /// CRC32C behind each data segment.
    pub data: bool,
}

/// Writes frames as slices that `writev` can take.
#[derive(Debug, Default)]
pub struct Encoder {
    headers: BytesMut,
}

impl Encoder {
    /// Appends a frame to `out`, and says how many bytes that are.
    pub fn encode(&mut self, frame: Frame, digests: Digests, out: &mut impl Extend<Bytes>) -> usize {
        let data_bytes: usize = frame.data.iter().map(Bytes::len).sum();
        let [_, high, mid, low] = (data_bytes as u32).to_be_bytes();
        let bhs = frame.bhs.with_bytes(5, &[high, mid, low]);
        self.headers.put_slice(&bhs.0);
        if digests.header {
            self.headers.put_u32_le(crc32c::crc32c(&bhs.0));
        }
        let header = self.headers.split().freeze();
        let mut len = header.len() + data_bytes;
        out.extend([header]);
        if data_bytes == 0 {
            return len;
        }
        let padding = &[0; 4][..padding_bytes(data_bytes)];
        self.headers.put_slice(padding);
        if digests.data {
            let crc = frame.data.iter().fold(0, |crc, piece| crc32c::crc32c_append(crc, piece));
            self.headers.put_u32_le(crc32c::crc32c_append(crc, padding));
        }
        out.extend(frame.data);
        if !self.headers.is_empty() {
            len += self.headers.len();
            out.extend([self.headers.split().freeze()]);
        }
        len
    }
}

/// Bytes that fill a data segment up to a multiple of four.
pub fn padding_bytes(data_bytes: usize) -> usize {
    data_bytes.wrapping_neg() % 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_that_of_the_rfc() {
        // RFC 7143 appendix A.4 and RFC 3720 appendix B.4: 32 bytes of zeros give aa 36 91 8a on the wire.
        assert_eq!(crc32c::crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c::crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let counting: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c::crc32c(&counting).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn frames_are_padded_and_digested() {
        let frame =
            Frame { bhs: Bhs::new(opcode::DATA_IN, 0x80), data: vec![b"abc".as_ref().into(), b"de".as_ref().into()] };
        let mut out = Vec::new();
        let len = Encoder::default().encode(frame.clone(), Digests { header: true, data: true }, &mut out);
        let flat = out.concat();
        assert_eq!((flat.len(), len), (48 + 4 + 8 + 4, 64));
        assert_eq!(flat[5..8], [0, 0, 5]);
        assert_eq!(flat[52..60], *b"abcde\0\0\0");
        assert_eq!(flat[60..], crc32c::crc32c(b"abcde\0\0\0").to_le_bytes());
        let mut out = Vec::new();
        assert_eq!(Encoder::default().encode(frame, Digests::default(), &mut out), 56);
    }

    #[test]
    fn commands_with_long_blocks_are_put_together() {
        let bhs = Bhs::new(opcode::COMMAND, 0xe1).with_word(16, 7).with_word(20, 512).with_bytes(32, &[9; 16]);
        let ahs = Bytes::from_static(&[0, 5, 1, 0, 1, 2, 3, 4, 0, 5, 2, 0, 0, 0, 2, 0]);
        let command = Command::decode(&Pdu { bhs, ahs, data: Bytes::new() }).unwrap();
        assert_eq!(command.cdb[16..], [1, 2, 3, 4]);
        assert!(command.reads && command.writes && command.is_final && command.attribute == 1);
        for bad in [&[0u8, 200, 1, 0][..], &[0, 5, 1, 0], &[1], &[0, 0, 1]] {
            assert_eq!(Command::decode(&Pdu { bhs, ahs: Bytes::from_static(bad), data: Bytes::new() }), None);
        }
    }
}
