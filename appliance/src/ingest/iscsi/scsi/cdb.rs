//! Fields of a command descriptor block: big-endian numbers at fixed places.

/// A command descriptor block. Bytes beyond its end read as zeros.
#[derive(Clone, Copy, Debug)]
pub struct Cdb<'a>(pub &'a [u8]);

impl Cdb<'_> {
    /// The operation code.
    pub fn opcode(&self) -> u8 {
        self.u8(0)
    }

    /// A byte.
    pub fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    /// True where one of `mask`'s bits is set in a byte.
    pub fn flag(&self, at: usize, mask: u8) -> bool {
        self.u8(at) & mask != 0
    }

    /// Two bytes.
    pub fn u16(&self, at: usize) -> u16 {
        u16::from_be_bytes(self.bytes(at))
    }

    /// Three bytes.
    pub fn u24(&self, at: usize) -> u32 {
        self.u32(at) >> 8
    }

    /// Four bytes.
    pub fn u32(&self, at: usize) -> u32 {
        u32::from_be_bytes(self.bytes(at))
    }

    /// Eight bytes.
    pub fn u64(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes(at))
    }

    /// The group of operation codes that READ, WRITE and their kin of one length share (bits 5 to 7).
    pub fn group(&self) -> u8 {
        self.opcode() >> 5
    }

    fn bytes<const N: usize>(&self, at: usize) -> [u8; N] {
        std::array::from_fn(|offset| self.u8(at + offset))
    }
}

/// A parameter list or a page that is being written.
pub(super) fn put16(page: &mut [u8], at: usize, value: u16) {
    put(page, at, &value.to_be_bytes());
}

/// Four bytes at `at`.
pub(super) fn put32(page: &mut [u8], at: usize, value: u32) {
    put(page, at, &value.to_be_bytes());
}

/// Eight bytes at `at`.
pub(super) fn put64(page: &mut [u8], at: usize, value: u64) {
    put(page, at, &value.to_be_bytes());
}

/// Bytes at `at`; pages are made long enough for theirs.
pub(super) fn put(page: &mut [u8], at: usize, value: &[u8]) {
    page[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_end_is_zero() {
        let cdb = Cdb(&[0x28, 1, 2, 3]);
        assert_eq!(
            (cdb.u16(1), cdb.u24(1), cdb.u32(1), cdb.u64(0)),
            (0x0102, 0x01_0203, 0x0102_0300, 0x2801_0203_0000_0000)
        );
        assert_eq!((cdb.u8(99), cdb.group(), cdb.flag(3, 2)), (0, 1, true));
    }
}
