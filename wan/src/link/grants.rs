//! Caps of what is received: what peers are told, and what they tell us.
//!
//! ```text
//!   Receive (shape) ── look, five times a second ──▶ a grant a peer ── stream of grants ──▶ its shaped socket
//!        ▲ what came in the last second                                  listen ◀── ours ◀── its Receive
//! ```
//!
//! The bytes are in `docs/formats/replication-protocol.md` ("Grants"); who gets what is decided by [`crate::shape::receive`]; that
//! it is kept is up to the sender's socket ([`super::socket`]), where every byte is counted. A box that knows no grants stops the stream, and is
//! told nothing more until it connects again: what it sends is bounded by nothing.
//!
//! A box without any cap of what it receives opens no stream.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quinn::{Connection, RecvStream, VarInt};
use tokio::sync::watch;

use super::endpoint::Link;
use super::peers::Peer;
use super::socket::Granting;
use super::{Inner, lock};
use crate::peer::PeerId;
use crate::shape::{NodeId, Rate, Receive};
use crate::wire::{GRANT_BYTES, Grant, Preface, StreamClass};

/// How often what peers send is looked at, and dealt out anew.
const LOOK: Duration = Duration::from_millis(200);
/// How long the last grant counts after its stream has ended.
const LASTS: Duration = Duration::from_secs(10);
/// How long a grant counts at least: whoever sends them faster waits.
const CALM: Duration = Duration::from_millis(10);
/// Streams of grants of one peer that are minded at once: those of a connection and of the ones it follows.
const HEARD_MAX: usize = 4;
/// A stream that says what nobody understands.
const UNWANTED: VarInt = VarInt::from_u32(3);

/// The grants of a link.
#[derive(Debug, Default)]
pub(super) struct Grants(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    receive: Receive<NodeId>,
    /// What each connected peer is to be told: nothing before there was a cap.
    told: BTreeMap<NodeId, watch::Sender<Option<Grant>>>,
    /// How many streams of each peer are listened to, or have ended and count for a while.
    heard: BTreeMap<NodeId, usize>,
    /// A task looks.
    looking: bool,
}

impl Link {
    /// Changes the cap of what the box receives from all peers together (`None`), or from one peer: they are told within a fifth of a
    /// second, and keep it. The caller keeps it, too. A peer that is not there is nobody's loss.
    pub fn set_receive_limit(&self, of: Option<&PeerId>, limit: Option<Rate>) {
        let inner = &self.inner;
        let node = match of {
            None => None,
            Some(id) => match inner.peers.find(id) {
                Some(peer) => Some(peer.node),
                None => return,
            },
        };
        let mut state = lock(&inner.grants.0);
        if state.receive.limit(node) == limit {
            return;
        }
        match node {
            None => state.receive.set_whole(limit),
            Some(node) => state.receive.set_own(node, limit),
        }
        let begins = !std::mem::replace(&mut state.looking, true);
        drop(state);
        look(inner);
        if begins {
            let looking = inner.clone();
            inner.spawn(async move {
                loop {
                    tokio::select! {
                        () = tokio::time::sleep(LOOK) => look(&looking),
                        () = looking.closing.cancelled() => return,
                    }
                }
            });
        }
    }
}

impl Grants {
    /// True while a peer is granted nothing: that it is silent is not its fault.
    pub(super) fn pause(&self, node: NodeId) -> bool {
        lock(&self.0).receive.granted(node).is_some_and(Rate::is_paused)
    }
}

/// Deals out anew, and says what is to be told.
fn look(inner: &Inner) {
    let peers = inner.peers.all();
    let seen: BTreeMap<NodeId, Option<u64>> = peers
        .iter()
        .map(|peer| {
            let bits = || inner.shaper.received_bits_per_second(Some(peer.node));
            (peer.node, peer.current().map(|_| bits()))
        })
        .collect();
    let mut state = lock(&inner.grants.0);
    if !state.looking {
        return;
    }
    let State { receive, told, .. } = &mut *state;
    receive.keep(seen.keys().copied());
    receive.look(inner.began.elapsed(), |node| seen.get(&node).copied().flatten());
    told.retain(|node, _| seen.contains_key(node));
    for (node, told) in told {
        let grant = Grant(receive.granted(*node));
        told.send_if_modified(|last| {
            // Nobody is told that there is no cap who was never told of one.
            let news = *last != Some(grant) && (last.is_some() || grant.0.is_some());
            if news {
                *last = Some(grant);
            }
            news
        });
    }
}

/// Tells the peer what it is granted, for as long as the connection lasts or the peer listens.
pub(super) async fn tell(inner: Arc<Inner>, peer: Arc<Peer>, connection: Connection) {
    let mut grants = {
        let mut state = lock(&inner.grants.0);
        state.told.entry(peer.node).or_insert_with(|| watch::Sender::new(None)).subscribe()
    };
    look(&inner);
    let telling = async {
        let first = wait(&mut grants).await?;
        let mut stream = connection.open_uni().await.ok()?;
        let _ = stream.set_priority(2);
        let preface = Preface { class: StreamClass::Grants, index: 0, session: 0 };
        stream.write_all(&[&preface.encode()[..], &first.encode()[..]].concat()).await.ok()?;
        loop {
            let changed = tokio::select! {
                changed = grants.changed() => changed,
                stopped = stream.stopped() => {
                    tracing::warn!(
                        peer = %peer.name(), ?stopped,
                        "the peer does not know caps of what is received: nothing here bounds what it sends"
                    );
                    return None::<()>;
                }
            };
            changed.ok()?;
            let grant = (*grants.borrow_and_update())?;
            tracing::debug!(peer = %peer.name(), ?grant, "granted");
            stream.write_all(&grant.encode()).await.ok()?;
        }
    };
    tokio::select! {
        _ = telling => {}
        _ = connection.closed() => {}
        () = inner.closing.cancelled() => {}
    }
}

async fn wait(grants: &mut watch::Receiver<Option<Grant>>) -> Option<Grant> {
    *grants.wait_for(Option::is_some).await.ok()?
}

/// Does as the peer says, behind the preface of its stream of grants.
pub(super) async fn listen(inner: &Inner, peer: &Peer, mut stream: RecvStream) {
    {
        let mut state = lock(&inner.grants.0);
        let heard = state.heard.entry(peer.node).or_default();
        if *heard >= HEARD_MAX {
            let _ = stream.stop(UNWANTED);
            return;
        }
        *heard += 1;
    }
    mind(inner, peer, stream).await;
    let mut state = lock(&inner.grants.0);
    if let Some(heard) = state.heard.get_mut(&peer.node) {
        *heard -= 1;
        if *heard == 0 {
            state.heard.remove(&peer.node);
        }
    }
}

async fn mind(inner: &Inner, peer: &Peer, mut stream: RecvStream) {
    let granting = inner.shaper.begin_granting(peer.node);
    let mut last = None;
    let mut bytes = [0; GRANT_BYTES];
    while stream.read_exact(&mut bytes).await.is_ok() {
        match Grant::decode(bytes) {
            Ok(Grant(granted)) => {
                tracing::debug!(peer = %peer.name(), ?granted, "the peer grants us");
                inner.shaper.set_granted(granting, granted);
                settle(inner, peer);
                last = granted;
                tokio::time::sleep(CALM).await;
            }
            Err(error) => {
                let _ = stream.stop(UNWANTED);
                inner.refused(peer, format!("it said how fast it may be sent to: {error}")).await;
                break;
            }
        }
    }
    forget(inner, peer, granting, last).await;
}

/// Holds back data for the peer, or no longer: as it says.
fn settle(inner: &Inner, peer: &Peer) {
    peer.hold.set(inner.shaper.granted(peer.node).is_some_and(Rate::is_paused));
}

/// The stream has ended: what was granted last counts for a while.
async fn forget(inner: &Inner, peer: &Peer, granting: Granting, last: Option<Rate>) {
    if last.is_some() {
        tokio::select! {
            () = tokio::time::sleep(LASTS) => {}
            () = inner.closing.cancelled() => {}
        }
    }
    inner.shaper.end_granting(granting);
    settle(inner, peer);
}
