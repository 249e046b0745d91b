//! A volume as front doors see it: [`BlockDevice`] over the layers of a dataset. Also serves snapshots and replicas.
//!
//! ```text
//!              large: cut, stored ─┐ (no lock held)
//! write ─▶ ────────────────────────┴─▶ one record: chunks, holes, bytes inline ─▶ extents of the active layer
//!              small: as it is     ───┘ (under the dataset's lock)
//! ```
//!
//! Every change is in the journal before its call returns, not synced, and before it is answered it is with the kernel. What is
//! inline is read from the journal until the drain has merged it, so a layer holds no bytes, and a burst of small writes may be as
//! long as the journal has room. `docs/decisions/0006-volumes.md` has the measurements.

use bytes::Bytes;

use super::block::{
    Allocation, BOUNDARY_BYTES, BlockDevice, Compared, DISCARD_RANGES_MAX, VOLUME_BYTES_MAX, VOLUME_BYTES_MIN,
    VOLUME_BYTES_STEP, WRITE_BYTES_MAX,
};
use super::bulk::Piece;
use super::extents::{Claim, Extent, Place};
use super::live::{Dataset, Effects};
use super::namespace::{self, Key};
use super::read::runs;
use super::record::{Payload, Record, WrittenPart};
use super::state::{State, content_of};
use super::tails::Tail;
use super::{Call, Credentials};
use crate::chunk::leading_zeros;
use crate::error::{Damage, Environment, Error, Refusal, Result};
use crate::pool::StreamId;
use crate::store::stream_of;
use crate::tree::map;
use crate::units::{Inode, Lsn, Timestamp};

/// Shorter writes go into the journal as they are; of longer ones only what is behind the last cut does.
const CUT_BYTES_MIN: u64 = 128 << 10;
/// How far one look for allocated bytes goes.
const LOOK_BYTES: u64 = 128 << 20;

/// A write that is ready to become a record.
struct Draft {
    offset: u64,
    len: u64,
    parts: Vec<WrittenPart>,
    payload: Vec<Bytes>,
    /// The tail that the first parts reach back over: they hold only while it is there.
    behind: Option<Tail>,
    /// What is left behind the last cut, and where it begins.
    left: Option<(u64, Bytes)>,
}

/// Refuses what can't be the size of a volume.
pub(crate) fn check_volume_size(size: u64) -> Result<()> {
    if (VOLUME_BYTES_MIN..=VOLUME_BYTES_MAX).contains(&size) && size.is_multiple_of(VOLUME_BYTES_STEP) {
        return Ok(());
    }
    let rule = "1 MiB to 256 TiB, and a multiple of 4096 bytes";
    Err(Refusal::Invalid(format!("a volume can't have {size} bytes: {rule}")).into())
}

impl Dataset {
    /// Gives the volume another size, which is not less than before. Returns the record that makes it stable.
    pub(crate) fn resize(&self, size: u64, now: Timestamp) -> Result<Lsn> {
        check_volume_size(size)?;
        let call = Call { caller: &Credentials::ROOT, now, tag: None };
        let (_, lsn) = self.change(&call, |table| {
            let before = namespace::volume_size(table)?;
            if size < before {
                let why = format!(
                    "a volume of {before} bytes can't shrink to {size}: what its guest has there would be gone"
                );
                return Err(Refusal::Invalid(why).into());
            }
            if size > before {
                namespace::resize_volume(table, size, now)?;
            }
            Ok(((), Effects { inode: Inode::ROOT, truncated: (size > before).then_some((Inode::ROOT, size)) }))
        })?;
        self.learn_size()?;
        Ok(lsn)
    }

    /// Refuses what does not lie within the volume.
    fn check_range(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.size_bytes();
        match offset.checked_add(len).is_some_and(|end| end <= size) {
            true => Ok(()),
            false => Err(Refusal::Invalid(format!("{len} bytes at {offset} of a volume of {size} bytes")).into()),
        }
    }

    fn check_write(&self, offset: u64, len: usize) -> Result<()> {
        self.refuse_if_read_only()?;
        if len > WRITE_BYTES_MAX {
            let why = format!("{len} bytes in one write; {WRITE_BYTES_MAX} are the most");
            return Err(Refusal::Invalid(why).into());
        }
        self.check_range(offset, len as u64)
    }

    /// Decides how a write becomes a record. Bulk is cut and stored here, with no lock held.
    fn draft(&self, offset: u64, len: u64, data: Vec<Bytes>) -> Result<Draft> {
        if len >= CUT_BYTES_MIN && !self.defers() {
            match self.draft_bulk(offset, len, &data) {
                // The journal took its room before.
                Err(Error::Environment(Environment::Full)) => {}
                drafted => return drafted,
            }
        }
        let is_zeros = data.iter().all(|piece| leading_zeros(piece) == piece.len());
        let place = is_zeros.then_some(Place::Hole);
        let payload = if is_zeros { Vec::new() } else { data };
        Ok(Draft { offset, len, parts: vec![WrittenPart { offset, len, place }], payload, behind: None, left: None })
    }

    /// Cuts a long write, from where the one before it was cut last if it goes on from there.
    fn draft_bulk(&self, offset: u64, len: u64, data: &[Bytes]) -> Result<Draft> {
        let behind = match offset.is_multiple_of(BOUNDARY_BYTES) {
            true => None,
            false => self.read_state().tails.at(offset),
        };
        let start = behind.as_ref().map_or(offset, |tail| tail.start);
        let pieces: Vec<Bytes> = behind.iter().map(|tail| &tail.bytes).chain(data).cloned().collect();
        let claim = Claim { offset: start, pieces, stamps: Vec::new(), to_end: false };
        let found = self.find_cuts(&claim);
        let cut_end = start + found.iter().map(Piece::len).sum::<u64>();
        let stored = self.put_pieces(StreamId(stream_of(self.id)), start, &found)?;
        let part = |(offset, len, place)| WrittenPart { offset, len, place: Some(place) };
        let mut parts: Vec<WrittenPart> = stored.into_iter().map(part).collect();
        let end = offset + len;
        let (mut payload, mut left) = (Vec::new(), None);
        if cut_end < end {
            let inline_from = cut_end.max(offset);
            parts.push(WrittenPart { offset: inline_from, len: end - inline_from, place: None });
            payload = rest_of(data, inline_from - offset);
            left = Some((cut_end, Bytes::from(rest_of(&claim.pieces, cut_end - start).concat())));
        }
        Ok(Draft { offset, len, parts, payload, behind, left })
    }

    /// Makes a change of bytes: one record, applied to the active layer. The lock is held, so that the journal's order is the
    /// order in which changes are seen.
    fn record_write(
        &self,
        state: &mut State,
        now: Timestamp,
        parts: Vec<WrittenPart>,
        payload: Vec<Bytes>,
    ) -> Result<Lsn> {
        let record = Record::Write { inode: Inode::ROOT, parts };
        let appended = self.append(state, now, &record, payload)?;
        let Record::Write { inode, parts } = record else { return Ok(appended.lsn) };
        for part in &parts {
            state.tails.changed(part.offset, part.offset + part.len);
        }
        self.apply_write(state, inode, parts, appended.place.map(Payload::Journal))?;
        Ok(appended.lsn)
    }

    fn write_draft(&self, now: Timestamp, mut draft: Draft) -> Result<Lsn> {
        let mut state = self.grow_state()?;
        self.check_range(draft.offset, draft.len)?;
        let holds = draft.behind.as_ref().is_none_or(|tail| state.tails.holds(draft.offset, tail.stamp));
        if !holds {
            let parts = draft.parts.into_iter();
            draft.parts = parts.filter_map(|part| part.from(draft.offset)).collect();
        }
        let lsn = self.record_write(&mut state, now, draft.parts, draft.payload)?;
        if let Some((start, bytes)) = draft.left
            && (start >= draft.offset || holds)
        {
            state.tails.leave(start, bytes);
        }
        drop(state);
        self.freeze_if_full();
        Ok(lsn)
    }

    /// Freezes the active layer where it is large: the pump, busy with the one before it, would find it larger by far.
    fn freeze_if_full(&self) {
        if self.is_large() {
            self.freeze_journaled_if_large();
            self.stages.pressure.call_pump();
        }
    }

    /// Reads a range under the lock that the caller holds.
    fn read_held(&self, state: &State, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        let objects = self.objects();
        self.fetch(state.plan(&objects, Inode::ROOT, offset, offset + len)?)
    }
}

/// What is behind the first `skip` bytes of a run. The journal keeps it until it is synced, and counts its length: what is short
/// is copied, for a slice would keep the whole piece alive.
fn rest_of(pieces: &[Bytes], skip: u64) -> Vec<Bytes> {
    let mut skip = skip as usize;
    let rest = |piece: &Bytes| {
        let from = skip.min(piece.len());
        skip -= from;
        if from > piece.len() / 2 { Bytes::copy_from_slice(&piece[from..]) } else { piece.slice(from..) }
    };
    pieces.iter().map(rest).filter(|rest| !rest.is_empty()).collect()
}

/// How many bytes two runs have in common at their beginning.
fn common(pieces: &[Bytes], expected: &[u8]) -> u64 {
    let found = pieces.iter().flat_map(|piece| piece.iter());
    found.zip(expected).take_while(|(found, expected)| found == expected).count() as u64
}

impl BlockDevice for Dataset {
    fn size_bytes(&self) -> u64 {
        self.known_size()
    }

    fn read_only(&self) -> bool {
        self.read_only
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<Bytes>> {
        self.check_range(offset, len)?;
        let objects = self.objects();
        self.fetch_patiently(|| {
            let state = self.look()?;
            Ok(((), state.plan(&objects, Inode::ROOT, offset, offset + len)?))
        })
        .map(|((), pieces)| pieces)
    }

    fn write_pieces(&self, now: Timestamp, offset: u64, mut data: Vec<Bytes>) -> Result<Lsn> {
        data.retain(|piece| !piece.is_empty());
        let len = data.iter().map(Bytes::len).sum();
        self.check_write(offset, len)?;
        if len == 0 {
            return Ok(self.look()?.active.last);
        }
        self.admit(len as u64)?;
        // From the first chunk that is found to be known until the record names it.
        let _in_use = self.stages.pool.in_use();
        let draft = self.draft(offset, len as u64, data)?;
        self.stages.relieve_journal()?;
        self.write_draft(now, draft)
    }

    fn discard(&self, now: Timestamp, ranges: &[(u64, u64)]) -> Result<Lsn> {
        self.refuse_if_read_only()?;
        if ranges.len() > DISCARD_RANGES_MAX {
            let why = format!("{} ranges in one discard; {DISCARD_RANGES_MAX} are the most", ranges.len());
            return Err(Refusal::Invalid(why).into());
        }
        // Where the disk is full the drain can't make room, and a discard is what may.
        match self.stages.pressure.wait_for_room() {
            Ok(()) | Err(Error::Environment(Environment::Full)) => {}
            Err(error) => return Err(error),
        }
        let mut state = self.grow_state()?;
        for (offset, len) in ranges {
            self.check_range(*offset, *len)?;
        }
        let hole = |(offset, len): &(u64, u64)| WrittenPart { offset: *offset, len: *len, place: Some(Place::Hole) };
        let parts: Vec<WrittenPart> = ranges.iter().filter(|(_, len)| *len > 0).map(hole).collect();
        if parts.is_empty() {
            return Ok(state.active.last);
        }
        let lsn = self.record_write(&mut state, now, parts, Vec::new())?;
        drop(state);
        self.freeze_if_full();
        Ok(lsn)
    }

    fn compare_and_write(&self, now: Timestamp, offset: u64, expected: &[u8], data: Bytes) -> Result<Compared> {
        self.check_write(offset, data.len())?;
        if expected.len() != data.len() {
            let why = format!("{} bytes to compare with and {} to write", expected.len(), data.len());
            return Err(Refusal::Invalid(why).into());
        }
        self.admit(data.len() as u64)?;
        let len = data.len() as u64;
        let mut state = self.grow_state()?;
        self.check_range(offset, len)?;
        let same = common(&self.read_held(&state, offset, len)?, expected);
        if same < len {
            return Ok(Compared::Differs(same));
        }
        if len == 0 {
            return Ok(Compared::Written(state.active.last));
        }
        let part = WrittenPart { offset, len, place: None };
        let lsn = self.record_write(&mut state, now, vec![part], vec![data])?;
        drop(state);
        self.freeze_if_full();
        Ok(Compared::Written(lsn))
    }

    fn allocation(&self, offset: u64) -> Result<Allocation> {
        let size = self.size_bytes();
        self.check_range(offset, 1)?;
        let objects = self.objects();
        let _in_use = self.stages.pool.in_use();
        let end = size.min(offset.saturating_add(LOOK_BYTES));
        let plan = self.look()?.plan(&objects, Inode::ROOT, offset, end)?;
        let mut run = Allocation { allocated: false, len: 0 };
        runs(&objects, &plan, |allocated, len| {
            let goes_on = run.len == 0 || run.allocated == allocated;
            if goes_on {
                run = Allocation { allocated, len: run.len + len };
            }
            goes_on
        })?;
        Ok(run)
    }

    fn write_out(&self, lsn: Lsn) -> Result<()> {
        if self.read_only { Ok(()) } else { self.stages.write_out(lsn) }
    }

    fn make_stable(&self, lsn: Lsn) -> Result<()> {
        if self.read_only { Ok(()) } else { self.stages.make_stable(lsn) }
    }

    fn flush(&self) -> Result<()> {
        let last = self.look()?.active.last;
        BlockDevice::make_stable(self, last)
    }

    fn used_bytes(&self) -> Result<u64> {
        let objects = self.objects();
        let state = self.look()?;
        let base = match map::get(&objects, state.base.root.as_ref(), &Key::Content(Inode::ROOT).encode())? {
            Some(value) => content_of(Inode::ROOT, &value)?.data_len(),
            None => 0,
        };
        let size = self.size_bytes();
        let written = state.layers().filter_map(|layer| layer.files.get(&Inode::ROOT)).map(|extents| {
            let data = extents.range(0, size).filter(|(_, extent)| !matches!(extent.place, Place::Hole));
            data.map(|(_, extent)| extent.len).sum::<u64>()
        });
        Ok(size.min(base + written.sum::<u64>()))
    }
}

impl Dataset {
    /// Puts the parts of a write over what was there; those without a place are the payload's bytes, one behind the other.
    pub(super) fn apply_write(
        &self,
        state: &mut State,
        inode: Inode,
        parts: Vec<WrittenPart>,
        payload: Option<Payload>,
    ) -> Result<()> {
        let inline: u64 = parts.iter().filter(|part| part.place.is_none()).map(|part| part.len).sum();
        let there = payload.as_ref().map_or(0, Payload::len);
        if inline != there {
            let found = format!("{there} bytes");
            return Err(Damage::new("journal", state.active.last.0, format!("{inline} bytes of payload"), found).into());
        }
        self.account(state, |layer| {
            let data = parts.iter().filter(|part| !matches!(part.place, Some(Place::Hole)));
            layer.written_bytes += data.map(|part| part.len).sum::<u64>();
            layer.with_file(inode, |extents| {
                let mut skip = 0;
                for WrittenPart { offset, len, place } in parts {
                    let place = match (place, &payload) {
                        (Some(place), _) => place,
                        (None, Some(payload)) => {
                            skip += len;
                            payload.part(skip - len, len, self.stages.stamp())
                        }
                        (None, None) => continue,
                    };
                    extents.insert(offset, Extent { len, place, journaled: true });
                }
            });
        });
        Ok(())
    }
}
