//! Hooks: what quiets an application while a moment of its datasets is marked.
//!
//! ```text
//! thaw owed ─► freeze ─► mark ─► thaw ─► owed no longer ─► the mark counts as consistent
//! (durable)      │ fails    │ fails  │ fails
//!                └──────────┴────────┴─► thawed all the same, again and again until it is, also after a restart
//! ```
//!
//! Promises:
//!
//! * What was frozen is thawed: also where the freeze failed or hangs, where the mark fails, where it takes longer than the
//!   hook's `hold`, where the box is stopped in between, and where it is killed: that a thaw is owed is in the store before the
//!   freeze begins, and whoever opens the store next pays it.
//! * A mark counts as consistent only if every hook was frozen from before its record until behind it, and no thaw said that
//!   it found nothing frozen. Until all that is known, and where it is not so, the mark counts as made in a crash, and says so.
//! * Only the config file says what is called. Whoever asks for a mark can name a hook, and no more.
//!
//! Never: a lock of the store held while somebody is called (a file system that freezes writes to its volume first), nor a
//! secret in a log or an answer.
//!
//! `docs/decisions/0010-hooks.md` tells why it is so.

mod call;
mod command;
mod frozen;
mod http;
mod owed;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use narrowboat_storage::Store;
use narrowboat_storage::units::Timestamp;

use crate::clock;
use crate::config::Hook;
use crate::control::Failed;
use crate::control::reports::{HookCall, Marked, OwedThaw, consistency};
use crate::units::rfc3339;
use call::{About, Ended, call};
use frozen::Frozen;
use owed::{Debt, Freeze, Next};

/// Settings that say which thaws are owed begin with this; the hook's name follows.
const OWED: &str = "hook.owed/";

/// The hooks of a box, and the thaws that it owes.
pub struct Hooks {
    store: Arc<Store>,
    hooks: BTreeMap<String, Hook>,
    state: Mutex<State>,
    changed: Condvar,
    /// Cuts off freezes that are under way.
    stopping: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Hooks that a mark uses, or that are called now.
    busy: BTreeSet<String>,
    owed: BTreeMap<String, Owed>,
    /// Marks under way.
    marking: usize,
    stopping: bool,
    stopped: bool,
}

struct Owed {
    debt: Debt,
    /// When it is thawed, if nobody does so before.
    due: Instant,
    /// A thaw is under way.
    paying: bool,
}

impl Hooks {
    /// The hooks of a box, with what an earlier run owed.
    pub fn new(store: Arc<Store>, hooks: BTreeMap<String, Hook>) -> Hooks {
        let mut state = State::default();
        for (name, bytes) in store.settings(OWED) {
            let hook = name.trim_start_matches(OWED).to_owned();
            // Bytes that say nothing say at least that something is owed.
            let debt = Debt::read(&bytes).unwrap_or_else(|| Debt::new(Vec::new(), String::new(), clock::now()));
            tracing::warn!(hook, mark = debt.mark, "an earlier run of the box owes a thaw");
            state.owed.insert(hook, Owed { debt, due: Instant::now(), paying: false });
        }
        Hooks { store, hooks, state: Mutex::new(state), changed: Condvar::new(), stopping: AtomicBool::new(false) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a moment of datasets with the named hooks frozen: in this order, and thawed in the opposite one.
    pub fn mark(&self, datasets: &[String], label: &str, hooks: &[String]) -> Result<Marked, Failed> {
        let marking = self.begin(hooks)?;
        let names: Vec<&str> = datasets.iter().map(String::as_str).collect();
        // What would be refused in any case disturbs nobody.
        self.store.refuse_mark(&names, label)?;
        let mut frozen = Frozen::nothing(self, about(datasets, label));
        let mut quiet = true;
        for hook in hooks {
            quiet = quiet && frozen.freeze(hook);
        }
        if self.stopping.load(Ordering::Acquire) {
            return Err(Failed::environment("the box is stopping: nothing was marked, and what was frozen is thawed"));
        }
        let begun = Instant::now();
        let placed = self.store.mark(&names, label, false, clock::now())?;
        let marked = begun.elapsed();
        let (held, calls) = frozen.thaw();
        quiet = quiet && held;
        if quiet && let Err(error) = self.store.confirm_mark(&names, label, placed.lsn, clock::now()) {
            tracing::error!(mark = label, %error, "that the mark is consistent could not be noted");
            quiet = false;
        }
        drop(marking);
        tracing::info!(mark = label, quiet, seconds = marked.as_secs_f64(), "marked");
        Ok(Marked {
            datasets: datasets.to_vec(),
            name: label.to_owned(),
            time: rfc3339(placed.time),
            lsn: placed.lsn.0,
            quiet,
            consistency: consistency(quiet).to_owned(),
            hooks: calls,
        })
    }

    /// Reserves hooks for a mark.
    fn begin(&self, hooks: &[String]) -> Result<Marking<'_>, Failed> {
        let mut state = self.lock();
        if state.stopping {
            return Err(Failed::environment("the box is stopping"));
        }
        for (nth, hook) in hooks.iter().enumerate() {
            if !self.hooks.contains_key(hook) {
                return Err(self.unknown(hook));
            }
            if hooks[..nth].contains(hook) {
                return Err(Failed::refused(format!("the hook {hook} is named twice")));
            }
            if state.busy.contains(hook) {
                return Err(Failed::refused(format!(
                    "the hook {hook} is at work already: try again when it has ended"
                )));
            }
        }
        state.busy.extend(hooks.iter().cloned());
        state.marking += 1;
        Ok(Marking { hooks: self, names: hooks.to_vec() })
    }

    fn unknown(&self, hook: &str) -> Failed {
        let known = self.hooks.keys().cloned().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "has none".to_owned() } else { format!("knows {known}") };
        Failed::refused(format!("there is no hook {hook}: the config file {known} (see [hook.NAME])"))
    }

    /// Thaws what is owed when it is due, until the box stops. One thread does this.
    pub fn pay_what_is_due(&self) {
        let mut state = self.lock();
        while !state.stopped {
            let open = state.owed.iter().filter(|(_, owed)| !owed.paying);
            let next = open.min_by_key(|(_, owed)| owed.due).map(|(hook, owed)| (hook.clone(), owed.due));
            let now = Instant::now();
            state = match next {
                Some((hook, due)) if due <= now => {
                    drop(state);
                    self.pay(&hook, "it was due");
                    self.lock()
                }
                Some((_, due)) => self.changed.wait_timeout(state, due - now).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Calls an owed thaw, if nobody else is at it, and notes what came of it. `None` where nothing is owed.
    fn pay(&self, name: &str, why: &str) -> Option<HookCall> {
        let about = {
            let mut state = self.lock();
            let owed = state.owed.get_mut(name).filter(|owed| !owed.paying)?;
            owed.paying = true;
            About { phase: "thaw", ..about(&owed.debt.datasets, &owed.debt.mark) }
        };
        let _paid = Paying { hooks: self, name };
        let begun = Instant::now();
        let (ended, freeze_lasts) = match self.hooks.get(name) {
            Some(hook) => (call(hook, &about, &AtomicBool::new(false)), hook.freeze_timeout),
            None => {
                let gone = "the config file has no such hook any more: put it back, or `narrowboat thaw --forget`";
                (Ended::NotBegun(gone.into()), Duration::ZERO)
            }
        };
        let took = begun.elapsed();
        let mut state = self.lock();
        let owed = state.owed.get_mut(name)?;
        let next = owed.debt.thawed(&ended, freeze_lasts, clock::now());
        match ended.problem() {
            None => tracing::info!(hook = name, seconds = took.as_secs_f64(), why, "thawed"),
            Some(problem) => tracing::error!(hook = name, problem, tries = owed.debt.tries, why, "not thawed"),
        }
        let (settled, tries) = (next == Next::Settled, owed.debt.tries);
        match next {
            Next::Settled => {
                if let (Some(problem), Freeze::Begun | Freeze::Refused) = (ended.problem(), owed.debt.freeze) {
                    tracing::warn!(hook = name, problem, "the thaw is given up: nothing was frozen, it seems");
                }
                state.owed.remove(name);
            }
            Next::After(wait) => owed.due = Instant::now() + wait,
        }
        let kept = state.owed.get(name).map(|owed| owed.debt.write());
        drop(state);
        // The first failure notes what is known of the freeze; later ones add nothing that a restart needs.
        if settled || tries == 1 && ended.problem().is_some() {
            self.keep(name, kept.as_deref());
        }
        Some(called(name, "thaw", took, ended.problem(), matches!(ended, Ended::Refused { .. })))
    }

    /// Notes in the store what is owed. Where that fails, the store says the same or that more is owed: no harm.
    fn keep(&self, name: &str, debt: Option<&[u8]>) {
        if let Err(error) = self.store.set_setting(&format!("{OWED}{name}"), debt, clock::now()) {
            tracing::error!(hook = name, %error, "what is owed could not be noted");
        }
    }

    /// Thaws which are owed, in the order of their hooks.
    pub fn owed(&self) -> Vec<OwedThaw> {
        let state = self.lock();
        let pressing = state.owed.iter().filter(|(hook, owed)| owed.debt.is_pressing() && !state.busy.contains(*hook));
        let report = |(hook, owed): (&String, &Owed)| OwedThaw {
            hook: hook.clone(),
            datasets: owed.debt.datasets.clone(),
            mark: owed.debt.mark.clone(),
            since: rfc3339(Timestamp(owed.debt.since)),
            tries: owed.debt.tries,
            problem: owed.debt.problem.clone(),
        };
        pressing.map(report).collect()
    }

    /// Calls the thaw of a hook now, whether one is owed or not.
    pub fn thaw(&self, name: &str) -> Result<HookCall, Failed> {
        let hook = self.hooks.get(name);
        {
            let state = self.lock();
            if hook.is_none() && !state.owed.contains_key(name) {
                return Err(self.unknown(name));
            }
            if state.busy.contains(name) || state.owed.get(name).is_some_and(|owed| owed.paying) {
                return Err(Failed::refused(format!("the hook {name} is at work: it will be thawed")));
            }
        }
        match (self.pay(name, "somebody asked"), hook) {
            (Some(call), _) => Ok(call),
            (None, Some(hook)) => {
                let begun = Instant::now();
                let about = About { phase: "thaw", ..about(&[], "") };
                let ended = call(hook, &about, &AtomicBool::new(false));
                Ok(called(name, "thaw", begun.elapsed(), ended.problem(), false))
            }
            (None, None) => Err(self.unknown(name)),
        }
    }

    /// Forgets that a thaw is owed: somebody has seen to it.
    pub fn forget(&self, name: &str) -> Result<(), Failed> {
        let mut state = self.lock();
        if state.busy.contains(name) || state.owed.get(name).is_some_and(|owed| owed.paying) {
            return Err(Failed::refused(format!("the hook {name} is at work: it will be thawed")));
        }
        state.owed.remove(name).ok_or_else(|| Failed::refused(format!("no thaw of {name} is owed")))?;
        drop(state);
        self.store.set_setting(&format!("{OWED}{name}"), None, clock::now())?;
        tracing::warn!(hook = name, "a thaw that was owed is forgotten, as somebody asked");
        Ok(())
    }

    /// Ends: cuts off freezes, waits until every mark under way has thawed what it froze, and tries once more what is owed
    /// otherwise. What is still owed then, the next start pays.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        let mut state = self.lock();
        state.stopping = true;
        self.changed.notify_all();
        let under_way = |state: &mut State| state.marking > 0 || state.owed.values().any(|owed| owed.paying);
        let state = self.changed.wait_while(state, under_way).unwrap_or_else(PoisonError::into_inner);
        let pressing = state.owed.iter().filter(|(_, owed)| owed.debt.is_pressing());
        let pressing: Vec<String> = pressing.map(|(hook, _)| hook.clone()).collect();
        drop(state);
        for hook in pressing {
            self.pay(&hook, "the box is stopping");
        }
        self.lock().stopped = true;
        self.changed.notify_all();
    }
}

fn about(datasets: &[String], label: &str) -> About {
    About { phase: "freeze", datasets: datasets.to_vec(), mark: label.to_owned() }
}

fn called(hook: &str, phase: &str, took: Duration, problem: Option<&str>, answered_no: bool) -> HookCall {
    HookCall {
        hook: hook.to_owned(),
        phase: phase.to_owned(),
        done: problem.is_none(),
        seconds: took.as_secs_f64(),
        problem: problem.map(str::to_owned),
        answered_no,
    }
}

/// A mark under way. Its hooks are free again when this is dropped.
struct Marking<'a> {
    hooks: &'a Hooks,
    names: Vec<String>,
}

impl Drop for Marking<'_> {
    fn drop(&mut self) {
        let mut state = self.hooks.lock();
        state.busy.retain(|hook| !self.names.contains(hook));
        state.marking -= 1;
        self.hooks.changed.notify_all();
    }
}

/// A thaw under way, until this is dropped.
struct Paying<'a> {
    hooks: &'a Hooks,
    name: &'a str,
}

impl Drop for Paying<'_> {
    fn drop(&mut self) {
        if let Some(owed) = self.hooks.lock().owed.get_mut(self.name) {
            owed.paying = false;
        }
        self.hooks.changed.notify_all();
    }
}
