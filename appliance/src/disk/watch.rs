//! A medium that notes how the disk below it does: what failed, what takes long, and what it has not answered yet.
//!
//! It changes, delays and repeats nothing. It costs an operation two looks at a clock and two at a short list.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::error::is_bad_medium;
use narrowboat_storage::media::{Media, MediaFile};
use narrowboat_storage::units::Space;
use rustix::io::Errno;

/// What was asked of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// "read", "write", "sync", …
    pub operation: &'static str,
    /// Of which file or folder; empty for the data folder.
    pub file: Arc<str>,
}

/// An operation that failed as it does on no sound disk.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What it was.
    pub asked: Asked,
    /// What the system said.
    pub error: String,
    /// When.
    pub at: Instant,
}

/// Operations of a while, by what they are: quick ones say nothing of others.
pub type Paces = BTreeMap<&'static str, Pace>;

/// Operations of one kind.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// How many came to an end.
    pub operations: u64,
    /// How long they took together.
    pub took: Duration,
    /// The one that took longest.
    pub longest: Option<(Duration, Asked)>,
}

impl Pace {
    fn add(&mut self, took: Duration, asked: Asked) {
        self.operations += 1;
        self.took += took;
        if self.longest.as_ref().is_none_or(|(longest, _)| took > *longest) {
            self.longest = Some((took, asked));
        }
    }

    fn and(&self, other: &Pace) -> Pace {
        let longest = [&self.longest, &other.longest].into_iter().flatten().max_by_key(|(took, _)| *took).cloned();
        Pace { operations: self.operations + other.operations, took: self.took + other.took, longest }
    }

    /// What one of them took on average.
    pub fn mean(&self) -> Duration {
        self.took.checked_div(u32::try_from(self.operations).unwrap_or(u32::MAX)).unwrap_or_default()
    }
}

/// How the disk does.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Faults since the box was started.
    pub faults: u64,
    /// The last of them.
    pub last: Option<Fault>,
    /// What has been asked for longest and is not answered, and for how long.
    pub waits: Option<(Duration, Asked)>,
    /// What came to its end in the last half minute to minute.
    pub paces: Paces,
}

/// After this time a new [`Pace`] begins; the one before counts on for as long.
const SPAN: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct Spans {
    began: Instant,
    now: Paces,
    before: Paces,
}

impl Spans {
    fn turn(&mut self, now: Instant) {
        let passed = now.duration_since(self.began);
        if passed < SPAN {
            return;
        }
        let ended = std::mem::take(&mut self.now);
        self.before = if passed < 2 * SPAN { ended } else { Paces::new() };
        self.began = now;
    }

    fn sum(&self) -> Paces {
        let mut sum = self.before.clone();
        for (operation, pace) in &self.now {
            let held = sum.entry(operation).or_default();
            *held = held.and(pace);
        }
        sum
    }
}

#[derive(Debug)]
struct State {
    under_way: BTreeMap<u64, (Instant, Asked)>,
    next: u64,
    faults: u64,
    last: Option<Fault>,
    spans: Spans,
}

/// What was noted of a disk.
#[derive(Debug)]
pub struct Notes(Mutex<State>);

impl Default for Notes {
    fn default() -> Self {
        let spans = Spans { began: Instant::now(), now: Paces::new(), before: Paces::new() };
        Notes(Mutex::new(State { under_way: BTreeMap::new(), next: 0, faults: 0, last: None, spans }))
    }
}

impl Notes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the disk does. Asks it nothing.
    pub fn health(&self) -> Health {
        let now = Instant::now();
        let mut state = self.lock();
        state.spans.turn(now);
        let oldest = state.under_way.values().min_by_key(|(since, _)| *since).cloned();
        Health {
            faults: state.faults,
            last: state.last.clone(),
            waits: oldest.map(|(since, asked)| (now.duration_since(since), asked)),
            paces: state.spans.sum(),
        }
    }

    /// Notes an operation of a file in the data folder, which `work` is.
    pub fn note<T>(
        &self,
        operation: &'static str,
        file: &Arc<str>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let asked = Asked { operation, file: file.clone() };
        let since = Instant::now();
        let ticket = {
            let mut state = self.lock();
            state.next += 1;
            let ticket = state.next;
            state.under_way.insert(ticket, (since, asked.clone()));
            ticket
        };
        let outcome = work();
        let now = Instant::now();
        let mut state = self.lock();
        state.under_way.remove(&ticket);
        if let Some(error) = outcome.as_ref().err().filter(|error| is_fault(operation, error)) {
            state.faults += 1;
            state.last = Some(Fault { asked: asked.clone(), error: error.to_string(), at: now });
        }
        state.spans.turn(now);
        state.spans.now.entry(operation).or_default().add(now.duration_since(since), asked);
        outcome
    }
}

/// True for what no sound disk says that has room. What is no file (the control socket) can't be opened on any disk.
fn is_fault(operation: &str, error: &io::Error) -> bool {
    let Some(errno) = Errno::from_io_error(error) else { return false };
    match errno {
        Errno::ROFS | Errno::TIMEDOUT => true,
        Errno::NXIO if operation == "open" => false,
        _ => is_bad_medium(error),
    }
}

/// Notes what passes through it to another medium.
pub struct Watch {
    inner: Arc<dyn Media>,
    notes: Arc<Notes>,
}

impl Watch {
    /// Watches `inner`.
    pub fn new(inner: Arc<dyn Media>, notes: Arc<Notes>) -> Watch {
        Watch { inner, notes }
    }

    fn note<T>(&self, operation: &'static str, path: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.notes.note(operation, &Arc::from(path), work)
    }

    fn file(&self, path: &str, inner: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        Arc::new(Watched { inner, file: Arc::from(path), notes: self.notes.clone() })
    }
}

impl Media for Watch {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.file(path, self.note("create", path, || self.inner.create(path))?))
    }
    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.file(path, self.note("open", path, || self.inner.open(path))?))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.note("rename", to, || self.inner.rename(from, to))
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.note("remove", path, || self.inner.remove(path))
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.note("list", dir, || self.inner.list(dir))
    }
    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.note("create", dir, || self.inner.create_dir_all(dir))
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.note("sync", dir, || self.inner.sync_dir(dir))
    }
    fn space(&self) -> io::Result<Space> {
        self.note("measure", "", || self.inner.space())
    }
}

struct Watched {
    inner: Arc<dyn MediaFile>,
    file: Arc<str>,
    notes: Arc<Notes>,
}

impl MediaFile for Watched {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.notes.note("read", &self.file, || self.inner.read_at(buffer, offset))
    }
    fn will_read(&self, offset: u64, len: u64) {
        self.inner.will_read(offset, len);
    }
    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.notes.note("write", &self.file, || self.inner.write_at(parts, offset))
    }
    fn sync(&self) -> io::Result<()> {
        self.notes.note("sync", &self.file, || self.inner.sync())
    }
    fn len(&self) -> io::Result<u64> {
        self.notes.note("measure", &self.file, || self.inner.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.notes.note("cut", &self.file, || self.inner.set_len(len))
    }
    fn reserve(&self, len: u64) -> io::Result<()> {
        self.notes.note("take room for", &self.file, || self.inner.reserve(len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use narrowboat_storage::media::SimDisk;

    #[test]
    fn faults_are_counted_and_refusals_are_not() {
        let notes = Arc::new(Notes::default());
        let disk = Watch::new(Arc::new(SimDisk::new(1)), notes.clone());
        assert!(disk.open("nowhere").is_err());
        let file = disk.create("file").expect("room");
        file.write_at(&[IoSlice::new(b"abc")], 0).expect("room");
        let socket: io::Result<()> = notes.note("open", &Arc::from("control.sock"), || Err(Errno::NXIO.into()));
        assert!(socket.is_err());
        assert_eq!(notes.health().faults, 0);
        for errno in [Errno::IO, Errno::ROFS, Errno::NOSPC, Errno::MFILE] {
            let failed: io::Result<()> = notes.note("sync", &Arc::from("journal/1"), || Err(errno.into()));
            assert!(failed.is_err());
        }
        let health = notes.health();
        assert_eq!((health.faults, health.paces["sync"].operations), (2, 4));
        let last = health.last.expect("a fault");
        assert_eq!((last.asked.operation, &*last.asked.file), ("sync", "journal/1"));
        assert!(last.error.contains("Read-only"), "{}", last.error);
    }

    #[test]
    fn what_takes_long_is_told_of_before_it_ends_and_for_a_while_behind() {
        let notes = Notes::default();
        let moment = Duration::from_millis(30);
        let seen = notes.note("read", &Arc::from("slow"), || {
            std::thread::sleep(moment);
            Ok(notes.health())
        });
        let (waited, asked) = seen.expect("no failure").waits.expect("under way");
        assert!(waited >= moment && &*asked.file == "slow");
        let health = notes.health();
        let pace = &health.paces["read"];
        assert!(health.waits.is_none() && pace.mean() >= moment);
        assert!(pace.longest.as_ref().is_some_and(|(_, asked)| &*asked.file == "slow"));
        // It is forgotten in the end.
        let mut spans = Spans { began: Instant::now(), now: health.paces.clone(), before: Paces::new() };
        let (one, two) = (spans.began + SPAN, spans.began + 2 * SPAN);
        spans.turn(one);
        assert!(spans.now.is_empty() && spans.sum()["read"].operations == 1);
        spans.turn(two);
        assert!(spans.sum().is_empty());
    }
}
