//! What one mark has frozen: a value that thaws when it goes, however the mark ends.

use std::time::{Duration, Instant};

use narrowboat_storage::units::Timestamp;

use super::call::{About, Ended, call};
use super::owed::{Debt, Freeze};
use super::{Hooks, OWED, Owed, called};
use crate::clock;
use crate::config::Hook;
use crate::control::reports::HookCall;
use crate::units::rfc3339;

/// What a mark has frozen. However the mark ends, dropping this thaws it.
pub(super) struct Frozen<'a> {
    hooks: &'a Hooks,
    about: About,
    /// Hooks for which a thaw is owed, in the order of their freezes.
    names: Vec<String>,
    calls: Vec<HookCall>,
}

impl<'a> Frozen<'a> {
    /// Before the first freeze.
    pub(super) fn nothing(hooks: &'a Hooks, about: About) -> Frozen<'a> {
        Frozen { hooks, about, names: Vec::new(), calls: Vec::new() }
    }

    /// Freezes one more. False where the application is not known to be quiet.
    pub(super) fn freeze(&mut self, name: &str) -> bool {
        let Some(hook) = self.hooks.hooks.get(name) else { return false };
        let begun = Instant::now();
        let ended = match self.owe(name, hook) {
            Ok(()) => call(hook, &self.about, &self.hooks.stopping),
            Err(why) => {
                self.calls.push(called(name, "freeze", begun.elapsed(), Some(&why), false));
                return false;
            }
        };
        self.names.push(name.to_owned());
        let mut state = self.hooks.lock();
        match (&ended, state.owed.get_mut(name)) {
            (Ended::NotBegun(_), _) => {
                self.names.pop();
                state.owed.remove(name);
                drop(state);
                self.hooks.keep(name, None);
            }
            (ended, Some(owed)) => {
                owed.due = Instant::now() + hook.hold;
                owed.debt.freeze = match ended {
                    Ended::Done => Freeze::Done,
                    Ended::Refused { .. } => Freeze::Refused,
                    _ => Freeze::Begun,
                };
                drop(state);
                self.hooks.changed.notify_all();
            }
            (_, None) => drop(state),
        }
        if let Some(problem) = ended.problem() {
            tracing::warn!(hook = name, problem, "the freeze failed");
        }
        self.calls.push(called(name, "freeze", begun.elapsed(), ended.problem(), false));
        ended == Ended::Done
    }

    /// Notes durably that a thaw is owed.
    fn owe(&self, name: &str, hook: &Hook) -> Result<(), String> {
        let debt = Debt::new(self.about.datasets.clone(), self.about.mark.clone(), clock::now());
        // Later than the freeze can last: until then it is this mark's to thaw.
        let due = Instant::now() + hook.freeze_timeout + hook.hold;
        let bytes = debt.write();
        let mut state = self.hooks.lock();
        if let Some(owed) = state.owed.get(name) {
            let since = rfc3339(Timestamp(owed.debt.since));
            return Err(format!("nothing was called, for a thaw is owed since {since}; `narrowboat status` says why"));
        }
        state.owed.insert(name.to_owned(), Owed { debt, due, paying: false });
        drop(state);
        self.hooks.store.set_setting(&format!("{OWED}{name}"), Some(&bytes), clock::now()).map_err(|error| {
            self.hooks.lock().owed.remove(name);
            format!("nothing was called, for it could not be noted that a thaw is owed: {error}")
        })
    }

    /// Thaws all, the last first. True where all were frozen until now, as far as their thaws can tell.
    pub(super) fn thaw(mut self) -> (bool, Vec<HookCall>) {
        let held = self.thaw_all();
        (held, std::mem::take(&mut self.calls))
    }

    fn thaw_all(&mut self) -> bool {
        let mut held = true;
        while let Some(name) = self.names.pop() {
            // Whatever stays frozen for too long is thawed by the thread that watches over it.
            let untouched = self.hooks.lock().owed.get(&name).is_some_and(|owed| owed.debt.tries == 0);
            held &= untouched;
            match self.hooks.pay(&name, "all is marked that can be") {
                Some(call) => {
                    held &= !call.answered_no;
                    self.calls.push(call);
                }
                None => {
                    held = false;
                    let why = "it stayed frozen for longer than its hold, and was thawed before the mark was known to be there";
                    self.calls.push(called(&name, "thaw", Duration::ZERO, Some(why), false));
                }
            }
        }
        held
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.thaw_all();
    }
}
