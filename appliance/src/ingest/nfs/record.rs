//! Record marking (RFC 5531 section 11): where one call ends and the next begins in a stream of bytes.
//!
//! A record is a run of fragments, each behind a four-byte marker with its length and a flag that says whether it is the
//! last. Clients send one fragment a record; several are put together here, and an empty one that is not the last is
//! refused, so that nobody can send markers for ever.
//!
//! [`Assembler`] is a value: it is told which bytes came and says where the next are to be read into. A record of bulk data
//! is read from the socket into the very buffer that is handed on; only what arrived together with its marker is copied.
//!
//! A record takes at most one buffer, and [`Assembler::wanted`] says how long it will be before it is taken, so that memory
//! can be refused. Records over [`RECORD_BYTES_MAX`] are refused before anything is allocated.

use bytes::Bytes;

use super::wire::TRANSFER_BYTES_MAX;
use super::xdr::{LAST_FRAGMENT, MARKER_BYTES};

/// Longest record that is taken: the largest WRITE with the longest header and handle, and some room.
pub const RECORD_BYTES_MAX: usize = TRANSFER_BYTES_MAX as usize + 4096;
/// Most bytes that are read at once where nothing says that a large record comes.
const STAGE_BYTES: usize = 32 << 10;
/// Most bytes that are read at once behind a large record: another is likely, and what is read here is copied.
const STAGE_BYTES_BULK: usize = 256;
/// Records from this length on are read into a buffer of their own.
const BULK_BYTES: usize = 16 << 10;

/// What a stream cannot go on after.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A record over [`RECORD_BYTES_MAX`].
    #[error("a record of {0} bytes")]
    TooLong(u64),
    /// A fragment of no bytes that is not the last.
    #[error("an empty fragment")]
    EmptyFragment,
}

/// Where large records are read into: allocation is the caller's, so that buffers can be used again.
pub trait Buffers {
    /// A buffer that can be filled.
    type Buffer: AsMut<[u8]>;
    /// A buffer of at least `len` bytes. What is in it does not matter.
    fn take(&self, len: usize) -> Self::Buffer;
    /// The first `len` bytes of it, to be handed on.
    fn seal(&self, buffer: Self::Buffer, len: usize) -> Bytes;
}

/// A record that is being read into a buffer of its own.
struct Growing<B> {
    buffer: B,
    /// How much of it is filled.
    filled: usize,
    /// The end of the current fragment. Never beyond the buffer.
    fragment_end: usize,
    last: bool,
    /// The bytes of the next fragment's marker that have come.
    marker: Vec<u8>,
}

/// Puts the records of one connection together.
pub struct Assembler<P: Buffers> {
    buffers: P,
    stage: Vec<u8>,
    /// What of `stage` holds bytes that were read and not used: `from..to`.
    from: usize,
    to: usize,
    growing: Option<Growing<P::Buffer>>,
    bulk: bool,
}

impl<P: Buffers> Assembler<P> {
    /// At the start of a stream.
    pub fn new(buffers: P) -> Self {
        Assembler { buffers, stage: Vec::new(), from: 0, to: 0, growing: None, bulk: false }
    }

    /// Where the next bytes of the stream are to be read into. Never empty after [`Assembler::next_record`] said that
    /// bytes are missing.
    pub fn room(&mut self) -> &mut [u8] {
        if let Some(growing) = &mut self.growing
            && growing.filled < growing.fragment_end
        {
            return growing.buffer.as_mut().get_mut(growing.filled..growing.fragment_end).unwrap_or_default();
        }
        self.stage.copy_within(self.from..self.to, 0);
        (self.from, self.to) = (0, self.to - self.from);
        // A small record may lie whole in the stage behind the bytes that are there.
        let wanted = if self.bulk && self.to < MARKER_BYTES { STAGE_BYTES_BULK } else { STAGE_BYTES };
        self.stage.resize(STAGE_BYTES.max(self.to + 1), 0);
        let end = self.stage.len().min(self.to + wanted);
        &mut self.stage[self.to..end]
    }

    /// Says that `len` bytes were read into [`Assembler::room`].
    pub fn filled(&mut self, len: usize) {
        match &mut self.growing {
            Some(growing) if growing.filled < growing.fragment_end => {
                growing.filled = (growing.filled + len).min(growing.fragment_end);
            }
            _ => self.to = (self.to + len).min(self.stage.len()),
        }
    }

    /// How long a buffer is held for a record that is not whole yet: what staging holds is not counted.
    pub fn held_bytes(&mut self) -> usize {
        self.growing.as_mut().map_or(0, |growing| growing.buffer.as_mut().len())
    }

    /// True where bytes are here that no record was made of yet: another call may be complete already.
    pub fn has_staged(&self) -> bool {
        self.from < self.to
    }

    /// How long a buffer [`Assembler::next_record`] is about to take; `None` where it takes none.
    pub fn wanted(&self) -> Result<Option<usize>, Broken> {
        match (&self.growing, self.first_marker()?) {
            (None, Some(first)) => Ok(first.buffer_bytes()),
            _ => Ok(None),
        }
    }

    /// The marker at the front of what is staged, and what is behind it.
    fn first_marker(&self) -> Result<Option<First>, Broken> {
        let staged = self.stage.get(self.from..self.to).unwrap_or_default();
        let Some((marker, body)) = staged.split_first_chunk::<MARKER_BYTES>() else { return Ok(None) };
        let (len, last) = parse(*marker, 0)?;
        Ok(Some(First { len, last, here: body.len() }))
    }

    /// The next whole record, or `None` where bytes are missing.
    pub fn next_record(&mut self) -> Result<Option<Bytes>, Broken> {
        if self.growing.is_none() {
            let Some(first) = self.first_marker()? else { return Ok(None) };
            self.bulk = first.len >= BULK_BYTES;
            match first.buffer_bytes() {
                Some(len) => {
                    self.from += MARKER_BYTES;
                    let buffer = self.buffers.take(len);
                    let (fragment_end, last) = (first.len, first.last);
                    self.growing = Some(Growing { buffer, filled: 0, fragment_end, last, marker: Vec::new() });
                }
                None if first.here < first.len => return Ok(None),
                None => {
                    let begin = self.from + MARKER_BYTES;
                    let record = self.stage.get(begin..begin + first.len).map(Bytes::copy_from_slice);
                    self.from = begin + first.len;
                    return Ok(record);
                }
            }
        }
        self.grow()
    }

    /// Moves what is staged into the growing record, over as many fragments as there are.
    fn grow(&mut self) -> Result<Option<Bytes>, Broken> {
        let Some(growing) = &mut self.growing else { return Ok(None) };
        loop {
            let staged = self.stage.get(self.from..self.to).unwrap_or_default();
            let missing = growing.fragment_end - growing.filled;
            let here = staged.len().min(missing);
            growing.buffer.as_mut()[growing.filled..growing.filled + here].copy_from_slice(&staged[..here]);
            growing.filled += here;
            self.from += here;
            if here < missing {
                return Ok(None);
            }
            if growing.last {
                break;
            }
            let staged = self.stage.get(self.from..self.to).unwrap_or_default();
            let here = staged.len().min(MARKER_BYTES - growing.marker.len());
            growing.marker.extend_from_slice(&staged[..here]);
            self.from += here;
            let Ok(marker) = <[u8; MARKER_BYTES]>::try_from(&growing.marker[..]) else { return Ok(None) };
            growing.marker.clear();
            let (len, last) = parse(marker, growing.filled)?;
            (growing.fragment_end, growing.last) = (growing.filled + len, last);
        }
        let Some(mut whole) = self.growing.take() else { return Ok(None) };
        if whole.filled < whole.buffer.as_mut().len() / 4 * 3 {
            // A short record in many fragments must not pin a long buffer.
            return Ok(whole.buffer.as_mut().get(..whole.filled).map(Bytes::copy_from_slice));
        }
        Ok(Some(self.buffers.seal(whole.buffer, whole.filled)))
    }
}

/// The first fragment of a record.
struct First {
    len: usize,
    last: bool,
    /// How many of its bytes, or of what follows it, are staged.
    here: usize,
}

impl First {
    /// Short records are put together in staging and copied; others get a buffer, those of unknown length the longest.
    fn buffer_bytes(&self) -> Option<usize> {
        match (self.last, self.len >= BULK_BYTES) {
            (true, false) => None,
            (true, true) => Some(self.len),
            (false, _) => Some(RECORD_BYTES_MAX),
        }
    }
}

/// Reads a marker: the fragment's length and whether it is the last. `before` bytes of the record are here already.
fn parse(marker: [u8; MARKER_BYTES], before: usize) -> Result<(usize, bool), Broken> {
    let marker = u32::from_be_bytes(marker);
    let (len, last) = ((marker & !LAST_FRAGMENT) as usize, marker & LAST_FRAGMENT != 0);
    if before + len > RECORD_BYTES_MAX {
        return Err(Broken::TooLong((before + len) as u64));
    }
    if len == 0 && !last {
        return Err(Broken::EmptyFragment);
    }
    Ok((len, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Plain;
    impl Buffers for Plain {
        type Buffer = Vec<u8>;
        fn take(&self, len: usize) -> Vec<u8> {
            vec![0xee; len]
        }
        fn seal(&self, buffer: Vec<u8>, len: usize) -> Bytes {
            Bytes::from(buffer).slice(..len)
        }
    }

    /// Feeds a stream in steps of at most `step` bytes and collects the records.
    fn records(stream: &[u8], step: usize) -> Result<Vec<Bytes>, Broken> {
        let mut assembler = Assembler::new(Plain);
        let (mut rest, mut records) = (stream, Vec::new());
        loop {
            while let Some(record) = assembler.next_record()? {
                records.push(record);
            }
            if rest.is_empty() {
                return Ok(records);
            }
            let room = assembler.room();
            let len = room.len().min(step).min(rest.len());
            assert!(len > 0, "room is never empty");
            room[..len].copy_from_slice(&rest[..len]);
            assembler.filled(len);
            rest = &rest[len..];
        }
    }

    fn fragment(body: &[u8], last: bool) -> Vec<u8> {
        let marker = body.len() as u32 | if last { LAST_FRAGMENT } else { 0 };
        [&marker.to_be_bytes(), body].concat()
    }

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 7 + len) as u8).collect()
    }

    #[test]
    fn records_come_out_whole_however_the_stream_is_cut() {
        let lens = [0, 1, 40, BULK_BYTES - 1, BULK_BYTES, 100_000, RECORD_BYTES_MAX, 3, 20_000, 20_000, 8];
        let stream: Vec<u8> = lens.iter().flat_map(|len| fragment(&body(*len), true)).collect();
        for step in [1, 3, 1000, 4096, usize::MAX] {
            let records = records(&stream, step).unwrap();
            assert_eq!(records.len(), lens.len());
            for (record, len) in records.iter().zip(lens) {
                assert_eq!(record, &body(len), "{len} in steps of {step}");
            }
        }
    }

    #[test]
    fn fragments_are_put_together() {
        let whole = body(50_000);
        let cuts = [0, 1, 5, 4_000, 4_001, 30_000, 50_000];
        let mut stream: Vec<u8> =
            cuts.windows(2).flat_map(|cut| fragment(&whole[cut[0]..cut[1]], cut[1] == 50_000)).collect();
        stream.extend(fragment(b"next", true));
        stream.extend(fragment(b"ended by ", false));
        stream.extend(fragment(b"", true));
        for step in [1, 2, 7, usize::MAX] {
            let records = records(&stream, step).unwrap();
            assert_eq!(
                records,
                [Bytes::from(whole.clone()), Bytes::from_static(b"next"), Bytes::from_static(b"ended by ")]
            );
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_allocated() {
        let huge = [0xff, 0xff, 0xff, 0xff];
        assert_eq!(records(&huge, 4), Err(Broken::TooLong(0x7fff_ffff)));
        let one_over = (RECORD_BYTES_MAX as u32 + 1) | LAST_FRAGMENT;
        assert_eq!(records(&one_over.to_be_bytes(), 4), Err(Broken::TooLong(RECORD_BYTES_MAX as u64 + 1)));
        let mut assembler = Assembler::new(Plain);
        assembler.room()[..4].copy_from_slice(&one_over.to_be_bytes());
        assembler.filled(4);
        assert_eq!(assembler.wanted(), Err(Broken::TooLong(RECORD_BYTES_MAX as u64 + 1)));
        let mut stream = fragment(&body(RECORD_BYTES_MAX), false);
        stream.extend(fragment(b"x", true));
        assert_eq!(records(&stream, usize::MAX), Err(Broken::TooLong(RECORD_BYTES_MAX as u64 + 1)));
        assert_eq!(records(&fragment(b"", false), 4), Err(Broken::EmptyFragment));
    }

    #[test]
    fn buffers_are_announced_before_they_are_taken() {
        let announced = |stream: &[u8]| {
            let mut assembler = Assembler::new(Plain);
            assembler.room()[..stream.len()].copy_from_slice(stream);
            assembler.filled(stream.len());
            let wanted = assembler.wanted().unwrap();
            assert!(assembler.next_record().unwrap().is_none() || wanted.is_none());
            assert_eq!(assembler.held_bytes(), wanted.unwrap_or(0), "what is taken is what was announced");
            assert_eq!(assembler.wanted(), Ok(None), "and nothing more after that");
            wanted
        };
        assert_eq!(announced(&[0x80]), None);
        assert_eq!(announced(&fragment(&body(100), true)), None);
        assert_eq!(announced(&fragment(&body(BULK_BYTES - 1), true)[..9]), None);
        assert_eq!(announced(&fragment(&body(BULK_BYTES), true)[..9]), Some(BULK_BYTES));
        assert_eq!(announced(&fragment(&body(RECORD_BYTES_MAX), true)[..4]), Some(RECORD_BYTES_MAX));
        assert_eq!(announced(&fragment(b"x", false)), Some(RECORD_BYTES_MAX), "how much follows is not known");
    }

    #[test]
    fn tiny_fragments_cost_their_length() {
        let stream: Vec<u8> = (0..400_000).flat_map(|at| fragment(&[at as u8], at == 399_999)).collect();
        assert_eq!(records(&stream, usize::MAX).unwrap()[0].len(), 400_000);
    }
}
