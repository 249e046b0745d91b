//! The box speaks up by itself: what is wrong and lasts, what is well again, and what happened that somebody should know (docs/notices.md).
//!
//! ```text
//! status ──► problems ─┐
//!                      ├─► core ──► notice, numbered ──► way (mail)      a thread each, with a place of its
//! audit log ──► events ┘    │                       ├──► way (webhook)   own in the row of notices
//!                           ▼                       └──► way (syslog) ◄── audit log
//!                         kept
//! ```
//!
//! - [`core`], [`events`] and [`problems`] are values: time, status and entries come in, notices come out.
//! - A notice that was made is told by every way, once: each way knows how far it is, also after a restart. What broke off in the middle
//!   may be told twice, with the same number.
//! - A way that fails is tried again, later each time; that it fails is a problem of its own, told by the others.
//! - Nothing waits for a way: not the box, not another way, not the end of the box.
//! - Secrets lie in files that the config names. They are read when they are used, and are in no message.

pub mod core;
pub mod events;
mod kept;
mod problems;
pub mod text;
mod ways;
mod work;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::accounts::audit::Audit;
use crate::clock;
use crate::config::{self, Config};
use crate::control::reports;
use crate::control::status;
use crate::node::Node;
use core::{Item, Kind, Notice, Rules, Severity};
use kept::{Keeper, Kept, Sent};
use text::{Speaker, rfc3339};
use ways::{Telling, Way};
use work::{Task, Waited, attempt, late};

/// How often it is looked at what happened.
pub const EVERY: Duration = Duration::from_secs(2);
/// How often it is looked at what is wrong, at most and at least.
const LOOKS: [u64; 2] = [1, 60];
/// How long a way may take for one try.
const TRY: Duration = Duration::from_secs(120);
/// How long somebody waits for what comes of a test: shorter than a page waits for the box.
const TEST: Duration = Duration::from_secs(45);
/// Entries of the audit log that are looked at, or sent on, at once.
const ENTRIES: usize = 200;
/// How long the end of the box waits for the file.
const FAREWELL: Duration = Duration::from_secs(2);

/// What the box tells by itself.
pub struct Notices {
    speaker: Speaker,
    rules: Rules,
    ways: Vec<Way>,
    keeper: Arc<Keeper>,
    known: Mutex<Known>,
    woken: Condvar,
}

struct Known {
    kept: Kept,
    /// How each way does, in their order.
    states: Vec<State>,
    looked: Option<Instant>,
    stopping: bool,
}

/// How a way does.
#[derive(Clone, Debug, Default)]
struct State {
    /// Since when it fails, in seconds since 1970.
    since: Option<u64>,
    error: String,
    tries: u32,
    /// How often just this was refused.
    refusals: u32,
    /// When it is tried again.
    next: Option<Instant>,
}

impl Notices {
    /// Those of a box.
    pub fn open(data: &Path, config: &Config, name: &str, store: String, audit: &Audit) -> Notices {
        let speaker = Speaker { name: name.to_owned(), store, zone: config.zone() };
        let ways = Way::all(&config.notices);
        let kept = Kept::read(data).unwrap_or_else(|error| {
            tracing::error!(%error, "{} can't be read: what was told is told again", kept::FILE);
            None
        });
        let mut kept = kept.unwrap_or_else(Kept::begin);
        // Whoever is new is not told of old.
        let (notice, audit) = (kept.notices.back().map_or(0, |notice| notice.n), audit.next().saturating_sub(1));
        for way in &ways {
            kept.ways.entry(way.name().into()).or_insert(Sent { notice, audit, ..Sent::default() });
        }
        kept.ways.retain(|name, _| ways.iter().any(|way| way.name() == name));
        let states = vec![State::default(); ways.len()];
        let known = Mutex::new(Known { kept, states, looked: None, stopping: false });
        let (keeper, rules) = (Keeper::new(data), config.notices.rules());
        Notices { speaker, rules, ways, keeper, known, woken: Condvar::new() }
    }

    /// How many ways there are.
    pub(crate) fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Looks at what is wrong and what happened, and has told what is to be told.
    pub(crate) fn look(&self, node: &Arc<Node>) {
        let now = now();
        let seen = self.is_time().then(|| self.seen(node));
        let events = self.events(&node.audit, now);
        let mut known = self.lock();
        if let Some(notice) = known.kept.teller.step(now, &self.rules, seen, events) {
            log(&notice);
            known.kept.add(notice);
            self.woken.notify_all();
        }
        self.keeper.keep(&known.kept);
    }

    /// Sees whether something arrives, by one way or by all.
    pub(crate) fn test(&self, way: Option<&str>) -> Vec<reports::NoticeTried> {
        let (indices, ways): (Vec<usize>, Vec<Way>) = self
            .ways
            .iter()
            .enumerate()
            .filter(|(_, found)| way.is_none_or(|way| way == found.name()))
            .map(|(index, way)| (index, way.clone()))
            .unzip();
        let tried = self.all_tried(&ways);
        for (index, _) in indices.into_iter().zip(&tried).filter(|(_, tried)| tried.arrived) {
            // What waits need wait no longer.
            self.lock().states[index].next = None;
            self.woken.notify_all();
        }
        tried
    }

    /// Sees whether something would arrive if the config were so.
    pub(crate) fn try_out(&self, config: &config::Notices) -> Vec<reports::NoticeTried> {
        self.all_tried(&Way::all(config))
    }

    /// Has each of these ways tell something that means nothing. All at once: one that never answers takes its whole time.
    fn all_tried(&self, ways: &[Way]) -> Vec<reports::NoticeTried> {
        let item = Item {
            kind: Kind::Event,
            severity: Severity::Note,
            key: "test".into(),
            what: "This is a test: somebody asked whether notices arrive. They do.".into(),
            remedy: String::new(),
            since: now(),
        };
        let notice = Notice { n: 0, at: now(), items: vec![item], ..Notice::default() };
        let task = Task::Tell(Telling { notice, skipped: 0, test: true });
        let begun = Instant::now();
        let under_way: Vec<_> = ways.iter().map(|way| (way, attempt(way, &self.speaker, &task))).collect();
        let tried = under_way.into_iter().map(|(way, answer)| {
            let outcome = match self.wait_for(&answer, TEST.saturating_sub(begun.elapsed())) {
                Waited::Ended(outcome) => outcome,
                Waited::Late | Waited::Stopping => Err(late()),
            };
            let error = outcome.err().map(|trouble| trouble.why);
            reports::NoticeTried { way: way.name().into(), target: way.target(), arrived: error.is_none(), error }
        });
        tried.collect()
    }

    /// What was told, what is wrong, and how the ways do.
    pub(crate) fn report(&self) -> reports::Notices {
        let known = self.lock();
        let open = known.kept.teller.open().map(|(seen, since, told)| reports::NoticeOpen {
            key: seen.key.clone(),
            severity: seen.severity,
            what: seen.what.clone(),
            since: rfc3339(since),
            told,
        });
        reports::Notices {
            after_seconds: self.rules.after,
            remind_seconds: self.rules.remind,
            per_hour: self.rules.per_hour,
            held_since: known.kept.teller.held().map(|held| rfc3339(held.since)),
            open: open.collect(),
            notices: known.kept.notices.iter().rev().map(told).collect(),
            ways: self.ways_of(&known, true),
        }
    }

    /// How the ways do, for everybody who sees the status.
    pub(crate) fn ways_told(&self) -> Vec<reports::NoticeWay> {
        self.ways_of(&self.lock(), false)
    }

    /// Ends every way, and waits a moment until all is kept.
    pub(crate) fn stop(&self) {
        let mut known = self.lock();
        known.stopping = true;
        self.keeper.keep(&known.kept);
        drop(known);
        self.woken.notify_all();
        self.keeper.flush(FAREWELL);
    }

    fn is_time(&self) -> bool {
        let every = Duration::from_secs((self.rules.after / 5).clamp(LOOKS[0], LOOKS[1]));
        let mut known = self.lock();
        let is_time = known.looked.is_none_or(|looked| looked.elapsed() >= every);
        if is_time {
            known.looked = Some(Instant::now());
        }
        is_time
    }

    /// All that is wrong. What nobody could look at is as it was.
    fn seen(&self, node: &Arc<Node>) -> Vec<core::Seen> {
        let status = status::status(node);
        let mut all = problems::seen(&status);
        if status.age_seconds.is_some() {
            let known = self.lock();
            let missing = known.kept.teller.open().filter(|(open, ..)| all.iter().all(|seen| seen.key != open.key));
            let missing: Vec<_> = missing.map(|(open, ..)| open.clone()).collect();
            all.extend(missing);
        }
        all
    }

    /// What happened since it was looked at last. Whoever looks for the first time learns what was, and tells nothing of it.
    fn events(&self, audit: &Audit, now: u64) -> Vec<Item> {
        let mut events = Vec::new();
        let first = self.lock().kept.audit.is_none();
        let mut before = self.lock().kept.audit.unwrap_or_default();
        loop {
            match audit.after(before, ENTRIES) {
                Ok(Some(entries)) => {
                    let Some(last) = entries.last().map(|last| last.entry.n) else { break };
                    let mut known = self.lock();
                    events.extend(entries.iter().filter_map(|chained| known.kept.watcher.look(&chained.entry)));
                    before = last;
                }
                Ok(None) => {
                    let last = audit.next().saturating_sub(1);
                    events.push(events::shorter(before, last, now));
                    before = last;
                }
                Err(error) => {
                    tracing::warn!(%error, "the audit log can't be read for notices");
                    break;
                }
            }
        }
        self.lock().kept.audit = Some(before);
        if first { Vec::new() } else { events }
    }

    fn ways_of(&self, known: &Known, whole: bool) -> Vec<reports::NoticeWay> {
        let newest = known.kept.notices.back().map_or(0, |notice| notice.n);
        let all = self.ways.iter().zip(&known.states).map(|(way, state)| {
            let sent = known.sent(way);
            reports::NoticeWay {
                way: way.name().into(),
                target: whole.then(|| way.target()),
                waiting: newest.saturating_sub(sent.notice),
                told: sent.at.map(rfc3339),
                failing_since: state.since.map(rfc3339),
                error: state.since.map(|_| state.error.clone()),
                tries: state.tries,
            }
        });
        all.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn sent(&self, way: &Way) -> Sent {
        self.kept.ways.get(way.name()).cloned().unwrap_or_default()
    }

    fn sent_mut(&mut self, way: &Way) -> &mut Sent {
        self.kept.ways.entry(way.name().into()).or_default()
    }
}

/// The log of the program has every notice, too: what collects that (journald) needs nothing else.
fn log(notice: &Notice) {
    for item in &notice.items {
        let (key, what) = (&item.key, &item.what);
        match (item.kind, item.severity) {
            (Kind::Over | Kind::Event, _) | (_, Severity::Note) => tracing::info!(notice = notice.n, key, what, "told"),
            (_, Severity::Warning) => tracing::warn!(notice = notice.n, key, what, "told"),
            (_, Severity::Problem) => tracing::error!(notice = notice.n, key, what, "told"),
        }
    }
}

fn told(notice: &Notice) -> reports::NoticeTold {
    let item = |item: &Item| reports::NoticeItem {
        word: text::word(item).into(),
        kind: item.kind,
        severity: item.severity,
        key: item.key.clone(),
        what: item.what.clone(),
        remedy: item.remedy.clone(),
        since: rfc3339(item.since),
    };
    reports::NoticeTold {
        n: notice.n,
        at: rfc3339(notice.at),
        items: notice.items.iter().map(item).collect(),
        more: notice.more,
        held_since: notice.held.map(|held| rfc3339(held.since)),
    }
}

fn now() -> u64 {
    u64::try_from(clock::wall().seconds()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
