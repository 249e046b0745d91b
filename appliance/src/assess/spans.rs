//! What was measured, as it is kept: `docs/formats/assessment.md`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use narrowboat_storage::units::Timestamp;
use narrowboat_wan::assess::{Measured, SLOT, Series};
use serde::{Deserialize, Serialize};

use crate::units::{parse_rfc3339, rfc3339};

/// What the file is called.
pub const FILE: &str = "spans.jsonl";
/// The version of rows that are written, and that are understood.
const VERSION: u8 = 1;
/// Nothing that is longer is a row.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// What one look at one dataset found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The format's version.
    pub v: u8,
    /// Whose: a path, or a dataset's name.
    pub dataset: String,
    /// When it was looked at before; the same as `until` at the first look.
    #[serde(with = "moment")]
    pub from: Timestamp,
    /// When it was looked at now.
    #[serde(with = "moment")]
    pub until: Timestamp,
    /// What the dataset holds, in bytes.
    pub logical: u64,
    /// Files that it holds.
    pub files: u64,
    /// Bytes that were written, or lie in files that changed.
    pub changed: u64,
    /// Bytes of these that were not here.
    pub unique: u64,
    /// Bytes of these that the peer does not have.
    pub unknown: u64,
    /// The same, each compressed alone.
    pub compressed: u64,
    /// The same, packed for the line.
    pub packed: u64,
    /// Bytes on the wire towards the peer.
    pub wire: u64,
    /// Bytes on the wire back.
    pub back: u64,
    /// Two standard errors of `wire`.
    pub error: u64,
    /// Processor seconds that packing took.
    pub seconds: f64,
    /// Files that could not be read.
    pub unread: u64,
}

mod moment {
    use super::{Timestamp, parse_rfc3339, rfc3339};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&rfc3339(*time))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_rfc3339(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no time")))
    }
}

impl Row {
    /// A row of this version.
    pub fn new(dataset: String, from: Timestamp, until: Timestamp) -> Row {
        Row { v: VERSION, dataset, from, until, ..Row::default() }
    }

    /// Whether it is about the first copy, and so says nothing of change.
    pub fn is_first(&self) -> bool {
        self.from == self.until
    }
}

/// Adds a row, which is on the disk when this returns. What a crash has left of the last one is cut off first.
///
/// # Errors
/// Those of the file system.
pub fn add(folder: &Path, row: &Row) -> std::io::Result<()> {
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(folder.join(FILE))?;
    let len = file.metadata()?.len();
    let whole = whole_lines(&mut file, len)?;
    if whole < len {
        file.set_len(whole)?;
    }
    let mut line = serde_json::to_vec(row).map_err(std::io::Error::other)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()
}

/// Up to where a file ends with a line that is whole.
fn whole_lines(file: &mut File, len: u64) -> std::io::Result<u64> {
    let from = len.saturating_sub(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(LINE_BYTES_MAX).read_to_end(&mut tail)?;
    Ok(tail.iter().rposition(|byte| *byte == b'\n').map_or(from, |at| from + at as u64 + 1))
}

/// What a file of rows holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// The rows that can be counted on, in the order in which they were written.
    pub rows: Vec<Row>,
    /// Lines that were not understood.
    pub strange: u64,
    /// Rows whose time was not behind that of the row before: a clock was set back.
    pub backwards: u64,
}

/// Reads all rows; none where there is no file.
///
/// # Errors
/// Those of the file system.
pub fn read(folder: &Path) -> std::io::Result<Rows> {
    match File::open(folder.join(FILE)) {
        Ok(file) => read_from(BufReader::new(file)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Rows::default()),
        Err(error) => Err(error),
    }
}

fn read_from(mut from: impl BufRead) -> std::io::Result<Rows> {
    let mut found = Rows::default();
    let mut latest: BTreeMap<String, Timestamp> = BTreeMap::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        let Some(text) = line.strip_suffix(b"\n") else {
            // The last one was cut off, or no row is so long.
            found.strange += u64::from(line.len() as u64 == LINE_BYTES_MAX);
            return Ok(found);
        };
        match serde_json::from_slice::<Row>(text) {
            Ok(row) if row.v == VERSION && !row.dataset.is_empty() => {
                let before = latest.insert(row.dataset.clone(), row.until);
                let is_back = |before: Timestamp| row.until <= before || row.from < before;
                match row.from > row.until || before.is_some_and(is_back) {
                    true => found.backwards += 1,
                    false => found.rows.push(row),
                }
            }
            _ => found.strange += 1,
        }
    }
}

impl Rows {
    /// The latest row of each dataset.
    pub fn latest(&self) -> BTreeMap<&str, &Row> {
        self.rows.iter().map(|row| (row.dataset.as_str(), row)).collect()
    }

    /// Those that speak of change.
    pub fn changes(&self) -> impl Iterator<Item = &Row> + Clone {
        self.rows.iter().filter(|row| !row.is_first())
    }

    /// Bytes on the wire in spans of five minutes. What was looked at less often is spread evenly over the time between two looks.
    /// None where nothing speaks of change.
    pub fn measured(&self) -> Option<Measured> {
        let slot = SLOT.as_nanos() as i64;
        let floor = |time: Timestamp| Timestamp(time.0.div_euclid(slot) * slot);
        let start = floor(self.changes().map(|row| row.from).min()?);
        let mut by_dataset: BTreeMap<&str, Vec<Option<u64>>> =
            self.rows.iter().map(|row| (row.dataset.as_str(), Vec::new())).collect();
        for row in self.changes() {
            let Some(bytes) = by_dataset.get_mut(row.dataset.as_str()) else { continue };
            // Rounded to whole spans: the one in which the look before was belongs to that look.
            let first = ((row.from.0 - start.0 + slot / 2) / slot) as usize;
            let until = (((row.until.0 - start.0 + slot / 2) / slot) as usize).max(first + 1);
            bytes.resize(bytes.len().max(until), None);
            let (each, rest) = (row.wire / (until - first) as u64, row.wire % (until - first) as u64);
            for (nth, at) in bytes[first..until].iter_mut().enumerate() {
                let part = each + u64::from((nth as u64) < rest);
                *at = Some(at.unwrap_or_default().saturating_add(part));
            }
        }
        let series = by_dataset.into_iter().map(|(dataset, bytes)| Series { dataset: dataset.to_owned(), bytes });
        Some(Measured { start, series: series.collect() })
    }

    /// The longest time between two looks at a dataset without a gap, in seconds: nothing below it was seen. Of nine in ten, so that one late look doesn't count.
    pub fn coarseness(&self) -> Option<u64> {
        let mut lengths: Vec<u64> =
            self.changes().map(|row| ((row.until.0 - row.from.0) / 1_000_000_000) as u64).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len().checked_sub(1)? * 9 / 10).copied()
    }
}

#[cfg(test)]
#[path = "spans_tests.rs"]
mod tests;
