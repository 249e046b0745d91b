//! How an array is, as the kernel says in `/sys/block/MD/md/`, and what that means in a sentence. Reads files and changes nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::describe::{Description, Member};
use crate::units::{ByteSize, duration};

/// Sectors of the kernel's files.
const SECTOR: u64 = 512;

/// How an array is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ArrayState {
    /// The kernel's name of it, such as md127.
    pub device: String,
    /// raid1, raid5, ...
    pub level: String,
    /// How many disks it is made of.
    pub disks: u32,
    /// How many of them are missing, or not rebuilt yet.
    pub degraded: u32,
    /// How it is: healthy, building, rebuilding, checking, degraded or broken.
    pub health: Health,
    /// What is under way: idle, resync, recover, check, ...
    pub action: String,
    /// Whether nothing begins by itself: before the first write after it was put together, or after an exchange of a disk was broken off.
    #[serde(default)]
    pub asleep: bool,
    /// How much of that is done, of each disk. Nothing where nothing is under way, or the kernel has not measured it yet.
    pub done_bytes: Option<u64>,
    /// Of how much.
    pub total_bytes: Option<u64>,
    /// How fast.
    pub bytes_per_second: Option<u64>,
    /// Places at which the last check found the disks to disagree, in bytes. Nothing where there was none since the array was put together.
    pub mismatch_bytes: Option<u64>,
    /// Its disks that the kernel knows.
    pub members: Vec<MemberState>,
    /// What somebody should know or do, a sentence each.
    pub advice: Vec<String>,
}

/// A disk of an array as the kernel sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct MemberState {
    /// The partition's name in the kernel.
    pub partition: String,
    /// Its slot; none where it has lost it.
    pub slot: Option<u32>,
    /// in_sync, faulty, spare, ... as the kernel says it.
    pub state: Vec<String>,
    /// Read errors that were mended from the other disks.
    pub errors: u64,
    /// Whether the disk is still there.
    pub present: bool,
    /// Its own number, where it was written down.
    #[serde(default)]
    pub serial: Option<String>,
}

/// How an array is, in a word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[schemars(rename = "ArrayHealth")]
pub enum Health {
    /// All disks are there and agree.
    #[default]
    Healthy,
    /// All are there and are being made to agree, after it was made or after a power cut.
    Building,
    /// Disks are compared.
    Checking,
    /// A new disk is being filled.
    Rebuilding,
    /// Disks are missing; all data is there.
    Degraded,
    /// More disks are missing than it can do without.
    Broken,
}

/// Reads how the array `device` is below `sys` (`/sys`); nothing where there is no such array.
pub fn read(sys: &Path, device: &str, description: Option<&Description>) -> Option<ArrayState> {
    let folder = sys.join("block").join(device).join("md");
    let text =
        |name: &str| fs::read_to_string(folder.join(name)).map(|text| text.trim().to_owned()).unwrap_or_default();
    let number = |name: &str| text(name).parse::<u64>().unwrap_or_default();
    let level = Some(text("level")).filter(|level| !level.is_empty())?;
    let completed = text("sync_completed");
    let (done, total) = completed.split_once('/').unwrap_or_default();
    let sectors = |text: &str| Some(text.trim().parse::<u64>().ok()?.saturating_mul(SECTOR));
    // Levels without redundancy have no such file.
    let action = Some(text("sync_action")).filter(|action| !action.is_empty()).unwrap_or_else(|| "idle".into());
    // What a first fill or a rebuild has counted says nothing of whether the disks agree.
    let checks = ["check", "repair"];
    let compared = checks.contains(&action.as_str()) || checks.contains(&text("last_sync_action").as_str());
    let mut state = ArrayState {
        device: device.to_owned(),
        level,
        disks: u32::try_from(number("raid_disks")).unwrap_or_default(),
        degraded: u32::try_from(number("degraded")).unwrap_or_default(),
        health: Health::Healthy,
        asleep: action == "frozen" || text("array_state") == "read-auto",
        action,
        done_bytes: sectors(done),
        total_bytes: sectors(total),
        // None, or nought, until some seconds have gone by.
        bytes_per_second: Some(number("sync_speed").saturating_mul(1024)).filter(|speed| *speed > 0),
        mismatch_bytes: compared.then(|| number("mismatch_cnt").saturating_mul(SECTOR)),
        members: members(&folder, description),
        advice: Vec::new(),
    };
    state.health = health(&state, &text("array_state"));
    state.advice = advice(&state, description);
    Some(state)
}

/// The array below a folder, through whatever lies between, as the kernel's name of it.
pub fn below(sys: &Path, folder: &Path) -> Option<String> {
    let device = fs::metadata(folder).ok()?.dev();
    let node = sys.join(format!("dev/block/{}:{}", rustix::fs::major(device), rustix::fs::minor(device)));
    array_of(&fs::canonicalize(node).ok()?, 0)
}

/// The first array at or below a device. Devices on devices are few; whoever has more is not followed.
fn array_of(device: &Path, depth: u32) -> Option<String> {
    if device.join("md").is_dir() {
        return Some(device.file_name()?.to_string_lossy().into_owned());
    }
    let slaves = fs::read_dir(device.join("slaves")).ok().filter(|_| depth < 8)?;
    let paths: Vec<PathBuf> = slaves.flatten().filter_map(|slave| fs::canonicalize(slave.path()).ok()).collect();
    paths.iter().find_map(|slave| array_of(slave, depth + 1))
}

fn members(folder: &Path, description: Option<&Description>) -> Vec<MemberState> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut members: Vec<MemberState> = entries
        .filter_map(|entry| {
            let partition = entry.file_name().to_str()?.strip_prefix("dev-")?.to_owned();
            let text = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default().trim().to_owned();
            let slot = text("slot").parse().ok();
            let known = |number: u32| description?.members.iter().find(|member| member.slot == number)?.serial.clone();
            Some(MemberState {
                slot,
                state: text("state").split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect(),
                errors: text("errors").parse().unwrap_or_default(),
                present: entry.path().join("block").exists(),
                serial: slot.and_then(known),
                partition,
            })
        })
        .collect();
    // The description names the one of the two that stays.
    let taken_over: Vec<u32> =
        members.iter().filter(|member| member.has("replacement")).filter_map(|member| member.slot).collect();
    for member in members.iter_mut().filter(|member| !member.has("replacement")) {
        member.serial = member.serial.take().filter(|_| !member.slot.is_some_and(|slot| taken_over.contains(&slot)));
    }
    members.sort_by(|a, b| (a.slot.is_none(), a.slot, &a.partition).cmp(&(b.slot.is_none(), b.slot, &b.partition)));
    members
}

impl MemberState {
    /// Whether all that it should have is on it.
    pub fn is_whole(&self) -> bool {
        self.has("in_sync") && !self.has("faulty")
    }

    /// Whether the kernel says that word of it.
    pub fn has(&self, word: &str) -> bool {
        self.state.iter().any(|state| state == word)
    }
}

impl ArrayState {
    /// How many disks of this array may be lost without losing data.
    pub fn may_lose(&self) -> u32 {
        match self.level.as_str() {
            "raid1" => self.disks.saturating_sub(1),
            "raid4" | "raid5" | "raid10" => 1,
            "raid6" => 2,
            _ => 0,
        }
    }

    /// How long what is under way will still take, at the present rate.
    pub fn seconds_left(&self) -> Option<f64> {
        let (left, rate) = (self.total_bytes?.saturating_sub(self.done_bytes?), self.bytes_per_second?);
        (left > 0 && rate > 0).then(|| left as f64 / rate as f64)
    }

    /// How far what is under way has come, in words.
    fn progress(&self) -> String {
        let percent = match (self.done_bytes, self.total_bytes) {
            (Some(done), Some(total)) if total > 0 => u128::from(done) * 100 / u128::from(total),
            _ => return "not measured yet".into(),
        };
        let left = self.seconds_left().map_or_else(String::new, |left| format!(", about {} left", duration(left)));
        match self.bytes_per_second {
            Some(rate) => format!("{percent} % at {}/s{left}", ByteSize(rate)),
            None => format!("{percent} %, its rate is not measured yet"),
        }
    }

    /// The slots that nobody is in who is whole.
    pub fn empty_slots(&self) -> Vec<u32> {
        let taken = |slot: u32| self.members.iter().any(|member| member.slot == Some(slot) && member.is_whole());
        (0..self.disks).filter(|slot| !taken(*slot)).collect()
    }
}

fn health(state: &ArrayState, array: &str) -> Health {
    // A mirror of many pairs may do without more disks than one, if they are of different pairs: the kernel says when it can't.
    let lost = state.degraded > state.may_lose() && state.level != "raid10";
    match state.action.as_str() {
        _ if lost || ["inactive", "clear", "suspended", "broken"].contains(&array) => Health::Broken,
        "recover" => Health::Rebuilding,
        _ if state.degraded > 0 => Health::Degraded,
        "resync" => Health::Building,
        "check" | "repair" => Health::Checking,
        _ => Health::Healthy,
    }
}

fn advice(state: &ArrayState, description: Option<&Description>) -> Vec<String> {
    let mut advice = Vec::new();
    let far = state.progress();
    let empty = state.empty_slots();
    let missing: Vec<String> = empty.iter().map(|slot| whose(*slot, description)).collect();
    let serial = empty.first().and_then(|slot| member_of(*slot, description)).and_then(|member| member.serial.clone());
    let names_one = |serial: &String| description.is_some_and(|all| all.numbered(serial).is_some());
    let named = serial.filter(names_one).unwrap_or_else(|| "missing".into());
    match state.health {
        Health::Broken => advice.push(format!(
            "more disks are missing than the array can do without: {}. Switch the box off, see to cables and power, and put back what was taken out; \
             if they are dead, make a new array and heal it from peers",
            missing.join(", ")
        )),
        Health::Degraded => advice.push(format!(
            "{} of {} disks missing: {}. All data is there{}. Put in a new disk, and run `narrowboat disks replace {named} NEW`",
            state.degraded,
            state.disks,
            missing.join(", "),
            spare_words(state)
        )),
        Health::Rebuilding if state.degraded == 0 => {
            advice.push(format!("a disk is being copied to its successor: {far}; nothing is missing meanwhile"));
        }
        Health::Rebuilding => advice.push(format!("a disk is being rebuilt: {far}. All data is there{}", spare_words(state))),
        Health::Building => advice.push(format!("the disks are being made to agree: {far}. The box can be used meanwhile")),
        Health::Checking => advice.push(format!("the disks are being compared: {far}")),
        Health::Healthy => {}
    }
    for member in state.members.iter().filter(|member| member.errors > 0) {
        let disk = member.serial.as_deref().unwrap_or(&member.partition);
        advice.push(format!(
            "the disk {disk} could not read {} places, which came from the others: replace it when that grows",
            member.errors
        ));
    }
    if state.action == "frozen" {
        advice.push("an exchange of a disk was broken off, and nothing is rebuilt until the same `narrowboat disks replace` is run again".into());
    }
    for member in state.members.iter().filter(|member| member.has("faulty") && member.present) {
        advice.push(format!("{} is no longer in use and may be pulled out", member.partition));
    }
    advice
}

fn spare_words(state: &ArrayState) -> &'static str {
    match state.may_lose().saturating_sub(state.degraded) {
        0 => "; if another disk is lost before that is mended, only peers have it",
        _ => "; another disk may still be lost",
    }
}

fn member_of(slot: u32, description: Option<&Description>) -> Option<&Member> {
    description?.members.iter().find(|member| member.slot == slot)
}

/// Which disk was in a slot, as a person finds it.
fn whose(slot: u32, description: Option<&Description>) -> String {
    match member_of(slot, description) {
        Some(Member { serial: Some(serial), model, .. }) => {
            let model = model.as_ref().map_or_else(String::new, |model| format!(", {model}"));
            format!("serial number {serial} (slot {slot}{model})")
        }
        _ => format!("the one of slot {slot}"),
    }
}

#[cfg(test)]
mod tests;
