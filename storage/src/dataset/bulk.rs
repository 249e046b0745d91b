//! Bulk data: cut from memory while it is being written, so that its journal records are references and no byte is
//! written twice.
//!
//! Whoever writes, cuts: a run of memory that is long enough is claimed, its cuts are found (one thread a file, for each
//! cut depends on the one before), and then its chunks are hashed, compressed and stored by this thread while the next
//! run of the same file may be cut by another. What is left behind the last cut goes back and waits for what follows.

use bytes::Bytes;

use super::extents::{ChunkRef, Claim, Place};
use super::live::{Dataset, Mode};
use crate::catalogue::Policy;
use crate::chunk::{Ending, Fed, Feed};
use crate::dataset::FileTree;
use crate::error::{Error, Result};
use crate::name::{Kind, Name};
use crate::pool::StreamId;
use crate::store::stream_of;
use crate::units::Inode;

/// A run is cut while it is being written when it is this long and begins at a cut.
const ANCHORED_RUN_BYTES: u64 = 1 << 20;
/// A run is cut wherever it begins when it is this long: writes that came out of order have found their place by then.
const LOOSE_RUN_BYTES: u64 = 16 << 20;
/// When bytes have to become stable, a run of this length is still cut; shorter ones go into the journal inline.
const COMMIT_RUN_BYTES: u64 = 64 << 10;

/// A cut of a claimed run, with its bytes.
enum Piece {
    Chunk { bytes: Bytes, cut: Option<Ending> },
    Hole(u64),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Chunk { bytes, .. } => bytes.len() as u64,
            Piece::Hole(len) => *len,
        }
    }
}

impl Dataset {
    /// Cuts the run around `near` if a write has just made it long enough.
    pub(super) fn cut_while_writing(&self, inode: Inode, near: u64, size: u64) -> Result<()> {
        if self.mode == Mode::Live(Policy::Deferred) {
            return Ok(());
        }
        match self.claim(inode, near, ANCHORED_RUN_BYTES, LOOSE_RUN_BYTES, size) {
            Some(claim) => self.cut_claim(inode, Claim { to_end: false, ..claim }),
            None => Ok(()),
        }
    }

    /// Cuts whatever is worth it of a file that has to become stable, and waits for those who are cutting it.
    pub(super) fn cut_before_commit(&self, inode: Inode, size: u64) -> Result<()> {
        if self.mode == Mode::Live(Policy::Deferred) {
            return Ok(());
        }
        self.wait_for_cutters(inode);
        let mut from = 0;
        loop {
            let next = self.read_state().active.files.get(&inode).and_then(|extents| extents.next_open(from));
            let Some(near) = next else { break };
            match self.claim(inode, near, COMMIT_RUN_BYTES, COMMIT_RUN_BYTES, size) {
                Some(claim) => {
                    from = claim.offset + claim.len();
                    self.cut_claim(inode, claim)?;
                }
                None => from = near + 1,
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
                Ok(attributes) => self.cut_before_commit(inode, attributes.size)?,
                Err(Error::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes a run of memory for cutting. None where there is none, or another thread is finding cuts in this file.
    fn claim(&self, inode: Inode, near: u64, anchored_min: u64, loose_min: u64, size: u64) -> Option<Claim> {
        let mut state = self.write_state();
        let claim = state.active.files.get(&inode)?.find_run(near, anchored_min, loose_min, size)?;
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
        let pieces = self.find_cuts(&claim);
        let cut_end = claim.offset + pieces.iter().map(Piece::len).sum::<u64>();
        self.give_back(inode, &claim, cut_end);
        self.cutters.found(inode);
        let outcome = self.store_pieces(inode, &claim, &pieces);
        if outcome.is_err() {
            self.give_back(inode, &claim, claim.offset);
        }
        self.cutters.finish(inode);
        outcome
    }

    /// Finds the cuts of a run. Without its end, what might be cut differently by bytes that follow is left out.
    fn find_cuts(&self, claim: &Claim) -> Vec<Piece> {
        let mut feed = Feed::new(claim.offset);
        claim.pieces.iter().for_each(|piece| feed.push(piece.clone()));
        if claim.to_end {
            feed.end();
        }
        let mut pieces = Vec::new();
        loop {
            match feed.next(&self.stages.cutter) {
                Fed::Chunk { bytes, ending } => {
                    let behind_zeros = pieces.is_empty() && bytes.first() == Some(&0);
                    pieces.push(Piece::Chunk { cut: (!behind_zeros).then_some(ending), bytes });
                }
                Fed::Hole(len) => pieces.push(Piece::Hole(len)),
                Fed::NeedMore | Fed::End => break,
            }
        }
        pieces
    }

    /// Gives the memory behind `from` back to the file.
    fn give_back(&self, inode: Inode, claim: &Claim, from: u64) {
        let mut state = self.write_state();
        self.account(&mut state, |layer| {
            if layer.files.contains_key(&inode) {
                let end = claim.offset + claim.len();
                layer.with_file(inode, |extents| extents.set_claimed(from, end, &claim.stamps, false));
            }
        });
    }

    /// Stores the chunks of a run and puts references in the place of its memory.
    fn store_pieces(&self, inode: Inode, claim: &Claim, pieces: &[Piece]) -> Result<()> {
        let chunks: Vec<&[u8]> = pieces
            .iter()
            .filter_map(|piece| if let Piece::Chunk { bytes, .. } = piece { Some(bytes.as_ref()) } else { None })
            .collect();
        let stream = StreamId(stream_of(self.id) ^ inode.0);
        let mut stored = self.put_chunks(stream, &chunks)?.into_iter();
        let mut places = Vec::with_capacity(pieces.len());
        let mut offset = claim.offset;
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
        let files = self.cutters.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let busy = |files: &mut std::collections::HashMap<Inode, usize>| files.contains_key(&inode);
        drop(self.cutters.done.wait_while(files, busy));
    }
}

impl super::live::Cutters {
    /// Notes that a thread begins to find cuts in a file; false where another one does that already.
    fn start(&self, inode: Inode) -> bool {
        let mut searching = self.searching.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let free = searching.insert(inode);
        if free {
            *self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner).entry(inode).or_default() += 1;
        }
        free
    }

    /// The cuts are found: another thread may look for the next ones.
    fn found(&self, inode: Inode) {
        self.searching.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&inode);
    }

    /// The run is stored.
    fn finish(&self, inode: Inode) {
        let mut files = self.files.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(count) = files.get_mut(&inode) {
            *count -= 1;
            if *count == 0 {
                files.remove(&inode);
            }
        }
        self.done.notify_all();
    }
}
