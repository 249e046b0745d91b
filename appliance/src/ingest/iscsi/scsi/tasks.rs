//! Which commands are being carried out, so that resets and preemptions can end them.
//!
//! A command takes the [`TaskGate::epoch`] at its arrival. [`TaskGate::end`] closes the gate for commands that arrived before
//! and bars those that are past it: each looks at [`Pass::is_barred`] between its steps. [`TaskGate::drain`] waits until they
//! have left: when it says so, none of them changes anything any more (SAM-5 section 5.11, RFC 7143 section 4.2.3.3).
//!
//! A command that changes another unit than its own (EXTENDED COPY) visits the gates of all that it touches.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Nexus;

/// How long an abort waits for a command that storage holds. Beyond it storage has failed, and says so itself.
pub const DRAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    next_pass: u64,
    /// Commands past the gate.
    inside: BTreeMap<u64, Inside>,
    /// Commands of these ports that arrived before the epoch do not pass.
    barred: BTreeMap<Nexus, u64>,
    /// Nor do those of any port that arrived before this one.
    all_barred: u64,
    /// How long tests wait in place of [`DRAIN`].
    drain: Option<Duration>,
    /// Aborts that wait for those inside.
    waiting: usize,
}

/// A command past the gate.
#[derive(Debug)]
struct Inside {
    nexus: Arc<Nexus>,
    /// It is another unit's, by a port that may have another name here.
    visits: bool,
    barred: bool,
}

/// The gate of one logical unit.
#[derive(Debug, Default)]
pub struct TaskGate {
    state: Mutex<State>,
    left: Condvar,
}

/// A command past the gate, until it is dropped.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a TaskGate,
    number: u64,
}

/// Commands that were past the gate when they were ended.
#[derive(Debug)]
#[must_use = "they may still be on their way out"]
pub struct Ended(BTreeSet<u64>);

impl TaskGate {
    /// What a command that arrives now is to bring.
    pub fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    /// Lets a command in that arrived at `epoch`; `None` where it was aborted meanwhile.
    pub fn enter(&self, nexus: &Arc<Nexus>, epoch: u64) -> Option<Pass<'_>> {
        let mut state = self.lock();
        if epoch < state.all_barred.max(state.barred.get(&**nexus).copied().unwrap_or(0)) {
            return None;
        }
        Some(self.admit(&mut state, nexus.clone(), false))
    }

    /// Lets a command of another unit in. Whether it may do anything here is to be asked after that.
    pub fn visit(&self, nexus: &Nexus) -> Pass<'_> {
        self.admit(&mut self.lock(), Arc::new(nexus.clone()), true)
    }

    fn admit(&self, state: &mut State, nexus: Arc<Nexus>, visits: bool) -> Pass<'_> {
        let number = state.next_pass;
        state.next_pass += 1;
        state.inside.insert(number, Inside { nexus, visits, barred: false });
        Pass { gate: self, number }
    }

    /// Ends every command that arrived before now.
    pub fn end_all(&self) -> Ended {
        let mut state = self.lock();
        state.epoch += 1;
        state.all_barred = state.epoch;
        state.barred.clear();
        state.end(|_| true)
    }

    /// Ends the commands that ports sent before now, and all visits of their initiators. Those outside are kept out of ports that
    /// `is_here` says have a session. `own` is the pass of the command that asks: it is to change nothing any more.
    pub fn end(&self, ports: &[Nexus], is_here: impl Fn(&Nexus) -> bool, own: &Pass<'_>) -> Ended {
        let mut state = self.lock();
        // Two that end each other must not wait for each other.
        state.inside.remove(&own.number);
        self.left.notify_all();
        ports.iter().filter(|port| is_here(port)).for_each(|port| state.bar(port));
        state.end(|inside| match inside.visits {
            true => ports.iter().any(|port| port.initiator == inside.nexus.initiator),
            false => ports.contains(&*inside.nexus),
        })
    }

    /// Waits until commands that were ended have left; false where that took too long. They stay barred all the same.
    #[must_use]
    pub fn drain(&self, ended: &Ended) -> bool {
        let mut state = self.lock();
        state.waiting += 1;
        let patience = state.drain.unwrap_or(DRAIN);
        let is_inside = |state: &mut State| ended.0.iter().any(|number| state.inside.contains_key(number));
        let waited = self.left.wait_timeout_while(state, patience, is_inside);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        !waited.timed_out()
    }

    /// Keeps commands of a port out that arrived before now, without waiting for those that are in.
    pub fn bar(&self, nexus: &Nexus) {
        let mut state = self.lock();
        state.bar(nexus);
        // Those in hand are not awaited by anyone here.
        let _ = state.end(|inside| !inside.visits && *inside.nexus == *nexus);
    }

    /// Forgets a port that is gone: whatever it sent was told so ([`super::Asked::aborted`]).
    pub fn forget(&self, nexus: &Nexus) {
        self.lock().barred.remove(nexus);
    }

    /// How long aborts wait, in tests.
    #[cfg(test)]
    pub fn set_drain(&self, drain: Duration) {
        self.lock().drain = Some(drain);
    }

    /// How many commands are past it.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().inside.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a new epoch, and keeps out what a port sent before it.
    fn bar(&mut self, nexus: &Nexus) {
        self.epoch += 1;
        self.barred.insert(nexus.clone(), self.epoch);
    }

    /// Bars commands that are inside.
    fn end(&mut self, hit: impl Fn(&Inside) -> bool) -> Ended {
        let hit = self.inside.iter_mut().filter(|(_, inside)| hit(inside));
        let bar = |(number, inside): (&u64, &mut Inside)| {
            inside.barred = true;
            *number
        };
        Ended(hit.map(bar).collect())
    }
}

impl Pass<'_> {
    /// True where the command was ended: it must not change anything any more.
    pub fn is_barred(&self) -> bool {
        self.gate.lock().inside.get(&self.number).is_none_or(|inside| inside.barred)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut state = self.gate.lock();
        state.inside.remove(&self.number);
        if state.waiting > 0 {
            self.gate.left.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nexus(last: u8) -> Arc<Nexus> {
        Arc::new(Nexus { initiator: "iqn.a".into(), isid: [0, 0, 0, 0, 0, last] })
    }

    fn end(gate: &TaskGate, port: u8) -> Ended {
        let own = gate.visit(&nexus(9));
        gate.end(&[Nexus::clone(&nexus(port))], |_| true, &own)
    }

    #[test]
    fn an_abort_waits_for_those_inside_and_bars_those_outside() {
        let gate = TaskGate::default();
        let before = gate.epoch();
        let inside = gate.enter(&nexus(1), before).unwrap();
        let other = gate.enter(&nexus(2), before).unwrap();
        std::thread::scope(|scope| {
            let aborting = scope.spawn(|| gate.drain(&end(&gate, 1)));
            while gate.epoch() == before {
                std::thread::yield_now();
            }
            assert!(gate.enter(&nexus(1), before).is_none() && !aborting.is_finished());
            assert!(inside.is_barred() && !other.is_barred());
            drop(inside);
            assert!(aborting.join().unwrap());
        });
        assert!(gate.enter(&nexus(2), before).is_some());
        assert!(gate.enter(&nexus(1), gate.epoch()).is_some());
        drop(other);
        assert!(gate.drain(&gate.end_all()));
        assert!(gate.enter(&nexus(2), before).is_none());
    }

    #[test]
    fn who_does_not_leave_is_told_of_and_stays_barred() {
        let gate = TaskGate::default();
        gate.set_drain(Duration::from_millis(10));
        let before = gate.epoch();
        let stuck = gate.enter(&nexus(1), before).unwrap();
        assert!(!gate.drain(&end(&gate, 1)));
        assert!(stuck.is_barred() && gate.enter(&nexus(1), before).is_none());
        assert!(!gate.drain(&gate.end_all()), "nor the second time");
        drop(stuck);
        assert!(gate.drain(&gate.end_all()));
    }

    #[test]
    fn visits_are_ended_by_their_initiator_and_ports_that_are_not_here_leave_nothing() {
        let gate = TaskGate::default();
        let visit = gate.visit(&nexus(1));
        gate.bar(&nexus(1));
        assert!(!visit.is_barred(), "a lost session of the unit is not that of the visitor");
        let own = gate.visit(&Nexus { initiator: "iqn.b".into(), isid: [0; 6] });
        let ports = [2, 3].map(|port| Nexus::clone(&nexus(port)));
        let ended = gate.end(&ports, |port| *port == ports[0], &own);
        assert!(visit.is_barred() && own.is_barred());
        drop((visit, own));
        assert!(gate.drain(&ended));
        assert_eq!(gate.lock().barred.len(), 2);
    }
}
