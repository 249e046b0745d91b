//! Writes that go on where one another end, carried out as one.
//!
//! An initiator that writes a long run sends it in pieces, many at once. Written together they are one record and one turn at
//! the locks, and long enough to be cut at once instead of being written twice. Each still has its own answer: where the
//! whole can't be written, for whatever reason, they are carried out one by one, and each is told what became of it.
//!
//! Only plain WRITEs are joined: nothing that asks for more than to be written (FUA, protection), and no task that asks for
//! an order.

use std::sync::Arc;

use bytes::Bytes;

use super::block::{self, Extent};
use super::{Cdb, Data, Device, LogicalUnit, Nexus, Reply};

/// Most bytes that are written together. A run is also parted at every multiple of it: volumes are cut there anyway.
pub const TOGETHER_BYTES_MAX: u64 = 1 << 20;

/// Writes that go on where one another end, in order: commands with their data.
pub type Run<'a> = [(&'a [u8], &'a Data)];

/// The blocks of a plain WRITE; `None` for every other command.
fn plain(cdb: &[u8]) -> Option<Extent> {
    let cdb = Cdb(cdb);
    // DPO is about caches, and changes nothing here.
    let is_plain = matches!(cdb.opcode(), 0x2a | 0x8a | 0xaa) && !cdb.flag(1, !0x10);
    is_plain.then(|| Extent::of(&cdb)).filter(|extent| extent.blocks > 0)
}

impl Device {
    /// True where `next` goes on where `last` ends, and may be written together with it and what came before it.
    pub fn goes_on(&self, lun: [u8; 8], last: &[u8], next: &[u8]) -> bool {
        let (Some(last), Some(next)) = (plain(last), plain(next)) else { return false };
        let Some(per_run) = self.unit(lun).map(|unit| TOGETHER_BYTES_MAX / unit.block_bytes()) else { return false };
        let Some(end) = next.block.checked_add(next.blocks) else { return false };
        let same_part = last.block / per_run == (end - 1) / per_run;
        last.block.checked_add(last.blocks) == Some(next.block) && same_part
    }

    /// Carries out a run of writes as one; what comes back is the answer to each of them, not to be sent before
    /// [`super::settle`]. `None` where they are to be carried out one by one: then nothing was written, or the same bytes may be
    /// written again. `is_aborted` says whether that is so of any of them ([`super::Asked::aborted`]).
    pub fn begin_together(
        &self,
        nexus: &Arc<Nexus>,
        lun: [u8; 8],
        epoch: u64,
        run: &Run,
        is_aborted: impl Fn() -> bool,
    ) -> Option<Reply> {
        self.unit(lun)?.begin_together(nexus, epoch, run, is_aborted)
    }
}

impl LogicalUnit {
    fn begin_together(
        self: &Arc<Self>,
        nexus: &Arc<Nexus>,
        epoch: u64,
        run: &Run,
        is_aborted: impl Fn() -> bool,
    ) -> Option<Reply> {
        let (Some(first), Some(last)) = (plain(run.first()?.0), plain(run.last()?.0)) else { return None };
        let whole = Extent { block: first.block, blocks: (last.block + last.blocks).checked_sub(first.block)? };
        let came = |(cdb, data): &(&[u8], &Data)| {
            plain(cdb).is_some_and(|extent| extent.blocks * self.block_bytes() == data.len() as u64)
        };
        let (offset, len) = self.moved(whole).ok()?;
        if !run.iter().all(came) || run.iter().map(|(_, data)| data.len() as u64).sum::<u64>() != len {
            return None;
        }
        let pass = self.gate.enter(nexus, epoch)?;
        if is_aborted() || pass.is_barred() {
            return None;
        }
        self.notice_size();
        if !self.state().would_admit_write(nexus) {
            return None;
        }
        self.writable().ok()?;
        let data: Vec<Bytes> = run.iter().flat_map(|(_, data)| data.first(data.len())).collect();
        block::put_pieces(self, offset, len, data, self.stable(false)).ok()
    }
}
