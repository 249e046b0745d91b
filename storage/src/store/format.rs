//! The store header. `docs/formats/store.md` owns the bytes.

use std::io::IoSlice;

use bytes::Bytes;

use crate::chunk::ChunkSizes;
use crate::codec::{Malformed, Put, Reader};
use crate::error::{Damage, Refusal, Result, io_error};
use crate::id::StoreId;
use crate::media::{Media, read_exact_at};
use crate::name::Realm;

const MAGIC: &[u8; 8] = b"NARROW\0S";
const VERSION: u16 = 1;
const LEN: usize = 90;
/// Where the header lies, twice.
const FILES: [&str; 2] = ["store.format", "store.format.copy"];

/// What never changes in a store's life.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub store: StoreId,
    pub realm: Realm,
    pub sizes: ChunkSizes,
}

impl Header {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(LEN);
        bytes.extend_from_slice(MAGIC);
        bytes.put_u16(VERSION);
        [0, 0, 0].into_iter().for_each(|features| bytes.put_u64(features));
        bytes.extend_from_slice(&self.store.0);
        bytes.extend_from_slice(self.realm.secret());
        bytes.put_u32(self.sizes.avg_bytes() as u32);
        let sum = crc32c::crc32c(&bytes);
        bytes.put_u32(sum);
        bytes
    }

    fn decode(file: &str, bytes: Vec<u8>) -> Result<Header> {
        let sound = bytes.len() == LEN && bytes.starts_with(MAGIC);
        let sum = crc32c::crc32c(&bytes[..bytes.len().min(LEN - 4)]).to_le_bytes();
        if !sound || bytes[LEN - 4..] != sum {
            return Err(Damage::new(file, 0, "a store header with a matching checksum", "other bytes").into());
        }
        let bytes = Bytes::from(bytes);
        let malformed = |error: Malformed| Damage::new(file, error.at as u64, "a store header", "other values");
        let mut reader = Reader::new(&bytes, "the store header");
        reader.take(MAGIC.len()).map_err(malformed)?;
        let version = reader.u16().map_err(malformed)?;
        let features: Vec<u64> = (0..3).map(|_| reader.u64()).collect::<Result<_, _>>().map_err(malformed)?;
        if version > VERSION || features[1] != 0 || features[2] != 0 {
            let why =
                format!("{file} was written by a newer version of this program (format {version}); update the box");
            return Err(Refusal::Unsupported(why).into());
        }
        let store = StoreId(reader.array().map_err(malformed)?);
        let realm = Realm::new(reader.array().map_err(malformed)?);
        let sizes = ChunkSizes::around(reader.u32().map_err(malformed)? as usize)?;
        Ok(Header { store, realm, sizes })
    }

    /// Reads the header, mending one damaged copy from the other. `None` where there is no store.
    pub fn read(media: &dyn Media) -> Result<Option<Header>> {
        let names = media.list("").map_err(|error| io_error("list", "", error))?;
        let mut found = Vec::new();
        for file in FILES.into_iter().filter(|file| names.iter().any(|name| name == file)) {
            found.push((file, read_copy(media, file)));
        }
        let Some(sound) = found.iter().find_map(|(_, header)| header.as_ref().ok()).cloned() else {
            return found.into_iter().next().map_or(Ok(None), |(_, header)| header.map(Some));
        };
        let damaged = |file: &str| !found.iter().any(|(name, header)| *name == file && header.is_ok());
        for file in FILES.into_iter().filter(|file| damaged(file)) {
            sound.write_copy(media, file)?;
        }
        Ok(Some(sound))
    }

    /// Writes both copies, one after the other, so that one is whole at any moment.
    pub fn write(&self, media: &dyn Media) -> Result<()> {
        FILES.into_iter().try_for_each(|file| self.write_copy(media, file))
    }

    fn write_copy(&self, media: &dyn Media, file: &str) -> Result<()> {
        let temporary = format!("{file}.new");
        let failed = |operation| move |error| io_error(operation, file, error);
        let _ = media.remove(&temporary);
        let handle = media.create(&temporary).map_err(failed("create"))?;
        handle.write_at(&[IoSlice::new(&self.encode())], 0).map_err(failed("write"))?;
        handle.sync().map_err(failed("sync"))?;
        media.rename(&temporary, file).map_err(failed("rename"))?;
        media.sync_dir("").map_err(failed("sync the folder of"))
    }
}

fn read_copy(media: &dyn Media, file: &str) -> Result<Header> {
    let handle = media.open(file).map_err(|error| io_error("open", file, error))?;
    let len = handle.len().map_err(|error| io_error("measure", file, error))?;
    let bytes = read_exact_at(&*handle, 0, len.min(LEN as u64 + 1) as usize);
    Header::decode(file, bytes.map_err(|error| io_error("read", file, error))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::SimDisk;

    fn header() -> Header {
        let store = StoreId(std::array::from_fn(|index| index as u8));
        Header { store, realm: Realm::published(), sizes: ChunkSizes::DEFAULT }
    }

    #[test]
    fn the_page_has_the_bytes_we_write() {
        let page = include_str!("../../../docs/formats/store.md");
        let block = page.split("```hex").nth(1).and_then(|rest| rest.split("```").next()).expect("a hex block");
        let hex: String = block.chars().filter(char::is_ascii_hexdigit).collect();
        let ours: String = header().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, ours);
    }

    #[test]
    fn one_damaged_copy_is_mended_from_the_other_and_two_are_damage() {
        let disk = SimDisk::new(1);
        assert!(Header::read(&disk).expect("an empty disk").is_none());
        header().write(&disk).expect("room");
        for file in FILES {
            disk.rot(file, 40, 0x10).expect("a file");
            assert_eq!(Header::read(&disk).expect("mended").expect("a header").store, header().store);
            assert_eq!(disk.contents(file).expect("a file"), header().encode(), "{file} was mended");
        }
        for file in FILES {
            disk.truncate(file, 50).expect("a file");
        }
        assert!(matches!(Header::read(&disk), Err(crate::Error::Damage(_))));
    }
}
