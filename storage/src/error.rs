//! What can go wrong, in three families that are never mixed.
//!
//! * [`Damage`]: bytes are not what they were. It names the file, the offset, what was expected and what was found.
//! * [`Environment`]: the machine could not do it. It says whether waiting helps.
//! * [`Refusal`]: a client, a peer or a person asked for something impossible. Protocols map each variant to a status
//!   of their own in one function.
//!
//! Our own mistakes are none of these: they are assertions, and out of reach of any client or peer.

use std::fmt;
use std::io;

use rustix::io::Errno;

/// The result of everything that can fail in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One failure, of one of three families.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Stored bytes are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// The machine below could not do it.
    #[error(transparent)]
    Environment(#[from] Environment),
    /// What was asked for is impossible, and nothing was changed.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Stored bytes are not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damage in {file} at byte {offset}: expected {expected}, found {found}")]
pub struct Damage {
    /// Path within the data folder.
    pub file: String,
    /// Byte offset within the file where the damaged unit begins.
    pub offset: u64,
    /// What a sound store has there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Damage {
    /// Names a damaged place; `expected` and `found` complete the sentence "expected …, found …".
    pub fn new(file: impl Into<String>, offset: u64, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Damage { file: file.into(), offset, expected: expected.to_string(), found: found.to_string() }
    }
}

/// The machine below could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Environment {
    /// No room is left on the disk, or in the reserve that is kept for deletion.
    #[error(
        "the disk is full: delete snapshots or datasets that nobody needs and run `narrowboat reclaim`, make the data folder's disk \
         larger, or remove what else is on it"
    )]
    Full,
    /// Another process has the data folder open.
    #[error("the data folder {0} is in use by another process")]
    InUse(String),
    /// An earlier sync failed; what it covered may be lost, so no later sync is believed. Restart to recover.
    #[error("an earlier write to disk failed ({0}); restart the box so that it recovers from its journal")]
    Poisoned(String),
    /// The operating system refused an operation on a file.
    #[error("{operation} {file}: {source}")]
    Io {
        /// What was tried: "read", "write", "sync", …
        operation: &'static str,
        /// Path within the data folder.
        file: String,
        /// The operating system's answer.
        source: io::Error,
    },
}

impl Environment {
    /// True where the same request may succeed later without a person doing anything but making room.
    pub fn may_pass(&self) -> bool {
        match self {
            Environment::Full | Environment::InUse(_) => true,
            Environment::Poisoned(_) => false,
            Environment::Io { source, .. } => {
                matches!(
                    source.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                )
            }
        }
    }

    /// True where the disk can't give back what lies on it: damage like any other, of what was read. What the machine lacks (memory, open
    /// files, rights) says nothing of what is kept.
    pub fn is_bad_medium(&self) -> bool {
        matches!(self, Environment::Io { operation: "read" | "open" | "measure", source, .. } if is_bad_medium(source))
    }
}

/// True for what systems say of a disk that does not do as it should, whatever was asked of it.
pub fn is_bad_medium(error: &io::Error) -> bool {
    let bad = |errno| {
        matches!(
            errno,
            Errno::IO
                | Errno::NXIO
                | Errno::NODEV
                | Errno::UCLEAN
                | Errno::BADMSG
                | Errno::NODATA
                | Errno::ILSEQ
                | Errno::REMOTEIO
        )
    };
    Errno::from_io_error(error).is_some_and(bad)
}

impl Error {
    /// True for what is wrong with what was read alone, and says nothing of the rest: damage, or a disk that can't give it back.
    pub fn is_of_one(&self) -> bool {
        match self {
            Error::Damage(_) => true,
            Error::Environment(error) => error.is_bad_medium(),
            Error::Refused(_) => false,
        }
    }

    /// The damage that this is, or comes to because the disk can't give something back that should be there.
    pub(crate) fn damage(&self, offset: u64, expected: impl fmt::Display) -> Option<Damage> {
        match self {
            Error::Damage(damage) => Some(damage.clone()),
            Error::Environment(bad @ Environment::Io { file, source, .. }) if bad.is_bad_medium() => {
                Some(Damage::new(file.as_str(), offset, expected, source))
            }
            _ => None,
        }
    }
}

/// What was asked for is impossible; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such file, dataset, snapshot or peer.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The name is taken.
    #[error("{0} exists already")]
    Exists(String),
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// Anything but a directory was needed.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The caller's credentials do not allow it (mode bits): POSIX `EACCES`.
    #[error("permission denied")]
    Access,
    /// Only the owner or root may do it: POSIX `EPERM`.
    #[error("operation not permitted")]
    NotPermitted,
    /// A name over 255 bytes, or a path or symlink target over 4096.
    #[error("name too long")]
    NameTooLong,
    /// Beyond the largest file, 16 TiB.
    #[error("file too large")]
    FileTooLarge,
    /// A link count would overflow.
    #[error("too many links")]
    TooManyLinks,
    /// The file handle named something that is gone.
    #[error("stale file handle")]
    Stale,
    /// Snapshots and replicas cannot be written.
    #[error("read-only")]
    ReadOnly,
    /// The operation would cross from one dataset into another.
    #[error("crosses datasets")]
    CrossDataset,
    /// A directory cookie that was never given out.
    #[error("bad directory cookie")]
    BadCookie,
    /// The guard time of a SETATTR did not match.
    #[error("changed meanwhile")]
    NotSync,
    /// Not possible for this type of file.
    #[error("wrong type of file")]
    WrongType,
    /// An argument outside its bounds; the text says which and what the bounds are.
    #[error("{0}")]
    Invalid(String),
    /// Written by a newer version, or needs a feature that this one lacks.
    #[error("{0}")]
    Unsupported(String),
    /// Too much under way at once; ask again later.
    #[error("busy, try again")]
    Busy,
}

/// Turns an I/O error into one that names the operation and the file. A full disk becomes [`Environment::Full`].
pub fn io_error(operation: &'static str, file: &str, source: io::Error) -> Error {
    if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return Environment::Full.into();
    }
    let file = if file.is_empty() { "the data folder" } else { file };
    Environment::Io { operation, file: file.to_owned(), source }.into()
}
