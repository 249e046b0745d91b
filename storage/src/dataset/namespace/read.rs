//! Operations that change nothing: they work on a snapshot as on a live share.

use bytes::{Bytes, BytesMut};

use super::entry::{Entry, Listed};
use super::inode::{Body, INLINE_TARGET_BYTES_MAX, Record};
use super::key::{self, Key};
use super::permission::{self, enter, require};
use super::value::{self, Place, tag};
use super::{Component, View, damaged};
use crate::dataset::{Attributes, Credentials, DirEntry, Listing};
use crate::error::{Refusal, Result};
use crate::units::Inode;

/// Attributes of a file; refused with `Stale` where it is gone.
pub fn attributes(view: &dyn View, inode: Inode) -> Result<Attributes> {
    Ok(Record::load(view, inode)?.attributes(inode))
}

/// The file that `name` stands for in `dir`, `.` and `..` among them; `..` of the root is the root.
pub fn lookup(view: &dyn View, caller: &Credentials, dir: Inode, name: &[u8]) -> Result<Attributes> {
    let record = enter(view, caller, dir)?;
    let inode = match (Component::parse(name)?, &record.body) {
        (Component::Normal(name), _) => Entry::get(view, dir, name)?.inode,
        (Component::Parent, Body::Directory { parent, .. }) => *parent,
        (Component::Current | Component::Parent, _) => dir,
    };
    Ok(Record::load_named(view, dir, inode)?.attributes(inode))
}

/// The target of a symlink; refused with `WrongType` for anything else. Needs no permission, as in POSIX.
pub fn read_link(view: &dyn View, inode: Inode) -> Result<Bytes> {
    let record = Record::load(view, inode)?;
    let Body::Symlink { inline } = record.body else {
        return Err(Refusal::WrongType.into());
    };
    if record.size <= INLINE_TARGET_BYTES_MAX as u64 {
        return Ok(inline);
    }
    let mut target = BytesMut::new();
    for piece in 0..target_pieces(record.size) {
        let Some(value) = view.get(&Key::Target(inode, piece).encode())? else {
            return Err(damaged(Place::Target(inode), format_args!("piece {piece}"), "none"));
        };
        let bytes = value::decode(&value, tag::TARGET, Place::Target(inode), |reader| reader.take(reader.left()))?;
        target.extend_from_slice(&bytes);
    }
    if target.len() as u64 != record.size {
        return Err(damaged(Place::Target(inode), format_args!("{} bytes", record.size), target.len()));
    }
    Ok(target.freeze())
}

/// How many pieces of its own a target has.
pub(super) fn target_pieces(size: u64) -> u8 {
    if size <= INLINE_TARGET_BYTES_MAX as u64 {
        return 0;
    }
    // A record's size is at most 4096, so there are at most five.
    size.div_ceil(super::inode::TARGET_PIECE_BYTES as u64).min(u64::from(u8::MAX)) as u8
}

/// Lists the entries of `dir` behind `cookie`, at most `entries_max` of them, in the order of their cookies; `.` and
/// `..` have cookies 1 and 2, and 0 is the start. Refused with `BadCookie` for one that was never given out; one whose
/// entry is gone resumes behind where it was.
pub fn read_dir(view: &dyn View, caller: &Credentials, dir: Inode, cookie: u64, entries_max: usize) -> Result<Listing> {
    let record = Record::load(view, dir)?;
    let Body::Directory { parent, next_cookie } = record.body else {
        return Err(Refusal::NotDirectory.into());
    };
    require(caller, &record, permission::READ)?;
    if cookie >= next_cookie {
        return Err(Refusal::BadCookie.into());
    }
    let mut listing = Listing::default();
    let dots = [(1, &b"."[..], dir), (2, b"..", parent)];
    for (own, name, inode) in dots.into_iter().filter(|(own, ..)| *own > cookie).take(entries_max) {
        let attributes = Record::load_named(view, dir, inode)?.attributes(inode);
        listing.entries.push(DirEntry { name: Bytes::from_static(name), cookie: own, attributes });
    }
    let room = entries_max - listing.entries.len();
    let (from, to) = key::listing_behind(dir, cookie.max(2));
    let mut pairs = view.range(&from, &to, room.saturating_add(1))?;
    // One more than fits tells whether this is the end; where a dot did not fit, it is not.
    listing.end = pairs.len() <= room && cookie.min(2) + listing.entries.len() as u64 >= 2;
    pairs.truncate(room);
    for (key, value) in pairs {
        let Some(Key::Listed(_, own)) = Key::parse(&key) else {
            return Err(damaged(Place::Listed(dir), "a cookie as key", format_args!("{key:02x?}")));
        };
        let Listed { inode, name } = Listed::decode(dir, &value)?;
        let attributes = Record::load_named(view, dir, inode)?.attributes(inode);
        listing.entries.push(DirEntry { name, cookie: own, attributes });
    }
    Ok(listing)
}
