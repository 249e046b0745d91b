//! Puts a new disk into an array, in the place of one that is dead, is gone, or is to go.

use std::path::Path;
use std::time::{Duration, Instant};

use super::describe::{Description, Member};
use super::facts::{Facts, Found, OnArray, PARTITION};
use super::make::{partition_named, partition_of};
use super::state::{self, ArrayState};
use super::tools::{facts, need, run, try_run};
use super::{SYS, plan, running, the_array};
use crate::control::Failed;

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

/// What was done.
pub struct Replaced {
    /// The new disk's path.
    pub disk: String,
    /// Whether it was in the array already.
    pub already: bool,
    /// How the array is now.
    pub state: Option<ArrayState>,
}

/// Finds out who is meant.
pub fn old(facts: &Facts, state: &ArrayState, description: Option<&Description>, named: &str) -> Result<Old, String> {
    let of = |member: &state::MemberState| Old {
        slot: member.slot,
        partition: member.present.then(|| format!("/dev/{}", member.partition)),
        works: member.is_whole() && member.present,
    };
    if let Some(disk) = facts.disk(named) {
        let on = |member: &&state::MemberState| {
            disk.children.iter().any(|child| child.path.strip_prefix("/dev/") == Some(member.partition.as_str()))
        };
        if let Some(member) = state.members.iter().find(on) {
            return Ok(of(member));
        }
    }
    if let Some(member) =
        state.members.iter().find(|member| Some(member.partition.as_str()) == named.strip_prefix("/dev/"))
    {
        return Ok(of(member));
    }
    let slots = state.empty_slots();
    if named == MISSING {
        let slot =
            slots.first().ok_or("no disk is missing; name the one that is to go, by its path or serial number")?;
        return Ok(Old { slot: Some(*slot), partition: None, works: false });
    }
    let described =
        description.and_then(|all| all.members.iter().find(|member| member.serial.as_deref() == Some(named)));
    match described {
        Some(member) if slots.contains(&member.slot) => {
            Ok(Old { slot: Some(member.slot), partition: None, works: false })
        }
        _ => Err(format!(
            "no disk {named} is or was in the array; `narrowboat disks status` shows its disks, and `{MISSING}` means the one that is gone"
        )),
    }
}

/// Puts the disk `new` in the place of `gone`. What it does not have is copied by the kernel, while the array is used.
pub fn replace(gone: &str, new: &str, overwrite: bool) -> Result<Replaced, Failed> {
    need(&["mdadm", "sfdisk", "wipefs"])?;
    let facts = facts()?;
    let array = the_array(&facts)?;
    let device = running(&array)?.clone();
    let description = device.mounted.as_ref().and_then(|at| Description::load(Path::new(at)));
    let (exchange, outgoing) = {
        let partition = array.partitions.iter().map(|path| size_of(&facts, path)).max().unwrap_or_default();
        let exchange = plan::exchange(&facts, &array, new, partition, overwrite).map_err(Failed::refused)?;
        if exchange.already.is_some() {
            return Ok(Replaced { disk: exchange.new.path, already: true, state: now(&device) });
        }
        let state = now(&device).ok_or_else(|| Failed::environment("the kernel does not say how the array is"))?;
        let outgoing = old(&facts, &state, description.as_ref(), gone).map_err(Failed::refused)?;
        (exchange, outgoing)
    };
    let disk = exchange.new.path.clone();
    let partition = prepare(&facts, &array, &disk)?;
    swap(&device, &outgoing, &partition)?;
    let member = |slot| Member {
        slot,
        serial: exchange.new.serial.clone(),
        model: exchange.new.model.clone(),
        size_bytes: exchange.new.size_bytes,
    };
    if let (Some(mut description), Some(at), Some(slot)) =
        (description, &device.mounted, slot_of(&device, &partition).or(outgoing.slot))
    {
        description.put(member(slot));
        let written = description.save(Path::new(at));
        written.map_err(|error| Failed::environment(format!("the array's description can't be written: {error}")))?;
    }
    Ok(Replaced { disk, already: false, state: now(&device) })
}

fn now(device: &OnArray) -> Option<ArrayState> {
    super::state_of(device)
}

fn size_of(facts: &Facts, partition: &str) -> u64 {
    let all = facts.disks.iter().flat_map(|disk| &disk.children);
    all.filter(|child| child.path == partition).map(|child| child.size_bytes).next().unwrap_or_default()
}

/// The new disk's partition. A disk that was in this array before keeps what it has: then only what changed since is copied.
fn prepare(facts: &Facts, array: &Found, disk: &str) -> Result<String, Failed> {
    let children = facts.disk(disk).map(|disk| disk.children.as_slice()).unwrap_or_default();
    if let Some(partition) = children.iter().find(|child| child.array_id() == Some(&array.id)) {
        return Ok(partition.path.clone());
    }
    for child in children.iter().filter(|child| child.kind == "part") {
        run("wipefs", &["--all", &child.path])?;
    }
    let bytes = array.partitions.iter().map(|path| size_of(facts, path)).max().unwrap_or_default();
    partition_named(disk, &format!("{PARTITION}{}", array.id), bytes)?;
    partition_of(disk)
}

fn swap(device: &OnArray, old: &Old, partition: &str) -> Result<(), Failed> {
    match (&old.partition, old.works) {
        (Some(old), true) => {
            run("mdadm", &[&device.path, "--add", partition])?;
            // Copied while the old one still does its work: nothing is missing meanwhile.
            run("mdadm", &[&device.path, "--replace", old, "--with", partition])?;
        }
        _ => {
            // Whoever is gone, or has failed, gives its place; if nobody does, it had given it before.
            let _ = try_run("mdadm", &[&device.path, "--fail", "detached"], &[])?;
            let _ = try_run("mdadm", &[&device.path, "--remove", "failed"], &[])?;
            let _ = try_run("mdadm", &[&device.path, "--remove", "detached"], &[])?;
            run("mdadm", &[&device.path, "--add", partition])?;
        }
    }
    Ok(())
}

/// The slot that the kernel gave to a partition. It does so soon after it was added.
fn slot_of(device: &OnArray, partition: &str) -> Option<u32> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let state = state::read(Path::new(SYS), device.path.strip_prefix("/dev/")?, None)?;
        let name = partition.strip_prefix("/dev/")?;
        let slot = state.members.iter().find(|member| member.partition == name).and_then(|member| member.slot);
        if slot.is_some() || Instant::now() > deadline {
            return slot;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
