//! Lanes: whose the datagrams of a connection are, and which class they belong to.
//!
//! QUIC puts frames of many streams into one datagram, and encrypts them, so a datagram can only have the class of its connection. The socket
//! knows connections by their pollers; whoever makes a connection gets hold of its poller's lane through [`making`]. quinn
//! asks for the poller while it makes the connection, on the same thread (`ConnectionRef::new`), so a thread-local carries the lane
//! from the one to the other, as in [`super::socket`].
//!
//! Whose they are can't be told by where they go: behind a NAT the other end has another address from one datagram to the next, and is the
//! same peer with the same cap. So once a connection has proved a key, its lane says whose it is, whatever its address.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crate::shape::{Class, NodeId};

thread_local! {
    /// The lane of the poller that was made last on this thread.
    static MADE: RefCell<Option<Lane>> = const { RefCell::new(None) };
}

/// The peer of one connection, once it is known, and its class, which may change while it is up. [`Class::Normal`] where nothing is said.
#[derive(Clone, Debug)]
pub struct Lane(Arc<Says>);

#[derive(Debug, Default)]
struct Says {
    class: AtomicU8,
    peer: OnceLock<NodeId>,
}

impl Default for Lane {
    fn default() -> Self {
        let lane = Lane(Arc::default());
        lane.set(Class::default());
        lane
    }
}

impl Lane {
    /// What the connection's datagrams count as from now on.
    pub fn set(&self, class: Class) {
        self.0.class.store(class as u8, Ordering::Relaxed);
    }

    /// What they count as.
    pub fn class(&self) -> Class {
        Class::ALL.get(usize::from(self.0.class.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// The connection is this peer's for good: what it sends from now on counts as the peer's, wherever it goes.
    pub fn belongs_to(&self, peer: NodeId) {
        // Said a second time it is the same one: a connection proves one key.
        let _ = self.0.peer.set(peer);
    }

    /// Whose it is; None as long as it has proved no key.
    pub fn peer(&self) -> Option<NodeId> {
        self.0.peer.get().copied()
    }
}

/// Runs what makes one connection over a [`super::socket::ShapedSocket`], and returns the connection's lane with it; a lane of no
/// connection where it made none.
pub fn making<T>(make: impl FnOnce() -> T) -> (T, Lane) {
    MADE.take();
    let made = make();
    (made, MADE.take().unwrap_or_default())
}

/// A lane for a poller that is being made.
pub(super) fn of_new_poller() -> Lane {
    let lane = Lane::default();
    MADE.set(Some(lane.clone()));
    lane
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_makes_a_connection_gets_its_lane() {
        let (poller, lane) = making(of_new_poller);
        assert_eq!(poller.class(), Class::Normal);
        lane.set(Class::Scavenger);
        assert_eq!(poller.class(), Class::Scavenger);
        let (_, nobodys) = making(|| ());
        nobodys.set(Class::Urgent);
        assert_eq!(poller.class(), Class::Scavenger, "no poller, no lane");
    }
}
