//! Lanes: which class the datagrams of a connection belong to.
//!
//! QUIC puts frames of many streams into one datagram, and encrypts them, so a datagram can only have the class of its connection. The socket
//! knows connections by their pollers; whoever makes a connection gets hold of its poller's lane through [`making`]. quinn
//! asks for the poller while it makes the connection, on the same thread (`ConnectionRef::new`), so a thread-local carries the lane
//! from the one to the other, as in [`super::socket`].

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::shape::Class;

thread_local! {
    /// The lane of the poller that was made last on this thread.
    static MADE: RefCell<Option<Lane>> = const { RefCell::new(None) };
}

/// The class of one connection, which may change while it is up. [`Class::Normal`] where nothing is said.
#[derive(Clone, Debug)]
pub struct Lane(Arc<AtomicU8>);

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
        self.0.store(class as u8, Ordering::Relaxed);
    }

    /// What they count as.
    pub fn class(&self) -> Class {
        Class::ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
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
