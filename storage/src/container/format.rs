//! The bytes of a container, as `docs/formats/container.md` has them. Pure functions from values to bytes and back.
//!
//! Decoders believe nothing: every length is checked, and what does not fit is [`Damage`] with its place.

use crate::chunk::{SKETCH_BYTES, Sketch};
use crate::container::Class;
use crate::container::codec::Codec;
use crate::error::{Damage, Refusal, Result};
use crate::id::{ContainerId, StoreId};
use crate::name::{Kind, Name};

/// Length of a container's header.
pub const HEADER_BYTES: usize = 96;
/// Length of a slot's header, before its payload.
pub const SLOT_BYTES: usize = 80;
/// Length of one entry of the directory.
pub const ENTRY_BYTES: usize = 52;
/// Length of the footer.
pub const FOOTER_BYTES: usize = 64;
/// Longest object, before compression.
pub const OBJECT_BYTES_MAX: usize = 4 << 20;
/// How every slot begins.
pub const SLOT_MAGIC: [u8; 4] = *b"slot";

const HEADER_MAGIC: [u8; 8] = *b"narrowCO";
const FOOTER_MAGIC: [u8; 8] = *b"narrowCE";
const VERSION: u16 = 1;
/// Of the features that everyone must know: some slots are compressed with zstd.
const DENSE: u64 = 1;

/// Copies `N` bytes at `at`; the caller has checked the length.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}
fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

/// Writes the checksum of everything before it into the last four bytes.
fn finish_checksum(bytes: &mut [u8]) {
    let body = bytes.len() - 4;
    let sum = crc32c::crc32c(&bytes[..body]);
    bytes[body..].copy_from_slice(&sum.to_le_bytes());
}

/// Checks length, magic and the checksum in the last four bytes.
fn check_unit(file: &str, offset: u64, what: &str, bytes: &[u8], len: usize, magic: &[u8]) -> Result<(), Damage> {
    if bytes.len() < len {
        return Err(Damage::new(file, offset, format!("{what} of {len} bytes"), format!("{} bytes", bytes.len())));
    }
    if &bytes[..magic.len()] != magic {
        let found = format!("{:02x?}", &bytes[..magic.len()]);
        return Err(Damage::new(file, offset, format!("{what} beginning with {magic:02x?}"), found));
    }
    let (expected, found) = (u32_at(bytes, len - 4), crc32c::crc32c(&bytes[..len - 4]));
    if expected != found {
        return Err(Damage::new(file, offset, format!("{what} with checksum {expected:08x}"), format!("{found:08x}")));
    }
    Ok(())
}

/// Says whose container a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which container.
    pub id: ContainerId,
    /// What it holds.
    pub class: Class,
    /// The store it belongs to.
    pub store: StoreId,
    /// Identifier of the realm that its names are keyed in.
    pub realm: [u8; 16],
    /// It may have slots that are compressed with zstd.
    pub dense: bool,
}

impl Header {
    /// The bytes of this header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.class as u8;
        bytes[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
        bytes[32..40].copy_from_slice(&(if self.dense { DENSE } else { 0 }).to_le_bytes());
        bytes[40..56].copy_from_slice(&self.store.0);
        bytes[56..72].copy_from_slice(&self.realm);
        bytes[72..80].copy_from_slice(&self.id.0.to_le_bytes());
        finish_checksum(&mut bytes);
        bytes
    }

    /// Reads a header. Damage where it is not one; refused where a newer version wrote it or it uses a feature that
    /// everyone must know.
    pub fn decode(file: &str, bytes: &[u8]) -> Result<Header> {
        check_unit(file, 0, "container header", bytes, HEADER_BYTES, &HEADER_MAGIC)?;
        let version = u16::from_le_bytes(array(bytes, 8));
        if version > VERSION {
            return Err(
                Refusal::Unsupported(format!("{file} has format {version}; this version reads {VERSION}")).into()
            );
        }
        let refuse = u64_at(bytes, 32);
        if refuse & !DENSE != 0 {
            return Err(Refusal::Unsupported(format!("{file} needs unknown features {:#x}", refuse & !DENSE)).into());
        }
        let class = Class::from_u8(bytes[10]).ok_or_else(|| Damage::new(file, 10, "a class of 1 or 2", bytes[10]))?;
        Ok(Header {
            id: ContainerId(u64_at(bytes, 72)),
            class,
            store: StoreId(array(bytes, 40)),
            realm: array(bytes, 56),
            dense: refuse & DENSE != 0,
        })
    }
}

/// One object in a container: what its slot and the directory both say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub name: Name,
    /// Where its slot header begins in the file.
    pub offset: u32,
    /// Length of the payload as it lies.
    pub stored_len: u32,
    /// Length of the object.
    pub raw_len: u32,
    /// Which key it is encrypted with; 0 for none.
    pub key_id: u32,
    /// What it is.
    pub kind: Kind,
    /// How the payload is compressed.
    pub codec: Codec,
}

impl Slot {
    /// Length of slot header and payload together.
    pub fn total_bytes(&self) -> u64 {
        SLOT_BYTES as u64 + u64::from(self.stored_len)
    }
    /// Where the next slot would begin.
    pub fn end(&self) -> u64 {
        u64::from(self.offset) + self.total_bytes()
    }

    /// The bytes before the payload.
    pub fn encode(&self, payload: &[u8]) -> [u8; SLOT_BYTES] {
        let mut bytes = [0; SLOT_BYTES];
        bytes[0..4].copy_from_slice(&SLOT_MAGIC);
        bytes[4] = self.kind as u8;
        bytes[5] = self.codec as u8;
        bytes[8..12].copy_from_slice(&self.raw_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.stored_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.key_id.to_le_bytes());
        bytes[36..68].copy_from_slice(&self.name.0);
        bytes[68..72].copy_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        finish_checksum(&mut bytes);
        bytes
    }

    /// Reads a slot header that stands at `offset`, and the checksum of its payload.
    pub fn decode(file: &str, offset: u32, bytes: &[u8]) -> Result<(Slot, u32), Damage> {
        check_unit(file, offset.into(), "slot", bytes, SLOT_BYTES, &SLOT_MAGIC)?;
        let (kind, codec) = kind_and_codec(file, offset, bytes[4], bytes[5])?;
        let slot = Slot {
            name: Name(array(bytes, 36)),
            offset,
            stored_len: u32_at(bytes, 12),
            raw_len: u32_at(bytes, 8),
            key_id: u32_at(bytes, 16),
            kind,
            codec,
        };
        slot.check_lengths(file)?;
        Ok((slot, u32_at(bytes, 68)))
    }

    fn check_lengths(&self, file: &str) -> Result<(), Damage> {
        let (raw, stored) = (self.raw_len as usize, self.stored_len as usize);
        let sound = raw <= OBJECT_BYTES_MAX && if self.codec == Codec::Raw { stored == raw } else { stored < raw };
        if !sound {
            let found = format!("{stored} bytes stored for {raw} as {:?}", self.codec);
            return Err(Damage::new(file, self.offset.into(), "a slot of possible lengths", found));
        }
        Ok(())
    }
}

fn kind_and_codec(file: &str, offset: u32, kind: u8, codec: u8) -> Result<(Kind, Codec), Damage> {
    let kind = Kind::from_u8(kind).ok_or_else(|| Damage::new(file, offset.into(), "a known kind", kind))?;
    let codec = Codec::in_container(codec).ok_or_else(|| Damage::new(file, offset.into(), "a known codec", codec))?;
    Ok((kind, codec))
}

/// The bytes of a directory.
pub fn encode_directory(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(slots.len() * ENTRY_BYTES);
    for slot in slots {
        bytes.extend_from_slice(&slot.name.0);
        bytes.extend_from_slice(&slot.offset.to_le_bytes());
        bytes.extend_from_slice(&slot.stored_len.to_le_bytes());
        bytes.extend_from_slice(&slot.raw_len.to_le_bytes());
        bytes.extend_from_slice(&[slot.kind as u8, slot.codec as u8, 0, 0]);
        bytes.extend_from_slice(&slot.key_id.to_le_bytes());
    }
    bytes
}

/// The bytes of sketches, one for each slot; nothing where no slot has one.
pub fn encode_sketches(sketches: &[Sketch]) -> Vec<u8> {
    if sketches.iter().all(Sketch::is_none) {
        return Vec::new();
    }
    sketches.iter().flat_map(Sketch::encode).collect()
}

/// Reads the sketches that a footer tells of, in the order of the slots; nothing where it tells of none.
pub fn decode_sketches(file: &str, bytes: &[u8], footer: &Footer) -> Result<Vec<Sketch>, Damage> {
    let (at, found) = (footer.slots_end(), crc32c::crc32c(bytes));
    if bytes.len() != footer.sketch_bytes as usize {
        return Err(Damage::new(file, at, format!("sketches of {} bytes", footer.sketch_bytes), bytes.len()));
    }
    if !bytes.is_empty() && found != footer.sketch_checksum {
        let expected = format!("sketches with checksum {:08x}", footer.sketch_checksum);
        return Err(Damage::new(file, at, expected, format!("{found:08x}")));
    }
    Ok(bytes.chunks_exact(SKETCH_BYTES).map(|bytes| Sketch::decode(&array(bytes, 0))).collect())
}

/// Reads a directory whose footer is `footer`. Slots must follow one another and end before the sketches.
pub fn decode_directory(file: &str, bytes: &[u8], footer: &Footer) -> Result<Vec<Slot>, Damage> {
    let at = footer.directory_offset;
    let expected_len = footer.slots as usize * ENTRY_BYTES;
    if bytes.len() != expected_len {
        return Err(Damage::new(file, at, format!("directory of {expected_len} bytes"), bytes.len()));
    }
    let found = crc32c::crc32c(bytes);
    if found != footer.directory_checksum {
        let expected = format!("directory with checksum {:08x}", footer.directory_checksum);
        return Err(Damage::new(file, at, expected, format!("{found:08x}")));
    }
    let mut slots = Vec::with_capacity(footer.slots as usize);
    let (mut end, slots_end) = (HEADER_BYTES as u64, footer.slots_end());
    for entry in bytes.chunks_exact(ENTRY_BYTES) {
        let offset = u32_at(entry, 32);
        let (kind, codec) = kind_and_codec(file, offset, entry[44], entry[45])?;
        let slot = Slot {
            name: Name(array(entry, 0)),
            offset,
            stored_len: u32_at(entry, 36),
            raw_len: u32_at(entry, 40),
            key_id: u32_at(entry, 48),
            kind,
            codec,
        };
        slot.check_lengths(file)?;
        if u64::from(offset) < end || slot.end() > slots_end {
            return Err(Damage::new(file, at, format!("slots in order between {end} and {slots_end}"), offset));
        }
        end = slot.end();
        slots.push(slot);
    }
    Ok(slots)
}

/// The end of a sealed container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// Which container.
    pub id: ContainerId,
    /// Where the directory begins; it ends where the footer begins.
    pub directory_offset: u64,
    /// How many slots there are.
    pub slots: u32,
    /// CRC32C of the directory.
    pub directory_checksum: u32,
    /// Sum of the objects' lengths.
    pub raw_bytes: u64,
    /// Sum of the payloads' lengths.
    pub stored_bytes: u64,
    /// Length of the sketches, which stand before the directory: 16 bytes a slot, or nothing.
    pub sketch_bytes: u32,
    /// CRC32C of the sketches.
    pub sketch_checksum: u32,
}

impl Footer {
    /// Where the last slot ends, at the latest.
    pub fn slots_end(&self) -> u64 {
        self.directory_offset.saturating_sub(self.sketch_bytes.into())
    }

    /// The bytes of this footer.
    pub fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[0..8].copy_from_slice(&FOOTER_MAGIC);
        bytes[8..16].copy_from_slice(&self.id.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.directory_offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.slots.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.directory_checksum.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.raw_bytes.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.stored_bytes.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.sketch_bytes.to_le_bytes());
        bytes[52..56].copy_from_slice(&self.sketch_checksum.to_le_bytes());
        finish_checksum(&mut bytes);
        bytes
    }

    /// Length of the whole container.
    pub fn file_bytes(&self) -> u64 {
        self.directory_offset + u64::from(self.slots) * ENTRY_BYTES as u64 + FOOTER_BYTES as u64
    }

    /// Reads the footer that stands at `offset` and ends the file: the directory must fill what is before it.
    pub fn decode(file: &str, offset: u64, bytes: &[u8]) -> Result<Footer, Damage> {
        check_unit(file, offset, "container footer", bytes, FOOTER_BYTES, &FOOTER_MAGIC)?;
        let footer = Footer {
            id: ContainerId(u64_at(bytes, 8)),
            directory_offset: u64_at(bytes, 16),
            slots: u32_at(bytes, 24),
            directory_checksum: u32_at(bytes, 28),
            raw_bytes: u64_at(bytes, 32),
            stored_bytes: u64_at(bytes, 40),
            sketch_bytes: u32_at(bytes, 48),
            sketch_checksum: u32_at(bytes, 52),
        };
        let directory_bytes = u64::from(footer.slots) * ENTRY_BYTES as u64;
        if footer.directory_offset.checked_add(directory_bytes) != Some(offset) {
            let expected = format!("a directory of {} slots that ends here", footer.slots);
            return Err(Damage::new(file, offset, expected, format!("one at {}", footer.directory_offset)));
        }
        let whole = u64::from(footer.slots) * SKETCH_BYTES as u64;
        let room = footer.directory_offset.saturating_sub(HEADER_BYTES as u64);
        let sketches = u64::from(footer.sketch_bytes);
        if sketches != 0 && (sketches != whole || sketches > room) {
            let expected = format!("sketches of 0 or {whole} bytes, within {room}");
            return Err(Damage::new(file, offset, expected, sketches));
        }
        Ok(footer)
    }
}
