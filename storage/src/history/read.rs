//! Reading a history file back, block by block, every byte verified before a record is believed.

use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, BLOCK_HEADER_BYTES, BlockHeader, HEADER_BYTES, Header};
use super::path;
use crate::catalogue::HistoryFile;
use crate::codec::Malformed;
use crate::container::codec;
use crate::error::{Damage, Result, io_error};
use crate::id::{DatasetId, StoreId};
use crate::journal::Record;
use crate::media::{Media, MediaFile};
use crate::units::Lsn;

/// Hands the records of a file behind `after` to `visit`, in order. The first error ends it. Blocks without such records are
/// passed by their headers. Memory: one block.
///
/// Damage where the file is gone, is another one, or has not exactly the bytes and the last record that `file` says.
pub(crate) fn read(
    media: &dyn Media,
    store: StoreId,
    dataset: DatasetId,
    file: &HistoryFile,
    after: Lsn,
    visit: &mut dyn FnMut(Record) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::open(media, store, dataset, file)?;
    while let Some(header) = walk.next()? {
        if header.last > after {
            for record in walk.records(&header)?.into_iter().filter(|record| record.lsn > after) {
                visit(record)?;
            }
        }
        walk.pass(&header);
    }
    Ok(())
}

/// A walk over the blocks of a file.
pub(super) struct Walk {
    pub(super) handle: Arc<dyn MediaFile>,
    pub(super) path: String,
    pub(super) header: Header,
    file: HistoryFile,
    at: u64,
    last: Lsn,
}

impl Walk {
    /// Opens a file and checks its header.
    pub(super) fn open(media: &dyn Media, store: StoreId, dataset: DatasetId, file: &HistoryFile) -> Result<Walk> {
        let path = path(dataset, file.first);
        let handle = media.open(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Damage::new(&*path, 0, "a history file", "no file").into(),
            _ => io_error("open", &path, error),
        })?;
        let bytes = read_upto(&*handle, &path, 0, HEADER_BYTES as usize)?;
        let header = Header::decode(&bytes, &path, store, dataset, file.first)?;
        Ok(Walk { handle, path, header, file: *file, at: HEADER_BYTES, last: Lsn(file.first.0 - 1) })
    }

    /// The header of the next block, which stays the next one; nothing at the end of what counts.
    pub(super) fn next(&mut self) -> Result<Option<BlockHeader>> {
        if self.at == self.file.bytes && self.last == self.file.last {
            return Ok(None);
        }
        let bytes = read_upto(&*self.handle, &self.path, self.at, BLOCK_HEADER_BYTES as usize)?;
        let end = |header: &BlockHeader| self.at + BLOCK_HEADER_BYTES + u64::from(header.stored_len);
        let sound = |header: &BlockHeader| {
            let in_order = header.after == self.last && header.last > self.last && header.last <= self.file.last;
            header.salt == self.header.salt && in_order && end(header) <= self.file.bytes
        };
        let expected = format!("a block behind record {}, with records up to {}", self.last, self.file.last);
        match BlockHeader::decode(&bytes) {
            Some(header) if sound(&header) => Ok(Some(header)),
            Some(header) => {
                let found = format!(
                    "one behind record {}, up to {}, that ends at byte {}",
                    header.after,
                    header.last,
                    end(&header)
                );
                Err(Damage::new(&*self.path, self.at, expected, found).into())
            }
            None => Err(Damage::new(&*self.path, self.at, expected, "bytes that are no block").into()),
        }
    }

    /// The records of the block whose header came next, verified.
    pub(super) fn records(&self, header: &BlockHeader) -> Result<Vec<Record>> {
        let at = self.at + BLOCK_HEADER_BYTES;
        let stored = read_upto(&*self.handle, &self.path, at, header.stored_len as usize)?;
        let found = crc32c::crc32c(&stored);
        if stored.len() != header.stored_len as usize || found != header.crc {
            let expected = format!("{} bytes with checksum {:08x}", header.stored_len, header.crc);
            let found = format!("{} bytes with checksum {found:08x}", stored.len());
            return Err(Damage::new(&*self.path, at, expected, found).into());
        }
        let wrong = |found: String| Damage::new(&*self.path, at, "a block of records", found);
        let block = codec::decompress(header.codec, header.raw_len as usize, &stored).map_err(wrong)?;
        let malformed = |error: Malformed| wrong(error.to_string());
        Ok(format::records(&block.into(), header, self.header.dataset).map_err(malformed)?)
    }

    /// Goes behind the block whose header came next.
    pub(super) fn pass(&mut self, header: &BlockHeader) {
        self.at += BLOCK_HEADER_BYTES + u64::from(header.stored_len);
        self.last = header.last;
    }
}

/// Reads `len` bytes, or those there are.
fn read_upto(file: &dyn MediaFile, path: &str, offset: u64, len: usize) -> Result<Bytes> {
    let mut buffer = vec![0; len];
    let got = file.read_at(&mut buffer, offset).map_err(|error| io_error("read", path, error))?;
    buffer.truncate(got);
    Ok(buffer.into())
}
