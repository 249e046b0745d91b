//! What a config file says about the store.

use std::path::Path;
use std::sync::Arc;

use narrowboat_storage::chunk::ChunkSizes;
use narrowboat_storage::media::FileMedia;
use narrowboat_storage::name::Realm;
use narrowboat_storage::store::OpenReport;
use narrowboat_storage::{Store, StoreOptions};

use super::StartError;
use crate::config::{Config, OVERLAY_BYTES_MIN};
use crate::disk::watch::{Notes, Watch};

/// The options of a store that a config asks for.
pub fn store_options(config: &Config) -> Result<StoreOptions, StartError> {
    let mut options = StoreOptions::default();
    if let Some(bytes) = config.store.chunk_bytes {
        options.chunk_sizes = ChunkSizes::around(bytes)?;
    }
    if let Some(cache) = config.store.cache {
        options.pool.cache_bytes = cache.0 as usize;
    }
    if let Some(overlay) = config.store.overlay {
        options.pressure.block_bytes = overlay.0.max(OVERLAY_BYTES_MIN);
        options.pressure.freeze_bytes = options.pressure.block_bytes / 2;
    }
    if let Some(deferred) = config.store.deferred {
        options.pressure.deferred_bytes = deferred.0;
    }
    if let Some(reserve) = config.store.reserve {
        options.reserve_bytes = reserve.0;
    }
    options.quarantine = config.retention.quarantine();
    if let Some(file) = &config.store.realm_key_file {
        options.realm = read_realm(file)?;
    }
    Ok(options)
}

fn read_realm(file: &Path) -> Result<Realm, StartError> {
    let wrong = |why: String| StartError::Config(format!("store.realm_key_file {}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let digits = text.trim();
    let byte = |at: usize| digits.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = (0..64).step_by(2).map(byte).collect();
    match bytes.map(<[u8; 32]>::try_from) {
        Some(Ok(secret)) if digits.len() == 64 => Ok(Realm::new(secret)),
        _ => Err(wrong("expected 64 hexadecimal digits".into())),
    }
}

/// Opens the store in a data folder, as the box itself does, for commands that work without a running box.
pub fn open_store(data: &Path, config: &Config) -> Result<(Store, OpenReport), StartError> {
    let media = FileMedia::open(data)?;
    Ok(Store::open(Arc::new(media), store_options(config)?)?)
}

/// The same with notes of how the disk does.
pub(super) fn open_watched(data: &Path, config: &Config, notes: Arc<Notes>) -> Result<(Store, OpenReport), StartError> {
    let media = Watch::new(Arc::new(FileMedia::open(data)?), notes);
    Ok(Store::open(Arc::new(media), store_options(config)?)?)
}
