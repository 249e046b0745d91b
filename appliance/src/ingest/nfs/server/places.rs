//! Which workers may carry out calls that hold them for long: three quarters, by [`crate::ingest::places`]. The rest reads, and
//! answers what needs no disk ([`Service::may_wait`]).
//!
//! [`Service::may_wait`]: crate::ingest::nfs::rpc::Service::may_wait

use super::Shared;
use super::connection::{Connection, State};

/// How many places there are beside so many workers.
pub(super) fn count(workers_max: usize) -> usize {
    workers_max / 4 * 3
}

/// The place that a worker has while it serves a connection, once it has one.
pub(super) struct Held<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    has_place: bool,
}

impl<'a> Held<'a> {
    pub(super) fn new(shared: &'a Shared, connection: &'a Connection) -> Self {
        Held { shared, connection, has_place: false }
    }

    /// True where the worker may carry such a call out: it has a place, or gets one. `state` is that of the connection.
    pub(super) fn admits(&mut self, state: &mut State) -> bool {
        if !self.has_place {
            self.has_place = self.shared.places.enter(self.connection.id, self.connection.host().address());
            state.note_place(self.has_place);
        }
        self.has_place
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.has_place {
            return;
        }
        let admitted = self.shared.places.leave(self.connection.host().address());
        for connection in admitted.into_iter().filter_map(|id| self.shared.connection(id)) {
            connection.state().note_place(true);
            self.shared.arm(&connection);
        }
    }
}
