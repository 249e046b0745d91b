//! Keeps a connection to a peer up: dials whenever there is none, ever less often while it fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::ConnectionError;
use tokio::net::lookup_host;
use tokio::time::Instant;

use super::lane::making;
use super::peers::Peer;
use super::tls::SERVER_NAME;
use super::{Inner, incoming};
use crate::peer::PeerAddress;
use crate::shape::Class;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// How long one address is tried.
const DIAL: Duration = Duration::from_secs(10);
/// A connection that ends sooner counts as a failure, so that a peer that hangs up at once is not called in a loop.
const LASTING: Duration = Duration::from_secs(10);
/// How often a paused line is looked at.
const PAUSED: Duration = Duration::from_secs(1);

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
    loop {
        let turn = async {
            if let Some(connection) = peer.current() {
                let since = Instant::now();
                connection.closed().await;
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

/// Tries every address once. True where one of them answered with the peer's key.
async fn dial_all(inner: &Arc<Inner>, peer: &Arc<Peer>) -> bool {
    for address in peer.addresses() {
        match tokio::time::timeout(DIAL, dial(inner, peer, &address)).await {
            Ok(Ok(connection)) => {
                incoming::adopt(inner, peer, connection);
                return true;
            }
            Ok(Err(why)) => peer.note_error(format!("{address}: {why}")),
            Err(_) => peer.note_error(format!("{address}: no answer")),
        }
        if peer.current().is_some() {
            return true;
        }
    }
    false
}

async fn dial(inner: &Inner, peer: &Peer, address: &PeerAddress) -> Result<quinn::Connection, String> {
    let found = lookup_host(address.as_str()).await.map_err(|error| format!("name not found: {error}"))?;
    let mut why = "no address for this name".to_owned();
    for socket_address in found {
        match dial_at(inner, peer, socket_address, Class::Normal).await {
            Ok(connection) => return Ok(connection),
            Err(error) => why = error,
        }
    }
    Err(why)
}

/// Dials one address for a connection of a class.
pub(super) async fn dial_at(
    inner: &Inner,
    peer: &Peer,
    address: SocketAddr,
    class: Class,
) -> Result<quinn::Connection, String> {
    let mut config = inner.tls.dial_as(peer.id, class).map_err(|error| error.to_string())?;
    config.transport_config(inner.transport.clone());
    // Charged to the peer from its first datagram on.
    inner.shaper.route(address, peer.node);
    let _route = Route { inner, peer, address };
    let (connecting, lane) = making(|| inner.endpoint.connect_with(config, address, SERVER_NAME));
    lane.set(class);
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
async fn stays(connection: quinn::Connection) -> Result<quinn::Connection, ConnectionError> {
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
