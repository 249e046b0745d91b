//! The stages that all datasets of a store share, in the order in which bytes travel through them.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::catalogue::{Catalogue, Change};
use crate::chunk::Cutter;
use crate::dataset::BOUNDARY_BYTES;
use crate::error::{Environment, Error, Refusal, Result, io_error};
use crate::id::{DatasetId, IdSource};
use crate::journal::{Appended, Journal, Means};
use crate::jumps::{Jump, Jumps, UNSEEN_NANOSECONDS_MAX};
use crate::media::Media;
use crate::name::Realm;
use crate::pool::Pool;
use crate::pressure::Pressure;
use crate::units::{Lsn, Space, Timestamp};

/// Share of the free room that is admitted before the disk is measured again. What is admitted can take several times its
/// length (inline in the journal, then as chunks, and the trees beside them); what others put on the disk comes on top.
const ADMITTED_SHARE: u64 = 8;
/// Most that is admitted before the disk is measured again.
const ADMITTED_BYTES_MAX: u64 = 64 << 20;
/// So many times the reserve, besides itself and two segments of the journal, is ample room.
const AMPLE_RESERVES: u64 = 3;
/// The setting that keeps the jumps of the clock.
const JUMPS: &str = "clock.jumps";
/// What every admission counts beside its data.
const ADMISSION_BYTES: u64 = 4096;

/// What is below every dataset.
pub(crate) struct Stages {
    pub media: Arc<dyn Media>,
    pub realm: Realm,
    /// Cuts files.
    pub cutter: Cutter,
    /// Cuts volumes.
    pub volume_cutter: Cutter,
    pub journal: Journal,
    pub pool: Pool,
    pub catalogue: Catalogue,
    pub pressure: Arc<Pressure>,
    /// Free space below which new data is refused, so that deletion and the journal always have room.
    pub reserve_bytes: u64,
    /// Where new datasets and snapshots get their ids from.
    pub ids: IdSource,
    /// Random at every start; bumped by every failed flush.
    verifier: AtomicU64,
    stamps: AtomicU64,
    /// True where a record may refer to chunks that no sync has covered yet.
    unsynced: AtomicBool,
    /// True where a record may refer to chunks that are in this process alone.
    unwritten: AtomicBool,
    /// Held while containers are synced for the journal.
    settling: Mutex<()>,
    /// Bytes that may be admitted before the disk is measured again.
    admissible: AtomicI64,
    /// The latest time that was told.
    told: AtomicI64,
    /// Where it jumped.
    jumps: Mutex<Jumps>,
}

impl Stages {
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        media: Arc<dyn Media>,
        realm: Realm,
        cutter: Cutter,
        journal: Journal,
        pool: Pool,
        catalogue: Catalogue,
        pressure: Arc<Pressure>,
        reserve_bytes: u64,
        ids: IdSource,
    ) -> Self {
        let verifier = AtomicU64::new(u64::from_le_bytes(ids.draw()));
        let stamps = AtomicU64::new(1);
        let volume_cutter = cutter.clone().with_boundary_every(BOUNDARY_BYTES);
        let mut jumps = catalogue.setting(JUMPS).map(|list| Jumps::decode(&list)).unwrap_or_default();
        jumps.end_at(journal.time());
        let told = AtomicI64::new(journal.time().0);
        Stages {
            media,
            realm,
            cutter,
            volume_cutter,
            journal,
            pool,
            catalogue,
            pressure,
            reserve_bytes,
            ids,
            verifier,
            stamps,
            unsynced: AtomicBool::new(true),
            unwritten: AtomicBool::new(true),
            settling: Mutex::default(),
            admissible: AtomicI64::new(0),
            told,
            jumps: Mutex::new(jumps),
        }
    }

    /// A number that tells one write from every other.
    pub fn stamp(&self) -> u64 {
        self.stamps.fetch_add(1, Ordering::Relaxed)
    }

    /// Returns when the journal up to `lsn`, and every container that it refers to, is synced.
    pub fn make_stable(&self, lsn: Lsn) -> Result<()> {
        self.journal.commit(lsn, &|| self.sync_what_records_refer_to()).inspect_err(|_| self.flush_failed())
    }

    /// Returns when the journal up to `lsn`, and every container that it refers to, outlives this process, though not a power
    /// cut: a volume's clients have no way to learn that the box was started anew, and to send again what they were told is
    /// written. No sync, but where a segment of the journal ends.
    pub fn write_out(&self, lsn: Lsn) -> Result<()> {
        let before = |means| match means {
            Means::Safe => self.sync_what_records_refer_to(),
            Means::Written => self.write_what_records_refer_to(),
        };
        self.journal.write_out(lsn, &before).inspect_err(|_| self.flush_failed())
    }

    /// Leaves a voucher at the end of the journal, for closing.
    pub fn vouch(&self) -> Result<()> {
        self.journal.vouch(&|| self.sync_what_records_refer_to()).inspect_err(|_| self.flush_failed())
    }

    /// To be called before a record is appended that refers to chunks which were put.
    pub fn will_refer(&self) {
        self.unsynced.store(true, Ordering::SeqCst);
        self.unwritten.store(true, Ordering::SeqCst);
    }

    /// Called by who commits, when he knows what: syncs containers where a record of it may refer to them. A batch of names
    /// and inline bytes alone does not wait for what the drain has put meanwhile.
    ///
    /// Whoever appends such a record has raised the flag before, and put the chunks before that; who lowers it has synced
    /// before the next one looks. So a flag that is down means that a sync has covered every chunk that is referred to.
    fn sync_what_records_refer_to(&self) -> Result<()> {
        let _one_after_the_other = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.unsynced.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.pool.sync().inspect_err(|_| self.will_refer())
    }

    /// The same for those who only write, of whom there is one at a time: containers' bytes are with the kernel before records
    /// that refer to them are.
    fn write_what_records_refer_to(&self) -> Result<()> {
        if !self.unwritten.swap(false, Ordering::SeqCst) {
            return Ok(());
        }
        self.pool.write_out().inspect_err(|_| self.will_refer())
    }

    /// Syncs where much of the journal waits for it, so that an append under a lock need not. Writers who come meanwhile share it.
    pub fn relieve_journal(&self) -> Result<()> {
        if self.journal.is_nearly_full() { self.make_stable(self.journal.last()) } else { Ok(()) }
    }

    /// Learns that it is `now`. Where that is a jump, it is kept before anything has a time behind it. To be called with every
    /// change, and every few seconds while there is none.
    pub fn tell(&self, now: Timestamp) -> Result<()> {
        let told = self.told.load(Ordering::Acquire);
        if now.0.saturating_sub(told) > UNSEEN_NANOSECONDS_MAX {
            return self.note_jump(now);
        }
        if now.0 > told {
            self.told.fetch_max(now.0, Ordering::AcqRel);
        }
        Ok(())
    }

    fn note_jump(&self, now: Timestamp) -> Result<()> {
        let mut jumps = self.lock_jumps();
        // Another may have come first; and behind a clock that was set back the journal goes on by itself.
        let from = Timestamp(self.told.load(Ordering::Acquire)).max(self.journal.time());
        // Before the first record there was no time.
        if now.0.saturating_sub(from.0) > UNSEEN_NANOSECONDS_MAX && self.journal.last() > Lsn(0) {
            jumps.note(Jump { from, to: now });
            self.catalogue.apply_journaled(&[Change::setting(JUMPS, Some(&jumps.encode()))])?;
        }
        self.told.fetch_max(now.0, Ordering::AcqRel);
        Ok(())
    }

    /// Where the clock jumped.
    pub fn jumps(&self) -> Jumps {
        self.lock_jumps().clone()
    }

    fn lock_jumps(&self) -> std::sync::MutexGuard<'_, Jumps> {
        self.jumps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a record to the journal. Where too much of the journal waits to be synced, syncs first.
    pub fn append(
        &self,
        now: Timestamp,
        dataset: DatasetId,
        kind: u8,
        head: Bytes,
        payload: Vec<Bytes>,
    ) -> Result<Appended> {
        self.tell(now)?;
        self.append_patiently(&|| self.journal.append(now, dataset, kind, head.clone(), payload.clone()))
    }

    /// The same for a record that gives room back: it may use what the journal keeps for such when the disk is full.
    pub fn append_freeing(&self, now: Timestamp, dataset: DatasetId, kind: u8, head: Bytes) -> Result<Appended> {
        self.tell(now)?;
        self.append_patiently(&|| self.journal.append_freeing(now, dataset, kind, head.clone(), Vec::new()))
    }

    fn append_patiently(&self, append: &dyn Fn() -> Result<Appended>) -> Result<Appended> {
        loop {
            match append() {
                Err(Error::Refused(Refusal::Busy)) => self.make_stable(self.journal.last())?,
                outcome => return outcome,
            }
        }
    }

    /// Room on the disk; what is kept in reserve does not count as free.
    pub fn space(&self) -> Result<Space> {
        let space = self.media.space().map_err(|error| io_error("measure", "", error))?;
        Ok(Space { free_bytes: space.free_bytes.saturating_sub(self.reserve_bytes), ..space })
    }

    /// Free room below which windows give up what is oldest in them, so that writes need not be refused for it.
    pub fn ample_bytes(&self) -> u64 {
        let segments = 2 * self.journal.segment_bytes();
        self.reserve_bytes.saturating_mul(AMPLE_RESERVES).saturating_add(segments)
    }

    /// Notes that bytes which a client believes to be written may be lost.
    pub fn flush_failed(&self) {
        self.verifier.fetch_add(1, Ordering::AcqRel);
    }

    /// The NFS write verifier.
    pub fn write_verifier(&self) -> [u8; 8] {
        self.verifier.load(Ordering::Acquire).to_le_bytes()
    }

    /// Refuses new data where the disk is nearly full, and waits where the pump has to catch up first.
    pub fn admit_data(&self, len: u64) -> Result<()> {
        self.admit_objects(len)?;
        self.pressure.wait_for_room()
    }

    /// Refuses what a peer sends where the disk is nearly full, as it does what clients write. The pump has nothing to do with it.
    pub fn admit_objects(&self, len: u64) -> Result<()> {
        let cost = i64::try_from(len + ADMISSION_BYTES).unwrap_or(i64::MAX);
        if self.admissible.fetch_sub(cost, Ordering::Relaxed) < cost {
            self.measure_room(len)?;
        }
        Ok(())
    }

    /// Refuses where `len` bytes more have no room, and notes how many may be admitted until it looks again: asking the
    /// disk for every write would cost as much as the write.
    fn measure_room(&self, len: u64) -> Result<()> {
        let free = self.space()?.free_bytes;
        if free < self.ample_bytes() {
            self.pressure.call_pump();
        }
        let room = free.saturating_sub(self.pressure.bytes());
        let admissible = if room < len { 0 } else { (room / ADMITTED_SHARE).min(ADMITTED_BYTES_MAX) };
        self.admissible.store(admissible as i64, Ordering::Relaxed);
        if room < len { Err(Environment::Full.into()) } else { Ok(()) }
    }
}
