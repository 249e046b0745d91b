//! FSSTAT, FSINFO and PATHCONF (RFC 1813 sections 3.3.18 to 3.3.20).

use narrowboat_storage::dataset::{FILE_BYTES_MAX, NAME_BYTES_MAX};

use super::super::status::Status;
use super::super::wire::{DIRECTORY_BYTES_PREFERRED, TRANSFER_BYTES_MAX};
use super::super::xdr::{Decoder, Encoder, Malformed};
use super::place::Place;
use super::{Context, Outcome};

/// How many files there could be: not limited but by room. A number that clients with 32 bits can show.
const FILES: u64 = u32::MAX as u64;
/// Most names of one file.
const LINKS_MAX: u32 = 65_000;
/// Sizes are best a multiple of this.
const TRANSFER_MULTIPLE: u32 = 4096;
/// Hard links, symlinks, the same for all files, times can be set (`FSF3_*`).
const PROPERTIES: u32 = 0x01 | 0x02 | 0x08 | 0x10;

pub(super) fn fsstat(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    answer(cx, args, out, |place, out| {
        let space = place.tree.space()?;
        out.status(Status::Ok);
        out.post_attributes(place.attributes().as_ref());
        for number in [space.total_bytes, space.free_bytes, space.free_bytes, FILES, FILES, FILES] {
            out.u64(number);
        }
        out.u32(0); // How long this stays true: not at all.
        Ok(())
    })
}

pub(super) fn fsinfo(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    answer(cx, args, out, |place, out| {
        let attributes = place.tree.attributes(place.inode)?;
        out.status(Status::Ok);
        out.post_attributes(Some(&place.with(attributes)));
        for _read_then_write in 0..2 {
            for number in [TRANSFER_BYTES_MAX, TRANSFER_BYTES_MAX, TRANSFER_MULTIPLE] {
                out.u32(number);
            }
        }
        out.u32(DIRECTORY_BYTES_PREFERRED);
        out.u64(FILE_BYTES_MAX);
        out.u32(0);
        out.u32(1); // Times are kept to the nanosecond.
        out.u32(PROPERTIES);
        Ok(())
    })
}

pub(super) fn pathconf(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    answer(cx, args, out, |place, out| {
        let attributes = place.tree.attributes(place.inode)?;
        out.status(Status::Ok);
        out.post_attributes(Some(&place.with(attributes)));
        out.u32(LINKS_MAX);
        out.u32(NAME_BYTES_MAX as u32);
        out.bool(true); // Too long a name is refused, not cut.
        out.bool(true); // Only root gives files away.
        out.bool(false); // Not case insensitive…
        out.bool(true); // …and case preserving.
        Ok(())
    })
}

/// Reads the one argument of these procedures, and writes what they share in failure.
fn answer(
    cx: &Context,
    args: &mut Decoder,
    out: &mut Encoder,
    succeed: impl FnOnce(&Place, &mut Encoder) -> Result<(), Status>,
) -> Result<Status, Malformed> {
    let handle = args.handle()?;
    let place = cx.place(handle);
    let (status, place) = match &place {
        Ok(place) => match succeed(place, out) {
            Ok(()) => return Ok(Status::Ok),
            Err(status) => (status, Some(place)),
        },
        Err(status) => (*status, None),
    };
    out.status(status);
    out.post_attributes(place.and_then(Place::attributes).as_ref());
    Ok(status)
}
