//! What a partition says of the array that it is in: the kernel's superblock (metadata 1.2) at its fourth KiB, as far as it tells how many disks there should be. It is read only.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where it lies in the partition.
const AT: u64 = 4096;
const BYTES: usize = 4096;
const MAGIC: u32 = 0xa92b_4efc;
/// Roles from here on are no slots: spare, failed, journal.
const NO_SLOT: u16 = 0xff00;

/// One disk's view of its array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// How often the array had changed when this was written: who has more, knows more.
    events: u64,
    /// The disk's number, by which `roles` speaks of it.
    number: usize,
    /// What each disk is: a slot, or nothing.
    roles: Vec<u16>,
}

/// How many of the disks that an array was made of lately are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// Those that are.
    pub here: usize,
    /// Of how many.
    pub of: usize,
}

impl Superblock {
    /// Reads that of a partition; nothing where it has none.
    pub fn read(partition: &str) -> Option<Superblock> {
        let mut bytes = [0; BYTES];
        File::open(partition).ok()?.read_exact_at(&mut bytes, AT).ok()?;
        Superblock::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Option<Superblock> {
        let word = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if (word(0)?, word(4)?) != (MAGIC, 1) {
            return None;
        }
        let events = u64::from_le_bytes(bytes.get(200..208)?.try_into().ok()?);
        let (number, count) = (usize::try_from(word(160)?).ok()?, usize::try_from(word(220)?).ok()?);
        let roles = bytes.get(256..)?.chunks_exact(2).take(count).map(|role| u16::from_le_bytes([role[0], role[1]]));
        Some(Superblock { events, number, roles: roles.collect() })
    }
}

/// Counts the disks that are here, by what the one that knows most says. Who had failed before is not waited for.
pub fn census(disks: &[Superblock]) -> Option<Census> {
    let newest = disks.iter().max_by_key(|disk| disk.events)?;
    let has_slot = |number: usize| newest.roles.get(number).is_some_and(|role| *role < NO_SLOT);
    let of = (0..newest.roles.len()).filter(|number| has_slot(*number)).count();
    let mut here: Vec<usize> = disks.iter().map(|disk| disk.number).filter(|number| has_slot(*number)).collect();
    here.sort_unstable();
    here.dedup();
    Some(Census { here: here.len(), of })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(events: u64, number: u32, roles: &[u16]) -> Vec<u8> {
        let mut bytes = vec![0; BYTES];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&1u32.to_le_bytes());
        bytes[160..164].copy_from_slice(&number.to_le_bytes());
        bytes[200..208].copy_from_slice(&events.to_le_bytes());
        bytes[220..224].copy_from_slice(&u32::try_from(roles.len()).expect("few").to_le_bytes());
        for (place, role) in roles.iter().enumerate() {
            bytes[256 + 2 * place..][..2].copy_from_slice(&role.to_le_bytes());
        }
        bytes
    }

    fn counted(disks: &[(u64, u32, &[u16])]) -> Option<(usize, usize)> {
        let parsed = |(events, number, roles): &(u64, u32, &[u16])| Superblock::parse(&bytes(*events, *number, roles));
        let disks: Vec<Superblock> = disks.iter().map(|disk| parsed(disk).expect("a superblock")).collect();
        census(&disks).map(|census| (census.here, census.of))
    }

    #[test]
    fn who_is_missing_is_told_by_the_disk_that_knows_most() {
        const ALL: &[u16] = &[0, 1, 0xffff, 2];
        const WITHOUT_1: &[u16] = &[0, 0xfffe, 0xffff, 2];
        assert_eq!(counted(&[(7, 0, ALL), (7, 3, ALL)]), Some((2, 3)));
        assert_eq!(counted(&[(7, 0, ALL), (7, 3, ALL), (7, 1, ALL)]), Some((3, 3)));
        assert_eq!(counted(&[(9, 0, WITHOUT_1), (9, 3, WITHOUT_1)]), Some((2, 2)), "the other one had failed before");
        assert_eq!(counted(&[(7, 1, ALL), (9, 0, WITHOUT_1)]), Some((1, 2)), "who was kicked out does not count");
        assert_eq!(counted(&[]), None);
    }

    #[test]
    fn what_is_no_superblock_is_none() {
        let good = bytes(7, 0, &[0, 1]);
        assert!(Superblock::parse(&good).is_some());
        assert_eq!(Superblock::parse(&[]), None);
        assert_eq!(Superblock::parse(&good[..100]), None);
        let mut other = good.clone();
        other[0] ^= 1;
        assert_eq!(Superblock::parse(&other), None);
        let mut many = good;
        many[220..224].copy_from_slice(&u32::MAX.to_le_bytes());
        let parsed = Superblock::parse(&many).expect("read as far as it goes");
        assert_eq!(parsed.roles.len(), (BYTES - 256) / 2);
        assert_eq!(Superblock::read("/there/is/no/such/thing"), None);
    }
}
