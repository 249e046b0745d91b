//! What peers were refused, for whoever looks after the box: when, whom, and a sentence.
//!
//! A peer that breaks the protocol, sends what is not what it says, claims what it does not have, or asks for what it may not, gets nothing for it; that it
//! tried is kept here durably, in one setting of the store for each peer (`docs/formats/catalogue.md`), and written to the log as a warning.
//!
//! What it promises: the first refusal of a peer is durable when [`Refusals::note`] returns. A peer that is refused again and again, in whatever words, has the
//! box write no more than once in [`REST`] and keep no more than [`KEPT`] sentences of [`SENTENCE_CHARS`] characters: the same one is counted,
//! and of others the oldest goes. What waits for that is written with the next refusal, when somebody looks, and when the box stops. What a peer was refused stays also
//! when it is no peer any more. The log says each sentence of a peer at most once in [`LOG_REST`](crate::said::LOG_REST), and of one peer no more than
//! [`LOG_LINES`](crate::said::LOG_LINES) in that time;
//! the next line tells how many were left out. What it never does: decide what is refused.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;
use narrowboat_storage::units::Timestamp;
use narrowboat_wan::peer::PeerRecord;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::said::Said;

/// What the settings' names begin with; the peer's fingerprint follows.
const PREFIX: &str = "refusals/";
/// Different sentences that are kept of a peer.
pub const KEPT: usize = 32;
/// How long a sentence may be.
pub const SENTENCE_CHARS: usize = 300;
/// How long a peer's setting is left alone once it was written.
pub const REST: Duration = Duration::from_secs(10);

/// One thing that a peer was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When for the first time, as the wall's clock showed it: nanoseconds since 1970.
    pub first: i64,
    /// And when for the last time.
    pub last: i64,
    /// How often.
    pub count: u64,
    /// What, and why.
    pub why: String,
}

/// What one peer was refused: the value of a setting, as JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it was called here.
    pub peer: String,
    /// The latest one last.
    pub refused: Vec<Refused>,
}

#[derive(Debug, Default)]
struct Held {
    record: Record,
    /// When it was written last by this process.
    written: Option<Instant>,
    /// True while there is something to be written.
    waits: bool,
    said: Said,
}

/// A sentence as it is kept and said: of one line, and no longer than [`SENTENCE_CHARS`].
fn sentence(why: &str) -> String {
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SENTENCE_CHARS).collect()
}

/// See the module.
pub struct Refusals {
    store: Arc<Store>,
    /// By setting, of peers that were refused something since the box started.
    held: Mutex<BTreeMap<String, Held>>,
}

impl Record {
    /// Adds one, and keeps within bounds.
    fn add(&mut self, why: String, at: Timestamp) {
        let known = self.refused.iter().position(|known| known.why == why).map(|place| self.refused.remove(place));
        let mut refused = known.unwrap_or(Refused { first: at.0, last: at.0, count: 0, why });
        refused.last = at.0;
        refused.count = refused.count.saturating_add(1);
        self.refused.push(refused);
        let over = self.refused.len().saturating_sub(KEPT);
        self.refused.drain(..over);
    }

    /// How often it was refused anything that is still kept.
    pub fn count(&self) -> u64 {
        self.refused.iter().fold(0, |sum, refused| sum.saturating_add(refused.count))
    }
}

impl Refusals {
    /// What was kept in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Refusals { store, held: Mutex::default() }
    }

    /// Notes that a peer was refused something. Blocks while the store writes.
    pub fn note(&self, peer: &PeerRecord, why: &str) {
        let why = sentence(why);
        let setting = format!("{PREFIX}{}", peer.id);
        let mut all = self.held();
        let held =
            all.entry(setting.clone()).or_insert_with(|| Held { record: self.kept(&setting), ..Held::default() });
        if let Some(left_out) = held.said.may_say(&why, Instant::now()) {
            tracing::warn!(peer = %peer.name, why, left_out, "a peer was refused");
        }
        held.record.peer = peer.name.to_string();
        held.record.add(why, clock::wall());
        held.waits = true;
        if held.written.is_none_or(|written| written.elapsed() >= REST) {
            self.write(&setting, held);
        }
    }

    /// Writes what waits for it.
    pub fn flush(&self) {
        for (setting, held) in self.held().iter_mut().filter(|(_, held)| held.waits) {
            self.write(setting, held);
        }
    }

    /// What one peer was refused.
    pub fn of(&self, peer: &PeerRecord) -> Record {
        let setting = format!("{PREFIX}{}", peer.id);
        match self.held().get(&setting) {
            Some(held) => held.record.clone(),
            None => self.kept(&setting),
        }
    }

    /// What all peers were refused, those that are no peers any more included; who was refused last comes first.
    pub fn all(&self) -> Vec<Record> {
        self.flush();
        let mut all: Vec<Record> = self.store.settings(PREFIX).iter().map(|(_, text)| read(text)).collect();
        all.sort_by_key(|record| std::cmp::Reverse(record.refused.last().map(|refused| refused.last)));
        all
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Held>> {
        // Nothing in it is ever half changed.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, setting: &str) -> Record {
        self.store.setting(setting).map(|text| read(&text)).unwrap_or_default()
    }

    fn write(&self, setting: &str, held: &mut Held) {
        held.written = Some(Instant::now());
        let text = serde_json::to_string(&held.record).unwrap_or_default();
        match self.store.set_setting(setting, Some(text.as_bytes()), clock::now()) {
            Ok(()) => held.waits = false,
            Err(error) => tracing::error!(%error, "what a peer was refused could not be kept"),
        }
    }
}

/// What can't be read is left out: it is of a later version, and the log has said it too.
fn read(text: &[u8]) -> Record {
    serde_json::from_slice(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use narrowboat_storage::StoreOptions;
    use narrowboat_storage::media::{Media, SimDisk};
    use narrowboat_wan::link::Identity;

    use super::*;

    fn open(disk: &SimDisk) -> Arc<Store> {
        let options = StoreOptions { reserve_bytes: 1 << 20, ..StoreOptions::default() };
        Arc::new(Store::open(Arc::new(disk.clone()) as Arc<dyn Media>, options).expect("it opens").0)
    }

    fn peer(number: u8) -> PeerRecord {
        PeerRecord {
            name: format!("box-{number}").parse().expect("a name"),
            id: Identity::from_seed([number; 32]).id(),
            addresses: Vec::new(),
            realm: [0; 16],
            store: narrowboat_storage::id::StoreId([number; 16]),
            paired_at: Timestamp::default(),
            limit: None,
        }
    }

    #[test]
    fn the_first_survives_a_power_cut_at_once_and_all_of_them_an_orderly_end() {
        let disk = SimDisk::new(1);
        let refusals = Refusals::new(open(&disk));
        refusals.note(&peer(1), "it sent a snapshot: the peer broke the protocol");
        drop(refusals);
        disk.power_cut();
        let refusals = Refusals::new(open(&disk));
        assert_eq!(refusals.of(&peer(1)).count(), 1);
        (0..5).for_each(|_| refusals.note(&peer(1), "it sent a snapshot: the peer broke the protocol"));
        refusals.note(&peer(2), "another");
        assert_eq!(refusals.of(&peer(1)).count(), 6);
        refusals.flush();
        drop(refusals);
        disk.power_cut();
        let all = Refusals::new(open(&disk)).all();
        assert_eq!(all.iter().map(|record| record.peer.as_str()).collect::<Vec<_>>(), ["box-2", "box-1"]);
        let Refused { first, last, count, .. } = all[1].refused[0].clone();
        assert!(count == 6 && first < last, "{all:?}");
    }

    /// Whatever it says, and however often.
    #[test]
    fn a_peer_occupies_no_more_than_its_bounds() {
        let disk = SimDisk::new(2);
        let store = open(&disk);
        let refusals = Refusals::new(store.clone());
        let began = Instant::now();
        for number in 0..5000 {
            refusals.note(&peer(1), &format!("{number}\n{}", "\u{1f6a2}".repeat(1000)));
        }
        let setting = format!("{PREFIX}{}", peer(1).id);
        let written = store.setting(&setting).map(|text| read(&text)).expect("the first is kept");
        assert!(written.count() == 1 || began.elapsed() >= REST, "{} were written at once", written.count());
        let record = refusals.of(&peer(1));
        assert_eq!(record.refused.len(), KEPT);
        assert!(record.refused.iter().all(|refused| refused.why.chars().count() == SENTENCE_CHARS));
        assert!(record.refused.last().is_some_and(|last| last.why.starts_with("4999 ")));
        refusals.flush();
        let text = store.setting(&setting).expect("it is kept");
        assert!(text.len() < KEPT * (4 * SENTENCE_CHARS + 100), "{} bytes", text.len());
    }

    #[test]
    fn the_example_of_the_page_is_read() {
        let page = include_str!("../../docs/formats/catalogue.md");
        let example =
            page.split_once("refusals/PEER").and_then(|(_, rest)| rest.split('`').find(|code| code.starts_with('{')));
        let record: Record = serde_json::from_str(example.expect("an example")).expect("JSON");
        assert_eq!((record.peer.as_str(), record.count()), ("branch", 3));
    }
}
