//! Looking names up: first in the database, then in the sorted files of their part, the youngest first.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::name::Name;

use super::format::{Entry, decode_entry};
use super::sorted::{LastPage, Merged, Row, SortedFile};
use super::{Files, Index, Location, NAMES, rotten_entry};

/// What a row says, or that it rotted.
fn entry_of((name, value): &Row) -> Result<Entry> {
    decode_entry(name, value).ok_or_else(|| rotten_entry(name).into())
}

/// What the sorted files say of names. It remembers the pages that it read last: names that are asked for in their order cost one read a page.
pub(super) struct Finder {
    files: Arc<Files>,
    last: Vec<LastPage>,
}

impl Finder {
    pub fn new(files: Arc<Files>) -> Finder {
        Finder { files, last: Vec::new() }
    }

    pub fn find(&mut self, name: &Name) -> Result<Option<Entry>> {
        let files = self.files.of(name);
        self.last.resize(self.last.len().max(files.len()), None);
        for (file, last) in files.iter().rev().zip(&mut self.last) {
            if let Some(value) = file.find(name, last)? {
                return entry_of(&(*name, value)).map(Some);
            }
        }
        Ok(None)
    }
}

/// The lowest and the highest name of a part.
pub(super) fn bounds(part: u8) -> ([u8; 32], [u8; 32]) {
    let (mut low, mut high) = ([0; 32], [0xFF; 32]);
    (low[0], high[0]) = (part, part);
    (low, high)
}

impl Index {
    /// Where objects lie, by looking at the disk, whatever the filter says.
    pub fn probe(&self, names: &[Name]) -> Result<Vec<Option<Location>>> {
        let entries = self.noted(self.entries(names))?;
        Ok(entries.into_iter().map(|entry| entry.and_then(Entry::place)).collect())
    }

    fn entries(&self, names: &[Name]) -> Result<Vec<Option<Entry>>> {
        let mut found = self.fresh_entries(names)?;
        let files = self.files();
        if names.iter().all(|name| files.of(name).is_empty()) {
            return Ok(found);
        }
        let mut finder = Finder::new(files);
        for (name, found) in names.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
            *found = finder.find(name)?;
        }
        Ok(found)
    }

    /// What the database says of names.
    pub(super) fn fresh_entries(&self, names: &[Name]) -> Result<Vec<Option<Entry>>> {
        let rows = self.database.read(|transaction| {
            let table = transaction.open_table(NAMES)?;
            let row = |name: &Name| Ok(table.get(&name.0)?.map(|value| (*name, *value.value())));
            names.iter().map(row).collect::<Result<Vec<Option<Row>>, redb::Error>>()
        })?;
        rows.iter().map(|row| row.as_ref().map(entry_of).transpose()).collect()
    }

    /// The first two names that begin with each of the prefixes, with their places, by looking at the disk, whatever the
    /// filter says. Two are enough to see that a prefix is no name.
    pub fn probe_prefixes(&self, prefixes: &[u64]) -> Result<Vec<Vec<(Name, Location)>>> {
        let rows = self.noted(self.database.read(|transaction| {
            let table = transaction.open_table(NAMES)?;
            let rows = |prefix: &u64| {
                let names = Name::beginning(*prefix);
                let row = |entry: Result<(redb::AccessGuard<_>, redb::AccessGuard<_>), _>| {
                    let (name, value): (redb::AccessGuard<&[u8; 32]>, redb::AccessGuard<&[u8; 16]>) = entry?;
                    Ok((Name(*name.value()), *value.value()))
                };
                table
                    .range::<&[u8; 32]>(&names.start().0..=&names.end().0)?
                    .map(row)
                    .collect::<Result<Vec<Row>, redb::Error>>()
            };
            prefixes.iter().map(rows).collect::<Result<Vec<_>, _>>()
        }))?;
        let files = self.files();
        let pairs = prefixes.iter().zip(rows);
        self.noted(pairs.map(|(prefix, fresh)| first_two(&files, *prefix, fresh)).collect())
    }

    /// Visits every name whose first byte is `first`, in order. `None` as location marks an entry that rotted.
    pub fn scan(&self, first: u8, mut visit: impl FnMut(&Name, Option<Location>)) -> Result<()> {
        self.scans.fetch_add(1, Ordering::Relaxed);
        let mut visit = |(name, value): Row| match decode_entry(&name, &value) {
            Some(Entry::Gone) => {}
            Some(Entry::At(place)) => visit(&name, Some(place)),
            None => visit(&name, None),
        };
        self.noted(self.rows_of(first).and_then(|fresh| {
            let files = self.files();
            merged(fresh, &files.0[usize::from(first)])?.try_for_each(|row| row.map(&mut visit))
        }))
    }

    /// The database's rows of one part, in order.
    pub(super) fn rows_of(&self, part: u8) -> Result<Vec<Row>> {
        let (low, high) = bounds(part);
        self.database.read(|transaction| {
            let table = transaction.open_table(NAMES)?;
            let mut rows = Vec::new();
            for entry in table.range::<&[u8; 32]>(&low..=&high)? {
                let (name, value) = entry?;
                rows.push((Name(*name.value()), *value.value()));
            }
            Ok(rows)
        })
    }
}

/// Rows of the database and of files (the oldest first), as one.
pub(super) fn merged<'a>(fresh: Vec<Row>, files: &'a [Arc<SortedFile>]) -> Result<Merged<'a>> {
    let mut sources: Vec<Box<dyn Iterator<Item = Result<Row>> + 'a>> = vec![Box::new(fresh.into_iter().map(Ok))];
    for file in files.iter().rev() {
        sources.push(Box::new(file.rows()));
    }
    Merged::new(sources)
}

/// The first two names that begin with a prefix and are not gone.
fn first_two(files: &Files, prefix: u64, fresh: Vec<Row>) -> Result<Vec<(Name, Location)>> {
    let of_part = &files.0[usize::from(prefix.to_le_bytes()[0])];
    let mut sources: Vec<Box<dyn Iterator<Item = Result<Row>>>> = vec![Box::new(fresh.into_iter().map(Ok))];
    for file in of_part.iter().rev() {
        let mut rows = Vec::new();
        file.find_beginning(prefix, &mut None, &mut rows)?;
        sources.push(Box::new(rows.into_iter().map(Ok)));
    }
    let mut found = Vec::new();
    for row in Merged::new(sources)? {
        let row = row?;
        if let Entry::At(place) = entry_of(&row)? {
            found.push((row.0, place));
        }
        if found.len() == 2 {
            break;
        }
    }
    Ok(found)
}
