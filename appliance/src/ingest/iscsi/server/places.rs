//! Which workers may run tasks that hold them for long: places of [`crate::ingest::places`] for each kind of tasks.
//!
//! Three quarters of the workers are for commands, an eighth for task management, which waits for commands. The rest reads,
//! answers, and runs what is brief ([`Weight::Brief`]).

use std::net::IpAddr;
use std::sync::Arc;

use super::Shared;
use super::connection::{Connection, State};
use crate::ingest::iscsi::session::Weight;
use crate::ingest::places::Places;

/// All places.
#[derive(Debug)]
pub(super) struct AllPlaces {
    commands: Places,
    management: Places,
}

impl AllPlaces {
    pub fn new(workers_max: usize) -> Self {
        AllPlaces { commands: Places::new(workers_max / 4 * 3), management: Places::new(workers_max / 8) }
    }

    /// Those for one kind of tasks, where it needs any.
    fn of(&self, weight: Weight) -> Option<&Places> {
        match weight {
            Weight::Brief => None,
            Weight::Command => Some(&self.commands),
            Weight::Management => Some(&self.management),
        }
    }

    /// A connection that is closed wants none any more.
    pub fn forget(&self, connection: u64) {
        self.commands.forget(connection);
        self.management.forget(connection);
    }
}

/// The places that a worker has while it serves a connection.
pub(super) struct Held<'a> {
    shared: &'a Arc<Shared>,
    connection: &'a Connection,
    weights: Vec<Weight>,
}

impl<'a> Held<'a> {
    pub fn new(shared: &'a Arc<Shared>, connection: &'a Connection) -> Self {
        Held { shared, connection, weights: Vec::new() }
    }

    /// True where the worker may run such a task: it has a place, or gets one. `state` is that of the connection.
    pub fn admits(&mut self, weight: Weight, state: &mut State) -> bool {
        let Some(places) = self.shared.places.of(weight) else { return true };
        if self.weights.contains(&weight) {
            return true;
        }
        let admits = places.enter(self.connection.id, address(self.connection));
        if admits {
            self.weights.push(weight);
        }
        state.note_place(weight, admits);
        admits
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for weight in self.weights.drain(..) {
            let Some(places) = self.shared.places.of(weight) else { continue };
            let admitted = places.leave(address(self.connection));
            for connection in admitted.into_iter().filter_map(|id| self.shared.connection(id)) {
                connection.state().note_place(weight, true);
                self.shared.arm(&connection);
            }
        }
    }
}

fn address(connection: &Connection) -> IpAddr {
    connection.peer.ip().to_canonical()
}
