//! The door: handshakes that come in, and what becomes of them.

use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use quinn::{Connection, Incoming, VarInt};
use tokio::sync::Semaphore;

use super::lane::{Lane, making};
use super::paths::{Path, Why};
use super::tls::{ALPN_PAIR, alpn_of, class_of, peer_of};
use super::{Inner, incoming, pair};
use crate::shape::Class;

/// Handshakes under way at once.
const HANDSHAKES: usize = 64;
/// From so many on, an address must prove that it gets our answers before we compute anything for it (RFC 9000, 8.1.2).
const HANDSHAKES_UNPROVED: usize = 16;
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(15);
/// What is known of the path of a peer that has called. Where it came from is good for this connection and for nothing else: it is
/// not added to its record, and nobody else is let in from there.
const CALLED: Path = Path { address: None, why: Why::Called };
/// The connection is of no use to us.
const UNWANTED: VarInt = VarInt::from_u32(3);

/// Handshakes for pairing that are let in: ten at once, then one every six seconds. The code itself allows three attempts;
/// this keeps a flood of them from costing more than a little arithmetic.
pub(super) fn pairing_limiter() -> DefaultDirectRateLimiter {
    let quota =
        Quota::with_period(Duration::from_secs(6)).unwrap_or_else(|| Quota::per_minute(std::num::NonZeroU32::MIN));
    RateLimiter::direct(quota.allow_burst(std::num::NonZeroU32::MIN.saturating_add(9)))
}

/// Answers handshakes until the endpoint is closed.
pub(super) async fn answer(inner: Arc<Inner>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Some(incoming) = inner.endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.ignore();
            continue;
        };
        let crowded = places.available_permits() < HANDSHAKES - HANDSHAKES_UNPROVED;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            // Only an address that was validated already cannot be asked to retry.
            let _ = incoming.retry();
            continue;
        }
        let task_inner = inner.clone();
        inner.spawn(async move {
            let greeted = tokio::time::timeout(HANDSHAKE, shake(&task_inner, incoming)).await;
            drop(place);
            if let Ok(Some((connection, lane))) = greeted {
                admit(task_inner, connection, &lane).await;
            }
        });
    }
}

async fn shake(inner: &Inner, incoming: Incoming) -> Option<(Connection, Lane)> {
    let address = incoming.remote_address();
    let mut answering = inner.answering.clone();
    // Who calls is not known yet, nor the class.
    answering.transport_config(Arc::new(inner.transport(Class::Normal, address)));
    let (accepted, lane) = making(|| incoming.accept_with(Arc::new(answering)));
    let greeted = match accepted {
        Ok(connecting) => connecting.await,
        Err(error) => Err(error),
    };
    match greeted {
        Ok(connection) => Some((connection, lane)),
        Err(error) => {
            tracing::debug!(%address, %error, "handshake refused");
            None
        }
    }
}

/// TLS has let it in; now by protocol and key.
async fn admit(inner: Arc<Inner>, connection: Connection, lane: &Lane) {
    let alpn = alpn_of(&connection);
    let Some(id) = peer_of(&connection) else {
        return connection.close(UNWANTED, b"no key");
    };
    if let Some(class) = alpn.as_deref().and_then(class_of) {
        lane.set(class);
        let peer = inner.peers.find(&id);
        peer.iter().for_each(|peer| lane.belongs_to(peer.node));
        match peer {
            Some(peer) if class == Class::Normal => incoming::adopt(&inner, &peer, connection, CALLED),
            Some(peer) => {
                peer.lanes.answered(class, &connection);
                incoming::attend(&inner, &peer, connection);
            }
            // It was removed since the handshake began.
            None => connection.close(UNWANTED, b"unknown key"),
        }
    } else if alpn.as_deref() == Some(ALPN_PAIR) {
        match inner.pairing_limiter.check() {
            Ok(()) => pair::answer(&inner, connection, id).await,
            Err(_) => connection.close(UNWANTED, b"too many attempts"),
        }
    } else {
        connection.close(UNWANTED, b"unknown protocol");
    }
}
