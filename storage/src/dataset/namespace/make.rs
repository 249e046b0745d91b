//! Operations that make a new file, and the first file of all: the root.

use bytes::Bytes;

use super::entry::{self, Entry};
use super::inode::{Body, FIRST_COOKIE, INLINE_TARGET_BYTES_MAX, MODE_MASK, Record, TARGET_PIECE_BYTES};
use super::key::Key;
use super::permission::{self, EXECUTE, SET_GROUP_ID, WRITE, creatable, enter, is_root, require};
use super::totals::{self, Totals};
use super::value::tag;
use super::{Change, Effect, LINKS_MAX, NewEntry, Outcome, Table, View, attributes, shown};
use crate::dataset::{Call, Create, FILE_BYTES_MAX, Node, SetAttributes, SetTime, TARGET_BYTES_MAX};
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// Mode of a file whose creator names none: private to its owner until it says otherwise.
const FILE_MODE: u32 = 0o600;
/// Mode of a directory whose creator names none.
const DIR_MODE: u32 = 0o700;
/// What a new directory takes of the mode that its creator names; set-group-id comes from its parent, as on Linux.
const DIR_MODE_MASK: u32 = 0o1777;
/// Symlinks are open to everybody, as on every POSIX system.
const SYMLINK_MODE: u32 = 0o777;
/// The root directory of a new share: whoever may mount it may write, and nobody removes or renames what another user put
/// there. Who may mount is decided by networks (docs/decisions/0008-root-of-a-share.md).
const ROOT_MODE: u32 = 0o1777;

/// Writes the state of a new share into an empty table: the root directory, `rwxrwxrwt root:root`, and the totals.
pub fn format(table: &mut dyn Table, now: Timestamp) {
    let root = Record {
        mode: ROOT_MODE,
        links: 2,
        uid: 0,
        gid: 0,
        size: 0,
        accessed: now,
        modified: now,
        changed: now,
        body: Body::Directory { parent: Inode::ROOT, next_cookie: FIRST_COOKIE },
    };
    root.store(table, Inode::ROOT);
    table.put(Key::Totals.encode(), Totals { files: 0, directories: 1, logical_bytes: 0 }.encode());
}

/// Creates a regular file, or accepts the one that is there as `how` says (RFC 1813 section 3.3.8). An existing file
/// whose creation had the same verifier, and which nobody has changed since, is the answer to a repeated call.
pub fn create(table: &mut dyn Table, call: &Call, dir: Inode, name: &[u8], how: &Create) -> Result<Outcome<NewEntry>> {
    let record = enter(table, call.caller, dir)?;
    let name = permission::plain(name, |_| Refusal::Exists(shown(name)))?;
    if let Some(existing) = Entry::find(table, dir, name)? {
        return accept(table, call, (dir, &record), (name, existing.inode), how);
    }
    require(call.caller, &record, WRITE | EXECUTE)?;
    let (set, verifier) = match how {
        Create::Unchecked(set) | Create::Guarded(set) => (set.clone(), None),
        Create::Exclusive(verifier) => (SetAttributes::default(), Some(*verifier)),
    };
    let size = set.size.unwrap_or(0);
    if size > FILE_BYTES_MAX {
        return Err(Refusal::FileTooLarge.into());
    }
    let mode = creatable(call.caller, set.mode.unwrap_or(FILE_MODE) & MODE_MASK, &record);
    let mut file = fresh(call, &record, mode, &set, Body::Regular { used: 0, verifier });
    file.size = size;
    let mut made = insert(table, call, (dir, record), name, file)?;
    made.effect = (size > 0).then_some(Effect::Truncate { inode: made.value.file.inode, size });
    Ok(made)
}

/// A file of that name is there: what `how` makes of it.
fn accept(
    table: &mut dyn Table,
    call: &Call,
    (dir, dir_record): (Inode, &Record),
    (name, inode): (&[u8], Inode),
    how: &Create,
) -> Result<Outcome<NewEntry>> {
    let record = Record::load_named(table, dir, inode)?;
    let Body::Regular { verifier, .. } = record.body else {
        return Err(Refusal::Exists(shown(name)).into());
    };
    let before = dir_record.attributes(dir);
    let dir = Change { after: before.clone(), before };
    match how {
        Create::Unchecked(SetAttributes { size: Some(0), .. }) => {
            let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
            let Outcome { value, effect } = attributes::set_attributes(table, call, inode, &cut, None)?;
            Ok(Outcome { value: NewEntry { file: value.after, dir }, effect })
        }
        Create::Unchecked(_) => Ok(Outcome::plain(NewEntry { file: record.attributes(inode), dir })),
        Create::Exclusive(asked) if verifier == Some(*asked) => {
            Ok(Outcome::plain(NewEntry { file: record.attributes(inode), dir }))
        }
        Create::Guarded(_) | Create::Exclusive(_) => Err(Refusal::Exists(shown(name)).into()),
    }
}

/// Creates a directory. `set` may name mode and times, and by root's hand owner and group; so it may for the two below.
pub fn make_dir(
    table: &mut dyn Table,
    call: &Call,
    dir: Inode,
    name: &[u8],
    set: &SetAttributes,
) -> Result<Outcome<NewEntry>> {
    let (name, record) = vacancy(table, call, dir, name)?;
    if record.links >= LINKS_MAX {
        return Err(Refusal::TooManyLinks.into());
    }
    let mode = (set.mode.unwrap_or(DIR_MODE) & DIR_MODE_MASK) | (record.mode & SET_GROUP_ID);
    let body = Body::Directory { parent: dir, next_cookie: FIRST_COOKIE };
    let file = fresh(call, &record, mode, set, body);
    insert(table, call, (dir, record), name, file)
}

/// Creates a symlink to `target`: 1 to 4096 bytes without a zero byte, which are kept as they are. Its mode means
/// nothing and is always `rwxrwxrwx`.
pub fn make_symlink(
    table: &mut dyn Table,
    call: &Call,
    dir: Inode,
    name: &[u8],
    target: &[u8],
    set: &SetAttributes,
) -> Result<Outcome<NewEntry>> {
    if target.is_empty() || target.contains(&0) {
        return Err(Refusal::Invalid("a symlink's target has at least one byte, and no zero byte".into()).into());
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(Refusal::NameTooLong.into());
    }
    let (name, record) = vacancy(table, call, dir, name)?;
    let fits = target.len() <= INLINE_TARGET_BYTES_MAX;
    let body = Body::Symlink { inline: Bytes::copy_from_slice(if fits { target } else { b"" }) };
    let mut file = fresh(call, &record, SYMLINK_MODE, set, body);
    file.size = target.len() as u64;
    let made = insert(table, call, (dir, record), name, file)?;
    if !fits {
        for (piece, bytes) in (0u8..).zip(target.chunks(TARGET_PIECE_BYTES)) {
            table.put(Key::Target(made.value.file.inode, piece).encode(), [&[tag::TARGET], bytes].concat());
        }
    }
    Ok(made)
}

/// Creates a special file. Device nodes are made by root alone: others get `NotPermitted`.
pub fn make_node(
    table: &mut dyn Table,
    call: &Call,
    dir: Inode,
    name: &[u8],
    node: Node,
    set: &SetAttributes,
) -> Result<Outcome<NewEntry>> {
    let (name, record) = vacancy(table, call, dir, name)?;
    let body = match node {
        Node::BlockDevice(major, minor) => Body::BlockDevice(major, minor),
        Node::CharDevice(major, minor) => Body::CharDevice(major, minor),
        Node::Socket => Body::Socket,
        Node::Fifo => Body::Fifo,
    };
    if matches!(node, Node::BlockDevice(..) | Node::CharDevice(..)) && !is_root(call.caller) {
        return Err(Refusal::NotPermitted.into());
    }
    let mode = creatable(call.caller, set.mode.unwrap_or(FILE_MODE) & MODE_MASK, &record);
    let file = fresh(call, &record, mode, set, body);
    insert(table, call, (dir, record), name, file)
}

/// A place for a new entry: the directory can be searched, the name is free, and the directory can be changed. Linux
/// says `EEXIST` before it says `EACCES` of the directory's write permission.
pub(super) fn vacancy<'a>(view: &dyn View, call: &Call, dir: Inode, name: &'a [u8]) -> Result<(&'a [u8], Record)> {
    let record = enter(view, call.caller, dir)?;
    let name = permission::plain(name, |_| Refusal::Exists(shown(name)))?;
    if Entry::find(view, dir, name)?.is_some() {
        return Err(Refusal::Exists(shown(name)).into());
    }
    require(call.caller, &record, WRITE | EXECUTE)?;
    Ok((name, record))
}

/// The record of a new file: the caller's, or, where root makes it for somebody, that user's. The group is the caller's,
/// or in a set-group-id directory the directory's. An owner or group that anybody else names is passed over, as Linux's
/// server does: some clients always send them.
fn fresh(call: &Call, dir: &Record, mode: u32, set: &SetAttributes, body: Body) -> Record {
    let named = |id: Option<u32>| id.filter(|_| is_root(call.caller));
    let group = if dir.mode & SET_GROUP_ID != 0 { dir.gid } else { call.caller.gid };
    let time = |set: Option<SetTime>| match set {
        Some(SetTime::To(time)) => time,
        Some(SetTime::Now) | None => call.now,
    };
    Record {
        mode,
        links: if matches!(body, Body::Directory { .. }) { 2 } else { 1 },
        uid: named(set.uid).unwrap_or(call.caller.uid),
        gid: named(set.gid).unwrap_or(group),
        size: 0,
        accessed: time(set.accessed),
        modified: time(set.modified),
        changed: call.now,
        body,
    }
}

/// Gives the new file a number and puts it and its entry into the table.
fn insert(
    table: &mut dyn Table,
    call: &Call,
    (dir, mut dir_record): (Inode, Record),
    name: &[u8],
    file: Record,
) -> Result<Outcome<NewEntry>> {
    let before = dir_record.attributes(dir);
    let inode = table.next_inode();
    entry::add(table, dir, &mut dir_record, name, inode, call.now)?;
    dir_record.links += u32::from(file.is_dir());
    totals::follow(table, None, Some(&file))?;
    file.store(table, inode);
    dir_record.store(table, dir);
    let dir = Change { before, after: dir_record.attributes(dir) };
    Ok(Outcome::plain(NewEntry { file: file.attributes(inode), dir }))
}
