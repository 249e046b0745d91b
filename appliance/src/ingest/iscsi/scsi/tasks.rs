//! Which commands are being carried out, so that resets and preemptions can end them.
//!
//! A command takes the [`TaskGate::epoch`] at its arrival. [`TaskGate::abort`] closes the gate for commands that arrived
//! before, and waits for those that are past it: when it returns, none of them changes anything any more (SAM-5 section
//! 5.11, RFC 7143 section 4.2.3.3).

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Nexus;

/// How long an abort waits for a command that storage holds. Beyond it storage has failed, and says so itself.
const DRAIN: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
struct State {
    epoch: u64,
    next_pass: u64,
    /// Commands past the gate, with the epoch of their arrival.
    inside: BTreeMap<u64, (Arc<Nexus>, u64)>,
    /// Commands of these ports that arrived before the epoch do not pass.
    barred: BTreeMap<Nexus, u64>,
    /// Nor do those of any port that arrived before this one.
    all_barred: u64,
    /// Aborts that wait for those inside.
    waiting: usize,
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
        let number = state.next_pass;
        state.next_pass += 1;
        state.inside.insert(number, (nexus.clone(), epoch));
        Some(Pass { gate: self, number })
    }

    /// Ends every command that arrived before now: of one port, or of all. `own` is the pass of the command that asks.
    pub fn abort(&self, whose: Option<&Nexus>, own: Option<&Pass<'_>>) {
        let mut state = self.lock();
        let epoch = state.bar(whose);
        if let Some(own) = own {
            // It changes nothing any more; two that abort each other must not wait for each other.
            state.inside.remove(&own.number);
            self.left.notify_all();
        }
        state.waiting += 1;
        let waited = self.left.wait_timeout_while(state, DRAIN, |state| {
            let older =
                |(nexus, arrived): &(Arc<Nexus>, u64)| *arrived < epoch && whose.is_none_or(|whose| whose == &**nexus);
            state.inside.values().any(older)
        });
        waited.unwrap_or_else(PoisonError::into_inner).0.waiting -= 1;
    }

    /// Keeps commands of a port out that arrived before now, without waiting for those that are in.
    pub fn bar(&self, nexus: &Nexus) {
        self.lock().bar(Some(nexus));
    }

    /// Forgets a port that is gone.
    pub fn forget(&self, nexus: &Nexus) {
        self.lock().barred.remove(nexus);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Begins a new epoch, and keeps out what arrived before it.
    fn bar(&mut self, whose: Option<&Nexus>) -> u64 {
        self.epoch += 1;
        match whose {
            Some(nexus) => drop(self.barred.insert(nexus.clone(), self.epoch)),
            None => {
                self.all_barred = self.epoch;
                self.barred.clear();
            }
        }
        self.epoch
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

    #[test]
    fn an_abort_waits_for_those_inside_and_bars_those_outside() {
        let gate = TaskGate::default();
        let before = gate.epoch();
        let inside = gate.enter(&nexus(1), before).unwrap();
        let other = gate.enter(&nexus(2), before).unwrap();
        std::thread::scope(|scope| {
            let aborting = scope.spawn(|| gate.abort(Some(&nexus(1)), None));
            while gate.epoch() == before {
                std::thread::yield_now();
            }
            assert!(gate.enter(&nexus(1), before).is_none() && !aborting.is_finished());
            drop(inside);
        });
        assert!(gate.enter(&nexus(2), before).is_some());
        assert!(gate.enter(&nexus(1), gate.epoch()).is_some());
        gate.abort(None, Some(&other));
        assert!(gate.enter(&nexus(2), before).is_none());
    }
}
