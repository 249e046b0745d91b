//! Brings about what the machine wants, in the order that a power cut asks for: what is kept, then files.

use std::time::Duration;

use super::files::Layout;
use super::kept::State;
use super::trial::{Ended, Event, Machine};
use crate::control::Failed;

/// What reaches beyond the process.
pub trait Hands {
    /// Has the state on the disk, synced.
    fn keep(&mut self, state: &State) -> Result<(), String>;
    /// Has these files there, none else of ours, and networkd go by them.
    fn lay(&mut self, interface: &str, layout: &Layout) -> Result<(), String>;
    /// Tells the audit log of an end that nobody asked for.
    fn tell(&mut self, ended: &Ended);
}

/// A machine with hands.
pub struct Runner<H> {
    machine: Machine,
    hands: H,
    /// What lies there for certain.
    laid: Option<Layout>,
    /// What could not be brought about, until it can.
    owed: Option<String>,
}

impl<H: Hands> Runner<H> {
    /// Nothing is done before the first event.
    pub fn new(machine: Machine, hands: H) -> Runner<H> {
        Runner { machine, hands, laid: None, owed: None }
    }

    /// The machine.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// What reaches beyond the process.
    pub fn hands(&self) -> &H {
        &self.hands
    }

    /// The same, to take from it what it was told.
    pub fn hands_mut(&mut self) -> &mut H {
        &mut self.hands
    }

    /// What could not be brought about, until it can.
    pub fn owed(&self) -> Option<&str> {
        self.owed.as_deref()
    }

    /// Takes an event. What is refused changes nothing.
    pub fn take(&mut self, now: Duration, event: Event) -> Result<(), Failed> {
        let asked = matches!(event, Event::Keep(..) | Event::Confirm(..) | Event::GoBack(_));
        let next = self.machine.after(now, event)?;
        let ended = next.ended().filter(|ended| self.machine.ended() != Some(ended)).cloned();
        if next.state() != self.machine.state() {
            self.hands.keep(next.state()).map_err(|why| {
                Failed::environment(format!("the network set-up can't be kept, so nothing was done: {why}"))
            })?;
        }
        self.machine = next;
        if let Some(ended) = ended.filter(|_| !asked) {
            self.hands.tell(&ended);
        }
        self.lay(now)
    }

    fn lay(&mut self, now: Duration) -> Result<(), Failed> {
        let layout = self.machine.layout();
        if self.laid.as_ref() == Some(&layout) {
            return Ok(());
        }
        self.laid = None;
        match self.hands.lay(&self.machine.state().interface, &layout) {
            Ok(()) => {
                (self.laid, self.owed) = (Some(layout), None);
                Ok(())
            }
            // A trial that can't be put in force is over; what is kept is tried again with the next event.
            Err(why) if self.machine.is_running() => self.take(now, Event::CanNot(why)),
            Err(why) => {
                self.owed = Some(why.clone());
                Err(Failed::environment(format!("the network is not as it is kept; this is tried again: {why}")))
            }
        }
    }
}
