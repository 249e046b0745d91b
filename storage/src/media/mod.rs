//! Stage 0: the disk, as a small trait.
//!
//! Everything that this crate keeps goes through [`Media`]: the journal, containers, and (through an adapter) both
//! redb databases. `file.rs` is a real folder, `sim.rs` a disk that tears, loses, rots and fills by seed, and
//! `tally.rs` wraps either and counts.
//!
//! What is assumed of a medium, and of nothing else:
//! * bytes written but not synced may be lost or torn at any 512-byte boundary, in any order;
//! * a file's bytes and length are safe after [`MediaFile::sync`];
//! * a file's existence, name or removal is safe after [`Media::sync_dir`] of the folder it is in;
//! * `rename` is atomic: after a crash the old or the new name is there.
//!
//! Paths are relative to the data folder, with `/` between parts, and never contain `..`; others are refused with
//! `InvalidInput`.

pub(crate) mod answers;
pub mod file;
mod path;
pub mod redb;
pub mod sim;
pub mod tally;

pub use self::file::FileMedia;
pub use self::redb::RedbFile;
pub use self::sim::SimDisk;
pub use self::tally::Tally;

use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::units::Space;

/// A folder tree on a disk.
pub trait Media: Send + Sync + 'static {
    /// Creates a file that must not exist yet; its folder must exist.
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>>;
    /// Opens a file that exists, for reading and writing.
    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>>;
    /// Moves a file over another name, atomically replacing what was there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Handles that are open stay readable.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// The names in a folder, sorted; folders end with `/`. A folder that does not exist is empty.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Creates a folder and those above it; existing ones are fine. They are safe when this returns.
    fn create_dir_all(&self, dir: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder safe.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Room on the disk.
    fn space(&self) -> io::Result<Space>;
}

/// One open file. Offsets and lengths are bytes; several threads may use one handle at once.
pub trait MediaFile: Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Says that these bytes are likely to be read soon, so that a disk can fetch them meanwhile. Returns at once. Where a medium can't do
    /// that nothing is lost.
    fn will_read(&self, _offset: u64, _len: u64) {}
    /// Writes all parts one behind the other from `offset` on, extending the file where needed.
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Makes all bytes that were written, and the length, safe.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True where the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file. An extension may take no room on the disk until it is written.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Takes room on the disk for the first `len` bytes, and extends the file with zeros where it is shorter. Bytes that
    /// are there stay as they are. After this no write below `len` fails for want of room, until the file is cut
    /// shorter; without room it fails with `StorageFull` and the file's bytes stay as they are.
    fn reserve(&self, len: u64) -> io::Result<()>;
}

/// Reads exactly `len` bytes at `offset`, or fails with `UnexpectedEof`.
pub fn read_exact_at(file: &dyn MediaFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let got = file.read_at(&mut buffer, offset)?;
    if got < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(buffer)
}
