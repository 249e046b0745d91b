//! A table in memory, with transactions that are thrown away when the operation fails.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::dataset::namespace::{Table, View, format};
use crate::error::Result;
use crate::units::{Inode, Timestamp};

/// The committed state of a share.
#[derive(Clone, Debug)]
pub struct Ram {
    pub pairs: BTreeMap<Bytes, Bytes>,
    last_inode: u64,
}

impl Ram {
    /// A freshly formatted share.
    pub fn new(now: Timestamp) -> Self {
        let mut table = Ram { pairs: BTreeMap::new(), last_inode: 1 };
        let mut edits = Transaction { last_inode: 1, base: &table, edits: BTreeMap::new() };
        format(&mut edits, now);
        let edits = edits.edits;
        table.apply(edits);
        table
    }

    /// Runs one operation; what it edited is kept where it succeeds. Numbers it took are never given again.
    pub fn run<T>(&mut self, operation: impl FnOnce(&mut dyn Table) -> Result<T>) -> Result<T> {
        let mut transaction = Transaction { last_inode: self.last_inode, base: self, edits: BTreeMap::new() };
        let result = operation(&mut transaction);
        let Transaction { edits, last_inode, .. } = transaction;
        self.last_inode = last_inode;
        if result.is_ok() {
            self.apply(edits);
        }
        result
    }

    fn apply(&mut self, edits: BTreeMap<Bytes, Option<Bytes>>) {
        for (key, value) in edits {
            match value {
                Some(value) => self.pairs.insert(key, value),
                None => self.pairs.remove(&key),
            };
        }
    }
}

impl View for Ram {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.pairs.get(key).cloned())
    }
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let bounds = Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to.max(from));
        Ok(self.pairs.range(bounds).take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

struct Transaction<'a> {
    base: &'a Ram,
    edits: BTreeMap<Bytes, Option<Bytes>>,
    last_inode: u64,
}

impl View for Transaction<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.edits.get(key) {
            Some(edit) => Ok(edit.clone()),
            None => self.base.get(key),
        }
    }
    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let mut merged: BTreeMap<_, _> = self.base.range(from, to, usize::MAX)?.into_iter().collect();
        for (key, value) in self.edits.range(Bytes::copy_from_slice(from)..Bytes::copy_from_slice(to.max(from))) {
            match value {
                Some(value) => merged.insert(key.clone(), value.clone()),
                None => merged.remove(key),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl Table for Transaction<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        assert!(key.len() <= super::key::KEY_BYTES_MAX && value.len() <= 1024, "map trees take no more");
        self.edits.insert(key.into(), Some(value.into()));
    }
    fn delete(&mut self, key: Vec<u8>) {
        self.edits.insert(key.into(), None);
    }
    fn next_inode(&mut self) -> Inode {
        self.last_inode += 1;
        Inode(self.last_inode)
    }
}
