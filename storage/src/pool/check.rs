//! Whether everything is as it should be: containers against the index, both ways, and every object if asked.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use bytes::Bytes;

use crate::container::format::Slot;
use crate::container::{Class, path, reader};
use crate::error::{Damage, Environment, Error, Result};
use crate::id::ContainerId;
use crate::index::{INDEX_FILE, Location, Record};
use crate::name::Name;

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

    fn add(&mut self, damage: Damage) {
        if self.damage.len() < Self::DAMAGE_MAX {
            self.damage.push(damage);
        } else {
            self.damage_left_out += 1;
        }
    }
}

impl Pool {
    /// Checks headers and directories of all containers against the index, both ways. With `deep`, also reads every
    /// object, verifies it against its name, and checks that everything that nodes refer to is present. `visit` is told
    /// after each container, and stops the check by returning false. Open containers are sealed first. Puts and reads go on
    /// meanwhile; what is put during the check is not part of it.
    pub fn check(&self, deep: bool, mut visit: impl FnMut(&Progress) -> bool) -> Result<CheckReport> {
        let inner = &*self.0;
        let _stays = self.checking();
        inner.settle_all()?;
        let mut report = CheckReport::default();
        if !inner.index.check()? {
            report.add(Damage::new(INDEX_FILE, 0, "sound pages", "pages that had to be repaired"));
        }
        let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner).clone();
        report.progress.containers_total = indexed.len() as u64;
        let mut matched = 0;
        for (id, record) in &indexed {
            matched += inner.check_container(*id, record, deep, &mut report)?;
            report.progress.containers += 1;
            if !visit(&report.progress) {
                return Ok(report);
            }
        }
        inner.check_entries(&indexed, matched, &mut report)?;
        Ok(report)
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

    /// Checks one container; returns how many entries of the index lead to it.
    pub(super) fn check_container(
        &self,
        id: ContainerId,
        record: &Record,
        deep: bool,
        report: &mut CheckReport,
    ) -> Result<u64> {
        let path = path(id, record.class);
        let open = |report: &mut CheckReport| {
            let file = self.files.open(self.media.as_ref(), id, record.class)?;
            let header = reader::read_header(file.as_ref(), &path)?;
            if (header.id, header.class, header.store) != (id, record.class, self.store) {
                let expected = format!("container {id} of store {}", self.store);
                return Err(Damage::new(&path, 0, expected, format!("{header:?}")).into());
            }
            let directory = reader::read_directory(file.as_ref(), &path, id)?;
            let sketches = unreadable(reader::read_sketches(file.as_ref(), &path, &directory.footer));
            noted(self.note_worn(id, sketches), report)?;
            Ok(directory)
        };
        let opened = self.note_worn(id, unreadable(open(report)));
        let slots = match noted(opened, report)? {
            Some(directory) => directory.slots,
            None => return self.check_by_index(id, deep, report),
        };
        if slots.len() != record.slots as usize {
            report.add(Damage::new(&path, 0, format!("{} slots", record.slots), slots.len()));
        }
        let mut matched = 0;
        for run in slots.chunks(256) {
            let names: Vec<_> = run.iter().map(|slot| slot.name).collect();
            let Some(places) = noted(self.index.probe(&names), report)? else { continue };
            for (slot, place) in run.iter().zip(places) {
                let here =
                    Location { container: id, offset: slot.offset, stored_len: slot.stored_len, kind: slot.kind };
                if place == Some(here) {
                    matched += 1;
                    if self.recent.get(slot.kind, &slot.name).is_some() {
                        // It lies elsewhere, soundly: healed or moved, and the index is not told yet.
                        report.spare += 1;
                    } else if deep {
                        noted(self.check_object(&here, slot), report)?;
                    }
                } else if record.complete && place.is_none() {
                    let expected = format!("an entry for {} in {path} at {}", slot.name, slot.offset);
                    report.add(Damage::new(INDEX_FILE, 0, expected, "none"));
                } else {
                    report.spare += 1;
                }
                report.progress.objects += 1;
                report.progress.bytes += if deep { slot.total_bytes() } else { 0 };
            }
        }
        Ok(matched)
    }

    /// Checks what the index says to lie in a container whose own directory can't be had; returns how many entries lead there.
    fn check_by_index(&self, id: ContainerId, deep: bool, report: &mut CheckReport) -> Result<u64> {
        let mut matched = 0;
        for first in 0..=u8::MAX {
            let mut rows = Vec::new();
            let here = |name: &Name, place: Location| (place.container == id).then_some((*name, place));
            let scanned = self.index.scan(first, |name, place| rows.extend(place.and_then(|place| here(name, place))));
            noted(scanned, report)?;
            matched += rows.len() as u64;
            for (name, place) in rows.iter().filter(|_| deep) {
                noted(unreadable(self.read_from_disk(place.kind, name)), report)?;
                report.progress.objects += 1;
            }
        }
        Ok(matched)
    }

    fn check_object(&self, place: &Location, slot: &Slot) -> Result<()> {
        let file = path(place.container, Class::of(place.kind));
        let content = self.note_wound(slot.kind, &slot.name, place, self.open_slot(place, slot, &file))?;
        if !slot.kind.is_node() {
            return Ok(());
        }
        match self.first_missing((self.options.references)(slot.kind, &content)?)? {
            None => Ok(()),
            Some((kind, name)) => {
                Err(Damage::new(file, slot.offset.into(), format!("{kind:?} {name} below this node"), "nothing").into())
            }
        }
    }

    /// The object in a slot, which is as the directory says. Where the disk can't give it back, that is damage like any other.
    fn open_slot(&self, place: &Location, slot: &Slot, file: &str) -> Result<Bytes> {
        let expected = format!("{slot:?}");
        match self.fetch(place) {
            Ok((found, payload)) if found == *slot => self.open_payload(file, slot, payload),
            Ok((found, _)) => Err(Damage::new(file, slot.offset.into(), expected, format!("{found:?}")).into()),
            Err(error) => Err(error.damage(slot.offset.into(), expected).map_or(error, Error::Damage)),
        }
    }

    /// Looks at the index from the other side: every entry that leads to one of these containers was `matched` by a
    /// slot there. Where the counts differ, names the entries that lead nowhere.
    fn check_entries(
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

/// What the disk can't give back is damage like any other: the rest may be sound.
pub(super) fn unreadable<T>(read: Result<T>) -> Result<T> {
    read.map_err(|error| error.damage(0, "bytes that can be read").map_or(error, Error::Damage))
}

/// Notes damage and goes on; anything else ends the check.
fn noted<T>(result: Result<T>, report: &mut CheckReport) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Damage(damage)) => {
            report.add(damage);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
