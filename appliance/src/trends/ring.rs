//! A file that never grows, with a slot for each step of time (docs/formats/trends.md).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Values of a slot.
pub(super) const VALUES: usize = 11;
const MAGIC: &[u8; 8] = b"NBTREND1";
const HEAD_BYTES: usize = 24;
const SLOT_BYTES: usize = 8 + 8 * VALUES + 8;

/// The values of a step, and when it begins, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) time: u64,
    pub(super) values: [u64; VALUES],
}

/// How long steps are, and how many of them a ring holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) seconds: u32,
    pub(super) slots: u32,
}

/// An open ring.
#[derive(Debug)]
pub(super) struct Ring {
    file: File,
    pub(super) shape: Shape,
}

impl Ring {
    /// Opens a ring, or begins one where there is none of this shape.
    pub(super) fn open(path: &Path, shape: Shape) -> io::Result<Ring> {
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).mode(0o600).open(path)?;
        let mut head = [0; HEAD_BYTES];
        let is_ours = file.read_exact_at(&mut head, 0).is_ok() && head == shape.head();
        if !is_ours {
            file.set_len(0)?;
            file.write_all_at(&shape.head(), 0)?;
        }
        file.set_len(HEAD_BYTES as u64 + u64::from(shape.slots) * SLOT_BYTES as u64)?;
        Ok(Ring { file, shape })
    }

    /// What the step has that `time` belongs to.
    pub(super) fn get(&self, time: u64) -> io::Result<Option<Slot>> {
        let mut bytes = [0; SLOT_BYTES];
        self.file.read_exact_at(&mut bytes, self.shape.place(time))?;
        Ok(decode(&bytes).filter(|slot| slot.time == self.shape.begin(time)))
    }

    /// Sets the values of the step that `time` belongs to.
    pub(super) fn put(&self, time: u64, values: [u64; VALUES]) -> io::Result<()> {
        self.file.write_all_at(&encode(&Slot { time: self.shape.begin(time), values }), self.shape.place(time))
    }

    /// All steps of the round that ends at `now`, the oldest first.
    pub(super) fn all(&self, now: u64) -> io::Result<Vec<Slot>> {
        let mut bytes = vec![0; self.shape.slots as usize * SLOT_BYTES];
        self.file.read_exact_at(&mut bytes, HEAD_BYTES as u64)?;
        let oldest = now.saturating_sub(u64::from(self.shape.seconds) * u64::from(self.shape.slots));
        let slots = bytes.chunks_exact(SLOT_BYTES).enumerate().filter_map(|(nth, bytes)| {
            let slot = decode(bytes.try_into().ok()?)?;
            (self.shape.index(slot.time) == nth as u64 && slot.time > oldest && slot.time <= now).then_some(slot)
        });
        let mut slots: Vec<Slot> = slots.collect();
        slots.sort_unstable_by_key(|slot| slot.time);
        Ok(slots)
    }
}

impl Shape {
    /// When the step begins that a moment belongs to.
    pub(super) fn begin(self, time: u64) -> u64 {
        time - time % u64::from(self.seconds)
    }

    fn index(self, time: u64) -> u64 {
        time / u64::from(self.seconds) % u64::from(self.slots)
    }

    fn place(self, time: u64) -> u64 {
        HEAD_BYTES as u64 + self.index(time) * SLOT_BYTES as u64
    }

    fn head(self) -> [u8; HEAD_BYTES] {
        let mut head = [0; HEAD_BYTES];
        head[..8].copy_from_slice(MAGIC);
        for (at, number) in [(8, self.seconds), (12, self.slots), (16, VALUES as u32)] {
            head[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&head[..20]);
        head[20..].copy_from_slice(&crc.to_le_bytes());
        head
    }
}

fn encode(slot: &Slot) -> [u8; SLOT_BYTES] {
    let mut bytes = [0; SLOT_BYTES];
    for (at, value) in [slot.time].iter().chain(&slot.values).enumerate() {
        bytes[8 * at..8 * at + 8].copy_from_slice(&value.to_le_bytes());
    }
    let crc = crc32c::crc32c(&bytes[..SLOT_BYTES - 8]);
    bytes[SLOT_BYTES - 8..SLOT_BYTES - 4].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<Slot> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes.get(8 * at..8 * at + 8)?.try_into().ok()?));
    let crc = u32::from_le_bytes(bytes[SLOT_BYTES - 8..SLOT_BYTES - 4].try_into().ok()?);
    let time = number(0)?;
    if time == 0 || crc != crc32c::crc32c(&bytes[..SLOT_BYTES - 8]) {
        return None;
    }
    let mut values = [0; VALUES];
    for (nth, value) in values.iter_mut().enumerate() {
        *value = number(nth + 1)?;
    }
    Some(Slot { time, values })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { seconds: 300, slots: 10 };

    fn values(first: u64) -> [u64; VALUES] {
        std::array::from_fn(|nth| first + nth as u64)
    }

    #[test]
    fn the_example_of_the_page_is_a_slot() {
        let page = include_str!("../../../docs/formats/trends.md");
        let example =
            page.split("## An example").nth(1).and_then(|rest| rest.split("```\n").nth(1)).expect("an example");
        let digits: String = example.chars().filter(|c| !c.is_whitespace()).collect();
        let bytes: Vec<u8> =
            (0..digits.len() / 2).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex")).collect();
        let slot = Slot { time: 1_763_899_200, values: values(1) };
        assert_eq!(bytes, encode(&slot));
        assert_eq!(decode(&encode(&slot)), Some(slot));
    }

    #[test]
    fn a_ring_keeps_its_last_round_over_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fine.ring");
        let ring = Ring::open(&path, SHAPE).expect("made");
        assert!(ring.all(10_000).expect("readable").is_empty());
        for step in 100..125 {
            ring.put(300 * step + 17, values(step)).expect("room");
        }
        drop(ring);
        let ring = Ring::open(&path, SHAPE).expect("there");
        let all = ring.all(300 * 124 + 200).expect("readable");
        assert_eq!(all.iter().map(|slot| slot.time / 300).collect::<Vec<_>>(), (115..125).collect::<Vec<_>>());
        assert_eq!(ring.get(300 * 120 + 5).expect("readable"), Some(Slot { time: 36_000, values: values(120) }));
        assert_eq!(ring.get(300 * 110).expect("readable"), None, "it was written over");
        assert_eq!(ring.all(300 * 118).expect("readable").len(), 4, "a clock that was set back sees no future");
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 24 + 10 * 104);
    }

    #[test]
    fn what_is_damaged_holds_nothing_and_another_shape_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("fine.ring");
        let ring = Ring::open(&path, SHAPE).expect("made");
        (100..110).for_each(|step| ring.put(300 * step, values(step)).expect("room"));
        let mut bytes = std::fs::read(&path).expect("there");
        bytes[24 + 3 * 104 + 20] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        let ring = Ring::open(&path, SHAPE).expect("there");
        assert_eq!(ring.all(300 * 109).expect("readable").len(), 9);
        for harm in [Vec::new(), b"nonsense".to_vec(), vec![0xff; 5000]] {
            std::fs::write(&path, harm).expect("written");
            assert!(Ring::open(&path, SHAPE).expect("begun anew").all(300 * 110).expect("readable").is_empty());
        }
        Ring::open(&path, SHAPE).expect("there").put(300, values(1)).expect("room");
        let other = Shape { slots: 20, ..SHAPE };
        assert!(Ring::open(&path, other).expect("begun anew").all(600).expect("readable").is_empty());
    }
}
