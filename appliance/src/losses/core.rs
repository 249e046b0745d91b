//! Whether a loss is one: a value that is told what a snapshot held and what of it is gone, and says what is worth telling.
//!
//! ```text
//!            share ≥ threshold, and not what this dataset does anyway
//!   well ─────────────────────────────────────────────────────────► found
//!    ▲                                                                │
//!    └── most of it is back, the snapshot is gone, or it was accepted ┘
//! ```

use serde::{Deserialize, Serialize};

/// With fewer bytes gone, or fewer files, nothing is told: a small dataset changes as a whole with one save.
pub(super) const BYTES_MIN: u64 = 16 << 20;
pub(super) const FILES_MIN: u64 = 100;
/// Comparisons that lie closer together count as one for what is usual: so often a dataset is backed up to, at most.
pub(super) const APART_SECONDS: u64 = 20 * 3600;
/// So many of them are remembered,
const REMEMBERED: usize = 8;
/// and where so many lost much, that is what the dataset does.
const USUAL: usize = 2;

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The moment it holds, in seconds since 1970.
    pub time: u64,
    /// Files.
    pub files: u64,
    /// Bytes of their contents; of a volume those that take room.
    pub bytes: u64,
}

/// What of it is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// By how many there are fewer files.
    pub files: u64,
    /// Bytes that were removed or written over.
    pub bytes: u64,
    /// What is there now looks encrypted, and what was there before did not.
    pub encrypted: bool,
}

impl Lost {
    /// How much of what was held, from 0 to 1.
    pub fn share(&self, held: &Held) -> f64 {
        let part = |lost: u64, of: u64, least: u64| match lost >= least && of > 0 {
            true => (lost as f64 / of as f64).min(1.0),
            false => 0.0,
        };
        part(self.bytes, held.bytes, BYTES_MIN).max(part(self.files, held.files, FILES_MIN))
    }
}

/// A loss that is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The snapshot that still has it.
    pub before: Held,
    /// When it was found, in seconds since 1970.
    pub since: u64,
    /// How much.
    pub lost: Lost,
    /// Seen in what the dataset holds now; no snapshot of that was compared yet.
    pub live: bool,
}

/// What is known of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// The snapshot that was compared last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compared: Option<String>,
    /// What shares were lost before, about daily, with their times; the latest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub usual: Vec<(u64, f64)>,
    /// Snapshots of that moment and before are not what is compared with.
    pub accepted: u64,
    /// What is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Found>,
}

impl Watch {
    /// Which of these snapshots, the oldest first, the newest is compared with: the one that a loss was found by; else the newest that is some hours older, so that
    /// many snapshots a day do not cut a loss into small ones; else the oldest.
    pub fn baseline<'a>(&self, all: &'a [Held]) -> Option<&'a Held> {
        if let Some(found) = &self.found {
            return all.iter().find(|held| held.id == found.before.id);
        }
        let (newest, older) = all.split_last()?;
        let mut older = older.iter().filter(|held| held.time > self.accepted);
        let first = older.next()?;
        Some(older.take_while(|held| held.time + APART_SECONDS <= newest.time).last().unwrap_or(first))
    }

    /// Forgets a loss whose snapshot is gone: there is no way back any more.
    pub fn known(&mut self, all: &[Held]) {
        self.found.take_if(|found| all.iter().all(|held| held.id != found.before.id));
    }

    /// A snapshot of this time was compared with one before.
    pub fn compared(&mut self, now: u64, time: u64, before: &Held, lost: Lost, least: f64) {
        let share = lost.share(before);
        if let Some(found) = &mut self.found {
            (found.lost, found.live) = (lost, false);
            self.found.take_if(|_| share < least / 2.0);
            return;
        }
        let usual = self.is_usual(time, least);
        match self.usual.last_mut() {
            Some((last, most)) if time < *last + APART_SECONDS => *most = most.max(share),
            _ => self.usual.push((time, share)),
        }
        let too_many = self.usual.len().saturating_sub(REMEMBERED);
        self.usual.drain(..too_many);
        if share >= least && (!usual || lost.encrypted) {
            self.found = Some(Found { before: before.clone(), since: now, lost, live: false });
        }
    }

    /// So much is gone of what the newest snapshot held, as the dataset is now.
    pub fn live(&mut self, now: u64, before: &Held, lost: Lost, least: f64) {
        let (share, usual) = (lost.share(before), self.is_usual(now, least));
        match &mut self.found {
            Some(found) if found.live => {
                found.lost = lost;
                self.found.take_if(|_| share < least / 2.0);
            }
            Some(_) => {}
            None if share >= least && before.time > self.accepted && !usual => {
                self.found = Some(Found { before: before.clone(), since: now, lost, live: true });
            }
            None => {}
        }
    }

    /// Somebody says that it was meant.
    pub fn accept(&mut self, now: u64) -> bool {
        self.accepted = self.accepted.max(now);
        self.found.take().is_some()
    }

    fn is_usual(&self, time: u64, least: f64) -> bool {
        let before = self.usual.iter().filter(|(at, _)| at + APART_SECONDS <= time);
        before.filter(|(_, share)| *share >= least).count() >= USUAL
    }
}

/// Bits that a byte of a block carries: 8 for what looks like chance.
pub fn bits_per_byte(block: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    block.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let length = block.len().max(1) as f64;
    let bits = |count: &u32| match f64::from(*count) / length {
        0.0 => 0.0,
        part => -part * part.log2(),
    };
    counts.iter().map(bits).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    fn held(day: u64) -> Held {
        Held { id: day.to_string(), name: format!("day {day}"), time: day * DAY, files: 1000, bytes: 1 << 30 }
    }

    fn lost(files: u64, mib: u64) -> Lost {
        Lost { files, bytes: mib << 20, encrypted: false }
    }

    #[test]
    fn what_is_little_is_no_loss_however_large_a_part_it_is() {
        let small = Held { files: 50, bytes: 1 << 20, ..held(1) };
        assert_eq!(lost(50, 1).share(&small), 0.0);
        assert_eq!(lost(600, 0).share(&held(1)), 0.6);
        assert_eq!(lost(0, 512).share(&held(1)), 0.5);
        assert_eq!(lost(0, 512).share(&Held { bytes: 0, ..held(1) }), 0.0);
    }

    #[test]
    fn a_loss_lasts_until_it_is_back_or_was_meant() {
        let mut watch = Watch::default();
        watch.compared(10, 2 * DAY, &held(1), lost(499, 0), 0.5);
        assert_eq!(watch.found, None);
        watch.live(20, &held(2), lost(700, 0), 0.5);
        assert!(watch.found.as_ref().is_some_and(|found| found.live && found.since == 20));
        watch.live(30, &held(2), lost(300, 0), 0.5);
        assert!(watch.found.is_some(), "more than half of what was too much is gone still");
        watch.live(40, &held(2), lost(200, 0), 0.5);
        assert_eq!(watch.found, None);
        watch.compared(50, 3 * DAY, &held(2), lost(0, 900), 0.5);
        watch.live(60, &held(3), lost(0, 0), 0.5);
        assert!(watch.found.is_some(), "what was written over is not seen in counts");
        assert_eq!(watch.baseline(&[held(1), held(2), held(3), held(4)]).map(|held| held.time), Some(2 * DAY));
        watch.known(&[held(3), held(4)]);
        assert_eq!(watch.found, None, "there is no way back any more");
        watch.compared(70, 4 * DAY, &held(3), lost(900, 0), 0.5);
        assert!(watch.accept(4 * DAY + 1) && !watch.accept(4 * DAY + 1));
        assert_eq!(watch.baseline(&[held(3), held(4), held(5)]), None, "nothing from before is compared with");
        watch.live(80, &held(4), lost(900, 0), 0.5);
        assert_eq!(watch.found, None);
        assert_eq!(watch.baseline(&[held(4), held(5), held(6)]).map(|held| held.time), Some(5 * DAY));
    }

    #[test]
    fn what_a_dataset_does_every_night_is_told_twice() {
        let mut watch = Watch::default();
        let mut told = Vec::new();
        for day in 1..12 {
            watch.compared(day * DAY, (day + 1) * DAY, &held(day), lost(0, 1024), 0.5);
            if watch.accept(day * DAY) {
                told.push(day);
            }
        }
        assert_eq!(told, [1, 2]);
        watch.live(13 * DAY, &held(13), lost(1000, 1024), 0.5);
        assert_eq!(watch.found, None);
        watch.compared(13 * DAY, 14 * DAY, &held(13), Lost { encrypted: true, ..lost(0, 1024) }, 0.5);
        assert!(watch.found.is_some(), "but not in clear before and encrypted now");
        assert!(watch.usual.len() <= REMEMBERED);
    }

    #[test]
    fn many_snapshots_a_day_do_not_cut_a_loss_into_small_ones() {
        let hourly = |hour: u64| Held { time: hour * 3600, ..held(hour) };
        let all: Vec<Held> = (10..60).map(hourly).collect();
        let watch = Watch::default();
        assert_eq!(watch.baseline(&all).map(|held| held.time / 3600), Some(39));
        assert_eq!(watch.baseline(&all[..3]).map(|held| held.time / 3600), Some(10));
        assert_eq!(watch.baseline(&all[..1]), None);
        let mut watch = Watch::default();
        (0..50).for_each(|hour| watch.compared(0, hour * 3600, &held(0), lost(500, 0), 0.6));
        assert_eq!(watch.usual.len(), 3, "a day is one");
    }

    #[test]
    fn chance_is_told_from_text() {
        let noise: Vec<u8> = blake3::Hasher::new().finalize_xof().bytes_of(1 << 16);
        assert!(bits_per_byte(&noise) > 7.9);
        assert!(bits_per_byte("minutes of a meeting; ".repeat(900).as_bytes()) < 5.0);
        assert_eq!(bits_per_byte(&[]), 0.0);
    }

    trait Bytes {
        fn bytes_of(self, length: usize) -> Vec<u8>;
    }

    impl Bytes for blake3::OutputReader {
        fn bytes_of(mut self, length: usize) -> Vec<u8> {
            let mut bytes = vec![0; length];
            self.fill(&mut bytes);
            bytes
        }
    }
}
