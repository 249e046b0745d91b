//! LZ4 blocks where they pay, raw bytes where they do not, zstd frames for what is old, and back within bounds.
//!
//! *Pays* means: saves at least a sixteenth. After several contents of a stream that did not pay, only a sample is
//! tried ([`Patience`]), so that data that is compressed or encrypted already costs next to nothing.

use std::cell::RefCell;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use zstd::bulk::Decompressor;

/// How a payload is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// One LZ4 block without a length in front.
    Lz4 = 1,
    /// One zstd frame (RFC 8878), in dense containers alone. It never goes over the wire.
    Zstd = 2,
}

impl Codec {
    /// Reads the number that stands for a codec on the wire and in histories.
    pub fn from_u8(number: u8) -> Option<Codec> {
        [Codec::Raw, Codec::Lz4].into_iter().find(|codec| *codec as u8 == number)
    }

    /// Reads the number that stands for a codec in a container.
    pub fn in_container(number: u8) -> Option<Codec> {
        Codec::from_u8(number).or((number == Codec::Zstd as u8).then_some(Codec::Zstd))
    }
}

/// Contents shorter than this are never compressed: nothing can be saved that a slot's header does not dwarf.
const COMPRESS_BYTES_MIN: usize = 64;
/// So many contents in a row that did not pay make a stream count as incompressible.
const MISSES_MAX: u32 = 8;
/// Of an incompressible stream, one content in this many is tried.
const SAMPLE: u32 = 8;
/// Of zstd's levels: beyond it, chunks of 16 KiB hardly become smaller.
const DENSE_LEVEL: i32 = 12;

/// Remembers how compressible a stream was lately. Shared by threads; being slightly wrong costs only bytes or time.
#[derive(Debug, Default)]
pub struct Patience {
    misses: AtomicU32,
}

impl Patience {
    fn worth_trying(&self) -> bool {
        let misses = self.misses.load(Ordering::Relaxed);
        misses < MISSES_MAX || {
            self.misses.store(misses.wrapping_add(1).max(MISSES_MAX), Ordering::Relaxed);
            misses.is_multiple_of(SAMPLE)
        }
    }
    fn learn(&self, paid: bool) {
        if paid {
            self.misses.store(0, Ordering::Relaxed);
        } else if self.misses.load(Ordering::Relaxed) < MISSES_MAX {
            self.misses.fetch_add(1, Ordering::Relaxed);
        }
    }
}

thread_local! {
    /// The hash tables of LZ4, for contents below 64 KiB and above: clearing one is cheaper than making one.
    static TABLES: RefCell<(CompressTable, CompressTable)> =
        RefCell::new((CompressTable::small(), CompressTable::large()));
    /// What zstd needs to unpack, which takes longer to make than a chunk to unpack.
    static FRAMES: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Appends the stored form of `content` to `out` and says which form that is.
pub fn compress(content: &[u8], out: &mut Vec<u8>, patience: &Patience) -> Codec {
    if content.len() >= COMPRESS_BYTES_MIN && patience.worth_trying() {
        let start = out.len();
        out.resize(start + get_maximum_output_size(content.len()), 0);
        let len = TABLES.with_borrow_mut(|(small, large)| {
            let table = if content.len() < usize::from(u16::MAX) { small } else { large };
            compress_into_with_table(content, &mut out[start..], table).unwrap_or(usize::MAX)
        });
        let paid = len <= content.len() - content.len() / 16;
        patience.learn(paid);
        if paid && len < content.len() {
            out.truncate(start + len);
            return Codec::Lz4;
        }
        out.truncate(start);
    }
    out.extend_from_slice(content);
    Codec::Raw
}

/// A codec's form of `content` that takes time to make and less room; `None` where it is not smaller than `than` bytes.
pub fn compress_densely(content: &[u8], than: usize) -> Option<Vec<u8>> {
    let frame = zstd::bulk::compress(content, DENSE_LEVEL).ok().filter(|frame| frame.len() < than)?;
    // It takes the place of a form that was read many times; this one was never.
    (decompress(Codec::Zstd, content.len(), &frame).as_deref() == Ok(content)).then_some(frame)
}

/// The content behind a stored form. `Err` says what is wrong with it; never returns other than `raw_len` bytes, and
/// never needs more memory than that.
pub fn decompress(codec: Codec, raw_len: usize, stored: &[u8]) -> Result<Vec<u8>, String> {
    if codec == Codec::Raw {
        return as_it_is(raw_len, stored).map(<[u8]>::to_vec);
    }
    let mut content = vec![0; raw_len];
    unpack(codec, stored, &mut content).map(|()| content)
}

/// The same without a copy or new memory: the form itself, or what it comes to in `room`, which grows as it has to.
pub fn decompress_in<'a>(
    codec: Codec,
    raw_len: usize,
    stored: &'a [u8],
    room: &'a mut Vec<u8>,
) -> Result<&'a [u8], String> {
    if codec == Codec::Raw {
        return as_it_is(raw_len, stored);
    }
    if room.len() < raw_len {
        room.resize(raw_len, 0);
    }
    let content = &mut room[..raw_len];
    unpack(codec, stored, content).map(|()| &*content)
}

fn as_it_is(raw_len: usize, stored: &[u8]) -> Result<&[u8], String> {
    match stored.len() == raw_len {
        true => Ok(stored),
        false => Err(format!("{} raw bytes instead of {raw_len}", stored.len())),
    }
}

/// Fills `content`, whose length is that of what was compressed, and no byte less.
fn unpack(codec: Codec, stored: &[u8], content: &mut [u8]) -> Result<(), String> {
    let (what, len) = match codec {
        Codec::Raw => ("raw bytes", Err("nothing to unpack".to_owned())),
        Codec::Lz4 => ("LZ4 block", decompress_into(stored, content).map_err(|error| error.to_string())),
        Codec::Zstd => ("zstd frame", unpack_frame(stored, content).map_err(|error| error.to_string())),
    };
    match len {
        Ok(len) if len == content.len() => Ok(()),
        Ok(len) => Err(format!("{what} of {len} bytes instead of {}", content.len())),
        Err(error) => Err(format!("no {what} of {} bytes ({error})", content.len())),
    }
}

fn unpack_frame(stored: &[u8], content: &mut [u8]) -> io::Result<usize> {
    FRAMES.with_borrow_mut(|frames| {
        let frames = match frames {
            Some(frames) => frames,
            none => none.insert(Decompressor::new()?),
        };
        frames.decompress_to_buffer(stored, content)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        blake3::Hasher::new().finalize_xof().fill_vec(len)
    }
    trait FillVec {
        fn fill_vec(self, len: usize) -> Vec<u8>;
    }
    impl FillVec for blake3::OutputReader {
        fn fill_vec(mut self, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            self.fill(&mut bytes);
            bytes
        }
    }

    #[test]
    fn what_goes_in_comes_out() {
        let (patience, mut room) = (Patience::default(), vec![9; 100]);
        for len in [0, 1, 63, 64, 4096, 65_534, 65_535, 65_536, 1 << 20] {
            for content in [vec![7; len], noise(len)] {
                let mut out = vec![9; 3];
                let codec = compress(&content, &mut out, &patience);
                assert_eq!(&out[..3], [9; 3]);
                assert!(out.len() - 3 <= len);
                assert_eq!(decompress(codec, len, &out[3..]).as_ref(), Ok(&content));
                assert_eq!(decompress_in(codec, len, &out[3..], &mut room), Ok(&content[..]));
                assert!(decompress_in(codec, len + 1, &out[3..], &mut room).is_err());
            }
        }
    }

    #[test]
    fn noise_stays_raw_and_is_soon_only_sampled() {
        let patience = Patience::default();
        let content = noise(4096);
        for _ in 0..100 {
            assert_eq!(compress(&content, &mut Vec::new(), &patience), Codec::Raw);
        }
        let tried = (0..80).filter(|_| patience.worth_trying()).count();
        assert_eq!(tried, 10);
        let compressible = vec![1; 4096];
        let codecs: Vec<_> = (0..9).map(|_| compress(&compressible, &mut Vec::new(), &patience)).collect();
        assert_eq!(codecs[8], Codec::Lz4, "a stream that becomes compressible is noticed");
    }

    #[test]
    fn forged_blocks_are_refused_within_bounds() {
        let mut block = Vec::new();
        assert_eq!(compress(&[5; 100_000], &mut block, &Patience::default()), Codec::Lz4);
        assert!(decompress(Codec::Lz4, 99_999, &block).is_err());
        assert!(decompress(Codec::Lz4, 100_001, &block).is_err());
        assert!(decompress(Codec::Raw, 3, &[1, 2]).is_err());
        let frame = compress_densely(&[5; 100_000], 1000).unwrap();
        assert_eq!(decompress(Codec::Zstd, 100_000, &frame).unwrap(), [5; 100_000]);
        let mut room = Vec::new();
        assert_eq!(decompress_in(Codec::Zstd, 100_000, &frame, &mut room), Ok(&[5; 100_000][..]));
        assert!(decompress_in(Codec::Zstd, 100_001, &frame, &mut room).is_err());
        assert!(decompress(Codec::Zstd, 99_999, &frame).is_err() && decompress(Codec::Zstd, 100_001, &frame).is_err());
        assert!(compress_densely(&noise(4096), 4096).is_none());
        for seed in 0u64..2000 {
            let mut garbage = vec![0; (seed % 97) as usize];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut garbage);
            let _ = decompress(Codec::Lz4, 4096, &garbage);
            let _ = decompress(Codec::Zstd, 4096, &garbage);
            let mut bent_frame = frame.clone();
            bent_frame[seed as usize % frame.len()] ^= 1 << (seed % 8);
            let _ = decompress(Codec::Zstd, 100_000, &bent_frame);
            let mut bent = block.clone();
            let at = (seed as usize * 31) % bent.len();
            bent[at] ^= 1 << (seed % 8);
            let _ = decompress(Codec::Lz4, 100_000, &bent);
        }
    }
}
