//! Bulk data: cut from memory while it is being written, so that its journal records are references and no byte is
//! written twice.
//!
//! Whoever writes, cuts: a run of memory that is long enough is claimed, its cuts are found (one thread a file, for each
//! cut depends on the one before), and then its chunks are hashed, compressed and stored by this thread while the next
//! run of the same file may be cut by another. What is left behind the last cut goes back and waits for what follows.

use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;

use super::extents::{ChunkRef, Claim, Place, RunBytes};
use super::live::{Dataset, Mode};
use crate::catalogue::Policy;
use crate::chunk::{Ending, Fed, Feed};
use crate::dataset::FileTree;
use crate::error::{Error, Result};
use crate::name::{Kind, Name};
use crate::pool::StreamId;
use crate::store::stream_of;
use crate::units::{Inode, Timestamp};

/// What is cut while it is being written: a MiB that begins at a cut, or anything so long that writes which came out of
/// order have found their place. Taken in parts, so that several threads cut one file.
const WHILE_WRITING: RunBytes = RunBytes { anchored: 1 << 20, loose: 16 << 20, max: 4 << 20 };
/// What is still cut when bytes have to become stable; shorter runs go into the journal inline.
const BEFORE_COMMIT: RunBytes = RunBytes { anchored: 64 << 10, loose: 64 << 10, max: 4 << 20 };
/// While so much of a dataset waits in memory to be cut or journaled, writers cut before they go on, or wait for those who do.
const CROWDED_BYTES: u64 = 32 << 20;
/// Where so much waits in memory of a dataset that defers, writers bring it into the journal.
const DEFERRED_BYTES: u64 = 4 << 20;
/// How long a writer waits for cutters before it looks again.
const CROWD_PATIENCE: Duration = Duration::from_millis(100);
/// Runs that one writer cuts for others before its own call is answered.
const RUNS_PER_WRITE: usize = 4;

/// A cut of a claimed run, with its bytes.
pub(super) enum Piece {
    Chunk { bytes: Bytes, cut: Option<Ending> },
    Hole(u64),
}

impl Piece {
    pub fn len(&self) -> u64 {
        match self {
            Piece::Chunk { bytes, .. } => bytes.len() as u64,
            Piece::Hole(len) => *len,
        }
    }
}

impl Dataset {
    /// Cuts the run around `near` if a write has just made it long enough. Where much of the dataset waits in memory, the
    /// writer cuts what others wrote, too, or waits for those who cut: writing does not run ahead of cutting.
    ///
    /// The write itself is done: a failure to store is met again when the bytes have to become stable.
    pub(super) fn cut_while_writing(&self, inode: Inode, near: u64, size: u64, now: Timestamp) {
        if self.defers() {
            // What does not go into the journal is met again when the bytes have to become stable.
            return drop(self.journal_while_writing(now));
        }
        let mut near = Some(near);
        for _ in 0..RUNS_PER_WRITE {
            match near.and_then(|near| self.claim(inode, near, WHILE_WRITING, size)) {
                Some(claim) => {
                    let end = claim.offset + claim.len();
                    if let Err(error) = self.cut_claim(inode, Claim { to_end: false, ..claim }) {
                        return drop(error);
                    }
                    near = self.first_open(inode, end.saturating_sub(1)).or_else(|| self.first_open(inode, 0));
                }
                None if self.is_crowded() && self.wait_for_a_cutter() => near = self.first_open(inode, 0),
                None => return,
            }
        }
    }

    /// What waits for its hours waits in the journal, not in memory: brings it there where it has become much.
    fn journal_while_writing(&self, now: Timestamp) -> Result<()> {
        let much = DEFERRED_BYTES.min(self.stages.pressure.options.freeze_bytes / 2);
        if self.read_state().active.memory_bytes() < much {
            return Ok(());
        }
        let mut state = self.change_state()?;
        // Others may have done it meanwhile.
        if state.active.memory_bytes() >= much {
            self.journal_everything(&mut state, now)?;
        }
        drop(state);
        self.stages.relieve_journal()
    }

    /// The first memory at or behind an offset that nobody has cut or journaled.
    fn first_open(&self, inode: Inode, from: u64) -> Option<u64> {
        self.read_state().active.files.get(&inode).and_then(|extents| extents.next_open(from))
    }

    fn open_end(&self, inode: Inode, near: u64) -> u64 {
        self.read_state().active.files.get(&inode).map_or(near + 1, |extents| extents.open_end(near))
    }

    fn is_crowded(&self) -> bool {
        self.read_state().active.open_bytes() > CROWDED_BYTES
    }

    /// Waits until somebody who cuts is done; false where nobody does.
    fn wait_for_a_cutter(&self) -> bool {
        let files = self.cutters.files.lock().unwrap_or_else(PoisonError::into_inner);
        if files.is_empty() {
            return false;
        }
        drop(self.cutters.done.wait_timeout(files, CROWD_PATIENCE));
        true
    }

    /// Cuts whatever is worth it of a file that has to become stable, and waits for those who are cutting it.
    pub(super) fn cut_before_commit(&self, inode: Inode, size: u64) -> Result<()> {
        if self.defers() {
            return Ok(());
        }
        self.wait_for_cutters(inode);
        let mut from = 0;
        while let Some(near) = self.first_open(inode, from) {
            match self.claim(inode, near, BEFORE_COMMIT, size) {
                Some(claim) => {
                    from = claim.offset + claim.len();
                    self.cut_claim(inode, claim)?;
                }
                // Past the whole run, or a run of many small writes would be looked at once for each of them.
                None => from = self.open_end(inode, near),
            }
        }
        self.wait_for_cutters(inode);
        Ok(())
    }

    /// Cuts whatever is worth it of all files, before all of them have to become stable at once.
    pub(crate) fn cut_everything(&self) -> Result<()> {
        let pending: Vec<Inode> = {
            let state = self.read_state();
            let files = state.active.files.iter().filter(|(_, extents)| extents.has_unjournaled());
            files.map(|(inode, _)| *inode).collect()
        };
        for inode in pending {
            match self.attributes(inode) {
                // As for a commit: what can't be cut goes into the journal inline.
                Ok(attributes) => drop(self.cut_before_commit(inode, attributes.size)),
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a run of memory for cutting. None where there is none, or another thread is finding cuts in this file.
    fn claim(&self, inode: Inode, near: u64, min: RunBytes, size: u64) -> Option<Claim> {
        let mut state = self.write_state();
        let claim = state.active.files.get(&inode)?.find_run(near, min, size)?;
        if !self.cutters.start(inode) {
            return None;
        }
        let end = claim.offset + claim.len();
        self.account(&mut state, |layer| {
            layer.with_file(inode, |extents| extents.set_claimed(claim.offset, end, &claim.stamps, true));
        });
        Some(claim)
    }

    fn cut_claim(&self, inode: Inode, claim: Claim) -> Result<()> {
        let _in_use = self.stages.pool.in_use();
        let pieces = self.find_cuts(&claim);
        let cut_end = claim.offset + pieces.iter().map(Piece::len).sum::<u64>();
        self.give_back(inode, &claim, cut_end, claim.offset + claim.len());
        self.cutters.found(inode);
        let outcome = self.store_pieces(inode, &claim, &pieces);
        if outcome.is_err() {
            // Not what is behind the last cut: another cutter may have it by now.
            self.give_back(inode, &claim, claim.offset, cut_end);
        }
        self.cutters.finish(inode);
        outcome
    }

    /// Finds the cuts of a run. Without its end, what might be cut differently by bytes that follow is left out.
    pub(super) fn find_cuts(&self, claim: &Claim) -> Vec<Piece> {
        let cutter = self.cutter();
        let mut feed = Feed::new(claim.offset);
        claim.pieces.iter().for_each(|piece| feed.push(piece.clone()));
        if claim.to_end {
            feed.end();
        }
        let mut pieces = Vec::new();
        loop {
            match feed.next(cutter) {
                Fed::Chunk { bytes, ending } => {
                    let unsure = pieces.is_empty() && !cutter.is_boundary(claim.offset);
                    let behind_zeros = unsure && bytes.first() == Some(&0);
                    pieces.push(Piece::Chunk { cut: (!behind_zeros).then_some(ending), bytes });
                }
                Fed::Hole(len) => pieces.push(Piece::Hole(len)),
                Fed::NeedMore | Fed::End => break,
            }
        }
        pieces
    }

    /// Gives the memory in `[from, to)` back to the file.
    fn give_back(&self, inode: Inode, claim: &Claim, from: u64, to: u64) {
        let mut state = self.write_state();
        self.account(&mut state, |layer| {
            if layer.files.contains_key(&inode) {
                layer.with_file(inode, |extents| extents.set_claimed(from, to, &claim.stamps, false));
            }
        });
    }

    /// Stores the chunks of a run and puts references in the place of its memory.
    fn store_pieces(&self, inode: Inode, claim: &Claim, pieces: &[Piece]) -> Result<()> {
        let stream = StreamId(stream_of(self.id) ^ inode.0);
        let places = self.put_pieces(stream, claim.offset, pieces)?;
        let mut state = self.write_state();
        self.account(&mut state, |layer| {
            if layer.files.contains_key(&inode) {
                layer.with_file(inode, |extents| {
                    for (offset, len, place) in places {
                        extents.replace_claimed(offset, len, place, &claim.stamps);
                    }
                });
            }
        });
        Ok(())
    }

    /// Stores the chunks of a run that begins at `offset`: offset and length of each piece, and where it is now.
    pub(super) fn put_pieces(
        &self,
        stream: StreamId,
        mut offset: u64,
        pieces: &[Piece],
    ) -> Result<Vec<(u64, u64, Place)>> {
        let chunks: Vec<&[u8]> = pieces
            .iter()
            .filter_map(|piece| if let Piece::Chunk { bytes, .. } = piece { Some(bytes.as_ref()) } else { None })
            .collect();
        let mut stored = self.put_chunks(stream, &chunks)?.into_iter();
        let mut places = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let place = match piece {
                Piece::Hole(_) => Some(Place::Hole),
                Piece::Chunk { bytes, cut } => stored.next().map(|put| Place::Chunk {
                    chunk: ChunkRef { name: put, len: bytes.len() as u32, cut: *cut },
                    skip: 0,
                }),
            };
            places.extend(place.map(|place| (offset, piece.len(), place)));
            offset += piece.len();
        }
        Ok(places)
    }

    /// Stores chunks, each once where the policy is to deduplicate. Returns their names.
    pub(crate) fn put_chunks(&self, stream: StreamId, chunks: &[&[u8]]) -> Result<Vec<Name>> {
        let pool = &self.stages.pool;
        if self.mode == Mode::Live(Policy::Off) {
            let put = |chunk: &&[u8]| pool.put_whole(stream, Kind::Chunk, chunk).map(|put| put.name);
            return chunks.iter().map(put).collect();
        }
        Ok(pool.put_batch(stream, Kind::Chunk, chunks)?.into_iter().map(|put| put.name).collect())
    }

    fn wait_for_cutters(&self, inode: Inode) {
        let files = self.cutters.files.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = |files: &mut std::collections::HashMap<Inode, usize>| files.contains_key(&inode);
        drop(self.cutters.done.wait_while(files, busy));
    }
}

impl super::live::Cutters {
    /// Notes that a thread begins to find cuts in a file; false where another one does that already.
    fn start(&self, inode: Inode) -> bool {
        let mut searching = self.searching.lock().unwrap_or_else(PoisonError::into_inner);
        let free = searching.insert(inode);
        if free {
            *self.files.lock().unwrap_or_else(PoisonError::into_inner).entry(inode).or_default() += 1;
        }
        free
    }

    /// The cuts are found: another thread may look for the next ones.
    fn found(&self, inode: Inode) {
        self.searching.lock().unwrap_or_else(PoisonError::into_inner).remove(&inode);
    }

    /// The run is stored.
    fn finish(&self, inode: Inode) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = files.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                files.remove(&inode);
            }
        }
        self.done.notify_all();
    }
}
