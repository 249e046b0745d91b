//! What files hold: large ones are restored in stretches, by several workers at once. What can't be read stays a hole, as small as it
//! can be, and the file is named with how much of it is missing.

use std::fs;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use narrowboat_storage::dataset::{Attributes, Credentials};

use super::{Restore, RestoreError};

/// Bytes read from the tree at once.
const READ_BYTES: u64 = 4 << 20;
/// So much is given up where it can't be read: a chunk, on average.
const GIVEN_UP_BYTES: u64 = 16 << 10;
/// A worker restores so much of a file at least, where there is so much; others restore the rest of it meanwhile.
const STRETCH_BYTES: u64 = 32 << 20;
/// Most stretches of one file, however large it is: it may be all holes.
const STRETCHES_MAX: u64 = 4096;

/// A file that is being filled.
struct Filling {
    path: PathBuf,
    attributes: Attributes,
    /// Stretches that are not finished yet.
    left: AtomicU64,
    /// Bytes that could not be restored, and why the first of them.
    missing: AtomicU64,
    why: OnceLock<String>,
}

/// A stretch of a file that one worker restores.
pub(super) struct Task {
    file: Arc<Filling>,
    range: Range<u64>,
}

/// The stretches of a file, which is there and empty.
pub(super) fn stretches(path: PathBuf, attributes: &Attributes) -> impl Iterator<Item = Task> {
    let size = attributes.size;
    let length = STRETCH_BYTES.max(size.div_ceil(STRETCHES_MAX));
    let stretches = size.div_ceil(length).max(1);
    let file = Arc::new(Filling {
        path,
        attributes: attributes.clone(),
        left: AtomicU64::new(stretches),
        missing: AtomicU64::new(0),
        why: OnceLock::new(),
    });
    (0..stretches).map(move |nth| Task {
        file: file.clone(),
        range: nth * length..(nth * length).saturating_add(length).min(size),
    })
}

/// Restores a stretch. Whoever restores the last one of a file finishes the file; what fails in one keeps no other from being restored.
pub(super) fn carry_out(restore: &Restore, Task { file, range }: &Task) {
    let mut offset = range.start;
    if let Err(why) = content(restore, file, &mut offset, range.end) {
        file.misses(range.end - offset, why);
    }
    if file.left.fetch_sub(1, Ordering::AcqRel) == 1 {
        let (size, missing) = (file.attributes.size, file.missing.load(Ordering::Acquire));
        match (file.full_length(), file.why.get()) {
            (Ok(()), None) => restore.count(|report| report.logical_bytes += size),
            (Ok(()), Some(why)) => {
                let zeros = format!("{why}; {missing} of its {size} bytes are missing and read as zeros");
                restore.fail(&file.path, zeros);
            }
            (Err(error), _) => restore.fail(&file.path, error),
        }
        restore.finish(&file.path, &file.attributes);
    }
}

/// Restores a file from `offset` to `end`; where that fails, `offset` says how far it came.
fn content(restore: &Restore, filling: &Filling, offset: &mut u64, end: u64) -> Result<(), String> {
    let file = fs::OpenOptions::new().write(true).open(&filling.path).map_err(|error| error.to_string())?;
    while *offset < end {
        let data = restore.tree.next_data(&Credentials::ROOT, filling.attributes.inode, *offset);
        let data = data.map_err(|error| error.to_string())?;
        let data = data.map_or(end..end, |data| data.start.clamp(*offset, end)..data.end.min(end));
        restore.passed.fetch_add(data.start - *offset, Ordering::Relaxed);
        *offset = data.start;
        // In small steps up to here, for a large one could not be read.
        let mut careful = 0;
        while *offset < data.end {
            let most = if *offset < careful { GIVEN_UP_BYTES } else { READ_BYTES };
            match copy(restore, filling, &file, *offset, most.min(data.end - *offset)) {
                Ok(copied) => *offset += copied,
                Err(Stuck::Ends(why)) => return Err(why),
                Err(Stuck::Unreadable(_)) if *offset >= careful => careful = *offset + READ_BYTES,
                Err(Stuck::Unreadable(why)) => {
                    let given_up = GIVEN_UP_BYTES.min(data.end - *offset);
                    filling.misses(given_up, why);
                    restore.passed.fetch_add(given_up, Ordering::Relaxed);
                    *offset += given_up;
                }
            }
        }
    }
    Ok(())
}

/// Why bytes were not copied.
enum Stuck {
    /// These can't be read; others may be.
    Unreadable(String),
    /// Nothing more can be restored of the stretch.
    Ends(String),
}

/// Copies some bytes of a file, at most `most`, and returns how many. Zeros become holes.
fn copy(restore: &Restore, filling: &Filling, file: &fs::File, offset: u64, most: u64) -> Result<u64, Stuck> {
    if restore.stop.load(Ordering::Relaxed) {
        return Err(Stuck::Ends(RestoreError::Stopped.to_string()));
    }
    let read = restore.tree.read(&Credentials::ROOT, filling.attributes.inode, offset, most as u32);
    let read = read.map_err(|error| Stuck::Unreadable(error.to_string()))?;
    let mut at = offset;
    for piece in &read.pieces {
        if !is_zero(piece) {
            file.write_all_at(piece, at).map_err(|error| Stuck::Ends(error.to_string()))?;
            restore.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
        at += piece.len() as u64;
        restore.passed.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    match at > offset {
        true => Ok(at - offset),
        false => Err(Stuck::Ends(format!("it ends at byte {offset}"))),
    }
}

impl Filling {
    fn misses(&self, bytes: u64, why: String) {
        // The first one is kept.
        let _ = self.why.set(why);
        self.missing.fetch_add(bytes, Ordering::AcqRel);
    }

    /// What is behind the last byte that was written is a hole.
    fn full_length(&self) -> io::Result<()> {
        fs::OpenOptions::new().write(true).open(&self.path)?.set_len(self.attributes.size)
    }
}

/// Compares whole blocks, as fast as memory is: files of terabytes may be all holes.
fn is_zero(bytes: &[u8]) -> bool {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    bytes.chunks(ZEROS.len()).all(|block| ZEROS.get(..block.len()) == Some(block))
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn a_single_byte_makes_a_block_no_hole() {
        let mut bytes = vec![0; (128 << 10) + 3];
        assert!(is_zero(&bytes) && is_zero(&[]));
        for at in [0, 1, (64 << 10) - 1, 64 << 10, (128 << 10) + 2] {
            bytes[at] = 1;
            assert!(!is_zero(&bytes), "{at}");
            bytes[at] = 0;
        }
    }
}
