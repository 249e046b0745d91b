//! Keeps a connection to a peer up: dials whenever there is none, ever less often while it fails; leaves a path that has
//! fallen silent for another one, and goes back to a better one without breaking what runs.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, Side, VarInt};
use tokio::time::{Instant, MissedTickBehavior};

use super::connections::{is_same, is_up};
use super::dial::{candidates, race};
use super::paths::{Candidate, Path, Patience, Silence, Why};
use super::peers::Peer;
use super::shaper::canonical;
use super::{Inner, incoming};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that ends sooner counts as a failure, so that a peer that hangs up at once is not called in a loop.
const LASTING: Duration = Duration::from_secs(10);
/// How often a paused line is looked at.
const PAUSED: Duration = Duration::from_secs(1);
/// How often a connection is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long the other addresses are left alone after none of them answered, while a path is silent.
const SILENT_AGAIN: Duration = Duration::from_secs(5);
/// Closed because nothing comes any more and another path works.
const SILENT: VarInt = VarInt::from_u32(4);

/// How long to wait before trying again: twice as long each time, from one second to one minute, each time shortened by
/// up to a half, so that boxes that lost the same line do not come back in step.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: FIRST }
    }
}

impl Backoff {
    /// The next wait; `chance` is any number.
    pub fn next(&mut self, chance: u32) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        whole - whole.mul_f64(f64::from(chance) / f64::from(u32::MAX) / 2.0)
    }
}

/// What one turn of the keeper came to.
enum Turn {
    /// There was a connection that lasted, or nothing to be done.
    Good,
    /// There is a connection now.
    Dialled,
    /// Nobody was reached, or only for a moment.
    Bad,
}

/// Runs until the peer is removed or the link closes.
pub(super) async fn keep(inner: Arc<Inner>, peer: Arc<Peer>) {
    let mut backoff = Backoff::default();
    let mut patience = Patience::default();
    loop {
        let turn = async {
            if let Some((connection, path, since)) = peer.in_use() {
                watch_over(&inner, &peer, &connection, &path, since, &mut patience).await;
                return if since.elapsed() >= LASTING { Turn::Good } else { Turn::Bad };
            }
            if peer.is_paused(&inner.shaper) {
                tokio::time::sleep(PAUSED).await;
                return Turn::Good;
            }
            if dial_all(&inner, &peer).await { Turn::Dialled } else { Turn::Bad }
        };
        let turn = tokio::select! {
            turn = turn => turn,
            () = peer.removed.cancelled() => return,
            () = inner.closing.cancelled() => return,
        };
        match turn {
            Turn::Good => {
                backoff = Backoff::default();
                continue;
            }
            Turn::Dialled => continue,
            Turn::Bad if peer.in_use().is_some() => continue,
            Turn::Bad => {}
        }
        let wait_until = Instant::now() + backoff.next(rand::random());
        tokio::select! {
            () = tokio::time::sleep_until(wait_until) => {}
            () = peer.nudged() => backoff = Backoff::default(),
            () = peer.wait_connected() => {}
            () = peer.removed.cancelled() => return,
            () = inner.closing.cancelled() => return,
        }
    }
}

/// Tries every address. True where there is a connection in the end, also where the peer was faster.
async fn dial_all(inner: &Arc<Inner>, peer: &Arc<Peer>) -> bool {
    // Goes on where the peer has called meanwhile: it may have begun to use what was dialled here.
    let dialled = race(inner, peer, candidates(peer).await, || peer.in_use().is_none()).await;
    let Some((connection, candidate)) = dialled else { return peer.in_use().is_some() };
    let why = if candidate.rank == 0 { Why::First } else { Why::Faster };
    incoming::adopt(inner, peer, connection, Path { address: Some(candidate.of), why });
    true
}

/// Waits until a connection has ended or another one is in use. Meanwhile sees to it that it is the best that can be had.
async fn watch_over(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: &Connection,
    path: &Path,
    since: Instant,
    patience: &mut Patience,
) {
    let mut changes = peer.subscribe();
    let mut silence = Silence::default();
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut better_after = patience.wait();
    let mut better_at = Instant::now() + better_after;
    let mut others_at = Instant::now();
    loop {
        let in_use = peer.in_use();
        if in_use.as_ref().is_none_or(|(in_use, ..)| !is_same(in_use, connection)) {
            let called = in_use.is_some_and(|(other, ..)| other.side() == Side::Server);
            if called && path.why == Why::Better && is_up(connection) {
                patience.overruled();
            }
            return;
        }
        tokio::select! {
            _ = connection.closed() => return,
            _ = changes.changed() => continue,
            () = peer.addresses_changed() => (better_at, others_at) = (Instant::now(), Instant::now()),
            _ = look.tick() => {}
        }
        // A peer that is told to send nothing may say nothing for a while: QUIC's idle timeout is enough then.
        if peer.is_paused(&inner.shaper) || inner.grants.pause(peer.node) {
            silence = Silence::default();
            continue;
        }
        let is_silent =
            |silence: &mut Silence| silence.look(Instant::now(), peer.traffic(connection), connection.rtt());
        if is_silent(&mut silence) && Instant::now() >= others_at {
            let elsewhere = |candidate: &Candidate| candidate.address != connection.remote_address();
            let dialled = dial_some(inner, peer, connection, elsewhere).await;
            others_at = Instant::now() + SILENT_AGAIN;
            let Some((other, candidate)) = dialled else { continue };
            let (from, to) = (connection.remote_address(), candidate.of);
            tracing::warn!(peer = %peer.name(), %from, %to, "the path fell silent, another one is used");
            incoming::adopt(inner, peer, other, Path { address: Some(to), why: Why::OtherSilent });
            // If it was only a pause, what runs there goes on.
            if is_silent(&mut silence) {
                patience.lost(path.why, since.elapsed());
                connection.close(SILENT, b"silent");
                peer.lanes.close_to(from);
            }
            return;
        }
        if Instant::now() >= better_at {
            if let Some((other, candidate)) = dial_better(inner, peer, connection, path).await {
                tracing::info!(peer = %peer.name(), to = %candidate.of, "a better path answers");
                incoming::adopt(inner, peer, other, Path { address: Some(candidate.of), why: Why::Better });
                return;
            }
            if connection.side() == Side::Server {
                // Who calls may be behind a NAT, where no address of it ever answers.
                better_after = Patience::longer(better_after);
            }
            better_at = Instant::now() + better_after;
        }
    }
}

/// Dials the addresses that come before the one in use. Where the peer has called, that is the one that it called from; where only one
/// is known, nobody has said which is better.
async fn dial_better(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: &Connection,
    path: &Path,
) -> Option<(Connection, Candidate)> {
    if connection.side() == Side::Client {
        let rank = peer.rank_of(path);
        return dial_some(inner, peer, connection, |candidate| candidate.rank < rank).await;
    }
    if peer.addresses().len() < 2 {
        return None;
    }
    let from = canonical(connection.remote_address());
    let found = candidates(peer).await;
    let its =
        found.iter().filter(|candidate| canonical(candidate.address) == from).map(|candidate| candidate.rank).min();
    dial_some(inner, peer, connection, |candidate| candidate.rank < its.unwrap_or(usize::MAX)).await
}

/// Dials those addresses that are wanted, as long as the connection that is there is up.
async fn dial_some(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    connection: &Connection,
    wanted: impl Fn(&Candidate) -> bool,
) -> Option<(Connection, Candidate)> {
    let dial = async {
        let mut found = candidates(peer).await;
        found.retain(|candidate| wanted(candidate));
        race(inner, peer, found, || true).await
    };
    tokio::select! {
        dialled = dial => dialled,
        _ = connection.closed() => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_no_two_boxes_wait_alike() {
        let mut longest = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| longest.next(0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let mut shortest = Backoff::default();
        let waits: Vec<u128> = (0..3).map(|_| shortest.next(u32::MAX).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000]);
    }
}
