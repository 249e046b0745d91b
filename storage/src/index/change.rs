//! Changes of the index: containers come in with their names, and go. Each is one durable transaction of the database; sorted
//! files are never changed.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use redb::WriteTransaction;

use crate::error::Result;
use crate::id::ContainerId;
use crate::name::Name;

use super::format::{self, Entry, decode_entry};
use super::look_up::Finder;
use super::{CONTAINERS, Index, Location, META, NAMES, Record};

impl Index {
    /// Puts containers with their names into the index, in one durable transaction. `names` must be sorted, and
    /// everything that the containers hold and refer to must be synced. A name that is there is moved.
    pub fn insert(
        &self,
        containers: &[(ContainerId, Record)],
        names: &[(Name, Location)],
        next_container: u64,
    ) -> Result<()> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let in_files = self.in_files(names);
        let changed = self.change(next_container, |transaction| {
            let mut table = transaction.open_table(NAMES)?;
            let mut more = 0;
            for ((name, location), in_files) in names.iter().zip(in_files) {
                let before = table.insert(&name.0, &format::encode_location(name, location))?;
                let before = before.map(|value| decode_entry(name, value.value()));
                more += i64::from(match before {
                    None => !in_files,
                    Some(entry) => entry == Some(Entry::Gone),
                });
            }
            let mut records = transaction.open_table(CONTAINERS)?;
            for (id, record) in containers {
                records.insert(id.0, &format::encode_record(record))?;
            }
            Ok(more)
        });
        changed?;
        for part in self.filter.insert(names.iter().map(|(name, _)| *name)) {
            self.fill_filter(part)?;
        }
        self.move_some()
    }

    /// Takes names out that still lead to these places, notes `records` of containers anew, and forgets the containers `gone`, in
    /// one durable transaction. `names` must be sorted. Returns how many names went.
    pub fn remove_names(
        &self,
        names: &[(Name, Location)],
        records: &[(ContainerId, Record)],
        gone: &[ContainerId],
        next_container: u64,
    ) -> Result<u64> {
        let _turn = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let only_names: Vec<_> = names.iter().map(|(name, _)| *name).collect();
        let places = self.probe(&only_names)?;
        let going = names.iter().zip(places).filter(|((_, location), place)| *place == Some(*location));
        let going: Vec<Name> = going.map(|((name, _), _)| *name).collect();
        let files = self.files();
        self.change(next_container, |transaction| {
            let mut table = transaction.open_table(NAMES)?;
            for name in &going {
                match files.of(name).is_empty() {
                    true => drop(table.remove(&name.0)?),
                    false => drop(table.insert(&name.0, &format::encode_gone(name))?),
                }
            }
            let mut kept = transaction.open_table(CONTAINERS)?;
            for (id, record) in records {
                kept.insert(id.0, &format::encode_record(record))?;
            }
            for id in gone {
                kept.remove(id.0)?;
            }
            Ok(-(going.len() as i64))
        })?;
        self.move_some()?;
        Ok(going.len() as u64)
    }

    /// One durable transaction. `work` says by how many names the index grew.
    fn change(
        &self,
        next_container: u64,
        work: impl FnOnce(&WriteTransaction) -> Result<i64, redb::Error>,
    ) -> Result<()> {
        let (generation, names) = (self.generation.load(Ordering::Relaxed) + 1, self.len());
        let written = self.database.write(|transaction| {
            let names = names.saturating_add_signed(work(transaction)?);
            let mut meta = transaction.open_table(META)?;
            // The numbers of what is gone are never given out again.
            meta.insert("next container", next_container.to_le_bytes().as_slice())?;
            meta.insert("generation", generation.to_le_bytes().as_slice())?;
            meta.insert("names", names.to_le_bytes().as_slice())?;
            let fresh = redb::ReadableTableMetadata::len(&transaction.open_table(NAMES)?)?;
            Ok((names, fresh))
        });
        let (names, fresh) = self.noted(written)?;
        self.names.store(names, Ordering::Relaxed);
        self.fresh.store(fresh, Ordering::Relaxed);
        self.generation.store(generation, Ordering::Relaxed);
        Ok(())
    }

    /// Which of these names the sorted files have. Where one can't be read, its names count as new: the index is built anew with the next
    /// opening.
    fn in_files(&self, names: &[(Name, Location)]) -> Vec<bool> {
        let files = self.files();
        let mut finder = Finder::new(files.clone());
        let mut has = |name: &Name| {
            let maybe = !files.of(name).is_empty() && self.filter.may_have(name.prefix());
            maybe && matches!(self.noted(finder.find(name)), Ok(Some(Entry::At(_))))
        };
        names.iter().map(|(name, _)| has(name)).collect()
    }
}
