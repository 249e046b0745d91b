//! Scrubs: everything that the box keeps is read now and then, slowly, and what is damaged is told before somebody needs it.
//!
//! How far one came is kept in the store's setting `scrub` ([`Course`]), so it goes on after a restart. When the next is due is
//! measured by how long the box ran, so no clock that is set makes all boxes of a house read their disks at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use narrowboat_storage::affected::Affected;
use narrowboat_storage::pool::{Scrubbed, Wound};
use narrowboat_storage::units::Timestamp;
use narrowboat_storage::{Error, Store};
use narrowboat_wan::shape::Hours;

use crate::config::Config;
use crate::units::rfc3339;

mod course;

pub use course::{Course, Run};

/// The setting that it is kept in.
const SETTING: &str = "scrub";
/// How often is looked whether one is due, and the longest sleep between two steps.
const EVERY: Duration = Duration::from_secs(1);
/// How often is kept how far it came; after a crash so much is read again.
const KEPT_EVERY: Duration = Duration::from_secs(30);
/// So long is waited after the disk could not be read at all.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Damage that is logged one by one in a step; more is counted.
const LOGGED_MAX: usize = 20;
/// Files that are told one by one as hit.
const AFFECTED_MAX: usize = 1000;

/// The scrubs of a box.
pub struct Scrubs {
    store: Arc<Store>,
    every: Option<u64>,
    rate: u64,
    hours: Option<Hours>,
    zone: TimeZone,
    state: Mutex<State>,
}

struct State {
    course: Course,
    kept: Instant,
    /// When the next step may begin.
    next: Instant,
    problem: Option<String>,
}

/// What there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// How far it is, and what was before.
    pub course: Course,
    /// Seconds until the next begins, if it does by itself.
    pub due_in: Option<u64>,
    /// Bytes a second at most.
    pub rate: u64,
    /// When it may run.
    pub hours: Option<String>,
    /// False while it waits for its hours.
    pub in_hours: bool,
    /// Why the disk could not be read at all.
    pub problem: Option<String>,
}

impl Scrubs {
    /// Those of the box that keeps `store`. What can't be read of how far they came begins anew.
    pub fn new(store: Arc<Store>, config: &Config) -> Scrubs {
        let course = store.setting(SETTING).and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let now = Instant::now();
        let rules = &config.scrub;
        Scrubs {
            store,
            every: rules.every_seconds().ok().flatten(),
            rate: rules.rate.0.max(1),
            hours: rules.hours.clone(),
            zone: config.zone(),
            state: Mutex::new(State { course, kept: now, next: now, problem: None }),
        }
    }

    /// Reads a little, if it is time to; returns how long to wait before this is called again.
    pub fn look(&self, now: Timestamp) -> Duration {
        let upto = {
            let mut state = self.lock();
            let waits = state.next.saturating_duration_since(Instant::now());
            if !waits.is_zero() {
                return waits.min(EVERY);
            }
            self.begin_after_rebuild(&mut state, now);
            if !(state.course.is_urgent() || self.in_hours(now))
                || !state.course.wants(self.store.run_seconds(), self.every)
            {
                return EVERY;
            }
            state.course.begin(rfc3339(now));
            state.course.running.as_ref().and_then(|run| run.upto)
        };
        let began = Instant::now();
        let step = self.store.pool().scrub(upto, self.rate.min(64 << 20));
        let mut state = self.lock();
        match step {
            Ok(step) => {
                log(&step);
                let takes = Duration::from_secs_f64(step.bytes as f64 / self.rate as f64);
                state.next = began + takes;
                state.problem = None;
                let ended = state.course.add(&step, self.store.run_seconds(), rfc3339(now));
                if ended {
                    renew(&self.store);
                }
                if ended || state.kept.elapsed() >= KEPT_EVERY {
                    self.keep(&mut state, now);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the disk can't be scrubbed: it is tried again in a minute");
                state.problem = Some(error.to_string());
                state.next = Instant::now() + AFTER_FAILURE;
            }
        }
        state.next.saturating_duration_since(Instant::now()).min(EVERY)
    }

    /// Begins one now, at whatever hour; one that runs goes on at any.
    pub fn start(&self, now: Timestamp) -> Result<(), Error> {
        let mut state = self.lock();
        state.course.begin(rfc3339(now));
        state.course.running.iter_mut().for_each(|run| run.by_hand = true);
        state.course.paused = false;
        state.next = Instant::now();
        self.store.set_setting(SETTING, Some(&text(&state.course)), now)
    }

    /// Stops reading until it is allowed again. It then goes on where it was.
    pub fn pause(&self, paused: bool, now: Timestamp) -> Result<(), Error> {
        let mut state = self.lock();
        state.course.paused = paused;
        self.store.set_setting(SETTING, Some(&text(&state.course)), now)
    }

    /// How far it is.
    pub fn told(&self, now: Timestamp) -> Told {
        let state = self.lock();
        Told {
            due_in: state.course.due_in(self.store.run_seconds(), self.every),
            course: state.course.clone(),
            rate: self.rate,
            hours: self.hours.as_ref().map(ToString::to_string),
            in_hours: self.in_hours(now) || state.course.is_urgent(),
            problem: state.problem.clone(),
        }
    }

    /// What is damaged, as far as is known, and whom it hits.
    pub fn damage(&self) -> Result<(Vec<Wound>, Vec<Affected>), Error> {
        let wounds = self.store.pool().wounds();
        let affected = self.store.affected(&wounds, AFFECTED_MAX)?;
        Ok((wounds, affected))
    }

    /// After the index was built again a scrub begins by itself: what is damaged and was forgotten comes back with it. What is to be read is kept by the store until
    /// it is, so a box that is killed meanwhile comes here again.
    fn begin_after_rebuild(&self, state: &mut State, now: Timestamp) {
        let upto = state.course.running.as_ref().and_then(|run| run.upto);
        let is_known = state.course.running.as_ref().is_some_and(|run| run.after_rebuild);
        let anew = upto.is_some() && self.store.pool().owes_scrub(upto);
        if anew || (!is_known && self.store.pool().owes_scrub(None)) {
            tracing::warn!("the index was built again: all containers are read, to find what is damaged");
            state.course.begin_after_rebuild(anew, rfc3339(now));
            self.keep(state, now);
        }
    }

    fn in_hours(&self, now: Timestamp) -> bool {
        self.hours.as_ref().is_none_or(|hours| hours.contain(now, &self.zone))
    }

    fn keep(&self, state: &mut State, now: Timestamp) {
        state.kept = Instant::now();
        if let Err(error) = self.store.set_setting(SETTING, Some(&text(&state.course)), now) {
            tracing::warn!(%error, "how far the scrub came could not be kept: after a restart some is read again");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Containers that are let go of at the end of a scrub, at most.
const RENEWED_MAX: usize = 1000;

/// Lets go of containers that are damaged themselves, once what they held lies elsewhere.
pub fn renew(store: &Store) {
    match store.pool().renew(RENEWED_MAX) {
        Ok(0) => {}
        Ok(renewed) => tracing::info!(renewed, "damaged containers were replaced"),
        Err(error) => tracing::warn!(%error, "damaged containers could not be replaced"),
    }
}

fn text(course: &Course) -> Vec<u8> {
    serde_json::to_vec(course).unwrap_or_default()
}

fn log(step: &Scrubbed) {
    for damage in step.damage.iter().take(LOGGED_MAX) {
        tracing::error!(%damage, "the disk gives back something else than was written: `narrowboat scrub show` says whom it hits");
    }
    let more = step.damage.len().saturating_sub(LOGGED_MAX) as u64 + step.damage_left_out;
    if more > 0 {
        tracing::error!(more, "and more damage");
    }
}
