//! Rows about time: how long a dataset can be rewound, from which roots, and the moments that somebody marked.
//! `docs/formats/catalogue.md` owns the bytes.

use bytes::Bytes;

use super::rows::{flag, key, put_root, root, value};
use super::{CHECKPOINTS, Change, MARK, WINDOW};
use crate::codec::{Malformed, Put, Reader};
use crate::id::DatasetId;
use crate::name::Name;
use crate::units::{Lsn, Timestamp};

/// How long a dataset can be rewound: what was written to it is kept for so long, or as long as what lies behind the moment takes
/// no more than so many bytes, whichever ends first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Nanoseconds.
    pub nanoseconds: u64,
    /// Bytes of its history and of its own records in the journal.
    pub bytes: u64,
}

/// A root from which the journal can be replayed: what a dataset was from one moment to another, in which nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last record that is in the root.
    pub lsn: Lsn,
    /// From when on the dataset was so.
    pub time: Timestamp,
    /// The last record that is known to have changed nothing.
    pub until_lsn: Lsn,
    /// Until when, at the least, it was so.
    pub until_time: Timestamp,
    /// The root of its map.
    pub root: Option<Name>,
    /// The next inode number at that moment.
    pub next_inode: u64,
    /// Bytes that clients wrote since the checkpoint before.
    pub written_bytes: u64,
}

impl Checkpoint {
    /// Bytes of an encoded checkpoint.
    const BYTES: usize = 8 + 8 + 8 + 8 + 33 + 8 + 8;
}

/// A moment that somebody marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Of which dataset.
    pub dataset: DatasetId,
    /// Its name, unique in its dataset.
    pub label: String,
    /// When it was set.
    pub time: Timestamp,
    /// Its record: the moment holds all records before it. Marks of several datasets that were set together share it.
    pub lsn: Lsn,
    /// True where the application was quiet; otherwise the moment is like that of a power cut.
    pub quiet: bool,
}

impl Change {
    /// Sets or removes a dataset's rewind window.
    pub fn window(dataset: DatasetId, window: Option<Window>) -> Change {
        let encode = |window: Window| {
            value(|value| {
                value.put_u64(window.nanoseconds);
                value.put_u64(window.bytes);
            })
        };
        Change { key: key(WINDOW, &dataset.0), value: window.and_then(encode) }
    }

    /// Replaces a dataset's checkpoints, oldest first.
    pub fn checkpoints(dataset: DatasetId, checkpoints: &[Checkpoint]) -> Change {
        let encode = || {
            value(|value| {
                for checkpoint in checkpoints {
                    value.put_u64(checkpoint.lsn.0);
                    value.put_i64(checkpoint.time.0);
                    value.put_u64(checkpoint.until_lsn.0);
                    value.put_i64(checkpoint.until_time.0);
                    put_root(value, checkpoint.root);
                    value.put_u64(checkpoint.next_inode);
                    value.put_u64(checkpoint.written_bytes);
                }
            })
        };
        Change { key: key(CHECKPOINTS, &dataset.0), value: (!checkpoints.is_empty()).then(encode).flatten() }
    }

    /// Sets a mark.
    pub fn mark(mark: &Mark) -> Change {
        let value = value(|value| {
            value.put_i64(mark.time.0);
            value.put_u64(mark.lsn.0);
            value.put_u8(u8::from(mark.quiet));
        });
        Change { key: mark_key(mark.dataset, &mark.label), value }
    }

    /// Removes a mark.
    pub fn no_mark(dataset: DatasetId, label: &str) -> Change {
        Change { key: mark_key(dataset, label), value: None }
    }
}

fn mark_key(dataset: DatasetId, label: &str) -> Bytes {
    key(MARK, &[&dataset.0, label.as_bytes()].concat())
}

pub(super) fn window(reader: &mut Reader) -> Result<Window, Malformed> {
    Ok(Window { nanoseconds: reader.u64()?, bytes: reader.u64()? })
}

pub(super) fn checkpoints(reader: &mut Reader) -> Result<Vec<Checkpoint>, Malformed> {
    let mut checkpoints = Vec::with_capacity(reader.left() / Checkpoint::BYTES);
    while reader.left() > 0 {
        checkpoints.push(Checkpoint {
            lsn: Lsn(reader.u64()?),
            time: Timestamp(reader.i64()?),
            until_lsn: Lsn(reader.u64()?),
            until_time: Timestamp(reader.i64()?),
            root: root(reader)?,
            next_inode: reader.u64()?,
            written_bytes: reader.u64()?,
        });
    }
    Ok(checkpoints)
}

pub(super) fn mark(dataset: DatasetId, label: String, reader: &mut Reader) -> Result<Mark, Malformed> {
    Ok(Mark { dataset, label, time: Timestamp(reader.i64()?), lsn: Lsn(reader.u64()?), quiet: flag(reader)? })
}
