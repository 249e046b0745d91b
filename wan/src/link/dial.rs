//! Dialling: one address, or several beside one another until the first answers with the peer's key.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError};
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Inner;
use super::lane::making;
use super::paths::{ASK_EVERY, Candidate, head_start, in_order};
use super::peers::Peer;
use super::tls::SERVER_NAME;
use crate::shape::Class;

/// How long one address is tried.
const DIAL: Duration = Duration::from_secs(10);
/// How long a name server has to answer.
const RESOLVE: Duration = Duration::from_secs(5);

/// The addresses of a peer's record as they are resolved now, in the order in which they are to be dialled.
pub(super) async fn candidates(peer: &Peer) -> Vec<Candidate> {
    let mut lookups = JoinSet::new();
    for (rank, of) in peer.addresses().into_iter().enumerate() {
        lookups.spawn(async move {
            let found = tokio::time::timeout(RESOLVE, lookup_host(of.as_str())).await;
            let found = found.map_err(|_| "the name server does not answer".to_owned());
            let found = found.and_then(|found| found.map_err(|error| format!("name not found: {error}")));
            let found = found.map(Vec::from_iter);
            (rank, of, found)
        });
    }
    let mut found = vec![Vec::new(); lookups.len()];
    while let Some(looked_up) = lookups.join_next().await {
        match looked_up {
            Ok((rank, of, Ok(addresses))) => {
                let candidate = |address| Candidate { of: of.clone(), rank, address };
                found[rank] = addresses.into_iter().map(candidate).collect();
            }
            Ok((_, of, Err(why))) => peer.note_error(format!("{of}: {why}")),
            // Only at the end of the runtime.
            Err(_) => {}
        }
    }
    in_order(found, peer.last_good().as_ref())
}

/// Dials candidates, each a little after the one before it, as long as more of them are wanted, and returns the first that
/// answers; the others are given up.
pub(super) async fn race(
    inner: &Arc<Inner>,
    peer: &Arc<Peer>,
    candidates: Vec<Candidate>,
    more_are_wanted: impl Fn() -> bool,
) -> Option<(Connection, Candidate)> {
    let mut under_way: JoinSet<(Result<Connection, String>, Candidate)> = JoinSet::new();
    let mut waiting = candidates.into_iter();
    let mut next_at = Instant::now();
    loop {
        if under_way.is_empty() {
            next_at = Instant::now();
        }
        tokio::select! {
            biased;
            Some(dialled) = under_way.join_next() => match dialled {
                Ok((Ok(connection), candidate)) => {
                    peer.note_good(&candidate, connection.rtt());
                    return Some((connection, candidate));
                }
                Ok((Err(why), candidate)) => {
                    peer.note_error(format!("{}: {why}", candidate.of));
                    // Refused at once: nothing is waited for.
                    next_at = Instant::now();
                }
                Err(_) => {}
            },
            () = tokio::time::sleep_until(next_at), if waiting.len() > 0 => {
                let Some(candidate) = waiting.next().filter(|_| more_are_wanted()) else {
                    waiting = Vec::new().into_iter();
                    continue;
                };
                next_at += head_start(peer.round_trip_to(&candidate));
                let (inner, peer) = (inner.clone(), peer.clone());
                under_way.spawn(async move {
                    let dialled = dial_at(&inner, &peer, candidate.address, Class::Normal);
                    let answered = tokio::time::timeout(DIAL, dialled).await;
                    (answered.unwrap_or_else(|_| Err("no answer".to_owned())), candidate)
                });
            }
            else => return None,
        }
    }
}

/// Dials one address for a connection of a class.
pub(super) async fn dial_at(
    inner: &Inner,
    peer: &Peer,
    address: SocketAddr,
    class: Class,
) -> Result<Connection, String> {
    let mut config = inner.tls.dial_as(peer.id, class).map_err(|error| error.to_string())?;
    // Charged to the peer from its first datagram on.
    inner.shaper.route(address, peer.node);
    let _route = Route { inner, peer, address };
    let mut transport = inner.transport(class, address);
    if class != Class::Scavenger && peer.addresses().len() > 1 {
        // It is soon seen when this one falls silent.
        transport.keep_alive_interval(Some(ASK_EVERY));
    }
    config.transport_config(Arc::new(transport));
    let (connecting, lane) = making(|| inner.endpoint.connect_with(config, address, SERVER_NAME));
    lane.set(class);
    lane.belongs_to(peer.node);
    let answered = match connecting.map_err(|error| error.to_string())?.await {
        Ok(connection) => stays(connection).await,
        Err(error) => Err(error),
    };
    answered.map_err(|error| explain(&error))
}

/// Takes the route of an address back where there is no connection to it in the end, also when dialling is given up. A
/// connection that was made has it set again when it is adopted.
struct Route<'a> {
    inner: &'a Inner,
    peer: &'a Peer,
    address: SocketAddr,
}

impl Drop for Route<'_> {
    fn drop(&mut self) {
        if !self.peer.is_connected_from(self.address) {
            self.inner.shaper.unroute(self.address);
        }
    }
}

/// In TLS 1.3 the side that dials is done before the other has judged its key; so the verdict is waited for.
async fn stays(connection: Connection) -> Result<Connection, ConnectionError> {
    let verdict = connection.rtt() * 2 + Duration::from_millis(20);
    match tokio::time::timeout(verdict, connection.closed()).await {
        Ok(error) => Err(error),
        Err(_) => Ok(connection),
    }
}

/// Why a handshake failed, for a person.
fn explain(error: &ConnectionError) -> String {
    // RFC 9001, section 4.8: TLS alerts are the codes from 0x100 to 0x1ff.
    let is_alert = |code: quinn::TransportErrorCode| (0x100..0x200).contains(&u64::from(code));
    match error {
        ConnectionError::ConnectionClosed(close) if is_alert(close.error_code) => {
            "the box there does not know this box's key; pair them again".to_owned()
        }
        ConnectionError::TransportError(error) if is_alert(error.code) => {
            "another box answers there, with another key".to_owned()
        }
        ConnectionError::TimedOut => "no answer".to_owned(),
        other => other.to_string(),
    }
}
