//! Rows about where a dataset's past lies, and what it takes there. `docs/formats/catalogue.md` owns the bytes.

use super::rows::{key, value};
use super::{Change, HISTORY, STEPS};
use crate::codec::{Malformed, Put, Reader};
use crate::id::DatasetId;
use crate::units::Lsn;

/// What was split off the journal for one dataset: every record of it behind `from` and up to `upto` is in these files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// The record behind which it begins.
    pub from: Lsn,
    /// The record up to which it reaches; what is behind is in the journal.
    pub upto: Lsn,
    /// Oldest first. Where the dataset had no records there are none.
    pub files: Vec<HistoryFile>,
}

/// One file of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// All its records are at or behind this one; it gives the file its name.
    pub first: Lsn,
    /// Its last record.
    pub last: Lsn,
    /// How many bytes of it count. What lies behind them was never finished.
    pub bytes: u64,
}

/// A part of the journal as one dataset sees it: its records behind the step before, up to `upto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The last of them.
    pub upto: Lsn,
    /// Bytes that they take in the journal.
    pub bytes: u64,
}

impl Change {
    /// Says what was split off the journal for a dataset; `None` where nothing is kept of it.
    pub fn history(dataset: DatasetId, history: Option<&History>) -> Change {
        let encode = |history: &History| {
            value(|value| {
                value.put_u64(history.from.0);
                value.put_u64(history.upto.0);
                for file in &history.files {
                    [file.first.0, file.last.0, file.bytes].into_iter().for_each(|number| value.put_u64(number));
                }
            })
        };
        Change { key: key(HISTORY, &dataset.0), value: history.and_then(encode) }
    }

    /// Says what a dataset with a window has in the journal, in steps, oldest first; `None` where it has no window.
    pub fn steps(dataset: DatasetId, steps: Option<&[Step]>) -> Change {
        let encode = |steps: &[Step]| {
            value(|value| {
                for step in steps {
                    value.put_u64(step.upto.0);
                    value.put_u64(step.bytes);
                }
            })
        };
        Change { key: key(STEPS, &dataset.0), value: steps.and_then(encode) }
    }
}

pub(super) fn history(reader: &mut Reader) -> Result<History, Malformed> {
    let mut history = History { from: Lsn(reader.u64()?), upto: Lsn(reader.u64()?), files: Vec::new() };
    let mut before = history.from;
    while reader.left() > 0 {
        let file = HistoryFile { first: Lsn(reader.u64()?), last: Lsn(reader.u64()?), bytes: reader.u64()? };
        // In order, and within what is said of them all: whoever sums and seeks need not doubt it.
        if file.first <= before || file.last < file.first || file.last > history.upto {
            return Err(reader.malformed());
        }
        before = file.last;
        history.files.push(file);
    }
    if history.from > history.upto { Err(reader.malformed()) } else { Ok(history) }
}

pub(super) fn steps(reader: &mut Reader) -> Result<Vec<Step>, Malformed> {
    let mut steps: Vec<Step> = Vec::with_capacity(reader.left() / 16);
    while reader.left() > 0 {
        let step = Step { upto: Lsn(reader.u64()?), bytes: reader.u64()? };
        if steps.last().is_some_and(|before| before.upto > step.upto) {
            return Err(reader.malformed());
        }
        steps.push(step);
    }
    Ok(steps)
}
