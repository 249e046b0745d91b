//! What one side of a probe hears: numbers and times, bounded, for whoever waits for them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::CALM;
use crate::peer::PeerId;
use crate::probe::{Dispersion, Loss, ROW_PACKETS_MAX, TRAIN_PACKETS_MAX};
use crate::wire::ProbeMark;

/// Whose probe it is, and whether it was asked for here.
type Key = (PeerId, bool);

/// The probes that run with all peers: at most one each way with each.
#[derive(Debug, Default)]
pub(in crate::link) struct Probes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ears: BTreeMap<Key, Arc<Ear>>,
    /// When a peer may ask again.
    rested: BTreeMap<PeerId, Instant>,
}

/// A probe runs as long as this lives.
#[derive(Debug)]
pub(super) struct Running<'a> {
    probes: &'a Probes,
    key: Key,
    pub ear: Arc<Ear>,
}

impl Probes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a probe, unless one runs.
    pub(super) fn begin(&self, peer: PeerId, asked_here: bool, session: u64) -> Option<Running<'_>> {
        let key = (peer, asked_here);
        let mut state = self.state();
        if state.ears.contains_key(&key) {
            return None;
        }
        let ear = Arc::new(Ear { session, began: Instant::now(), heard: Mutex::default(), news: Notify::new() });
        state.ears.insert(key, ear.clone());
        Some(Running { probes: self, key, ear })
    }

    /// For how long the peer shall wait before it asks again; None where it need not.
    pub(super) fn rest(&self, peer: PeerId) -> Option<Duration> {
        let now = Instant::now();
        let mut state = self.state();
        state.rested.retain(|_, until| *until > now);
        state.rested.get(&peer).map(|until| *until - now)
    }

    /// A datagram came. What belongs to no probe that runs is dropped.
    pub(super) fn heard(&self, peer: PeerId, mark: ProbeMark) {
        let ear = self.state().ears.get(&(peer, !mark.by_asker)).cloned();
        if let Some(ear) = ear.filter(|ear| ear.session == mark.session) {
            ear.take(mark);
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.probes.state();
        state.ears.remove(&self.key);
        if let (peer, false) = self.key {
            state.rested.insert(peer, Instant::now() + CALM);
        }
    }
}

/// The arrivals of one probe.
#[derive(Debug)]
pub(super) struct Ear {
    session: u64,
    began: Instant,
    heard: Mutex<Heard>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Heard {
    train: u8,
    arrivals: Vec<(u32, Duration)>,
    row: Vec<u32>,
    latest: Option<(u32, Duration)>,
    /// When each packet of our own row left.
    left: Vec<Duration>,
    round_trips: Vec<Duration>,
    echoed: Option<u32>,
}

impl Ear {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, mark: ProbeMark) {
        let now = self.began.elapsed();
        let mut heard = self.heard();
        if mark.train > 0 {
            if mark.train > heard.train {
                heard.train = mark.train;
                heard.arrivals.clear();
            }
            // Twice as many as there can be: the network may double them.
            if mark.train == heard.train && heard.arrivals.len() < 2 * TRAIN_PACKETS_MAX as usize {
                heard.arrivals.push((mark.number, now));
            }
        } else if heard.row.len() < 2 * ROW_PACKETS_MAX as usize {
            heard.row.push(mark.number);
            if heard.latest.is_none_or(|(number, _)| mark.number > number) {
                heard.latest = Some((mark.number, now));
            }
            if let Some((number, held)) = mark.echo.filter(|(number, _)| heard.echoed != Some(*number))
                && let Some(left) = heard.left.get(number as usize).copied()
                && let Some(round_trip) = (now - left).checked_sub(held)
            {
                heard.echoed = Some(number);
                heard.round_trips.push(round_trip);
            }
        }
        drop(heard);
        self.news.notify_one();
    }

    /// The next packet of our row leaves: what it says of theirs.
    pub(super) fn leaves(&self) -> Option<(u32, Duration)> {
        let now = self.began.elapsed();
        let mut heard = self.heard();
        heard.left.push(now);
        heard.latest.map(|(number, at)| (number, now - at))
    }

    /// Waits until all packets of a train (0: the row) are here, or this time is over.
    pub(super) async fn wait(&self, train: u8, packets: u32, patience: Duration) {
        let all = async {
            loop {
                let news = self.news.notified();
                let here = {
                    let heard = self.heard();
                    if train == 0 {
                        heard.row.len()
                    } else if train == heard.train {
                        heard.arrivals.len()
                    } else {
                        0
                    }
                };
                if here >= packets as usize {
                    return;
                }
                news.await;
            }
        };
        let _ = tokio::time::timeout(patience, all).await;
    }

    /// What came of a train.
    pub(super) fn train(&self, train: u8, packets: u32, wire_bytes: u64) -> Dispersion {
        let heard = self.heard();
        let arrivals = if train == heard.train { &heard.arrivals[..] } else { &[] };
        Dispersion::of(arrivals, packets, wire_bytes)
    }

    /// What came of the row, and round trips.
    pub(super) fn row(&self, packets: u32) -> (Loss, Vec<Duration>) {
        let heard = self.heard();
        (Loss::of(packets, heard.row.iter().copied()), heard.round_trips.clone())
    }
}
