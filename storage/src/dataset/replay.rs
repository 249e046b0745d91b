//! Bringing a dataset back after a start: its head, then every journal record after it, in order.

use bytes::Bytes;

use super::extents::{Extent, Place};
use super::layer::record_of;
use super::live::Dataset;
use super::namespace::{self, Key, Record as InodeRecord, Totals};
use super::record::{Edit, Payload, Record};
use super::state::{Base, State};
use crate::catalogue::DatasetKind;
use crate::error::{Damage, Result};
use crate::id::SnapshotId;
use crate::journal;
use crate::units::Inode;

impl Dataset {
    /// Applies one journal record of this dataset. Records up to the head were merged before and are passed over.
    /// `snapshot_of` reads a snapshot record's value and says whether that snapshot still waits to be sealed. Returns a
    /// snapshot that turned out to be the base itself.
    pub fn replay(
        &self,
        record: journal::Record,
        snapshot_of: &mut dyn FnMut(&Bytes) -> Result<Option<SnapshotId>>,
    ) -> Result<Option<(SnapshotId, Base)>> {
        let mut state = self.write_state();
        if record.lsn <= state.base.lsn {
            return Ok(None);
        }
        let payload = Payload::of(&record);
        let decoded = Record::decode(record.kind, &record.head).map_err(|error| {
            Damage::new("journal", record.lsn.0, "a record of a dataset", format!("at record {}: {error}", record.lsn))
        })?;
        state.active.takes(record.lsn, record.time, journal::record_bytes(record.head.len(), record.payload.len()));
        match decoded {
            Record::Edits { tag, truncated, mut edits } => {
                self.replay_totals(&mut state, &mut edits)?;
                for inode in edits.iter().filter_map(|(key, _)| record_of(key)) {
                    state.next_inode = state.next_inode.max(inode.0 + 1);
                }
                if let Some((inode, _)) = truncated {
                    state.unjournaled.remove(&inode);
                }
                self.apply(&mut state, Record::Edits { tag, truncated, edits });
            }
            Record::Data { inode, offset } => {
                let Some(payload) = payload else { return Ok(None) };
                let len = payload.len();
                state.active.written_bytes += len;
                let extent = Extent { len, place: payload.part(0, len, self.stages.stamp()), journaled: true };
                state.unjournaled.insert(inode);
                self.account(&mut state, |layer| layer.with_file(inode, |extents| extents.insert(offset, extent)));
            }
            Record::Chunks { inode, mut offset, runs } => {
                state.unjournaled.insert(inode);
                let data = runs.iter().filter(|(_, place)| !matches!(place, Place::Hole));
                state.active.written_bytes += data.map(|(len, _)| len).sum::<u64>();
                self.account(&mut state, |layer| {
                    layer.with_file(inode, |extents| {
                        for (len, place) in runs {
                            extents.insert(offset, Extent { len, place, journaled: true });
                            offset += len;
                        }
                    });
                });
            }
            Record::Write { inode, parts } => {
                // Bytes of a share's file, from its history: the record that counts them is still to come.
                if self.kind == DatasetKind::Share {
                    state.unjournaled.insert(inode);
                }
                self.apply_write(&mut state, inode, parts, payload)?;
            }
            Record::Rewound { root, next_inode } => {
                self.show_rewound(&mut state, Base { root, lsn: record.lsn }, next_inode);
            }
            Record::Snapshot(value) => {
                self.drop_beyond_end(&mut state)?;
                if let Some(snapshot) = snapshot_of(&value)? {
                    return Ok(self.place_snapshot(&mut state, snapshot).map(|base| (snapshot, base)));
                }
            }
            Record::Catalogue(_) => {}
        }
        Ok(None)
    }

    /// Ends the replay: bytes whose attributes did not reach the journal are let go where they lie beyond the end of
    /// their file. The journal is told so, for later records that let the file grow must not bring them back when both are
    /// replayed after another crash.
    pub fn replayed(&self) -> Result<()> {
        let mut state = self.write_state();
        let now = self.stages.journal.time();
        for (inode, size) in self.drop_beyond_end(&mut state)? {
            let record = Record::Edits { tag: None, truncated: Some((inode, size)), edits: Vec::new() };
            self.append(&mut state, now, &record, Vec::new())?;
            self.apply(&mut state, record);
        }
        // What is left is counted by the records that are there.
        state.unjournaled.clear();
        Ok(())
    }

    /// The sums over the share are not journaled, for they would count bytes that were not: they follow from the edits.
    fn replay_totals(&self, state: &mut State, edits: &mut Vec<Edit>) -> Result<()> {
        let objects = self.objects();
        let totals_key = Bytes::from(Key::Totals.encode());
        let mut totals = match state.get(&objects, &totals_key)? {
            Some(value) => Totals::decode(&value)?,
            None => Totals::default(),
        };
        let before = totals;
        for (key, new) in edits.iter() {
            let Some(inode) = record_of(key) else { continue };
            let decode = |value: &Bytes| InodeRecord::decode(inode, value);
            let old = state.get(&objects, key)?.as_ref().map(decode).transpose()?;
            let new = new.as_ref().map(decode).transpose()?;
            totals = namespace::totals_after(totals, old.as_ref(), new.as_ref())?;
        }
        if totals != before {
            edits.push((totals_key, Some(totals.encode().into())));
        }
        Ok(())
    }

    /// A crash can leave bytes in the journal without the attributes that count them. They were never stable, and must
    /// not show when the file grows later. Returns the files that still are there, with their sizes.
    pub(super) fn drop_beyond_end(&self, state: &mut State) -> Result<Vec<(Inode, u64)>> {
        let objects = self.objects();
        let mut cut = Vec::new();
        let inodes: Vec<Inode> = state.active.files.keys().copied().collect();
        for inode in inodes {
            let record = state.get(&objects, &Key::Record(inode).encode())?;
            let size = record.map(|value| InodeRecord::decode(inode, &value)).transpose()?.map(|record| record.size);
            self.account(state, |layer| match size {
                Some(size) => {
                    if layer.with_file(inode, |extents| extents.drop_beyond(size)) {
                        cut.push((inode, size));
                    }
                }
                None => layer.drop_file(inode),
            });
        }
        Ok(cut)
    }
}
