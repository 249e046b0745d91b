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
use crate::name::Name;

use super::check::unreadable;
use super::let_go::{Going, LetGo};
use super::{Inner, Pool};

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
        let worn = inner.worn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut gone = 0;
        for id in worn.into_iter().take(most) {
            match inner.renew(id) {
                Ok(true) => gone += 1,
                // It is tried again: what can't be read now may be healed by then.
                Ok(false) | Err(Error::Damage(_) | Error::Environment(Environment::Full)) => {}
                Err(error) => return Err(error),
            }
            let stays = inner.indexed.read().unwrap_or_else(PoisonError::into_inner).contains_key(&id);
            if !stays {
                inner.worn.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            }
        }
        Ok(gone)
    }
}

impl Inner {
    /// What was read of a container itself, not of its objects; damage is remembered.
    pub(super) fn note_worn<T>(&self, id: ContainerId, read: Result<T>) -> Result<T> {
        if matches!(read, Err(Error::Damage(_))) {
            let mut worn = self.worn.lock().unwrap_or_else(PoisonError::into_inner);
            if worn.len() < WORN_MAX {
                worn.insert(id);
            }
        }
        read
    }

    /// True where it is gone now.
    fn renew(&self, id: ContainerId) -> Result<bool> {
        let record = self.indexed.read().unwrap_or_else(PoisonError::into_inner).get(&id).copied();
        let Some(record) = record else { return Ok(false) };
        let (mut kept, mut names) = (Vec::new(), Vec::new());
        for first in 0..=u8::MAX {
            let mut rotten: Option<Name> = None;
            self.index.scan(first, |name, place| match place {
                Some(place) if place.container == id => names.push((*name, place)),
                Some(_) => {}
                None => rotten = Some(*name),
            })?;
            if rotten.is_some() {
                return Ok(false);
            }
        }
        names.sort_unstable_by_key(|(_, place)| place.offset);
        let file = path(id, record.class);
        for (name, place) in names {
            let (slot, payload) = unreadable(self.fetch(&place))?;
            if slot.name != name || slot.kind != place.kind || Class::of(slot.kind) != record.class {
                return Ok(false);
            }
            let content = self.open_payload(&file, &slot, payload)?;
            kept.push((slot, if slot.kind.is_node() { Sketch::NONE } else { Sketch::of(&content) }));
        }
        self.distrust(&BTreeSet::from([id]));
        let mut going = BTreeMap::from([(id, Going { id, record, kept, dead: Vec::new() })]);
        let mut sum = LetGo::default();
        self.empty(&mut going, &mut sum)?;
        let went = !going.is_empty();
        self.remove(going, &mut sum)?;
        Ok(went)
    }
}
