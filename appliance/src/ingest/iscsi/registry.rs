//! Which sessions there are: one for each initiator port and target.
//!
//! An initiator that logs in again with the same name and session id takes its old session's place (session
//! reinstatement, RFC 7143 section 6.3.5): the old connection is to be closed, and no task of the new session runs before
//! the last one of the old has ended. That holds for a session that was lost, too: its entry stays while workers have tasks
//! of it, so that what they write never comes after what its successor writes.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
    /// No more are begun.
    closed: bool,
}

/// One task in a worker's hands, until it is dropped.
#[derive(Debug)]
pub struct Run(Arc<Running>);

impl Running {
    /// Counts one more; `None` where the session has lost its place.
    pub fn begin(self: &Arc<Self>) -> Option<Run> {
        let mut count = self.lock();
        if count.closed {
            return None;
        }
        count.running += 1;
        Some(Run(self.clone()))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.lock().running
    }

    /// Begins no more.
    fn close(&self) {
        self.lock().closed = true;
    }

    /// Waits until there is none; false where that took too long.
    fn wait(&self, patience: Duration) -> bool {
        let mut count = self.lock();
        count.waiting += 1;
        let waited = self.ended.wait_timeout_while(count, patience, |count| count.running > 0);
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

/// Tasks of all sessions that had a place before, as far as workers had any when it was taken.
#[derive(Clone, Debug, Default)]
pub struct Former(Vec<Arc<Running>>);

impl Former {
    /// True where none is in a worker's hands any more.
    pub fn are_over(&self) -> bool {
        self.0.iter().all(|running| running.count() == 0)
    }

    /// Waits for the last of them; false where that took too long.
    pub fn wait(&self) -> bool {
        let deadline = Instant::now() + DRAIN;
        self.0.iter().all(|running| running.wait(deadline.saturating_duration_since(Instant::now())))
    }
}

/// A session's key: the target's name and the initiator port.
type Key = (String, Nexus);

#[derive(Debug)]
struct Entry {
    /// `None` where it was lost: then it is here for its tasks alone.
    connection: Option<u64>,
    tsih: u16,
    running: Arc<Running>,
    former: Former,
}

impl Entry {
    /// Its tasks and those that it waits for, as far as they are not over.
    fn unfinished(&self) -> Former {
        let all = self.former.0.iter().chain([&self.running]);
        Former(all.filter(|running| running.count() > 0).cloned().collect())
    }
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
    /// Its connection, which is to be closed, where it was not lost already.
    pub connection: Option<u64>,
    /// Its tasks in workers' hands, and those of its predecessors, which are to end first.
    pub running: Former,
}

impl Registry {
    /// Gives a session its place.
    pub fn enter(self: &Arc<Self>, target: &str, nexus: Nexus, connection: u64) -> Seat {
        let key = (target.to_owned(), nexus);
        let mut state = self.lock();
        let tsih = state.free_tsih();
        let running = Arc::<Running>::default();
        state.sessions.retain(|_, entry| entry.connection.is_some() || !entry.unfinished().0.is_empty());
        let superseded = state.sessions.remove(&key).map(|old| {
            old.running.close();
            Superseded { connection: old.connection, running: old.unfinished() }
        });
        let former = superseded.as_ref().map(|old| old.running.clone()).unwrap_or_default();
        let entry = Entry { connection: Some(connection), tsih, running: running.clone(), former };
        state.sessions.insert(key.clone(), entry);
        Seat { registry: self.clone(), key, tsih, connection, running, superseded }
    }

    /// True where a session of this handle is known for the initiator port.
    pub fn knows(&self, target: &str, nexus: &Nexus, tsih: u16) -> bool {
        let state = self.lock();
        let entry = state.sessions.get(&(target.to_owned(), nexus.clone()));
        entry.is_some_and(|entry| entry.tsih == tsih && entry.connection.is_some())
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.lock().sessions.values().filter(|entry| entry.connection.is_some()).count()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_current(&self, seat: &Seat) -> bool {
        self.sessions.get(&seat.key).is_some_and(|entry| entry.connection == Some(seat.connection))
    }

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
        same.filter_map(|(_, entry)| entry.connection).filter(|other| *other != self.connection).collect()
    }

    /// Does something where no newer session has taken the place, and lets none take it meanwhile.
    pub fn if_current(&self, what: impl FnOnce()) {
        let state = self.registry.lock();
        if state.is_current(self) {
            what();
        }
    }

    /// Gives the place up. `ends` is done where it was still this session's, before another can take it.
    pub fn leave(&self, ends: impl FnOnce()) {
        let mut state = self.registry.lock();
        self.running.close();
        if !state.is_current(self) {
            return;
        }
        ends();
        let Some(entry) = state.sessions.get_mut(&self.key) else { return };
        entry.connection = None;
        if entry.unfinished().0.is_empty() {
            state.sessions.remove(&self.key);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.leave(|| {});
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(last: u8) -> Nexus {
        Nexus { initiator: "iqn.a".into(), isid: [0, 0, 0, 0, 0, last] }
    }

    fn is_current(seat: &Seat) -> bool {
        let mut is = false;
        seat.if_current(|| is = true);
        is
    }

    #[test]
    fn a_second_login_takes_the_place_of_the_first() {
        let registry = Arc::<Registry>::default();
        let first = registry.enter("t", nexus(1), 10);
        let other = registry.enter("t", nexus(2), 11);
        assert!(other.superseded.is_none() && first.tsih != other.tsih && first.tsih != 0);
        let run = first.running.begin().unwrap();
        let again = registry.enter("t", nexus(1), 12);
        let old = again.superseded.as_ref().unwrap();
        assert!(old.connection == Some(10) && !old.running.are_over());
        assert!(first.running.begin().is_none(), "it begins nothing more");
        drop(run);
        assert!(old.running.wait());
        assert!(!is_current(&first));
        first.leave(|| panic!("it is another's"));
        drop(first);
        assert!(is_current(&again) && registry.knows("t", &nexus(1), again.tsih));
        assert_eq!(again.others(), [11]);
        drop(again);
        assert_eq!(registry.count(), 1);
    }

    #[test]
    fn a_lost_session_is_waited_for_by_all_that_come_after_it() {
        let registry = Arc::<Registry>::default();
        let first = registry.enter("t", nexus(1), 10);
        let run = first.running.begin().unwrap();
        let mut ended = 0;
        first.leave(|| ended += 1);
        first.leave(|| ended += 1);
        drop(first);
        assert_eq!((ended, registry.count(), registry.lock().sessions.len()), (1, 0, 1));
        // One that comes between and has no task of its own hides nothing.
        let between = registry.enter("t", nexus(1), 11);
        let old = between.superseded.as_ref().unwrap();
        assert!(old.connection.is_none() && !old.running.are_over());
        drop(between);
        let last = registry.enter("t", nexus(1), 12);
        assert!(!last.superseded.as_ref().unwrap().running.are_over());
        drop(run);
        assert!(last.superseded.as_ref().unwrap().running.wait());
        drop(last);
        assert!(registry.lock().sessions.is_empty());
        // A lost one whose tasks ended without a successor is forgotten by and by.
        let lost = registry.enter("t", nexus(1), 13);
        let run = lost.running.begin();
        drop((lost, run));
        assert_eq!(registry.lock().sessions.len(), 1);
        let other = registry.enter("t", nexus(2), 14);
        assert_eq!(registry.lock().sessions.len(), 1);
        assert!(registry.enter("t", nexus(1), 15).superseded.is_none() && is_current(&other));
    }
}
