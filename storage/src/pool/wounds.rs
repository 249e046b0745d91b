//! Objects whose copy here is damaged: kept out of deduplication, and stored anew by whoever brings the same content again.
//!
//! A wound is what was seen: by a scrub, a check, or whoever read. It is remembered in a small file, too ([`Pool::keep_wounds`],
//! `docs/formats/wounds.md`), so a restart forgets none. While an object is wounded, `put` does not take it for known, so the next
//! backup of the same content heals it, and what peers ask about is answered as absent, so that they send it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use crate::error::{Damage, Error, Result};
use crate::id::ContainerId;
use crate::index::Location;
use crate::media::answers::unreadable_at;
use crate::name::{Kind, Name};

use super::{Inner, Pool};

pub(super) mod format;
mod kept;

/// More are not remembered one by one: so much damage is a disk that dies. From then on all is read before it counts as known.
const WOUNDS_MAX: usize = 100_000;

/// An object that is damaged here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wound {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Where it lies, and what was seen.
    pub damage: Damage,
}

/// All that are known.
#[derive(Default)]
pub(super) struct Wounds {
    known: RwLock<BTreeMap<(Kind, Name), (ContainerId, Damage)>>,
    /// How many, so that nobody pays for it while all is sound.
    count: AtomicUsize,
    healed: AtomicUsize,
    /// Containers whose damaged copies nobody needs any more; whoever healed them tells the index.
    left: Mutex<Vec<ContainerId>>,
    /// What the file says is not what is known.
    changed: AtomicBool,
    /// Held by whoever writes the file.
    keeping: Mutex<()>,
}

impl Wounds {
    /// False where no more can be remembered.
    pub fn add(&self, kind: Kind, name: &Name, container: ContainerId, damage: &Damage) -> bool {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let room = known.len() < WOUNDS_MAX || known.contains_key(&(kind, *name));
        if room {
            let now = (container, damage.clone());
            if known.insert((kind, *name), now.clone()) != Some(now) {
                self.changed();
            }
        }
        self.count.store(known.len(), Ordering::Release);
        room
    }

    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub fn has(&self, kind: Kind, name: &Name) -> bool {
        self.count.load(Ordering::Acquire) > 0
            && self.known.read().unwrap_or_else(PoisonError::into_inner).contains_key(&(kind, *name))
    }

    /// The file is to be written again.
    pub fn changed(&self) {
        self.changed.store(true, Ordering::Release);
    }

    /// It lies elsewhere now, soundly.
    pub fn heal(&self, kind: Kind, name: &Name) {
        if let Some(container) = self.remove(kind, name) {
            self.healed.fetch_add(1, Ordering::Relaxed);
            self.left.lock().unwrap_or_else(PoisonError::into_inner).push(container);
        }
    }

    /// The containers whose damaged copies were left since this was asked last.
    pub fn take_left(&self) -> Vec<ContainerId> {
        match self.healed.load(Ordering::Acquire) {
            0 => Vec::new(),
            _ => std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// No damage after all, or healed, or gone: where it lay.
    pub fn remove(&self, kind: Kind, name: &Name) -> Option<ContainerId> {
        if self.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let (container, _) = known.remove(&(kind, *name))?;
        self.changed();
        self.count.store(known.len(), Ordering::Release);
        Some(container)
    }
}

impl Pool {
    /// The objects that are damaged here, as far as is known, in the order of kinds and names. Each is read once more: what can be
    /// read now was moved meanwhile, or the disk had a bad moment.
    pub fn wounds(&self) -> Vec<Wound> {
        let known: Vec<_> = {
            let known = self.0.wounds.known.read().unwrap_or_else(PoisonError::into_inner);
            known.keys().copied().collect()
        };
        let mut wounds = Vec::new();
        for (kind, name) in known {
            if self.0.find(kind, &[name]).is_ok_and(|places| places[0].is_none()) {
                // Nobody needed it, and its room was given back.
                self.0.wounds.remove(kind, &name);
                continue;
            }
            match self.0.read_from_disk(kind, &name) {
                Ok(_) => drop(self.0.wounds.remove(kind, &name)),
                Err(Error::Damage(damage)) => wounds.push(Wound { kind, name, damage }),
                Err(error) => {
                    let damage = Damage::new(format!("{kind:?} {name}"), 0, "an object that can be read", error);
                    wounds.push(Wound { kind, name, damage });
                }
            }
        }
        wounds
    }

    /// True where an object is known to be damaged here.
    pub fn is_wounded(&self, kind: Kind, name: &Name) -> bool {
        self.0.wounds.has(kind, name)
    }

    /// How many objects are known to be damaged here. Costs nothing.
    pub fn wounded(&self) -> usize {
        self.0.wounds.count.load(Ordering::Relaxed)
    }

    /// How many objects were damaged and are sound again since the store was opened.
    pub fn healed(&self) -> usize {
        self.0.wounds.healed.load(Ordering::Relaxed)
    }
}

impl Inner {
    pub(super) fn remember(&self, kind: Kind, name: &Name, container: ContainerId, damage: &Damage) {
        if !self.wounds.add(kind, name, container, damage) {
            self.unread.none_was_read(self.streams.next_id());
            self.wounds.changed();
        }
    }

    /// Remembers where reading an object met damage; what a disk can't give back is that, too, as long as the disk answers at all. Not where the
    /// object lies elsewhere by now, healed or moved.
    pub(super) fn note_wound<T>(&self, kind: Kind, name: &Name, place: &Location, read: Result<T>) -> Result<T> {
        let read = unreadable_at(self.media.as_ref(), place.offset.into(), format_args!("{kind:?} {name}"), read);
        let Err(Error::Damage(damage)) = &read else { return read };
        if self.find(kind, &[*name]).is_ok_and(|places| places[0].as_ref() == Some(place)) {
            self.remember(kind, name, place.container, damage);
        }
        read
    }
}
