//! What went to a peer lately, whichever session sent it.
//!
//! Upon a proved base a session sends unasked what this box has kept since. What two datasets got meanwhile, the same file in two shares, is new to
//! both sessions, and would go twice. So the sessions with one peer share a list of what they have sent; what is in it is asked for after all, at a few bytes a name.
//! It only ever makes a question, so it need not be complete, and may be wrong: whether the peer has it, and got it from this box for that dataset,
//! is the peer's to say.

use std::sync::{Mutex, PoisonError};

use super::possession::Latest;
use super::seam::Ref;

/// Objects that are remembered: a gigabyte in chunks of 16 KiB, some 3 MB of memory.
const NAMES_MAX: usize = 64 << 10;

/// The objects that were sent to one peer last.
#[derive(Debug, Default)]
pub struct Lately(Mutex<Latest>);

impl Lately {
    /// An object is on its way.
    pub(super) fn sent(&self, at: &Ref) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(0, &at.1, NAMES_MAX);
    }

    /// True where it was sent, and not too long ago.
    pub(super) fn has(&self, at: &Ref) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&at.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    #[test]
    fn the_oldest_are_forgotten() {
        let at = |number: usize| (Kind::Chunk, Name(*blake3::hash(&number.to_le_bytes()).as_bytes()));
        let lately = Lately::default();
        (0..NAMES_MAX + 10).for_each(|number| lately.sent(&at(number)));
        assert!(!lately.has(&at(9)) && lately.has(&at(10)) && lately.has(&at(NAMES_MAX)));
    }
}
