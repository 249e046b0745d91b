//! What a receiver has called present in a session.
//!
//! What was called present may be gone when the node that refers to it arrives: a run of reclaim that began since then let go of it, or it
//! was found damaged. That is no fault of the sender, which did as it was told, and asks again. A node that refers to what is not
//! here *and was never called so* is the sender's fault.
//!
//! Bounded: after [`NAMES_MAX`] names, or upon a base, of which the sender may take all for present, whatever is missing counts as told.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use super::seam::Ref;

/// Names that are remembered of a session: some 600 kB.
const NAMES_MAX: usize = 32 << 10;

/// See the module. Names are told apart by eight of their bytes: who makes two agree is believed to have been told, and gets nothing for it.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Names>);

#[derive(Debug, Default)]
struct Names {
    some: HashSet<u64>,
    all: bool,
}

impl Told {
    /// These were called present.
    pub(super) fn present<'a>(&self, names: impl Iterator<Item = &'a Ref>) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for at in names {
            if told.all {
                return;
            }
            told.some.insert(print(at));
            if told.some.len() > NAMES_MAX {
                *told = Names { some: HashSet::new(), all: true };
            }
        }
    }

    /// The session has a base.
    pub(super) fn base(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Names { some: HashSet::new(), all: true };
    }

    /// Was it called present, as far as is known?
    pub(super) fn has(&self, at: &Ref) -> bool {
        let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.all || told.some.contains(&print(at))
    }
}

fn print((_, name): &Ref) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&name.0[24..]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    #[test]
    fn what_was_told_is_known_and_when_it_is_too_much_everything_is() {
        let at = |number: usize| (Kind::Chunk, Name(*blake3::hash(&number.to_le_bytes()).as_bytes()));
        let told = Told::default();
        told.present([at(1), at(2)].iter());
        assert!(told.has(&at(1)) && told.has(&at(2)) && !told.has(&at(3)));
        let many: Vec<Ref> = (0..NAMES_MAX + 10).map(at).collect();
        told.present(many.iter());
        assert!(told.has(&at(usize::MAX)) && told.0.lock().expect("sole user").some.capacity() == 0);
        let told = Told::default();
        told.base();
        assert!(told.has(&at(1)));
    }
}
