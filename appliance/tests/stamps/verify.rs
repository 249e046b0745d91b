//! What must be so after a kill, looked at sector by sector.

use std::collections::BTreeSet;

use super::{Change, SECTOR, SECTORS, Writer, ZEROS, content};
use crate::common::iscsi::{Initiator, read};

/// Sectors that are read at once.
const PIECE: usize = 2048;

/// What is wrong with a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A sector that is no whole sector of any change that was sent for that place.
    Foreign,
    /// A change that was synchronised is not there.
    Unsynchronised,
    /// A change that was answered is not there.
    Unanswered,
    /// A change is there in part.
    Torn,
    /// A change is there, and one is missing that was answered before it was sent.
    Order,
}

impl Writer {
    /// Looks at every sector, and takes what is there for what has to be there from now on. Says everything that is wrong,
    /// with the sector at which it was seen first.
    pub fn verify(&mut self, session: &mut Initiator) -> Result<(), Vec<(Wrong, u64)>> {
        let mut wrong = Vec::new();
        let mut found = Vec::with_capacity(SECTORS as usize);
        for at in (0..SECTORS).step_by(PIECE) {
            let from = self.origin() + at;
            let answer = session.run(0, &read(from, PIECE), Vec::new(), PIECE * SECTOR).expect("it serves");
            assert!(answer.is_good(), "{answer:?}");
            for (sector, bytes) in (from..).zip(answer.data.chunks(SECTOR)) {
                found.push(stamp_of(sector, bytes).unwrap_or_else(|| {
                    wrong.push((Wrong::Foreign, sector - self.origin()));
                    ZEROS
                }));
            }
        }
        // Up to which of its changes each sector is: 0 is what it bore before all of them.
        let mut reached = vec![0; SECTORS as usize];
        for (sector, found) in found.iter().enumerate() {
            match self.newest_with(sector as u64, *found) {
                Some(place) => reached[sector] = place,
                None => wrong.push((Wrong::Foreign, sector as u64)),
            }
        }
        self.look_at_changes(&reached, &mut wrong);
        (self.base, self.history) = (found, Vec::new());
        wrong.sort();
        wrong.dedup_by_key(|(what, _)| *what);
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    /// The newest change of a sector that left it with a stamp, counted from 1; 0 where it is as it was before.
    fn newest_with(&self, sector: u64, stamp: u64) -> Option<usize> {
        let covers = |change: &Change| change.first <= sector && sector < change.end() && change.stamp == stamp;
        let place = self.history.iter().rposition(covers).map(|place| place + 1);
        place.or((self.base[sector as usize] == stamp).then_some(0))
    }

    fn look_at_changes(&mut self, reached: &[usize], wrong: &mut Vec<(Wrong, u64)>) {
        // The youngest change that is surely there: zeros may be older than the newest discard that would explain them.
        let surely = reached.iter().filter_map(|place| self.history.get(place.checked_sub(1)?));
        let youngest = surely.filter(|change| change.stamp != ZEROS).map(|change| change.sent).max().unwrap_or(0);
        for (place, change) in self.history.iter().enumerate() {
            let sectors = change.first..change.end();
            let missing = sectors.clone().find(|sector| reached[*sector as usize] < place + 1);
            let is_there = sectors.clone().any(|sector| reached[sector as usize] == place + 1);
            if change.answered.is_none() {
                self.counts.cut_off += 1;
                self.counts.cut_off_there += u64::from(missing.is_none());
            }
            self.counts.stable += u64::from(change.stable);
            let Some(missing) = missing else { continue };
            if change.stable {
                wrong.push((Wrong::Unsynchronised, missing));
            }
            if change.answered.is_some() {
                wrong.push((Wrong::Unanswered, missing));
            }
            // Of a discard a part may look as if it were there where zeros were before.
            if is_there && change.stamp != ZEROS {
                wrong.push((Wrong::Torn, missing));
            }
            if change.answered.is_some_and(|answered| answered < youngest) {
                wrong.push((Wrong::Order, missing));
            }
        }
    }
}

/// The stamp of a sector; `None` where its bytes are not those of any stamp.
fn stamp_of(sector: u64, bytes: &[u8]) -> Option<u64> {
    if bytes.iter().all(|byte| *byte == 0) {
        return Some(ZEROS);
    }
    let stamp = u64::from_le_bytes(*bytes.first_chunk()?);
    (content(stamp, sector)[..] == *bytes).then_some(stamp)
}

/// The kinds of what is wrong.
pub fn kinds(wrong: &[(Wrong, u64)]) -> BTreeSet<Wrong> {
    wrong.iter().map(|(what, _)| *what).collect()
}
