//! Reading everything now and then, before somebody needs it: a piece at a time, in the order of the containers.
//!
//! A scrub is a number that goes up: whoever drives it keeps how far it came, and says how much to read in a step, so it can
//! be slow, stop, and go on after a restart. What is put behind it is read the next time.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::PoisonError;

use crate::error::{Damage, Result};
use crate::id::ContainerId;
use crate::index::Record;

use super::{CheckReport, Inner, Pool};

/// Containers that a step reads at most.
const STEP_CONTAINERS: usize = 256;

/// A step of a scrub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// The container up to which all is read now; `None` at the end.
    pub upto: Option<u64>,
    /// What was read in this step.
    pub containers: u64,
    /// Objects that were verified against their names.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// How many containers there are behind, which are still to be read.
    pub left: u64,
    /// What is wrong; at most [`CheckReport::DAMAGE_MAX`] places.
    pub damage: Vec<Damage>,
    /// How many places did not fit.
    pub damage_left_out: u64,
}

impl Pool {
    /// Reads containers behind the one numbered `after` (from the first one on, where there is none) until that were at
    /// least so many bytes, and verifies every object against its name. Objects that are damaged are remembered ([`Pool::wounds`]).
    /// Puts, reads and the rest go on meanwhile. An error only where the machine can't read at all.
    pub fn scrub(&self, after: Option<u64>, bytes: u64) -> Result<Scrubbed> {
        let inner = &*self.0;
        if after.is_none() {
            // What was put lately is to be read, too.
            inner.settle_all()?;
        }
        // What is let go of in between is no damage.
        let _stays = self.checking();
        let behind = (after.map_or(Bound::Unbounded, |after| Bound::Excluded(ContainerId(after))), Bound::Unbounded);
        let (waiting, left): (Vec<(ContainerId, Record)>, usize) = {
            let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner);
            let waiting = indexed.range(behind).take(STEP_CONTAINERS).map(|(id, record)| (*id, *record)).collect();
            (waiting, indexed.range(behind).count())
        };
        let mut done = Scrubbed { left: left as u64, ..Scrubbed::default() };
        let (mut read, mut headless, mut waits) = (after, BTreeSet::new(), 0);
        for (nth, (id, record)) in waiting.iter().enumerate() {
            inner.scrub_container(*id, record, &mut headless, &mut done)?;
            read = Some(id.0);
            done.left -= 1;
            // What lies in one without a directory is read in the end, with that of others.
            waits += if headless.contains(id) { record.file_bytes } else { 0 };
            if (done.bytes + waits >= bytes || nth + 1 == STEP_CONTAINERS) && done.left > 0 {
                done.upto = Some(id.0);
                break;
            }
        }
        if !headless.is_empty() {
            let mut report = CheckReport::default();
            inner.check_by_index(&headless, true, &mut report)?;
            done.add(report);
        }
        if inner.unread.read(after, done.upto.and(read)) {
            inner.wounds.changed();
        }
        self.keep_wounds();
        Ok(done)
    }

    /// True where the index was built again from containers that no scrub has read since, the first of which is behind the one numbered
    /// `after`, if one is named: a scrub is to begin, or to begin anew.
    pub fn owes_scrub(&self, after: Option<u64>) -> bool {
        let unread = self.0.unread.range();
        !unread.is_empty() && after.is_none_or(|after| after >= unread.start)
    }
}

impl Scrubbed {
    fn add(&mut self, report: CheckReport) {
        self.objects += report.progress.objects;
        self.bytes += report.progress.bytes;
        let room = CheckReport::DAMAGE_MAX.saturating_sub(self.damage.len());
        self.damage_left_out += report.damage_left_out + report.damage.len().saturating_sub(room) as u64;
        self.damage.extend(report.damage.into_iter().take(room));
    }
}

impl Inner {
    fn scrub_container(
        &self,
        id: ContainerId,
        record: &Record,
        headless: &mut BTreeSet<ContainerId>,
        done: &mut Scrubbed,
    ) -> Result<()> {
        let mut report = CheckReport::default();
        if self.check_container(id, record, true, &mut report)?.is_none() {
            headless.insert(id);
        }
        done.containers += 1;
        // One that can't be read at all counts as something, or a step would go through thousands of them.
        done.bytes += u64::from(report.progress.bytes == 0);
        done.add(report);
        Ok(())
    }
}
