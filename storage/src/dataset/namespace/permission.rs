//! Who may do what: POSIX mode bits, owners, groups, sticky and set-id bits, as Linux applies them.

use super::inode::{Body, Record};
use super::{Component, View};
use crate::dataset::{Access, Attributes, Credentials, FILE_BYTES_MAX};
use crate::error::{Refusal, Result};
use crate::units::Inode;

pub(super) const READ: u32 = 0o4;
pub(super) const WRITE: u32 = 0o2;
pub(super) const EXECUTE: u32 = 0o1;

pub(super) const SET_USER_ID: u32 = 0o4000;
pub(super) const SET_GROUP_ID: u32 = 0o2000;
const STICKY: u32 = 0o1000;
const GROUP_EXECUTE: u32 = 0o010;

/// True for the superuser.
pub(super) fn is_root(caller: &Credentials) -> bool {
    caller.uid == 0
}

/// True where the caller may act as the owner.
pub(super) fn owns(caller: &Credentials, record: &Record) -> bool {
    is_root(caller) || caller.uid == record.uid
}

/// True where the mode bits grant all of `wanted` (a sum of [`READ`], [`WRITE`] and [`EXECUTE`]). Exactly one of the
/// three classes counts: an owner without a right has not got it, even where everybody else has.
pub(super) fn grants(caller: &Credentials, record: &Record, wanted: u32) -> bool {
    if is_root(caller) {
        // The superuser executes what somebody may execute, and searches every directory.
        return wanted & EXECUTE == 0 || record.is_dir() || record.mode & 0o111 != 0;
    }
    let class = if caller.uid == record.uid {
        record.mode >> 6
    } else if caller.is_member(record.gid) {
        record.mode >> 3
    } else {
        record.mode
    };
    wanted & !class == 0
}

/// Refuses with `Access` what [`grants`] does not grant.
pub(super) fn require(caller: &Credentials, record: &Record, wanted: u32) -> Result<()> {
    if grants(caller, record, wanted) { Ok(()) } else { Err(Refusal::Access.into()) }
}

/// Walks into a directory: it must be there, be a directory, and be searchable by the caller.
pub(super) fn enter(view: &dyn View, caller: &Credentials, dir: Inode) -> Result<Record> {
    let record = Record::load(view, dir)?;
    if !record.is_dir() {
        return Err(Refusal::NotDirectory.into());
    }
    require(caller, &record, EXECUTE)?;
    Ok(record)
}

/// Refuses an entry's removal unless the directory may be changed, and, in a sticky directory, unless the caller owns
/// the file or the directory (`EACCES` comes before `EPERM`).
pub(super) fn require_removal(caller: &Credentials, dir: &Record, victim: &Record) -> Result<()> {
    require(caller, dir, WRITE | EXECUTE)?;
    if dir.mode & STICKY != 0 && !owns(caller, victim) && !owns(caller, dir) {
        return Err(Refusal::NotPermitted.into());
    }
    Ok(())
}

/// The mode without the bits that let others act as the file's owner or group. A set-group-id bit without group
/// execution is a mark for mandatory locking and stays where the caller is a member of the group.
pub(super) fn without_set_ids(caller: &Credentials, mode: u32, gid: u32) -> u32 {
    let mode = mode & !SET_USER_ID;
    if mode & GROUP_EXECUTE != 0 || !(is_root(caller) || caller.is_member(gid)) { mode & !SET_GROUP_ID } else { mode }
}

/// The mode as `caller` may set it on a file of group `gid`: set-group-id needs membership.
pub(super) fn settable(caller: &Credentials, mode: u32, gid: u32) -> u32 {
    if is_root(caller) || caller.is_member(gid) { mode } else { mode & !SET_GROUP_ID }
}

/// The mode of a new file that is no directory. In a set-group-id directory the group is the directory's, so a program
/// that would run as that group needs a creator who is a member of it.
pub(super) fn creatable(caller: &Credentials, mode: u32, dir: &Record) -> u32 {
    if dir.mode & SET_GROUP_ID != 0 && mode & GROUP_EXECUTE != 0 { settable(caller, mode, dir.gid) } else { mode }
}

/// Which of `wanted` the caller has (RFC 1813 section 3.3.4). Advice: the owner of a file may read and write it
/// regardless. Rights that mean nothing for the type are not granted.
pub fn access(view: &dyn View, caller: &Credentials, inode: Inode, wanted: Access) -> Result<Access> {
    let record = Record::load(view, inode)?;
    let rights: &[(Access, u32)] = if record.is_dir() {
        &[
            (Access::READ, READ),
            (Access::LOOKUP, EXECUTE),
            (Access::MODIFY, WRITE | EXECUTE),
            (Access::EXTEND, WRITE | EXECUTE),
            (Access::DELETE, WRITE | EXECUTE),
        ]
    } else {
        &[(Access::READ, READ), (Access::MODIFY, WRITE), (Access::EXTEND, WRITE), (Access::EXECUTE, EXECUTE)]
    };
    let granted = rights.iter().filter(|(_, bits)| grants(caller, &record, *bits)).map(|(right, _)| right.0);
    Ok(Access(wanted.0 & granted.fold(0, |all, right| all | right)))
}

/// The attributes of a regular file that the caller may read. The owner may always, and so may whoever may execute it:
/// the server cannot see whether an open came before a change of mode, or that the read loads a program (RFC 1813
/// section 4.4). Refused with `IsDirectory`, `WrongType` or `Access`.
pub fn allow_read(view: &dyn View, caller: &Credentials, inode: Inode) -> Result<Attributes> {
    let record = regular(view, inode)?;
    if !owns(caller, &record) && !grants(caller, &record, READ) {
        require(caller, &record, EXECUTE)?;
    }
    Ok(record.attributes(inode))
}

/// The attributes of a regular file that the caller may write up to byte `end`. The owner may always (RFC 1813 section
/// 4.4). Refused with `IsDirectory`, `WrongType`, `Access`, or `FileTooLarge`.
pub fn allow_write(view: &dyn View, caller: &Credentials, inode: Inode, end: u64) -> Result<Attributes> {
    Ok(writable(view, caller, inode, end)?.attributes(inode))
}

/// As [`allow_write`], with the record.
pub(super) fn writable(view: &dyn View, caller: &Credentials, inode: Inode, end: u64) -> Result<Record> {
    let record = regular(view, inode)?;
    if !owns(caller, &record) {
        require(caller, &record, WRITE)?;
    }
    if end > FILE_BYTES_MAX {
        return Err(Refusal::FileTooLarge.into());
    }
    Ok(record)
}

fn regular(view: &dyn View, inode: Inode) -> Result<Record> {
    let record = Record::load(view, inode)?;
    match record.body {
        Body::Regular { .. } => Ok(record),
        Body::Directory { .. } => Err(Refusal::IsDirectory.into()),
        _ => Err(Refusal::WrongType.into()),
    }
}

/// The name itself, where it is neither `.` nor `..`; those are refused with `dots`.
pub(super) fn plain<'a>(name: &'a [u8], dots: impl FnOnce(Component<'a>) -> Refusal) -> Result<&'a [u8]> {
    match Component::parse(name)? {
        Component::Normal(name) => Ok(name),
        other => Err(dots(other).into()),
    }
}
