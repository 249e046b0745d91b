//! How many disks become one: which level, how much room that gives, and how many disks may be lost.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// The smallest disk that is worth it.
pub const SMALLEST_BYTES: u64 = 256 << 20;
/// The header of the encryption, as `cryptsetup` makes it.
const LUKS_BYTES: u64 = 16 << 20;
const MIB: u64 = 1 << 20;

/// How an array survives the loss of disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Redundancy {
    /// Not at all: one disk.
    None,
    /// Every byte is on two disks; with three disks on each of them.
    Mirror,
    /// What is on one disk can be computed from the others.
    Parity,
    /// What is on any two disks can be.
    DoubleParity,
}

/// How the kernel lays bytes out over the disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How it survives the loss of disks.
    pub redundancy: Redundancy,
    /// How many disks.
    pub disks: u32,
}

impl Redundancy {
    /// What so many disks become where nobody says otherwise.
    pub fn of_choice(disks: usize) -> Redundancy {
        match disks {
            0 | 1 => Redundancy::None,
            2 => Redundancy::Mirror,
            3 => Redundancy::Parity,
            _ => Redundancy::DoubleParity,
        }
    }

    fn fewest(self) -> usize {
        match self {
            Redundancy::None => 1,
            Redundancy::Mirror => 2,
            Redundancy::Parity => 3,
            Redundancy::DoubleParity => 4,
        }
    }
}

impl Layout {
    /// Of so many disks, or a sentence on why that can't be.
    pub fn new(redundancy: Redundancy, disks: usize) -> Result<Layout, String> {
        let fewest = redundancy.fewest();
        let name = redundancy.name();
        match u32::try_from(disks) {
            _ if redundancy == Redundancy::None && disks != 1 => {
                Err(format!("{name} is for one disk alone; name one, or choose a redundancy"))
            }
            _ if disks < fewest => Err(format!("{name} takes at least {fewest} disks, and {disks} were named")),
            Ok(disks) if disks <= 64 => Ok(Layout { redundancy, disks }),
            _ => Err("more than 64 disks in one array are not supported".into()),
        }
    }

    /// The kernel's level.
    pub fn level(self) -> u32 {
        match self.redundancy {
            Redundancy::None => 1,
            Redundancy::Mirror if self.disks <= 3 => 1,
            Redundancy::Mirror => 10,
            Redundancy::Parity => 5,
            Redundancy::DoubleParity => 6,
        }
    }

    /// How many disks may be lost, whichever they are.
    pub fn may_lose(self) -> u32 {
        match (self.redundancy, self.disks) {
            (Redundancy::None, _) => 0,
            (Redundancy::Mirror, 3) => 2,
            (Redundancy::Mirror | Redundancy::Parity, _) => 1,
            (Redundancy::DoubleParity, _) => 2,
        }
    }

    /// How the array knows after a power cut what was being written: its write-intent bitmap says which regions have to be compared; single parity logs what a
    /// stripe was, so that a power cut with a disk missing harms nothing that was not being written (the write hole).
    pub fn consistency(self) -> &'static str {
        match self.redundancy {
            Redundancy::Parity => "ppl",
            _ => "bitmap",
        }
    }

    /// How much of a disk is used: a little less than the smallest has, so that its successor may be a little smaller.
    pub fn member_bytes(smallest: u64) -> u64 {
        // The table of partitions takes a MiB at the front and one at the end.
        let usable = smallest.saturating_sub(2 * MIB);
        let spare = (smallest / 256).min(128 * MIB);
        (usable - spare.min(usable)) / MIB * MIB
    }

    /// About how much there is room for, before the file system takes its own.
    pub fn usable_bytes(self, member_bytes: u64, encrypted: bool) -> u64 {
        // What the kernel keeps for itself at the front of each disk.
        let own = (member_bytes / 1024).clamp(MIB, 128 * MIB) + MIB;
        let member = member_bytes.saturating_sub(own);
        let disks = u64::from(self.disks);
        let all = match self.redundancy {
            Redundancy::None => member,
            Redundancy::Mirror if self.disks <= 3 => member,
            Redundancy::Mirror => member * disks / 2,
            Redundancy::Parity => member * (disks - 1),
            Redundancy::DoubleParity => member * (disks - 2),
        };
        all.saturating_sub(if encrypted { LUKS_BYTES } else { 0 })
    }
}

impl Redundancy {
    /// As people say it.
    pub fn name(self) -> &'static str {
        match self {
            Redundancy::None => "no redundancy",
            Redundancy::Mirror => "a mirror",
            Redundancy::Parity => "single parity",
            Redundancy::DoubleParity => "double parity",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TB: u64 = 1_000_000_000_000;

    #[test]
    fn the_choice_by_number_keeps_what_one_disk_may_take() {
        for (disks, level, may_lose, consistency) in
            [(2, 1, 1, "bitmap"), (3, 5, 1, "ppl"), (4, 6, 2, "bitmap"), (12, 6, 2, "bitmap")]
        {
            let layout = Layout::new(Redundancy::of_choice(disks), disks).expect("can be");
            assert_eq!((layout.level(), layout.may_lose(), layout.consistency()), (level, may_lose, consistency));
        }
    }

    #[test]
    fn room_is_what_the_level_leaves() {
        let member = Layout::member_bytes(8 * TB);
        let about = |redundancy, disks, times: u64| {
            let usable = Layout::new(redundancy, disks).expect("can be").usable_bytes(member, true);
            let expected = times * 8 * TB;
            assert!(usable < expected && usable > expected - expected / 1000, "{redundancy:?} of {disks}: {usable}");
        };
        about(Redundancy::None, 1, 1);
        about(Redundancy::Mirror, 2, 1);
        about(Redundancy::Mirror, 3, 1);
        about(Redundancy::Mirror, 6, 3);
        about(Redundancy::Parity, 3, 2);
        about(Redundancy::DoubleParity, 6, 4);
    }

    #[test]
    fn a_successor_may_be_a_little_smaller() {
        // Disks of one nominal size differ by some MB from maker to maker.
        let first = Layout::member_bytes(4_000_787_030_016);
        assert!(Layout::member_bytes(4_000_753_475_584) + (64 << 20) >= first);
        assert!(first + 3 * MIB + (100 << 20) < 4_000_787_030_016);
        assert_eq!(Layout::member_bytes(0), 0);
    }

    #[test]
    fn what_can_not_be_has_a_sentence() {
        let refused = |redundancy, disks| Layout::new(redundancy, disks).expect_err("refused");
        assert!(refused(Redundancy::Mirror, 1).contains("at least 2 disks"));
        assert!(refused(Redundancy::Parity, 2).contains("at least 3 disks"));
        assert!(refused(Redundancy::DoubleParity, 3).contains("at least 4 disks"));
        assert!(refused(Redundancy::None, 2).contains("one disk alone"));
        assert!(refused(Redundancy::Mirror, 65).contains("64"));
    }
}
