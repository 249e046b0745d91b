//! `rename`: the one operation that touches up to four files.

use super::entry::{self, Entry};
use super::inode::{Body, Record};
use super::permission::{EXECUTE, WRITE, enter, plain, require, require_removal};
use super::unlink::{drop_empty_dir, drop_link, fewer_links};
use super::{Change, Effect, LINKS_MAX, Outcome, Table, View, damaged, totals};
use crate::dataset::Call;
use crate::error::{Refusal, Result};
use crate::units::{Inode, Timestamp};

/// The two names of a rename, as they are found.
struct Plan<'a> {
    from: Inode,
    from_name: &'a [u8],
    source_entry: Entry,
    source: Record,
    to: Inode,
    to_name: &'a [u8],
    target: Option<(Entry, Record)>,
}

/// Renames, replacing what the target name stood for (POSIX `rename`). Returns the changes of both directories: of the
/// old one and of the new one, the same twice where it is one. Two names of one file: nothing changes. Into its own
/// subtree: `Invalid`. Over one of its own ancestors: `NotEmpty`. Moves the `changed` of the file and both directories'
/// times; a directory that gets another parent needs to be writable itself, for its `..` changes.
pub fn rename(
    table: &mut dyn Table,
    call: &Call,
    (from, from_name): (Inode, &[u8]),
    (to, to_name): (Inode, &[u8]),
) -> Result<Outcome<(Change, Change)>> {
    let dots = |_| Refusal::Invalid("\".\" and \"..\" cannot be renamed".into());
    let from_record = enter(table, call.caller, from)?;
    let to_record = enter(table, call.caller, to)?;
    let from_name = plain(from_name, dots)?;
    let to_name = plain(to_name, dots)?;
    let plan = find(table, (from, from_name), (to, to_name))?;
    refuse_loops(table, &plan)?;
    if plan.target.as_ref().is_some_and(|(entry, _)| entry.inode == plan.source_entry.inode) {
        let unchanged = |dir: Inode, record: Record| {
            let before = record.attributes(dir);
            Change { after: before.clone(), before }
        };
        return Ok(Outcome::plain((unchanged(from, from_record), unchanged(to, to_record))));
    }
    check(call, &plan, &from_record, &to_record)?;
    apply(table, call.now, plan, from_record, to_record)
}

fn find<'a>(
    view: &dyn View,
    (from, from_name): (Inode, &'a [u8]),
    (to, to_name): (Inode, &'a [u8]),
) -> Result<Plan<'a>> {
    let source_entry = Entry::get(view, from, from_name)?;
    let source = Record::load_named(view, from, source_entry.inode)?;
    let target = match Entry::find(view, to, to_name)? {
        Some(entry) => Some((entry, Record::load_named(view, to, entry.inode)?)),
        None => None,
    };
    Ok(Plan { from, from_name, source_entry, source, to, to_name, target })
}

/// No directory may end up below itself, and none that holds the source can be replaced by it.
fn refuse_loops(view: &dyn View, plan: &Plan<'_>) -> Result<()> {
    if plan.from == plan.to {
        return Ok(());
    }
    if plan.source.is_dir() && is_within(view, plan.to, plan.source_entry.inode)? {
        return Err(Refusal::Invalid("a directory cannot be moved into itself".into()).into());
    }
    match &plan.target {
        Some((entry, target)) if target.is_dir() && is_within(view, plan.from, entry.inode)? => {
            Err(Refusal::NotEmpty.into())
        }
        _ => Ok(()),
    }
}

/// True where `dir` is `ancestor` or below it.
pub(super) fn is_within(view: &dyn View, dir: Inode, ancestor: Inode) -> Result<bool> {
    let mut steps_left = None;
    let mut current = dir;
    while current != ancestor {
        let Body::Directory { parent, .. } = Record::load_named(view, dir, current)?.body else {
            return Err(damaged(format_args!("inode {current}"), "a directory above a directory", "another type"));
        };
        if parent == current {
            return Ok(false);
        }
        // A way up that is longer than there are directories is a loop, which only damage makes.
        let left: u64 = match steps_left {
            Some(left) => left,
            None => totals::totals(view)?.directories,
        };
        steps_left = Some(left.checked_sub(1).ok_or_else(|| {
            damaged(format_args!("directory {dir}"), "the root above it", "directories that contain each other")
        })?);
        current = parent;
    }
    Ok(true)
}

/// Permissions and types, in the order of Linux's `vfs_rename`.
fn check(call: &Call, plan: &Plan<'_>, from: &Record, to: &Record) -> Result<()> {
    require_removal(call.caller, from, &plan.source)?;
    match &plan.target {
        None => require(call.caller, to, WRITE | EXECUTE)?,
        Some((_, target)) => {
            require_removal(call.caller, to, target)?;
            match (plan.source.is_dir(), target.is_dir()) {
                (true, false) => return Err(Refusal::NotDirectory.into()),
                (false, true) => return Err(Refusal::IsDirectory.into()),
                _ => {}
            }
        }
    }
    if plan.source.is_dir() && plan.from != plan.to {
        require(call.caller, &plan.source, WRITE)?;
        if plan.target.is_none() && to.links >= LINKS_MAX {
            return Err(Refusal::TooManyLinks.into());
        }
    }
    match &plan.target {
        Some((_, target)) if target.is_dir() && target.size > 0 => Err(Refusal::NotEmpty.into()),
        _ => Ok(()),
    }
}

fn apply(
    table: &mut dyn Table,
    now: Timestamp,
    plan: Plan<'_>,
    mut from_record: Record,
    to_record: Record,
) -> Result<Outcome<(Change, Change)>> {
    let Plan { from, from_name, source_entry, mut source, to, to_name, target } = plan;
    let befores = (from_record.attributes(from), to_record.attributes(to));
    // Within one directory there is one record, and both roles work on it.
    let mut other = (from != to).then_some(to_record);
    entry::take(table, from, &mut from_record, from_name, source_entry.cookie, now)?;
    if source.is_dir() && other.is_some() {
        from_record.links = fewer_links(from, from_record.links)?;
    }
    let to_record = other.as_mut().unwrap_or(&mut from_record);
    let effect = settle(table, now, (to, to_record), to_name, source_entry.inode, target)?;
    if let (Body::Directory { parent, .. }, true) = (&mut source.body, from != to) {
        to_record.links += 1;
        *parent = to;
    }
    source.changed = now;
    source.store(table, source_entry.inode);
    from_record.store(table, from);
    if let Some(record) = &other {
        record.store(table, to);
    }
    let from_change = Change { before: befores.0, after: from_record.attributes(from) };
    let to_change = Change { before: befores.1, after: other.as_ref().unwrap_or(&from_record).attributes(to) };
    Ok(Outcome { value: (from_change, to_change), effect })
}

/// Lets `name` stand for `source`: as a new entry, or in the place of `target`, which loses its name.
fn settle(
    table: &mut dyn Table,
    now: Timestamp,
    (dir, record): (Inode, &mut Record),
    name: &[u8],
    source: Inode,
    target: Option<(Entry, Record)>,
) -> Result<Option<Effect>> {
    let Some((old, target)) = target else {
        entry::add(table, dir, record, name, source, now)?;
        return Ok(None);
    };
    entry::replace(table, dir, record, name, Entry { inode: source, cookie: old.cookie }, now);
    if target.is_dir() {
        drop_empty_dir(table, (dir, record), old.inode, &target)?;
        return Ok(None);
    }
    drop_link(table, old.inode, target, now)
}
