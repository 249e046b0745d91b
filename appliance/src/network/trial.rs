//! A change of the network that is tried before it counts: a value. Events and the time come in, what is to be there comes out.
//!
//! ```text
//!            begin            (the answer has left)           confirmed at the new address
//!   rests ──────────► waits ────────────────────────► runs ──────────────────────────────────► rests, the new set-up is kept
//!     ▲                 │                               │
//!     └─────────────────┴───────────────────────────────┘ too late, taken back, can't be done, the box ends or has ended: as it was
//! ```
//!
//! Invariants, which `trial_tests.rs` holds against every order of events and an end of the box or of the power at every step:
//!
//! * What is in files that outlive a power cut was confirmed by somebody, all of it.
//! * [`Machine::layout`] is all that is to be there. Whoever owns one brings the machine's files there, whatever they are now.
//! * [`Machine::state`] is on the disk, synced, before anything of its layout is.

use std::net::IpAddr;
use std::time::Duration;

use super::files::Layout;
use super::kept::{State, Tried};
use super::wanted::{Family, Sound, Wanted};
use crate::control::Failed;

/// How long a trial waits before it begins, so that whoever asked for it is answered at the old address.
pub const ANSWER: Duration = Duration::from_millis(1500);

/// What happens to it.
#[derive(Clone, Debug)]
pub enum Event {
    /// The box has started: whatever trial there is was broken off.
    Started,
    /// Somebody wants another set-up of an interface.
    Begin(String, Wanted),
    /// A set-up counts at once: the box was started with it, and nobody has used it yet.
    Keep(String, Wanted),
    /// Somebody says that he reaches the box; the number of the trial, where he says which he means.
    Confirm(Option<u64>, From),
    /// Somebody wants back what was before.
    GoBack(Option<u64>),
    /// The set-up can't be put in force, and why.
    CanNot(String),
    /// Time has passed.
    Passed,
    /// The box ends in order.
    Ending,
}

/// From where somebody says that he reaches the box.
#[derive(Clone, Debug)]
pub enum From {
    /// From the box itself, as root.
    Console,
    /// Over the network: the address of the box at which his connection arrived, and those that the interface has.
    Address(IpAddr, Vec<Present>),
}

/// An address that the interface has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    /// The address.
    pub address: IpAddr,
    /// Whether the network gave it.
    pub asked: bool,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Which.
    pub number: u64,
    /// How.
    pub how: How,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It was confirmed and counts.
    Kept,
    /// Nobody confirmed it in time.
    TooLate,
    /// Somebody took it back.
    TakenBack,
    /// It could not be put in force.
    CouldNot(String),
    /// The box ended before anybody had confirmed it.
    BrokenOff,
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::Kept => f.write_str("it was confirmed, and counts"),
            How::TooLate => f.write_str("nobody confirmed it at its new address in time: the network is as it was"),
            How::TakenBack => f.write_str("it was taken back: the network is as it was"),
            How::CouldNot(why) => write!(f, "it could not be put in force, so the network is as it was: {why}"),
            How::BrokenOff => f.write_str("the box ended before anybody had confirmed it: the network is as it was"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It begins then.
    Waits(Duration),
    /// It is in force, until then.
    Runs(Duration),
}

/// The set-up that counts, and the one that is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    state: State,
    phase: Option<Phase>,
    lasts: Duration,
    ended: Option<Ended>,
}

impl Machine {
    /// With what is on the disk; [`Event::Started`] comes first.
    pub fn new(state: State, lasts: Duration) -> Machine {
        Machine { state, phase: None, lasts, ended: None }
    }

    /// What is to be on the disk.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The trial, if there is one.
    pub fn trial(&self) -> Option<&Tried> {
        self.state.trial.as_ref().filter(|_| self.phase.is_some())
    }

    /// How the last trial ended.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Whether the trial is in force.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Some(Phase::Runs(_)))
    }

    /// How long the trial lasts yet.
    pub fn left(&self, now: Duration) -> Option<Duration> {
        Some(match self.phase? {
            Phase::Waits(from) => from.saturating_sub(now) + self.lasts,
            Phase::Runs(until) => until.saturating_sub(now),
        })
    }

    /// What is to be there now.
    pub fn layout(&self) -> Layout {
        let sound = |wanted: &Wanted| wanted.sound().ok();
        let trial = self.state.trial.as_ref().filter(|_| self.is_running());
        let (kept, trial) = (self.state.kept.as_ref().and_then(sound), trial.and_then(|trial| sound(&trial.wanted)));
        Layout::of(&self.state.interface, kept.as_ref(), trial.as_ref())
    }

    /// What becomes of it by an event, or why that may not be.
    pub fn after(&self, now: Duration, event: Event) -> Result<Machine, Failed> {
        match event {
            Event::Started if self.state.trial.is_some() => Ok(self.back(How::BrokenOff)),
            Event::Started => Ok(self.clone()),
            Event::Begin(interface, wanted) => self.begin(now, interface, wanted),
            Event::Keep(interface, wanted) if self.state.kept.as_ref() == Some(&wanted) => {
                Ok(Machine { state: State { interface, ..self.state.clone() }, ..self.clone() })
            }
            Event::Keep(interface, wanted) => self.begin(now, interface, wanted).map(|begun| begun.kept()),
            Event::Confirm(number, from) => self.confirm(now, number, &from),
            Event::GoBack(number) => {
                self.meant(number)?;
                Ok(self.back(How::TakenBack))
            }
            Event::CanNot(why) => Ok(self.back(How::CouldNot(why))),
            Event::Passed => Ok(match self.phase {
                Some(Phase::Waits(from)) if now >= from => {
                    Machine { phase: Some(Phase::Runs(now + self.lasts)), ..self.clone() }
                }
                Some(Phase::Runs(until)) if now >= until => self.back(How::TooLate),
                _ => self.clone(),
            }),
            Event::Ending => Ok(self.back(How::BrokenOff)),
        }
    }

    fn begin(&self, now: Duration, interface: String, wanted: Wanted) -> Result<Machine, Failed> {
        if let Some(left) = self.left(now) {
            let sentence = format!(
                "another change is being tried, for {} s more: keep it, or go back, before the next one",
                left.as_secs() + 1
            );
            return Err(Failed::refused(sentence));
        }
        if let Some(failed) = wanted.problems().into_iter().next() {
            return Err(failed);
        }
        if self.state.kept.as_ref() == Some(&wanted) && self.state.interface == interface {
            return Err(Failed::refused("the network is set up like that already"));
        }
        let number = self.state.trials + 1;
        let trial = Some(Tried { number, wanted });
        let state = State { interface, trial, trials: number, ..self.state.clone() };
        Ok(Machine { state, phase: Some(Phase::Waits(now + ANSWER)), ended: None, ..self.clone() })
    }

    /// The trial that somebody means.
    fn meant(&self, number: Option<u64>) -> Result<&Tried, Failed> {
        let Some(trial) = self.trial() else {
            let sentence = match &self.ended {
                Some(ended) => format!("nothing is being tried any more: {}", ended.how),
                None => "nothing is being tried".into(),
            };
            return Err(Failed::refused(sentence));
        };
        match number.is_none_or(|number| number == trial.number) {
            true => Ok(trial),
            false => Err(Failed::refused("another change is being tried by now: look at it before you say anything")),
        }
    }

    fn confirm(&self, now: Duration, number: Option<u64>, from: &From) -> Result<Machine, Failed> {
        let trial = self.meant(number)?;
        match self.phase {
            Some(Phase::Runs(until)) if now < until => {}
            Some(Phase::Runs(_)) => return Err(Failed::refused("this is too late: the network goes back as it was")),
            _ => return Err(Failed::refused("the new set-up is not in force yet: say so in a moment, at its address")),
        }
        let new = trial.wanted.sound().map_err(|_| Failed::refused("what is tried makes no sense"))?;
        let old = self.state.kept.as_ref().and_then(|wanted| wanted.sound().ok());
        if let From::Address(at, present) = from
            && !shows(&new, old.as_ref(), at.to_canonical(), present)
        {
            let sentence = format!(
                "you came by {}, which shows nothing: open the page at the new address, and keep it from there",
                at.to_canonical()
            );
            return Err(Failed::refused(sentence));
        }
        Ok(self.kept())
    }

    /// What is tried counts.
    fn kept(&self) -> Machine {
        let Some(trial) = &self.state.trial else { return self.clone() };
        let (number, kept) = (trial.number, Some(trial.wanted.clone()));
        let state = State { kept, trial: None, ..self.state.clone() };
        Machine { state, phase: None, ended: Some(Ended { number, how: How::Kept }), ..self.clone() }
    }

    /// As it was before the trial.
    fn back(&self, how: How) -> Machine {
        let Some(trial) = &self.state.trial else { return self.clone() };
        let ended = Some(Ended { number: trial.number, how });
        Machine { state: State { trial: None, ..self.state.clone() }, phase: None, ended, ..self.clone() }
    }
}

/// Whether a connection that arrives at an address shows that the new set-up does its work: the address is of a family that changed. Where neither
/// has (other servers), any address of it is as good.
fn shows(new: &Sound, old: Option<&Sound>, at: IpAddr, present: &[Present]) -> bool {
    let given = |four: bool| {
        present.iter().filter(move |one| one.asked && one.address.is_ipv4() == four).map(|one| one.address)
    };
    let four: Vec<IpAddr> = match new.ipv4 {
        Family::Off => Vec::new(),
        Family::Asked => given(true).collect(),
        Family::Fixed(fixed) => vec![fixed.address.into()],
    };
    let six: Vec<IpAddr> = match new.ipv6 {
        Family::Off => Vec::new(),
        Family::Asked => given(false).collect(),
        Family::Fixed(fixed) => vec![fixed.address.into()],
    };
    let moved = old.is_none_or(|old| old.vlan != new.vlan);
    let changed4 = (moved || old.is_none_or(|old| old.ipv4 != new.ipv4)) && new.ipv4 != Family::Off;
    let changed6 = (moved || old.is_none_or(|old| old.ipv6 != new.ipv6)) && new.ipv6 != Family::Off;
    let neither = !changed4 && !changed6;
    ((changed4 || neither) && four.contains(&at)) || ((changed6 || neither) && six.contains(&at))
}

#[cfg(test)]
#[path = "trial_tests.rs"]
mod tests;
