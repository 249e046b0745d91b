//! Requests that are done once, however often they are sent: whoever got no answer does not know whether his request arrived, and sends it again with the
//! same key. What came of it is kept for a day, over restarts and power cuts (docs/formats/repeats.md), and given again.
//!
//! - A key counts for one user. Another request with it is refused.
//! - That a request begins is on disk before it is done. One that the end of the box cut off is neither done again nor taken for done: its key says so.
//! - What is kept is bounded, for all and for each. Where there is no room, a request with a key is refused before it is done: to
//!   forget one that counts still would be to do it twice.
//! - What was never begun (he may not, the box was busy) is not kept: it may be sent again with the same key.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::control::Failed;

/// The file in the data folder.
pub const FILE: &str = "repeats.log";
/// For how long an outcome is kept, in seconds.
const KEPT_SECONDS: u64 = 24 * 3600;
/// Outcomes that are kept, in all and of one user.
const ALL_MAX: usize = 4096;
const USER_MAX: usize = 1024;
/// Their bytes as they are written, in all.
const BYTES_MAX: usize = 8 << 20;
/// Longest key, and longest name of a request, in bytes.
const WORD_BYTES_MAX: usize = 255;
/// So many bytes of what counts no more may lie in the file, beside as many as count.
const SLACK_BYTES: u64 = 1 << 20;

/// That a request is to be done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Once {
    /// What whoever sends it calls it.
    pub key: String,
    /// What tells it from another: a hash of all that was sent.
    pub request: String,
}

/// What came of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outcome {
    Done(Value),
    Failed(Failed),
}

/// A line of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    user: String,
    key: String,
    /// Of a request that begins: when, in seconds since 1970, and which it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<(u64, String)>,
    /// What came of it. Neither: its key is free again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
}

struct Entry {
    at: u64,
    request: String,
    outcome: Option<Outcome>,
    /// Begun before the box was started, and never ended.
    cut_off: bool,
    bytes: usize,
}

/// The user and the key.
type Owner = (String, String);

struct Known {
    file: Option<File>,
    /// How long the file is.
    length: u64,
    entries: HashMap<Owner, Entry>,
    bytes: usize,
}

/// Those of a box.
pub struct Repeats {
    path: PathBuf,
    known: Mutex<Known>,
}

impl Repeats {
    /// Those of a data folder, as of `now` in seconds since 1970. A file that can't be had is told, and refuses requests with keys.
    pub fn open(data: &Path, now: u64) -> Repeats {
        let path = data.join(FILE);
        let entries = match fs::read(&path) {
            Ok(bytes) => replayed(&bytes, now),
            Err(error) if error.kind() == io::ErrorKind::NotFound => HashMap::new(),
            Err(error) => {
                tracing::warn!(%error, "{FILE} can't be read: requests that were sent before count as new");
                HashMap::new()
            }
        };
        let mut known = Known { file: None, length: 0, entries, bytes: 0 };
        known.forget(now);
        if let Err(error) = known.write_anew(&path) {
            tracing::warn!(%error, "{FILE} can't be written: requests with a key are refused");
        }
        Repeats { path, known: Mutex::new(known) }
    }

    /// Does something once for this user and key, and gives what came of it.
    pub fn once(
        &self,
        user: &str,
        once: &Once,
        now: u64,
        work: impl FnOnce() -> Result<Value, Failed>,
    ) -> Result<Value, Failed> {
        let owner = (user.to_owned(), once.key.clone());
        if let Some(outcome) = self.begin(&owner, once, now)? {
            return outcome.given();
        }
        let begun = Begun { repeats: self, owner: Some(owner) };
        let outcome = work();
        begun.ended(&outcome);
        outcome
    }

    /// What came of it before; nothing where it begins now.
    fn begin(&self, owner: &Owner, once: &Once, now: u64) -> Result<Option<Outcome>, Failed> {
        if once.key.is_empty() || [&once.key, &once.request].iter().any(|word| word.len() > WORD_BYTES_MAX) {
            return Err(Failed::refused("this is no key for a request"));
        }
        let mut known = self.lock();
        known.forget(now);
        if let Some(entry) = known.entries.get(owner) {
            return match &entry.outcome {
                _ if entry.request != once.request => {
                    Err(Failed::of("key-reused", "this key was used for another request: take a new one"))
                }
                Some(outcome) => Ok(Some(outcome.clone())),
                None if entry.cut_off => Err(Failed::of(
                    "cut-off",
                    "the box ended while this was done: look whether it was, and take a new key where it is to be done again",
                )),
                None => Err(Failed::of("under-way", "the request with this key is under way")),
            };
        }
        let own = known.entries.keys().filter(|(of, _)| of == &owner.0).count();
        if own >= USER_MAX || known.entries.len() >= ALL_MAX || known.bytes >= BYTES_MAX {
            let sentence =
                "so many requests with a key came within a day that the box can't remember one more: nothing was done";
            return Err(Failed::of("wait", sentence));
        }
        let line = Line { begun: Some((now, once.request.clone())), ..Line::of(owner) };
        let bytes = known.add(&self.path, &line).map_err(|error| {
            Failed::environment(format!("nothing was done, because its key can't be kept: {error}"))
        })?;
        let entry = Entry { at: now, request: once.request.clone(), outcome: None, cut_off: false, bytes };
        known.bytes += bytes;
        known.entries.insert(owner.clone(), entry);
        Ok(None)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that is under way. Its key is free again where this is dropped without an end.
struct Begun<'a> {
    repeats: &'a Repeats,
    owner: Option<Owner>,
}

impl Begun<'_> {
    fn ended(mut self, outcome: &Result<Value, Failed>) {
        let was_begun = outcome
            .as_ref()
            .err()
            .is_none_or(|failed| !["busy", "wait", "forbidden", "signed-out"].contains(&failed.kind.as_str()));
        let Some(owner) = self.owner.take_if(|_| was_begun) else { return };
        let outcome = match outcome {
            Ok(value) => Outcome::Done(value.clone()),
            Err(failed) => Outcome::Failed(failed.clone()),
        };
        let mut known = self.repeats.lock();
        let line = Line { outcome: Some(outcome.clone()), ..Line::of(&owner) };
        let added = known.add(&self.repeats.path, &line).unwrap_or_else(|error| {
            // It was done, and its answer is given. After a restart the key says that nobody knows.
            tracing::error!(%error, "what came of a request with a key could not be kept");
            0
        });
        if let Some(entry) = known.entries.get_mut(&owner) {
            (entry.outcome, entry.bytes) = (Some(outcome), entry.bytes + added);
            known.bytes += added;
        }
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        let Some(owner) = self.owner.take() else { return };
        let mut known = self.repeats.lock();
        if let Some(entry) = known.entries.remove(&owner) {
            known.bytes -= entry.bytes;
        }
        if let Err(error) = known.add(&self.repeats.path, &Line::of(&owner)) {
            tracing::warn!(%error, "a key that is free again could not be noted so");
        }
    }
}

impl Outcome {
    fn given(self) -> Result<Value, Failed> {
        match self {
            Outcome::Done(value) => Ok(value),
            Outcome::Failed(failed) => Err(failed),
        }
    }
}

impl Line {
    fn of((user, key): &Owner) -> Line {
        Line { user: user.clone(), key: key.clone(), begun: None, outcome: None }
    }

    /// As it is written: its checksum, a space, JSON, the line's end.
    fn written(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        let mut line = format!("{:08x} ", crc32c::crc32c(&json)).into_bytes();
        line.extend(json);
        line.push(b'\n');
        Ok(line)
    }

    fn read(line: &[u8]) -> Option<Line> {
        let (crc, json) = (line.get(..8)?, line.get(9..)?);
        let crc = u32::from_str_radix(std::str::from_utf8(crc).ok()?, 16).ok()?;
        (crc == crc32c::crc32c(json)).then(|| serde_json::from_slice(json).ok())?
    }
}

/// What a file says, up to the first line that makes no sense: that one was being written when the power went.
fn replayed(bytes: &[u8], now: u64) -> HashMap<Owner, Entry> {
    let mut entries: HashMap<Owner, Entry> = HashMap::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(read) = line.strip_suffix(b"\n").and_then(Line::read) else { break };
        let owner = (read.user, read.key);
        match (read.begun, read.outcome) {
            (Some((at, request)), outcome) => {
                // By a clock that was wrong: it counts for a day from now on, and no longer.
                let entry = Entry { at: at.min(now), request, cut_off: outcome.is_none(), outcome, bytes: line.len() };
                entries.insert(owner, entry);
            }
            (None, Some(outcome)) => {
                if let Some(entry) = entries.get_mut(&owner) {
                    (entry.outcome, entry.cut_off, entry.bytes) = (Some(outcome), false, entry.bytes + line.len());
                }
            }
            (None, None) => drop(entries.remove(&owner)),
        }
    }
    entries
}

impl Known {
    /// Forgets what is old; what is under way is not.
    fn forget(&mut self, now: u64) {
        self.entries.retain(|_, entry| {
            entry.outcome.is_none() && !entry.cut_off || now.saturating_sub(entry.at) < KEPT_SECONDS
        });
        self.bytes = self.entries.values().map(|entry| entry.bytes).sum();
    }

    /// Writes a line so that it stays; how long it is.
    fn add(&mut self, path: &Path, line: &Line) -> io::Result<usize> {
        if self.file.is_none() || self.length > 2 * self.bytes as u64 + SLACK_BYTES {
            self.write_anew(path)?;
        }
        let written = line.written()?;
        let file = self.file.as_mut().ok_or(io::ErrorKind::NotFound)?;
        // What was written in part makes the rest unreadable: it is written anew before the next.
        let outcome = file.write_all(&written).and_then(|()| file.sync_data());
        if outcome.is_err() {
            self.file = None;
        }
        outcome?;
        self.length += written.len() as u64;
        Ok(written.len())
    }

    /// Writes what counts beside the file, and puts it in its place.
    fn write_anew(&mut self, path: &Path) -> io::Result<()> {
        self.file = None;
        let new = path.with_extension("log.new");
        let mut text = Vec::new();
        for (owner, entry) in &self.entries {
            let begun = Some((entry.at, entry.request.clone()));
            text.extend(Line { begun, outcome: entry.outcome.clone(), ..Line::of(owner) }.written()?);
        }
        let options = || {
            let mut options = OpenOptions::new();
            options.create(true).truncate(true).write(true).mode(0o600);
            options
        };
        let mut file = options().open(&new)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        (self.file, self.length) = (Some(file), text.len() as u64);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn once(key: &str, request: &str) -> Once {
        Once { key: key.into(), request: request.into() }
    }

    fn kind(outcome: Result<Value, Failed>) -> String {
        outcome.map_or_else(|failed| failed.kind, |value| value.to_string())
    }

    /// Asks; "again" where nothing was done.
    fn ask(repeats: &Repeats, user: &str, key: &str, request: &str, now: u64) -> (String, bool) {
        let mut done = false;
        let outcome = repeats.once(user, &once(key, request), now, || {
            done = true;
            Ok(json!({ "made": request }))
        });
        (kind(outcome), done)
    }

    #[test]
    fn a_request_is_done_once_for_a_day_over_restarts() {
        let data = tempfile::tempdir().expect("a folder");
        let made = |request: &str| json!({ "made": request }).to_string();
        let mut repeats = Repeats::open(data.path(), 1000);
        assert_eq!(ask(&repeats, "anna", "k", "a", 1000), (made("a"), true));
        for _ in 0..2 {
            assert_eq!(ask(&repeats, "anna", "k", "a", 1001), (made("a"), false));
            assert_eq!(ask(&repeats, "anna", "k", "b", 1001), ("key-reused".into(), false));
            repeats = Repeats::open(data.path(), 1002);
        }
        assert_eq!(ask(&repeats, "bert", "k", "b", 1003), (made("b"), true), "another one's key is another key");
        assert_eq!(ask(&repeats, "anna", "k", "a", 999 + KEPT_SECONDS), (made("a"), false));
        assert_eq!(ask(&repeats, "anna", "k", "a", 1000 + KEPT_SECONDS), (made("a"), true));
        let refused =
            |repeats: &Repeats| kind(repeats.once("anna", &once("r", "a"), 2000, || Err(Failed::refused("no"))));
        assert_eq!(
            (refused(&repeats), refused(&Repeats::open(data.path(), 2000))),
            ("refused".into(), "refused".into())
        );
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(data.path().join(FILE)).expect("there"));
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_was_not_begun_leaves_its_key_free_and_what_was_cut_off_does_not() {
        let data = tempfile::tempdir().expect("a folder");
        let repeats = Repeats::open(data.path(), 1000);
        let busy = repeats.once("anna", &once("k", "a"), 1000, || Err(Failed::of("busy", "later")));
        assert_eq!(kind(busy), "busy");
        assert!(ask(&repeats, "anna", "k", "b", 1000).1);
        // Under way: whoever asks meanwhile is told so. Then the power goes.
        let cut = data.path().join("as-it-was-cut");
        let outcome = repeats.once("anna", &once("cut", "a"), 1000, || {
            assert_eq!(ask(&repeats, "anna", "cut", "a", 1000).0, "under-way");
            fs::copy(data.path().join(FILE), &cut).expect("copied");
            Ok(Value::Null)
        });
        assert_eq!(kind(outcome), "null");
        fs::rename(&cut, data.path().join(FILE)).expect("as at a power cut");
        let repeats = Repeats::open(data.path(), 1001);
        assert_eq!(ask(&repeats, "anna", "cut", "a", 1002), ("cut-off".into(), false));
        assert!(ask(&repeats, "anna", "cut", "a", 1000 + KEPT_SECONDS).1);
        // A mistake of the program on the way is no end.
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            repeats.once("anna", &once("panic", "a"), 1000, || panic!("a mistake"))
        }));
        assert!(panics.is_err() && ask(&repeats, "anna", "panic", "a", 1000).1);
    }

    #[test]
    fn what_is_torn_at_any_byte_is_what_was_before() {
        let data = tempfile::tempdir().expect("a folder");
        let repeats = Repeats::open(data.path(), 1000);
        let mut lengths = vec![0];
        for key in ["a", "b"] {
            assert!(ask(&repeats, "anna", key, "x", 1000).1);
            lengths.push(fs::metadata(data.path().join(FILE)).expect("there").len());
        }
        let whole = fs::read(data.path().join(FILE)).expect("there");
        for length in 0..whole.len() {
            let entries = replayed(&whole[..length], 1000);
            let ended = entries.values().filter(|entry| entry.outcome.is_some()).count();
            let expected = lengths.iter().filter(|end| **end > 0 && **end <= length as u64).count();
            assert_eq!(ended, expected, "{length}");
            let mut harmed = whole.clone();
            harmed[length] ^= 1;
            assert!(replayed(&harmed, 1000).len() <= 2, "{length}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded_in_memory_and_on_disk() {
        let data = tempfile::tempdir().expect("a folder");
        let repeats = Repeats::open(data.path(), 1000);
        {
            // Without the disk, which would take a while.
            let mut known = repeats.lock();
            for nth in 0..USER_MAX {
                let entry = Entry {
                    at: 1000,
                    request: "a".into(),
                    outcome: Some(Outcome::Done(Value::Null)),
                    cut_off: false,
                    bytes: 100,
                };
                known.entries.insert(("anna".into(), nth.to_string()), entry);
            }
        }
        assert_eq!(ask(&repeats, "anna", "more", "a", 1000), ("wait".into(), false));
        assert!(ask(&repeats, "bert", "more", "a", 1000).1);
        assert!(ask(&repeats, "anna", "more", "a", 1000 + KEPT_SECONDS).1, "a day later there is room");
        let large = Value::from("x".repeat(BYTES_MAX));
        let (first, second) = (once("large", "a"), once("another", "a"));
        assert!(repeats.once("carl", &first, 200_000, || Ok(large.clone())).is_ok());
        assert_eq!(kind(repeats.once("dora", &second, 200_000, || Ok(Value::Null))), "wait");
        // A day later the file is as short as what it holds.
        assert!(ask(&repeats, "dora", "later", "a", 200_000 + KEPT_SECONDS).1);
        assert!(fs::metadata(data.path().join(FILE)).expect("there").len() < SLACK_BYTES);
        assert_eq!(kind(repeats.once("x", &once("", "a"), 1, || Ok(Value::Null))), "refused");
    }

    #[test]
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../docs/formats/repeats.md");
        let example = page.split("```\n").nth(1).expect("an example");
        let entries = replayed(example.as_bytes(), 1_800_000_000);
        assert_eq!(entries.len(), 2, "{example}");
        assert!(entries.values().filter(|entry| entry.cut_off).count() == 1);
    }
}
