//! Stage 2: where a change becomes safe. The store's single write-ahead journal; `docs/formats/journal.md` owns its bytes.
//!
//! Every change of every dataset is one record with a log sequence number ([`Lsn`]) and a time. [`Journal::append`]
//! puts it in order, in memory; [`Journal::commit`] makes it safe, for all who wait at once; [`Journal::write_out`] sees to
//! it that it outlives the process. What a record means is its writer's business: the journal sees a kind, a small *head*
//! and a bulk *payload*.
//!
//! It promises:
//! * LSNs grow by one a record and order is kept: what recovery finds is always a prefix of what was appended.
//! * What a [`Journal::commit`] returned for survives a power cut, what a [`Journal::write_out`] returned for survives the
//!   process. What neither did may survive, or not.
//! * Time in the journal never runs backwards, and goes on ([`Steady`]). A clock that steps back leaves a record of its own.
//! * No record is accepted without room for it on the disk: a full disk refuses appends and never fails a commit. The
//!   last of that room is kept for records that free some.
//! * A failed write or sync poisons the journal: nothing later is accepted, and nothing is tried again.
//! * A torn tail is cut off; anything else that is not as it was written is named as damage. Never a wrong record.
//! * Memory: at most [`JournalOptions::buffer_bytes_max`] of records that are not safe yet.
//!
//! It never starts a thread, asks for the time, or writes in [`Journal::append`] anything but, where needed, the taking
//! of room for another segment.
//!
//! A segment's life, by the name of its file in `journal/`:
//!
//! ```text
//!   n.spare ──── header and first records written, synced, renamed ────▶ <first LSN>.journal ──── trimmed ────▶ gone
//!   (room only)                                                          (grows, then whole)
//! ```

mod append;
mod buffer;
mod format;
mod group;
mod recover;
mod replay;
mod ruler;
mod segment;
#[cfg(test)]
mod tests;
mod trim;

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

pub use self::format::{HEAD_BYTES_MAX, PAYLOAD_BYTES_MAX, SEGMENT_HEADER_BYTES, record_bytes};
pub use self::recover::{Recovery, TornTail};

use self::buffer::{Buffer, Draft, Reached, Run};
use self::format::SegmentHeader;
use self::recover::Found;
use self::ruler::{Ruler, SAMPLE_BYTES};
use self::segment::Segment;
use crate::error::{Damage, Environment, Refusal, Result, io_error};
use crate::id::{DatasetId, StoreId};
use crate::media::Media;
use crate::steady::Steady;
use crate::units::{Lsn, Timestamp};

/// The journal's folder.
const DIR: &str = "journal";
/// How files are called that are no segments yet.
const SPARE_SUFFIX: &str = ".spare";
/// The journal's own records, never handed to a visitor. An empty head: a voucher, which vouches for the records before it
/// by its mere stable field. A head of 16 bytes: the clock stepped back, from when to when.
const KIND_OWN: u8 = 0;
/// Segments kept open for reading.
const HANDLES_MAX: usize = 64;

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Size of new segments: 8 KiB to 4 GiB. A record must fit into one.
    pub segment_bytes: u64,
    /// Most bytes of records that are not safe yet. Clamped to half a segment.
    pub buffer_bytes_max: u64,
    /// A record that others (a root, the catalogue) prove to have been safe: a journal that ends before it is damaged.
    pub known_stable: Lsn,
    /// Room that is kept for [`Journal::append_freeing`] when the disk is full. Clamped to an eighth of a segment.
    pub kept_back_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        JournalOptions {
            segment_bytes: 64 << 20,
            buffer_bytes_max: 32 << 20,
            known_stable: Lsn(0),
            kept_back_bytes: 4 << 20,
        }
    }
}

/// Where a payload lies, for as long as its segment is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The segment, by its first LSN.
    pub segment: Lsn,
    /// Offset in the segment's file, in bytes.
    pub offset: u64,
    /// Length of the payload, in bytes; never 0.
    pub len: u32,
    /// CRC32C of the payload.
    pub crc: u32,
}

/// A segment that takes no more records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first record.
    pub first: Lsn,
    /// Its last one.
    pub last: Lsn,
    /// Bytes of disk that it takes.
    pub bytes: u64,
    /// Bytes of disk that the segments behind it take.
    pub behind_bytes: u64,
}

/// One record, read back and verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub lsn: Lsn,
    /// Its time.
    pub time: Timestamp,
    /// Whose it is.
    pub dataset: DatasetId,
    /// What it means.
    pub kind: u8,
    /// The small part.
    pub head: Bytes,
    /// The bulk part.
    pub payload: Bytes,
    /// Where the payload lies; `None` where it is empty.
    pub place: Option<Place>,
}

/// What became of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The record's number.
    pub lsn: Lsn,
    /// The record's time: that of the call, or a later one where the clock ran backwards.
    pub time: Timestamp,
    /// Where the payload lies; readable at once. `None` where it is empty.
    pub place: Option<Place>,
    /// Bytes of records, this one included, that are not safe yet: near [`JournalOptions::buffer_bytes_max`] it is time
    /// to commit.
    pub unsafe_bytes: u64,
}

/// What the journal noticed about the clock since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockStats {
    /// Records whose time was moved forward to that of the record before.
    pub clamped: u64,
    /// Steps back of more than a second; each left a record.
    pub steps_back: u64,
}

/// What is true of records and of what they refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    /// They are with the kernel: they outlive the process.
    Written,
    /// They are synced: they survive a power cut.
    Safe,
}

/// Says of a record, by its kind and its head, whether what it refers to is there.
pub type Witness<'a> = &'a dyn Fn(u8, &Bytes) -> Result<bool>;

/// The store's journal. One value per data folder; all methods may be called from many threads at once.
pub struct Journal {
    media: Arc<dyn Media>,
    store: StoreId,
    options: JournalOptions,
    state: Mutex<State>,
    /// Signals that a leader ended or a spare was made.
    changed: Condvar,
    handles: Mutex<Handles>,
    trimming: Mutex<()>,
}

struct State {
    buffer: Buffer,
    /// Everything up to here is safe.
    stable: Lsn,
    /// The voucher that vouches for everything before it, if it is the last record.
    vouched: Lsn,
    /// Up to where everything is with the kernel: it outlives the process.
    written: Reached,
    /// Somebody is writing.
    leader: bool,
    /// Somebody is syncing.
    syncing: bool,
    /// Somebody is taking room for a segment.
    making_spare: bool,
    spares_made: u64,
    /// Why nothing more is accepted.
    poison: Option<String>,
    /// First LSN and length in bytes of every segment that has its name.
    segments: BTreeMap<Lsn, u64>,
    ruler: Ruler,
    /// What appends said the time was.
    steady: Steady,
    clock: ClockStats,
}

impl State {
    fn check_poison(&self) -> Result<()> {
        match &self.poison {
            Some(reason) => Err(Environment::Poisoned(reason.clone()).into()),
            None => Ok(()),
        }
    }

    fn last(&self) -> Lsn {
        Lsn(self.buffer.next.0 - 1)
    }

    /// Refuses to wait for what will never be there.
    fn check_appended(&self, lsn: Lsn) -> Result<()> {
        self.check_poison()?;
        if lsn < self.buffer.next {
            return Ok(());
        }
        let text = format!("record {lsn} was not appended yet, so it cannot be committed");
        Err(Refusal::Invalid(text).into())
    }

    fn batch_is_written(&mut self, runs: &[Run]) {
        for run in runs {
            self.written = self.written.with(run);
            if run.begins.is_some() {
                self.segments.insert(run.segment.header.first, run.segment.len);
                self.is_safe(&self.written.clone());
            }
        }
    }

    fn is_safe(&mut self, reached: &Reached) {
        self.stable = self.stable.max(reached.last);
        self.buffer.is_safe(reached);
    }

    fn spoil(&mut self, reason: Option<String>) {
        if self.poison.is_none() {
            self.poison = reason;
        }
    }

    fn push(&mut self, draft: &Draft, time: Timestamp) -> (Lsn, Option<Place>) {
        let (lsn, place) = self.buffer.push(draft, time, self.stable);
        self.ruler.appended(lsn, draft.bytes());
        (lsn, place)
    }
}

impl Journal {
    /// Opens the journal in `media`, or creates an empty one where there is none. Everything found is safe on return.
    ///
    /// Fails with damage where a record that was safe is not what was written; with [`Refusal::Unsupported`] where a newer
    /// version wrote it.
    pub fn open(media: Arc<dyn Media>, store: StoreId, options: JournalOptions) -> Result<(Journal, Recovery)> {
        Journal::open_with(media, store, options, &|_, _| Ok(true))
    }

    /// The same where records were written out that refer to what lies elsewhere, and was not safe before them. Of a record
    /// that nothing proves to have been safe `witness` is asked; the first one that lacks something ends the journal, as a
    /// torn one does: a power cut came between the two, and nobody was told that either is safe.
    pub fn open_with(
        media: Arc<dyn Media>,
        store: StoreId,
        mut options: JournalOptions,
        witness: Witness<'_>,
    ) -> Result<(Journal, Recovery)> {
        if !(8 << 10..=4 << 30).contains(&options.segment_bytes) {
            return Err(Refusal::Invalid("a journal segment has 8 KiB to 4 GiB".into()).into());
        }
        options.buffer_bytes_max = options.buffer_bytes_max.min(options.segment_bytes / 2);
        options.kept_back_bytes = options.kept_back_bytes.min(options.segment_bytes / 8);
        let (found, created) = match recover::recover(media.as_ref(), store, &options, witness)? {
            Some(found) => (found, false),
            // Created anew it would count from 1 again, and what follows would be taken for older than every root.
            None if options.known_stable > Lsn(0) => {
                let expected = format!("a journal that reaches record {}", options.known_stable);
                return Err(Damage::new(DIR, 0, expected, "no segment").into());
            }
            None => (create(media.as_ref(), store, &options)?, true),
        };
        let recovery = Recovery {
            created,
            first: found.segments.keys().next().copied().unwrap_or(found.next),
            last: Lsn(found.next.0 - 1),
            segments: found.segments.len(),
            torn: found.torn.clone(),
        };
        let unproven = found.unproven;
        let journal = Journal {
            media,
            store,
            options,
            state: Mutex::new(State::new(store, found)),
            changed: Condvar::new(),
            handles: Mutex::default(),
            trimming: Mutex::default(),
        };
        if unproven {
            journal.vouch(&|| Ok(()))?;
        }
        Ok((journal, recovery))
    }

    /// Returns when every record up to `lsn` is safe. Callers that wait at the same time share one write and one sync.
    ///
    /// `safe_first` is called by whoever writes or syncs, before that: it must make safe what appended records refer to.
    /// Where it fails this fails with its error, nothing is done, and the records are left for a later commit.
    ///
    /// Fails with [`Environment::Poisoned`] where a write or a sync failed, now or earlier: nobody knows then what of the
    /// records that are not safe is on the disk.
    pub fn commit(&self, lsn: Lsn, safe_first: &dyn Fn() -> Result<()>) -> Result<()> {
        self.commit_upto(lsn, safe_first)
    }

    /// Returns when every record up to `lsn` outlives this process: it is with the kernel, and a power cut may still take
    /// it. Costs a write, shared by those who wait at the same time, and no sync, but where a segment ends.
    ///
    /// `before_write` is called like a commit's, and told what must be true first of everything that appended records refer
    /// to. The kernel may bring the records to the disk at any moment, and what they refer to later: that is what the witness
    /// of [`Journal::open_with`] is for. Fails like [`Journal::commit`].
    pub fn write_out(&self, lsn: Lsn, before_write: &dyn Fn(Means) -> Result<()>) -> Result<()> {
        self.write_upto(lsn, before_write)
    }

    /// Reads a payload and verifies it, also one that is not safe yet. [`Refusal::NotFound`] where its segment was trimmed.
    pub fn read(&self, place: &Place) -> Result<Bytes> {
        if place.len as usize > PAYLOAD_BYTES_MAX {
            return Err(Refusal::Invalid(format!("{} bytes are no record's payload", place.len)).into());
        }
        let state = self.lock();
        if let Some(pieces) = state.buffer.payload(place) {
            drop(state);
            return Ok(joined(pieces));
        }
        let open = Arc::clone(&state.buffer.open);
        let known = state.segments.contains_key(&place.segment);
        drop(state);
        if open.header.first == place.segment {
            return open.payload(place);
        }
        if !known {
            return Err(Refusal::NotFound(segment::path(place.segment)).into());
        }
        self.handle(place.segment)?.payload(place)
    }

    /// The time of the last record.
    pub fn time(&self) -> Timestamp {
        self.lock().buffer.time
    }

    /// Every record up to this one is safe.
    pub fn stable(&self) -> Lsn {
        self.lock().stable
    }

    /// The last record that was appended; `Lsn(0)` before the first.
    pub fn last(&self) -> Lsn {
        self.lock().last()
    }

    /// The first record that is kept, or that will be.
    pub fn first(&self) -> Lsn {
        let state = self.lock();
        state.segments.keys().next().copied().unwrap_or(state.buffer.next)
    }

    /// About how many bytes the records behind `lsn` take in the journal: never too few, and too many by at most 64 KiB
    /// for recent ones and a segment for old ones.
    pub fn bytes_since(&self, lsn: Lsn) -> u64 {
        self.lock().ruler.since(lsn)
    }

    /// Bytes of a segment: the journal takes and gives room in such steps.
    pub fn segment_bytes(&self) -> u64 {
        self.options.segment_bytes
    }

    /// Bytes of disk that the journal's segments take, without the one kept in reserve.
    pub fn disk_bytes(&self) -> u64 {
        self.lock().segments.values().sum()
    }

    /// True where so much is not safe yet that appends will soon be refused for it: then whoever writes more should commit
    /// first, while it holds no lock.
    pub fn is_nearly_full(&self) -> bool {
        let bound = self.options.buffer_bytes_max;
        self.lock().buffer.unsafe_bytes() > bound - bound / 4
    }

    /// Bytes of records that are not safe yet.
    pub fn unsafe_bytes(&self) -> u64 {
        self.lock().buffer.unsafe_bytes()
    }

    /// What was noticed about the clock.
    pub fn clock_stats(&self) -> ClockStats {
        self.lock().clock
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is changed in steps that do not panic; a panic elsewhere under the lock leaves it sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The segment, opened or from among those that are open.
    fn handle(&self, first: Lsn) -> Result<Arc<Segment>> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.uses += 1;
        let now = handles.uses;
        if let Some((segment, used)) = handles.open.get_mut(&first) {
            *used = now;
            return Ok(Arc::clone(segment));
        }
        if handles.open.len() >= HANDLES_MAX {
            let oldest = handles.open.iter().min_by_key(|(_, (_, used))| *used).map(|(first, _)| *first);
            oldest.map(|oldest| handles.open.remove(&oldest));
        }
        let segment = Arc::new(Segment::open(self.media.as_ref(), self.store, first)?);
        handles.open.insert(first, (Arc::clone(&segment), now));
        Ok(segment)
    }
}

impl State {
    fn new(store: StoreId, found: Found) -> State {
        let ruler = Ruler::new(&found.segments, &found.samples, found.end, found.next);
        let mut buffer = Buffer::new(store, found.open, found.end, found.next, found.time, found.link);
        // Room that was taken may have been given back by an odd file system: then this segment takes no more records.
        if buffer.open.file.reserve(buffer.open.len).is_err() {
            let open = Segment { len: buffer.end, ..buffer.open.as_ref().clone() };
            buffer.open = Arc::new(open);
        }
        let stable = Lsn(found.next.0 - 1);
        let written = Reached { last: stable, segment: Arc::clone(&buffer.open), end: buffer.end, bytes: 0 };
        State {
            buffer,
            stable,
            written,
            vouched: if found.unproven { Lsn(0) } else { stable },
            leader: false,
            syncing: false,
            making_spare: false,
            spares_made: 0,
            poison: None,
            segments: found.segments,
            ruler,
            steady: Steady::new(found.time),
            clock: ClockStats::default(),
        }
    }
}

#[derive(Default)]
struct Handles {
    open: BTreeMap<Lsn, (Arc<Segment>, u64)>,
    uses: u64,
}

fn joined(mut pieces: Vec<Bytes>) -> Bytes {
    match pieces.len() {
        1 => pieces.pop().unwrap_or_default(),
        _ => pieces.concat().into(),
    }
}

/// Makes a journal without records: one segment, complete and safe before it has its name.
fn create(media: &dyn Media, store: StoreId, options: &JournalOptions) -> Result<Found> {
    let spare = format!("{DIR}/first{SPARE_SUFFIX}");
    let header = SegmentHeader::new(store, Lsn(1), Timestamp(0), 0, options.segment_bytes);
    let path = segment::path(Lsn(1));
    media.create_dir_all(DIR).map_err(|error| io_error("create", DIR, error))?;
    let file = media.create(&spare).map_err(|error| io_error("create", &spare, error))?;
    file.reserve(options.segment_bytes).map_err(|error| io_error("reserve", &spare, error))?;
    file.write_at(&[IoSlice::new(&header.encode())], 0).map_err(|error| io_error("write", &spare, error))?;
    file.sync().map_err(|error| io_error("sync", &spare, error))?;
    media.rename(&spare, &path).map_err(|error| io_error("rename", &path, error))?;
    media.sync_dir(DIR).map_err(|error| io_error("sync", DIR, error))?;
    Ok(Found {
        segments: BTreeMap::from([(Lsn(1), options.segment_bytes)]),
        open: Segment { header, file, len: options.segment_bytes },
        end: SEGMENT_HEADER_BYTES,
        next: Lsn(1),
        link: 0,
        time: Timestamp(0),
        samples: Vec::new(),
        unproven: false,
        torn: None,
    })
}
