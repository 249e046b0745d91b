//! The file of wounds: `docs/formats/wounds.md`.

use std::io::IoSlice;
use std::ops::Range;

use bytes::Bytes;

use crate::codec::{Malformed, Put, Reader};
use crate::error::{Damage, Refusal, Result, io_error};
use crate::id::{ContainerId, StoreId};
use crate::media::{Media, read_exact_at};
use crate::name::{Kind, Name};

const FILE: &str = "wounds";
const NEW: &str = "wounds.new";
const MAGIC: &[u8; 8] = b"NARROW\0W";
const VERSION: u16 = 1;
/// What is in front of the first worn container, with the checksum at the end.
const LEN_MIN: u64 = 78;
/// Larger than any can be.
const LEN_MAX: u64 = 256 << 20;
/// So many wounds are kept.
pub const WOUNDS_MAX: usize = 10_000;
/// The longest sentence that is kept, in bytes.
const TEXT_MAX: usize = 4096;

/// What the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// Containers that the index was built again from and that nobody has read since.
    pub unread: Range<u64>,
    /// Containers that are damaged themselves.
    pub worn: Vec<ContainerId>,
    /// Objects that are damaged, each with the container of that copy.
    pub wounds: Vec<(Kind, Name, ContainerId, Damage)>,
}

impl Kept {
    fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.worn.is_empty() && self.wounds.is_empty()
    }

    fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.put_u16(VERSION);
        [0, 0, 0].into_iter().for_each(|features| bytes.put_u64(features));
        bytes.extend_from_slice(&store.0);
        bytes.put_u64(self.unread.start);
        bytes.put_u64(self.unread.end);
        bytes.put_u32(self.worn.len() as u32);
        self.worn.iter().for_each(|id| bytes.put_u64(id.0));
        let wounds = &self.wounds[..self.wounds.len().min(WOUNDS_MAX)];
        bytes.put_u32(wounds.len() as u32);
        for (kind, name, container, damage) in wounds {
            bytes.put_u8(*kind as u8);
            bytes.extend_from_slice(&name.0);
            bytes.put_u64(container.0);
            bytes.put_u64(damage.offset);
            [&damage.file, &damage.expected, &damage.found].into_iter().for_each(|text| put_text(&mut bytes, text));
        }
        let sum = crc32c::crc32c(&bytes);
        bytes.put_u32(sum);
        bytes
    }

    fn decode(reader: &mut Reader) -> Result<Kept, Malformed> {
        let unread = reader.u64()?..reader.u64()?;
        let worn = (0..reader.count(8)?).map(|_| reader.u64().map(ContainerId)).collect::<Result<_, _>>()?;
        let mut wounds = Vec::new();
        for _ in 0..reader.count(61)? {
            let kind = reader.u8()?;
            let kind = Kind::from_u8(kind).ok_or(reader.malformed())?;
            let (name, container, offset) = (Name(reader.array()?), ContainerId(reader.u64()?), reader.u64()?);
            let mut text = || reader.bytes(TEXT_MAX).map(|text| String::from_utf8_lossy(&text).into_owned());
            let (file, expected, found) = (text()?, text()?, text()?);
            wounds.push((kind, name, container, Damage { file, offset, expected, found }));
        }
        Ok(Kept { unread, worn, wounds })
    }
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    bytes.put_bytes(&text.as_bytes()[..end]);
}

/// Writes the file, or removes it where there is nothing to say; safe when it returns.
pub fn write(media: &dyn Media, store: StoreId, kept: &Kept) -> Result<()> {
    if kept.is_empty() {
        match media.remove(FILE) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(io_error("remove", FILE, error)),
            _ => return media.sync_dir("").map_err(|error| io_error("sync", FILE, error)),
        }
    }
    let _ = media.remove(NEW);
    let file = media.create(NEW).map_err(|error| io_error("create", NEW, error))?;
    file.write_at(&[IoSlice::new(&kept.encode(store))], 0).map_err(|error| io_error("write", NEW, error))?;
    file.sync().map_err(|error| io_error("sync", NEW, error))?;
    media.rename(NEW, FILE).map_err(|error| io_error("rename", NEW, error))?;
    media.sync_dir("").map_err(|error| io_error("sync", FILE, error))
}

/// Reads it; nothing where there is none.
pub fn read(media: &dyn Media, store: StoreId) -> Result<Kept> {
    let file = match media.open(FILE) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Kept::default()),
        file => file.map_err(|error| io_error("open", FILE, error))?,
    };
    let len = file.len().map_err(|error| io_error("measure", FILE, error))?;
    let wrong = |found: String| Damage::new(FILE, 0, "the file of wounds", found).into();
    if !(LEN_MIN..=LEN_MAX).contains(&len) {
        return Err(wrong(format!("a file of {len} bytes")));
    }
    let mut bytes = read_exact_at(&*file, 0, len as usize).map_err(|error| io_error("read", FILE, error))?;
    let sum = bytes.split_off(bytes.len() - 4);
    if crc32c::crc32c(&bytes).to_le_bytes() != sum[..] {
        return Err(wrong("another checksum".into()));
    }
    let bytes = Bytes::from(bytes);
    let mut reader = Reader::new(&bytes, "the file of wounds");
    let malformed = |error: Malformed| -> crate::Error { wrong(error.to_string()) };
    if reader.take(MAGIC.len()).map_err(malformed)? != MAGIC[..] {
        return Err(wrong("another magic".into()));
    }
    let version = reader.u16().map_err(malformed)?;
    let features: [u64; 3] =
        [reader.u64().map_err(malformed)?, reader.u64().map_err(malformed)?, reader.u64().map_err(malformed)?];
    if version > VERSION || features[1] != 0 || features[2] != 0 {
        let why = format!("{FILE} was written by a newer version of this program; update the box");
        return Err(Refusal::Unsupported(why).into());
    }
    if StoreId(reader.array().map_err(malformed)?) != store {
        return Err(wrong("another store's id".into()));
    }
    let kept = Kept::decode(&mut reader).map_err(malformed)?;
    reader.end().map_err(malformed)?;
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (StoreId, Kept) {
        let store = StoreId(std::array::from_fn(|nth| nth as u8));
        let damage = Damage::new("containers/00/0000000000000007.data", 96, "a slot", "zeros");
        let wounds = vec![(Kind::Chunk, Name([0x11; 32]), ContainerId(7), damage)];
        (store, Kept { unread: 3..9, worn: vec![ContainerId(5)], wounds })
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_page_says_what_the_code_does() {
        let page = include_str!("../../../../docs/formats/wounds.md");
        let block = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let (store, kept) = example();
        assert_eq!(hex(&kept.encode(store)), block.split_whitespace().collect::<String>());
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_seen() {
        let disk = crate::media::SimDisk::new(1);
        let (store, kept) = example();
        assert_eq!(read(&disk, store).expect("a disk"), Kept::default());
        write(&disk, store, &kept).expect("room");
        assert_eq!(read(&disk, store).expect("sound"), kept);
        let len = disk.contents(FILE).expect("there").len() as u64;
        for at in 0..len {
            disk.rot(FILE, at, 1).expect("there");
            assert!(read(&disk, store).is_err(), "a flipped byte at {at}");
            disk.rot(FILE, at, 1).expect("there");
        }
        assert!(read(&disk, StoreId([9; 16])).is_err());
        disk.truncate(FILE, 3).expect("there");
        assert!(read(&disk, store).is_err());
        write(&disk, store, &Kept::default()).expect("room");
        assert!(!disk.paths().iter().any(|path| path.starts_with(FILE)));
    }

    #[test]
    fn long_sentences_are_cut_between_letters() {
        let disk = crate::media::SimDisk::new(1);
        let (store, mut kept) = example();
        kept.wounds[0].3.found = "ü".repeat(3000) + "x";
        write(&disk, store, &kept).expect("room");
        assert_eq!(read(&disk, store).expect("sound").wounds[0].3.found, "ü".repeat(TEXT_MAX / 2));
    }
}
