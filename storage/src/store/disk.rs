//! What the data folder holds, by parts: the files as they are, none left out.
//!
//! Containers and sorted files of the index are counted by what the pool knows of them, for a large store has tens of thousands; everything else is a few files, which are looked
//! at.

use super::Store;
use crate::container::CONTAINERS_DIR;
use crate::error::{Result, io_error};
use crate::index::SORTED_DIR;

/// Bytes of files, by what they are for. The sum is the data folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskParts {
    /// Containers: chunks and tree nodes as they are stored, with those that nobody needs any more until reclaim has gone by.
    pub objects_bytes: u64,
    /// What containers have beside: headers, slots, directories, sketches.
    pub directories_bytes: u64,
    /// Containers that were set aside, for nothing in them could be read.
    pub aside_bytes: u64,
    /// The index and its filter.
    pub index_bytes: u64,
    /// The catalogue and its images.
    pub catalogue_bytes: u64,
    /// The journal.
    pub journal_bytes: u64,
    /// What was split off it for windows.
    pub history_bytes: u64,
    /// Whatever else lies in the data folder.
    pub other_bytes: u64,
}

impl DiskParts {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        let containers = self.objects_bytes + self.directories_bytes + self.aside_bytes;
        let logs = self.journal_bytes + self.history_bytes;
        containers + self.index_bytes + self.catalogue_bytes + logs + self.other_bytes
    }

    fn part_of(&mut self, path: &str) -> &mut u64 {
        let folder = path.split_once('/').map_or("", |(folder, _)| folder);
        match folder {
            "journal" => &mut self.journal_bytes,
            "history" => &mut self.history_bytes,
            "catalogue" => &mut self.catalogue_bytes,
            _ if path.starts_with("catalogue.") => &mut self.catalogue_bytes,
            _ if path.starts_with("index.") => &mut self.index_bytes,
            _ => &mut self.other_bytes,
        }
    }
}

impl Store {
    /// What the data folder holds. Looks at every file but those of containers and sorted files of the index, which is done in no time.
    pub fn disk_parts(&self) -> Result<DiskParts> {
        let containers = self.stages.pool.container_bytes();
        let mut parts = DiskParts {
            objects_bytes: containers.objects,
            directories_bytes: containers.files.saturating_sub(containers.objects),
            aside_bytes: containers.aside,
            index_bytes: self.stages.pool.sorted_bytes(),
            ..DiskParts::default()
        };
        self.add_folder("", &mut parts)?;
        Ok(parts)
    }

    /// Why the disk is not written to any more, where a write or sync failed of which nobody can know what came of it: only opening the store
    /// again tells. What is there can be read. Asks no disk.
    pub fn stopped(&self) -> Option<String> {
        let stages = &self.stages;
        stages.journal.stopped().or_else(|| stages.pool.stopped()).or_else(|| stages.catalogue.stopped())
    }

    fn add_folder(&self, folder: &str, parts: &mut DiskParts) -> Result<()> {
        let media = &self.stages.media;
        let names = match media.list(folder) {
            Ok(names) => names,
            Err(error) if folder.is_empty() => return Err(io_error("list", folder, error)),
            // Somebody else's, as `lost+found` is.
            Err(_) => return Ok(()),
        };
        for name in names {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            match path.strip_suffix('/') {
                Some(CONTAINERS_DIR | SORTED_DIR) => {}
                Some(below) => self.add_folder(below, parts)?,
                // What is no file (a socket), and what goes while this is looked at, takes nothing.
                None => *parts.part_of(&path) += media.open(&path).and_then(|file| file.len()).unwrap_or(0),
            }
        }
        Ok(())
    }
}
