//! Holding: what is sent to a peer that has paused what it receives (a grant of nothing, [`crate::shape::receive`]).
//!
//! Such a peer gets no data, and the connection stays: acknowledgements and what it waits for in sessions in which *it* sends leave at no more
//! than the lowest rate ([`crate::shape::Rate::MIN`]), which its bucket sees to.
//!
//! ```text
//!   held while a session sends:   nothing more is under way  ── PATIENCE ──▶ the session is broken off, and its streams with it
//!   held otherwise:               the connection does as ever; sessions that would send wait
//! ```
//!
//! Why a session is not just left standing: what it has written waits in QUIC, which puts acknowledgements into packets with whatever waits.
//! Where congestion control lets no data pass, it sends neither (quinn's `poll_transmit`; RFC 9002, section 7, would allow the acknowledgements), and the
//! connection would be lost for it. A short pause, such as that of a branch whose turn is over, is borne so. After a longer one the session goes
//! on where it was broken off, as it does after a connection is lost, but without a handshake, and without being called for meanwhile.
//!
//! What this never does: hold back a handshake, since a connection has no gate before it is a peer's.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::Notify;

use super::congestion::Steady;
use super::law::Governed;
use super::scavenger::Yielding;
use super::transport::DATA_STREAMS_MAX;

/// A pause of so long is borne by a session: one turn of another branch, and half of what QUIC waits for a sign of life.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether data for a peer is held back, and whether there is any.
#[derive(Debug, Default)]
pub(super) struct Hold {
    held: AtomicBool,
    /// Sessions that send to the peer.
    sending: AtomicUsize,
    changed: Notify,
}

/// A session sends as long as this lives.
#[derive(Debug)]
pub(super) struct Sending(Arc<Hold>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.sending.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

impl Hold {
    /// From now on.
    pub(super) fn set(&self, held: bool) {
        if self.held.swap(held, Ordering::Relaxed) != held {
            self.changed.notify_waiters();
        }
    }

    /// Is it?
    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// A session begins to send.
    pub(super) fn begin_sending(self: &Arc<Self>) -> Sending {
        self.sending.fetch_add(1, Ordering::Relaxed);
        Sending(self.clone())
    }

    /// Waits for the next change.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until data is no longer held back.
    pub(super) async fn released(&self) {
        self.becomes(false).await;
    }

    /// Waits until data has been held back for longer than a session bears.
    pub(super) async fn outlasts(&self) {
        loop {
            self.becomes(true).await;
            tokio::select! {
                () = tokio::time::sleep(PATIENCE) => return,
                () = self.becomes(false) => {}
            }
        }
    }

    async fn becomes(&self, held: bool) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Before it is looked at: no change falls between the two.
            changed.as_mut().enable();
            if self.is_held() == held {
                return;
            }
            changed.await;
        }
    }

    fn is_shut(&self) -> bool {
        self.is_held() && self.sending.load(Ordering::Relaxed) > 0
    }
}

/// What stands before the law of one connection.
#[derive(Debug, Default)]
pub struct Gate(OnceLock<Arc<Hold>>);

impl Gate {
    /// The connection's data is held with that of this peer, for good.
    fn stand_for(&self, hold: &Arc<Hold>) {
        // Said a second time it is the same one: a connection proves one key.
        let _ = self.0.set(hold.clone());
    }

    /// True while nothing more may be under way.
    pub(super) fn is_shut(&self) -> bool {
        self.0.get().is_some_and(|hold| hold.is_shut())
    }
}

/// The gate of a connection; none where it has another law than ours.
fn gate_of(connection: &Connection) -> Option<Arc<Gate>> {
    let law = connection.congestion_state().into_any();
    match law.downcast::<Governed<Steady>>() {
        Ok(governed) => Some(governed.gate),
        Err(law) => law.downcast::<Governed<Yielding>>().ok().map(|governed| governed.gate),
    }
}

/// Tells a connection when its gate opens: quinn does not look by itself.
#[derive(Debug)]
pub(super) struct Opener {
    hold: Arc<Hold>,
    was_shut: bool,
}

impl Opener {
    /// Of a connection that has become a peer's.
    pub(super) fn of(connection: &Connection, hold: &Arc<Hold>) -> Opener {
        if let Some(gate) = gate_of(connection) {
            gate.stand_for(hold);
        }
        Opener { hold: hold.clone(), was_shut: false }
    }

    /// To be called after [`Hold::changed`], and now and then, should that have been missed.
    pub(super) fn look(&mut self, connection: &Connection) {
        let was_shut = std::mem::replace(&mut self.was_shut, self.hold.is_shut());
        if was_shut && !self.was_shut {
            // It is that already; but to be told so wakes the task of the connection.
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(DATA_STREAMS_MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gate_is_shut_while_its_peer_is_held_and_sent_to() {
        let (hold, gate) = (Arc::new(Hold::default()), Gate::default());
        let sending = hold.begin_sending();
        hold.set(true);
        assert!(!gate.is_shut(), "nobody's connection");
        gate.stand_for(&hold);
        assert!(gate.is_shut());
        let another = hold.begin_sending();
        drop(sending);
        assert!(gate.is_shut());
        drop(another);
        assert!(!gate.is_shut() && hold.is_held());
        let _third = hold.begin_sending();
        assert!(gate.is_shut());
        hold.set(false);
        assert!(!gate.is_shut());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_pause_is_borne_and_a_long_one_is_not() {
        let hold = Arc::new(Hold::default());
        let outlasts = hold.outlasts();
        tokio::pin!(outlasts);
        for _ in 0..3 {
            hold.set(true);
            let short = PATIENCE - Duration::from_millis(1);
            assert!(tokio::time::timeout(short, &mut outlasts).await.is_err(), "it began anew");
            hold.set(false);
            assert!(tokio::time::timeout(2 * PATIENCE, &mut outlasts).await.is_err());
            hold.released().await;
        }
        hold.set(true);
        outlasts.await;
    }
}
