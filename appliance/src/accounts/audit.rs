//! The audit log: who asked for what, in a chain of hashes (docs/formats/audit.md).

mod recent;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::disk::watch::Notes;
use recent::Recent;

pub use recent::Chained;

/// Its folder in the data folder.
pub const FOLDER: &str = "audit";
/// A file of so many bytes gets no more entries.
const FILE_BYTES: u64 = 4 << 20;
/// No more than this is read of one: the log itself never writes it that long.
const READ_BYTES: u64 = 2 * FILE_BYTES;
/// So many files stay.
const FILES_KEPT: u32 = 64;

/// One entry.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "AuditEntry")]
pub struct Entry {
    /// Its number.
    pub n: u64,
    /// When (RFC 3339).
    pub at: String,
    /// Who: a user, "console", or nobody.
    pub who: String,
    /// What he proved that with: "session", "token ID", "console".
    pub by: String,
    /// From where.
    pub from: String,
    /// The name of what was asked.
    pub what: String,
    /// What it said, without anything secret.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub with: Value,
    /// Of an outcome: the entry that asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Of an outcome: "done", or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
}

/// An open audit log.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    notes: Arc<Notes>,
    end: Mutex<End>,
    recent: Mutex<Recent>,
}

/// Where the next entry goes.
#[derive(Debug)]
struct End {
    file: File,
    number: u32,
    bytes: u64,
    next: u64,
    chain: [u8; 32],
}

/// The sound beginning of a file.
#[derive(Debug)]
struct Read {
    entries: Vec<Entry>,
    /// Where the next entry goes on, and its number.
    chain: [u8; 32],
    next: u64,
    bytes: u64,
    /// What is behind it.
    rest: Rest,
}

#[derive(Debug, PartialEq, Eq)]
enum Rest {
    Nothing,
    /// A last line without its end.
    Torn,
    /// Something else.
    Damaged,
}

/// The first line of a file, behind the chain before.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    audit: u32,
    first: u64,
}

impl Audit {
    /// Opens or begins the log of a data folder, at a moment (RFC 3339).
    /// `notes`: where it is told what its disk does.
    pub fn open(data: &Path, at: &str, notes: Arc<Notes>) -> io::Result<Audit> {
        let folder = data.join(FOLDER);
        fs::create_dir_all(&folder)?;
        File::open(data)?.sync_all()?;
        let (end, damaged) = End::found(&folder)?;
        let recent = Mutex::new(Recent::behind(end.next));
        let audit = Audit { folder, notes, end: Mutex::new(end), recent };
        if let Some((file, line)) = damaged {
            tracing::error!(
                file,
                line,
                "the audit log was changed by somebody else, or is damaged: it goes on in a new file"
            );
            let with = serde_json::json!({ "file": file, "line": line });
            audit.add(Entry { at: at.into(), what: "audit-damaged".into(), with, ..Entry::default() })?;
        }
        Ok(audit)
    }

    /// Adds an entry, which is on the disk when this returns; its number is given to it, and returned.
    pub fn add(&self, entry: Entry) -> io::Result<u64> {
        let mut end = self.lock();
        let file = format!("{FOLDER}/{:06}.log", end.number).into();
        let chained = self.notes.note("write", &file, || end.put(&self.folder, entry))?;
        let number = chained.entry.n;
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).push(chained);
        Ok(number)
    }

    /// Entries behind a number, the oldest first, at most so many; those of late without looking at the disk. `None` behind the end: there
    /// were so many once.
    pub fn after(&self, number: u64, limit: usize) -> io::Result<Option<Vec<Chained>>> {
        if let Some(known) = self.recent.lock().unwrap_or_else(PoisonError::into_inner).after(number, limit) {
            return Ok(known);
        }
        let mut found = Vec::new();
        for file in numbers(&self.folder)?.into_iter().rev() {
            let (text, _) = contents(&self.folder, file)?;
            let first = lines(&text).next().and_then(head_of).map_or(0, |(_, head)| head.first);
            let mut wanted: Vec<_> = lines(&text).skip(1).filter_map(recent::chained).collect();
            wanted.retain(|chained| chained.entry.n > number);
            wanted.append(&mut found);
            found = wanted;
            if first <= number + 1 {
                break;
            }
        }
        found.truncate(limit);
        Ok(Some(found))
    }

    /// The number that the next entry gets.
    pub fn next(&self) -> u64 {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).next()
    }

    /// Entries before a number (all where there is none), the newest first, at most so many.
    pub fn newest(&self, before: Option<u64>, limit: usize) -> io::Result<Vec<Entry>> {
        let mut found = Vec::new();
        for number in numbers(&self.folder)?.into_iter().rev() {
            let (text, _) = contents(&self.folder, number)?;
            let wanted = |entry: &Entry| before.is_none_or(|before| entry.n < before);
            found.extend(lines(&text).rev().filter_map(entry_of).filter(wanted).take(limit - found.len()));
            if found.len() >= limit {
                break;
            }
        }
        Ok(found)
    }

    /// Has every entry from now on find no room, until the result is given back.
    #[cfg(test)]
    pub(crate) fn fill(&self, other: Option<File>) -> File {
        let other = other.unwrap_or_else(|| File::open(&self.folder).expect("there"));
        std::mem::replace(&mut self.lock().file, other)
    }

    fn lock(&self) -> MutexGuard<'_, End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl End {
    /// The end of the last file, or of a new one behind it where that is damaged; then its number, and the line.
    fn found(folder: &Path) -> io::Result<(End, Option<(u32, usize)>)> {
        let numbers = numbers(folder)?;
        let mut number = numbers.last().copied().unwrap_or(1);
        let (text, whole) = if numbers.is_empty() { (Vec::new(), true) } else { contents(folder, number)? };
        let before = number.checked_sub(1).filter(|before| numbers.contains(before));
        let (chain, next) = match before {
            // Only what a power cut left without a head needs to know.
            Some(before) if !text.contains(&b'\n') => {
                let read = read(&contents(folder, before)?.0);
                (read.chain, read.next)
            }
            _ => ([0; 32], 1),
        };
        let read = if text.contains(&b'\n') {
            read(&text)
        } else {
            Read { entries: Vec::new(), chain, next, bytes: 0, rest: Rest::Torn }
        };
        let damaged = (read.rest == Rest::Damaged || !whole).then_some((number, read.entries.len() + 2));
        number += u32::from(damaged.is_some());
        let file = open(folder, number)?;
        let bytes = if damaged.is_some() { 0 } else { read.bytes };
        file.set_len(bytes)?;
        file.sync_all()?;
        let mut end = End { file, number, bytes, next: read.next, chain: read.chain };
        if bytes == 0 {
            end.write(&head(&end.chain, end.next))?;
        }
        Ok((end, damaged))
    }

    fn put(&mut self, folder: &Path, entry: Entry) -> io::Result<Chained> {
        if self.bytes >= FILE_BYTES {
            self.begin_file(folder)?;
        }
        let entry = Entry { n: self.next, ..entry };
        let json = serde_json::to_string(&entry)?;
        let chain = link(&self.chain, json.as_bytes());
        self.write(&line(&chain, &json))?;
        (self.next, self.chain) = (self.next + 1, chain);
        Ok(Chained { entry, chain: blake3::Hash::from_bytes(chain).to_hex().to_string() })
    }

    /// Writes a line, wholly or not at all.
    fn write(&mut self, line: &str) -> io::Result<()> {
        let written = self.file.write_all(line.as_bytes()).and_then(|()| self.file.sync_data());
        if written.is_err() {
            // Half a line would be taken for damage with the next one behind it.
            let _ = self.file.set_len(self.bytes);
        } else {
            self.bytes += line.len() as u64;
        }
        written
    }

    fn begin_file(&mut self, folder: &Path) -> io::Result<()> {
        let number = self.number + 1;
        let file = open(folder, number)?;
        file.set_len(0)?;
        let mut end = End { file, number, bytes: 0, ..*self };
        end.write(&head(&end.chain, end.next))?;
        *self = end;
        for old in numbers(folder)?.into_iter().filter(|old| old + FILES_KEPT <= number) {
            fs::remove_file(file_of(folder, old))?;
        }
        Ok(())
    }
}

/// What a file holds, and whether that is all of it.
fn contents(folder: &Path, number: u32) -> io::Result<(Vec<u8>, bool)> {
    let mut text = Vec::new();
    let read = File::open(file_of(folder, number))?.take(READ_BYTES).read_to_end(&mut text)? as u64;
    Ok((text, read < READ_BYTES))
}

fn open(folder: &Path, number: u32) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(file_of(folder, number))?;
    File::open(folder)?.sync_all()?;
    Ok(file)
}

fn head(before: &[u8; 32], first: u64) -> String {
    line(before, &format!("{{\"audit\":1,\"first\":{first}}}"))
}

fn line(chain: &[u8; 32], json: &str) -> String {
    format!("{} {json}\n", blake3::Hash::from_bytes(*chain).to_hex())
}

fn link(before: &[u8; 32], json: &[u8]) -> [u8; 32] {
    *blake3::Hasher::new().update(before).update(json).finalize().as_bytes()
}

fn file_of(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:06}.log"))
}

fn numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().into_string().unwrap_or_default();
        let number = name.strip_suffix(".log").filter(|digits| digits.len() == 6);
        numbers.extend(number.and_then(|digits| digits.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn lines(text: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    text.split_inclusive(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_suffix(b"\n"))
        .filter(|line| !line.is_empty())
}

fn chain_of(line: &[u8]) -> Option<[u8; 32]> {
    blake3::Hash::from_hex(line.get(..64)?).ok().map(blake3::Hash::into)
}

fn entry_of(line: &[u8]) -> Option<Entry> {
    serde_json::from_slice(line.get(64..)?.strip_prefix(b" ")?).ok()
}

/// Reads a file from its head on.
fn read(text: &[u8]) -> Read {
    let mut read = Read { entries: Vec::new(), chain: [0; 32], next: 1, bytes: 0, rest: Rest::Nothing };
    let mut lines = text.split_inclusive(|byte| *byte == b'\n');
    let first = lines.next().and_then(|line| Some((line.len(), line.strip_suffix(b"\n")?)));
    let Some((len, (before, head))) = first.and_then(|(len, line)| Some((len, head_of(line)?))) else {
        return Read { rest: Rest::Damaged, ..read };
    };
    (read.chain, read.next, read.bytes) = (before, head.first, len as u64);
    for line in lines {
        let Some(whole) = line.strip_suffix(b"\n") else {
            return Read { rest: Rest::Torn, ..read };
        };
        let chain = link(&read.chain, whole.get(65..).unwrap_or_default());
        let sound = entry_of(whole).filter(|entry| chain_of(whole) == Some(chain) && entry.n == read.next);
        let Some(entry) = sound else {
            return Read { rest: Rest::Damaged, ..read };
        };
        (read.chain, read.next, read.bytes) = (chain, entry.n + 1, read.bytes + line.len() as u64);
        read.entries.push(entry);
    }
    read
}

fn head_of(line: &[u8]) -> Option<([u8; 32], Head)> {
    let head: Head = serde_json::from_slice(line.get(64..)?.strip_prefix(b" ")?).ok()?;
    Some((chain_of(line)?, head)).filter(|(_, head)| head.audit == 1)
}

#[cfg(test)]
mod tests;
