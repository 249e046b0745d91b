//! From facts and a wish to a list of steps, or to a sentence on why not. Nothing here touches a disk.

use std::fmt;

use serde::Serialize;

use super::choose;
use super::facts::{Device, Facts, Found, PARTITION};
use super::layout::{Layout, Redundancy, SMALLEST_BYTES};
use crate::units::ByteSize;

/// The id of an array, of 128 bits: the kernel's UUID of it. Its first half is in the names of its partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArrayId(pub [u8; 16]);

/// What opens an array at first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstKey {
    /// This machine's TPM, by itself.
    Tpm,
    /// What is in a file.
    Passphrase,
    /// Nothing: it is not encrypted.
    None,
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Disks, by path or serial number.
    pub disks: Vec<String>,
    /// The redundancy, where it is not to be chosen by their number.
    pub redundancy: Option<Redundancy>,
    /// What is to open it.
    pub key: FirstKey,
    /// Whether what is on the disks may go. An array never goes for that.
    pub overwrite: bool,
    /// Ids of arrays that are given up with all that they hold, as somebody typed them.
    pub give_up: Vec<String>,
}

/// A disk of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Chosen {
    /// The path of its node.
    pub path: String,
    /// Its own number.
    pub serial: Option<String>,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its size.
    pub size_bytes: u64,
    /// What is on it and would be lost.
    pub loses: Option<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unmount what an earlier try left.
    Unmount(String),
    /// Close the decrypted device that it left.
    Close(String),
    /// Stop the array that it left.
    Stop(String),
    /// Forget what is on a disk.
    Erase(String),
    /// Give a disk its one partition.
    Partition(String),
    /// Make the disks one.
    Create,
    /// Encrypt it.
    Encrypt,
    /// Make a file system.
    Format,
    /// Mount it and write down what it is made of.
    Describe,
    /// Add the keys that it is to have besides.
    Keys,
    /// Say that it was made to its end.
    Finish,
}

/// An array that is to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its id.
    pub id: ArrayId,
    /// How bytes lie on its disks.
    pub layout: Layout,
    /// Its disks, in the order of their slots.
    pub disks: Vec<Chosen>,
    /// How much of each is used.
    pub member_bytes: u64,
    /// About how much room there will be.
    pub usable_bytes: u64,
    /// What is to open it.
    pub key: FirstKey,
    /// What is worth knowing before.
    pub notices: Vec<String>,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// What an earlier try left, and goes.
    pub unfinished: Vec<Found>,
}

impl ArrayId {
    /// As `mdadm` writes it.
    pub fn uuid(self) -> String {
        let word = |at: usize| self.0[at..at + 4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        [0, 4, 8, 12].map(word).join(":")
    }

    /// Its first half, as partitions are named.
    pub fn short(self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The name of each of its partitions.
    pub fn partition_name(self) -> String {
        format!("{PARTITION}{}", self.short())
    }
}

/// Plans an array of the disks that were asked for.
pub fn make(facts: &Facts, wish: &Wish, id: ArrayId) -> Result<Plan, String> {
    let disks = chosen(facts, wish)?;
    let redundancy = wish.redundancy.unwrap_or_else(|| Redundancy::of_choice(disks.len()));
    if disks.len() == 1 && wish.redundancy.is_none() {
        return Err(
            "one disk has no redundancy: when it dies, only peers have the data. Name more disks, or say `--redundancy none`"
                .into(),
        );
    }
    let layout = Layout::new(redundancy, disks.len())?;
    let smallest = disks.iter().map(|disk| disk.size_bytes).min().unwrap_or_default();
    if smallest < SMALLEST_BYTES {
        return Err(format!("a disk of {} is too small; {} are needed", ByteSize(smallest), ByteSize(SMALLEST_BYTES)));
    }
    let unfinished = what_is_in_the_way(facts, &disks, wish)?;
    let member_bytes = Layout::member_bytes(smallest);
    let chosen: Vec<Chosen> = disks.iter().map(|disk| choose(disk, &unfinished)).collect();
    Ok(Plan {
        id,
        layout,
        member_bytes,
        usable_bytes: layout.usable_bytes(member_bytes, wish.key != FirstKey::None),
        key: wish.key,
        notices: notices(&disks, layout, member_bytes, wish.key),
        steps: steps(&unfinished, &chosen, wish.key),
        unfinished,
        disks: chosen,
    })
}

/// The disks that a wish names, each once.
fn chosen<'a>(facts: &'a Facts, wish: &Wish) -> Result<Vec<&'a Device>, String> {
    let mut disks: Vec<&Device> = Vec::new();
    for named in &wish.disks {
        let disk = facts.disk(named)?;
        if disks.iter().any(|other| other.path == disk.path) {
            return Err(format!("the disk {named} was named twice"));
        }
        if disk.read_only {
            return Err(format!("the disk {named} can't be written"));
        }
        disks.push(disk);
    }
    if disks.is_empty() {
        return Err("no disk was named; `narrowboat disks list` shows those that there are".into());
    }
    Ok(disks)
}

/// What an earlier try left that was broken off; a refusal where there is anything else. An array that holds something, or may, goes only with its id typed.
fn what_is_in_the_way(facts: &Facts, disks: &[&Device], wish: &Wish) -> Result<Vec<Found>, String> {
    let (unfinished, given_up) = arrays_in_the_way(facts, disks, wish)?;
    let on = |disk: &Device, arrays: &[Found]| arrays.iter().any(|array| holds(disk, array));
    for disk in disks.iter().filter(|disk| !on(disk, &unfinished)) {
        if let Some(at) = disk.mounted() {
            return Err(format!("the disk {} is mounted at {at}; unmount it first, if it is the right one", disk.path));
        }
        if busy(disk) {
            return Err(format!(
                "the disk {} is part of something that runs; stop that first, if it is the right one",
                disk.path
            ));
        }
        if let (Some(used), false) = (disk.used(), wish.overwrite || on(disk, &given_up)) {
            return Err(format!("the disk {} is not empty ({used}); --overwrite gives up what is on it", disk.path));
        }
    }
    Ok(unfinished)
}

/// The arrays on these disks that were not made to their end, and those that somebody gives up.
fn arrays_in_the_way(facts: &Facts, disks: &[&Device], wish: &Wish) -> Result<(Vec<Found>, Vec<Found>), String> {
    let all = facts.arrays();
    let (mut unfinished, mut given_up) = (Vec::new(), Vec::new());
    for array in all.iter().filter(|array| disks.iter().any(|disk| holds(disk, array))) {
        let (id, here) = (&array.id, array.disks.join(", "));
        let of_these =
            |partition: &String| disks.iter().flat_map(|disk| &disk.children).any(|on| on.path == *partition);
        let begun = array.uuid.is_none() || array.made() == Some(false);
        let goes = || wish.give_up.iter().any(|typed| choose::named(&all, typed).is_ok_and(|named| named.id == *id));
        if array.held.is_some() {
            return Err(format!(
                "the array {id} is on these disks (its disks here: {here}), and the system holds them while it waits for others: `narrowboat disks close --array {id}` lets go of them first"
            ));
        } else if begun && array.partitions.iter().all(of_these) {
            unfinished.push(array.clone());
        } else if begun {
            return Err(format!("the array {id} was begun with other disks, too; name the same ones again"));
        } else if array.device.is_some() {
            return Err(format!(
                "the array {id} is on these disks, and running; to make another one of them, `narrowboat disks close --array {id}` it first"
            ));
        } else if goes() {
            given_up.push(array.clone());
        } else {
            return Err(format!(
                "the array {id} is on these disks (its disks here: {here}): `narrowboat disks open --array {id}` opens it; `--give-up {id}` gives up all that it holds"
            ));
        }
    }
    Ok((unfinished, given_up))
}

/// Whether a partition of the array is on the disk.
fn holds(disk: &Device, array: &Found) -> bool {
    disk.children.iter().any(|on| array.partitions.contains(&on.path))
}

/// Whether anything but a partition lies on it: an array, a decrypted device, a logical volume.
fn busy(device: &Device) -> bool {
    device.children.iter().any(|child| child.kind != "part" || busy(child))
}

fn choose(disk: &Device, unfinished: &[Found]) -> Chosen {
    let begun = unfinished.iter().any(|array| holds(disk, array));
    Chosen {
        path: disk.path.clone(),
        serial: disk.serial.as_deref().map(|serial| serial.trim().to_owned()),
        model: disk.model.as_deref().map(|model| model.trim().to_owned()),
        size_bytes: disk.size_bytes,
        loses: disk.used().filter(|_| !begun),
    }
}

fn notices(disks: &[&Device], layout: Layout, member_bytes: u64, key: FirstKey) -> Vec<String> {
    let mut notices = Vec::new();
    let largest = disks.iter().map(|disk| disk.size_bytes).max().unwrap_or_default();
    if largest - member_bytes.min(largest) > largest / 50 + (130 << 20) {
        notices.push(format!(
            "the disks are not of one size: of each {} are used, as the smallest has",
            ByteSize(member_bytes)
        ));
    }
    if layout.may_lose() == 0 {
        notices.push("there is no redundancy: when the disk dies, only peers have the data".into());
    }
    if layout.redundancy == Redundancy::Parity && layout.disks > 5 {
        notices.push(format!(
            "single parity of {} disks: while one is rebuilt, every sector of all others has to be readable; double parity is advised",
            layout.disks
        ));
    }
    if disks.iter().any(|disk| disk.serial.as_deref().is_none_or(|serial| serial.trim().is_empty())) {
        notices.push("a disk shows no serial number: label it, for messages can't say which one failed".into());
    }
    if disks.iter().any(|disk| disk.rotational) && disks.iter().any(|disk| !disk.rotational) {
        notices.push("disks that turn and disks that don't are mixed: all are as slow as the slowest".into());
    }
    if key == FirstKey::None {
        notices.push("it is not encrypted: who takes a disk can read what is on it".into());
    }
    notices
}

fn steps(unfinished: &[Found], disks: &[Chosen], key: FirstKey) -> Vec<Step> {
    let mut steps = Vec::new();
    for device in unfinished.iter().filter_map(|array| array.device.as_ref()) {
        steps.extend(device.mounted.clone().map(Step::Unmount));
        steps.extend(device.opened.clone().map(Step::Close));
        steps.push(Step::Stop(device.path.clone()));
    }
    steps.extend(disks.iter().map(|disk| Step::Erase(disk.path.clone())));
    steps.extend(disks.iter().map(|disk| Step::Partition(disk.path.clone())));
    steps.push(Step::Create);
    steps.extend((key != FirstKey::None).then_some(Step::Encrypt));
    steps.extend([Step::Format, Step::Describe]);
    steps.extend((key != FirstKey::None).then_some(Step::Keys));
    steps.push(Step::Finish);
    steps
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Unmount(at) => write!(f, "unmount {at}, which an earlier try left"),
            Step::Close(device) => write!(f, "close {device}, which an earlier try left"),
            Step::Stop(device) => write!(f, "stop {device}, which an earlier try left"),
            Step::Erase(disk) => write!(f, "erase what {disk} says it holds"),
            Step::Partition(disk) => write!(f, "give {disk} one partition"),
            Step::Create => f.write_str("make them one array (mdadm)"),
            Step::Encrypt => f.write_str("encrypt it (LUKS2)"),
            Step::Format => f.write_str("make a file system (ext4)"),
            Step::Describe => f.write_str("mount it and write down what it is made of"),
            Step::Keys => f.write_str("add the recovery key and what else opens it"),
            Step::Finish => f.write_str("mark it as made"),
        }
    }
}

/// Plans what a new disk has to be like to take a place in an array whose partitions are so large.
pub fn exchange(
    facts: &Facts,
    array: &Found,
    named: &str,
    partition_bytes: u64,
    overwrite: bool,
) -> Result<Chosen, String> {
    let disks = vec![named.to_owned()];
    let wish = Wish { disks, redundancy: None, key: FirstKey::None, overwrite, give_up: Vec::new() };
    let disks = chosen(facts, &wish)?;
    let disk = disks[0];
    // A partition of this array: it is or was in it, or an exchange was broken off.
    if disk.children.iter().any(|on| on.array_id() == Some(&array.id)) {
        return Ok(choose(disk, &[]));
    }
    if let Some(other) = disk.children.iter().find_map(Device::array_id) {
        return Err(format!(
            "the disk {named} is part of another array, {other}, which is not given up for a place in this one: where nobody needs it any more, `narrowboat disks close --array {other}` and `sfdisk --delete {}`",
            disk.path
        ));
    }
    let needed = partition_bytes + (2 << 20);
    if disk.size_bytes < needed {
        return Err(format!(
            "the disk {named} has {}, and {} are needed; take one at least as large as the others",
            ByteSize(disk.size_bytes),
            ByteSize(needed)
        ));
    }
    what_is_in_the_way(facts, &disks, &wish)?;
    Ok(choose(disk, &[]))
}

#[cfg(test)]
mod tests;
