//! Reading containers: one slot, a whole directory, and those that were never sealed.

use std::io;
use std::ops::Range;

use crate::chunk::Sketch;
use crate::container::format::{FOOTER_BYTES, Footer, HEADER_BYTES, Header, SLOT_BYTES, SLOT_MAGIC, Slot};
use crate::container::{codec, format};
use crate::error::{Damage, Result, io_error};
use crate::id::ContainerId;
use crate::media::MediaFile;
use crate::name::{Kind, Name};

/// What a disk can fail to read alone, in bytes.
const SECTOR_BYTES: u64 = 4096;
/// Where more sectors can't be read, nobody goes on: each of them may take a disk seconds.
const BAD_SECTORS_MAX: usize = 64;

/// Reads exactly `len` bytes. A file that ends before is damage at that place.
fn read_exact(file: &dyn MediaFile, path: &str, offset: u64, len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let got = file.read_at(&mut bytes, offset).map_err(|error| io_error("read", path, error))?;
    if got < len {
        return Err(Damage::new(path, offset, format!("{len} bytes"), format!("the file's end after {got}")).into());
    }
    Ok(bytes)
}

/// Reads a container's header.
pub fn read_header(file: &dyn MediaFile, path: &str) -> Result<Header> {
    Header::decode(path, &read_exact(file, path, 0, HEADER_BYTES)?)
}

/// What a sealed container says about itself.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The end of the file.
    pub footer: Footer,
    /// Every object, in the order in which they lie.
    pub slots: Vec<Slot>,
}

/// Reads footer and directory of a sealed container. Damage where it was never sealed.
pub fn read_directory(file: &dyn MediaFile, path: &str, id: ContainerId) -> Result<Directory> {
    let len = file.len().map_err(|error| io_error("measure", path, error))?;
    let Some(footer_offset) = len.checked_sub(FOOTER_BYTES as u64).filter(|at| *at >= HEADER_BYTES as u64) else {
        return Err(Damage::new(path, 0, "a sealed container", format!("{len} bytes")).into());
    };
    let footer = Footer::decode(path, footer_offset, &read_exact(file, path, footer_offset, FOOTER_BYTES)?)?;
    if footer.id != id {
        return Err(Damage::new(path, footer_offset, format!("container {id}"), format!("{}", footer.id)).into());
    }
    // Believable: the footer lies behind it in the file, so there are that many bytes.
    let directory_bytes = (footer_offset - footer.directory_offset) as usize;
    let directory = read_exact(file, path, footer.directory_offset, directory_bytes)?;
    let slots = format::decode_directory(path, &directory, &footer)?;
    Ok(Directory { footer, slots })
}

/// Reads the sketches of a sealed container, in the order of its slots; nothing where it has none.
pub fn read_sketches(file: &dyn MediaFile, path: &str, footer: &Footer) -> Result<Vec<Sketch>> {
    // Believable, as the directory's length is.
    let bytes = read_exact(file, path, footer.slots_end(), footer.sketch_bytes as usize)?;
    Ok(format::decode_sketches(path, &bytes, footer)?)
}

/// Reads the slot at `offset` with its payload in one read, and checks both checksums. The caller knows the stored
/// length from the index or a directory.
pub fn read_slot(file: &dyn MediaFile, path: &str, offset: u32, stored_len: u32) -> Result<(Slot, Vec<u8>)> {
    let mut bytes = read_exact(file, path, offset.into(), SLOT_BYTES + stored_len as usize)?;
    let slot = check_slot(path, offset, stored_len, &bytes)?;
    bytes.drain(..SLOT_BYTES);
    Ok((slot, bytes))
}

/// Checks the bytes of one slot with its payload.
pub fn check_slot(path: &str, offset: u32, stored_len: u32, bytes: &[u8]) -> Result<Slot> {
    let (slot, checksum) = Slot::decode(path, offset, bytes)?;
    if slot.stored_len != stored_len || bytes.len() != SLOT_BYTES + stored_len as usize {
        let expected = format!("a payload of {stored_len} bytes");
        return Err(Damage::new(path, offset.into(), expected, slot.stored_len).into());
    }
    let found = crc32c::crc32c(&bytes[SLOT_BYTES..]);
    if found != checksum {
        let expected = format!("payload with checksum {checksum:08x}");
        return Err(Damage::new(path, offset.into(), expected, format!("{found:08x}")).into());
    }
    Ok(slot)
}

/// What was found in a container without a sound end.
#[derive(Debug, Default)]
pub struct Scan {
    /// Sound slots, in order, each verified against its name.
    pub slots: Vec<Slot>,
    /// The sketch of each, computed anew.
    pub sketches: Vec<Sketch>,
    /// Where the last of them ends.
    pub end: u64,
    /// Bytes before `end` that belong to no sound slot.
    pub gap_bytes: u64,
    /// What could not be looked at: there may be sound slots, too.
    pub unread: Unread,
}

/// What of a file could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// How many sectors.
    pub sectors: usize,
    /// Where the last of them ends.
    pub until: u64,
}

impl Unread {
    /// True where there were so many that the rest of the file was not tried.
    pub fn gave_up(&self) -> bool {
        self.sectors > BAD_SECTORS_MAX
    }

    fn upto(&mut self, until: u64) {
        self.until = self.until.max(until);
    }
}

/// Finds the sound slots of a container slot by slot. `name_of` is the realm's naming: only what hashes to its name
/// counts. Uses memory for one object at a time. What can't be read is passed over, and told.
pub fn scan(file: &dyn MediaFile, path: &str, name_of: &dyn Fn(Kind, &[u8]) -> Name) -> Result<Scan> {
    let len = file.len().map_err(|error| io_error("measure", path, error))?;
    let mut scan = Scan { end: HEADER_BYTES as u64, ..Scan::default() };
    let mut at = HEADER_BYTES as u64;
    while let Some(offset) = u32::try_from(at).ok().filter(|_| at + SLOT_BYTES as u64 <= len) {
        match sound_slot(file, path, offset, len, name_of, &mut scan.unread) {
            Some((slot, sketch)) => {
                scan.gap_bytes += at - scan.end;
                at = slot.end();
                scan.end = at;
                scan.slots.push(slot);
                scan.sketches.push(sketch);
            }
            None => match next_magic(file, at + 1, len, &mut scan.unread)? {
                Some(next) => at = next,
                None => break,
            },
        }
    }
    Ok(scan)
}

/// The slot at `offset`, where one stands there that is sound in every respect.
fn sound_slot(
    file: &dyn MediaFile,
    path: &str,
    offset: u32,
    len: u64,
    name_of: &dyn Fn(Kind, &[u8]) -> Name,
    unread: &mut Unread,
) -> Option<(Slot, Sketch)> {
    // Which of its sectors can't be read is found out by whoever looks for the next slot.
    let mut bytes_at =
        |at: u64, len: usize| read_exact(file, path, at, len).inspect_err(|_| unread.upto(at + len as u64)).ok();
    let header = bytes_at(offset.into(), SLOT_BYTES)?;
    let Ok((slot, checksum)) = Slot::decode(path, offset, &header) else { return None };
    if slot.end() > len {
        return None;
    }
    let payload = bytes_at(u64::from(offset) + SLOT_BYTES as u64, slot.stored_len as usize)?;
    if crc32c::crc32c(&payload) != checksum {
        return None;
    }
    let content = codec::decompress(slot.codec, slot.raw_len as usize, &payload);
    let content = content.ok().filter(|content| name_of(slot.kind, content) == slot.name);
    content.map(|content| (slot, Sketch::of_object(slot.kind, &content)))
}

/// Where the next bytes stand that a slot could begin with.
fn next_magic(file: &dyn MediaFile, from: u64, len: u64, unread: &mut Unread) -> Result<Option<u64>> {
    let (mut found, overlap) = (None, SLOT_MAGIC.len() as u64 - 1);
    let len = len.saturating_sub(SLOT_BYTES as u64 - overlap - 1);
    each_readable(file, from..len, 64 << 10, unread, &mut |at, bytes| {
        let place = bytes.windows(SLOT_MAGIC.len()).position(|bytes| bytes == SLOT_MAGIC);
        found = place.map(|place| at + place as u64);
        // What begins in one piece may end in the next one.
        let end = at + bytes.len() as u64;
        Ok(found.is_none().then(|| (end - overlap.min(end)).max(at + 1)))
    })?;
    Ok(found)
}

/// Is told where some bytes of a file stand, and says where to go on, if at all.
type Visit<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<Option<u64>>;

/// Hands out the bytes of a range of a file, in pieces of up to `window` bytes. Sectors that can't be read are left out and told; where
/// they are too many, the rest is ([`Unread::gave_up`]).
pub fn each_readable(
    file: &dyn MediaFile,
    range: Range<u64>,
    window: usize,
    unread: &mut Unread,
    visit: Visit<'_>,
) -> Result<()> {
    let mut buffer = vec![0; window];
    // Up to here it goes sector by sector, for one of them can't be read.
    let (mut at, mut bad_until) = (range.start, range.start);
    while at < range.end && !unread.gave_up() {
        // Little before the end of a sector is no use alone.
        let sector = SECTOR_BYTES - at % SECTOR_BYTES;
        let sector = if sector < SLOT_BYTES as u64 { sector + SECTOR_BYTES } else { sector };
        let most = if at < bad_until { sector } else { window as u64 };
        match file.read_at(&mut buffer[..most.min(range.end - at) as usize], at) {
            Ok(0) => return Ok(()),
            Ok(got) => match visit(at, &buffer[..got])? {
                Some(next) => at = next,
                None => return Ok(()),
            },
            Err(_) if at >= bad_until => bad_until = at + window as u64,
            Err(_) => {
                at += sector;
                unread.sectors += 1;
                unread.upto(at);
            }
        }
    }
    Ok(())
}

/// Writes sketches, directory and footer behind the last slot, and cuts what is behind them. `sketches` are one for each
/// slot, or none. Sealed for good once the file is synced. Repeatable: after a failure the container is as it was, and
/// slots may follow.
pub fn seal_at(
    file: &dyn MediaFile,
    path: &str,
    id: ContainerId,
    slots: &[Slot],
    sketches: &[Sketch],
    end: u64,
) -> Result<Footer> {
    assert!(sketches.is_empty() || sketches.len() == slots.len(), "one sketch for each slot");
    let (sketches, directory) = (format::encode_sketches(sketches), format::encode_directory(slots));
    let footer = footer_of(id, slots, end, &sketches, &directory);
    let bytes = footer.encode();
    let parts = [&sketches[..], &directory, &bytes].map(io::IoSlice::new);
    file.write_at(&parts, end)
        .and_then(|()| file.set_len(footer.file_bytes()))
        .map_err(|error| io_error("write", path, error))?;
    Ok(footer)
}

fn footer_of(id: ContainerId, slots: &[Slot], end: u64, sketches: &[u8], directory: &[u8]) -> Footer {
    Footer {
        id,
        directory_offset: end + sketches.len() as u64,
        slots: slots.len() as u32,
        directory_checksum: crc32c::crc32c(directory),
        raw_bytes: slots.iter().map(|slot| u64::from(slot.raw_len)).sum(),
        stored_bytes: slots.iter().map(|slot| u64::from(slot.stored_len)).sum(),
        sketch_bytes: sketches.len() as u32,
        sketch_checksum: crc32c::crc32c(sketches),
    }
}
