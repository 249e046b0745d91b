//! Containers that are worn: their header, directory or sketches can't be read, or they are gone. What is sound of one is moved out of it, by what the
//! index says of it, and once nothing leads there any more it goes.
//!
//! While some of its objects can be read neither here nor healed, it stays as it is: nobody could say any more what was lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use crate::chunk::Sketch;
use crate::container::{Class, path};
use crate::error::{Environment, Error, Result};
use crate::id::ContainerId;
use crate::index::{Location, Record};
use crate::media::answers::unreadable;
use crate::name::Name;

use super::let_go::{Going, LetGo};
use super::{Inner, Pool};

/// What leads to containers, by container.
type LedTo = BTreeMap<ContainerId, Vec<(Name, Location)>>;

/// Names that are held of what leads to worn containers, at some 60 bytes each, unless a single one has more.
const NAMES_MAX: u64 = 500_000;
/// More are not remembered one by one; the next scrub meets them again.
const WORN_MAX: usize = 10_000;

impl Pool {
    /// How many containers are known to be worn. Costs nothing.
    pub fn worn(&self) -> usize {
        self.0.worn.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Lets go of worn containers, at most so many, whose objects are all sound, healed or gone. Returns how many went. Nothing is done while
    /// somebody checks. What can't be moved for want of room waits.
    pub fn renew(&self, most: usize) -> Result<u64> {
        let inner = &*self.0;
        if self.worn() == 0 {
            return Ok(0);
        }
        // What was healed is to be found where it lies now.
        inner.settle_all()?;
        let Some(_no_check) = self.no_check() else { return Ok(0) };
        let worn = inner.worn_records(most);
        let mut gone = 0;
        let mut left = worn.as_slice();
        while !left.is_empty() {
            let (batch, rest) = left.split_at(batch_len(left));
            left = rest;
            let Some(mut names) = inner.led_to(batch)? else { break };
            for (id, record) in batch {
                match inner.renew(*id, *record, names.remove(id).unwrap_or_default()) {
                    Ok(true) => gone += 1,
                    // It is tried again: what can't be read now may be healed by then.
                    Ok(false) | Err(Error::Damage(_) | Error::Environment(Environment::Full)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let indexed = inner.indexed.read().unwrap_or_else(PoisonError::into_inner);
        inner.worn.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| indexed.contains_key(id));
        inner.wounds.changed();
        Ok(gone)
    }
}

/// How many of these containers are looked at in one pass over the index: at least one, and so many that what leads there fits in memory.
fn batch_len(worn: &[(ContainerId, Record)]) -> usize {
    let mut names = 0;
    let fits = |(_, record): &&(ContainerId, Record)| {
        names += u64::from(record.slots);
        names <= NAMES_MAX
    };
    worn.iter().take_while(fits).count().max(1)
}

impl Inner {
    /// What was read of a container itself, not of its objects; damage is remembered.
    pub(super) fn note_worn<T>(&self, id: ContainerId, read: Result<T>) -> Result<T> {
        if matches!(read, Err(Error::Damage(_))) {
            let mut worn = self.worn.lock().unwrap_or_else(PoisonError::into_inner);
            if worn.len() < WORN_MAX && worn.insert(id) {
                self.wounds.changed();
            }
        }
        read
    }

    /// Up to `most` worn containers that are still there.
    fn worn_records(&self, most: usize) -> Vec<(ContainerId, Record)> {
        let indexed = self.indexed.read().unwrap_or_else(PoisonError::into_inner);
        let worn = self.worn.lock().unwrap_or_else(PoisonError::into_inner);
        worn.iter().filter_map(|id| Some((*id, *indexed.get(id)?))).take(most).collect()
    }

    /// What leads to each of these containers, in the order in which it lies there, in one pass over the index. Nothing where an entry is rotten:
    /// it may lead there, too.
    fn led_to(&self, containers: &[(ContainerId, Record)]) -> Result<Option<LedTo>> {
        let mut found: LedTo = containers.iter().map(|(id, _)| (*id, Vec::new())).collect();
        let mut is_rotten = false;
        for first in 0..=u8::MAX {
            self.index.scan(first, |name, place| match place {
                Some(place) => found.get_mut(&place.container).into_iter().for_each(|names| names.push((*name, place))),
                None => is_rotten = true,
            })?;
        }
        found.values_mut().for_each(|names| names.sort_unstable_by_key(|(_, place)| place.offset));
        Ok((!is_rotten).then_some(found))
    }

    /// True where it is gone now.
    fn renew(&self, id: ContainerId, record: Record, names: Vec<(Name, Location)>) -> Result<bool> {
        let mut kept = Vec::new();
        let file = path(id, record.class);
        for (name, place) in names {
            let (slot, payload) = unreadable(self.media.as_ref(), self.fetch(&place))?;
            if slot.name != name || slot.kind != place.kind || Class::of(slot.kind) != record.class {
                return Ok(false);
            }
            let content = self.open_payload(&file, &slot, payload)?;
            kept.push((slot, Sketch::of_object(slot.kind, &content)));
        }
        self.distrust(&BTreeSet::from([id]));
        let mut going = BTreeMap::from([(id, Going { id, record, kept, dead: Vec::new(), densely: false })]);
        let mut sum = LetGo::default();
        self.empty(&mut going, &mut sum)?;
        let went = !going.is_empty();
        self.remove(going, &mut sum)?;
        Ok(went)
    }
}
