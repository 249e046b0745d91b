//! A volume of which every change is one record in order: a crash leaves what it was after some change, and after none that is older
//! than the last stable one.

use narrowboat_storage::store::Moment;
use narrowboat_storage::units::{Lsn, Timestamp};
use narrowboat_storage::{Error, Store};

use super::blocks::{Patch, device, expect};

/// What a crash may leave of a volume.
pub struct Versions {
    /// The volume when everything was stable last.
    pub stable: Vec<u8>,
    /// Changes since, in order.
    pub since: Vec<(Patch, Lsn)>,
    /// The last change that outlives the process.
    pub written: Lsn,
    /// Changes that were made stable.
    pub count: u64,
    /// The disk was full: what a window reaches may have become shorter.
    pub may_be_short: bool,
    /// All changes that are part of the present, from the first on.
    pub log: Vec<(Patch, Lsn)>,
}

impl Versions {
    /// A volume of zeros.
    pub fn new(size: u64) -> Versions {
        Versions {
            stable: vec![0; size as usize],
            since: Vec::new(),
            written: Lsn(0),
            count: 0,
            may_be_short: false,
            log: Vec::new(),
        }
    }

    pub fn made_stable(&mut self, lsn: Lsn) {
        while self.since.first().is_some_and(|(_, at)| *at <= lsn) {
            let change = self.since.remove(0);
            change.0.apply(&mut self.stable);
            self.log.push(change);
            self.count += 1;
        }
    }

    /// Finds the state among those that may be, and takes it for the truth. Where several are alike, the changes behind the first of
    /// them may have happened or not, so no moment is known of them.
    pub fn recovered(&mut self, found: Vec<u8>, what: &str) {
        let mut image = self.stable.clone();
        let mut fits = (image == found).then_some(0);
        for (nth, (patch, _)) in self.since.iter().enumerate() {
            patch.apply(&mut image);
            fits = fits.or_else(|| (image == found).then_some(nth + 1));
        }
        let Some(left) = fits else {
            panic!("{what}: not what the volume was after any of {} changes", self.since.len());
        };
        self.log.extend(self.since.drain(..).take(left));
        self.stable = found;
    }

    /// Looks at two moments of the past: other ones in every world.
    pub fn look_back(&self, store: &Store, name: &str, world: u64, what: &str) {
        let apart = 1 + self.log.len() / 2;
        let first = world as usize % apart;
        let mut image = vec![0; self.stable.len()];
        for (nth, (patch, lsn)) in self.log.iter().enumerate() {
            patch.apply(&mut image);
            if nth % apart != first {
                continue;
            }
            match store.clone_at(name, &Moment::Lsn(*lsn), "past", Timestamp(1)) {
                Err(Error::Refused(_)) if self.may_be_short => continue,
                outcome => drop(outcome.expect("within the window")),
            }
            expect(&*device(store, "past"), &image, &format!("{what}, record {lsn}"));
            store.delete_dataset("past", Timestamp(1)).expect("just made");
        }
    }
}
