//! The store of an assessment of paths: each is copied into a share of its own and looked at there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use narrowboat_storage::catalogue::Policy;
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::{Error, Store, StoreOptions};

use super::looks::{self, Broken, Looks};
use super::scan::{Found, Going, scan};
use super::spans::Row;
use crate::clock;

/// Which share a path is copied into is remembered here.
const SHARES: &str = "assessment-shares";
/// Memory for chunks that are read, and for what waits to be taken in.
const CACHE_BYTES: usize = 64 << 20;
const WAITING_BYTES: u64 = 128 << 20;
/// How long the pump sleeps where nothing calls it.
const PATIENCE: Duration = Duration::from_secs(2);

/// See the module. One process has it at a time.
pub struct Scratch {
    store: Arc<Store>,
    looks: Looks,
    shares: BTreeMap<String, String>,
    folder: PathBuf,
    pump: Option<JoinHandle<()>>,
}

impl Scratch {
    /// Opens what is in a folder, or begins anew.
    ///
    /// # Errors
    /// Those of the store: above all where another process has it.
    pub fn open(folder: &Path, path: looks::Path) -> Result<Scratch, Broken> {
        let place = folder.join("store");
        // What lies in it is what was looked at: nobody else may read it here who may not read it there.
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&place);
        let closed = made.and_then(|()| fs::set_permissions(&place, fs::Permissions::from_mode(0o700)));
        closed.map_err(|error| Broken::State(format!("{}: {error}", place.display())))?;
        let mut options = StoreOptions { quarantine: Duration::ZERO, ..StoreOptions::default() };
        options.pool.cache_bytes = CACHE_BYTES;
        options.pressure.block_bytes = WAITING_BYTES;
        options.pressure.freeze_bytes = WAITING_BYTES / 2;
        let store = Arc::new(Store::open(Arc::new(FileMedia::open(&place)?), options)?.0);
        let shares = match store.setting(SHARES) {
            Some(kept) => serde_json::from_slice(&kept).map_err(|error| Broken::State(error.to_string()))?,
            None => BTreeMap::new(),
        };
        let looks = Looks::of(store.clone(), path)?;
        let pumped = store.clone();
        let pump = std::thread::spawn(move || {
            while pumped.wait_for_work(PATIENCE) {
                // A failure is met again by whoever writes, who tells it.
                while pumped.drain_step(clock::now()).unwrap_or(false) {}
            }
        });
        Ok(Scratch { store, looks, shares, folder: folder.to_owned(), pump: Some(pump) })
    }

    /// Tells what it takes on the disk, also while a round is under way.
    pub fn meter(&self) -> impl Fn() -> Result<u64, Error> + use<> {
        let store = self.store.clone();
        move || Ok(store.disk_parts()?.total_bytes())
    }

    /// Looks at a path once, and tells what a peer would have been sent of it.
    pub fn round(&mut self, path: &Path, going: Going) -> Result<(Row, Found), Broken> {
        let name = path.display().to_string();
        let share = self.share(&name)?;
        let found = scan(path, &*self.store.tree(self.store.dataset_named(&share)?.row.id)?, going)?;
        let row = self.looks.look(&name, &share)?;
        let Found { files, logical, changed, unread, .. } = found;
        Ok((Row { files, logical, changed, unread, ..row }, found))
    }

    /// The share that a path is copied into.
    fn share(&mut self, path: &str) -> Result<String, Broken> {
        if let Some(share) = self.shares.get(path) {
            return Ok(share.clone());
        }
        let share = format!("path-{}", self.shares.len() + 1);
        // One of that name is left of a process that was ended before it could note it.
        if self.store.dataset_named(&share).is_err() {
            self.store.create_share(&share, Policy::Inline, clock::now())?;
        }
        self.shares.insert(path.to_owned(), share.clone());
        let text = serde_json::to_vec(&self.shares).map_err(|error| Broken::State(error.to_string()))?;
        self.store.set_setting(SHARES, Some(&text), clock::now())?;
        Ok(share)
    }

    /// Gives back the room of what no look needs any more.
    pub fn reclaim(&self) -> Result<(), Broken> {
        let outcome = crate::jobs::reclaim::reclaim(&self.store, false, None, &|| false, &mut |_| ());
        outcome.map(|_| ()).map_err(|failed| Broken::State(failed.message))
    }

    /// Where its rows are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.store.stop_waiting();
        if let Some(pump) = self.pump.take() {
            // One that panicked has nothing more to say.
            let _ = pump.join();
        }
        // What is not brought to its end is taken up again by the next look.
        if let Err(error) = self.store.close(clock::now()) {
            tracing::warn!(%error, "the store of the assessment was not closed in order");
        }
    }
}
