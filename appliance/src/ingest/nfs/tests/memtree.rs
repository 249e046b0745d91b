//! A file tree in memory: small, correct, and able to misbehave on demand. Permissions are the owner's, group's and
//! others' bits and nothing more; the real ones are storage's and tested there.
//!
//! [`files`] is what it holds, `calls` what may be asked of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};

use narrowboat_storage::Result;
use narrowboat_storage::dataset::Attributes;
use narrowboat_storage::units::{Inode, Lsn};

use files::Files;

mod calls;
mod files;

type Hook = Box<dyn Fn(&'static str) -> Result<()> + Send + Sync>;

/// The tree.
pub(crate) struct MemTree {
    files: Mutex<Files>,
    lsn: AtomicU64,
    pub stable: AtomicU64,
    pub verifier: AtomicU64,
    pub read_only: AtomicBool,
    /// Asked before each operation by its name: may block, may fail it.
    pub hook: Mutex<Option<Arc<Hook>>>,
}

impl MemTree {
    pub fn new() -> Self {
        MemTree::with(Files::new())
    }
    fn with(files: Files) -> Self {
        MemTree {
            files: Mutex::new(files),
            lsn: AtomicU64::new(0),
            stable: AtomicU64::new(0),
            verifier: AtomicU64::new(1),
            read_only: AtomicBool::new(false),
            hook: Mutex::new(None),
        }
    }
    /// The same tree as it is now, read-only.
    pub fn snapshot(&self) -> MemTree {
        let copy = MemTree::with(self.files.lock().unwrap().clone());
        copy.read_only.store(true, SeqCst);
        copy
    }
    /// The tree as a process finds it that starts after a crash: what was stable, with a new verifier.
    pub fn restarted(&self) -> MemTree {
        let copy = MemTree::with(self.files.lock().unwrap().clone());
        copy.verifier.store(self.verifier.load(SeqCst) + 1, SeqCst);
        copy
    }
    pub fn set_hook(&self, hook: impl Fn(&'static str) -> Result<()> + Send + Sync + 'static) {
        *self.hook.lock().unwrap() = Some(Arc::new(Box::new(hook)));
    }
    pub fn all_is_stable(&self) -> bool {
        self.stable.load(SeqCst) >= self.lsn.load(SeqCst)
    }
    pub fn attributes_of(&self, inode: Inode) -> Option<Attributes> {
        self.files.lock().unwrap().get(inode).ok().map(|file| file.attributes.clone())
    }
    pub fn content(&self, inode: Inode) -> Vec<u8> {
        self.files.lock().unwrap().get(inode).unwrap().content.clone()
    }
    fn enter(&self, operation: &'static str) -> Result<MutexGuard<'_, Files>> {
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            hook(operation)?;
        }
        Ok(self.files.lock().unwrap())
    }
    fn lsn(&self) -> Lsn {
        Lsn(self.lsn.fetch_add(1, SeqCst) + 1)
    }
}
