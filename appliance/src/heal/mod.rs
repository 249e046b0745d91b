//! Healing: what is damaged here is asked of the peers that have it.
//!
//! A *round* asks each peer that is connected, one after the other, for what lies damaged below snapshots that it was given or that it sent, as traffic of
//! class scavenger. A round begins when damage is met, when somebody comes who was not asked yet, when a person says so, and then at ever longer intervals
//! as long as something is left. What came of rounds is kept in the store's setting `heal` ([`Kept`]).
//!
//! What it promises: a round is one walk of what both have, for each peer, and no round follows another before as long has passed as it took. A walk that was
//! broken off, by a line or because it took long, goes on with the next round. What it never
//! does: decide what a peer may have (that is the peer's), or believe what comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::{Error, Store};
use narrowboat_wan::heal::{Below, StorePatient};
use narrowboat_wan::link::{Cancel, Link, LinkError};
use narrowboat_wan::peer::{PeerId, PeerRecord};
use narrowboat_wan::sync::Failure;
use serde::{Deserialize, Serialize};

use crate::node::Node;
use crate::units::rfc3339;
use crate::{clock, ledger, replicas, scrub};

use schedule::Schedule;

mod schedule;

/// The setting that it is kept in.
const SETTING: &str = "heal";
/// How often it is looked whether there is something to be healed.
pub const EVERY: Duration = Duration::from_secs(1);
/// Walks that were broken off and are gone on with, at some 20 MB each.
const BROKEN_OFF_MAX: usize = 4;

/// What came of rounds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(rename = "Healing")]
pub struct Kept {
    /// Objects that came from each peer, ever, and their bytes.
    pub from: BTreeMap<String, Came>,
    /// The last round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Round>,
}

/// What came from a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "HealedFrom")]
pub struct Came {
    /// Objects.
    pub objects: u64,
    /// As they were sent, in bytes.
    pub bytes: u64,
}

/// One round.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(rename = "HealRound")]
pub struct Round {
    /// When it began, RFC 3339.
    pub began: String,
    /// When it ended.
    pub ended: String,
    /// Objects that were stored anew.
    pub healed: u64,
    /// Objects that were still damaged at its end.
    pub left: u64,
    /// Snapshots that were still not whole at its end.
    pub torn: u64,
    /// The peers that were asked, with what came of it where that was not to the end.
    pub asked: BTreeMap<String, Option<String>>,
}

/// The healing of a box.
pub struct Healings {
    store: Arc<Store>,
    state: Mutex<State>,
    cancel: Cancel,
}

struct State {
    kept: Kept,
    running: bool,
    schedule: Schedule,
    /// Walks that were broken off, by peer.
    broken_off: BTreeMap<PeerId, Arc<StorePatient>>,
    /// One of them is of the round that runs, or ran last.
    more_to_come: bool,
}

/// A round runs as long as this lives.
struct Running<'a>(&'a Healings);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.lock().running = false;
    }
}

impl Healings {
    /// That of the box that keeps `store`.
    pub fn new(store: Arc<Store>) -> Healings {
        let kept = store.setting(SETTING).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let schedule = Schedule::new(Instant::now());
        let state = State { kept, running: false, schedule, broken_off: BTreeMap::new(), more_to_come: false };
        Healings { store, state: Mutex::new(state), cancel: Cancel::new() }
    }

    /// What came of rounds, and whether one runs.
    pub fn told(&self) -> (Kept, bool) {
        let state = self.lock();
        (state.kept.clone(), state.running)
    }

    /// Has a round begin now.
    pub fn start(&self) {
        self.lock().schedule.want();
    }

    /// Ends the round that runs; no other one begins.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Does a round where it is time for one.
    pub fn look(&self, node: &Node, link: &Link) {
        let peers: Vec<PeerRecord> =
            link.peers().into_iter().filter(|peer| peer.connected_from.is_some()).map(|peer| peer.record).collect();
        if peers.is_empty() || self.cancel.is_cancelled() || !self.is_due(&peers) {
            return;
        }
        match self.round(node, link, &peers) {
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(%error, "what is damaged could not be healed: it is tried again later");
                self.lock().schedule.failed(Instant::now());
            }
        }
    }

    fn is_due(&self, peers: &[PeerRecord]) -> bool {
        let wounded = self.store.pool().wounded();
        self.lock().schedule.is_due(Instant::now(), wounded, peers.iter().map(|peer| peer.name.as_str()))
    }

    /// Asks all of these for what is damaged.
    fn round(&self, node: &Node, link: &Link, peers: &[PeerRecord]) -> Result<(), Error> {
        let began = Instant::now();
        self.lock().schedule.begun();
        // What was but a bad moment of the disk is no wound.
        if self.store.pool().wounded() > 0 {
            self.store.pool().wounds();
        }
        if !self.is_needed()? {
            let mut state = self.lock();
            state.schedule.sound(began);
            state.broken_off.clear();
            return Ok(());
        }
        self.lock().running = true;
        let running = Running(self);
        let mut round = Round { began: rfc3339(clock::now()), ..Round::default() };
        for peer in peers {
            if self.cancel.is_cancelled() || !self.is_needed()? {
                break;
            }
            let (came, problem) = self.ask(node, link, peer);
            round.healed += came.objects;
            round.asked.insert(peer.name.to_string(), problem);
            let mut state = self.lock();
            state.schedule.tried(peer.name.as_str());
            if came.objects > 0 {
                tracing::info!(peer = %peer.name, objects = came.objects, bytes = came.bytes, "healed from a peer");
                let from = state.kept.from.entry(peer.name.to_string()).or_default();
                from.objects += came.objects;
                from.bytes += came.bytes;
            }
        }
        scrub::renew(&self.store);
        round.left = self.store.pool().wounded() as u64;
        round.torn = self.store.torn_snapshots()?.len() as u64;
        round.ended = rfc3339(clock::now());
        if round.left + round.torn > 0 {
            tracing::warn!(
                left = round.left,
                torn = round.torn,
                "some damage could not be healed: `narrowboat scrub show` says whom it hits"
            );
        }
        drop(running);
        let mut state = self.lock();
        // A walk that was broken off has more to come.
        let came = round.healed > 0 || std::mem::take(&mut state.more_to_come);
        state.schedule.ended(Instant::now(), began.elapsed(), came, round.left as usize);
        state.kept.last = Some(round);
        let text = serde_json::to_vec(&state.kept).unwrap_or_default();
        drop(state);
        self.store.set_setting(SETTING, Some(&text), clock::now())
    }

    fn is_needed(&self) -> Result<bool, Error> {
        Ok(self.store.pool().wounded() > 0 || !self.store.torn_snapshots()?.is_empty())
    }

    /// Asks one peer; what came, and why that was not all that it could have been.
    fn ask(&self, node: &Node, link: &Link, peer: &PeerRecord) -> (Came, Option<String>) {
        let broken_off = self.lock().broken_off.remove(&peer.id);
        let patient = match broken_off {
            Some(patient) => {
                patient.again();
                patient
            }
            None => {
                let shared = shared(&self.store, peer);
                if shared.is_empty() {
                    return (Came::default(), Some("no snapshot here is at that peer, too".to_owned()));
                }
                Arc::new(StorePatient::new(self.store.clone(), shared))
            }
        };
        let before = patient.healed();
        let outcome = node.block_on(link.heal(peer.name.as_str(), patient.clone(), &self.cancel));
        let (objects, bytes) = patient.healed();
        if patient.is_under_way() && outcome.as_ref().is_err_and(goes_on) {
            let still: Vec<PeerId> = link.peers().into_iter().map(|peer| peer.record.id).collect();
            let mut state = self.lock();
            state.broken_off.retain(|peer, _| still.contains(peer));
            if state.broken_off.len() < BROKEN_OFF_MAX {
                state.broken_off.insert(peer.id, patient);
                state.more_to_come = true;
            }
        }
        (Came { objects: objects - before.0, bytes: bytes - before.1 }, outcome.err().map(|error| error.to_string()))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in it is ever half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// True where it was but broken off: by a line, a pause, its length, or because the box ends.
fn goes_on(error: &LinkError) -> bool {
    match error {
        LinkError::Replication(Failure::Lost | Failure::Silent(_) | Failure::Cancelled) => true,
        LinkError::Replication(failure) => failure.is_busy(),
        LinkError::Unreachable { .. } | LinkError::Closed => true,
        _ => false,
    }
}

/// The snapshots that a peer should have, too: those that it was given, and those that it sent. The newest of each dataset first. Those in quarantine are
/// among them: they can be had back, and are to be whole then.
fn shared(store: &Store, peer: &PeerRecord) -> Vec<Below> {
    let mut shared = Vec::new();
    for row in store.rows_with_deleted() {
        let sent = replicas::comes_from(store, peer, &row);
        let given = ledger::given(store, peer.name.as_str(), &row.id);
        let snapshots = store.snapshots_with_deleted(Some(row.id)).into_iter().rev();
        let both = snapshots.filter(|snapshot| sent || given.contains(&snapshot.id));
        shared.extend(both.filter_map(|snapshot| {
            let root = snapshot.sealed?.root?;
            Some(Below { dataset: row.id, snapshot: snapshot.id, root })
        }));
    }
    shared
}
