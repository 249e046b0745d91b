//! Writing history: a new file, or more blocks behind what counts of one.

use std::io::IoSlice;
use std::sync::Arc;

use super::format::{BLOCK_BYTES, BLOCK_HEADER_BYTES, BlockHeader, FOLDER, HEADER_BYTES, Header, put_record};
use super::path;
use super::read::Walk;
use crate::catalogue::HistoryFile;
use crate::container::codec::{Patience, compress};
use crate::error::{Damage, Error, Result, io_error};
use crate::id::{DatasetId, StoreId};
use crate::journal::Record;
use crate::media::{Media, MediaFile};
use crate::units::Lsn;

/// A file that takes records. Nothing of it counts before the catalogue says so: dropped half-way, it leaves bytes that the next
/// one overwrites, or a file that is swept away.
pub(crate) struct Writer {
    handle: Arc<dyn MediaFile>,
    path: String,
    header: Header,
    last: Lsn,
    /// What counted before.
    start: u64,
    end: u64,
}

impl Writer {
    /// Begins a file of a dataset whose records will be at or behind `first`.
    pub fn create(media: &dyn Media, store: StoreId, dataset: DatasetId, first: Lsn) -> Result<Writer> {
        let path = path(dataset, first);
        let failed = |operation| move |error| (operation, error);
        let make = || {
            media.create_dir_all(FOLDER).map_err(failed("create the folder of"))?;
            // What an attempt left that did not come to its end.
            let _ = media.remove(&path);
            let handle = media.create(&path).map_err(failed("create"))?;
            let header = Header::new(store, dataset, first);
            handle.write_at(&[IoSlice::new(&header.encode())], 0).map_err(failed("write"))?;
            Ok((handle, header))
        };
        let (handle, header) = make().map_err(|(operation, error)| io_error(operation, &path, error))?;
        Ok(Writer { handle, path, header, last: Lsn(first.0 - 1), start: 0, end: HEADER_BYTES })
    }

    /// Goes on behind what counts of a file; `None` where that is damaged, for nothing sound should lie behind it.
    pub fn append_to(
        media: &dyn Media,
        store: StoreId,
        dataset: DatasetId,
        file: &HistoryFile,
    ) -> Result<Option<Writer>> {
        let walk = || {
            let mut walk = Walk::open(media, store, dataset, file)?;
            while let Some(header) = walk.next()? {
                walk.pass(&header);
            }
            let len = walk.handle.len().map_err(|error| io_error("measure", &walk.path, error))?;
            if len < file.bytes {
                let found = "the end of the file";
                return Err(Damage::new(&*walk.path, len, format!("{} bytes in all", file.bytes), found).into());
            }
            // What lies behind was never finished.
            walk.handle.set_len(file.bytes).map_err(|error| io_error("cut", &walk.path, error))?;
            Ok(walk)
        };
        match walk() {
            Ok(Walk { handle, path, header, .. }) => {
                let (start, end) = (file.bytes, file.bytes);
                Ok(Some(Writer { handle, path, header, last: file.last, start, end }))
            }
            Err(Error::Damage(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes records, which are behind all that were written before.
    pub fn write(&mut self, records: &[Record]) -> Result<()> {
        let mut block = Vec::new();
        let mut count = 0;
        for (nth, record) in records.iter().enumerate() {
            put_record(&mut block, record);
            count += 1;
            if block.len() >= BLOCK_BYTES || nth + 1 == records.len() {
                self.write_block(&block, count, record.lsn)?;
                block.clear();
                count = 0;
            }
        }
        Ok(())
    }

    fn write_block(&mut self, block: &[u8], records: u32, last: Lsn) -> Result<()> {
        let mut stored = Vec::new();
        let codec = compress(block, &mut stored, &Patience::default());
        let header = BlockHeader {
            crc: crc32c::crc32c(&stored),
            stored_len: stored.len() as u32,
            raw_len: block.len() as u32,
            codec,
            records,
            after: self.last,
            last,
            salt: self.header.salt,
        };
        let header = header.encode();
        let parts = [IoSlice::new(&header), IoSlice::new(&stored)];
        self.handle.write_at(&parts, self.end).map_err(|error| io_error("write", &self.path, error))?;
        self.end += BLOCK_HEADER_BYTES + stored.len() as u64;
        self.last = last;
        Ok(())
    }

    /// Makes all that was written safe, and says what counts from now on.
    pub fn finish(self) -> Result<HistoryFile> {
        self.handle.sync().map_err(|error| io_error("sync", &self.path, error))?;
        Ok(HistoryFile { first: self.header.first, last: self.last, bytes: self.end })
    }

    /// True where the file's name is new: the folder has to be synced.
    pub fn is_new(&self) -> bool {
        self.start == 0
    }

    /// Gives back the room of what was written and will not count.
    pub fn abandon(self) {
        // Without luck it is overwritten, or swept away, later.
        let _ = self.handle.set_len(self.start);
    }
}
