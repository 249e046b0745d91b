//! Making safe, and moving names into the index.
//!
//! The order that everything rests on: an object's bytes are in a container; the container is synced; only then may the
//! index, durable on its own, say that the object is there; and by then whatever the object refers to is synced, too.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::container::Class;
use crate::container::format::Footer;
use crate::container::writer::{SyncError, Writer};
use crate::error::{Environment, Error, Result};
use crate::id::ContainerId;
use crate::index::Record;

use super::{Inner, Pool};

/// How many cold parts of the filter are filled in one turn of settling.
const WARM_PARTS: usize = 4;

impl Pool {
    /// Makes everything put so far safe. Costs next to nothing where nothing was put since; callers at the same time
    /// share the work. Data containers are synced before node containers.
    ///
    /// [`Full`](crate::error::Environment::Full) means that some bytes still wait in memory; make room and sync again.
    /// A disk that fails to sync poisons the pool: reading goes on, nothing is written any more.
    pub fn sync(&self) -> Result<()> {
        self.0.sync()
    }

    /// Hands everything put so far to the kernel: it outlives this process. [`Full`](crate::error::Environment::Full) as in
    /// [`Pool::sync`].
    pub fn write_out(&self) -> Result<()> {
        self.0.check_poison()?;
        for class in Class::ALL {
            for writer in self.0.streams.unsafe_writers(class) {
                writer.lock().flush()?;
            }
        }
        Ok(())
    }

    /// Why nothing is written any more, where a sync failed: until the pool is opened again.
    pub fn stopped(&self) -> Option<String> {
        self.0.poison.get().cloned()
    }

    /// Checkpoint work: syncs, and moves the names of sealed containers into the index once enough of them wait.
    pub fn settle(&self) -> Result<()> {
        self.0.settle(false)
    }

    /// Fills the next part of the filter from the index; false where all of it is ready. Settling does so by and by.
    pub fn warm(&self) -> Result<bool> {
        self.0.index.warm_filter()
    }

    /// Leaves everything as it is best found: containers sealed, all names in the index, the filter saved. The pool can
    /// be used on.
    pub fn close(&self) -> Result<()> {
        self.0.close_all();
        self.0.settle(true)?;
        while self.0.index.warm_filter()? {}
        self.keep_wounds();
        self.0.index.save_filter()
    }
}

impl Inner {
    pub(super) fn sync(&self) -> Result<()> {
        let wanted = self.appends.load(Ordering::SeqCst);
        if self.synced.load(Ordering::Acquire) >= wanted {
            return self.check_poison();
        }
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_poison()?;
        if self.synced.load(Ordering::Acquire) >= wanted {
            return Ok(());
        }
        let covered = self.appends.load(Ordering::SeqCst);
        for class in Class::ALL {
            self.sync_class(class)?;
        }
        self.synced.store(covered, Ordering::Release);
        Ok(())
    }

    fn sync_class(&self, class: Class) -> Result<()> {
        for writer in self.streams.unsafe_writers(class) {
            match writer.sync(self.media.as_ref()) {
                Ok(None) => {}
                Ok(Some(footer)) => self.sealed_and_safe(&writer, &footer),
                Err(SyncError::Write(error)) => return Err(error),
                Err(SyncError::Sync(error)) => {
                    let _ = self.poison.set(error.to_string());
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn sealed_and_safe(&self, writer: &Writer, footer: &Footer) {
        let record = record_of(writer.class(), writer.dense(), footer);
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).insert(writer.id(), record);
        self.streams.safe(writer.id());
    }

    /// Closes every container that holds something, so that the next sync seals it.
    pub(super) fn close_all(&self) {
        for class in Class::ALL {
            for writer in self.streams.unsafe_writers(class) {
                let mut appender = writer.lock();
                if !appender.is_empty() {
                    self.appends.fetch_add(1, Ordering::SeqCst);
                    appender.close();
                    self.streams.retire(writer.id());
                }
            }
        }
    }

    pub(super) fn settle(&self, all: bool) -> Result<()> {
        self.sync()?;
        let _turn = self.settling.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..WARM_PARTS {
            if !self.index.warm_filter()? {
                break;
            }
        }
        loop {
            let (batch, enough) = self.next_batch();
            if batch.is_empty() || !(all || enough) {
                return Ok(());
            }
            // Once more: what the nodes in these containers refer to may have been put after the first sync began.
            self.sync()?;
            self.index_containers(batch)?;
        }
    }

    /// Sealed containers with about as many names as go into the index at once, and whether there are so many.
    pub(super) fn next_batch(&self) -> (BTreeMap<ContainerId, Record>, bool) {
        let full = self.index_batch();
        let sealed = self.sealed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = 0;
        let mut batch = BTreeMap::new();
        for (id, record) in sealed.iter() {
            if names >= full {
                break;
            }
            names += record.slots as usize;
            batch.insert(*id, *record);
        }
        (batch, names >= full)
    }

    /// How many names go into the index at once.
    pub(super) fn index_batch(&self) -> usize {
        let (least, most) = (self.options.index_batch, self.options.index_batch_max);
        usize::try_from(self.index.len() / 8).unwrap_or(most).min(most).max(least)
    }

    /// Moves the names of these containers, which are sealed and safe with all that they refer to, into the index. A
    /// name can be found at every moment: in the index before it leaves `recent`.
    pub(super) fn index_containers(&self, mut batch: BTreeMap<ContainerId, Record>) -> Result<()> {
        let names = self.recent.of(&batch);
        let mut counts = BTreeMap::<ContainerId, u32>::new();
        names.iter().for_each(|(_, location)| *counts.entry(location.container).or_default() += 1);
        for (id, record) in &mut batch {
            record.complete = counts.get(id).copied().unwrap_or_default() == record.slots;
        }
        let mut records: Vec<_> = batch.iter().map(|(id, record)| (*id, *record)).collect();
        let amended = self.amended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let indexed = self.indexed.read().unwrap_or_else(PoisonError::into_inner);
        records.extend(amended.iter().filter_map(|id| indexed.get(id).map(|record| (*id, *record))));
        drop(indexed);
        self.index.insert(&records, &names, self.streams.next_id()).inspect_err(|error| {
            if let Error::Environment(Environment::Poisoned(why)) = error {
                // Names would pile up in memory.
                let _ = self.poison.set(why.clone());
            }
        })?;
        self.amended.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !amended.contains(id));
        self.indexed.write().unwrap_or_else(PoisonError::into_inner).extend(records);
        // Before the names are forgotten: look-ups that began earlier may have missed them in both places, and who claims a
        // name after such a look-up looks again when this changed.
        self.settles.fetch_add(1, Ordering::AcqRel);
        // Directories of these containers that came into memory before still vouched for the old places.
        amended.iter().for_each(|id| self.locality.forget(*id));
        self.recent.forget(&names);
        self.sealed.lock().unwrap_or_else(PoisonError::into_inner).retain(|id, _| !batch.contains_key(id));
        Ok(())
    }

    /// Notes that a name of an indexed container leads elsewhere now, so that its directory is no longer taken at its
    /// word. Remembered in the index with the next batch; should that not come, opening finds both copies again.
    pub(super) fn amend(&self, id: ContainerId) {
        let mut indexed = self.indexed.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(record) = indexed.get_mut(&id) {
            record.complete = false;
            self.amended.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        }
        drop(indexed);
        // Counted before the directory is forgotten: who reads it meanwhile forgets it again.
        self.settles.fetch_add(1, Ordering::AcqRel);
        self.locality.forget(id);
    }
}

/// What the index is told about a sealed container, as long as all of its slots count.
pub(super) fn record_of(class: Class, dense: bool, footer: &Footer) -> Record {
    Record {
        class,
        complete: true,
        dense,
        slots: footer.slots,
        raw_bytes: footer.raw_bytes,
        stored_bytes: footer.stored_bytes,
        file_bytes: footer.file_bytes(),
    }
}
