//! The one place where what went wrong in storage becomes what NFS says of it (RFC 1813 section 2.6, `nfsstat3`).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use narrowboat_storage::error::{Environment, Error, Refusal};

use crate::said::Said;

/// `nfsstat3`: how an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// It was carried out.
    Ok = 0,
    /// Only the owner or root may do it.
    NotOwner = 1,
    /// No such file.
    NoEntry = 2,
    /// The hardware, or damage to what is stored.
    Io = 5,
    /// Permission denied.
    Access = 13,
    /// The name is taken.
    Exists = 17,
    /// Would cross into another file system.
    CrossDevice = 18,
    /// Not a directory.
    NotDirectory = 20,
    /// Is a directory.
    IsDirectory = 21,
    /// An argument that makes no sense, or does not fit the type of the file.
    Invalid = 22,
    /// The file would grow beyond the largest.
    FileTooBig = 27,
    /// No room.
    NoSpace = 28,
    /// The file system cannot be written.
    ReadOnly = 30,
    /// Too many hard links.
    TooManyLinks = 31,
    /// The name is too long.
    NameTooLong = 63,
    /// The directory has entries.
    NotEmpty = 66,
    /// The file that the handle names is gone.
    Stale = 70,
    /// The handle was never given out.
    BadHandle = 10001,
    /// A guarded SETATTR met another time.
    NotSync = 10002,
    /// The directory cookie was never given out.
    BadCookie = 10003,
    /// Not supported.
    NotSupported = 10004,
    /// Not even one entry fits into the size that the client gave.
    TooSmall = 10005,
    /// Our own fault.
    ServerFault = 10006,
    /// MKNOD cannot make this type.
    BadType = 10007,
    /// Not now; ask again later.
    Jukebox = 10008,
}

impl From<&Error> for Status {
    fn from(error: &Error) -> Status {
        match error {
            Error::Damage(_) => Status::Io,
            Error::Environment(environment) => match environment {
                Environment::Full => Status::NoSpace,
                Environment::Io { .. } if environment.may_pass() => Status::Jukebox,
                Environment::InUse(_) | Environment::Poisoned(_) | Environment::Io { .. } => Status::Io,
            },
            Error::Refused(refusal) => match refusal {
                Refusal::NotFound(_) => Status::NoEntry,
                Refusal::Exists(_) => Status::Exists,
                Refusal::NotDirectory => Status::NotDirectory,
                Refusal::IsDirectory => Status::IsDirectory,
                Refusal::NotEmpty => Status::NotEmpty,
                Refusal::Access => Status::Access,
                Refusal::NotPermitted => Status::NotOwner,
                Refusal::NameTooLong => Status::NameTooLong,
                Refusal::FileTooLarge => Status::FileTooBig,
                Refusal::TooManyLinks => Status::TooManyLinks,
                Refusal::Stale => Status::Stale,
                Refusal::ReadOnly => Status::ReadOnly,
                Refusal::CrossDataset => Status::CrossDevice,
                Refusal::BadCookie => Status::BadCookie,
                Refusal::NotSync => Status::NotSync,
                Refusal::WrongType | Refusal::Invalid(_) => Status::Invalid,
                Refusal::Unsupported(_) => Status::NotSupported,
                Refusal::Busy => Status::Jukebox,
            },
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let status = Status::from(&error);
        match &error {
            // A client learns only "I/O error"; a person must be able to learn the rest. Clients ask again and again.
            Error::Damage(damage) => {
                if let Some(left_out) = may_say(&error) {
                    tracing::error!(%damage, left_out, "damage met while serving NFS");
                }
            }
            Error::Environment(environment) => {
                if let Some(left_out) = may_say(&error) {
                    tracing::warn!(%environment, left_out, "the machine could not serve NFS");
                }
            }
            Error::Refused(_) => {}
        }
        status
    }
}

/// Whether the log is to say this, and then how much it left out before.
fn may_say(error: &Error) -> Option<u64> {
    static SAID: Mutex<Said> = Mutex::new(Said::new());
    SAID.lock().unwrap_or_else(PoisonError::into_inner).may_say(&error.to_string(), Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::error::Damage;
    use std::io;

    #[test]
    fn families_of_errors_become_statuses() {
        let io = |kind| Environment::Io { operation: "read", file: "f".into(), source: io::Error::from(kind) };
        let cases: Vec<(Error, Status)> = vec![
            (Damage::new("container/1", 0, "a", "b").into(), Status::Io),
            (Environment::Full.into(), Status::NoSpace),
            (Environment::Poisoned("x".into()).into(), Status::Io),
            (io(io::ErrorKind::PermissionDenied).into(), Status::Io),
            (io(io::ErrorKind::TimedOut).into(), Status::Jukebox),
            (Refusal::NotFound("x".into()).into(), Status::NoEntry),
            (Refusal::Access.into(), Status::Access),
            (Refusal::NotPermitted.into(), Status::NotOwner),
            (Refusal::CrossDataset.into(), Status::CrossDevice),
            (Refusal::WrongType.into(), Status::Invalid),
            (Refusal::Busy.into(), Status::Jukebox),
        ];
        for (error, status) in cases {
            assert_eq!(Status::from(&error), status, "{error}");
        }
    }
}
