//! Which workers may run tasks that hold them for long, and for whom.
//!
//! A copy, a comparison, or a write that waits for room may hold its worker for long. Were all workers held, nobody would
//! read, answer pings or abort anything. So a worker has to hold a place before it runs such tasks, and there are fewer places
//! than workers: three quarters of them for commands, an eighth for task management, which waits for commands. The rest reads,
//! answers, and runs what is brief ([`Weight::Brief`]).
//!
//! An address gets a place while it has fewer than are free: one alone gets half of them, two a third each, and whoever comes
//! next finds some free (dynamic thresholds; Choudhury and Hahne, "Dynamic queue length thresholds for shared-memory packet
//! switches", 1998). No worker waits for a place: it notes the connection, and whoever gives a place back calls a worker to it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Shared;
use super::connection::{Connection, State};
use crate::ingest::iscsi::session::Weight;

/// All places.
#[derive(Debug)]
pub(super) struct Places(Mutex<Taken>);

#[derive(Debug)]
struct Taken {
    commands: Room,
    management: Room,
}

/// The places for one kind of tasks.
#[derive(Debug)]
struct Room {
    free: usize,
    parties: BTreeMap<IpAddr, usize>,
    /// Connections that got none, and their addresses.
    refused: BTreeMap<u64, IpAddr>,
}

impl Room {
    fn new(places: usize) -> Self {
        Room { free: places.max(1), parties: BTreeMap::new(), refused: BTreeMap::new() }
    }

    fn admits(&self, address: IpAddr) -> bool {
        self.parties.get(&address).copied().unwrap_or(0) < self.free
    }

    fn enter(&mut self, connection: u64, address: IpAddr) -> bool {
        let admits = self.admits(address);
        if admits {
            self.free -= 1;
            *self.parties.entry(address).or_default() += 1;
        } else {
            self.refused.insert(connection, address);
        }
        admits
    }

    fn leave(&mut self, address: IpAddr) -> Vec<u64> {
        self.free += 1;
        if let Some(own) = self.parties.get_mut(&address) {
            *own -= 1;
        }
        self.parties.retain(|_, own| *own > 0);
        let refused = std::mem::take(&mut self.refused);
        let (admitted, refused) = refused.into_iter().partition(|(_, address)| self.admits(*address));
        self.refused = refused;
        let admitted: BTreeMap<u64, IpAddr> = admitted;
        admitted.into_keys().collect()
    }
}

impl Places {
    pub fn new(workers_max: usize) -> Self {
        let (commands, management) = (Room::new(workers_max / 4 * 3), Room::new(workers_max / 8));
        Places(Mutex::new(Taken { commands, management }))
    }

    /// Takes a place, or notes who wants one.
    fn enter(&self, weight: Weight, connection: u64, address: IpAddr) -> bool {
        self.lock().room(weight).is_none_or(|room| room.enter(connection, address))
    }

    /// Gives a place back, and says who may try again.
    fn leave(&self, weight: Weight, address: IpAddr) -> Vec<u64> {
        self.lock().room(weight).map_or_else(Vec::new, |room| room.leave(address))
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn room(&mut self, weight: Weight) -> Option<&mut Room> {
        match weight {
            Weight::Brief => None,
            Weight::Command => Some(&mut self.commands),
            Weight::Management => Some(&mut self.management),
        }
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
        if weight == Weight::Brief || self.weights.contains(&weight) {
            return true;
        }
        let admits = self.shared.places.enter(weight, self.connection.id, address(self.connection));
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
            let admitted = self.shared.places.leave(weight, address(self.connection));
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

#[cfg(test)]
mod tests {
    use super::*;

    fn from(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    /// Takes as many as there are to be had.
    fn fill(places: &Places, weight: Weight, last: u8) -> usize {
        (0..1000).take_while(|_| places.enter(weight, last.into(), from(last))).count()
    }

    #[test]
    fn nobody_takes_what_the_next_one_needs() {
        let places = Places::new(128);
        let got: Vec<usize> = (1..=6).map(|last| fill(&places, Weight::Command, last)).collect();
        assert_eq!(got, [48, 24, 12, 6, 3, 2]);
        assert_eq!(fill(&places, Weight::Management, 1), 8, "those are others");
        assert!(places.enter(Weight::Brief, 1, from(1)));
        // The smallest of those who were refused comes first.
        assert!(places.leave(Weight::Command, from(1)).is_empty());
        assert_eq!(places.leave(Weight::Command, from(1)), [6]);
        assert!(places.enter(Weight::Command, 6, from(6)));
        for _ in 0..20 {
            places.leave(Weight::Command, from(1));
        }
        assert!(!places.enter(Weight::Command, 1, from(1)) && places.enter(Weight::Command, 3, from(3)));
    }

    #[test]
    fn a_small_server_has_a_place_too() {
        for workers_max in 0..4 {
            let places = Places::new(workers_max);
            assert!(places.enter(Weight::Command, 1, from(1)) && !places.enter(Weight::Command, 2, from(2)));
            assert_eq!(places.leave(Weight::Command, from(1)), [2], "called once");
            assert!(places.enter(Weight::Command, 2, from(2)));
        }
    }
}
