//! Plans: which dataset goes to which peer, and how often. The box takes the snapshots and sends them by itself.
//!
//! A plan is kept in the store's settings, as `plan/DATASET/PEER` with the ids of both and the JSON of a [`Plan`]; so it outlives
//! restarts and new names. What is to be done next is decided by [`decide`] from what the store and the ledger know, so nothing else has to be
//! kept: a box that was killed goes on where it stopped.
//!
//! What several plans want to send to one peer waits in a queue. Of its [`AT_ONCE`] places one goes to the most pressing class, the
//! other to who is behind for longest, so nobody waits for ever. Snapshots that plans made are deleted when a newer one is at the peer; of those that peers send here by plans the newest
//! [`KEPT_HERE`] are kept. What people made, and what is held, is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use narrowboat_storage::catalogue::{DatasetRow, SnapshotRow};
use narrowboat_storage::id::{DatasetId, SnapshotId};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};
use narrowboat_wan::link::Link;
use narrowboat_wan::peer::PeerRecord;
use narrowboat_wan::sync::Replication;

use crate::clock;
use crate::config::Config;
use crate::control::reports;
use crate::ledger;
use crate::node::Node;
use crate::policies::Policies;
use crate::units::rfc3339;
use decide::{Facts, Past, Step, next};
use kept::Entry;

mod decide;
mod kept;
mod taking;
mod tidy;

pub use decide::{Plan, SECONDS_MIN, is_auto};

/// How often plans are looked after.
pub const EVERY: Duration = Duration::from_millis(500);
/// Snapshots that are sent to one peer at a time by plans.
const AT_ONCE: usize = 2;
/// Snapshots by plans that are kept of each replica here.
pub const KEPT_HERE: usize = 48;
/// How long a plan believes that the peer still has what it proved to have, before it asks.
const ASKS_AFTER: Duration = Duration::from_secs(3600);
/// The same where the peer was away meanwhile, and may have come back with less.
const ASKS_AFTER_RETURN: Duration = Duration::from_secs(600);
/// How often replicas are looked through for snapshots that may go.
const REPLICAS_EVERY: Duration = Duration::from_secs(10);

/// The plans of a box.
pub struct Plans {
    store: Arc<Store>,
    zone: TimeZone,
    /// By the names of their settings.
    watched: Mutex<BTreeMap<String, Watched>>,
    replicas_tidied: Mutex<Option<Instant>>,
    /// Since when peers are connected, those that are, by their names.
    connected: Mutex<BTreeMap<String, Instant>>,
    /// Held while what is kept of a plan is changed.
    rows: Mutex<()>,
}

/// What the box knows of a plan beside what is kept.
#[derive(Clone, Default)]
struct Watched {
    past: Past,
    /// The number of the sending that is under way, and of what; of nothing new where the peer had proved that before.
    running: Option<(u64, Option<SnapshotId>)>,
    queued: bool,
    /// A snapshot is being taken.
    taking: bool,
    /// When the peer was heard last about what it has.
    asked: Option<Instant>,
}

impl Watched {
    /// What is known of a plan before anything was done for it.
    fn of(plan: &Plan) -> Watched {
        Watched { past: Past { cancelled: plan.cancelled(), ..Past::default() }, ..Watched::default() }
    }

    /// Is it time to ask the peer, connected since a moment, whether it still has what it had?
    fn asks(&self, connected: Option<Instant>) -> bool {
        let Some(since) = connected else { return false };
        let Some(asked) = self.asked else { return true };
        asked.elapsed() >= if since > asked { ASKS_AFTER_RETURN } else { ASKS_AFTER }
    }
}

/// The snapshots of a plan's dataset, the oldest first, and which of them the peer has.
struct View {
    snapshots: Vec<SnapshotRow>,
    /// The newest that the peer has proved to have; none where it is not here any more.
    there: Option<SnapshotRow>,
    /// The moment of that, also then.
    moment: Option<Timestamp>,
}

impl View {
    fn facts(&self, changed: bool, ask: bool) -> Facts<'_> {
        let there = self.there.as_ref().map(|there| there.id);
        Facts { snapshots: &self.snapshots, there, moment: self.moment, changed, ask }
    }
}

/// A snapshot that is to be sent.
struct Wanted<'a> {
    entry: &'a Entry,
    snapshot: SnapshotRow,
    /// The moment of what the peer has.
    there: Option<Timestamp>,
}

impl Plans {
    /// Those of the box that keeps `store`.
    pub fn new(store: Arc<Store>, config: &Config) -> Plans {
        Plans {
            store,
            zone: config.zone(),
            watched: Mutex::default(),
            replicas_tidied: Mutex::default(),
            connected: Mutex::default(),
            rows: Mutex::default(),
        }
    }

    /// Sets a plan, or drops it. A change counts at once, also after failures. What was cancelled stays so until the plan is dropped.
    pub fn set(&self, dataset: DatasetId, peer: &PeerRecord, plan: Option<&Plan>) -> Result<(), Error> {
        let setting = kept::setting(dataset, peer);
        let _rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let cancelled = kept::find(&self.store, &setting).and_then(|known| known.cancelled);
        let plan = plan.map(|plan| Plan { cancelled, ..plan.clone() });
        kept::keep(&self.store, &setting, plan.as_ref(), clock::now())?;
        if let Some(watched) = self.lock().get_mut(&setting) {
            let cancelled = plan.and(watched.past.cancelled);
            watched.past = Past { cancelled, ..Past::default() };
        }
        Ok(())
    }

    /// Drops all plans of a dataset that was deleted.
    pub fn forget(&self, dataset: DatasetId) -> Result<(), Error> {
        kept::forget(&self.store, dataset, clock::now())
    }

    /// The plan of a dataset and a peer, if there is one.
    pub fn find(&self, dataset: DatasetId, peer: &PeerRecord) -> Option<Plan> {
        kept::find(&self.store, &kept::setting(dataset, peer))
    }

    /// Number of the sending to a peer that is under way for a plan.
    pub fn running(&self, dataset: DatasetId, peer: &PeerRecord) -> Option<u64> {
        self.lock().get(&kept::setting(dataset, peer)).and_then(|watched| watched.running).map(|(id, _)| id)
    }

    /// Notes durably that a person does not want a sending to be tried again, if a plan began it. It counts also where that fails, as long as the
    /// box runs.
    pub fn give_up(&self, sending: u64) -> Result<(), Error> {
        let mut given_up = Vec::new();
        for (setting, watched) in self.lock().iter_mut() {
            if let Some((_, Some(snapshot))) = watched.running.filter(|(id, _)| *id == sending) {
                watched.past.cancelled = Some(snapshot);
                given_up.push((setting.clone(), snapshot));
            }
        }
        for (setting, snapshot) in given_up {
            let _rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
            let plan = kept::find(&self.store, &setting).filter(|plan| plan.unreadable.is_none());
            let plan = plan.map(|plan| Plan { cancelled: Some(snapshot.to_string()), ..plan });
            if plan.is_some() {
                kept::keep(&self.store, &setting, plan.as_ref(), clock::now())?;
            }
        }
        Ok(())
    }

    /// The snapshots of a dataset that people made and that are still to go to peers by plans that are not paused, each with the peer.
    pub fn owed(&self, link: &Link, dataset: DatasetId) -> Vec<(SnapshotId, String)> {
        let entries = self.entries(link);
        let due = entries.iter().filter(|entry| entry.row.id == dataset && !entry.plan.paused);
        let owed = due.flat_map(|entry| {
            let view = self.view(entry);
            let facts = view.facts(false, false);
            let owed = decide::owed(&facts, entry.plan.cancelled());
            owed.map(|snapshot| (snapshot.id, entry.peer.name.to_string())).collect::<Vec<_>>()
        });
        owed.collect()
    }

    /// Takes snapshots that are due, sends what peers lack, and deletes what nobody needs any more. Nobody waits for it: what takes
    /// its time is done without the lock.
    pub fn look(&self, node: &Arc<Node>, link: &Link) {
        let entries = self.entries(link);
        self.lock().retain(|setting, _| entries.iter().any(|entry| entry.setting == *setting));
        self.note_connections(link);
        let mut wanted = Vec::new();
        for entry in &entries {
            let Some((past, ask)) = self.idle(node, entry) else { continue };
            match self.step(node, entry, &past, ask) {
                Ok(Some((snapshot, there))) => wanted.push(Wanted { entry, snapshot, there }),
                Ok(None) => {}
                Err(error) => self.note(entry, |watched| watched.past.failed(error.to_string(), clock::now())),
            }
        }
        self.send_what_is_wanted(node, wanted);
        self.tidy(node, link, &entries);
    }

    fn note_connections(&self, link: &Link) {
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        for peer in link.peers() {
            let name = peer.record.name.to_string();
            if peer.connected_from.is_none() {
                connected.remove(&name);
            } else {
                connected.entry(name).or_insert_with(Instant::now);
            }
        }
    }

    fn tidy(&self, node: &Node, link: &Link, entries: &[Entry]) {
        let planned: BTreeSet<DatasetId> = entries.iter().map(|entry| entry.row.id).collect();
        let replicas = self.replicas_are_due();
        let due = |row: &DatasetRow| if row.origin.is_some() { replicas } else { planned.contains(&row.id) };
        for row in self.store.dataset_rows().iter().filter(|row| due(row)) {
            tidy::tidy(node, link, row);
        }
    }

    fn replicas_are_due(&self) -> bool {
        let mut tidied = self.replicas_tidied.lock().unwrap_or_else(PoisonError::into_inner);
        let due = tidied.is_none_or(|then| then.elapsed() >= REPLICAS_EVERY);
        if due {
            *tidied = Some(Instant::now());
        }
        due
    }

    /// The first place of each peer goes to the most pressing class, the other to whoever is behind for longest: so nobody waits for ever.
    fn send_what_is_wanted(&self, node: &Arc<Node>, mut wanted: Vec<Wanted<'_>>) {
        let under_way = |wanted: &Wanted<'_>| node.transfers.running(wanted.entry.peer.name.as_str()).len();
        wanted.sort_by_key(|wanted| (wanted.entry.plan.class(), wanted.there));
        let mut others = Vec::new();
        for first in wanted {
            if under_way(&first) == 0 { self.begin(node, &first) } else { others.push(first) }
        }
        others.sort_by_key(|wanted| wanted.there);
        for other in others {
            if under_way(&other) < AT_ONCE {
                self.begin(node, &other);
            } else {
                self.note(other.entry, |watched| watched.queued = true);
            }
        }
    }

    fn begin(&self, node: &Arc<Node>, wanted: &Wanted<'_>) {
        let Wanted { entry, snapshot, there } = wanted;
        let begun = send(node, entry, snapshot);
        let new = Some(snapshot.id).filter(|_| *there != Some(snapshot.time));
        self.note(entry, |watched| match begun {
            Ok(id) => watched.running = Some((id, new)),
            Err(why) => watched.past.failed(why, clock::now()),
        });
        // Who paused or dropped it in between saw nothing under way.
        if let Some(id) = self.running(entry.row.id, &entry.peer)
            && self.find(entry.row.id, &entry.peer).is_none_or(|plan| plan.paused)
        {
            node.transfers.cancel(id);
        }
    }

    /// What came of a plan so far, where nothing of it is under way, and whether it is time to ask the peer what it has.
    fn idle(&self, node: &Node, entry: &Entry) -> Option<(Past, bool)> {
        let connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = connected.get(entry.peer.name.as_str()).copied();
        let mut watched = self.lock();
        let watched = watched.entry(entry.setting.clone()).or_insert_with(|| Watched::of(&entry.plan));
        end(watched, node);
        watched.queued = false;
        let idle = watched.running.is_none() && !watched.taking;
        idle.then(|| (watched.past.clone(), watched.asks(connected)))
    }

    fn note(&self, entry: &Entry, change: impl FnOnce(&mut Watched)) {
        change(self.lock().entry(entry.setting.clone()).or_insert_with(|| Watched::of(&entry.plan)));
    }

    /// What is said of all plans, in the order of datasets and peers.
    pub fn reports(&self, node: &Node, link: &Link) -> Vec<reports::Plan> {
        let entries = self.entries(link);
        let watched = self.lock().clone();
        let known = |entry: &Entry| watched.get(&entry.setting).cloned().unwrap_or_else(|| Watched::of(&entry.plan));
        entries.iter().map(|entry| self.report(node, entry, &known(entry))).collect()
    }

    /// Does the next step of a plan, except for sending: returns the snapshot that is to be sent, and the moment of the one there.
    fn step(
        &self,
        node: &Arc<Node>,
        entry: &Entry,
        past: &Past,
        ask: bool,
    ) -> Result<Option<(SnapshotRow, Option<Timestamp>)>, Error> {
        let view = self.view(entry);
        match self.next(node, entry, past, &view, ask)? {
            Step::Send(id) => {
                let snapshot = view.snapshots.into_iter().find(|snapshot| snapshot.id == id);
                Ok(snapshot.map(|snapshot| (snapshot, view.moment)))
            }
            Step::Snapshot => {
                self.take(node, entry);
                Ok(None)
            }
            Step::Rest | Step::Until(_) | Step::Off | Step::Seal => Ok(None),
        }
    }

    fn view(&self, entry: &Entry) -> View {
        let snapshots = self.store.snapshots(Some(entry.row.id));
        let proof = ledger::proof(&self.store, entry.peer.name.as_str(), &entry.row.id);
        let there = proof.and_then(|proof| snapshots.iter().find(|snapshot| snapshot.id == proof.snapshot).cloned());
        let moment = ledger::moment(&self.store, entry.peer.name.as_str(), &entry.row.id);
        View { snapshots, there, moment }
    }

    fn next(&self, node: &Node, entry: &Entry, past: &Past, view: &View, ask: bool) -> Result<Step, Error> {
        let changed = view.snapshots.last().map_or(Ok(true), |newest| self.store.changed_since(newest))?;
        let facts = view.facts(changed, ask);
        let step = next(&entry.plan, past, &facts, clock::now(), clock::wall(), &self.zone);
        // A replica has the snapshots that it is sent; and a snapshot would deduplicate what is to wait for its hours.
        let waits =
            Policies::hours(&node.config, &entry.row).is_some_and(|hours| !hours.contain(clock::wall(), &self.zone));
        match step {
            Step::Snapshot if entry.row.read_only => Ok(Step::Rest),
            Step::Snapshot if waits => Ok(Step::Off),
            step => Ok(step),
        }
    }

    fn report(&self, node: &Node, entry: &Entry, watched: &Watched) -> reports::Plan {
        let view = self.view(entry);
        let step = self.next(node, entry, &watched.past, &view, false);
        let state = match &step {
            _ if entry.plan.unreadable.is_some() => "unreadable",
            _ if entry.plan.paused => "paused",
            _ if watched.running.is_some() => "sending",
            _ if watched.queued => "queued",
            Err(_) | Ok(Step::Until(_)) if watched.past.failures > 0 => "retrying",
            Err(_) => "failing",
            Ok(Step::Off) => "outside its hours",
            Ok(Step::Rest) => "up to date",
            Ok(Step::Until(_)) => "waiting",
            Ok(Step::Seal | Step::Snapshot | Step::Send(_)) => "preparing",
        };
        // What it had proved is sent once more, and it turned out to lack it.
        let again = watched.running.filter(|(_, new)| new.is_none()).and_then(|(id, _)| node.transfers.find(id));
        let lost = again.is_some_and(|sent| sent.payload_bytes > 0);
        let behind = view.moment.map(|moment| {
            let same =
                |newest: &SnapshotRow| newest.time <= moment && !self.store.changed_since(newest).unwrap_or(true);
            let all = view.snapshots.last().is_some_and(same);
            if all { 0.0 } else { clock::now().0.saturating_sub(moment.0).max(0) as f64 / 1e9 }
        });
        reports::Plan {
            dataset: entry.row.name.clone(),
            peer: entry.peer.name.to_string(),
            plan: entry.plan.to_string(),
            every_seconds: entry.plan.every,
            hours: entry.plan.hours.clone(),
            class: entry.plan.class().to_string(),
            state: state.into(),
            error: error(entry, watched, &step),
            next: match step {
                Ok(Step::Until(then)) => Some(rfc3339(then)),
                _ => None,
            },
            newest_there: view.there.filter(|_| !lost).map(|there| there.name),
            behind_seconds: behind.filter(|_| !lost),
        }
    }

    fn entries(&self, link: &Link) -> Vec<Entry> {
        kept::entries(&self.store, link.peers().into_iter().map(|peer| peer.record))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a plan does not do what it should, if it does not.
fn error(entry: &Entry, watched: &Watched, step: &Result<Step, Error>) -> Option<String> {
    let unreadable = entry.plan.unreadable.as_ref();
    let unreadable = unreadable.map(|why| format!("{why}: `narrowboat plan create` sets it again"));
    unreadable.or_else(|| watched.past.error.clone()).or_else(|| step.as_ref().err().map(ToString::to_string))
}

/// Notes how the sending of a plan ended, if it did.
fn end(watched: &mut Watched, node: &Node) {
    let Some((id, _)) = watched.running else { return };
    let report = node.transfers.find(id);
    match report.as_ref().map(|report| report.state.as_str()) {
        Some("running") => return,
        Some("failed") => {
            let why = report.and_then(|report| report.error).unwrap_or_default();
            watched.past.failed(why, clock::now());
        }
        // By a pause, after which it goes on; or for good, which was noted then.
        Some("cancelled") => watched.asked = Some(Instant::now()),
        _ => {
            let Past { taken, cancelled, .. } = watched.past;
            watched.past = Past { taken, cancelled, ..Past::default() };
            watched.asked = Some(Instant::now());
        }
    }
    watched.running = None;
}

fn send(node: &Arc<Node>, entry: &Entry, snapshot: &SnapshotRow) -> Result<u64, String> {
    let what = Replication::of(&node.store, snapshot.id).map_err(|error| error.to_string())?;
    let label = format!("{}@{}", entry.row.name, snapshot.name);
    let begun = node.transfers.begin(node, label, entry.peer.name.to_string(), entry.plan.class(), what);
    begun.map_err(|error| error.to_string())
}
