//! GETATTR, SETATTR and ACCESS (RFC 1813 sections 3.3.1, 3.3.2, 3.3.4).

use narrowboat_storage::dataset::Access;

use super::super::status::Status;
use super::super::xdr::{Decoder, Encoder};
use super::{Context, Outcome};

/// What ACCESS never grants where nothing may change.
const CHANGING: u32 = Access::MODIFY.0 | Access::EXTEND.0 | Access::DELETE.0;
/// All rights that ACCESS knows.
const ALL_RIGHTS: u32 = CHANGING | Access::READ.0 | Access::LOOKUP.0 | Access::EXECUTE.0;

pub(super) fn getattr(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let result = cx.place(handle).and_then(|place| Ok(place.with(place.tree.attributes(place.inode)?)));
    match result {
        Ok(file) => {
            out.status(Status::Ok);
            out.attributes(&file);
            Ok(Status::Ok)
        }
        Err(status) => {
            out.status(status);
            Ok(status)
        }
    }
}

pub(super) fn setattr(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let set = args.set_attributes()?;
    let guard = args.optional(Decoder::time)?;
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => {
            out.status(status);
            out.unchanged(None);
            return Ok(status);
        }
    };
    if cx.remembered(&place).is_some() {
        out.status(Status::Ok);
        out.unchanged(place.attributes().as_ref());
        return Ok(Status::Ok);
    }
    let result = place.writable().and_then(|()| {
        let changed = place.tree.set_attributes(&cx.call(&place), place.inode, &set, guard)?;
        cx.owe(&place, changed.lsn);
        Ok(changed)
    });
    match result {
        Ok(changed) => {
            out.status(Status::Ok);
            out.changed(&changed, place.fsid);
            Ok(Status::Ok)
        }
        Err(status) => {
            out.status(status);
            out.unchanged(place.attributes().as_ref());
            Ok(status)
        }
    }
}

pub(super) fn access(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let handle = args.handle()?;
    let wanted = args.u32()? & ALL_RIGHTS;
    let place = match cx.place(handle) {
        Ok(place) => place,
        Err(status) => {
            out.status(status);
            out.post_attributes(None);
            return Ok(status);
        }
    };
    let wanted = if place.read_only() { wanted & !CHANGING } else { wanted };
    match place.tree.access(&place.caller, place.inode, Access(wanted)) {
        Ok(granted) => {
            out.status(Status::Ok);
            out.post_attributes(place.attributes().as_ref());
            out.u32(granted.0 & wanted);
            Ok(Status::Ok)
        }
        Err(error) => {
            let status = Status::from(error);
            out.status(status);
            out.post_attributes(place.attributes().as_ref());
            Ok(status)
        }
    }
}
