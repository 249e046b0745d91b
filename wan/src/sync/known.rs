//! Names that the receiver is known to have: the last so many, so that what a tree refers to again and again is asked
//! once.

use std::collections::{HashSet, VecDeque};

use super::seam::Ref;

const NAMES_MAX: usize = 64 << 10;

/// A bounded set; the oldest go first.
#[derive(Debug, Default)]
pub(super) struct Known {
    set: HashSet<Ref>,
    order: VecDeque<Ref>,
    forgot: bool,
}

impl Known {
    /// True where the name was inserted, and not so long ago that it was forgotten.
    pub fn contains(&self, at: &Ref) -> bool {
        self.set.contains(at)
    }

    /// Remembers a name.
    pub fn insert(&mut self, at: Ref) {
        if !self.set.insert(at) {
            return;
        }
        self.order.push_back(at);
        if self.order.len() > NAMES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.set.remove(&oldest);
            self.forgot = true;
        }
    }

    /// True once a name was forgotten: what is not here may have been all the same.
    pub fn forgot(&self) -> bool {
        self.forgot
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    #[test]
    fn the_oldest_are_forgotten() {
        let name = |number: usize| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&number.to_le_bytes());
            (Kind::Chunk, Name(bytes))
        };
        let mut known = Known::default();
        for number in 0..NAMES_MAX + 10 {
            known.insert(name(number));
            known.insert(name(number));
        }
        assert!(known.forgot() && !known.contains(&name(9)));
        assert!(known.contains(&name(10)));
        assert_eq!(known.set.len(), NAMES_MAX);
    }
}
