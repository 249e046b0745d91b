//! The receiver of a rehearsal: it knows what a peer would have, and keeps nothing but names.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use narrowboat_storage::error::Result;
use narrowboat_storage::id::{DatasetId, SnapshotId, StoreId};
use narrowboat_storage::name::{Kind, Name};
use narrowboat_storage::pool::{Mark, Pool, Stored};

use crate::sync::{Sink, SnapshotOffer};

/// Chunks that are known of which the length is looked up; more are taken to be as long on average.
const LOOKED_UP_MAX: u64 = 4096;
/// Names that are remembered of what was sent, 8 bytes of each: some 100 MB at most. What is beyond may count twice.
const SENT_MAX: usize = 7 << 20;

/// A peer that isn't there. It has what lay in this pool before a mark, and what rehearsals have sent to it since.
///
/// Whatever it is asked to read it reads from the pool, which has all that a rehearsal sends.
pub struct Ghost {
    pool: Pool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// It has everything that was kept before; nothing where there is none.
    before: Option<Mark>,
    /// What it was sent since then,
    sent: HashSet<u64>,
    /// and in the round before, of which some was kept after the mark.
    last: HashSet<u64>,
    /// The snapshot that it is taken to show, by dataset.
    shows: Vec<(DatasetId, SnapshotId, Name)>,
    forgot: bool,
    known: KnownChunks,
}

/// Chunks that it said it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct KnownChunks {
    count: u64,
    /// Of so many of them the length was looked up,
    looked_up: u64,
    /// and together they have so many bytes.
    bytes: u64,
}

impl Ghost {
    /// A peer that has nothing yet.
    pub fn new(pool: Pool) -> Ghost {
        Ghost { pool, state: Mutex::default() }
    }

    /// A peer that has what was in the pool before `mark`, and these snapshots.
    pub fn with(pool: Pool, mark: Mark, shows: Vec<(DatasetId, SnapshotId, Name)>) -> Ghost {
        Ghost { pool, state: Mutex::new(State { before: Some(mark), shows, ..State::default() }) }
    }

    /// A round of snapshots has been sent, all of them made after `mark`: from now on it has what was in the pool before that, besides what
    /// this round has sent.
    pub fn advance(&self, mark: Mark) {
        let mut state = self.state();
        state.before = Some(mark);
        // What went in the round before lay in the pool at the mark of this one.
        state.last = std::mem::take(&mut state.sent);
        state.forgot = false;
    }

    /// True where more names were sent than it can remember, so that some may have been counted twice.
    pub fn forgot(&self) -> bool {
        self.state().forgot
    }

    /// Bytes of the chunks that it was asked for, and had, since this was asked before.
    pub(super) fn take_known_bytes(&self) -> u64 {
        let KnownChunks { count, looked_up, bytes } = std::mem::take(&mut self.state().known);
        bytes.saturating_mul(count).checked_div(looked_up).unwrap_or(0)
    }

    /// Notes chunks that it says it has.
    fn note(&self, held: impl Iterator<Item = Name>) -> Result<()> {
        for name in held {
            let looks = self.state().known.looked_up < LOOKED_UP_MAX;
            let len = if looks { u64::from(self.pool.read_stored(Kind::Chunk, &name)?.raw_len) } else { 0 };
            let known = &mut self.state().known;
            known.count += 1;
            known.looked_up += u64::from(looks);
            known.bytes += len;
        }
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one step: a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn holds(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let before = self.state().before.clone();
        let mut held = match &before {
            Some(mark) => {
                let (here, since) = (self.pool.sound_batch(kind, names)?, self.pool.kept_since(mark, kind, names)?);
                here.into_iter().zip(since).map(|(here, since)| here && !since).collect()
            }
            None => vec![false; names.len()],
        };
        let state = self.state();
        let sent = |print: u64| state.sent.contains(&print) || state.last.contains(&print);
        held.iter_mut().zip(names).for_each(|(held, name)| *held |= sent(print(kind, name)));
        Ok(held)
    }
}

impl Sink for Ghost {
    fn has(&self, kind: Kind, names: &[Name]) -> Result<Vec<bool>> {
        let held = self.holds(kind, names)?;
        if kind == Kind::Chunk {
            self.note(names.iter().zip(&held).filter(|(_, held)| **held).map(|(name, _)| *name))?;
        }
        Ok(held)
    }

    fn named_by_prefix(&self, prefixes: &[u64]) -> Result<Vec<Option<Name>>> {
        let named = self.pool.named_by_prefix(Kind::Chunk, prefixes)?;
        let names: Vec<Name> = named.iter().flatten().copied().collect();
        let mut held = self.holds(Kind::Chunk, &names)?.into_iter();
        let found: Vec<Option<Name>> =
            named.into_iter().map(|name| name.filter(|_| held.next() == Some(true))).collect();
        self.note(found.iter().flatten().copied())?;
        Ok(found)
    }

    fn verifies(&self) -> bool {
        // What it is sent comes out of the pool, which has verified it.
        true
    }

    fn fetch(&self, kind: Kind, name: &Name) -> Result<Bytes> {
        self.pool.read(kind, name)
    }

    fn admit(&self, kind: Kind, name: &Name, _: Stored) -> Result<()> {
        let mut state = self.state();
        if state.sent.len() < SENT_MAX {
            state.sent.insert(print(kind, name));
        } else {
            state.forgot = true;
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn newest_shared(
        &self,
        _: &StoreId,
        dataset: &DatasetId,
        offered: &[(SnapshotId, Name)],
    ) -> Result<Option<(SnapshotId, Name)>> {
        let state = self.state();
        let shown = |(id, root): &&(SnapshotId, Name)| state.shows.contains(&(*dataset, *id, *root));
        Ok(offered.iter().find(shown).copied())
    }

    fn shows(&self, dataset: &DatasetId, root: &Name) -> Result<bool> {
        Ok(self.state().shows.iter().any(|(of, _, shown)| of == dataset && shown == root))
    }

    fn publish(&self, snapshot: &SnapshotOffer) -> Result<()> {
        let Some(root) = snapshot.root else { return Ok(()) };
        let mut state = self.state();
        // A peer keeps older ones, too, but a rehearsal offers the newest.
        state.shows.retain(|(of, ..)| *of != snapshot.dataset);
        state.shows.push((snapshot.dataset, snapshot.snapshot, root));
        Ok(())
    }
}

/// Nodes and chunks have different keys, but nothing says so of a name.
fn print(kind: Kind, name: &Name) -> u64 {
    name.prefix() ^ (kind as u64).rotate_right(8)
}
