//! A disk takes a place in an array: what is to be done next, by how its partition is in the kernel. A value; [`super::replace`] looks, asks, does it, and looks again.
//!
//! ```text
//! no partition ── Prepare ──▶ no member ── Add ──▶ spare ── Copy / Wake / Settle ──▶ has a slot: Done
//!                                ▲                                                       │
//!                                └──────────── Remove ◀── faulty, or gone meanwhile ◀────┘
//! ```
//!
//! * However far an earlier try came, the same command goes on from there, and ends in the same state.
//! * It is done only where the kernel says that the disk has a slot, in sync or being filled: never because it was asked for.

use super::describe::{Description, Member};
use super::facts::{Device, Facts, Found};
use super::state::{ArrayState, MemberState};

/// Who is to be replaced by its place, not by its number.
pub const MISSING: &str = "missing";

/// The disk that goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its slot; none where the kernel has taken it out of its slot already.
    pub slot: Option<u32>,
    /// Its partition, where it is still there.
    pub partition: Option<String>,
    /// Whether it still does its work, so that it can be copied.
    pub works: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Give the disk a partition of the array.
    Prepare,
    /// Have the kernel forget these, which are dead, gone, or not to be trusted any more.
    Remove(Vec<String>),
    /// Have it take this partition.
    Add(String),
    /// Have it copy one to the other, while the first still does its work.
    Copy {
        /// Who goes.
        from: String,
        /// Who takes its slot.
        to: String,
    },
    /// Have it begin what waits for a first write, or stands still since an exchange was broken off.
    Wake,
    /// Give it a moment.
    Settle,
    /// The disk is in this slot, in sync or being filled.
    Done(u32),
}

/// Finds out who is meant.
pub fn old(
    facts: &Facts,
    array: &Found,
    state: &ArrayState,
    description: Option<&Description>,
    named: &str,
) -> Result<Old, String> {
    let of = |member: &MemberState| Old {
        slot: member.slot,
        partition: member.present.then(|| format!("/dev/{}", member.partition)),
        works: member.is_whole() && member.present,
    };
    let slots = state.empty_slots();
    let gone = |slot: Option<u32>| Old { slot, partition: None, works: false };
    if named == MISSING {
        let slot =
            slots.first().ok_or("no disk is missing; name the one that is to go, by its path or serial number")?;
        return Ok(gone(Some(*slot)));
    }
    let meant = facts.disk(named);
    if let Ok(disk) = &meant {
        let on = |member: &&MemberState| disk.children.iter().any(|child| is(&child.path, member));
        if let Some(member) = state.members.iter().find(on) {
            return Ok(of(member));
        }
        // It was in the array, and the kernel has let go of it.
        if !slots.is_empty() && disk.children.iter().any(|child| child.array_id() == Some(&array.id)) {
            return Ok(gone(None));
        }
    }
    if let Some(member) = state.members.iter().find(|member| is(named, member)) {
        return Ok(of(member));
    }
    let described = description.and_then(|all| all.numbered(named)).filter(|member| slots.contains(&member.slot));
    match (described, meant) {
        (Some(member), _) => Ok(gone(Some(member.slot))),
        (None, Err(why)) if is_ambiguous(facts, named) => Err(why),
        _ => Err(format!(
            "no disk {named} is or was in the array; `narrowboat disks status` shows its disks, and `{MISSING}` means the one that is gone"
        )),
    }
}

fn is_ambiguous(facts: &Facts, named: &str) -> bool {
    facts.disks.iter().filter(|disk| disk.serial.as_deref().map(str::trim) == Some(named)).count() > 1
}

/// Whether a path is that of a member's partition.
fn is(path: &str, member: &MemberState) -> bool {
    path.strip_prefix("/dev/") == Some(member.partition.as_str())
}

/// What is to be done next for the disk `new` to take the place of `old` in an array whose device is `device`.
/// `old` says why where nobody is meant by the name that was given: after an exchange its old disk is known by no name.
pub fn next(
    state: &ArrayState,
    array: &Found,
    device: &str,
    new: &Device,
    old: &Result<Old, String>,
) -> Result<Next, String> {
    let Some(partition) = new.children.iter().find(|child| child.array_id() == Some(&array.id)) else {
        old.clone()?;
        return Ok(Next::Prepare);
    };
    let path = &partition.path;
    let member = state.members.iter().find(|member| is(path, member));
    // A disk that was pulled out and pushed in again may bear the name of itself, as which the kernel still knows it.
    let same = partition.children.iter().any(|on| on.path == device);
    match member {
        Some(member) if member.has("faulty") || !same => Ok(Next::Remove(vec![path.clone()])),
        Some(MemberState { slot: Some(slot), .. }) => in_slot(*slot, path, state, old),
        Some(_) => spare(path, state, old),
        None => {
            let old = old.clone()?;
            let dead = |member: &&MemberState| member.has("faulty") || !member.present;
            let dead: Vec<String> =
                state.members.iter().filter(dead).map(|member| format!("/dev/{}", member.partition)).collect();
            match dead.is_empty() {
                false => Ok(Next::Remove(dead)),
                true if old.works || !state.empty_slots().is_empty() => Ok(Next::Add(path.clone())),
                true => Err("no disk is missing, so there is no place to take".into()),
            }
        }
    }
}

/// It has a slot. That is the end of it, unless somebody else was to go.
fn in_slot(slot: u32, path: &str, state: &ArrayState, old: &Result<Old, String>) -> Result<Next, String> {
    let goes = old.as_ref().ok().filter(|old| old.works && old.partition.as_deref() != Some(path));
    if let Some(other) = goes.filter(|old| old.slot != Some(slot)) {
        let other = other.partition.as_deref().unwrap_or_default();
        return Err(format!(
            "{path} is in the array, in slot {slot}, which was empty or is its own, and can't take the place of {other}, too: that takes one more disk"
        ));
    }
    let filled = state.members.iter().any(|member| is(path, member) && member.is_whole());
    Ok(if state.asleep && !filled { Next::Wake } else { Next::Done(slot) })
}

/// The kernel has it and gives it no slot: an exchange was broken off, or it is about to give it one.
fn spare(path: &str, state: &ArrayState, old: &Result<Old, String>) -> Result<Next, String> {
    match old {
        Ok(Old { partition: Some(from), works: true, .. }) if from != path => {
            Ok(Next::Copy { from: from.clone(), to: path.to_owned() })
        }
        _ if !state.empty_slots().is_empty() => Ok(if state.asleep { Next::Wake } else { Next::Settle }),
        Ok(_) => Err(format!("{path} is a spare of the array, and no disk is missing: name the one that is to go")),
        Err(why) => Err(why.clone()),
    }
}

/// The disks that are in slots now, as far as the kernel shows them: of two in one slot the one that stays.
pub fn seen(facts: &Facts, state: &ArrayState, device: &str) -> Vec<Member> {
    let mut seen: Vec<Member> = Vec::new();
    let mut members: Vec<&MemberState> = state.members.iter().collect();
    members.sort_by_key(|member| !member.has("replacement"));
    for member in members.into_iter().filter(|member| member.present && !member.has("faulty")) {
        let holds = |disk: &&Device| {
            let same = |child: &Device| is(&child.path, member) && child.children.iter().any(|on| on.path == device);
            disk.children.iter().any(same)
        };
        let (Some(slot), Some(disk)) = (member.slot, facts.disks.iter().find(holds)) else { continue };
        if seen.iter().all(|other| other.slot != slot) {
            let text = |text: &Option<String>| text.as_deref().map(|text| text.trim().to_owned());
            let (serial, model) = (text(&disk.serial), text(&disk.model));
            seen.push(Member { slot, serial, model, size_bytes: disk.size_bytes });
        }
    }
    seen.sort_by_key(|member| member.slot);
    seen
}

#[cfg(test)]
mod tests;
