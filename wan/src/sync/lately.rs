//! What went to a peer lately, whichever session sent it.
//!
//! Upon a proved base a session sends unasked what this box has kept since. What two datasets got meanwhile, the same file in two shares, is new to
//! both sessions, and would go twice. So the sessions with one peer share a list of what they have sent; what is in it is asked for after all, at a few bytes a name.
//! It only ever makes a question, so it need not be complete, and may be wrong: whether the peer has it, and got it from this box for that dataset,
//! is the peer's to say.

use std::sync::{Mutex, PoisonError};

use super::seam::Ref;

/// Objects that are remembered: up to a gigabyte in chunks of 16 KiB. A power of two.
const PLACES: usize = 64 << 10;

/// The objects that were sent to one peer last: a table of prints of their names, in which a newer one takes the place of an older one that
/// falls to it. Half a megabyte, once something was sent, whatever is sent; of as many objects as there are places some 37 % are forgotten
/// early, at random, and cost what they would have cost without the list.
#[derive(Debug, Default)]
pub struct Lately(Mutex<Vec<u64>>);

impl Lately {
    /// An object is on its way.
    pub(super) fn sent(&self, at: &Ref) {
        let mut prints = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prints.resize(PLACES, 0);
        let (place, print) = place(at);
        if let Some(held) = prints.get_mut(place) {
            *held = print;
        }
    }

    /// True where it was sent, and not too long ago. One in 2^47 times also for another object, which is asked for needlessly.
    pub(super) fn has(&self, at: &Ref) -> bool {
        let (place, print) = place(at);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place) == Some(&print)
    }
}

/// Where an object is noted, and as what: never as nothing.
fn place((_, name): &Ref) -> (usize, u64) {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&name.0[16..24]);
    let print = u64::from_le_bytes(bytes);
    (print as usize % PLACES, print | 1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::name::{Kind, Name};

    #[test]
    fn the_oldest_are_forgotten() {
        let at = |number: usize| (Kind::Chunk, Name(*blake3::hash(&number.to_le_bytes()).as_bytes()));
        let lately = Lately::default();
        assert!(!lately.has(&at(0)) && lately.0.lock().expect("sole user").is_empty(), "nothing was sent");
        (0..8 * PLACES).for_each(|number| lately.sent(&at(number)));
        let kept = |numbers: std::ops::Range<usize>| numbers.filter(|number| lately.has(&at(*number))).count();
        let (last, first) = (kept(7 * PLACES..8 * PLACES), kept(0..PLACES));
        assert!(last > PLACES * 6 / 10 && first < PLACES / 500, "{last} of the last, {first} of the first");
        assert!(kept(8 * PLACES - 1000..8 * PLACES) > 980);
        assert_eq!(lately.0.lock().expect("sole user").capacity(), PLACES);
    }
}
