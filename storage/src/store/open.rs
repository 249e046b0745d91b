//! Opening: header, catalogue, journal, pool; then every record behind the heads is applied again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, Condvar, Mutex, RwLock};

use bytes::Bytes;

use super::datasets::mode_of;
use super::format::Header;
use super::{Store, StoreOptions};
use crate::catalogue::{Catalogue, CatalogueReport, Change, decode_changes};
use crate::chunk::Cutter;
use crate::dataset::live::Dataset;
use crate::dataset::record::Record;
use crate::dataset::state::Base;
use crate::error::{Damage, Environment, Refusal, Result};
use crate::id::{DatasetId, SnapshotId, StoreId};
use crate::journal::{self, Journal, JournalOptions, Recovery};
use crate::media::Media;
use crate::media::answers::damage_or;
use crate::name::Kind;
use crate::pool::{Pool, PoolReport};
use crate::pressure::Pressure;
use crate::stages::Stages;

/// What opening a store found and did.
#[derive(Clone, Debug)]
pub struct OpenReport {
    /// True where the store was created by this call.
    pub created: bool,
    /// The catalogue.
    pub catalogue: CatalogueReport,
    /// The journal.
    pub journal: Recovery,
    /// Containers and index.
    pub pool: PoolReport,
    /// Journal records that were applied again.
    pub replayed: u64,
    /// Datasets that could not be brought back, by name, and why. Each answers with its damage, and the journal keeps what it
    /// has behind their heads; all others are served.
    pub set_aside: Vec<(String, Damage)>,
}

impl Store {
    /// Opens the store on a medium, or creates one where there is none.
    ///
    /// Everything that was ever stable is there afterwards. What was lost and could be built again (the index, the
    /// catalogue) is in the report, and so are datasets that had to be set aside.
    pub fn open(media: Arc<dyn Media>, options: StoreOptions) -> Result<(Store, OpenReport)> {
        let found = Header::read(&*media)?;
        let created = found.is_none();
        let header = match found {
            Some(header) => header,
            None => create_header(&*media, &options)?,
        };
        let (catalogue, catalogue_report) = Catalogue::open(media.clone(), header.store, is_new(&*media)?)?;
        let heads = catalogue.all_datasets().into_iter().map(|row| catalogue.head(row.id).lsn);
        let known_stable = heads.max().unwrap_or_default().max(catalogue.applied()?);
        let segment_bytes = options.journal.segment_bytes;
        let journal_options = JournalOptions { known_stable, ..options.journal };
        // First, for the journal asks it what a power cut has left.
        let (pool, pool_report) = Pool::open(media.clone(), header.store, header.realm.clone(), options.pool)?;
        let witness = |kind: u8, head: &Bytes| has_what_it_refers_to(&pool, kind, head);
        let (journal, journal_report) = Journal::open_with(media.clone(), header.store, journal_options, &witness)?;
        let stages = Arc::new(Stages::new(
            media,
            header.realm,
            Cutter::new(header.sizes),
            journal,
            pool,
            catalogue,
            Arc::new(Pressure::new(options.pressure)),
            options.reserve_bytes,
            options.ids,
        ));
        let store = Store {
            id: header.store,
            stages,
            datasets: RwLock::new(BTreeMap::new()),
            administration: Mutex::new(()),
            draining: Mutex::new(BTreeSet::new()),
            turn: AtomicUsize::new(0),
            unrecorded: Mutex::default(),
            recorded: Condvar::new(),
            pins: Mutex::default(),
            spare_room: AtomicU64::new(u64::MAX),
            window_floor: AtomicU64::new(0),
            splitting: Mutex::new(()),
            unsplit: Mutex::default(),
            sweep_owed: AtomicBool::new(true),
            whole_journal_bytes: options.whole_journal_bytes,
            quarantine: options.quarantine,
            drained: Condvar::new(),
            segment_bytes,
            run: Mutex::default(),
        };
        store.catch_up_catalogue()?;
        store.learn_run();
        store.sweep_history()?;
        let (replayed, set_aside) = store.replay_datasets()?;
        store.learn_sizes()?;
        let (catalogue, journal, pool) = (catalogue_report, journal_report, pool_report);
        Ok((store, OpenReport { created, catalogue, journal, pool, replayed, set_aside }))
    }

    /// Applies the catalogue's changes that reached the journal and not the catalogue.
    fn catch_up_catalogue(&self) -> Result<()> {
        let catalogue = &self.stages.catalogue;
        let applied = catalogue.applied()?;
        self.stages.journal.replay(applied, &mut |record| {
            let changes = match decode(&record)? {
                // A sync failed under it, so nobody was told that it is there, and the drain went on: it could never be sealed.
                Record::Snapshot(_) if record.lsn <= catalogue.head(record.dataset).lsn => None,
                Record::Catalogue(changes) | Record::Snapshot(changes) => Some(changes),
                _ => return Ok(()),
            };
            let changes = changes.map_or(Ok(Vec::new()), |changes| decode_changes(&changes));
            let mut changes = changes.map_err(|error| damaged(&record, error))?;
            changes.iter_mut().for_each(|change| change.set_missing_lsn(record.lsn));
            changes.push(Change::applied(record.lsn));
            catalogue.apply_journaled(&changes)
        })
    }

    /// Opens every dataset at its head and applies what the journal has behind it. Returns how many records that were, and
    /// which datasets had to be set aside.
    fn replay_datasets(&self) -> Result<(u64, Vec<(String, Damage)>)> {
        let catalogue = &self.stages.catalogue;
        let mut first = self.stages.journal.last();
        let mut datasets = BTreeMap::new();
        let rows = catalogue.all_datasets();
        for row in &rows {
            let head = catalogue.head(row.id);
            let base = Base { root: head.root, lsn: head.lsn };
            let dataset = Dataset::new(row, self.stages.clone(), mode_of(row), base, head.next_inode);
            dataset.restore_calls(catalogue.calls(row.id));
            if catalogue.dataset_deleted(row.id).is_some() {
                dataset.withdraw(true);
            }
            if !row.read_only {
                first = first.min(head.lsn);
            }
            datasets.insert(row.id, Arc::new(dataset));
        }
        let mut replayed = 0;
        let mut set_aside = BTreeMap::new();
        self.stages.journal.replay(first, &mut |record| {
            let Some(dataset) = datasets.get(&record.dataset).filter(|dataset| !dataset.read_only) else {
                return Ok(());
            };
            if !set_aside.contains_key(&dataset.id) {
                replayed += 1;
                set_aside.extend(
                    damage_or(&*self.stages.media, self.replay_record(dataset, record))?
                        .err()
                        .map(|damage| (dataset.id, damage)),
                );
            }
            Ok(())
        })?;
        for dataset in datasets.values().filter(|dataset| !dataset.read_only) {
            if !set_aside.contains_key(&dataset.id) {
                set_aside.extend(
                    damage_or(&*self.stages.media, dataset.replayed())?.err().map(|damage| (dataset.id, damage)),
                );
            }
        }
        for (id, damage) in &set_aside {
            datasets.get(id).into_iter().for_each(|dataset| dataset.set_aside(damage.clone()));
        }
        *self.datasets.write().unwrap_or_else(std::sync::PoisonError::into_inner) = datasets;
        let named = rows.into_iter().filter_map(|row| Some((row.name, set_aside.remove(&row.id)?)));
        Ok((replayed, named.collect()))
    }

    fn replay_record(&self, dataset: &Dataset, record: journal::Record) -> Result<()> {
        let mut waits = |value: &bytes::Bytes| -> Result<Option<SnapshotId>> {
            let changes = decode_changes(value).map_err(|error| Damage::new("journal", 0, "a snapshot", error))?;
            let ids = changes.iter().filter_map(Change::snapshot_id);
            let find = |id: &SnapshotId| self.stages.catalogue.any_snapshot(*id);
            let waiting = |id: &SnapshotId| find(id).is_some_and(|row| row.sealed.is_none());
            Ok(ids.into_iter().find(waiting))
        };
        if let Some((snapshot, base)) = dataset.replay(record, &mut waits)? {
            self.seal_at(snapshot, base, dataset.next_inode())?;
        }
        dataset.freeze_journaled_if_large();
        Ok(())
    }
}

fn decode(record: &journal::Record) -> Result<Record> {
    if record.kind == 0 {
        return Err(Refusal::Unsupported("a journal record of kind 0".into()).into());
    }
    Record::decode(record.kind, &record.head).map_err(|error| damaged(record, error).into())
}

/// Whether every chunk that a record refers to is there. What can't be read is not asked about: replaying names the damage.
fn has_what_it_refers_to(pool: &Pool, kind: u8, head: &Bytes) -> Result<bool> {
    let Ok(record) = Record::decode(kind, head) else { return Ok(true) };
    let there = pool.contains_batch(Kind::Chunk, &record.chunks())?;
    Ok(there.into_iter().all(|there| there))
}

fn damaged(record: &journal::Record, error: crate::codec::Malformed) -> Damage {
    Damage::new("journal", record.lsn.0, format!("a record at LSN {}", record.lsn), error)
}

fn create_header(media: &dyn Media, options: &StoreOptions) -> Result<Header> {
    let names = media.list("").map_err(|error| crate::error::io_error("list", "", error))?;
    if names.iter().any(|name| name == "journal/" || name == "containers/") {
        let found = "journal or containers without it";
        return Err(Damage::new("store.format", 0, "the store header", found).into());
    }
    let space = media.space().map_err(|error| crate::error::io_error("measure", "", error))?;
    if space.free_bytes < options.reserve_bytes {
        return Err(Environment::Full.into());
    }
    let header = Header { store: StoreId::new(&options.ids), realm: options.realm.clone(), sizes: options.chunk_sizes };
    header.write(media)?;
    Ok(header)
}

/// True where a store has its header and nothing else yet: its creation may have been cut short.
fn is_new(media: &dyn Media) -> Result<bool> {
    let names = media.list("").map_err(|error| crate::error::io_error("list", "", error))?;
    Ok(!names.iter().any(|name| name == "containers/"))
}

/// Datasets of one id are unknown to the journal before they are created.
pub(super) const NO_DATASET: DatasetId = DatasetId([0; 16]);
