//! What an array is made of, written down on it: `array.json` in the data folder (docs/formats/array.md). It says which disk was in a slot when that disk is
//! no longer there to be asked.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::Redundancy;

/// The file's name in the data folder.
pub const FILE: &str = "array.json";
/// The version that this program writes, and the newest that it reads.
const VERSION: u32 = 1;

/// What an array is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// The version of this description.
    pub version: u32,
    /// The array's id, as `mdadm` writes it.
    pub id: String,
    /// When it was made, RFC 3339.
    pub made: String,
    /// How it survives the loss of disks.
    pub redundancy: Redundancy,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// How much of each disk is used.
    pub member_bytes: u64,
    /// Its disks.
    pub members: Vec<Member>,
}

/// A disk of an array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its place, as the kernel counts.
    pub slot: u32,
    /// Its own number.
    pub serial: Option<String>,
    /// What its maker calls it.
    pub model: Option<String>,
    /// Its size.
    pub size_bytes: u64,
}

impl Description {
    /// Describes an array that was just made.
    pub fn new(
        id: String,
        made: String,
        redundancy: Redundancy,
        encrypted: bool,
        member_bytes: u64,
        members: Vec<Member>,
    ) -> Self {
        Description { version: VERSION, id, made, redundancy, encrypted, member_bytes, members }
    }

    /// Reads the description in a data folder. None where there is none, or none that this program knows: it helps people, and nothing hangs on it.
    pub fn load(data: &Path) -> Option<Description> {
        let description: Description = serde_json::from_slice(&fs::read(data.join(FILE)).ok()?).ok()?;
        (description.version <= VERSION).then_some(description)
    }

    /// Writes it, whole or not at all.
    pub fn save(&self, data: &Path) -> io::Result<()> {
        let new = data.join(format!("{FILE}.new"));
        let mut file = File::create(&new)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        fs::rename(&new, data.join(FILE))?;
        File::open(data)?.sync_all()
    }

    /// Says which disks are in which slots now; whether that was news. Who is in a slot that nobody is seen in stays: that helps when a disk is gone. Unless he is seen in another one.
    pub fn refresh(&mut self, seen: &[Member]) -> bool {
        let before = self.members.clone();
        let elsewhere = |member: &Member| {
            let same = |other: &Member| {
                (&other.serial, &other.model, other.size_bytes) == (&member.serial, &member.model, member.size_bytes)
            };
            member.serial.is_some() && seen.iter().any(same)
        };
        self.members.retain(|member| seen.iter().all(|other| other.slot != member.slot) && !elsewhere(member));
        self.members.extend_from_slice(seen);
        self.members.sort_by_key(|member| member.slot);
        self.members != before
    }

    /// The disk with that number, where it is the only one.
    pub fn numbered(&self, serial: &str) -> Option<&Member> {
        let mut members = self.members.iter().filter(|member| member.serial.as_deref() == Some(serial));
        members.next().filter(|_| members.next().is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Description {
        let member =
            |slot, serial: &str| Member { slot, serial: Some(serial.into()), model: None, size_bytes: 1 << 40 };
        let members = vec![member(0, "A"), member(1, "B")];
        Description::new("id".into(), "2026-11-23T08:00:00Z".into(), Redundancy::Mirror, true, 1 << 39, members)
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut description = described();
        description.save(folder.path()).expect("written");
        let seen = [Member { slot: 0, serial: Some("C".into()), model: Some("M".into()), size_bytes: 2 << 40 }];
        assert!(description.refresh(&seen));
        assert!(!description.refresh(&seen), "that is no news");
        description.save(folder.path()).expect("written over");
        let read = Description::load(folder.path()).expect("read");
        assert_eq!(read, description);
        assert_eq!(read.members[0].serial.as_deref(), Some("C"));
        assert_eq!(read.members.len(), 2);
    }

    #[test]
    fn a_disk_that_came_back_into_another_slot_is_in_that_one_alone() {
        let mut description = described();
        assert!(description.refresh(&[Member { slot: 1, ..description.members[0].clone() }]));
        let slots: Vec<_> = description.members.iter().map(|member| (member.slot, member.serial.as_deref())).collect();
        assert_eq!(slots, [(1, Some("A"))], "B is not in slot 1 any more, and A not in slot 0");
        assert_eq!(description.numbered("A").map(|member| member.slot), Some(1));
        assert_eq!(description.numbered("B"), None);
    }

    #[test]
    fn one_number_of_two_disks_names_none_of_them() {
        let mut description = described();
        description.members[1].serial = Some("A".into());
        assert_eq!(description.numbered("A"), None);
    }

    #[test]
    fn what_is_torn_or_newer_is_no_description() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Description::load(folder.path()), None);
        fs::write(folder.path().join(FILE), b"{\"version\": 1").expect("written");
        assert_eq!(Description::load(folder.path()), None);
        let mut newer = described();
        newer.version = VERSION + 1;
        newer.save(folder.path()).expect("written");
        assert_eq!(Description::load(folder.path()), None);
    }

    #[test]
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../../docs/formats/array.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(FILE), example).expect("written");
        let description = Description::load(folder.path()).expect("read");
        assert_eq!((description.redundancy, description.members.len()), (Redundancy::Parity, 3));
    }
}
