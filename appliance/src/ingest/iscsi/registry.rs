//! Which sessions there are: one for each initiator port and target.
//!
//! An initiator that logs in again with the same name and session id takes its old session's place (session
//! reinstatement, RFC 7143 section 6.3.5): the old connection is to be closed, and no task of the new session runs before
//! the last one of the old has ended.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::scsi::Nexus;

/// How long a new session's task waits for the old session's tasks. Storage that holds one longer than that has failed.
const DRAIN: Duration = Duration::from_secs(60);

/// Tasks that are in some worker's hands.
#[derive(Debug, Default)]
pub struct Running {
    count: Mutex<Count>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Count {
    running: usize,
    /// Who waits for the last of them. To wake nobody would cost as much as many a task.
    waiting: usize,
}

/// One task in a worker's hands, until it is dropped.
#[derive(Debug)]
pub struct Run(Arc<Running>);

impl Running {
    /// Counts one more.
    pub fn begin(self: &Arc<Self>) -> Run {
        self.lock().running += 1;
        Run(self.clone())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().running
    }

    /// Waits until there is none; false where that took too long.
    pub fn wait(&self) -> bool {
        let mut count = self.lock();
        count.waiting += 1;
        let waited = self.ended.wait_timeout_while(count, DRAIN, |count| count.running > 0);
        let (mut count, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        count.waiting -= 1;
        !waited.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut count = self.0.lock();
        count.running -= 1;
        if count.running == 0 && count.waiting > 0 {
            self.0.ended.notify_all();
        }
    }
}

/// A session's key: the target's name and the initiator port.
type Key = (String, Nexus);

#[derive(Debug)]
struct Entry {
    connection: u64,
    tsih: u16,
    running: Arc<Running>,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Registry {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sessions: BTreeMap<Key, Entry>,
    last_tsih: u16,
}

/// A session's place; given up when dropped.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<Registry>,
    key: Key,
    /// The session's handle: never 0.
    pub tsih: u16,
    connection: u64,
    /// The session's tasks in workers' hands.
    pub running: Arc<Running>,
    /// The session whose place it took.
    pub superseded: Option<Superseded>,
}

/// A session that lost its place.
#[derive(Clone, Debug)]
pub struct Superseded {
    /// Its connection, which is to be closed.
    pub connection: u64,
    /// Its tasks in workers' hands, which are to end first.
    pub running: Arc<Running>,
}

impl Registry {
    /// Gives a session its place.
    pub fn enter(self: &Arc<Self>, target: &str, nexus: Nexus, connection: u64) -> Seat {
        let key = (target.to_owned(), nexus);
        let mut state = self.lock();
        let tsih = state.free_tsih();
        let running = Arc::<Running>::default();
        let entry = Entry { connection, tsih, running: running.clone() };
        let old = state.sessions.insert(key.clone(), entry);
        let superseded = old.map(|old| Superseded { connection: old.connection, running: old.running });
        Seat { registry: self.clone(), key, tsih, connection, running, superseded }
    }

    /// True where a session of this handle is known for the initiator port.
    pub fn knows(&self, target: &str, nexus: &Nexus, tsih: u16) -> bool {
        self.lock().sessions.get(&(target.to_owned(), nexus.clone())).is_some_and(|entry| entry.tsih == tsih)
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.lock().sessions.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn free_tsih(&mut self) -> u16 {
        loop {
            self.last_tsih = self.last_tsih.wrapping_add(1).max(1);
            // Ends: the rim admits far fewer connections than there are handles.
            if self.sessions.len() >= usize::from(u16::MAX)
                || self.sessions.values().all(|entry| entry.tsih != self.last_tsih)
            {
                return self.last_tsih;
            }
        }
    }
}

impl Seat {
    /// The connections of all other sessions with the same target.
    pub fn others(&self) -> Vec<u64> {
        let state = self.registry.lock();
        let same = state.sessions.iter().filter(|((target, _), _)| *target == self.key.0);
        same.map(|(_, entry)| entry.connection).filter(|other| *other != self.connection).collect()
    }

    /// True while no newer session has taken the place.
    pub fn is_current(&self) -> bool {
        self.registry.lock().sessions.get(&self.key).is_some_and(|entry| entry.connection == self.connection)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut state = self.registry.lock();
        if state.sessions.get(&self.key).is_some_and(|entry| entry.connection == self.connection) {
            state.sessions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(last: u8) -> Nexus {
        Nexus { initiator: "iqn.a".into(), isid: [0, 0, 0, 0, 0, last] }
    }

    #[test]
    fn a_second_login_takes_the_place_of_the_first() {
        let registry = Arc::<Registry>::default();
        let first = registry.enter("t", nexus(1), 10);
        let other = registry.enter("t", nexus(2), 11);
        assert!(other.superseded.is_none() && first.tsih != other.tsih && first.tsih != 0);
        let run = first.running.begin();
        let again = registry.enter("t", nexus(1), 12);
        let old = again.superseded.as_ref().unwrap();
        assert_eq!((old.connection, old.running.count()), (10, 1));
        drop(run);
        assert!(old.running.wait());
        assert!(!first.is_current());
        drop(first);
        assert!(again.is_current() && registry.knows("t", &nexus(1), again.tsih));
        assert_eq!(again.others(), [11]);
        drop(again);
        assert_eq!(registry.count(), 1);
    }
}
