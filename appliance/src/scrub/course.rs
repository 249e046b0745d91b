//! How far a scrub is and when the next is due: a value, kept as JSON in the store's settings. What a later version adds is ignored.

use narrowboat_storage::pool::Scrubbed;
use serde::{Deserialize, Serialize};

/// So many past scrubs are remembered.
const HISTORY_MAX: usize = 12;

/// Scrubs as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Course {
    /// The one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<Run>,
    /// Nothing is read until a person says so.
    pub paused: bool,
    /// For how many seconds the store had been seen running when the last one ended.
    pub ended_at: u64,
    /// Those that ended, the newest first.
    pub history: Vec<Run>,
}

/// One scrub.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
#[schemars(rename = "ScrubRun")]
pub struct Run {
    /// When it began, RFC 3339.
    pub began: String,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// The container up to which all was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upto: Option<u64>,
    /// Containers that were read.
    pub containers: u64,
    /// Containers still to be read.
    pub left: u64,
    /// Objects that were verified.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Places of damage that were met.
    pub damaged: u64,
    /// A person began it: it runs at any hour.
    pub by_hand: bool,
    /// The index was built again from what is damaged as well: it runs at any hour, and by itself also where scrubs are off.
    pub after_rebuild: bool,
}

impl Course {
    /// True where something is to be read now. `ran` is for how many seconds the store was seen running.
    pub fn wants(&self, ran: u64, every: Option<u64>) -> bool {
        !self.paused && (self.running.is_some() || self.due_in(ran, every) == Some(0))
    }

    /// Seconds until the next begins by itself, if it does.
    pub fn due_in(&self, ran: u64, every: Option<u64>) -> Option<u64> {
        Some(self.ended_at.saturating_add(every?).saturating_sub(ran))
    }

    /// Begins one, if none runs.
    pub fn begin(&mut self, now: String) {
        self.running.get_or_insert_with(|| Run { began: now, ..Run::default() });
    }

    /// Begins one because the index was built again from containers that nobody has read since, `anew` where the one that runs is past the first of them.
    pub fn begin_after_rebuild(&mut self, anew: bool, now: String) {
        let by_hand = self.running.take_if(|_| anew).is_some_and(|run| run.by_hand);
        self.begin(now);
        let run = self.running.iter_mut();
        run.for_each(|run| (run.after_rebuild, run.by_hand) = (true, run.by_hand || by_hand));
    }

    /// True where the one that runs does at any hour.
    pub fn is_urgent(&self) -> bool {
        self.running.as_ref().is_some_and(|run| run.by_hand || run.after_rebuild)
    }

    /// Adds a step; true where it was the last.
    pub fn add(&mut self, step: &Scrubbed, ran: u64, now: String) -> bool {
        let Some(run) = &mut self.running else { return false };
        run.upto = step.upto.or(run.upto);
        run.containers += step.containers;
        run.left = step.left;
        run.objects += step.objects;
        run.bytes += step.bytes;
        run.damaged += step.damage.len() as u64 + step.damage_left_out;
        if step.upto.is_some() {
            return false;
        }
        let ended = self.running.take().map(|run| Run { ended: Some(now), ..run });
        self.history.splice(0..0, ended);
        self.history.truncate(HISTORY_MAX);
        self.ended_at = ran;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(upto: Option<u64>, left: u64) -> Scrubbed {
        Scrubbed { upto, containers: 1, objects: 10, bytes: 100, left, ..Scrubbed::default() }
    }

    #[test]
    fn one_begins_when_the_box_ran_long_enough_and_goes_on_where_it_was() {
        let mut course = Course::default();
        assert!(!course.wants(99, Some(100)) && course.wants(100, Some(100)) && !course.wants(1 << 40, None));
        course.begin("monday".into());
        assert!(!course.add(&step(Some(7), 1), 100, "later".into()));
        course.begin("tuesday".into());
        let kept = serde_json::to_string(&course).expect("json");
        let mut course: Course = serde_json::from_str(&kept).expect("what was kept");
        let run = course.running.clone().expect("it runs");
        assert_eq!((run.began.as_str(), run.upto, run.bytes), ("monday", Some(7), 100));
        assert!(course.wants(100, None), "by hand, or by itself");
        course.paused = true;
        assert!(!course.wants(100, Some(1)));
        course.paused = false;
        assert!(course.add(&step(None, 0), 150, "wednesday".into()));
        assert_eq!(course.history[0].ended.as_deref(), Some("wednesday"));
        assert_eq!((course.history[0].objects, course.due_in(160, Some(100))), (20, Some(90)));
    }

    #[test]
    fn one_after_a_rebuild_runs_at_any_hour_and_begins_anew_where_it_has_to() {
        let mut course = Course::default();
        course.begin("monday".into());
        course.add(&step(Some(7), 1), 100, "later".into());
        assert!(!course.is_urgent());
        course.begin_after_rebuild(false, "tuesday".into());
        let run = course.running.clone().expect("it runs");
        assert_eq!((run.began.as_str(), run.upto, course.is_urgent()), ("monday", Some(7), true));
        course.begin_after_rebuild(true, "wednesday".into());
        let run = course.running.clone().expect("it runs");
        assert_eq!((run.began.as_str(), run.upto, run.after_rebuild, run.by_hand), ("wednesday", None, true, false));
        assert!(course.wants(1, None), "also where scrubs are off");
        let old: Run = serde_json::from_str("{}").expect("what an older version kept");
        assert!(!old.after_rebuild);
    }

    #[test]
    fn history_is_bounded_and_the_newest_is_first() {
        let mut course = Course::default();
        for nth in 0..30 {
            course.begin(nth.to_string());
            course.add(&step(None, 0), 1, String::new());
        }
        assert_eq!((course.history.len(), course.history[0].began.as_str()), (HISTORY_MAX, "29"));
    }
}
