//! A transaction: the namespace's view of a dataset's layers, with its own edits on top until they are applied.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::namespace::{Table, View};
use super::record::Edit;
use super::state::State;
use crate::error::Result;
use crate::tree::Objects;
use crate::units::Inode;

/// Reads through to the layers, keeps writes to itself. Dropped, it leaves no trace.
pub(crate) struct Transaction<'a> {
    state: &'a State,
    objects: &'a dyn Objects,
    edits: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    next_inode: u64,
}

impl<'a> Transaction<'a> {
    pub fn new(state: &'a State, objects: &'a dyn Objects) -> Self {
        Transaction { state, objects, edits: BTreeMap::new(), next_inode: state.next_inode }
    }

    /// What was changed, in the order of keys, and the next inode number.
    pub fn finish(self) -> (Vec<Edit>, u64) {
        let edits = self.edits.into_iter().map(|(key, value)| (Bytes::from(key), value.map(Bytes::from)));
        (edits.collect(), self.next_inode)
    }
}

impl View for Transaction<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        match self.edits.get(key) {
            Some(value) => Ok(value.as_ref().map(|value| Bytes::copy_from_slice(value))),
            None => self.state.get(self.objects, key),
        }
    }

    fn range(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<(Bytes, Bytes)>> {
        let own = || self.edits.range::<[u8], _>((std::ops::Bound::Included(from), std::ops::Bound::Excluded(to)));
        let deleted = own().filter(|(_, value)| value.is_none()).count();
        let below = self.state.range(self.objects, from, to, limit.saturating_add(deleted))?;
        let mut merged: BTreeMap<Bytes, Bytes> = below.into_iter().collect();
        for (key, value) in own() {
            match value {
                Some(value) => merged.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)),
                None => merged.remove(key.as_slice()),
            };
        }
        Ok(merged.into_iter().take(limit).collect())
    }
}

impl Table for Transaction<'_> {
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.edits.insert(key, Some(value));
    }

    fn delete(&mut self, key: Vec<u8>) {
        self.edits.insert(key, None);
    }

    fn next_inode(&mut self) -> Inode {
        self.next_inode += 1;
        Inode(self.next_inode - 1)
    }
}
