//! Whether everything is as it should be: containers against the index, both ways, and every object if asked.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use crate::container::format::Slot;
use crate::container::{Class, path, reader};
use crate::error::{Damage, Environment, Error, Result};
use crate::id::ContainerId;
use crate::index::{INDEX_FILE, Record};

use super::{Inner, Pool};

/// How far a check is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Containers that were looked at.
    pub containers: u64,
    /// Of how many.
    pub containers_total: u64,
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// What was looked at.
    pub progress: Progress,
    /// Slots that no name leads to: unacknowledged work of a crash, or copies that were replaced. Harmless.
    pub spare: u64,
    /// What is wrong; at most [`CheckReport::DAMAGE_MAX`] entries.
    pub damage: Vec<Damage>,
    /// How many entries did not fit.
    pub damage_left_out: u64,
}

impl CheckReport {
    /// How many places of damage are named one by one.
    pub const DAMAGE_MAX: usize = 1000;

    /// True where nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }

    /// What was found elsewhere besides.
    pub(super) fn append(&mut self, other: CheckReport) {
        let (sum, more) = (&mut self.progress, other.progress);
        sum.containers += more.containers;
        sum.objects += more.objects;
        sum.bytes += more.bytes;
        self.spare += other.spare;
        self.damage_left_out += other.damage_left_out;
        other.damage.into_iter().for_each(|damage| self.add(damage));
    }

    pub(super) fn add(&mut self, damage: Damage) {
        if self.damage.len() < Self::DAMAGE_MAX {
            self.damage.push(damage);
        } else {
            self.damage_left_out += 1;
        }
    }
}

impl Pool {
    /// Checks all containers, one after the other, and then the index ([`Pool::verify`]). `visit` is told after each container, and
    /// stops the check by returning false.
    pub fn check(&self, deep: bool, mut visit: impl FnMut(&Progress) -> bool) -> Result<CheckReport> {
        let verifying = self.verify(deep)?;
        while verifying.step()? && visit(&verifying.progress()) {}
        verifying.end()
    }

    /// Calls `visit` with every slot of every sealed container, class by class, in the order in which they lie: for
    /// assessments and statistics. What cannot be read is left out.
    pub fn for_each_slot(&self, mut visit: impl FnMut(ContainerId, &Slot)) {
        let inner = &*self.0;
        let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner).clone();
        let sealed = inner.sealed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for class in Class::ALL {
            for (id, _) in indexed.iter().chain(&sealed).filter(|(_, record)| record.class == class) {
                let Ok(file) = inner.files.open(inner.media.as_ref(), *id, class) else { continue };
                let Ok(directory) = reader::read_directory(file.as_ref(), &path(*id, class), *id) else { continue };
                directory.slots.iter().for_each(|slot| visit(*id, slot));
            }
        }
    }
}

impl Inner {
    /// Seals open containers, and has the index know all that is in them, as far as there is room.
    pub(super) fn settle_all(&self) -> Result<()> {
        self.close_all();
        match self.settle(true) {
            Ok(()) | Err(Error::Environment(Environment::Full)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Looks at the index from the other side: every entry that leads to one of these containers was `matched` by a
    /// slot there. Where the counts differ, names the entries that lead nowhere.
    pub(super) fn check_entries(
        &self,
        containers: &BTreeMap<ContainerId, Record>,
        matched: u64,
        report: &mut CheckReport,
    ) -> Result<()> {
        let mut entries = 0;
        for first in 0..=u8::MAX {
            let mut rotten = Vec::new();
            let scanned = self.index.scan(first, |name, place| match place {
                Some(place) => entries += u64::from(containers.contains_key(&place.container)),
                None => rotten.push(*name),
            });
            noted(scanned, report)?;
            for name in rotten {
                report.add(Damage::new(INDEX_FILE, 0, format!("a sound entry for {name}"), "a rotten one"));
            }
        }
        if entries == matched {
            return Ok(());
        }
        for first in 0..=u8::MAX {
            let mut rows = Vec::new();
            noted(self.index.scan(first, |name, place| rows.extend(place.map(|place| (*name, place)))), report)?;
            for (name, place) in rows.iter().filter(|(_, place)| containers.contains_key(&place.container)) {
                if !self.fetch(place).is_ok_and(|(slot, _)| slot.name == *name && slot.kind == place.kind) {
                    let file = path(place.container, Class::of(place.kind));
                    let expected = format!("{:?} {name}, as the index says", place.kind);
                    report.add(Damage::new(file, place.offset.into(), expected, "something else"));
                }
            }
        }
        Ok(())
    }
}

/// Notes damage and goes on; anything else ends the check.
pub(super) fn noted<T>(result: Result<T>, report: &mut CheckReport) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damage(damage)) => {
            report.add(damage);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
