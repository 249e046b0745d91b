//! Names move from the database into sorted files, some parts at a time.
//!
//! ```text
//! files written, synced ─▶ their folder synced ─▶ looked into in place of older ones ─▶ one transaction: in the table, rows out ─▶ older files go
//! ```
//!
//! A part's new file takes over its older files, too, as long as they are not much larger than what comes; so each row is written a few times
//! in its life, however large the index grows, and a part has a few files of very different sizes. A crash leaves files that the
//! database does not tell of; they go with the next opening.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Environment, Error, Result, io_error};

use super::format::{self, Entry, decode_entry};
use super::look_up::{bounds, merged};
use super::sorted::{self, Row, SORTED_DIR, SortedFile};
use super::{Files, Index, META, NAMES, SORTED, filter, read_files};

/// An older file is taken over where it has at most so many times the rows that come.
const TAKES_OVER: u64 = 4;
/// How many rows move in one transaction, about; they are in memory meanwhile.
const ROWS_MAX: usize = 256 << 10;
/// How many transactions there are after one batch of names, at most: an index that is far too large comes down with the next ones.
const TURNS_MAX: usize = 16;

/// A part on its way.
struct Move {
    part: u8,
    /// None where nothing is left of it.
    new: Option<Arc<SortedFile>>,
    /// Older files that the new one takes over.
    old: Vec<Arc<SortedFile>>,
}

impl Index {
    /// Moves names until no more are in the database than there should be. A disk that is full, or a file that can't be read,
    /// stops nobody: the names stay where they are.
    pub(super) fn move_some(&self) -> Result<()> {
        for _ in 0..TURNS_MAX {
            if self.fresh.load(Ordering::Relaxed) <= self.fresh_max {
                break;
            }
            match self.move_parts() {
                Ok(()) => {}
                Err(Error::Environment(error @ Environment::Poisoned(_))) => return Err(error.into()),
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Moves the next parts, as many as make a transaction worth while.
    fn move_parts(&self) -> Result<()> {
        let before = self.files();
        self.media.create_dir_all(SORTED_DIR).map_err(|error| io_error("create", SORTED_DIR, error))?;
        let (mut moves, mut rows) = (Vec::new(), 0);
        if let Err(error) = self.noted(self.write_files(&before, &mut moves, &mut rows)) {
            moves.iter().filter_map(|one| one.new.as_ref()).for_each(|file| file.let_go());
            return Err(error);
        }
        let moved = self.noted(self.commit_moves(&before, &moves));
        match &moved {
            Ok(()) => moves.iter().flat_map(|one| &one.old).for_each(|file| file.let_go()),
            // Nobody knows which of the two a restart will find.
            Err(Error::Environment(Environment::Poisoned(_))) => {}
            Err(_) => self.settle_moves(&before, &moves),
        }
        moved
    }

    /// After an error the moves may have come to be all the same: the database says so. Where it says nothing, both the old and the new files
    /// stay, and look-ups go on with the new ones, which have all that there is.
    fn settle_moves(&self, before: &Files, moves: &[Move]) {
        let Ok(told) = self.database.read(read_files) else { return self.suspect() };
        let is_told = |file: &Arc<SortedFile>| told.iter().any(|(id, ..)| *id == file.id);
        let happened = moves.iter().all(|one| one.new.as_ref().is_none_or(is_told) && !one.old.iter().any(is_told));
        if !happened {
            self.set_files(before.clone());
        }
        let files = moves.iter().flat_map(|one| one.old.iter().chain(&one.new));
        files.filter(|file| !is_told(file)).for_each(|file| file.let_go());
    }

    fn write_files(&self, files: &Files, moves: &mut Vec<Move>, rows: &mut usize) -> Result<()> {
        for _ in 0..filter::PARTS {
            if *rows >= ROWS_MAX.min(self.fresh.load(Ordering::Relaxed) as usize) {
                break;
            }
            let part = self.next_part.fetch_add(1, Ordering::Relaxed);
            let fresh = self.rows_of(part)?;
            if fresh.is_empty() {
                continue;
            }
            *rows += fresh.len();
            moves.push(self.write_part(part, fresh, &files.0[usize::from(part)])?);
        }
        self.media.sync_dir(SORTED_DIR).map_err(|error| io_error("sync", SORTED_DIR, error))
    }

    /// Writes the new file of a part.
    fn write_part(&self, part: u8, fresh: Vec<Row>, files: &[Arc<SortedFile>]) -> Result<Move> {
        let (mut keep, mut rows) = (files.len(), fresh.len() as u64);
        while keep > 0 && files[keep - 1].rows <= TAKES_OVER * rows {
            keep -= 1;
            rows += files[keep].rows;
        }
        let (older, old) = files.split_at(keep);
        // What is gone need not be noted below everything else.
        let counts = |row: &Result<Row>| {
            let is_gone = |(name, value): &Row| decode_entry(name, value) == Some(Entry::Gone);
            !older.is_empty() || !row.as_ref().is_ok_and(is_gone)
        };
        let rows = merged(fresh, old)?.filter(counts);
        let id = self.next_file.fetch_add(1, Ordering::Relaxed);
        let new = sorted::write(&self.media, self.store, id, part, rows)?;
        Ok(Move { part, new: new.map(Arc::new), old: old.to_vec() })
    }

    /// Makes the moves count. The new files have all that the rows and the files have whose place they take, so they can be looked into before
    /// the rows go; the old ones must not be any more, for they don't know what is gone.
    fn commit_moves(&self, before: &Files, moves: &[Move]) -> Result<()> {
        let mut after = before.clone();
        for one in moves {
            let part = usize::from(one.part);
            after.0[part].retain(|file| !one.old.iter().any(|old| old.id == file.id));
            after.0[part].extend(one.new.clone());
        }
        self.set_files(after);
        let next_file = self.next_file.load(Ordering::Relaxed);
        let fresh = self.database.write(|transaction| {
            let mut names = transaction.open_table(NAMES)?;
            let mut table = transaction.open_table(SORTED)?;
            for one in moves {
                let (low, high) = bounds(one.part);
                names.retain_in::<&[u8; 32], _>(&low..=&high, |_, _| false)?;
                for old in &one.old {
                    table.remove(old.id)?;
                }
                if let Some(new) = &one.new {
                    table.insert(new.id, &format::encode_sorted(new.id, new.part, new.rows))?;
                }
            }
            let mut meta = transaction.open_table(META)?;
            meta.insert("header", format::encode_header(self.store, &self.realm, true).as_slice())?;
            meta.insert("next sorted file", next_file.to_le_bytes().as_slice())?;
            Ok(redb::ReadableTableMetadata::len(&names)?)
        })?;
        self.fresh.store(fresh, Ordering::Relaxed);
        Ok(())
    }
}
