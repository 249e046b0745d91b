//! A container that is being written: buffered, and readable while it grows.
//!
//! Invariants:
//! * `buffer` holds exactly the bytes from `written` on that are not in the file; a failed write leaves both as they
//!   were, so the same bytes are written to the same place once there is room, and nothing was lost.
//! * Slots are appended only under the lock, so offsets never overlap.
//! * Once closed, nothing is appended; once every payload is safe, directory and footer follow.

use std::io::IoSlice;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chunk::Sketch;
use crate::container::format::{Footer, HEADER_BYTES, Header, SLOT_BYTES, Slot};
use crate::container::reader::{self, check_slot, seal_at};
use crate::container::{Class, dir, path};
use crate::error::{Environment, Error, Result, io_error};
use crate::id::ContainerId;
use crate::media::{Media, MediaFile};

/// So many bytes are gathered before they are written.
const BUFFER_BYTES: usize = 1 << 20;

/// A container that is being written, shared by those who append, read and sync.
pub struct Writer {
    id: ContainerId,
    class: Class,
    dense: bool,
    path: String,
    file: Arc<dyn MediaFile>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    /// One for each slot.
    sketches: Vec<Sketch>,
    buffer: Vec<u8>,
    /// Bytes that are in the file.
    written: u64,
    /// Bytes of the file that are synced.
    synced: u64,
    dir_synced: bool,
    /// Nothing is appended any more.
    closed: bool,
    /// Set once directory and footer are written.
    footer: Option<Footer>,
}

impl Writer {
    /// Creates the file of a new container; its folder must exist. The header is written with the first slots.
    pub fn create(media: &dyn Media, header: &Header) -> Result<Writer> {
        let path = path(header.id, header.class);
        let file = media.create(&path).map_err(|error| io_error("create", &path, error))?;
        let state = State { buffer: header.encode().to_vec(), ..State::default() };
        Ok(Writer { id: header.id, class: header.class, dense: header.dense, path, file, state: Mutex::new(state) })
    }
    /// Which container.
    pub fn id(&self) -> ContainerId {
        self.id
    }
    /// What it holds.
    pub fn class(&self) -> Class {
        self.class
    }
    /// True where it may have slots that are compressed with zstd.
    pub fn dense(&self) -> bool {
        self.dense
    }
    /// The handle of its file.
    pub fn file(&self) -> &Arc<dyn MediaFile> {
        &self.file
    }

    /// Takes the right to append. A thread that died while it held it left whole slots behind: the only step that can
    /// fail is writing, and it changes the state afterwards.
    pub fn lock(&self) -> Appender<'_> {
        Appender { writer: self, state: self.lock_state() }
    }
    fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a slot with its payload, from the buffer or from the file, both checksums checked.
    pub fn read_slot(&self, offset: u32, stored_len: u32) -> Result<(Slot, Vec<u8>)> {
        let state = self.lock_state();
        let at = u64::from(offset);
        if at < state.written {
            drop(state);
            return reader::read_slot(self.file.as_ref(), &self.path, offset, stored_len);
        }
        let start = (at - state.written) as usize;
        let end = start + SLOT_BYTES + stored_len as usize;
        // Beyond the end is an empty slice, which the check names as damage.
        let bytes = state.buffer.get(start..end).unwrap_or_default();
        let slot = check_slot(&self.path, offset, stored_len, bytes)?;
        Ok((slot, bytes[SLOT_BYTES..].to_vec()))
    }

    /// The sketch of what stands at `offset`; none where nothing begins there.
    pub fn sketch(&self, offset: u32) -> Sketch {
        let state = self.lock_state();
        let nth = state.slots.binary_search_by_key(&offset, |slot| slot.offset);
        nth.ok().and_then(|nth| state.sketches.get(nth).copied()).unwrap_or_default()
    }

    /// Makes everything appended before the call safe. Others may append and read meanwhile. A container that is closed
    /// is sealed here: directory and footer are written only once all payloads are safe, so that a footer vouches for
    /// every slot, also after a power cut. Returns the footer once that is safe, too.
    pub fn sync(&self, media: &dyn Media) -> Result<Option<Footer>, SyncError> {
        let mut appender = self.lock();
        appender.flush().map_err(SyncError::Write)?;
        let (written, dir_synced) = (appender.state.written, appender.state.dir_synced);
        let closed = appender.is_closed();
        let safe = dir_synced && appender.state.synced == written;
        drop(appender);
        if !safe {
            self.sync_file()?;
        }
        if !dir_synced {
            let dir = dir(self.id);
            media.sync_dir(&dir).map_err(|error| SyncError::Sync(io_error("sync", &dir, error)))?;
        }
        let mut state = self.lock_state();
        state.synced = state.synced.max(written);
        state.dir_synced = true;
        drop(state);
        if closed { self.seal() } else { Ok(None) }
    }

    fn sync_file(&self) -> Result<(), SyncError> {
        self.file.sync().map_err(|error| SyncError::Sync(io_error("sync", &self.path, error)))
    }

    /// Writes directory and footer of a closed container whose payloads are safe. Where there is no room for them it
    /// stays as it is, and the next sync tries again.
    fn seal(&self) -> Result<Option<Footer>, SyncError> {
        let mut state = self.lock_state();
        if state.footer.is_none() {
            match seal_at(self.file.as_ref(), &self.path, self.id, &state.slots, &state.sketches, state.written) {
                Ok(footer) => state.footer = Some(footer),
                Err(Error::Environment(Environment::Full)) => return Ok(None),
                Err(error) => return Err(SyncError::Write(error)),
            }
        }
        let footer = state.footer;
        drop(state);
        self.sync_file()?;
        Ok(footer)
    }
}

/// Why a sync failed; the two differ in what may be believed afterwards.
#[derive(Debug)]
pub enum SyncError {
    /// Bytes could not be written. They are still buffered, and a later attempt may succeed.
    Write(Error),
    /// The disk failed to sync. What it was asked to keep may be gone, and no later sync can be believed.
    Sync(Error),
}

/// The right to append to a [`Writer`].
pub struct Appender<'a> {
    writer: &'a Writer,
    state: MutexGuard<'a, State>,
}

impl Appender<'_> {
    /// Length of the container so far, in bytes, and where the next slot goes.
    pub fn len(&self) -> u64 {
        self.state.written + self.state.buffer.len() as u64
    }
    /// True where nothing was appended yet.
    pub fn is_empty(&self) -> bool {
        self.len() == HEADER_BYTES as u64
    }
    /// True once nothing is appended any more.
    pub fn is_closed(&self) -> bool {
        self.state.closed
    }
    /// How many slots were appended.
    pub fn slots(&self) -> usize {
        self.state.slots.len()
    }

    /// Makes room in the buffer by writing it where it is full. To be called before [`Appender::append`]; where it
    /// fails, nothing may be appended, so that the buffer stays bounded.
    pub fn make_room(&mut self) -> Result<()> {
        if self.state.buffer.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    /// Appends one slot; its offset must be [`Appender::len`].
    pub fn append(&mut self, slot: Slot, sketch: Sketch, payload: &[u8]) {
        assert!(!self.is_closed(), "a closed container is never appended to");
        assert_eq!((u64::from(slot.offset), slot.stored_len as usize), (self.len(), payload.len()));
        self.state.buffer.extend_from_slice(&slot.encode(payload));
        self.state.buffer.extend_from_slice(payload);
        self.state.slots.push(slot);
        self.state.sketches.push(sketch);
    }

    /// Writes what is buffered to the file. Not synced.
    pub fn flush(&mut self) -> Result<()> {
        let state = &mut *self.state;
        if state.buffer.is_empty() {
            return Ok(());
        }
        let file = &self.writer.file;
        file.write_at(&[IoSlice::new(&state.buffer)], state.written)
            .map_err(|error| io_error("write", &self.writer.path, error))?;
        state.written += state.buffer.len() as u64;
        state.buffer.clear();
        Ok(())
    }

    /// Appends nothing more; the next [`Writer::sync`] seals the container.
    pub fn close(&mut self) {
        self.state.closed = true;
    }
}
