//! Puts a new disk into an array, in the place of one that is dead, is gone, or is to go. What is done next is [`takeover`]'s word, asked anew after each step.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::choose::Own;
use super::describe::Description;
use super::facts::{Device, Facts, Found, OnArray, PARTITION};
use super::make::{partition_named, partition_of};
use super::state::ArrayState;
use super::takeover::{self, Next, seen};
use super::tools::{facts, need, run, try_run};
use super::{SYS, array_of, plan, running, state_of};
use crate::control::Failed;

/// How long the kernel may take to give the disk its slot.
const LONGEST: Duration = Duration::from_secs(60);

/// What was done.
pub struct Replaced {
    /// The new disk's path.
    pub disk: String,
    /// Whether it was in the array already.
    pub already: bool,
    /// How the array is now.
    pub state: Option<ArrayState>,
}

/// What one look shows.
struct View {
    facts: Facts,
    array: Found,
    device: OnArray,
    state: ArrayState,
}

impl View {
    fn of(facts: Facts, array: Found) -> Result<View, Failed> {
        let device = running(&array)?.clone();
        let state = state_of(&device).ok_or_else(|| Failed::environment("the kernel does not say how the array is"))?;
        Ok(View { facts, array, device, state })
    }

    fn again(&self) -> Result<View, Failed> {
        let facts = facts()?;
        let array = array_of(&facts, &self.array.id)?;
        View::of(facts, array)
    }

    fn disk(&self, path: &str) -> Result<&Device, Failed> {
        self.facts.at(path).ok_or_else(|| Failed::environment(format!("the disk {path} is no longer there")))
    }
}

/// Puts the disk `new` in the place of `gone`. What it does not have is copied by the kernel, while the array is used.
/// It can be run again, however far it came before.
pub fn replace(own: &Own, gone: &str, new: &str, overwrite: bool) -> Result<Replaced, Failed> {
    need(&["mdadm", "sfdisk", "wipefs"])?;
    let facts = facts()?;
    let array = own.choose(&facts)?;
    let mut view = View::of(facts, array)?;
    let disk = plan::exchange(&view.facts, &view.array, new, partition_bytes(&view), overwrite);
    let disk = disk.map_err(Failed::refused)?.path;
    let description = view.device.mounted.as_ref().and_then(|at| Description::load(Path::new(at)));
    let who = |view: &View| takeover::old(&view.facts, &view.array, &view.state, description.as_ref(), gone);
    let mut old = who(&view);
    let (deadline, mut already, mut complaint) = (Instant::now() + LONGEST, true, String::new());
    loop {
        let device = view.device.path.clone();
        let next = takeover::next(&view.state, &view.array, &device, view.disk(&disk)?, &old);
        let next = next.map_err(Failed::refused)?;
        if matches!(next, Next::Done(_)) {
            break;
        }
        if Instant::now() > deadline {
            return Err(too_long(&disk, &next, &complaint));
        }
        already &= next == Next::Settle;
        if let Err(failed) = step(&view, &disk, &next) {
            match next {
                // The kernel needs a moment to let go of a disk, and may be giving a spare its slot just now.
                Next::Remove(_) | Next::Copy { .. } => {
                    complaint = failed.message;
                    std::thread::sleep(Duration::from_millis(100));
                }
                _ => return Err(failed),
            }
        }
        view = view.again()?;
        // Whom the kernel still took for whole may have given his place by now.
        old = old.or_else(|_| who(&view));
    }
    write_down(&view.facts, &view.device)?;
    Ok(Replaced { disk, already, state: state_of(&view.device) })
}

fn step(view: &View, disk: &str, next: &Next) -> Result<(), Failed> {
    let device = view.device.path.as_str();
    match next {
        Next::Prepare => prepare(view, disk),
        Next::Remove(dead) => remove(device, dead),
        Next::Add(partition) => run("mdadm", &[device, "--add", partition]).map(drop),
        // Copied while the old one still does its work: nothing is missing meanwhile.
        Next::Copy { from, to } => run("mdadm", &[device, "--replace", from, "--with", to]).map(drop),
        Next::Wake => wake(view),
        Next::Settle | Next::Done(_) => {
            std::thread::sleep(Duration::from_millis(100));
            Ok(())
        }
    }
}

/// Says what is still to be done where the kernel takes longer than anybody waits.
fn too_long(disk: &str, next: &Next, complaint: &str) -> Failed {
    let waits = match next {
        Next::Settle => "the kernel has it and gives it no place yet, as while it rebuilds another one: it will by itself (`narrowboat disks status`)".to_owned(),
        Next::Wake => "the kernel holds everything back: see who works on the array (`cat /proc/mdstat`)".to_owned(),
        _ if complaint.is_empty() => "it was done again and again, and the kernel does not show it".to_owned(),
        _ => complaint.to_owned(),
    };
    Failed::environment(format!("{disk} has no place in the array yet: {waits}. Run it again, it goes on from here"))
}

/// Writes into the array's description who is in it, where it is mounted and that is news.
pub(super) fn write_down(facts: &Facts, device: &OnArray) -> Result<(), Failed> {
    let (Some(at), Some(state)) = (&device.mounted, state_of(device)) else { return Ok(()) };
    let Some(mut description) = Description::load(Path::new(at)) else { return Ok(()) };
    if !description.refresh(&seen(facts, &state, &device.path)) {
        return Ok(());
    }
    let written = description.save(Path::new(at));
    written.map_err(|error| Failed::environment(format!("the array's description can't be written: {error}")))
}

/// How large the partitions of the array are.
fn partition_bytes(view: &View) -> u64 {
    let all = view.facts.disks.iter().flat_map(|disk| &disk.children);
    let ours = all.filter(|child| view.array.partitions.contains(&child.path));
    ours.map(|child| child.size_bytes).max().unwrap_or_default()
}

/// Gives a new disk its partition. One that was in this array before keeps what it has: then only what changed since is copied.
fn prepare(view: &View, disk: &str) -> Result<(), Failed> {
    for child in view.disk(disk)?.children.iter().filter(|child| child.kind == "part") {
        run("wipefs", &["--all", &child.path])?;
    }
    partition_named(disk, &format!("{PARTITION}{}", view.array.id), partition_bytes(view))?;
    partition_of(disk).map(drop)
}

/// Has the kernel forget disks: by its own name of them, for who has that name in /dev may be another one by now.
fn remove(device: &str, dead: &[String]) -> Result<(), Failed> {
    for partition in dead {
        let name = partition.trim_start_matches("/dev/");
        let state = format!("{SYS}/block/{}/md/dev-{name}/state", device.trim_start_matches("/dev/"));
        // Who has failed already can't fail; who is in a slot has to.
        let _ = fs::write(&state, "faulty");
        let mut removed = Ok(());
        for _ in 0..20 {
            removed = fs::write(&state, "remove");
            if removed.is_ok() || !Path::new(&state).exists() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if Path::new(&state).exists() {
            removed.map_err(|error| Failed::environment(format!("{partition} is still held: {error}")))?;
        }
    }
    Ok(())
}

/// Has the kernel begin what it does not begin by itself.
fn wake(view: &View) -> Result<(), Failed> {
    // Refused where it may be written already.
    let _ = try_run("mdadm", &["--readwrite", &view.device.path], &[])?;
    let action = format!("{SYS}/block/{}/md/sync_action", view.state.device);
    fs::write(&action, "idle").map_err(|error| Failed::environment(format!("{action}: {error}")))?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_in_vain_is_told_for_what() {
        let said = |next: &Next, complaint: &str| too_long("/dev/sdd", next, complaint).message;
        assert!(said(&Next::Settle, "").contains("rebuilds another one"));
        assert!(said(&Next::Wake, "").contains("holds everything back"));
        let busy = said(&Next::Remove(vec!["/dev/sdd1".into()]), "/dev/sdd1 is still held: busy");
        assert_eq!(
            busy,
            "/dev/sdd has no place in the array yet: /dev/sdd1 is still held: busy. Run it again, it goes on from here"
        );
        assert!(!said(&Next::Prepare, "").contains("yet: ."));
    }
}
