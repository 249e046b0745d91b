//! What is in use: where a run of reclaim begins to walk.
//!
//! In this order, for things move on in it while this is looked at: layers become records and trees, records of the journal
//! become history. What moves is noted where it arrives.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::Store;
use super::open::NO_DATASET;
use crate::catalogue::{Change, HistoryFile, SnapshotRow, decode_changes};
use crate::dataset::layer::Layer;
use crate::dataset::live::Dataset;
use crate::dataset::record::Record;
use crate::error::{Damage, Environment, Error, Refusal, Result};
use crate::history;
use crate::id::{DatasetId, SnapshotId};
use crate::journal;
use crate::name::{Kind, Name};
use crate::pool::Watch;
use crate::tree::CONTENT_TAG;
use crate::tree::sequence::Content;
use crate::units::{Lsn, Timestamp};

/// So much of the journal is read in one step, in bytes of records.
const JOURNAL_BYTES: usize = 32 << 20;

/// What is looked at as if it were gone, to see what that would free.
#[derive(Clone, Debug, Default)]
pub(crate) struct Without {
    /// Datasets with all that is of them.
    pub datasets: BTreeSet<DatasetId>,
    /// Single snapshots.
    pub snapshots: BTreeSet<SnapshotId>,
}

impl Without {
    /// All is there.
    pub(crate) const NOTHING: &Without = &Without { datasets: BTreeSet::new(), snapshots: BTreeSet::new() };

    fn has(&self, row: &SnapshotRow) -> bool {
        self.snapshots.contains(&row.id) || self.datasets.contains(&row.dataset)
    }
}

/// Which records of the journal may still be applied to something.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    /// Those of a dataset behind this one: its head has those before, and no checkpoint of its window begins before.
    behind: BTreeMap<DatasetId, Lsn>,
    /// Those of nobody, or of somebody who is gone, behind this one. Of earlier ones the journal does not ask when it is opened
    /// whether what they refer to is there.
    others: Lsn,
}

impl Needed {
    fn has(&self, record: &journal::Record) -> bool {
        record.lsn > self.behind.get(&record.dataset).copied().unwrap_or(self.others)
    }
}

impl Store {
    /// Notes what the layers of all datasets name.
    pub(crate) fn need_layers(&self, watch: &Watch, but: &Without) -> Result<()> {
        let datasets = self.open_datasets();
        datasets
            .iter()
            .filter(|dataset| !but.datasets.contains(&dataset.id))
            .try_for_each(|dataset| dataset.need_layers(watch))
    }

    /// Notes all roots that the catalogue names, those below the layers of open datasets, and trees that are held. Before
    /// that, what of the journal is owed to nobody goes.
    ///
    /// An image of the catalogue is left behind that has these roots and no older ones: were the catalogue lost, the heads that an
    /// earlier image names would be gone.
    pub(crate) fn need_catalogue(&self, watch: &Watch, but: &Without) -> Result<Needed> {
        match self.trim_journal() {
            Err(Error::Environment(Environment::Full)) => {}
            outcome => outcome?,
        }
        let _administration = self.administration();
        let catalogue = &self.stages.catalogue;
        let applied = catalogue.applied()?;
        let mut needed = Needed { behind: BTreeMap::from([(NO_DATASET, applied)]), others: applied };
        // What was deleted and can be had back is here as everything else.
        for row in catalogue.all_datasets().into_iter().filter(|row| !but.datasets.contains(&row.id)) {
            let head = catalogue.head(row.id);
            need_root(watch, head.root);
            // Also those that no window reaches: a larger one might, tomorrow.
            let checkpoints = catalogue.checkpoints(row.id);
            checkpoints.iter().for_each(|checkpoint| need_root(watch, checkpoint.root));
            let replayed = checkpoints.iter().map(|checkpoint| checkpoint.until_lsn);
            needed.behind.insert(row.id, replayed.fold(head.lsn, Lsn::min));
            needed.others = needed.others.max(head.lsn);
        }
        for snapshot in catalogue.all_snapshots(None).into_iter().filter(|row| !but.has(row)) {
            need_root(watch, snapshot.sealed.and_then(|sealed| sealed.root));
        }
        for dataset in self.open_datasets().into_iter().filter(|dataset| !but.datasets.contains(&dataset.id)) {
            need_root(watch, dataset.base().root);
        }
        self.stages.pool.held_roots().into_iter().for_each(|root| need_root(watch, Some(root)));
        let last = self.stages.journal.last();
        self.stages.make_stable(last)?;
        catalogue.apply(&[Change::applied(last)])?;
        catalogue.write_image(last)?;
        Ok(needed)
    }

    /// Notes what the journal's records behind `after` name that are still to be applied, some of them; returns behind which one to go
    /// on, or `None` at the end.
    pub(crate) fn need_journal(&self, watch: &Watch, needed: &Needed, after: Lsn) -> Result<Option<Lsn>> {
        self.stages.make_stable(self.stages.journal.last())?;
        let applied = self.stages.catalogue.applied()?;
        // What was trimmed since is owed to nobody, or is in histories, which come after.
        let (after, _pin) = {
            let _no_trimming = self.administration();
            let after = after.max(Lsn(self.stages.journal.first().0.saturating_sub(1)));
            (after, self.pin(after, None))
        };
        let (mut bytes, mut upto) = (0, after);
        let outcome = self.stages.journal.replay(after, &mut |record| {
            if bytes >= JOURNAL_BYTES {
                return Err(Refusal::Busy.into());
            }
            bytes += record.head.len() + record.payload.len();
            upto = record.lsn;
            if needed.has(&record) { need_record(watch, &record, record.lsn > applied) } else { Ok(()) }
        });
        match outcome {
            Err(Error::Refused(Refusal::Busy)) if bytes >= JOURNAL_BYTES => Ok(Some(upto)),
            outcome => outcome.map(|()| None),
        }
    }

    /// All files of histories.
    pub(crate) fn all_history_files(&self, but: &Without) -> Vec<(DatasetId, HistoryFile)> {
        let histories = self.stages.catalogue.histories().into_iter().filter(|(id, _)| !but.datasets.contains(id));
        histories.into_iter().flat_map(|(id, history)| history.files.into_iter().map(move |file| (id, file))).collect()
    }

    /// Notes what the records of a history's file name. Nothing where its window let go of it meanwhile.
    pub(crate) fn need_history(&self, watch: &Watch, id: DatasetId, file: &HistoryFile) -> Result<()> {
        let read = history::read(&*self.stages.media, self.id, id, file, Lsn(0), &mut |record| {
            need_record(watch, &record, false)
        });
        let still =
            self.all_history_files(&Without::default()).iter().any(|(of, now)| (*of, now.first) == (id, file.first));
        match read {
            Err(Error::Damage(_) | Error::Environment(Environment::Io { .. })) if !still => Ok(()),
            outcome => outcome,
        }
    }

    /// Notes what arrives and is named by nothing yet.
    pub(crate) fn need_arriving(&self, watch: &Watch) -> Result<()> {
        self.receiving_from().map_or(Ok(()), |from| self.stages.pool.need_from(watch, from))
    }

    /// Tells the store the time, as a drain step does.
    pub(crate) fn tell_time(&self, now: Timestamp) -> Result<()> {
        self.stages.tell(now)
    }
}

/// Which of a dataset's roots it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootOf {
    /// That of a snapshot, by its name.
    Snapshot {
        /// Its name.
        name: String,
        /// True where it was deleted alone, and can be had back.
        deleted: bool,
    },
    /// What the dataset holds now.
    Now,
    /// What it held at a moment that it may be taken back to.
    Past,
}

/// A root that the catalogue keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRoot {
    /// The root.
    pub root: Name,
    /// The name of its dataset.
    pub dataset: String,
    /// True where that was deleted, and can be had back.
    pub dataset_deleted: bool,
    /// Which of them.
    pub of: RootOf,
}

impl Store {
    /// All roots that the catalogue keeps, dataset by dataset: snapshots, what is there now, and the past.
    pub(crate) fn kept_roots(&self) -> Vec<KeptRoot> {
        let catalogue = &self.stages.catalogue;
        let mut roots = Vec::new();
        for row in catalogue.all_datasets() {
            let dataset_deleted = catalogue.dataset_deleted(row.id).is_some();
            let mut keep = |root: Option<Name>, of| {
                let kept = |root| KeptRoot { root, dataset: row.name.clone(), dataset_deleted, of };
                roots.extend(root.map(kept));
            };
            for snapshot in catalogue.all_snapshots(Some(row.id)) {
                let deleted = catalogue.snapshot_deleted(snapshot.id).is_some();
                let root = snapshot.sealed.and_then(|sealed| sealed.root);
                keep(root, RootOf::Snapshot { name: snapshot.name, deleted });
            }
            let now = catalogue.head(row.id).root;
            keep(now, RootOf::Now);
            let base = self.base_root(row.id).ok().flatten();
            keep(base.filter(|base| now != Some(*base)), RootOf::Now);
            for checkpoint in catalogue.checkpoints(row.id) {
                keep(checkpoint.root.filter(|root| now != Some(*root)), RootOf::Past);
            }
        }
        roots
    }
}

fn need_root(watch: &Watch, root: Option<Name>) {
    root.iter().for_each(|root| watch.need(Kind::MapNode, root));
}

/// Notes what a record names; with `administrative`, what the changes of the catalogue name that may still come of it, too.
fn need_record(watch: &Watch, record: &journal::Record, administrative: bool) -> Result<()> {
    let damaged = |error| Damage::new("journal", record.lsn.0, format!("a record at LSN {}", record.lsn), error);
    let decoded = Record::decode(record.kind, &record.head).map_err(damaged)?;
    decoded.chunks().iter().for_each(|chunk| watch.need(Kind::Chunk, chunk));
    match decoded {
        Record::Rewound { root, .. } => need_root(watch, root),
        Record::Edits { edits, .. } => {
            let values = edits.iter().filter_map(|(_, value)| value.as_ref());
            values.into_iter().try_for_each(|value| need_value(watch, value))?;
        }
        Record::Snapshot(changes) | Record::Catalogue(changes) if administrative => {
            for change in decode_changes(&changes).map_err(damaged)? {
                change.roots().map_err(damaged)?.into_iter().for_each(|root| need_root(watch, Some(root)));
            }
        }
        _ => {}
    }
    Ok(())
}

/// Notes what the value of a key of a map names.
fn need_value(watch: &Watch, value: &Bytes) -> Result<()> {
    if value.first() == Some(&CONTENT_TAG) {
        let damaged = |error| Damage::new("a layer", 0, "a content", error);
        let content = Content::decode(value).map_err(damaged)?;
        content.references().for_each(|(kind, name)| watch.need(kind, &name));
    }
    Ok(())
}

impl Dataset {
    fn need_layers(&self, watch: &Watch) -> Result<()> {
        let frozen = {
            let state = self.read_state();
            need_layer(watch, &state.active)?;
            state.frozen.clone()
        };
        frozen.iter().try_for_each(|layer| need_layer(watch, layer))
    }
}

fn need_layer(watch: &Watch, layer: &Layer) -> Result<()> {
    for extents in layer.files.values() {
        extents.chunks().for_each(|chunk| watch.need(Kind::Chunk, &chunk));
    }
    layer.edits.values().flatten().try_for_each(|value| need_value(watch, value))
}
