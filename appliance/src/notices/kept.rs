//! What outlives a restart: one file (docs/formats/notices.md), written anew, by a thread of its own: a disk that does not answer is among what is told.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::core::{Notice, Teller};
use super::events::Watcher;
use crate::whole::exchange;

/// Its name in the data folder.
pub const FILE: &str = "notices.json";
/// So many notices stay.
pub const NOTICES_KEPT: usize = 200;
/// What is read here.
const VERSION: u32 = 1;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub version: u32,
    #[serde(default)]
    pub teller: Teller,
    #[serde(default)]
    pub watcher: Watcher,
    /// The number of the last entry of the audit log that was looked at; nothing where none ever was.
    #[serde(default)]
    pub audit: Option<u64>,
    /// What was told, the newest last.
    #[serde(default)]
    pub notices: VecDeque<Notice>,
    /// How far each way is, by its name.
    #[serde(default)]
    pub ways: BTreeMap<String, Sent>,
}

/// How far a way is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sent {
    /// The last notice that was told.
    pub notice: u64,
    /// Notices that were given up and of which nobody was told yet.
    #[serde(default)]
    pub skipped: u64,
    /// The last entry of the audit log that was sent on.
    #[serde(default)]
    pub audit: u64,
    /// When it last told something, in seconds since 1970.
    #[serde(default)]
    pub at: Option<u64>,
}

impl Kept {
    /// As the file has it; nothing where there is none.
    pub fn read(data: &Path) -> io::Result<Option<Kept>> {
        let text = match fs::read(data.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text?,
        };
        let kept: Kept = serde_json::from_slice(&text)?;
        match kept.version {
            VERSION => Ok(Some(kept)),
            other => Err(io::Error::other(format!("version {other} is of a newer program"))),
        }
    }

    /// None of it yet.
    pub fn begin() -> Kept {
        Kept { version: VERSION, ..Kept::default() }
    }

    /// One more notice; the oldest goes where there are too many.
    pub fn add(&mut self, notice: Notice) {
        self.notices.push_back(notice);
        while self.notices.len() > NOTICES_KEPT {
            self.notices.pop_front();
        }
    }
}

/// Writes the file.
#[derive(Debug)]
pub(super) struct Keeper {
    data: PathBuf,
    work: Mutex<Work>,
    rests: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    /// What is to be written.
    wanted: Option<Arc<Vec<u8>>>,
    /// What was written.
    written: Option<Arc<Vec<u8>>>,
    busy: bool,
    failed: bool,
}

impl Keeper {
    pub fn new(data: &Path) -> Arc<Keeper> {
        Arc::new(Keeper { data: data.to_owned(), work: Mutex::default(), rests: Condvar::new() })
    }

    /// Has it written, if it is not there like that, and waits for nothing.
    pub fn keep(self: &Arc<Self>, kept: &Kept) {
        let Ok(text) = serde_json::to_vec(kept) else { return };
        let mut work = self.lock();
        if work.wanted.as_deref() == Some(&text) || (work.wanted.is_none() && work.written.as_deref() == Some(&text)) {
            return;
        }
        work.wanted = Some(Arc::new(text));
        if !work.busy {
            let this = self.clone();
            work.busy = std::thread::Builder::new().name("notices-keep".into()).spawn(move || this.work()).is_ok();
        }
    }

    /// Waits until all is written, for so long at most.
    pub fn flush(&self, patience: Duration) {
        let begun = Instant::now();
        let mut work = self.lock();
        while work.busy && begun.elapsed() < patience {
            let left = patience.saturating_sub(begun.elapsed());
            work = self.rests.wait_timeout(work, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn work(&self) {
        loop {
            let wanted = {
                let mut work = self.lock();
                let Some(wanted) = work.wanted.clone() else {
                    work.busy = false;
                    self.rests.notify_all();
                    return;
                };
                wanted
            };
            let written = exchange(&self.data, FILE, &wanted, 0o600);
            let mut work = self.lock();
            if let Err(error) = &written
                && !work.failed
            {
                tracing::error!(%error, "what was told can't be kept: after a restart it is told again");
            }
            work.failed = written.is_err();
            if work.wanted.as_ref() == Some(&wanted) {
                work.wanted = None;
            }
            // What failed is wanted again with the next look.
            work.written = written.is_ok().then_some(wanted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_is_read_and_what_is_not_ours_is_refused() {
        let data = tempfile::tempdir().expect("a folder");
        assert_eq!(Kept::read(data.path()).expect("none"), None);
        let keeper = Keeper::new(data.path());
        let mut kept = Kept::begin();
        for n in 1..=300 {
            kept.add(Notice { n, ..Notice::default() });
            keeper.keep(&kept);
        }
        keeper.flush(Duration::from_secs(60));
        let read = Kept::read(data.path()).expect("sound").expect("there");
        assert_eq!((read.notices.len(), read.notices.back().map(|notice| notice.n)), (NOTICES_KEPT, Some(300)));
        assert_eq!(read, kept);
        for wrong in ["", "{}", "{\"version\":2}", "{\"version\":1,\"teller\":7}"] {
            fs::write(data.path().join(FILE), wrong).expect("written");
            assert!(Kept::read(data.path()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let data = tempfile::tempdir().expect("a folder");
        let folder = data.path().join("there");
        let (keeper, kept) = (Keeper::new(&folder), Kept::begin());
        keeper.keep(&kept);
        keeper.flush(Duration::from_secs(60));
        fs::create_dir(&folder).expect("made");
        keeper.keep(&kept);
        keeper.flush(Duration::from_secs(60));
        assert_eq!(Kept::read(&folder).expect("sound"), Some(kept));
    }

    /// The page of the format, with its example.
    #[test]
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../../docs/formats/notices.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let kept: Kept = serde_json::from_str(example).expect("as the page says");
        let again = serde_json::to_value(&kept).expect("JSON");
        assert_eq!(
            again,
            serde_json::from_str::<serde_json::Value>(example).expect("JSON"),
            "nothing of it is unknown here"
        );
    }
}
