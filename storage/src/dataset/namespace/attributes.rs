//! Changing what a file is said to be: modes, owners, times, sizes, and what a write does to them.

use super::inode::{Body, MODE_MASK, Record};
use super::permission::{self, is_root, owns, require, settable, without_set_ids};
use super::{Change, Effect, Outcome, Table, totals};
use crate::dataset::{Call, Credentials, FILE_BYTES_MAX, SetAttributes, SetTime};
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// Sets attributes. With `guard`, refused with `NotSync` unless the file's `changed` is equal to it. Where `set` names
/// nothing, nothing changes.
///
/// * `size`: regular files, by whoever may write; the owner may always. Moves `modified` and `changed` even where the
///   size is the same, as POSIX asks of `ftruncate`.
/// * `mode`: by the owner. Set-group-id is dropped where the caller is no member of the group.
/// * `uid`: by root; an owner may "give" the file to itself. `gid`: by root, or by the owner to a group of its own.
///   Both clear the set-id bits of anything but a directory, unless root gives a mode in the same call.
/// * `accessed`, `modified`: to the time of the call by whoever may write, to a given time by the owner.
pub fn set_attributes(
    table: &mut dyn Table,
    call: &Call,
    inode: Inode,
    set: &SetAttributes,
    guard: Option<Timestamp>,
) -> Result<Outcome<Change>> {
    let mut record = Record::load(table, inode)?;
    if guard.is_some_and(|guard| guard != record.changed) {
        return Err(Refusal::NotSync.into());
    }
    let before = record.attributes(inode);
    if *set == SetAttributes::default() {
        return Ok(Outcome::plain(Change { after: before.clone(), before }));
    }
    check(call.caller, &record, set)?;
    let old = record.clone();
    apply(call, &mut record, set);
    totals::follow(table, Some(&old), Some(&record))?;
    record.store(table, inode);
    let effect = (record.size != old.size).then_some(Effect::Truncate { inode, size: record.size });
    Ok(Outcome { value: Change { before, after: record.attributes(inode) }, effect })
}

/// Refuses what the caller may not set. First what needs write permission (`EACCES`), then what only the owner or root
/// may do (`EPERM`): the order of Linux's server.
fn check(caller: &Credentials, record: &Record, set: &SetAttributes) -> Result<()> {
    let times = [set.accessed, set.modified];
    let given_time = times.iter().any(|time| matches!(time, Some(SetTime::To(_))));
    let only_now = !given_time && times.iter().any(Option::is_some);
    if set.size.is_some() {
        match record.body {
            Body::Regular { .. } => {}
            Body::Directory { .. } => return Err(Refusal::IsDirectory.into()),
            _ => return Err(Refusal::WrongType.into()),
        }
    }
    if (set.size.is_some() || only_now) && !owns(caller, record) {
        require(caller, record, permission::WRITE)?;
    }
    if set.size.is_some_and(|size| size > FILE_BYTES_MAX) {
        return Err(Refusal::FileTooLarge.into());
    }
    let own = caller.uid == record.uid;
    let uid_allowed = set.uid.is_none_or(|uid| is_root(caller) || (own && uid == record.uid));
    let gid_allowed =
        set.gid.is_none_or(|gid| is_root(caller) || (own && (caller.is_member(gid) || gid == record.gid)));
    let owner_allowed = (set.mode.is_none() && !given_time) || owns(caller, record);
    if uid_allowed && gid_allowed && owner_allowed { Ok(()) } else { Err(Refusal::NotPermitted.into()) }
}

/// Sets what [`check`] allowed.
fn apply(call: &Call, record: &mut Record, set: &SetAttributes) {
    let caller = call.caller;
    if let Some(size) = set.size {
        resize(record, size);
        record.modified = call.now;
        if !is_root(caller) {
            record.mode = without_set_ids(caller, record.mode, record.gid);
        }
    }
    let chown = (set.uid.is_some() || set.gid.is_some()) && !record.is_dir();
    if chown {
        record.mode = without_set_ids(caller, record.mode, record.gid);
    }
    record.uid = set.uid.unwrap_or(record.uid);
    record.gid = set.gid.unwrap_or(record.gid);
    if let Some(mode) = set.mode {
        let mode = settable(caller, mode & MODE_MASK, record.gid);
        // Whoever is not root must not hand out a program that runs as its new owner or group.
        record.mode = if chown && !is_root(caller) { without_set_ids(caller, mode, record.gid) } else { mode };
    }
    let time = |set: SetTime| match set {
        SetTime::Now => call.now,
        SetTime::To(time) => time,
    };
    record.accessed = set.accessed.map_or(record.accessed, time);
    record.modified = set.modified.map_or(record.modified, time);
    record.changed = call.now;
    forget_verifier(record);
}

/// Notes that `len` bytes at `offset` of a regular file were written: size, times, and the set-id bits, which a write by
/// anybody but root clears. Checks again all that [`super::allow_write`] does. A write of nothing changes nothing.
///
/// `holes_in` says how many of the bytes `[from, to)` of the file are holes before the write. It is asked only where the
/// file has any, and about no more than what is overwritten.
pub fn wrote(
    table: &mut dyn Table,
    call: &Call,
    inode: Inode,
    (offset, len): (u64, u64),
    holes_in: &dyn Fn(u64, u64) -> Result<u64>,
) -> Result<Outcome<Change>> {
    let end = offset.checked_add(len).ok_or(Refusal::FileTooLarge)?;
    let mut record = permission::writable(table, call.caller, inode, end)?;
    let before = record.attributes(inode);
    if len == 0 {
        return Ok(Outcome::plain(Change { after: before.clone(), before }));
    }
    let old = record.clone();
    record.size = record.size.max(end);
    totals::follow(table, Some(&old), Some(&record))?;
    if let Body::Regular { used, .. } = &mut record.body {
        let overwritten = offset.min(old.size)..end.min(old.size);
        let filled = match *used < old.size && !overwritten.is_empty() {
            true => holes_in(overwritten.start, overwritten.end)?,
            false => 0,
        };
        let appended = end - end.min(old.size.max(offset));
        *used = used.saturating_add(filled).saturating_add(appended).min(record.size);
    }
    if !is_root(call.caller) {
        record.mode = without_set_ids(call.caller, record.mode, record.gid);
    }
    (record.modified, record.changed) = (call.now, call.now);
    forget_verifier(&mut record);
    record.store(table, inode);
    Ok(Outcome::plain(Change { before, after: record.attributes(inode) }))
}

/// Sets the length of a regular file.
pub(super) fn resize(record: &mut Record, size: u64) {
    record.size = size;
    if let Body::Regular { used, .. } = &mut record.body {
        *used = (*used).min(size);
    }
}

/// From the first change on, a repeated exclusive creation can only be somebody else's: the client that made the file has
/// seen the answer.
fn forget_verifier(record: &mut Record) {
    if let Body::Regular { verifier, .. } = &mut record.body {
        *verifier = None;
    }
}
