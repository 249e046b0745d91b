//! Files out of a store into a folder of this machine, or a volume into an image: of a snapshot, of any moment, or of now.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use narrowboat_storage::Store;
use narrowboat_storage::catalogue::DatasetKind;
use narrowboat_storage::dataset::{BlockDevice, FileTree};
use narrowboat_storage::store::{DatasetInfo, Moment};

use super::{Failed, reports, time};
use crate::clock;
use crate::jobs::Progress;
use crate::jobs::image::restore_image;
use crate::jobs::restore::restore;

/// Restores files to a folder of this machine, or a volume to an image.
pub fn restore_from(
    store: &Store,
    source: &str,
    dest: &Path,
    gone: &AtomicBool,
    tell: &mut dyn FnMut(Progress),
) -> Result<reports::RestoreReport, Failed> {
    if !dest.is_absolute() {
        return Err(Failed::refused("the destination must be an absolute path"));
    }
    let (origin, _until_it_is_read) = find_origin(store, source)?;
    match origin {
        Origin::Files { tree, path, bytes } => Ok(restore(&tree, &path, dest, bytes, gone, tell)?),
        Origin::Volume(device) => Ok(restore_image(&*device, dest, gone, tell)?),
    }
}

/// What is to be restored.
pub(super) enum Origin {
    /// A path in a tree, and the bytes below, where they are known.
    Files { tree: Arc<dyn FileTree>, path: String, bytes: Option<u64> },
    /// A volume.
    Volume(Arc<dyn BlockDevice>),
}

/// Finds what `DATASET[@MOMENT][:PATH]` stands for.
pub(super) fn find_origin<'a>(store: &'a Store, source: &str) -> Result<(Origin, Option<Temporary<'a>>), Failed> {
    let name_end = source.find(['@', ':']).unwrap_or(source.len());
    let (dataset, rest) = source.split_at(name_end);
    let info = store.dataset_named(dataset)?;
    let (moment, path) = match rest.strip_prefix('@') {
        Some(rest) => time::moment_and_path(store, dataset, rest).map(|(moment, path)| (Some(moment), path))?,
        None => (None, rest.trim_start_matches(':')),
    };
    if info.row.kind == DatasetKind::Volume && !path.is_empty() {
        return Err(Failed::refused(format!("{dataset} is a volume: it is restored whole, without a path")));
    }
    match moment {
        Some(Moment::Snapshot(name)) => Ok((of_snapshot(store, &info, &name, path)?, None)),
        Some(moment) => {
            let name = format!("restore-{:016x}", rand::random::<u64>());
            let then = store.clone_at(dataset, &moment, &name, clock::now())?;
            let temporary = Temporary { store, name };
            Ok((of_present(store, &then, path)?, Some(temporary)))
        }
        None => Ok((of_present(store, &info, path)?, None)),
    }
}

fn of_present(store: &Store, info: &DatasetInfo, path: &str) -> Result<Origin, Failed> {
    Ok(match info.row.kind {
        DatasetKind::Volume => Origin::Volume(store.volume(info.row.id)?),
        DatasetKind::Share => files(store.tree(info.row.id)?, path, info.totals.logical_bytes),
    })
}

fn of_snapshot(store: &Store, info: &DatasetInfo, name: &str, path: &str) -> Result<Origin, Failed> {
    let row = store.snapshot_named(&info.row.name, name)?;
    Ok(match info.row.kind {
        DatasetKind::Volume => Origin::Volume(store.snapshot_volume(row.id)?),
        DatasetKind::Share => files(store.snapshot_tree(row.id)?, path, store.seal(row.id)?.logical_bytes),
    })
}

fn files(tree: Arc<dyn FileTree>, path: &str, bytes: u64) -> Origin {
    Origin::Files { tree, path: path.to_owned(), bytes: path.is_empty().then_some(bytes) }
}

/// A dataset that is there for as long as something is read from it.
pub(super) struct Temporary<'a> {
    store: &'a Store,
    name: String,
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.store.discard_dataset(&self.name, clock::now()) {
            tracing::warn!(dataset = self.name, %error, "what a restore was read from could not be removed");
        }
    }
}
