//! Losses: a dataset in which much of what a snapshot held is gone or was written over. Somebody deleted the wrong folder, or somebody's malice encrypts it.
//!
//! - Nothing is prevented and nothing is changed: it is told, with the snapshot that still has everything.
//! - What is compared costs the nodes in which two snapshots differ; between snapshots only counts are looked at.
//! - What was found, what is usual and what was meant lies in `losses.json` (docs/formats/losses.md).
//!
//! [`core`] decides, [`sample`] looks into blocks. Decision 43 says why the thresholds are what they are.

pub mod core;
mod sample;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::{DatasetKind, DatasetRow, SnapshotRow};
use narrowboat_storage::units::Timestamp;
use serde::{Deserialize, Serialize};

use crate::control::{Failed, reports};
use crate::units::rfc3339;
use core::{Held, Lost, Watch};

/// How often it is looked.
pub const EVERY: Duration = Duration::from_secs(15);
/// The share that is told where nothing is said, in percent: half.
pub const PERCENT: u32 = 50;
const FILE: &str = "losses.json";
const VERSION: u32 = 1;

/// What is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// By the id of the dataset.
    datasets: BTreeMap<String, Watch>,
}

impl Default for Kept {
    fn default() -> Self {
        Kept { version: VERSION, datasets: BTreeMap::new() }
    }
}

/// The losses of a box.
pub struct Losses {
    data: PathBuf,
    /// The share that is told; 0: nothing is.
    percent: u32,
    kept: Mutex<Kept>,
}

impl Losses {
    /// Those of a data folder. A file that can't be read is begun anew: what was found is found again.
    pub fn open(data: &Path, percent: u32) -> Losses {
        let kept = match std::fs::read(data.join(FILE)) {
            Ok(bytes) => read(&bytes).unwrap_or_else(|why| {
                tracing::warn!(why, "{FILE} is begun anew");
                Kept::default()
            }),
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(%error, "{FILE} is begun anew");
                }
                Kept::default()
            }
        };
        Losses { data: data.to_owned(), percent, kept: Mutex::new(kept) }
    }

    /// Looks at all datasets; `stop` ends it.
    pub fn look(&self, store: &Store, now: Timestamp, stop: &dyn Fn() -> bool) {
        if self.percent == 0 {
            return;
        }
        let rows = store.dataset_rows();
        let known = |id: &String| rows.iter().any(|row| row.id.to_string() == *id);
        for row in &rows {
            if stop() {
                return;
            }
            let id = row.id.to_string();
            let before = self.lock().datasets.get(&id).cloned().unwrap_or_default();
            let mut watch = before.clone();
            if let Err(failed) = self.look_at(store, row, seconds(now), &mut watch) {
                tracing::debug!(dataset = row.name, why = failed.message, "it could not be looked for losses");
            }
            let mut kept = self.lock();
            // What somebody accepted meanwhile counts.
            let accepted = kept.datasets.get(&id).map_or(0, |known| known.accepted);
            if accepted > before.accepted {
                watch.accept(accepted);
            }
            if watch != before {
                kept.datasets.insert(id, watch);
                self.keep(&kept);
            }
        }
        let mut kept = self.lock();
        let length = kept.datasets.len();
        kept.datasets.retain(|id, _| known(id));
        if kept.datasets.len() != length {
            self.keep(&kept);
        }
    }

    fn look_at(&self, store: &Store, row: &DatasetRow, now: u64, watch: &mut Watch) -> Result<(), Failed> {
        let rows: Vec<SnapshotRow> =
            store.snapshots(Some(row.id)).into_iter().filter(|row| row.sealed.is_some()).collect();
        let all: Vec<Held> = rows.iter().map(held).collect();
        watch.known(&all);
        let (Some(newest), Some(newest_row)) = (all.last(), rows.last()) else { return Ok(()) };
        if watch.compared.as_ref() != Some(&newest.id) {
            watch.compared = Some(newest.id.clone());
            let baseline = watch.baseline(&all).filter(|before| before.id != newest.id).cloned();
            if let Some((mut before, before_row)) =
                baseline.and_then(|before| Some((before.clone(), rows.iter().find(|row| held(row).id == before.id)?)))
            {
                if row.kind == DatasetKind::Volume {
                    // Its size says nothing of what takes room.
                    before.bytes = store.differing_bytes(None, before_row.id)?;
                }
                // Seen from behind: what the earlier one has that the later one has not.
                let bytes = store.differing_bytes(Some(newest_row.id), before_row.id)?;
                let mut lost = Lost { files: before.files.saturating_sub(newest.files), bytes, encrypted: false };
                if lost.share(&before) >= self.least() {
                    lost.encrypted = sample::looks_encrypted(store, row.kind, before_row.id, newest_row.id)?;
                }
                watch.compared(now, newest.time, &before, lost, self.least());
            }
        }
        if row.kind == DatasetKind::Share && !row.read_only {
            let info = store.dataset_named(&row.name)?;
            let before = watch.found.as_ref().map_or(newest, |found| &found.before).clone();
            if info.damage.is_none() {
                let lost = Lost {
                    files: before.files.saturating_sub(info.totals.files),
                    bytes: before.bytes.saturating_sub(info.totals.logical_bytes),
                    encrypted: false,
                };
                watch.live(now, &before, lost, self.least());
            }
        }
        Ok(())
    }

    /// What is told now.
    pub fn told(&self, store: &Store) -> Vec<reports::Loss> {
        let kept = self.lock();
        let rows = store.dataset_rows();
        let loss = |row: &DatasetRow| {
            let found = kept.datasets.get(&row.id.to_string())?.found.as_ref()?;
            Some(reports::Loss {
                dataset: row.name.clone(),
                snapshot: found.before.name.clone(),
                time: text(found.before.time),
                since: text(found.since),
                percent: (found.lost.share(&found.before) * 100.0) as u32,
                lost_bytes: found.lost.bytes,
                held_bytes: found.before.bytes,
                lost_files: found.lost.files,
                held_files: found.before.files,
                looks_encrypted: found.lost.encrypted,
                copy: row.read_only,
            })
        };
        rows.iter().filter_map(loss).collect()
    }

    /// Somebody says of a dataset that it was meant, or has taken it back. False where nothing was told.
    pub fn accept(&self, row: &DatasetRow, now: Timestamp) -> bool {
        let mut kept = self.lock();
        let was_told = kept.datasets.entry(row.id.to_string()).or_default().accept(seconds(now));
        self.keep(&kept);
        was_told
    }

    fn least(&self) -> f64 {
        f64::from(self.percent) / 100.0
    }

    fn keep(&self, kept: &Kept) {
        let written = serde_json::to_vec_pretty(kept).map_err(io::Error::from);
        let written = written.and_then(|bytes| crate::whole::exchange(&self.data, FILE, &bytes, 0o600));
        if let Err(error) = written {
            tracing::warn!(%error, "{FILE} can't be written: after a restart losses are found again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read(bytes: &[u8]) -> Result<Kept, String> {
    let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match kept.version {
        VERSION => Ok(kept),
        other => Err(format!("it is of version {other}, this box reads version {VERSION}")),
    }
}

fn held(row: &SnapshotRow) -> Held {
    let sealed = row.sealed.unwrap_or_default();
    Held {
        id: row.id.to_string(),
        name: row.name.clone(),
        time: seconds(row.time),
        files: sealed.files,
        bytes: sealed.logical_bytes,
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.seconds()).unwrap_or_default()
}

fn text(seconds: u64) -> String {
    rfc3339(Timestamp(i64::try_from(seconds).unwrap_or_default().saturating_mul(1_000_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../../docs/formats/losses.md");
        let example = page.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
        let kept = read(example.as_bytes()).expect("as the page says");
        let again = serde_json::to_value(&kept).expect("JSON");
        assert_eq!(again, serde_json::from_str::<serde_json::Value>(example).expect("JSON"));
        assert!(kept.datasets.values().next().is_some_and(|watch| watch.found.is_some()));
    }

    #[test]
    fn what_makes_no_sense_is_begun_anew() {
        let data = tempfile::tempdir().expect("a folder");
        for wrong in ["", "{}", "{\"version\":2,\"datasets\":{}}", "{\"version\":1,\"datasets\":7}"] {
            std::fs::write(data.path().join(FILE), wrong).expect("written");
            assert_eq!(*Losses::open(data.path(), PERCENT).lock(), Kept::default(), "{wrong}");
        }
    }
}
