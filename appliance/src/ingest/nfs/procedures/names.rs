//! LOOKUP, and everything that makes, removes or moves a name (RFC 1813 sections 3.3.3, 3.3.8 to 3.3.15).
//!
//! A call that the journal remembers from before a restart is not carried out again: its success is told once more,
//! from what the tree holds now. What was before the change is not known any more, so `wcc_data` leaves it out.

use narrowboat_storage::dataset::{Call, Changed, Create, Made, Node, TARGET_BYTES_MAX};
use narrowboat_storage::units::Inode;

use super::super::status::Status;
use super::super::wire;
use super::super::xdr::{Decoder, Encoder, Malformed};
use super::place::Place;
use super::{Context, Outcome};
use narrowboat_storage::dataset::FileType;

impl Context<'_> {
    /// What an earlier call with this tag made or changed, where the dataset's journal remembers it. The reply has to wait
    /// until that is stable: the earlier one may have failed because it was not.
    pub(super) fn remembered(&self, place: &Place) -> Option<Inode> {
        let tags = self.tags?;
        let (inode, lsn) = place.tree.remembered(&tags.now).or_else(|| place.tree.remembered(&tags.before))?;
        self.owe(place, lsn);
        Some(inode)
    }
}

pub(super) fn lookup(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    let place = match cx.place(dir) {
        Ok(place) => place,
        Err(status) => {
            out.status(status);
            out.post_attributes(None);
            return Ok(status);
        }
    };
    match place.lookup(name) {
        Ok(found) => {
            out.status(Status::Ok);
            out.opaque(&cx.handles.seal(&found.handle));
            out.post_attributes(Some(&found.attributes));
            out.post_attributes(place.attributes().as_ref());
            Ok(Status::Ok)
        }
        Err(status) => {
            out.status(status);
            out.post_attributes(place.attributes().as_ref());
            Ok(status)
        }
    }
}

pub(super) fn create(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    let how = match args.u32()? {
        0 => Create::Unchecked(args.set_attributes()?),
        1 => Create::Guarded(args.set_attributes()?),
        2 => Create::Exclusive(args.fixed()?),
        _ => return Err(Malformed),
    };
    make(cx, dir, name, out, |place, call| Ok(place.tree.create(call, place.inode, name, &how)?))
}

pub(super) fn mkdir(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    let set = args.set_attributes()?;
    make(cx, dir, name, out, |place, call| Ok(place.tree.make_dir(call, place.inode, name, &set)?))
}

pub(super) fn symlink(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    let set = args.set_attributes()?;
    let target = args.name()?;
    make(cx, dir, name, out, |place, call| {
        if target.len() > TARGET_BYTES_MAX {
            return Err(Status::NameTooLong);
        }
        Ok(place.tree.make_symlink(call, place.inode, name, target, &set)?)
    })
}

pub(super) fn mknod(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    let file_type = wire::file_type(args.u32()?)?;
    let device = matches!(file_type, FileType::BlockDevice | FileType::CharDevice);
    let pipe = matches!(file_type, FileType::Socket | FileType::Fifo);
    let set = if device || pipe { args.set_attributes()? } else { Default::default() };
    let (major, minor) = if device { (args.u32()?, args.u32()?) } else { (0, 0) };
    make(cx, dir, name, out, |place, call| {
        let node = match file_type {
            FileType::BlockDevice => Node::BlockDevice(major, minor),
            FileType::CharDevice => Node::CharDevice(major, minor),
            FileType::Socket => Node::Socket,
            FileType::Fifo => Node::Fifo,
            FileType::Regular | FileType::Directory | FileType::Symlink => return Err(Status::BadType),
        };
        Ok(place.tree.make_node(call, place.inode, name, node, &set)?)
    })
}

/// Makes one name in a directory and writes the results that CREATE, MKDIR, SYMLINK and MKNOD share.
fn make(
    cx: &Context,
    dir: &[u8],
    name: &[u8],
    out: &mut Encoder,
    act: impl FnOnce(&Place, &Call) -> Result<Made, Status>,
) -> Outcome {
    let place = match cx.place(dir) {
        Ok(place) => place,
        Err(status) => return fail(out, status, None),
    };
    if let Some(inode) = cx.remembered(&place) {
        let file = place.tree.attributes(inode).ok().map(|attributes| place.with(attributes));
        out.status(Status::Ok);
        out.post_handle(file.as_ref().map(|_| place.seal(cx.handles, inode)).as_ref().map(|handle| &handle[..]));
        out.post_attributes(file.as_ref());
        out.unchanged(place.attributes().as_ref());
        return Ok(Status::Ok);
    }
    let result = place.writable().and_then(|()| {
        place.check_new_name(name)?;
        let made = act(&place, &cx.call(&place))?;
        cx.owe(&place, made.dir.lsn);
        Ok(made)
    });
    match result {
        Ok(Made { file, dir }) => {
            out.status(Status::Ok);
            out.post_handle(Some(&place.seal(cx.handles, file.inode)));
            out.post_attributes(Some(&place.with(file)));
            out.changed(&dir, place.fsid);
            Ok(Status::Ok)
        }
        Err(status) => fail(out, status, Some(&place)),
    }
}

pub(super) fn remove(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    take_away(cx, dir, name, out, |place, call| Ok(place.tree.remove(call, place.inode, name)?))
}

pub(super) fn rmdir(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (dir, name) = (args.handle()?, args.name()?);
    take_away(cx, dir, name, out, |place, call| Ok(place.tree.remove_dir(call, place.inode, name)?))
}

/// Removes one name from a directory and writes the results that REMOVE and RMDIR share.
fn take_away(
    cx: &Context,
    dir: &[u8],
    name: &[u8],
    out: &mut Encoder,
    act: impl FnOnce(&Place, &Call) -> Result<Changed, Status>,
) -> Outcome {
    let place = match cx.place(dir) {
        Ok(place) => place,
        Err(status) => return fail(out, status, None),
    };
    if cx.remembered(&place).is_some() {
        return succeed_unchanged(out, &place);
    }
    let result = place.writable().and_then(|()| {
        place.check_old_name(name)?;
        let changed = act(&place, &cx.call(&place))?;
        cx.owe(&place, changed.lsn);
        Ok(changed)
    });
    match result {
        Ok(changed) => {
            out.status(Status::Ok);
            out.changed(&changed, place.fsid);
            Ok(Status::Ok)
        }
        Err(status) => fail(out, status, Some(&place)),
    }
}

fn succeed_unchanged(out: &mut Encoder, place: &Place) -> Outcome {
    out.status(Status::Ok);
    out.unchanged(place.attributes().as_ref());
    Ok(Status::Ok)
}

/// The results of a failed procedure that concerns one directory.
fn fail(out: &mut Encoder, status: Status, place: Option<&Place>) -> Outcome {
    out.status(status);
    out.unchanged(place.and_then(Place::attributes).as_ref());
    Ok(status)
}

pub(super) fn rename(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let (from_dir, from_name) = (args.handle()?, args.name()?);
    let (to_dir, to_name) = (args.handle()?, args.name()?);
    let (from, to) = match (cx.place(from_dir), cx.place(to_dir)) {
        (Ok(from), Ok(to)) => (from, to),
        (Err(status), to) => return fail_both(out, status, None, to.ok().as_ref()),
        (Ok(from), Err(status)) => return fail_both(out, status, Some(&from), None),
    };
    if cx.remembered(&from).is_some() {
        return fail_both(out, Status::Ok, Some(&from), Some(&to));
    }
    let result = same_tree(&from, &to).and_then(|()| {
        from.writable()?;
        from.check_old_name(from_name)?;
        to.check_old_name(to_name)?;
        let changed = from.tree.rename(&cx.call(&from), (from.inode, from_name), (to.inode, to_name))?;
        cx.owe(&from, changed.0.lsn.max(changed.1.lsn));
        Ok(changed)
    });
    match result {
        Ok((from_changed, to_changed)) => {
            out.status(Status::Ok);
            out.changed(&from_changed, from.fsid);
            out.changed(&to_changed, to.fsid);
            Ok(Status::Ok)
        }
        Err(status) => fail_both(out, status, Some(&from), Some(&to)),
    }
}

/// The results of a RENAME that changed nothing now.
fn fail_both(out: &mut Encoder, status: Status, from: Option<&Place>, to: Option<&Place>) -> Outcome {
    out.status(status);
    out.unchanged(from.and_then(Place::attributes).as_ref());
    out.unchanged(to.and_then(Place::attributes).as_ref());
    Ok(status)
}

/// Refuses what would cross from one tree into another.
fn same_tree(a: &Place, b: &Place) -> Result<(), Status> {
    if a.export.id == b.export.id && a.region == b.region { Ok(()) } else { Err(Status::CrossDevice) }
}

pub(super) fn link(cx: &Context, args: &mut Decoder, out: &mut Encoder) -> Outcome {
    let file = args.handle()?;
    let (dir, name) = (args.handle()?, args.name()?);
    let (file, dir) = match (cx.place(file), cx.place(dir)) {
        (Ok(file), Ok(dir)) => (file, dir),
        (Err(status), dir) => return fail_link(out, status, None, dir.ok().as_ref()),
        (Ok(file), Err(status)) => return fail_link(out, status, Some(&file), None),
    };
    if cx.remembered(&dir).is_some() {
        return fail_link(out, Status::Ok, Some(&file), Some(&dir));
    }
    let result = same_tree(&file, &dir).and_then(|()| {
        dir.writable()?;
        dir.check_new_name(name)?;
        let made = dir.tree.link(&cx.call(&dir), file.inode, dir.inode, name)?;
        cx.owe(&dir, made.dir.lsn);
        Ok(made)
    });
    match result {
        Ok(made) => {
            out.status(Status::Ok);
            out.post_attributes(Some(&file.with(made.file)));
            out.changed(&made.dir, dir.fsid);
            Ok(Status::Ok)
        }
        Err(status) => fail_link(out, status, Some(&file), Some(&dir)),
    }
}

/// The results of a LINK that changed nothing now.
fn fail_link(out: &mut Encoder, status: Status, file: Option<&Place>, dir: Option<&Place>) -> Outcome {
    out.status(status);
    out.post_attributes(file.and_then(Place::attributes).as_ref());
    out.unchanged(dir.and_then(Place::attributes).as_ref());
    Ok(status)
}
