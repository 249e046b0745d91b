//! A disk that hangs: as long as it is stuck, nothing is written or synced there but the journal and the catalogue. So a drain step
//! stops in its middle, for as long as a test wants. Or only its files of history hang, and those for readers, too.

use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use narrowboat_storage::media::{Media, MediaFile, SimDisk};
use narrowboat_storage::units::Space;

/// A disk that can stick.
#[derive(Clone)]
pub struct Sticky {
    disk: SimDisk,
    gate: Arc<Gate>,
    in_history: bool,
}

/// Keeps a disk stuck until it is dropped.
pub struct Held(Arc<Gate>);

#[derive(Default)]
struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    stuck: bool,
    waiting: usize,
}

struct StickyFile {
    file: Arc<dyn MediaFile>,
    gate: Option<Arc<Gate>>,
    for_readers: bool,
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with it")
    }

    fn pass(&self) {
        let mut state = self.lock();
        state.waiting += 1;
        self.changed.notify_all();
        let mut state = self.changed.wait_while(state, |state| state.stuck).expect("nobody panics with it");
        state.waiting -= 1;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.lock().stuck = false;
        self.0.changed.notify_all();
    }
}

impl Sticky {
    /// A disk that does not stick yet.
    pub fn new(disk: SimDisk) -> Self {
        Sticky { disk, gate: Arc::default(), in_history: false }
    }

    /// A disk of which nothing will stick but files of history, to whoever writes or reads one.
    #[allow(dead_code, reason = "each test file uses a part")]
    pub fn in_history(disk: SimDisk) -> Self {
        Sticky { in_history: true, ..Sticky::new(disk) }
    }

    /// Lets it stick until the result is dropped.
    pub fn stick(&self) -> Held {
        self.gate.lock().stuck = true;
        Held(self.gate.clone())
    }

    /// Returns when somebody hangs.
    pub fn wait_until_stuck(&self) {
        let state = self.gate.lock();
        drop(self.gate.changed.wait_while(state, |state| state.waiting == 0).expect("nobody panics with it"));
    }

    fn watch(&self, path: &str, file: Arc<dyn MediaFile>) -> Arc<dyn MediaFile> {
        let sticks = match self.in_history {
            true => path.starts_with("history"),
            false => !path.starts_with("journal") && !path.starts_with("catalogue"),
        };
        Arc::new(StickyFile { file, gate: sticks.then(|| self.gate.clone()), for_readers: self.in_history })
    }
}

impl StickyFile {
    fn pass(&self) {
        if let Some(gate) = &self.gate {
            gate.pass();
        }
    }
}

impl Media for Sticky {
    fn create(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.disk.create(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Arc<dyn MediaFile>> {
        Ok(self.watch(path, self.disk.open(path)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir_all(&self, dir: &str) -> io::Result<()> {
        self.disk.create_dir_all(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }

    fn space(&self) -> io::Result<Space> {
        self.disk.space()
    }
}

impl MediaFile for StickyFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if self.for_readers {
            self.pass();
        }
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.pass();
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass();
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn reserve(&self, len: u64) -> io::Result<()> {
        self.file.reserve(len)
    }
}
