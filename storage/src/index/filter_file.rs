//! The filter over all names: filled from the index, saved beside it for the next opening.

use std::io::IoSlice;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::database::Database;
use crate::error::{Result, io_error};

use super::{FILTER_FILE, Index, filter, remove};

const FILTER_TEMPORARY: &str = "index.filter.new";

impl Index {
    /// Fills the next cold part of the filter. False where none was cold.
    pub fn warm_filter(&self) -> Result<bool> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.filter.cold() {
            None => Ok(false),
            Some(part) => self.fill_filter(part).map(|()| true),
        }
    }

    pub(super) fn fill_filter(&self, part: usize) -> Result<()> {
        let expected = self.filter.names(part).max((self.len() / filter::PARTS as u64) as usize);
        self.filter.fill(part, expected, |visit| self.scan(part as u8, |name, _| visit(name)))
    }

    /// Saves the filter beside the index, for the next opening. Nothing is saved while a part is cold.
    pub fn save_filter(&self) -> Result<()> {
        // Its names and its generation must be of one moment.
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(saved) = self.filter.save(self.store, self.generation.load(Ordering::Relaxed)) else { return Ok(()) };
        let io = |operation| move |error| io_error(operation, FILTER_FILE, error);
        if Database::exists(self.media.as_ref(), FILTER_TEMPORARY)? {
            self.media.remove(FILTER_TEMPORARY).map_err(io("remove"))?;
        }
        let file = self.media.create(FILTER_TEMPORARY).map_err(io("create"))?;
        file.write_at(&[IoSlice::new(&saved)], 0).map_err(io("write"))?;
        file.sync().map_err(io("sync"))?;
        self.media.rename(FILTER_TEMPORARY, FILTER_FILE).map_err(io("rename"))?;
        self.media.sync_dir("").map_err(io("sync folder of"))
    }

    /// Takes over the saved filter. It is used only once: the next one to be saved is another.
    pub(super) fn load_filter(&self) -> Result<()> {
        // One that can't be read is filled anew.
        let _ = self.read_filter();
        remove(self.media.as_ref(), FILTER_FILE)
    }

    fn read_filter(&self) -> Result<()> {
        if !Database::exists(self.media.as_ref(), FILTER_FILE)? {
            return Ok(());
        }
        let io = |operation| move |error| io_error(operation, FILTER_FILE, error);
        let file = self.media.open(FILTER_FILE).map_err(io("open"))?;
        let len = file.len().map_err(io("measure"))?;
        // Far more than any sound filter of so many names: not worth reading.
        if len > 64 * self.len() + (1 << 20) {
            return Ok(());
        }
        let mut bytes = vec![0; len as usize];
        let got = file.read_at(&mut bytes, 0).map_err(io("read"))?;
        bytes.truncate(got);
        self.filter.load(&Bytes::from(bytes), self.store, self.generation.load(Ordering::Relaxed));
        Ok(())
    }
}
