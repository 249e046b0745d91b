//! READLINK, READ, WRITE and COMMIT (RFC 1813 sections 3.3.5 to 3.3.7, 3.3.21).
//!
//! The write verifier tells a client whether what it wrote since is lost. Which moment it is read at decides whether
//! that is true: WRITE reads it *before* the bytes are handed over, so that a loss afterwards shows as a change; COMMIT
//! reads it *after* all is stable, so that a loss before shows as a change. Read the other way round, a flush that
//! failed in between would go unnoticed, and the client would throw away its copy.

use narrowboat_storage::dataset::{Access, FILE_BYTES_MAX};

use super::super::status::Status;
use super::super::wire::{Stable, TRANSFER_BYTES_MAX};
use super::super::xdr::{Decoder, Encoder};
use super::place::Place;
use super::{Context, Outcome};

pub(super) fn readlink(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => return fail(out, status, None),
    };
    match place.tree.read_link(&place.caller, place.inode) {
        Ok(target) => {
            out.status(Status::Ok);
            out.post_attributes(place.attributes().as_ref());
            out.opaque(&target);
            Ok(Status::Ok)
        }
        Err(error) => fail(out, Status::from(error), Some(&place)),
    }
}

pub(super) fn read(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let (offset, count) = (args.u64()?, args.u32()?);
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => return fail(out, status, None),
    };
    match place.tree.read(&place.caller, place.inode, offset, count.min(TRANSFER_BYTES_MAX)) {
        Ok(data) => {
            let len: usize = data.pieces.iter().map(|piece| piece.len()).sum();
            out.status(Status::Ok);
            out.post_attributes(Some(&place.with(data.attributes)));
            out.u32(len as u32);
            out.bool(data.end);
            out.bulk(data.pieces);
            Ok(Status::Ok)
        }
        Err(error) => fail(out, Status::from(error), Some(&place)),
    }
}

/// The results of a failed procedure whose failure carries `post_op_attr`.
fn fail(out: &mut Encoder, status: Status, place: Option<&Place>) -> Outcome {
    out.status(status);
    out.post_attributes(place.and_then(Place::attributes).as_ref());
    Ok(status)
}

pub(super) fn write(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let (offset, count, stable) = (args.u64()?, args.u32()?, args.stable()?);
    let data = args.opaque_shared(TRANSFER_BYTES_MAX as usize)?;
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => return fail_change(out, status, None),
    };
    let verifier = place.tree.write_verifier();
    let result = place.writable().and_then(|()| {
        if data.len() != count as usize {
            return Err(Status::Invalid);
        }
        if offset.checked_add(u64::from(count)).is_none_or(|end| end > FILE_BYTES_MAX) {
            return Err(Status::FileTooBig);
        }
        if data.is_empty() {
            return write_nothing(&place).map(|()| None);
        }
        let mut changed = place.tree.write(&cx.call(&place), place.inode, offset, data)?;
        if stable != Stable::Unstable {
            let committed = place.tree.commit(place.inode)?;
            cx.owe(&place, committed.lsn);
            changed.after = committed.after;
        }
        Ok(Some(changed))
    });
    let changed = match result {
        Ok(changed) => changed,
        Err(status) => return fail_change(out, status, Some(&place)),
    };
    out.status(Status::Ok);
    match changed {
        Some(changed) => out.changed(&changed, place.fsid),
        None => out.unchanged(place.attributes().as_ref()),
    }
    out.u32(count);
    // DATA_SYNC is answered with FILE_SYNC: attributes travel in the same journal.
    out.u32(if stable == Stable::Unstable { Stable::Unstable } else { Stable::File } as u32);
    out.fixed(&verifier);
    Ok(Status::Ok)
}

/// A WRITE of no bytes succeeds where a real one would, and changes nothing, times included.
fn write_nothing(place: &Place) -> Result<(), Status> {
    let granted = place.tree.access(&place.caller, place.inode, Access::MODIFY)?;
    let owner = place.tree.attributes(place.inode)?.uid == place.caller.uid;
    if granted == Access::MODIFY || owner { Ok(()) } else { Err(Status::Access) }
}

pub(super) fn commit(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let (_offset, _count) = (args.u64()?, args.u32()?);
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => return fail_change(out, status, None),
    };
    match place.writable().and_then(|()| Ok(place.tree.commit(place.inode)?)) {
        Ok(committed) => {
            out.status(Status::Ok);
            out.changed(&committed, place.fsid);
            cx.owe_verifier(&place, committed.lsn, out.mark());
            out.fixed(&place.tree.write_verifier());
            Ok(Status::Ok)
        }
        Err(status) => fail_change(out, status, Some(&place)),
    }
}

/// The results of a failed procedure whose failure carries `wcc_data`.
fn fail_change(out: &mut Encoder, status: Status, place: Option<&Place>) -> Outcome {
    out.status(status);
    out.unchanged(place.and_then(Place::attributes).as_ref());
    Ok(status)
}
