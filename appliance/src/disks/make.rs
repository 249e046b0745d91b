//! Makes an array, step by step as it was planned.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::choose;
use super::describe::{Description, Member};
use super::facts::{BEGUN, Facts, Found, MADE, OnArray};
use super::keys::{self, Auth};
use super::layout::Redundancy;
use super::luks::Kind;
use super::plan::{ArrayId, Chosen, FirstKey, Plan, Step};
use super::state::Health;
use super::tools::{Secret, facts, need, run, run_with, settle};
use super::tpm;
use super::{NOT_OPEN, OPENED, array_of, running, state_of};
use crate::control::Failed;
use crate::units::rfc3339;

/// The kind of partition that arrays lie in (GPT: Linux RAID).
const RAID_PARTITION: &str = "A19D880F-05FC-4D3B-A006-743F0F84911E";

/// What a plan needs besides.
pub struct Given<'a> {
    /// Where the array is to be mounted: the data folder.
    pub data: &'a Path,
    /// The passphrase, where one is to open it.
    pub passphrase: Option<Secret>,
    /// The recovery key, where it is encrypted.
    pub recovery: Option<Secret>,
    /// The registers of the TPM that have to be as they are now, as in "7" or "7+11".
    pub tpm_registers: String,
}

/// Looks, before anything is lost, whether all that is needed is there.
pub fn ready(plan: &Plan, given: &Given) -> Result<(), Failed> {
    need(&["mdadm", "sfdisk", "wipefs", "mkfs.ext4", "mount"])?;
    if plan.key != FirstKey::None {
        need(&["cryptsetup"])?;
    }
    if plan.key == FirstKey::Tpm {
        tpm::needed()?;
    }
    if given.data.join("store.format").exists() {
        return Err(Failed::refused(format!(
            "there is a box in {} already, and the array would hide it: move it away first, or choose another folder with --data",
            given.data.display()
        )));
    }
    look(plan, given.data)
}

/// Looks whether all is as it was when this was planned, and agreed to: the disks, what an earlier try left on them, and nothing of another array in the way.
fn look(plan: &Plan, data: &Path) -> Result<(), Failed> {
    let facts = facts()?;
    plan.disks.iter().try_for_each(|chosen| is_same(&facts, chosen))?;
    let left = |array: &Found| plan.unfinished.iter().any(|left| left.id == array.id);
    choose::in_the_way(&facts, data, left)?;
    plan.unfinished.iter().try_for_each(|left| may_be_cleared(&facts, left))
}

/// Whether what an earlier try left is still what it was. What can't be read for want of disks looks as if nothing had been made on it, and is not taken for that.
fn may_be_cleared(facts: &Facts, left: &Found) -> Result<(), Failed> {
    let now = facts.arrays().into_iter().find(|array| array.id == left.id);
    let broken = |on: &OnArray| state_of(on).is_none_or(|state| state.health == Health::Broken);
    match now {
        Some(now) if now != *left => Err(changed(&format!("the array {}", left.id))),
        Some(Found { device: Some(on), .. }) if on.label.is_none() && broken(&on) => Err(Failed::refused(format!(
            "the array {} can't be read, for too many of its disks are missing: put them back, or `narrowboat disks close --array {}` it and give it up",
            left.id, left.id
        ))),
        _ => Ok(()),
    }
}

fn changed(what: &str) -> Failed {
    Failed::refused(format!("{what} is another one now than when this was planned: begin again"))
}

/// Does what was planned, and tells each step before it is done.
pub fn make(plan: &Plan, given: &Given, tell: &mut dyn FnMut(&Step)) -> Result<(), Failed> {
    // The plan was agreed to a while ago.
    look(plan, given.data)?;
    let mut looked = false;
    for step in &plan.steps {
        tell(step);
        match step {
            Step::Unmount(at) => run("umount", &[at]).map(drop)?,
            Step::Close(device) => run("cryptsetup", &["close", name_of(device)]).map(drop)?,
            Step::Stop(device) => run("mdadm", &["--stop", device]).map(drop)?,
            Step::Erase(disk) => {
                if !std::mem::replace(&mut looked, true) {
                    plan.disks.iter().try_for_each(still_free)?;
                }
                erase(disk)?;
            }
            Step::Partition(disk) => partition(disk, plan.id, plan.member_bytes)?,
            Step::Create => create(plan)?,
            Step::Encrypt => encrypt(plan, given)?,
            Step::Format => format(plan)?,
            Step::Describe => describe(plan, given)?,
            Step::Keys => add_keys(plan, given)?,
            Step::Finish => finish(plan, given)?,
        }
    }
    Ok(())
}

fn name_of(device: &str) -> &str {
    device.rsplit('/').next().unwrap_or(device)
}

/// Refused where another disk has that path now.
fn is_same(facts: &Facts, chosen: &Chosen) -> Result<(), Failed> {
    let trimmed = |serial: &Option<String>| serial.as_deref().map(|serial| serial.trim().to_owned());
    let same = facts
        .at(&chosen.path)
        .is_some_and(|disk| (trimmed(&disk.serial), disk.size_bytes) == (chosen.serial.clone(), chosen.size_bytes));
    match same {
        true => Ok(()),
        false => Err(changed(&chosen.path)),
    }
}

/// The last look before anything is erased, once all that was left is cleared: refused where somebody has a disk open for himself: what is mounted, part of an array, or lent to a guest.
fn still_free(chosen: &Chosen) -> Result<(), Failed> {
    is_same(&facts()?, chosen)?;
    let alone = i32::try_from(rustix::fs::OFlags::EXCL.bits()).unwrap_or_default();
    match fs::OpenOptions::new().read(true).custom_flags(alone).open(&chosen.path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failed::refused(format!("{} is in use: {error}", chosen.path))),
    }
}

fn erase(disk: &str) -> Result<(), Failed> {
    // What partitions say they hold would be found again if the new one began at the same place.
    let facts = facts()?;
    let partitions = facts.at(disk).map(|disk| disk.children.clone()).unwrap_or_default();
    for partition in partitions.iter().filter(|child| child.kind == "part") {
        run("wipefs", &["--all", &partition.path])?;
    }
    run("wipefs", &["--all", "--force", disk])?;
    Ok(())
}

/// Gives a disk the one partition of an array.
pub(super) fn partition(disk: &str, id: ArrayId, bytes: u64) -> Result<(), Failed> {
    partition_named(disk, &id.partition_name(), bytes)
}

/// The same, by the name that partitions of the array have.
pub(super) fn partition_named(disk: &str, name: &str, bytes: u64) -> Result<(), Failed> {
    let kib = bytes >> 10;
    let table = format!("label: gpt\nstart=1MiB, size={kib}KiB, type={RAID_PARTITION}, name=\"{name}\"\n");
    run_with("sfdisk", &["--quiet", "--wipe", "always", "--wipe-partitions", "always", disk], table.as_bytes())?;
    settle();
    Ok(())
}

/// The one partition of a disk that was just given it.
pub(super) fn partition_of(disk: &str) -> Result<String, Failed> {
    let facts = facts()?;
    let partition = facts.at(disk).and_then(|disk| disk.children.first()).map(|child| child.path.clone());
    partition.ok_or_else(|| Failed::environment(format!("the kernel does not see the new partition of {disk}")))
}

fn create(plan: &Plan) -> Result<(), Failed> {
    let partitions: Vec<String> = plan.disks.iter().map(|disk| partition_of(&disk.path)).collect::<Result<_, _>>()?;
    let (uuid, level, count) = (
        format!("--uuid={}", plan.id.uuid()),
        format!("--level={}", plan.layout.level()),
        partitions.len().to_string(),
    );
    // A node of its own, for another array may be here.
    let node = format!("/dev/md/narrowboat-{}", plan.id.short());
    let mut args = vec!["--create", &node, "--run", "--metadata=1.2", "--homehost=any"];
    args.extend(["--name=narrowboat", &uuid, &level, "--raid-devices", &count]);
    match plan.layout.redundancy {
        // Without force, mdadm has parity computed by "rebuilding" the last disk, as if it had been missing.
        Redundancy::Parity => args.extend(["--consistency-policy=ppl", "--force"]),
        Redundancy::None => args.extend(["--bitmap=internal", "--force"]),
        Redundancy::Mirror | Redundancy::DoubleParity => args.push("--bitmap=internal"),
    }
    args.extend(partitions.iter().map(String::as_str));
    run("mdadm", &args)?;
    settle();
    Ok(())
}

fn array_now(plan: &Plan) -> Result<OnArray, Failed> {
    Ok(running(&array_of(&facts()?, &plan.id.short())?)?.clone())
}

fn encrypt(plan: &Plan, given: &Given) -> Result<(), Failed> {
    let array = array_now(plan)?;
    let (first, kind) = match (plan.key, &given.passphrase, &given.recovery) {
        (FirstKey::Passphrase, Some(passphrase), _) => (passphrase, Kind::Passphrase),
        (FirstKey::Tpm, _, Some(recovery)) => (recovery, Kind::Recovery),
        _ => return Err(Failed::refused("no key was given for the array")),
    };
    // AES-XTS with two keys of 256 bits; sectors of 4 KiB, as the store and the file system write.
    let mut args =
        vec!["luksFormat", "--batch-mode", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512"];
    args.extend(["--sector-size", "4096", "--label", BEGUN, "--key-file", "-"]);
    args.extend(keys::derivation(kind));
    args.push(&array.path);
    keys::ended_well(keys::by_key(&args, first)?, "the array can't be encrypted")?;
    keys::note(&array.path, 0, kind)?;
    let open = ["open", "--key-file", "-", &array.path, OPENED];
    keys::ended_well(keys::by_key(&open, first)?, "the new array does not open")?;
    settle();
    Ok(())
}

fn format(plan: &Plan) -> Result<(), Failed> {
    let array = array_now(plan)?;
    let (device, label) = match plan.key {
        FirstKey::None => (array.path, BEGUN),
        _ => (array.opened.ok_or_else(|| Failed::environment("the kernel does not show the opened array"))?, MADE),
    };
    // The store keeps a reserve of its own, and its files are large: no blocks for root, one inode for each MiB.
    run("mkfs.ext4", &["-q", "-F", "-m", "0", "-i", "1048576", "-L", label, &device])?;
    settle();
    Ok(())
}

fn describe(plan: &Plan, given: &Given) -> Result<(), Failed> {
    mount(&array_now(plan)?, &plan.id.short(), given.data)?;
    let member = |(slot, disk): (usize, &super::plan::Chosen)| Member {
        slot: u32::try_from(slot).unwrap_or(u32::MAX),
        serial: disk.serial.clone(),
        model: disk.model.clone(),
        size_bytes: disk.size_bytes,
    };
    let members = plan.disks.iter().enumerate().map(member).collect();
    let (made, encrypted) = (rfc3339(crate::clock::now()), plan.key != FirstKey::None);
    let description =
        Description::new(plan.id.uuid(), made, plan.layout.redundancy, encrypted, plan.member_bytes, members);
    // Until it is made to its end no box begins on it: what is made again is erased. A break after the mark leaves this behind, and `open` removes it.
    let unfinished = given.data.join(NOT_OPEN);
    let noted = fs::write(&unfinished, "The array was not made to its end: `narrowboat disks make`, once more\n");
    noted.map_err(|error| Failed::environment(format!("{}: {error}", unfinished.display())))?;
    let written = description.save(given.data);
    written.map_err(|error| Failed::environment(format!("the array can't be written: {error}")))
}

/// Mounts what lies on an array on the data folder.
pub(super) fn mount(array: &OnArray, id: &str, data: &Path) -> Result<(), Failed> {
    let device = array.opened.as_ref().unwrap_or(&array.path);
    let failed = |error| Failed::environment(format!("{}: {error}", data.display()));
    fs::create_dir_all(data).map_err(failed)?;
    // A box that starts while the array is not open would begin anew in the empty folder: this stops it, and says which array belongs here. The folder may be read-only.
    let _ = fs::write(data.join(NOT_OPEN), choose::note(id));
    run("mount", &["-o", "noatime,nodev,nosuid,noexec", device, &data.to_string_lossy()])?;
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(failed)
}

fn add_keys(plan: &Plan, given: &Given) -> Result<(), Failed> {
    let array = array_now(plan)?;
    match (plan.key, &given.passphrase, &given.recovery) {
        (FirstKey::Passphrase, Some(passphrase), Some(recovery)) => {
            keys::add(&array.path, &Auth::Secret(passphrase), recovery, Kind::Recovery).map(drop)
        }
        (FirstKey::Tpm, _, Some(recovery)) => tpm::seal(&array.path, recovery, &given.tpm_registers),
        _ => Ok(()),
    }
}

fn finish(plan: &Plan, given: &Given) -> Result<(), Failed> {
    let array = array_now(plan)?;
    match plan.key {
        FirstKey::None => run("e2label", &[&array.path, MADE])?,
        _ => run("cryptsetup", &["config", "--label", MADE, &array.path])?,
    };
    let unfinished = given.data.join(NOT_OPEN);
    fs::remove_file(&unfinished).map_err(|error| Failed::environment(format!("{}: {error}", unfinished.display())))?;
    settle();
    Ok(())
}
