//! Names that are present but not in the index yet: those of open containers, and of sealed ones that wait.
//!
//! The gate against storing twice: whoever puts a name in first stores the object, everyone else finds it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::id::ContainerId;
use crate::index::{Location, Record};
use crate::name::{Kind, Name};

const SHARDS: usize = 32;

/// What came of claiming a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// It is the caller's, who stores the object now.
    Made,
    /// Somebody else stored the object, or does so now.
    Taken,
    /// It is not here, and names went from here into the index since the caller looked there: look again.
    Unsure,
}

/// Names with their places, in shards by name.
pub(super) struct Recent {
    shards: Vec<Mutex<BTreeMap<Name, Location>>>,
    len: AtomicUsize,
}

impl Recent {
    pub fn new() -> Recent {
        Recent { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), len: AtomicUsize::new(0) }
    }

    fn shard(&self, name: &Name) -> MutexGuard<'_, BTreeMap<Name, Location>> {
        self.shards[usize::from(name.0[0]) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn get(&self, kind: Kind, name: &Name) -> Option<Location> {
        self.shard(name).get(name).copied().filter(|location| location.kind == kind)
    }

    /// The first two names that begin with `prefix`.
    pub fn beginning_with(&self, prefix: u64) -> Vec<(Name, Location)> {
        let names = Name::beginning(prefix);
        self.shard(names.start()).range(names).take(2).map(|(name, at)| (*name, *at)).collect()
    }

    /// Claims a name for the object that is about to be stored at `location`. `moved` says whether any names went into
    /// the index since the caller looked for this one there. That is counted before they are forgotten here: under the
    /// lock of the name's shard, a name that is not here and did not move is nowhere.
    pub fn claim(&self, name: &Name, location: Location, moved: impl FnOnce() -> bool) -> Claim {
        match self.shard(name).entry(*name) {
            Entry::Occupied(_) => Claim::Taken,
            Entry::Vacant(_) if moved() => Claim::Unsure,
            Entry::Vacant(place) => {
                place.insert(location);
                self.len.fetch_add(1, Ordering::Relaxed);
                Claim::Made
            }
        }
    }

    /// Points a name to `location`, wherever it pointed before.
    pub fn point(&self, name: &Name, location: Location) {
        if self.shard(name).insert(*name, location).is_none() {
            self.len.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The names that lie in `containers`, sorted.
    pub fn of(&self, containers: &BTreeMap<ContainerId, Record>) -> Vec<(Name, Location)> {
        let mut names = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            names
                .extend(shard.iter().filter(|(_, at)| containers.contains_key(&at.container)).map(|(n, at)| (*n, *at)));
        }
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }

    /// Forgets names that the index has now, unless they point elsewhere meanwhile.
    pub fn forget(&self, names: &[(Name, Location)]) {
        for (name, location) in names {
            let mut shard = self.shard(name);
            if shard.get(name) == Some(location) {
                shard.remove(name);
                self.len.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// The nodes among them that `wanted` says yes to.
    pub fn nodes(&self, wanted: impl Fn(Kind, &Name) -> bool) -> Vec<(Kind, Name)> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let nodes = shard.iter().filter(|(name, at)| at.kind.is_node() && wanted(at.kind, name));
            found.extend(nodes.map(|(name, at)| (at.kind, *name)));
        }
        found
    }

    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_claimed_once_also_when_it_leaves_for_the_index() {
        let recent = Recent::new();
        let name = Name([7; 32]);
        let location = Location { container: ContainerId(1), offset: 32, stored_len: 10, kind: Kind::Chunk };
        assert_eq!(recent.claim(&name, location, || false), Claim::Made);
        assert_eq!(recent.claim(&name, location, || true), Claim::Taken);
        recent.forget(&[(name, location)]);
        assert_eq!((recent.claim(&name, location, || true), recent.len()), (Claim::Unsure, 0));
        assert_eq!(recent.claim(&name, location, || false), Claim::Made);
    }
}
