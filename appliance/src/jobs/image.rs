//! A volume, or a snapshot of one, as a raw image: what takes no room there is a hole in the image.
//!
//! Every byte was verified before it is written. The image has its name only under a suffix (`.part`) until it is whole
//! and synced, so that nothing that looks like an image is half of one.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use narrowboat_storage::dataset::BlockDevice;

use super::restore::{RestoreError, RestoreReport};
use super::{Meter, Progress};

/// Bytes read at once.
const READ_BYTES: u64 = 4 << 20;
/// Runs that wait for a worker.
const QUEUE: usize = 16;

struct Image<'a> {
    device: &'a dyn BlockDevice,
    file: &'a fs::File,
    written: AtomicU64,
    stop: &'a AtomicBool,
    failure: Mutex<Option<RestoreError>>,
}

/// Writes what `device` holds to `dest`, which must not exist. `tell` hears how far it is; it ends early once `stop` is set.
/// Where it fails nothing is left behind.
pub fn restore_image(
    device: &dyn BlockDevice,
    dest: &Path,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<RestoreReport, RestoreError> {
    let begun = std::time::Instant::now();
    let failed =
        |error: io::Error| RestoreError::Destination(format!("can't write the image {}: {error}", dest.display()));
    if fs::symlink_metadata(dest).is_ok() {
        return Err(failed(io::ErrorKind::AlreadyExists.into()));
    }
    if let Some(above) = dest.parent() {
        fs::create_dir_all(above).map_err(failed)?;
    }
    let mut part = dest.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&part).map_err(failed)?;
    let whole: Result<u64, RestoreError> = (|| {
        file.set_len(device.size_bytes()).map_err(failed)?;
        let written = copy(device, &file, stop, tell)?;
        file.sync_all().map_err(failed)?;
        // Not `rename`, which would replace what has appeared there meanwhile.
        fs::hard_link(&part, dest).map_err(failed)?;
        Ok(written)
    })();
    // Either way its other name has done its work; where it can't be removed, the result is no worse.
    let _ = fs::remove_file(&part);
    Ok(RestoreReport {
        files: 1,
        logical_bytes: device.size_bytes(),
        written_bytes: whole?,
        seconds: begun.elapsed().as_secs_f64(),
        ..RestoreReport::default()
    })
}

/// Copies all that takes room, with a worker for each processor. Returns how many bytes were written.
fn copy(
    device: &dyn BlockDevice,
    file: &fs::File,
    stop: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<u64, RestoreError> {
    let image = Image { device, file, written: AtomicU64::new(0), stop, failure: Mutex::default() };
    let (sender, receiver) = sync_channel(QUEUE);
    let receiver = Mutex::new(receiver);
    let workers = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| image.work(&receiver));
        }
        image.walk(sender, tell).unwrap_or_else(|error| image.fail(error));
    });
    match image.failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if stop.load(Ordering::Relaxed) => Err(RestoreError::Stopped),
        None => Ok(image.written.into_inner()),
    }
}

impl Image<'_> {
    /// Hands every run that takes room to the workers, in parts.
    fn walk(&self, sender: SyncSender<(u64, u64)>, tell: &mut dyn FnMut(Progress)) -> Result<(), RestoreError> {
        let size = self.device.size_bytes();
        let mut meter = Meter::new("restoring", "bytes", Some(size));
        let mut offset = 0;
        while offset < size && !self.is_over() {
            let run = self.device.allocation(offset)?;
            let end = offset.saturating_add(run.len.max(1)).min(size);
            while run.allocated && offset < end && !self.is_over() {
                let len = READ_BYTES.min(end - offset);
                // The workers take until they have failed, and then it does not matter.
                let _ = sender.send((offset, len));
                offset += len;
                meter.at(offset).map(&mut *tell);
            }
            offset = end;
            meter.at(offset).map(&mut *tell);
        }
        Ok(())
    }

    fn work(&self, receiver: &Mutex<Receiver<(u64, u64)>>) {
        loop {
            let run = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok((offset, len)) = run else { return };
            if !self.is_over()
                && let Err(error) = self.write(offset, len)
            {
                self.fail(error);
            }
        }
    }

    fn write(&self, offset: u64, len: u64) -> Result<(), RestoreError> {
        let mut at = offset;
        for piece in self.device.read(offset, len)? {
            if piece.iter().any(|byte| *byte != 0) {
                let failed = |error: io::Error| RestoreError::Destination(format!("can't write the image: {error}"));
                self.file.write_all_at(&piece, at).map_err(failed)?;
                self.written.fetch_add(piece.len() as u64, Ordering::Relaxed);
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    /// Keeps the first failure.
    fn fail(&self, error: RestoreError) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.failure.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }
}
