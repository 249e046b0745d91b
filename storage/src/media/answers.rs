//! A sector that can't be read, or a disk that is gone: the first is damage of what lies there, the second says nothing of what is kept.
//!
//! Both give the same errors. So the disk is asked for something else: a sync of a file that never changes. Nothing of it waits to be
//! written, nobody relies on what that sync says, and the system still has to ask the disk for it.

use std::fmt;

use super::Media;
use crate::error::{Damage, Error, Result};

/// A file that every store has, and that nobody writes after its creation.
const ASKED: &str = "store.format";

/// True where the disk answers at all, and takes what is written: a file system whose disk was gone is read-only from then on. Where there is no file to ask for, nothing is known against it.
fn answers(media: &dyn Media) -> bool {
    let asked = media.open(ASKED).and_then(|file| file.sync());
    asked.err().is_none_or(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// What a disk that answers can't give back is damage like any other: the rest may be sound. `offset` and `expected` say what should be there.
pub(crate) fn unreadable_at<T>(
    media: &dyn Media,
    offset: u64,
    expected: impl fmt::Display,
    read: Result<T>,
) -> Result<T> {
    read.map_err(|error| match error.damage(offset, expected) {
        Some(damage) if matches!(error, Error::Damage(_)) || answers(media) => damage.into(),
        _ => error,
    })
}

/// The same of a whole file.
pub(crate) fn unreadable<T>(media: &dyn Media, read: Result<T>) -> Result<T> {
    unreadable_at(media, 0, "bytes that can be read", read)
}

/// Parts damage, of this or of what it asks for, from what the machine could not do.
pub(crate) fn damage_or<T>(media: &dyn Media, read: Result<T>) -> Result<Result<T, Damage>> {
    match unreadable(media, read) {
        Ok(value) => Ok(Ok(value)),
        Err(Error::Damage(damage)) => Ok(Err(damage)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};
    use std::sync::Arc;

    use super::*;
    use crate::error::{Environment, io_error};
    use crate::media::{MediaFile, SimDisk};
    use crate::units::Space;

    /// A disk that was taken out.
    struct Gone;

    impl Media for Gone {
        fn create(&self, _: &str) -> io::Result<Arc<dyn MediaFile>> {
            Err(rustix::io::Errno::IO.into())
        }
        fn open(&self, _: &str) -> io::Result<Arc<dyn MediaFile>> {
            Err(rustix::io::Errno::NODEV.into())
        }
        fn rename(&self, _: &str, _: &str) -> io::Result<()> {
            Err(rustix::io::Errno::IO.into())
        }
        fn remove(&self, _: &str) -> io::Result<()> {
            Err(rustix::io::Errno::IO.into())
        }
        fn list(&self, _: &str) -> io::Result<Vec<String>> {
            Err(rustix::io::Errno::IO.into())
        }
        fn create_dir_all(&self, _: &str) -> io::Result<()> {
            Err(rustix::io::Errno::IO.into())
        }
        fn sync_dir(&self, _: &str) -> io::Result<()> {
            Err(rustix::io::Errno::IO.into())
        }
        fn space(&self) -> io::Result<Space> {
            Err(rustix::io::Errno::IO.into())
        }
    }

    #[test]
    fn a_bad_sector_is_damage_and_a_disk_that_is_gone_is_none() {
        let failed = || -> Result<()> { Err(io_error("read", "containers/1", rustix::io::Errno::IO.into())) };
        let disk = SimDisk::new(1);
        for there in [false, true] {
            let read = unreadable_at(&disk, 7, "an object", failed());
            assert!(
                matches!(read, Err(Error::Damage(damage)) if (damage.offset, &*damage.file) == (7, "containers/1"))
            );
            assert!(there || disk.create(ASKED).is_ok());
        }
        assert!(matches!(unreadable(&Gone, failed()), Err(Error::Environment(Environment::Io { .. }))));
        // What was read and is wrong is damage on any disk, and what the machine lacks is none.
        let rotten: Result<()> = Err(crate::error::Damage::new("f", 1, "a", "b").into());
        assert!(matches!(unreadable(&Gone, rotten), Err(Error::Damage(damage)) if damage.offset == 1));
        let lacking: Result<()> = Err(io_error("read", "f", ErrorKind::OutOfMemory.into()));
        assert!(matches!(unreadable(&disk, lacking), Err(Error::Environment(_))));
    }
}
