//! READDIR and READDIRPLUS (RFC 1813 sections 3.3.16, 3.3.17).
//!
//! Cookies are stored with the entries and never change, so one cookie verifier, zero, is right for ever. A client that
//! brings another has it from another server, and is told to start again.
//!
//! Replies are filled up to the client's sizes to the byte: `count` and `maxcount` bound the whole result structure with
//! its XDR overhead, `dircount` the part that READDIR would have sent.

use narrowboat_storage::dataset::{DirEntry, FileType};
use narrowboat_storage::units::{Inode, Timestamp};

use super::super::handle::{HANDLE_BYTES, Region};
use super::super::status::Status;
use super::super::wire::{ATTRIBUTES_BYTES, TRANSFER_BYTES_MAX};
use super::super::xdr::{Decoder, Encoder, padding};
use super::place::{Place, SNAPSHOT_DIRECTORY, SNAPSHOT_INODE};
use super::{Context, Outcome};

/// Ends a listing where the virtual directory is listed: behind every stored cookie that a client with signed numbers
/// could bear.
const SNAPSHOT_COOKIE: u64 = 0x7fff_ffff_ffff_fff0;
/// Directory attributes, verifier, end of the list, end-of-directory flag.
const FRAME_BYTES: usize = 4 + ATTRIBUTES_BYTES + 8 + 4 + 4;
/// Another entry follows, file id, length of the name, cookie.
const ENTRY_BYTES: usize = 4 + 8 + 4 + 8;
/// What READDIRPLUS adds to an entry: attributes and a handle, each behind a flag, the handle with its length.
const PLUS_BYTES: usize = 4 + ATTRIBUTES_BYTES + 4 + 4 + HANDLE_BYTES;
/// Names are shorter than this on average; it decides how many entries the tree is asked for at once.
const NAME_BYTES_TYPICAL: usize = 16;
/// Most entries that the tree is asked for at once.
const BATCH_MAX: usize = 1024;

pub(super) fn readdir(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let (cookie, verifier) = (args.u64()?, args.u64()?);
    let count = args.u32()?;
    let limits = Limits { whole: count, names: u32::MAX, plus: false };
    list(cx, handle, cookie, verifier, limits, out)
}

pub(super) fn readdirplus(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let (cookie, verifier) = (args.u64()?, args.u64()?);
    let (names, whole) = (args.u32()?, args.u32()?);
    list(cx, handle, cookie, verifier, Limits { whole, names, plus: true }, out)
}

/// How much a client takes, in bytes.
#[derive(Clone, Copy)]
struct Limits {
    /// The whole result structure.
    whole: u32,
    /// File ids, names and cookies.
    names: u32,
    /// Whether attributes and handles are wanted.
    plus: bool,
}

fn list(cx: &Context, handle: &[u8], cookie: u64, verifier: u64, limits: Limits, out: &mut Encoder) -> Outcome {
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => {
            out.status(status);
            out.post_attributes(None);
            return Ok(status);
        }
    };
    let start = out.mark();
    out.status(Status::Ok);
    let result = if verifier != 0 && cookie != 0 {
        Err(Status::BadCookie)
    } else {
        write_listing(cx, &place, cookie, limits, out)
    };
    match result {
        Ok(()) => Ok(Status::Ok),
        Err(status) => {
            out.rewind(&start);
            out.status(status);
            out.post_attributes(place.attributes().as_ref());
            Ok(status)
        }
    }
}

/// Writes directory attributes, verifier, entries and the flag that says whether that was all.
fn write_listing(
    cx: &Context,
    place: &Place,
    mut cookie: u64,
    limits: Limits,
    out: &mut Encoder,
) -> Result<(), Status> {
    let own = place.tree.attributes(place.inode)?;
    if own.file_type != FileType::Directory {
        return Err(Status::NotDirectory);
    }
    let own = place.with(own);
    let mut whole = (limits.whole.min(TRANSFER_BYTES_MAX) as usize).checked_sub(FRAME_BYTES).ok_or(Status::TooSmall)?;
    let mut names = limits.names as usize;
    out.post_attributes(Some(&own));
    out.u64(0);
    let mut any = false;
    let end = loop {
        let (entries, end) = batch(place, cookie, whole, limits)?;
        let Some(last) = entries.last() else { break true };
        cookie = last.cookie;
        let mut full = false;
        for entry in &entries {
            let entry_bytes = ENTRY_BYTES + entry.name.len() + padding(entry.name.len());
            let with_plus = entry_bytes + if limits.plus { plus_bytes(place, entry) } else { 0 };
            if with_plus > whole || (any && entry_bytes > names) {
                full = true;
                break;
            }
            whole -= with_plus;
            names = names.saturating_sub(entry_bytes);
            any = true;
            write_entry(cx, place, entry, limits.plus, out);
        }
        if full || end {
            break !full;
        }
    };
    if !any && !end {
        return Err(Status::TooSmall);
    }
    out.bool(false);
    out.bool(end);
    Ok(())
}

/// The next entries behind `cookie`, about as many as fit, and whether nothing follows them.
fn batch(place: &Place, cookie: u64, room: usize, limits: Limits) -> Result<(Vec<DirEntry>, bool), Status> {
    let typical = ENTRY_BYTES + NAME_BYTES_TYPICAL + if limits.plus { PLUS_BYTES } else { 0 };
    let wanted = (room / typical + 1).min(BATCH_MAX);
    if cookie == SNAPSHOT_COOKIE {
        return Ok((Vec::new(), true));
    }
    let listing = place.tree.read_dir(&place.caller, place.inode, cookie, wanted)?;
    let (mut entries, mut end) = (listing.entries, listing.end);
    // A tree that has nothing more to give is at its end, whatever it says: anything else would ask for ever.
    end |= entries.is_empty();
    if end && place.has_snapshot_directory() && place.export.rules.show_snapshots {
        entries.push(snapshot_directory());
    }
    Ok((entries, end))
}

/// The listed form of the virtual directory. Its attributes are not sent with it: clients look it up.
fn snapshot_directory() -> DirEntry {
    let attributes = narrowboat_storage::dataset::Attributes {
        inode: SNAPSHOT_INODE,
        file_type: FileType::Directory,
        mode: 0o555,
        links: 2,
        uid: 0,
        gid: 0,
        size: 0,
        used: 0,
        device: (0, 0),
        accessed: Timestamp(0),
        modified: Timestamp(0),
        changed: Timestamp(0),
    };
    DirEntry { name: bytes::Bytes::from_static(SNAPSHOT_DIRECTORY), cookie: SNAPSHOT_COOKIE, attributes }
}

/// True for entries that lie in another tree than the directory: the client is to look them up.
fn elsewhere(place: &Place, entry: &DirEntry) -> bool {
    match place.region {
        Region::Live => entry.attributes.inode == SNAPSHOT_INODE,
        Region::SnapshotDirectory => &entry.name[..] != b".",
        Region::Snapshot(_) => place.inode == Inode::ROOT && &entry.name[..] == b"..",
    }
}

fn plus_bytes(place: &Place, entry: &DirEntry) -> usize {
    if elsewhere(place, entry) { 4 + 4 } else { PLUS_BYTES }
}

fn write_entry(cx: &Context, place: &Place, entry: &DirEntry, plus: bool, out: &mut Encoder) {
    out.bool(true);
    out.u64(entry.attributes.inode.0);
    out.opaque(&entry.name);
    out.u64(entry.cookie);
    if !plus {
        return;
    }
    if elsewhere(place, entry) {
        out.post_attributes(None);
        out.post_handle(None);
    } else {
        out.post_attributes(Some(&place.with(entry.attributes.clone())));
        out.post_handle(Some(&place.seal(cx.handles, entry.attributes.inode)));
    }
}
